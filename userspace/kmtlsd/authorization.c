/* SPDX-License-Identifier: Apache-2.0 */
/*
 * authorization.c - see authorization.h. In this order:
 *  1. an entry that denies, however wide, denies; so does one whose action is not known;
 *  2. an entry that allows, allows;
 *  3. else the default in `settings`.
 * A dry-run entry is as if it were not there, but for what is counted.
 *
 * Whatever cannot be read denies. A key with a field of unknown meaning is found by no exact
 * probe, and may be meant as a denial: twice a second the whole map is looked through for such
 * (review.c), and every question asks what was found (authorization_doubts.c).
 */
#include "authorization.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bpf_loader.h"
#include "match.h"
#include "policy.h"
#include "shorten.h"

#define BATCH 512

/* ---- the decision ---- */

static void doubt(struct kmtls_authorization_verdict *verdict, const char *sentence)
{
	verdict->allowed = verdict->would_deny = false;
	verdict->decider = KMTLS_DECIDED_BY_DOUBT;
	verdict->doubt = sentence;
}

/* The most specific of its action stays: keys are probed in that order. true: it denies. */
static bool take_rule(const struct kmtls_authorization_rule *rule,
		      struct kmtls_authorization_verdict *verdict)
{
	switch (rule->value.action) {
	case KMTLS_AUTHORIZATION_ALLOW:
		if (!verdict->allowed) {
			verdict->allowed = true;
			verdict->decider = KMTLS_DECIDED_BY_RULE;
			verdict->rule = *rule;
		}
		return false;
	case KMTLS_AUTHORIZATION_DRY_RUN:
		if (!verdict->would_deny) {
			verdict->would_deny = true;
			verdict->dry_run = *rule;
		}
		return false;
	}
	verdict->allowed = verdict->would_deny = false;
	verdict->decider = KMTLS_DECIDED_BY_RULE;
	verdict->rule = *rule;
	return true;
}

/* One key; true: the question is decided. */
static bool probe(const struct kmtls_authorization_lookup *lookup,
		  const struct kmtls_authorization_key *key,
		  struct kmtls_authorization_verdict *verdict)
{
	struct kmtls_authorization_rule rule = { .key = *key };
	int err = lookup->get(lookup->context, key, &rule.value.action);

	if (err == -ENOENT)
		return false;
	if (err) {
		doubt(verdict, "the map authorizations cannot be read");
		return true;
	}
	return take_rule(&rule, verdict);
}

static bool probe_all(const struct kmtls_authorization_question *question,
		      const struct kmtls_authorization_lookup *lookup,
		      struct kmtls_authorization_verdict *verdict)
{
	for (unsigned source = KMTLS_MATCH_EXACT; source <= KMTLS_MATCH_ANY; source++) {
		if (source != KMTLS_MATCH_ANY && !question->source[source])
			continue;
		for (unsigned to = KMTLS_MATCH_EXACT; to <= KMTLS_MATCH_ANY; to++) {
			struct kmtls_authorization_key key = {
				.source = question->source[source],
				.destination = question->destination[to],
				.source_kind = source,
				.destination_kind = to,
				.port = question->port,
			};

			if (to != KMTLS_MATCH_ANY && !key.destination)
				continue;
			if (probe(lookup, &key, verdict))
				return true;
			key.port = 0;
			if (probe(lookup, &key, verdict))
				return true;
		}
	}
	return verdict->allowed;
}

void kmtls_authorization_decide(const struct kmtls_authorization_question *question,
				const struct kmtls_authorization_lookup *lookup,
				struct kmtls_authorization_verdict *ret_verdict)
{
	memset(ret_verdict, 0, sizeof(*ret_verdict));
	if (probe_all(question, lookup, ret_verdict))
		return;
	switch (lookup->fallback) {
	case KMTLS_AUTHORIZATION_DEFAULT_UNSET:
	case KMTLS_AUTHORIZATION_DEFAULT_ALLOW:
		ret_verdict->allowed = true;
		ret_verdict->decider = KMTLS_DECIDED_BY_DEFAULT;
		return;
	case KMTLS_AUTHORIZATION_DEFAULT_DENY:
		ret_verdict->would_deny = false;
		ret_verdict->decider = KMTLS_DECIDED_BY_DEFAULT;
		return;
	}
	doubt(ret_verdict, "settings has an authorization_default this version does not know");
}

