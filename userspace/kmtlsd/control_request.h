/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_request.h - one request line to one answer line. control.c moves lines,
 * control_request.c checks them against the table of verbs, control_verbs.c and
 * control_flows.c do what they ask for.
 */
#ifndef KMTLS_CONTROL_REQUEST_H
#define KMTLS_CONTROL_REQUEST_H

#include <stdbool.h>

#include <linux/types.h>

#include "control.h"
#include "json.h"

#define KMTLS_CONTROL_WHY 256 /* size of every ret_why */
#define KMTLS_CONTROL_ARGUMENTS 6 /* most that a verb has */
#define KMTLS_CONTROL_ANSWER_MAX (64u << 20) /* bytes; a longer answer becomes an error */

struct kmtls_daemon;

enum kmtls_control_type {
	KMTLS_CONTROL_STRING = 1, /* not empty */
	KMTLS_CONTROL_BOOLEAN,
	KMTLS_CONTROL_PORT, /* a number, 1 to 65535 */
	KMTLS_CONTROL_PORTS, /* a list of numbers, 1 to 65535, at most KMTLS_BYPASS_PORTS */
};

struct kmtls_control_argument {
	const char *name; /* NULL ends the list */
	enum kmtls_control_type type;
	bool required;
};

struct kmtls_control_verb {
	const char *name; /* NULL ends the table */
	struct kmtls_control_argument arguments[KMTLS_CONTROL_ARGUMENTS + 1];
	/* arguments are checked already. Appends one JSON value to result. -errno and a
	 * sentence in ret_why, which is an empty string before; result is then thrown away. */
	int (*run)(struct kmtls_daemon *daemon, const json_t *arguments, struct kmtls_text *result,
		   char *ret_why);
};

extern const struct kmtls_control_verb kmtls_control_verbs[];

/* Answers a request of length bytes without its newline; the answer has one. -ENOMEM. */
int kmtls_control_answer(struct kmtls_daemon *daemon, const struct kmtls_control_verb *verbs,
			 const char *line, size_t length, struct kmtls_text *answer);
/* An error answer by itself, err as -errno. -ENOMEM. */
int kmtls_control_answer_error(struct kmtls_text *answer, int err, const char *message);

/* kmtls_control_open() with another table, for tests. */
int kmtls_control_open_verbs(struct kmtls_daemon *daemon, const struct kmtls_control_verb *verbs,
			     struct kmtls_control **ret_control, char *ret_why);

/* control_flows.c, control_udp.c: arguments as in struct kmtls_control_verb. */
int kmtls_control_flows(struct kmtls_daemon *daemon, const json_t *arguments,
			struct kmtls_text *result, char *ret_why);
int kmtls_control_status(struct kmtls_daemon *daemon, const json_t *arguments,
			 struct kmtls_text *result, char *ret_why);

/* control_authz.c: likewise. */
int kmtls_control_authz_add(struct kmtls_daemon *daemon, const json_t *arguments,
			    struct kmtls_text *result, char *ret_why);
int kmtls_control_authz_delete(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why);
int kmtls_control_authz_list(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why);
int kmtls_control_authz_default(struct kmtls_daemon *daemon, const json_t *arguments,
				struct kmtls_text *result, char *ret_why);
int kmtls_control_authz_test(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why);
int kmtls_control_udp(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why);
/* control_policy.c: likewise. */
int kmtls_control_policy_show(struct kmtls_daemon *daemon, const json_t *arguments,
			      struct kmtls_text *result, char *ret_why);
int kmtls_control_policy_set(struct kmtls_daemon *daemon, const json_t *arguments,
			     struct kmtls_text *result, char *ret_why);
int kmtls_control_policy_unset(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why);
int kmtls_control_policy_dry_run(struct kmtls_daemon *daemon, const json_t *arguments,
				 struct kmtls_text *result, char *ret_why);
/* control_verbs.c, control_settings.c, control_check.c, control_monitor.c */
int kmtls_control_log(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why);
int kmtls_control_settings_get(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why);
int kmtls_control_settings_set(struct kmtls_daemon *daemon, const json_t *arguments,
			       struct kmtls_text *result, char *ret_why);
int kmtls_control_check(struct kmtls_daemon *daemon, const json_t *arguments,
			struct kmtls_text *result, char *ret_why);
/* control_flows.c: the cookie of its namespace. -ENOENT and why. */
int kmtls_control_find_pod(struct kmtls_daemon *daemon, const char *name, __u64 *ret_netns,
			   char *ret_why);
/* control_identity.c */
int kmtls_control_identity_show(struct kmtls_daemon *daemon, const json_t *arguments,
				struct kmtls_text *result, char *ret_why);
int kmtls_control_identity_renew(struct kmtls_daemon *daemon, const json_t *arguments,
				 struct kmtls_text *result, char *ret_why);
int kmtls_control_identity_ca(struct kmtls_daemon *daemon, const json_t *arguments,
			      struct kmtls_text *result, char *ret_why);
/* The part of `status`. NULL: no memory. */
json_t *kmtls_control_identity_status(struct kmtls_daemon *daemon);
/* control_top.c */
int kmtls_control_top(struct kmtls_daemon *daemon, const json_t *arguments,
		      struct kmtls_text *result, char *ret_why);
/* control_metrics.c */
int kmtls_control_metrics(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why);
int kmtls_control_monitor(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why);
/* control_explain.c: likewise. */
int kmtls_control_explain(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why);
/* The part of `status`. NULL: no memory, or the maps cannot be read. */
json_t *kmtls_control_udp_totals(struct kmtls_daemon *daemon);

#endif
