/* SPDX-License-Identifier: Apache-2.0 */
/*
 * authorization.h - may this client connect to that pod? Read from the map `authorizations` at
 * each decision. Written by authorization_rules.c, looked at again for established flows by
 * review.c.
 */
#ifndef KMTLS_AUTHORIZATION_H
#define KMTLS_AUTHORIZATION_H

#include <stdbool.h>

#include "kmtls/abi.h"
#include "subject.h"

struct kmtls_bpf;
struct kmtls_config;

/* A rule, or what stands in for one, as a sentence: whole, with the longest subjects there are. */
#define KMTLS_AUTHORIZATION_WHY (2 * KMTLS_SUBJECT_TEXT + 128)
/* As it goes into the log, whose lines are at most PIPE_BUF bytes with all that is in them. */
#define KMTLS_AUTHORIZATION_LINE 2304

struct kmtls_authorization_rule {
	struct kmtls_authorization_key key;
	struct kmtls_authorization_value value;
};

enum kmtls_authorization_decider {
	KMTLS_DECIDED_BY_RULE = 1,
	KMTLS_DECIDED_BY_DEFAULT,
	KMTLS_DECIDED_BY_DOUBT, /* something could not be read or known; denied */
};

struct kmtls_authorization_verdict {
	bool allowed;
	bool would_deny; /* allowed, and dry_run would not have done it */
	enum kmtls_authorization_decider decider;
	struct kmtls_authorization_rule rule; /* BY_RULE */
	struct kmtls_authorization_rule dry_run; /* if would_deny */
	const char *doubt; /* BY_DOUBT: a constant sentence */
};

/* Who asks whom. */
struct kmtls_authorization_question {
	__u64 source[KMTLS_MATCH_ANY + 1]; /* kmtls_subject_hashes() */
	__u64 destination[KMTLS_MATCH_ANY + 1];
	__u16 port;
};

/*
 * The decision by itself. lookup: 0 and the action of the entry of exactly this key, -ENOENT, or
 * another error, which denies. Probes every key that could be meant: four kinds of source by four
 * of destination by two ports.
 */
struct kmtls_authorization_lookup {
	int (*get)(void *context, const struct kmtls_authorization_key *key, __u32 *ret_action);
	void *context;
	__u32 fallback; /* settings.authorization_default */
};
void kmtls_authorization_decide(const struct kmtls_authorization_question *question,
				const struct kmtls_authorization_lookup *lookup,
				struct kmtls_authorization_verdict *ret_verdict);

/* Fields that this version can read: known kinds, a hash where there must be one. */
bool kmtls_authorization_is_readable(const struct kmtls_authorization_key *key);
/* Could a key that is not readable mean this question? Each field it cannot read is every one. */
bool kmtls_authorization_may_mean(const struct kmtls_authorization_key *key,
				  const struct kmtls_authorization_question *question);

/* ---- with the maps ---- */

/* Both are SPIFFE IDs; one that is not (or "") is denied unless nothing at all is said. */
void kmtls_authorization_ask(struct kmtls_bpf *bpf, const char *source, const char *destination,
			     __u16 port, struct kmtls_authorization_verdict *ret_verdict);
/* What decided, with the names of the rule's subjects. If it is longer than size, both names are
 * shortened: it stays a sentence. */
const char *kmtls_authorization_why(struct kmtls_bpf *bpf,
				    const struct kmtls_authorization_verdict *verdict,
				    char *ret_why, size_t size);
/* The sentence of a rule, from the texts of its subjects, which it shortens if it must. */
void kmtls_authorization_sentence(const struct kmtls_authorization_rule *rule, char *source,
				  char *destination, char *ret_why, size_t size);
/*
 * Every entry, a batch at a time; a non-zero return of visit stops and is returned. The map may
 * change meanwhile: what was there all the time is seen.
 */
int kmtls_authorization_visit(struct kmtls_bpf *bpf,
			      int (*visit)(void *context,
					   const struct kmtls_authorization_rule *rule),
			      void *context);

/* ---- authorization_doubts.c: entries that are not readable, and deny whomever they could mean ---- */

struct kmtls_doubts;

struct kmtls_doubts *kmtls_doubts_new(void); /* NULL: no memory */
/* Takes up a rule that is one, and no other. -ENOMEM. */
int kmtls_doubts_add(struct kmtls_doubts **doubts, const struct kmtls_authorization_rule *rule);
void kmtls_doubts_free(struct kmtls_doubts *doubts); /* not published ones */
/* From here on they are what questions search, and not the caller's. NULL: nobody knows what the
 * map holds. */
void kmtls_doubts_publish(struct kmtls_doubts *doubts);
/* 1 and a rule that could mean the question, and is in the map still; 0; -ENODATA: not known;
 * or what the lookup says. Any thread. */
int kmtls_doubts_find(const struct kmtls_authorization_question *question,
		      const struct kmtls_authorization_lookup *lookup,
		      struct kmtls_authorization_rule *ret_rule);

/* ---- authorization_rules.c: the operator's side; ret_why: 256 bytes ---- */

int kmtls_authorization_parse_action(const char *text, __u32 *ret_action); /* -EINVAL */
/* "allow", "deny", "dry-run"; others: "unknown-N" in buffer, of 32 bytes. */
const char *kmtls_authorization_action_name(__u32 action, char *buffer);
/* A subject as people write it, by what `names` has: KMTLS_SUBJECT_TEXT bytes. */
const char *kmtls_authorization_subject(struct kmtls_bpf *bpf, unsigned kind, __u64 hash,
					char *buffer);

/* Replaces an entry of the same key. -EEXIST: a hash names another text; -ENOSPC: map full. */
int kmtls_authorization_add(struct kmtls_bpf *bpf, const struct kmtls_subject *source,
			    const struct kmtls_subject *destination, __u16 port, __u32 action,
			    char *ret_why);
int kmtls_authorization_delete(struct kmtls_bpf *bpf, const struct kmtls_subject *source,
			       const struct kmtls_subject *destination, __u16 port,
			       char *ret_why); /* -ENOENT */
/* enum kmtls_authorization_default, or what else is there. */
int kmtls_authorization_default_get(struct kmtls_bpf *bpf, __u32 *ret_default);
int kmtls_authorization_default_set(struct kmtls_bpf *bpf, __u32 value, char *ret_why);
/* At the start of a keeper: what the configuration says; nothing, if it says nothing. */
int kmtls_authorization_apply_config(struct kmtls_bpf *bpf, const struct kmtls_config *config,
				     char *ret_why);

#endif