/* ---- keys that cannot be read ---- */

static bool is_subject(unsigned kind, __u64 hash)
{
	return kind >= KMTLS_MATCH_EXACT && kind <= KMTLS_MATCH_ANY &&
	       (kind == KMTLS_MATCH_ANY) == (hash == 0);
}

bool kmtls_authorization_is_readable(const struct kmtls_authorization_key *key)
{
	return is_subject(key->source_kind, key->source) &&
	       is_subject(key->destination_kind, key->destination) && !key->pad;
}

static bool may_be(unsigned kind, __u64 hash, const __u64 *hashes)
{
	return !is_subject(kind, hash) || hashes[kind] == hash;
}

bool kmtls_authorization_may_mean(const struct kmtls_authorization_key *key,
				  const struct kmtls_authorization_question *question)
{
	return may_be(key->source_kind, key->source, question->source) &&
	       may_be(key->destination_kind, key->destination, question->destination) &&
	       (!key->port || key->port == question->port);
}

/* ---- with the maps ---- */

struct batch {
	struct kmtls_authorization_key keys[BATCH];
	struct kmtls_authorization_value values[BATCH];
};

static int visit_batch(const struct batch *batch, unsigned count,
		       int (*visit)(void *context, const struct kmtls_authorization_rule *rule),
		       void *context)
{
	int err = 0;

	for (unsigned i = 0; !err && i < count; i++) {
		struct kmtls_authorization_rule rule = { batch->keys[i], batch->values[i] };

		err = visit(context, &rule);
	}
	return err;
}

int kmtls_authorization_visit(struct kmtls_bpf *bpf,
			      int (*visit)(void *context,
					   const struct kmtls_authorization_rule *rule),
			      void *context)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_AUTHORIZATIONS), err = 0, result;
	__u32 place, *from = NULL;
	struct batch batch;

	do {
		__u32 count = BATCH;

		result = bpf_map_lookup_batch(fd, from, &place, batch.keys, batch.values, &count,
					      NULL) < 0
				 ? -errno
				 : 0;
		/* -ENOENT: that was the last batch, and it counts. */
		if (result && result != -ENOENT)
			return result;
		err = visit_batch(&batch, count, visit, context);
		from = &place;
	} while (!err && !result);
	return err;
}

static int get_from_map(void *context, const struct kmtls_authorization_key *key, __u32 *ret_action)
{
	struct kmtls_authorization_value value;

	if (bpf_map_lookup_elem(kmtls_bpf_map(context, KMTLS_MAP_AUTHORIZATIONS), key, &value) < 0)
		return -errno;
	*ret_action = value.action;
	return 0;
}

static void ask_doubts(const struct kmtls_authorization_question *question,
		       const struct kmtls_authorization_lookup *lookup,
		       struct kmtls_authorization_verdict *verdict)
{
	struct kmtls_authorization_rule rule;
	int found = kmtls_doubts_find(question, lookup, &rule);

	if (found < 0)
		doubt(verdict, "the map authorizations cannot be read");
	else if (found)
		take_rule(&rule, verdict);
}

/* The text of a hash must be what was hashed, or nobody's: two texts of one hash are told apart
 * by `names`. */
static bool is_named(struct kmtls_bpf *bpf, unsigned kind, __u64 hash, const char *id)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1];

	if (kind == KMTLS_MATCH_ANY || kmtls_policy_name_get(bpf, hash, text) < 0)
		return true;
	return kmtls_match_holds(kind, text, id);
}

