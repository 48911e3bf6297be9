/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check_links.c - `kmtls check`, the attachments: for the daemon's cgroup and for every pod in the
 * pods map the pinned links, and whether each still hangs where it must. A link whose cgroup or
 * namespace is gone stays pinned and hangs nowhere; one that someone else detached does, too.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "check.h"
#include "cleanup.h"
#include "hash.h"
#include "link_names.h"
#include "map_walk.h"

#define NAME(name) name,

static const char *const daemon_links[] = { KMTLS_DAEMON_LINKS(NAME) };
static const char *const cgroup_links[] = { KMTLS_POD_SHARED_LINKS(NAME)
						    KMTLS_POD_OWN_LINKS(NAME) };
#define DAEMON_LINKS (sizeof(daemon_links) / sizeof(daemon_links[0]))
#define CGROUP_LINKS (sizeof(cgroup_links) / sizeof(cgroup_links[0]))

struct walk {
	struct kmtls_check *check;
	int names_fd;
	unsigned pods;
};

/* An empty why: it is attached. cgroup: the one it must be on, 0: any that exists. netns: inode
 * number, likewise. */
static bool look(const char *path, bool on_netns, __u64 cgroup, ino_t netns, char *why, size_t size)
{
	struct bpf_link_info info = {};
	__u32 length = sizeof(info);
	__cleanup_fd int fd = bpf_obj_get(path);

	*why = '\0';
	if (fd < 0)
		snprintf(why, size, "%s: %s", path, strerror(errno));
	else if (bpf_obj_get_info_by_fd(fd, &info, &length) < 0)
		snprintf(why, size, "%s: no link: %s", path, strerror(errno));
	else if (info.type != (on_netns ? BPF_LINK_TYPE_NETNS : BPF_LINK_TYPE_CGROUP))
		snprintf(why, size, "%s: a link of another type (%u)", path, info.type);
	else if (on_netns ? !info.netns.netns_ino : !info.cgroup.cgroup_id)
		snprintf(why, size, "%s: is attached to nothing", path);
	else if (!on_netns && cgroup && info.cgroup.cgroup_id != cgroup)
		snprintf(why, size, "%s: is attached to another cgroup (%llu, not %llu)", path,
			 (unsigned long long)info.cgroup.cgroup_id, (unsigned long long)cgroup);
	else if (on_netns && netns && info.netns.netns_ino != netns)
		snprintf(why, size, "%s: is attached to another network namespace", path);
	return !*why;
}

static const json_t *find_pod(const struct kmtls_check *check, __u64 name)
{
	const json_t *pod;
	size_t i;

	json_array_foreach (check->pods, i, pod) {
		const char *text = json_string_value(json_object_get(pod, "name"));

		if (text && kmtls_hash_text(text) == name)
			return pod;
	}
	return NULL;
}

/* Inode number of the namespace the daemon enrolled; 0: nobody can tell. */
static ino_t netns_of(const json_t *pod)
{
	const char *path = json_string_value(json_object_get(pod, "netns"));
	struct stat status;

	return path && stat(path, &status) == 0 ? status.st_ino : 0;
}

static void name_pod(const struct walk *walk, __u64 hash, char *ret_name, size_t size)
{
	const json_t *pod = find_pod(walk->check, hash);
	struct kmtls_name_value name;

	if (pod)
		snprintf(ret_name, size, "%s", json_string_value(json_object_get(pod, "name")));
	else if (walk->names_fd >= 0 && bpf_map_lookup_elem(walk->names_fd, &hash, &name) == 0)
		snprintf(ret_name, size, "%.*s", KMTLS_SPIFFE_ID_MAX, name.text);
	else
		snprintf(ret_name, size, "%016llx", (unsigned long long)hash);
}

static int look_at_pod(void *context, const void *key, const void *value)
{
	const struct kmtls_pod_value *pod = value;
	struct walk *walk = context;
	struct kmtls_check *check = walk->check;
	ino_t netns = netns_of(find_pod(check, pod->name));
	char directory[4096 - 64], path[4096], why[4352], name[160];
	bool fine = true;

	walk->pods++;
	name_pod(walk, pod->name, name, sizeof(name));
	snprintf(directory, sizeof(directory), "%s/links/%016llx", check->bpf_dir,
		 (unsigned long long)pod->name);
	snprintf(path, sizeof(path), "%s/%s", directory, KMTLS_POD_NETNS_LINK);
	fine = look(path, true, 0, netns, why, sizeof(why));
	for (size_t i = 0; fine && i < CGROUP_LINKS; i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, cgroup_links[i]);
		fine = look(path, false, pod->cgroup, 0, why, sizeof(why));
	}
	if (fine)
		kmtls_check_add(check, KMTLS_CHECK_OK, "pod", NULL, "pod %s: all %zu are attached",
				name, CGROUP_LINKS + 1);
	else
		kmtls_check_add(
			check, KMTLS_CHECK_FAILED, "pod",
			"restart kmtlsd, or remove the pod and add it again: its traffic may "
			"leave in plaintext",
			"pod %s: %s", name, why);
	return 0;
}

static void look_at_daemon(struct kmtls_check *check)
{
	char path[4096], why[4352];

	for (size_t i = 0; i < DAEMON_LINKS; i++) {
		snprintf(path, sizeof(path), "%s/links/%s", check->bpf_dir, daemon_links[i]);
		if (look(path, false, 0, 0, why, sizeof(why)))
			continue;
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "daemon", "restart kmtlsd", "%s", why);
		return;
	}
	kmtls_check_add(check, KMTLS_CHECK_OK, "daemon", NULL, "the daemon's own %zu are attached",
			DAEMON_LINKS);
}

void kmtls_check_links(struct kmtls_check *check)
{
	struct walk walk = { .check = check, .names_fd = -1 };
	char path[4096];
	int fd, err;

	check->group = "programs";
	snprintf(path, sizeof(path), "%s/pods", check->bpf_dir);
	fd = bpf_obj_get(path);
	if (fd < 0) {
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "pods", "see maps",
				"enrolled pods cannot be told: %s: %s", path, strerror(errno));
		return;
	}
	snprintf(path, sizeof(path), "%s/names", check->bpf_dir);
	walk.names_fd = bpf_obj_get(path);
	look_at_daemon(check);
	err = kmtls_map_walk(fd, look_at_pod, &walk);
	if (err)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "pods", "ask again",
				"enrolled pods cannot be read: %s", strerror(-err));
	else if (check->pods && json_array_size(check->pods) != walk.pods)
		kmtls_check_add(check, KMTLS_CHECK_FAILED, "pods", "restart kmtlsd",
				"the daemon has %zu pods, the map pods has %u",
				json_array_size(check->pods), walk.pods);
	else if (!walk.pods)
		kmtls_check_add(check, KMTLS_CHECK_WARNING, "pods", "enrol one: kmtls pod add",
				"no pod is enrolled");
	close(fd);
	if (walk.names_fd >= 0)
		close(walk.names_fd);
}
