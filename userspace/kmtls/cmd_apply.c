/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_apply.c - kmtls apply: a file that declares the policy, what of it differs from the maps, and
 * making it so. The daemon is only asked where its maps are.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "cli.h"
#include "json.h"
#include "match.h"
#include "mesh_maps.h"
#include "subject.h"
#include "table.h"

struct apply {
	const char *path; /* for messages */
	bool diff, dry_run, prune;
	struct kmtls_mesh_file file;
	struct kmtls_mesh_maps maps;
	struct kmtls_mesh_state state;
	struct kmtls_mesh_change change;
	json_t *changes; /* list of what is shown */
	size_t count[3]; /* by sign */
};

enum sign { ADDED, DELETED, CHANGED };
static const char *const signs[] = { "+", "-", "~" };
static const char *const actions[] = { "added", "deleted", "changed" };

/* ---- the file ---- */

static int read_file(struct kmtls_cli *cli, struct apply *apply)
{
	__cleanup_text struct kmtls_text text = { .limit = KMTLS_MESH_FILE_MAX + 65536 };
	struct kmtls_mesh_file_error error = { .line = 0 };
	char place[32] = "";
	int err = kmtls_options_read(&apply->path, &text);

	if (err && err != -E2BIG)
		return kmtls_cli_usage(cli, "%s: %s", apply->path, strerror(-err));
	err = kmtls_mesh_file_parse(text.bytes ? text.bytes : "",
				    err ? KMTLS_MESH_FILE_MAX + 1u : text.length, &apply->file,
				    &error);
	if (!err)
		return 0;
	if (err == -ENOMEM) {
		kmtls_cli_error(cli, "out of memory");
		return KMTLS_EXIT_REFUSED;
	}
	if (error.line)
		snprintf(place, sizeof(place), "%u: ", error.line);
	return kmtls_cli_usage(cli, "%s:%s%s%s%s%s", apply->path, *place ? "" : " ", place,
			       error.key, *error.key ? ": " : "", error.rule);
}

/* ---- what differs ---- */

/* The text of a hash: of the maps, or of the file, or the hash. */
static const char *name_of(struct apply *apply, __u64 hash, char *buffer)
{
	kmtls_peer_maps_name(&apply->maps.peers, hash, buffer);
	for (size_t i = 0; !*buffer && i < apply->file.peers.name_count; i++)
		if (apply->file.peers.names[i].hash == hash)
			strcpy(buffer, apply->file.peers.names[i].text);
	if (!*buffer)
		snprintf(buffer, 32, "%016llx", hash);
	return buffer;
}

/* before, after: NULL where there is none. */
static void put_line(struct apply *apply, const char *what, const char *before, const char *after)
{
	enum sign sign = !before ? ADDED : !after ? DELETED : CHANGED;

	apply->count[sign]++;
	json_array_append_new(apply->changes,
			      json_pack("{s:s, s:o, s:o, s:o}", "action", actions[sign], "what",
					kmtls_json_string(what), "before",
					before ? kmtls_json_string(before) : json_null(), "after",
					after ? kmtls_json_string(after) : json_null()));
}

static const char *mode_name(__u32 mode, char *buffer)
{
	static const char *const names[] = { "unset", "off", "permissive", "strict" };

	if (mode == KMTLS_MESH_NONE)
		return NULL;
	if (mode <= KMTLS_MODE_STRICT)
		return names[mode];
	snprintf(buffer, 32, "unknown-%u (strict)", mode);
	return buffer;
}

static void put_mode(struct apply *apply, const struct kmtls_mode_step *step)
{
	const char *direction = step->key.direction == KMTLS_INBOUND	? "inbound"
				: step->key.direction == KMTLS_OUTBOUND ? "outbound"
									: "unknown direction";
	char name[KMTLS_SPIFFE_ID_MAX + 1], what[KMTLS_SPIFFE_ID_MAX + 128], old[32], new[32];

	if (step->key.id)
		name_of(apply, step->key.id, name);
	switch (step->key.scope) {
	case KMTLS_SCOPE_MESH:
		snprintf(what, sizeof(what), "mode mesh %s", direction);
		break;
	case KMTLS_SCOPE_NAMESPACE:
		snprintf(what, sizeof(what), "mode namespace %s %s", name, direction);
		break;
	case KMTLS_SCOPE_POD:
		snprintf(what, sizeof(what), "mode pod %s %s", name, direction);
		break;
	case KMTLS_SCOPE_PORT:
		snprintf(what, sizeof(what), "mode %s%s port %u %s", step->key.id ? "pod " : "",
			 step->key.id ? name : "every pod", step->key.port, direction);
		break;
	default:
		snprintf(what, sizeof(what), "mode of unknown scope %u %s", step->key.scope,
			 direction);
	}
	put_line(apply, what, mode_name(step->step.before, old), mode_name(step->step.after, new));
}

