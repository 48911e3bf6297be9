/* SPDX-License-Identifier: Apache-2.0 */
/*
 * authorization_doubts.c - entries of `authorizations` that deny and that no exact key finds, since
 * a field of theirs cannot be read. Collected by each look at the whole map (review.c), and
 * published as an array that does not change any more: a question searches that, not the map.
 *
 * The map stays the truth. An entry that the array names is looked up once more before it denies,
 * so one that has been removed or changed since denies nobody. A new one is known with the next look.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "authorization.h"

struct kmtls_doubts {
	size_t count, room;
	struct kmtls_authorization_rule rules[];
};

/* Questions read, in parallel; a new array takes the place of the old one between them. */
static pthread_rwlock_t lock = PTHREAD_RWLOCK_INITIALIZER;
static struct kmtls_doubts *published; /* NULL: not known, then every question is doubtful */

static bool denies(__u32 action)
{
	return action != KMTLS_AUTHORIZATION_ALLOW && action != KMTLS_AUTHORIZATION_DRY_RUN;
}

struct kmtls_doubts *kmtls_doubts_new(void)
{
	return calloc(1, sizeof(struct kmtls_doubts));
}

int kmtls_doubts_add(struct kmtls_doubts **doubts, const struct kmtls_authorization_rule *rule)
{
	struct kmtls_doubts *now = *doubts;

	if (!denies(rule->value.action) || kmtls_authorization_is_readable(&rule->key))
		return 0;
	if (now->count == now->room) {
		size_t room = now->room ? now->room * 2 : 16;

		now = realloc(now, sizeof(*now) + room * sizeof(now->rules[0]));
		if (!now)
			return -ENOMEM;
		now->room = room;
		*doubts = now;
	}
	now->rules[now->count++] = *rule;
	return 0;
}

void kmtls_doubts_free(struct kmtls_doubts *doubts)
{
	free(doubts);
}

void kmtls_doubts_publish(struct kmtls_doubts *doubts)
{
	struct kmtls_doubts *before;

	pthread_rwlock_wrlock(&lock);
	before = published;
	published = doubts;
	pthread_rwlock_unlock(&lock);
	kmtls_doubts_free(before);
}

/* 1: it still denies; 0: it does not; -errno. */
static int look_again(const struct kmtls_authorization_lookup *lookup,
		      struct kmtls_authorization_rule *rule)
{
	int err = lookup->get(lookup->context, &rule->key, &rule->value.action);

	if (err)
		return err == -ENOENT ? 0 : err;
	return denies(rule->value.action);
}

static int find(const struct kmtls_authorization_question *question,
		const struct kmtls_authorization_lookup *lookup,
		struct kmtls_authorization_rule *ret_rule)
{
	int found = 0;

	if (!published)
		return -ENODATA;
	for (size_t i = 0; !found && i < published->count; i++) {
		if (!kmtls_authorization_may_mean(&published->rules[i].key, question))
			continue;
		*ret_rule = published->rules[i];
		found = look_again(lookup, ret_rule);
	}
	return found;
}

int kmtls_doubts_find(const struct kmtls_authorization_question *question,
		      const struct kmtls_authorization_lookup *lookup,
		      struct kmtls_authorization_rule *ret_rule)
{
	int found;

	pthread_rwlock_rdlock(&lock);
	found = find(question, lookup, ret_rule);
	pthread_rwlock_unlock(&lock);
	return found;
}
