/* SPDX-License-Identifier: Apache-2.0 */
/* policy.c - see policy.h. */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>

#include "address.h"
#include "bpf_loader.h"
#include "cleanup.h"
#include "config.h"
#include "counters.h"
#include "hash.h"
#include "log.h"
#include "match.h"
#include "names_collect.h"
#include "pods.h"
#include "policy.h"
#include "settings_map.h"

int kmtls_policy_map_refused(int error)
{
	if (error != E2BIG && error != ENOSPC)
		return -error;
	kmtls_counters_add(KMTLS_REASON_MAP_FULL);
	return -ENOSPC;
}

int kmtls_policy_name_put(struct kmtls_bpf *bpf, const char *text, __u64 *ret_hash)
{
	struct kmtls_name_value value = {}, found;
	__u64 hash = kmtls_hash_text(text);
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_NAMES);

	value.length = strlen(text);
	if (value.length > KMTLS_SPIFFE_ID_MAX)
		return -EINVAL;
	memcpy(value.text, text, value.length);
	if (bpf_map_update_elem(fd, &hash, &value, BPF_NOEXIST) < 0) {
		if (errno != EEXIST)
			return kmtls_policy_map_refused(errno);
		if (bpf_map_lookup_elem(fd, &hash, &found) < 0)
			return -errno;
		if (memcmp(&found, &value, sizeof(value)) != 0)
			return -EEXIST;
	}
	*ret_hash = hash;
	return 0;
}

void kmtls_policy_name_why(const char *what, int err, char *ret_why)
{
	snprintf(ret_why, KMTLS_WHY, "the names map refused the %s: %s", what,
		 err == -EEXIST	  ? "its hash names another text"
		 : err == -ENOSPC ? "it is full"
				  : strerror(-err));
}

/* `kmtls peer load` holds it while texts are written whose references follow later. */
static int lock_maps(struct kmtls_bpf *bpf)
{
	char path[PATH_MAX];
	__cleanup_fd int fd = -1;

	snprintf(path, sizeof(path), "%s/internal", kmtls_bpf_directory(bpf));
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0 || flock(fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return kmtls_take_fd(fd);
}

bool kmtls_policy_names_collect(struct kmtls_bpf *bpf)
{
	__cleanup_fd int lock = lock_maps(bpf);
	size_t removed = 0;
	int err = lock < 0 ? lock : 0;

	if (!err)
		err = kmtls_names_collect(kmtls_bpf_directory(bpf), NULL, 0, NULL, 0, &removed);
	if (err)
		log_warning("names map not cleared", "err=%s",
			    kmtls_log_quote(err == -EWOULDBLOCK ? "a load of peers is under way"
								: strerror(-err)));
	else
		log_info("names map was full: unused texts removed", "removed=%zu", removed);
	return !err && removed;
}

int kmtls_policy_name_get(struct kmtls_bpf *bpf, __u64 hash, char *ret_text)
{
	struct kmtls_name_value value;

	if (bpf_map_lookup_elem(kmtls_bpf_map(bpf, KMTLS_MAP_NAMES), &hash, &value) < 0)
		return -errno;
	/* Anyone may have written it: trust neither length nor text. */
	if (value.length > KMTLS_SPIFFE_ID_MAX || memchr(value.text, '\0', value.length) ||
	    value.text[value.length])
		return -EINVAL;
	if (kmtls_hash_text(value.text) != hash)
		return -EINVAL;
	memcpy(ret_text, value.text, value.length + 1);
	return 0;
}

int kmtls_policy_bump_generation(struct kmtls_bpf *bpf)
{
	return kmtls_settings_map_bump(kmtls_bpf_map(bpf, KMTLS_MAP_SETTINGS));
}

int kmtls_policy_generation(struct kmtls_bpf *bpf, __u64 *ret_generation)
{
	struct kmtls_settings settings;
	__u32 key = 0;

	if (bpf_map_lookup_elem(kmtls_bpf_map(bpf, KMTLS_MAP_SETTINGS), &key, &settings) < 0)
		return -errno;
	*ret_generation = settings.generation;
	return 0;
}

/* ---- peers ---- */

static int peer_put(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
		    const struct kmtls_peer_value *value, char *ret_why)
{
	int err = 0;

	if (bpf_map_update_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PEERS), key, value, BPF_ANY) < 0) {
		err = kmtls_policy_map_refused(errno);
		snprintf(ret_why, KMTLS_WHY, "the peers map refused the entry: %s",
			 err == -ENOSPC ? "it is full" : strerror(-err));
		return err;
	}
	return kmtls_policy_bump_generation(bpf);
}

