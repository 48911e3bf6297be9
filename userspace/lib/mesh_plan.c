/* SPDX-License-Identifier: Apache-2.0 */
/* mesh_plan.c - see mesh_plan.h. */
#include "mesh_plan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kmtls/mode_rules.h"

/* ---- tables ---- */

/* The entries with one more, which may have moved. NULL: no memory, all is as before. */
static void *append(void *entries, size_t *count, size_t *size, const void *entry, size_t each)
{
	if (*count == *size) {
		size_t wanted = *size ? *size * 2 : 64;

		entries = reallocarray(entries, wanted, each);
		if (!entries)
			return NULL;
		*size = wanted;
	}
	memcpy((char *)entries + *count * each, entry, each);
	++*count;
	return entries;
}

int kmtls_mode_table_append(struct kmtls_mode_table *table, const struct kmtls_mode_entry *entry)
{
	void *entries = append(table->entries, &table->count, &table->size, entry, sizeof(*entry));

	if (!entries)
		return -ENOMEM;
	table->entries = entries;
	return 0;
}

int kmtls_authorization_table_append(struct kmtls_authorization_table *table,
				     const struct kmtls_authorization_entry *entry)
{
	void *entries = append(table->entries, &table->count, &table->size, entry, sizeof(*entry));

	if (!entries)
		return -ENOMEM;
	table->entries = entries;
	return 0;
}

static int compare_mode_keys(const struct kmtls_mode_key *a, const struct kmtls_mode_key *b)
{
	return memcmp(a, b, sizeof(*a));
}

static int compare_modes(const void *left, const void *right)
{
	const struct kmtls_mode_entry *a = left, *b = right;
	int order = compare_mode_keys(&a->key, &b->key);

	return order ? order : (a->line > b->line) - (a->line < b->line);
}

static int compare_authorization_keys(const struct kmtls_authorization_key *a,
				      const struct kmtls_authorization_key *b)
{
	return memcmp(a, b, sizeof(*a));
}

static int compare_authorizations(const void *left, const void *right)
{
	const struct kmtls_authorization_entry *a = left, *b = right;
	int order = compare_authorization_keys(&a->key, &b->key);

	return order ? order : (a->line > b->line) - (a->line < b->line);
}

void kmtls_mode_table_sort(struct kmtls_mode_table *table)
{
	if (table->count)
		qsort(table->entries, table->count, sizeof(*table->entries), compare_modes);
}

void kmtls_authorization_table_sort(struct kmtls_authorization_table *table)
{
	if (table->count)
		qsort(table->entries, table->count, sizeof(*table->entries),
		      compare_authorizations);
}

/* ---- modes ---- */

/* From the widest to the narrowest. */
static int width_of(const struct kmtls_mode_key *key)
{
	switch (key->scope) {
	case KMTLS_SCOPE_MESH:
		return 4;
	case KMTLS_SCOPE_NAMESPACE:
		return 3;
	case KMTLS_SCOPE_POD:
		return 2;
	default:
		return key->id ? 0 : 1;
	}
}

/* An entry may be there and say nothing. */
static bool is_said(__u32 mode)
{
	return mode != KMTLS_MESH_NONE && mode != KMTLS_MODE_UNSET;
}

static __u32 stricter(__u32 a, __u32 b)
{
	a = kmtls_mode_read(a);
	b = kmtls_mode_read(b);
	return a > b ? a : b;
}

/*
 * The strictest that a connection may fall back to, before or after, where an entry is not there.
 * Which namespace a pod is in is not asked: every wider entry of the direction counts.
 */
struct fallback {
	__u32 mode[3][5]; /* of a direction, wider than a width: index is that width */
	bool mesh[2][3]; /* before, after: something is said of the mesh */
};

static void note(struct fallback *fallback, const struct kmtls_mode_table *table, int when)
{
	for (size_t i = 0; i < table->count; i++) {
		const struct kmtls_mode_entry *entry = &table->entries[i];
		unsigned direction = entry->key.direction;

		if (direction != KMTLS_INBOUND && direction != KMTLS_OUTBOUND)
			continue;
		for (int width = 0; width < width_of(&entry->key); width++)
			fallback->mode[direction][width] =
				stricter(fallback->mode[direction][width], entry->mode);
		if (entry->key.scope == KMTLS_SCOPE_MESH && is_said(entry->mode))
			fallback->mesh[when][direction] = true;
	}
}

static __u32 middle_mode(const struct fallback *fallback, const struct kmtls_mode_key *key,
			 __u32 before, __u32 after)
{
	unsigned direction = key->direction;

	if (is_said(before) && is_said(after))
		return stricter(before, after);
	if ((!is_said(before) && !is_said(after)) ||
	    (direction != KMTLS_INBOUND && direction != KMTLS_OUTBOUND))
		return after; /* means nothing to anybody */
	/* A mesh of which nothing is said is strict. */
	if (!fallback->mesh[0][direction] || !fallback->mesh[1][direction])
		return KMTLS_MODE_STRICT;
	return stricter(is_said(before) ? before : after, fallback->mode[direction][width_of(key)]);
}