static const char *action_name(__u32 action, char *buffer)
{
	static const char *const names[] = { NULL, "allow", "deny", "dry-run" };

	if (action == KMTLS_MESH_NONE)
		return NULL;
	if (action && action <= KMTLS_AUTHORIZATION_DRY_RUN)
		return names[action];
	snprintf(buffer, 32, "unknown-%u (deny)", action);
	return buffer;
}

static const char *subject_of(struct apply *apply, __u8 kind, __u64 hash, char *buffer)
{
	char text[KMTLS_SPIFFE_ID_MAX + 1];

	if (kind == KMTLS_MATCH_ANY)
		return "any";
	return kmtls_subject_format(kind, hash, name_of(apply, hash, text), buffer,
				    KMTLS_SUBJECT_TEXT);
}

static void put_rule(struct apply *apply, const struct kmtls_authorization_step *step)
{
	char source[KMTLS_SUBJECT_TEXT], destination[KMTLS_SUBJECT_TEXT], old[32], new[32];
	char what[2 * KMTLS_SUBJECT_TEXT + 64], port[16] = "any";

	if (step->key.port)
		snprintf(port, sizeof(port), "%u", step->key.port);
	snprintf(what, sizeof(what), "authorization %s to %s port %s",
		 subject_of(apply, step->key.source_kind, step->key.source, source),
		 subject_of(apply, step->key.destination_kind, step->key.destination, destination),
		 port);
	put_line(apply, what, action_name(step->step.before, old),
		 action_name(step->step.after, new));
}

static const char *peer_text(struct apply *apply, const struct kmtls_peer_value *value,
			     char *buffer, size_t size)
{
	char id[KMTLS_SPIFFE_ID_MAX + 1];
	int at;

	if (value->kind == KMTLS_PEER_BYPASS) {
		at = snprintf(buffer, size, "bypass%s", value->port_count ? "" : " all");
		for (unsigned i = 0; i < value->port_count && i < KMTLS_BYPASS_PORTS; i++)
			at += snprintf(buffer + at, size - (size_t)at, " %u", value->ports[i]);
	} else if (value->kind == KMTLS_PEER_MESH) {
		snprintf(buffer, size, "%s %s", kmtls_match_name(value->match),
			 name_of(apply, value->identity, id));
	} else {
		snprintf(buffer, size, "unknown kind %u", value->kind);
	}
	return buffer;
}

static void put_peer(struct apply *apply, enum kmtls_peer_action action,
		     const struct kmtls_peer_step *step)
{
	char prefix[KMTLS_ENDPOINT_TEXT], what[KMTLS_ENDPOINT_TEXT + 8];
	char old[KMTLS_SPIFFE_ID_MAX + 64], new[KMTLS_SPIFFE_ID_MAX + 64];

	snprintf(what, sizeof(what), "peer %s",
		 kmtls_prefix_format(&step->key, prefix, sizeof(prefix)));
	put_line(apply, what,
		 action == KMTLS_PEER_ADD ? NULL
					  : peer_text(apply, &step->before, old, sizeof(old)),
		 action == KMTLS_PEER_DELETE ? NULL
					     : peer_text(apply, &step->after, new, sizeof(new)));
}

static const char *default_name(__u32 value, char *buffer)
{
	switch (value) {
	case KMTLS_AUTHORIZATION_DEFAULT_UNSET:
		return "unset (allow)";
	case KMTLS_AUTHORIZATION_DEFAULT_ALLOW:
		return "allow";
	case KMTLS_AUTHORIZATION_DEFAULT_DENY:
		return "deny";
	}
	snprintf(buffer, 32, "unknown-%u (deny)", value);
	return buffer;
}

static void collect_changes(struct apply *apply)
{
	const struct kmtls_mesh_change *change = &apply->change;
	char old[32], new[32];

	for (size_t i = 0; i < change->plan.mode_count; i++)
		put_mode(apply, &change->plan.modes[i]);
	for (unsigned action = 0; action < KMTLS_PEER_ACTIONS; action++)
		for (size_t i = 0; i < change->peers.count[action]; i++)
			put_peer(apply, action,
				 &change->peers.steps[change->peers.first[action] + i]);
	for (size_t i = 0; i < change->plan.authorization_count; i++)
		put_rule(apply, &change->plan.authorizations[i]);
	if (change->default_before != change->default_after)
		put_line(apply, "authorization_default", default_name(change->default_before, old),
			 default_name(change->default_after, new));
}