int kmtls_policy_peer_add_mesh(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
			       enum kmtls_match match, const char *text, char *ret_why)
{
	struct kmtls_peer_value value = { .kind = KMTLS_PEER_MESH, .match = match };
	const char *rule;
	int err;

	if (kmtls_match_check(match, text, strlen(text), &rule) < 0) {
		snprintf(ret_why, KMTLS_WHY, "id: not a SPIFFE ID: %s", rule);
		return -EINVAL;
	}
	err = kmtls_policy_name_put(bpf, text, &value.identity);
	if (err == -ENOSPC && kmtls_policy_names_collect(bpf))
		err = kmtls_policy_name_put(bpf, text, &value.identity);
	if (err) {
		kmtls_policy_name_why("identity", err, ret_why);
		return err;
	}
	err = peer_put(bpf, key, &value, ret_why);
	/* Again: it may have been collected before there was a reference. */
	return err ? err : kmtls_policy_name_put(bpf, text, &value.identity);
}

int kmtls_policy_peer_add_bypass(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key,
				 const __u16 *ports, unsigned count, char *ret_why)
{
	struct kmtls_peer_value value = { .kind = KMTLS_PEER_BYPASS };

	if (count > KMTLS_BYPASS_PORTS) {
		snprintf(ret_why, KMTLS_WHY, "ports: at most %d may be named", KMTLS_BYPASS_PORTS);
		return -EINVAL;
	}
	for (unsigned i = 0; i < count; i++) {
		if (!ports[i]) {
			snprintf(ret_why, KMTLS_WHY, "ports: must be between 1 and 65535");
			return -EINVAL;
		}
		value.ports[i] = ports[i];
	}
	value.port_count = count;
	return peer_put(bpf, key, &value, ret_why);
}

int kmtls_policy_peer_delete(struct kmtls_bpf *bpf, const struct kmtls_peer_key *key, char *ret_why)
{
	char text[KMTLS_ENDPOINT_TEXT];

	if (bpf_map_delete_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PEERS), key) < 0) {
		int err = -errno;

		snprintf(ret_why, KMTLS_WHY, "%s: %s", kmtls_prefix_format(key, text, sizeof(text)),
			 err == -ENOENT ? "no such prefix in the peers map" : strerror(-err));
		return err;
	}
	return kmtls_policy_bump_generation(bpf);
}

int kmtls_policy_peer_visit(struct kmtls_bpf *bpf,
			    int (*visit)(void *context, const struct kmtls_peer_info *info),
			    void *context)
{
	int fd = kmtls_bpf_map(bpf, KMTLS_MAP_PEERS);
	char id[KMTLS_SPIFFE_ID_MAX + 1];
	struct kmtls_peer_key key, *previous = NULL;
	struct kmtls_peer_info info;
	int err;

	while (bpf_map_get_next_key(fd, previous, &key) == 0) {
		previous = &info.key;
		info.key = key;
		if (bpf_map_lookup_elem(fd, &key, &info.value) < 0)
			continue; /* gone in the meantime */
		id[0] = '\0';
		if (info.value.kind == KMTLS_PEER_MESH &&
		    kmtls_policy_name_get(bpf, info.value.identity, id) < 0)
			id[0] = '\0';
		info.id = id;
		err = visit(context, &info);
		if (err)
			return err;
	}
	return 0;
}

int kmtls_policy_peer_lookup(struct kmtls_bpf *bpf, const struct kmtls_address *address,
			     struct kmtls_peer_value *ret_value)
{
	struct kmtls_peer_key key = { .prefix_len = 128, .address = *address };

	return bpf_map_lookup_elem(kmtls_bpf_map(bpf, KMTLS_MAP_PEERS), &key, ret_value) < 0
		       ? -errno
		       : 0;
}

__u64 kmtls_policy_counter(struct kmtls_bpf *bpf, enum kmtls_reason reason)
{
	return kmtls_counters_read(bpf, reason);
}