static int plan_modes(const struct kmtls_mode_table *before, const struct kmtls_mode_table *wanted,
		      struct kmtls_mesh_plan *plan)
{
	struct fallback fallback = {};
	size_t i = 0, j = 0;

	note(&fallback, before, 0);
	note(&fallback, wanted, 1);
	plan->modes = calloc(before->count + wanted->count + 1, sizeof(*plan->modes));
	if (!plan->modes)
		return -ENOMEM;
	while (i < before->count || j < wanted->count) {
		struct kmtls_mode_step *step = &plan->modes[plan->mode_count];
		int order = i == before->count	 ? 1
			    : j == wanted->count ? -1
						 : compare_mode_keys(&before->entries[i].key,
								     &wanted->entries[j].key);

		step->key = order <= 0 ? before->entries[i].key : wanted->entries[j].key;
		step->step.before = order <= 0 ? before->entries[i++].mode : KMTLS_MESH_NONE;
		step->step.after = order >= 0 ? wanted->entries[j++].mode : KMTLS_MESH_NONE;
		if (step->step.before == step->step.after)
			continue;
		step->step.middle =
			middle_mode(&fallback, &step->key, step->step.before, step->step.after);
		plan->modes_added += order > 0;
		plan->mode_count++;
	}
	return 0;
}

/* The mesh's own to the end. */
static void put_mesh_last(struct kmtls_mesh_plan *plan)
{
	size_t kept = 0, count = 0;
	struct kmtls_mode_step mesh[4] = {};

	for (size_t i = 0; i < plan->mode_count; i++) {
		if (plan->modes[i].key.scope == KMTLS_SCOPE_MESH && count < 4)
			mesh[count++] = plan->modes[i];
		else
			plan->modes[kept++] = plan->modes[i];
	}
	memcpy(plan->modes + kept, mesh, count * sizeof(*mesh));
}

/* ---- authorizations ---- */

static int rank(__u32 action)
{
	switch (action) {
	case KMTLS_AUTHORIZATION_ALLOW:
		return 2;
	case KMTLS_MESH_NONE:
	case KMTLS_AUTHORIZATION_DRY_RUN:
		return 1;
	default:
		return 0; /* denies, also what nobody knows */
	}
}

static int plan_authorizations(const struct kmtls_authorization_table *before,
			       const struct kmtls_authorization_table *wanted,
			       struct kmtls_mesh_plan *plan)
{
	size_t i = 0, j = 0;

	plan->authorizations =
		calloc(before->count + wanted->count + 1, sizeof(*plan->authorizations));
	if (!plan->authorizations)
		return -ENOMEM;
	while (i < before->count || j < wanted->count) {
		struct kmtls_authorization_step *step =
			&plan->authorizations[plan->authorization_count];
		int order = i == before->count ? 1
			    : j == wanted->count
				    ? -1
				    : compare_authorization_keys(&before->entries[i].key,
								 &wanted->entries[j].key);
		__u32 old = order <= 0 ? before->entries[i].action : KMTLS_MESH_NONE;
		__u32 new = order >= 0 ? wanted->entries[j].action : KMTLS_MESH_NONE;

		step->key = order <= 0 ? before->entries[i].key : wanted->entries[j].key;
		i += order <= 0;
		j += order >= 0;
		if (old == new)
			continue;
		step->step =
			(struct kmtls_mesh_step){ old, rank(new) <= rank(old) ? new : old, new };
		plan->authorizations_added += order > 0;
		plan->authorization_count++;
	}
	return 0;
}

int kmtls_mesh_plan_make(const struct kmtls_mode_table *modes_before,
			 const struct kmtls_mode_table *modes_wanted, bool has_modes,
			 const struct kmtls_authorization_table *authorizations_before,
			 const struct kmtls_authorization_table *authorizations_wanted,
			 bool has_authorizations, struct kmtls_mesh_plan *ret_plan)
{
	struct kmtls_mesh_plan plan = { .modes = NULL };
	int err = 0;

	if (has_modes)
		err = plan_modes(modes_before, modes_wanted, &plan);
	if (has_modes && !err)
		put_mesh_last(&plan);
	if (!err && has_authorizations)
		err = plan_authorizations(authorizations_before, authorizations_wanted, &plan);
	if (err)
		kmtls_mesh_plan_free(&plan);
	else
		*ret_plan = plan;
	return err;
}

void kmtls_mesh_plan_free(struct kmtls_mesh_plan *plan)
{
	free(plan->modes);
	free(plan->authorizations);
	*plan = (struct kmtls_mesh_plan){ .modes = NULL };
}