/* Nothing is said: no entry, and everyone is allowed. */
static bool is_silent(struct kmtls_bpf *bpf, __u32 fallback)
{
	struct kmtls_authorization_key key;

	return (fallback == KMTLS_AUTHORIZATION_DEFAULT_UNSET ||
		fallback == KMTLS_AUTHORIZATION_DEFAULT_ALLOW) &&
	       bpf_map_get_next_key(kmtls_bpf_map(bpf, KMTLS_MAP_AUTHORIZATIONS), NULL, &key) < 0 &&
	       errno == ENOENT;
}

void kmtls_authorization_ask(struct kmtls_bpf *bpf, const char *source, const char *destination,
			     __u16 port, struct kmtls_authorization_verdict *ret_verdict)
{
	struct kmtls_authorization_lookup lookup = { .get = get_from_map, .context = bpf };
	struct kmtls_authorization_question question = { .port = port };
	struct kmtls_authorization_verdict verdict = { .decider = KMTLS_DECIDED_BY_DEFAULT };

	if (kmtls_authorization_default_get(bpf, &lookup.fallback) < 0) {
		doubt(&verdict, "the map settings cannot be read");
	} else if (kmtls_subject_hashes(source, question.source) < 0 ||
		   kmtls_subject_hashes(destination, question.destination) < 0) {
		verdict.allowed = is_silent(bpf, lookup.fallback);
		if (!verdict.allowed)
			doubt(&verdict, "the SPIFFE ID is not known any more");
	} else {
		kmtls_authorization_decide(&question, &lookup, &verdict);
		if (verdict.allowed)
			ask_doubts(&question, &lookup, &verdict);
	}
	if (verdict.allowed && verdict.decider == KMTLS_DECIDED_BY_RULE &&
	    (!is_named(bpf, verdict.rule.key.source_kind, verdict.rule.key.source, source) ||
	     !is_named(bpf, verdict.rule.key.destination_kind, verdict.rule.key.destination,
		       destination)))
		doubt(&verdict, "a hash of the rule that allows it names another text");
	*ret_verdict = verdict;
}

void kmtls_authorization_sentence(const struct kmtls_authorization_rule *rule, char *source,
				  char *destination, char *ret_why, size_t size)
{
	const struct kmtls_authorization_key *key = &rule->key;
	const char *trust =
		kmtls_authorization_is_readable(key) ? "" : " (not readable, taken as wide)";
	size_t from = strlen(source), to = strlen(destination), rest, half;
	char action[32], port[16] = "any";
	const char *name = kmtls_authorization_action_name(rule->value.action, action);

	if (key->port)
		snprintf(port, sizeof(port), "%u", key->port);
	rest = size - 1 - snprintf(NULL, 0, "rule %s  to  port %s%s", name, port, trust);
	half = rest / 2;
	/* A short one leaves the other its room. */
	kmtls_shorten(source, to < half ? rest - to : half);
	kmtls_shorten(destination, from < half ? rest - from : half);
	snprintf(ret_why, size, "rule %s %s to %s port %s%s", name, source, destination, port,
		 trust);
}

static void describe_rule(struct kmtls_bpf *bpf, const struct kmtls_authorization_rule *rule,
			  char *ret_why, size_t size)
{
	char source[KMTLS_SUBJECT_TEXT], destination[KMTLS_SUBJECT_TEXT];

	kmtls_authorization_subject(bpf, rule->key.source_kind, rule->key.source, source);
	kmtls_authorization_subject(bpf, rule->key.destination_kind, rule->key.destination,
				    destination);
	kmtls_authorization_sentence(rule, source, destination, ret_why, size);
}

const char *kmtls_authorization_why(struct kmtls_bpf *bpf,
				    const struct kmtls_authorization_verdict *verdict,
				    char *ret_why, size_t size)
{
	switch (verdict->decider) {
	case KMTLS_DECIDED_BY_RULE:
		describe_rule(bpf, &verdict->rule, ret_why, size);
		break;
	case KMTLS_DECIDED_BY_DEFAULT:
		snprintf(ret_why, size, "default %s", verdict->allowed ? "allow" : "deny");
		break;
	case KMTLS_DECIDED_BY_DOUBT:
		snprintf(ret_why, size, "%s", verdict->doubt);
		break;
	}
	return ret_why;
}
