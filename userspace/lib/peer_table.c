/* SPDX-License-Identifier: Apache-2.0 */
/* peer_table.c - see peer_table.h. */
#include "peer_table.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int kmtls_peer_key_compare(const struct kmtls_peer_key *a, const struct kmtls_peer_key *b)
{
	int order = memcmp(&a->address, &b->address, sizeof(a->address));

	return order ? order : (a->prefix_len > b->prefix_len) - (a->prefix_len < b->prefix_len);
}

static int compare_entries(const void *left, const void *right)
{
	const struct kmtls_peer_entry *a = left, *b = right;
	int order = kmtls_peer_key_compare(&a->key, &b->key);

	return order ? order : (a->line > b->line) - (a->line < b->line);
}

int kmtls_peer_table_append(struct kmtls_peer_table *table, const struct kmtls_peer_entry *entry)
{
	if (table->count == table->size) {
		size_t size = table->size ? table->size * 2 : 256;
		void *entries = reallocarray(table->entries, size, sizeof(*table->entries));

		if (!entries)
			return -ENOMEM;
		table->entries = entries;
		table->size = size;
	}
	table->entries[table->count++] = *entry;
	return 0;
}

void kmtls_peer_table_sort(struct kmtls_peer_table *table)
{
	if (table->count)
		qsort(table->entries, table->count, sizeof(*table->entries), compare_entries);
}

const struct kmtls_peer_entry *kmtls_peer_table_find(const struct kmtls_peer_table *table,
						     const struct kmtls_peer_key *key)
{
	size_t low = 0, high = table->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = kmtls_peer_key_compare(&table->entries[middle].key, key);

		if (!order)
			return &table->entries[middle];
		if (order < 0)
			low = middle + 1;
		else
			high = middle;
	}
	return NULL;
}

void kmtls_peer_table_free(struct kmtls_peer_table *table)
{
	free(table->entries);
	*table = (struct kmtls_peer_table){ .count = 0 };
}

/* Which action leads from before to after, either of which may be missing; -1: none. */
static int choose_action(const struct kmtls_peer_entry *before,
			 const struct kmtls_peer_entry *after, bool replace)
{
	if (!before)
		return KMTLS_PEER_ADD;
	if (!after)
		return replace ? KMTLS_PEER_DELETE : -1;
	return memcmp(&before->value, &after->value, sizeof(before->value)) ? KMTLS_PEER_CHANGE
									    : -1;
}

/* Walks both tables side by side: counts the steps, or writes them where plan->first says. */
static void walk(const struct kmtls_peer_table *before, const struct kmtls_peer_table *wanted,
		 bool replace, struct kmtls_peer_plan *plan, bool write)
{
	size_t i = 0, j = 0, at[KMTLS_PEER_ACTIONS];

	memcpy(at, plan->first, sizeof(at));
	while (i < before->count || j < wanted->count) {
		const struct kmtls_peer_entry *old = NULL, *new = NULL;
		int order = i == before->count	 ? 1
			    : j == wanted->count ? -1
						 : kmtls_peer_key_compare(&before->entries[i].key,
									  &wanted->entries[j].key);
		int action;

		if (order <= 0)
			old = &before->entries[i++];
		if (order >= 0)
			new = &wanted->entries[j++];
		action = choose_action(old, new, replace);
		if (action < 0) {
			plan->unchanged += !write;
		} else if (!write) {
			plan->count[action]++;
		} else {
			struct kmtls_peer_step *step = &plan->steps[at[action]++];

			step->key = old ? old->key : new->key;
			if (old)
				step->before = old->value;
			if (new)
				step->after = new->value;
		}
	}
}

int kmtls_peer_plan_make(const struct kmtls_peer_table *before,
			 const struct kmtls_peer_table *wanted, bool replace,
			 struct kmtls_peer_plan *ret_plan)
{
	struct kmtls_peer_plan plan = { .steps = NULL };

	walk(before, wanted, replace, &plan, false);
	for (unsigned action = 0; action < KMTLS_PEER_ACTIONS; action++) {
		plan.first[action] = plan.total;
		plan.total += plan.count[action];
	}
	plan.steps = calloc(plan.total + 1, sizeof(*plan.steps));
	if (!plan.steps)
		return -ENOMEM;
	walk(before, wanted, replace, &plan, true);
	*ret_plan = plan;
	return 0;
}

void kmtls_peer_plan_free(struct kmtls_peer_plan *plan)
{
	free(plan->steps);
	*plan = (struct kmtls_peer_plan){ .steps = NULL };
}
