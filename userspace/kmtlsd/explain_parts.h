/* SPDX-License-Identifier: Apache-2.0 */
/* explain_parts.h - one explanation in the making, shared by explain.c (stages, result) and
 * explain_steps.c (single rules). */
#ifndef KMTLS_EXPLAIN_PARTS_H
#define KMTLS_EXPLAIN_PARTS_H

#include "explain.h"
#include "kmtls/decision_rules.h"
#include "listener.h"

/* Of a step: room for the longest sentence, and what is said beside. */
#define KMTLS_EXPLAIN_TEXT (KMTLS_AUTHORIZATION_WHY + 64)

enum kmtls_explain_stage {
	KMTLS_EXPLAIN_OUTBOUND,
	KMTLS_EXPLAIN_INBOUND,
	KMTLS_EXPLAIN_IDENTITY,
	KMTLS_EXPLAIN_AUTHORIZATION,
};

/* One end. */
struct kmtls_explain_party {
	bool here; /* pod is set */
	struct kmtls_explain_pod pod;
	struct kmtls_address address;
	char id[KMTLS_SPIFFE_ID_MAX + 1]; /* "": not known */
};

struct kmtls_explain_run {
	const struct kmtls_explain_view *view;
	const struct kmtls_explain_question *question;
	struct kmtls_explain_party source, destination;
	json_t *steps;
	/* The outcome; "" and NONE where there is nothing to say. */
	const char *result, *decided_by, *sees;
	enum kmtls_reason reason;
	char expected[KMTLS_SPIFFE_ID_MAX + 32];
	char text[KMTLS_EXPLAIN_TEXT];
	/* What the peers map says of the destination, if it is meshed. */
	struct kmtls_peer_value promise;
	/* The listener at the destination, where one is asked about (listener.h). */
	int listener; /* 1: bound to a device; -ENODEV: to one that cannot take the connection */
	char listener_text[KMTLS_LISTENER_WHY];
	char promised[KMTLS_SPIFFE_ID_MAX + 1]; /* text of it; "": there is none */
};

/* state: "no", "yes", "unset", "none", "ignored", "overridden", "applies", "needs-port", ... */
void kmtls_explain_step(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			const char *rule, const char *state, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
/* The last step of all: the rule that decides. */
void kmtls_explain_decide(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
			  const char *rule, const char *result, enum kmtls_reason reason,
			  const char *sees, const char *format, ...)
	__attribute__((format(printf, 7, 8)));

/* Which mode applies to a connection of pod: a step for each element. */
enum kmtls_mode kmtls_explain_mode(struct kmtls_explain_run *run, enum kmtls_explain_stage stage,
				   const struct kmtls_explain_pod *pod);
/* What the peers map says of the other end: one step. ret_value: of the entry, zero if none. */
enum kmtls_peer_facts kmtls_explain_peer(struct kmtls_explain_run *run,
					 enum kmtls_explain_stage stage,
					 const struct kmtls_address *address,
					 struct kmtls_peer_value *ret_value);
const char *kmtls_explain_rule_name(enum kmtls_decision_rule rule);
const char *kmtls_explain_rule_text(enum kmtls_decision_rule rule);

#endif
