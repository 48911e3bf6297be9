/* SPDX-License-Identifier: Apache-2.0 */
/* modes_dump.c - see modes_dump.h. Numbers as they are: this is for who asks what is really there. */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "json.h"
#include "kmtls/abi.h"
#include "map_walk.h"
#include "modes_dump.h"

struct walk {
	json_t *list;
	int names_fd;
};

static int put_mode(void *context, const void *key_, const void *value_)
{
	const struct kmtls_mode_value *value = value_;
	const struct kmtls_mode_key *key = key_;
	struct kmtls_name_value name = { .length = 0 };
	struct walk *walk = context;
	char id[24];

	if (key->id && walk->names_fd >= 0)
		bpf_map_lookup_elem(walk->names_fd, &key->id, &name);
	name.text[sizeof(name.text) - 1] = '\0';
	snprintf(id, sizeof(id), "%016llx", (unsigned long long)key->id);
	return json_array_append_new(
		       walk->list, json_pack("{s:s, s:o, s:i, s:i, s:i, s:I}", "id", id, "name",
					     kmtls_json_string(name.text), "scope", (int)key->scope,
					     "direction", (int)key->direction, "port",
					     (int)key->port, "mode", (json_int_t)value->mode))
		       ? -ENOMEM
		       : 0;
}

static int open_map(const char *directory, const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return bpf_obj_get(path);
}

json_t *kmtls_modes_dump(const char *bpf_dir)
{
	struct walk walk = { .list = json_array(), .names_fd = open_map(bpf_dir, "names") };
	__cleanup_fd int fd = open_map(bpf_dir, "modes");
	int err = fd < 0 ? -errno : kmtls_map_walk(fd, put_mode, &walk);

	if (walk.names_fd >= 0)
		close(walk.names_fd);
	if (!err)
		return walk.list;
	json_decref(walk.list);
	return json_pack("{s:s}", "error", strerror(-err));
}