/* ---- what is shown ---- */

/* Texts of the maps may have been chosen by whoever could write one. */
static void put_printable(const char *text)
{
	for (; *text; text++)
		putchar((unsigned char)*text < 0x20 || (unsigned char)*text >= 0x7f ? '?' : *text);
}

static void show_change(const json_t *change, bool coloured)
{
	static const enum kmtls_colour colours[] = { KMTLS_GREEN, KMTLS_RED, KMTLS_YELLOW };
	const char *before = json_string_value(json_object_get(change, "before"));
	const char *after = json_string_value(json_object_get(change, "after"));
	enum sign sign = !before ? ADDED : !after ? DELETED : CHANGED;
	const char *code = coloured ? kmtls_table_code(colours[sign]) : "";

	printf("%s%s ", code, signs[sign]);
	put_printable(json_string_value(json_object_get(change, "what")) ?: "");
	fputs(": ", stdout);
	put_printable(before ?: after ?: "");
	if (sign == CHANGED) {
		fputs(" -> ", stdout);
		put_printable(after);
	}
	puts(*code ? "\033[0m" : "");
}

static void show(const struct kmtls_cli *cli, const struct apply *apply, bool written)
{
	__cleanup_json json_t *result = NULL;
	const json_t *change;
	size_t i;

	if (cli->json) {
		result = json_pack("{s:I, s:I, s:I, s:b, s:O}", "added",
				   (json_int_t)apply->count[ADDED], "changed",
				   (json_int_t)apply->count[CHANGED], "deleted",
				   (json_int_t)apply->count[DELETED], "written", (int)written,
				   "changes", apply->changes);
		kmtls_client_print(result);
		return;
	}
	if (!json_array_size(apply->changes)) {
		puts("no changes");
		return;
	}
	if (!apply->dry_run)
		json_array_foreach (apply->changes, i, change)
			show_change(change, kmtls_table_is_coloured());
	printf("%zu added, %zu changed, %zu deleted%s\n", apply->count[ADDED],
	       apply->count[CHANGED], apply->count[DELETED],
	       written ? "" : " (nothing was written)");
}

/* ---- the verb ---- */

static int run(struct kmtls_cli *cli, struct apply *apply)
{
	char why[KMTLS_PEER_MAPS_WHY] = "out of memory";
	bool written = false;
	int err = kmtls_mesh_maps_read(&apply->maps, &apply->state, why);

	if (!err)
		err = kmtls_mesh_change_make(&apply->state, &apply->file, apply->prune,
					     &apply->change);
	if (!err) {
		collect_changes(apply);
		written = !apply->diff && !apply->dry_run &&
			  !kmtls_mesh_change_is_empty(&apply->change);
	}
	if (!err && written)
		err = kmtls_mesh_maps_apply(&apply->maps, &apply->state, &apply->file,
					    &apply->change, why);
	if (err) {
		kmtls_cli_error(cli, "%s", why);
		return KMTLS_EXIT_REFUSED;
	}
	show(cli, apply, written);
	return KMTLS_EXIT_OK;
}

int kmtls_cmd_apply(struct kmtls_cli *cli, int argc, char **argv)
{
	struct apply apply = { .changes = json_array() };
	__cleanup_json json_t *status = NULL;
	char why[KMTLS_PEER_MAPS_WHY];
	const char *directory = NULL;
	const struct kmtls_option options[] = {
		{ .name = "-f", .values = &apply.path, .limit = 1 },
		{ .name = "--diff", .flag = &apply.diff },
		{ .name = "--dry-run", .flag = &apply.dry_run },
		{ .name = "--prune", .flag = &apply.prune },
		{ .name = "--bpf-dir", .values = &directory, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);

	if (!err && !apply.path)
		err = kmtls_cli_usage(cli, "-f FILE: is missing");
	if (!err)
		err = read_file(cli, &apply);
	if (!err)
		err = kmtls_client_directory(cli, &directory, &status);
	if (!err && kmtls_mesh_maps_open(directory, &apply.maps, why)) {
		kmtls_cli_error(cli, "%s", why);
		err = KMTLS_EXIT_REFUSED;
	} else if (!err) {
		err = run(cli, &apply);
		kmtls_mesh_maps_close(&apply.maps);
	}
	kmtls_mesh_change_free(&apply.change);
	kmtls_mesh_state_free(&apply.state);
	kmtls_mesh_file_free(&apply.file);
	json_decref(apply.changes);
	return err;
}
