/* SPDX-License-Identifier: Apache-2.0 */
/* explain_steps.c - see explain_parts.h: single rules as steps. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "explain_parts.h"
#include "json.h"
#include "match.h"
#include "modes.h"

static const char *const stages[] = {
	[KMTLS_EXPLAIN_OUTBOUND] = "outbound",
	[KMTLS_EXPLAIN_INBOUND] = "inbound",
	[KMTLS_EXPLAIN_IDENTITY] = "identity",
	[KMTLS_EXPLAIN_AUTHORIZATION] = "authorization",
};

static const char *const mode_rules[KMTLS_MODE_RULE_COUNT] = {
	[KMTLS_MODE_RULE_POD_PORT] = "mode-pod-port",
	[KMTLS_MODE_RULE_PORT] = "mode-port",
	[KMTLS_MODE_RULE_POD] = "mode-pod",
	[KMTLS_MODE_RULE_NAMESPACE] = "mode-namespace",
	[KMTLS_MODE_RULE_MESH] = "mode-mesh",
};

static const struct {
	const char *name, *text;
} decision_rules[] = {
#define RULE(symbol, name, text) { name, text },
	KMTLS_DECISION_RULES(RULE)
#undef RULE
};

const char *kmtls_explain_rule_name(enum kmtls_decision_rule rule)
{
	return decision_rules[rule].name;
}

const char *kmtls_explain_rule_text(enum kmtls_decision_rule rule)
{
	return decision_rules[rule].text;
}

static void add_step(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
		     const char *rule, const char *state, const char *text)
{
	json_array_append_new(run->steps,
			      json_pack("{s:s, s:s, s:s, s:o}", "stage", stages[stage], "rule",
					rule, "state", state, "text", kmtls_json_string(text)));
}

void kmtls_explain_step(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			const char *rule, const char *state, const char *format, ...)
{
	char text[KMTLS_EXPLAIN_TEXT];
	va_list list;

	va_start(list, format);
	vsnprintf(text, sizeof(text), format, list);
	va_end(list);
	add_step(run, stage, rule, state, text);
}

void kmtls_explain_decide(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			  const char *rule, const char *result, enum kmtls_reason reason,
			  const char *sees, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	vsnprintf(run->text, sizeof(run->text), format, list);
	va_end(list);
	run->result = result;
	run->decided_by = rule;
	run->reason = reason;
	run->sees = sees;
	add_step(run, stage, rule, "decides", run->text);
}

/* ---- modes ---- */

/* Elements of a port cannot be asked without one. */
static enum kmtls_mode mode_at(void *context, const struct kmtls_mode_key *key)
{
	const struct kmtls_explain_run *run = context;

	if (key->scope == KMTLS_SCOPE_PORT && !run->question->port)
		return KMTLS_MODE_UNSET;
	return run->view->mode_at(run->view->context, key);
}

static void add_mode(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
		     enum kmtls_mode_rule rule, const struct kmtls_mode_consulted *consulted)
{
	const char *name = mode_rules[rule], *mode = kmtls_mode_name(consulted->mode);

	if (!consulted->key.scope)
		kmtls_explain_step(run, stage, name, "none", "the pod has no namespace");
	else if (consulted->key.scope == KMTLS_SCOPE_PORT && !run->question->port)
		kmtls_explain_step(run, stage, name, "needs-port", "asked without a port");
	else if (consulted->decided && !consulted->mode)
		kmtls_explain_step(run, stage, name, "applies", "nothing is said: strict");
	else if (consulted->decided)
		kmtls_explain_step(run, stage, name, "applies", "%s", mode);
	else if (consulted->ignored)
		kmtls_explain_step(run, stage, name, "ignored", "%s: ignored, the mesh is strict",
				   mode);
	else if (consulted->mode)
		kmtls_explain_step(run, stage, name, "overridden",
				   "%s: a more specific one says something else", mode);
	else
		kmtls_explain_step(run, stage, name, "unset", "nothing is said");
}

enum kmtls_mode kmtls_explain_mode(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
				   const struct kmtls_explain_pod *pod)
{
	const struct kmtls_modes_reader reader = { .at = mode_at, .context = run };
	struct kmtls_mode_consulted consulted[KMTLS_MODE_RULE_COUNT];
	enum kmtls_mode mode = kmtls_modes_resolve_by(
		&reader, pod->value.name, pod->value.namespace_,
		stage == KMTLS_EXPLAIN_OUTBOUND ? KMTLS_OUTBOUND : KMTLS_INBOUND,
		run->question->port, consulted);

	for (int rule = 0; rule < KMTLS_MODE_RULE_COUNT; rule++)
		add_mode(run, stage, rule, &consulted[rule]);
	return mode;
}

/* ---- peers ---- */

static void add_bypass(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
		       const char *prefix, const struct kmtls_peer_value *value, bool covers)
{
	char ports[KMTLS_BYPASS_PORTS * 6 + 1] = "";
	size_t at = 0;

	for (unsigned i = 0; i < value->port_count && i < KMTLS_BYPASS_PORTS; i++)
		at += (size_t)snprintf(ports + at, sizeof(ports) - at, " %u", value->ports[i]);
	if (!value->port_count)
		kmtls_explain_step(run, stage, "peers", "applies", "%s: bypass, every port",
				   prefix);
	else if (!run->question->port)
		kmtls_explain_step(run, stage, "peers", "needs-port", "%s: bypass, of ports%s only",
				   prefix, ports);
	else
		kmtls_explain_step(run, stage, "peers", covers ? "applies" : "no",
				   "%s: bypass, of ports%s only", prefix, ports);
}

enum kmtls_peer_facts kmtls_explain_peer(struct kmtls_explain_run *run,
					 enum kmtls_explain_stage stage,
					 const struct kmtls_address *address,
					 struct kmtls_peer_value *ret_value)
{
	char prefix[KMTLS_ENDPOINT_TEXT], id[KMTLS_SPIFFE_ID_MAX + 1];
	const struct kmtls_explain_view *view = run->view;
	struct kmtls_peer_value value = {};
	enum kmtls_peer_facts facts;
	struct kmtls_peer_key key;
	bool found = view->peer(view->context, address, &key, &value) == 0;

	facts = kmtls_peer_read(found ? &value : NULL, run->question->port);
	*ret_value = value;
	if (found)
		kmtls_prefix_format(&key, prefix, sizeof(prefix));
	switch (facts) {
	case KMTLS_PEER_SILENT:
		kmtls_address_format(address, prefix, sizeof(prefix));
		kmtls_explain_step(run, stage, "peers", "none", "nothing is said of %s", prefix);
		break;
	case KMTLS_PEER_BYPASSED:
	case KMTLS_PEER_UNBYPASSED:
		add_bypass(run, stage, prefix, &value, facts == KMTLS_PEER_BYPASSED);
		break;
	case KMTLS_PEER_UNREADABLE:
		kmtls_explain_step(run, stage, "peers", "unreadable", "%s: kind %u, match %u",
				   prefix, value.kind, value.match);
		break;
	case KMTLS_PEER_MESHED:
		if (view->name(view->context, value.identity, id) < 0)
			snprintf(id, sizeof(id), "%016llx, which the names map has no text for",
				 value.identity);
		kmtls_explain_step(run, stage, "peers", "applies", "%s: mesh, %s %s", prefix,
				   kmtls_match_name(value.match), id);
		break;
	}
	return facts;
}
