/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bpf_loader.c - see bpf_loader.h. Every object declares every map; libbpf finds the pinned
 * one by path, so the objects share them and a restarted daemon gets those of the old one.
 */
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <string.h>
#include <linux/limits.h>
#include <stdbool.h>
#include <sys/stat.h>

#include "bpf_links.h"
#include "bpf_loader.h"
#include "cleanup.h"
#include "config.h"
#include "kmtls/abi.h"
#include "link_names.h"
#include "log.h"
#include "pods.h"

#include "accel.skel.h"
#include "backstop.skel.h"
#include "bind.skel.h"
#include "connect.skel.h"
#include "hold.skel.h"
#include "reset.skel.h"
#include "sk_lookup.skel.h"
#include "sockops.skel.h"
#include "udp.skel.h"

static const struct {
	const char *name;
	const char *subdirectory;
} map_places[KMTLS_MAP_NUMBER] = {
	[KMTLS_MAP_SETTINGS] = { "settings", "" },
	[KMTLS_MAP_MODES] = { "modes", "" },
	[KMTLS_MAP_PEERS] = { "peers", "" },
	[KMTLS_MAP_AUTHORIZATIONS] = { "authorizations", "" },
	[KMTLS_MAP_NAMES] = { "names", "" },
	[KMTLS_MAP_PODS] = { "pods", "" },
	[KMTLS_MAP_FLOWS] = { "flows", "" },
	[KMTLS_MAP_COUNTERS] = { "counters", "" },
	[KMTLS_MAP_UDP_LEDGER] = { "udp_ledger", "" },
	[KMTLS_MAP_UDP_TOTALS] = { "udp_totals", "" },
	[KMTLS_MAP_PEER_EXPIRIES] = { "peer_expiries", "" },
	[KMTLS_MAP_SOCKETS] = { "sockets", "internal/" },
	[KMTLS_MAP_DIALS] = { "dials", "internal/" },
	[KMTLS_MAP_CALLERS] = { "callers", "internal/" },
	[KMTLS_MAP_VERDICTS] = { "verdicts", "internal/" },
	[KMTLS_MAP_TURNED_NAMES] = { "turned_names", "internal/" },
	[KMTLS_MAP_EVENTS] = { "events", "internal/" },
	[KMTLS_MAP_DENIALS] = { "denials", "internal/" },
	[KMTLS_MAP_LISTENERS] = { "listeners", "internal/" },
	[KMTLS_MAP_OWN_ADDRESSES] = { "own_addresses", "internal/" },
	[KMTLS_MAP_ACCEPTORS] = { "acceptors", "internal/" },
	[KMTLS_MAP_ACCEL_APPLICATIONS] = { "accel_applications", "internal/" },
	[KMTLS_MAP_ACCEL_DAEMONS] = { "accel_daemons", "internal/" },
	[KMTLS_MAP_ACCEL_LEGS] = { "accel_legs", "internal/" },
	[KMTLS_MAP_ACCEL_PEERS] = { "accel_peers", "internal/" },
};

struct kmtls_bpf {
	char *directory;
	unsigned max_entries[KMTLS_MAP_NUMBER]; /* 0: as it is declared */
	struct connect_bpf *connect;
	struct sockops_bpf *sockops;
	struct hold_bpf *hold;
	struct bind_bpf *bind;
	struct reset_bpf *reset;
	struct accel_bpf *accel; /* NULL: this kernel does not take it */
	int maps[KMTLS_MAP_NUMBER]; /* descriptors of connect's maps */
};

static int print_libbpf(enum libbpf_print_level level, const char *format, va_list arguments)
{
	char line[1024];
	size_t length;

	if (level == LIBBPF_DEBUG)
		return 0;
	vsnprintf(line, sizeof(line), format, arguments);
	length = strlen(line);
	while (length && line[length - 1] == '\n')
		line[--length] = '\0';
	/* libbpf warns about things we probe for; what matters comes back as an error. */
	log_debug("libbpf", "text=%s", kmtls_log_quote(line));
	return 0;
}

static void map_path(const char *directory, enum kmtls_map map, char *ret_path, size_t size)
{
	snprintf(ret_path, size, "%s/%s%s", directory, map_places[map].subdirectory,
		 map_places[map].name);
}

static int make_directories(const char *directory, char *ret_why)
{
	static const char *const below[] = { "", "/internal", "/links" };
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(below) / sizeof(below[0]); i++) {
		snprintf(path, sizeof(path), "%s%s", directory, below[i]);
		if (mkdir(path, 0700) < 0 && errno != EEXIST) {
			int err = -errno;

			snprintf(ret_why, KMTLS_WHY, "%s: cannot be made: %s (is bpffs mounted?)",
				 path, strerror(-err));
			return err;
		}
	}
	return 0;
}

/* Before anything is touched: do the pinned maps speak our version? */
static int check_version(const char *directory, char *ret_why)
{
	struct kmtls_settings settings;
	char path[PATH_MAX];
	__u32 zero = 0;
	__cleanup_fd int fd = -1;

	map_path(directory, KMTLS_MAP_SETTINGS, path, sizeof(path));
	fd = bpf_obj_get(path);
	if (fd < 0)
		return 0;
	if (bpf_map_lookup_elem(fd, &zero, &settings) == 0 &&
	    (settings.abi_version == KMTLS_ABI_VERSION || settings.abi_version == 0))
		return 0;
	snprintf(ret_why, KMTLS_WHY,
		 "%s: maps of another version are pinned here (this one is %u): run the old "
		 "version, or kmtlsd --uninstall first",
		 path, KMTLS_ABI_VERSION);
	return -EPROTO;
}

unsigned kmtls_bpf_pinned_entries(const char *directory, enum kmtls_map map)
{
	struct bpf_map_info info = {};
	__u32 length = sizeof(info);
	char path[PATH_MAX];
	__cleanup_fd int fd = -1;

	map_path(directory, map, path, sizeof(path));
	fd = bpf_obj_get(path);
	return fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &length) == 0 ? info.max_entries : 0;
}

/* A table of another size than is configured is replaced: nobody uses it (none of its flows is
 * alive), or the keeper would have adjusted the configuration. */
static void drop_resized(const struct kmtls_bpf *bpf)
{
	char path[PATH_MAX];

	for (int i = 0; i < KMTLS_MAP_NUMBER; i++) {
		if (!bpf->max_entries[i] ||
		    kmtls_bpf_pinned_entries(bpf->directory, i) == bpf->max_entries[i])
			continue;
		map_path(bpf->directory, i, path, sizeof(path));
		unlink(path);
	}
}

/* Sets the pin path of each map that has a place; others (.rodata) stay private. */
static int place_maps(struct bpf_object *object, const struct kmtls_bpf *bpf)
{
	char path[PATH_MAX];
	struct bpf_map *map;
	int err;

	for (int i = 0; i < KMTLS_MAP_NUMBER; i++) {
		map = bpf_object__find_map_by_name(object, map_places[i].name);
		if (!map)
			return -ENOENT;
		map_path(bpf->directory, i, path, sizeof(path));
		err = bpf_map__set_pin_path(map, path);
		if (!err && bpf->max_entries[i])
			err = bpf_map__set_max_entries(map, bpf->max_entries[i]);
		if (err)
			return err;
	}
	return 0;
}

static int load(struct bpf_object *object, struct kmtls_bpf *bpf, const char *name, char *ret_why)
{
	int err = place_maps(object, bpf);

	if (!err)
		err = bpf_object__load(object);
	if (err)
		snprintf(ret_why, KMTLS_WHY, "the BPF object %s cannot be loaded: %s%s", name,
			 strerror(-err),
			 err == -EPERM ? " (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON are needed)"
				       : "");
	return err;
}

static int stamp_version(struct kmtls_bpf *bpf)
{
	int fd = bpf->maps[KMTLS_MAP_SETTINGS];
	struct kmtls_settings settings;
	__u32 zero = 0;

	if (bpf_map_lookup_elem(fd, &zero, &settings) < 0)
		return -errno;
	if (settings.abi_version)
		return 0; /* checked already; not ours to write while another daemon may run */
	settings.abi_version = KMTLS_ABI_VERSION;
	return bpf_map_update_elem(fd, &zero, &settings, BPF_ANY) < 0 ? -errno : 0;
}

int kmtls_bpf_attach_daemon(struct kmtls_bpf *bpf, int cgroup_fd, char *ret_why)
{
	char path[PATH_MAX];
	int err;

	snprintf(path, sizeof(path), "%s/links/daemon_reset", bpf->directory);
	err = kmtls_bpf_link_cgroup(bpf->reset->progs.stray_reset_daemon, cgroup_fd, path, ret_why);
	if (err)
		return err;
	snprintf(path, sizeof(path), "%s/links/daemon", bpf->directory);
	return kmtls_bpf_link_cgroup(bpf->sockops->progs.sockops_daemon, cgroup_fd, path, ret_why);
}

static int attach_accel(struct accel_bpf *accel, const struct kmtls_bpf *bpf)
{
	const struct {
		struct bpf_program *program;
		enum kmtls_map map;
	} programs[] = {
		{ accel->progs.from_application, KMTLS_MAP_ACCEL_APPLICATIONS },
		{ accel->progs.from_daemon, KMTLS_MAP_ACCEL_DAEMONS },
	};

	for (size_t i = 0; i < sizeof(programs) / sizeof(programs[0]); i++)
		if (bpf_prog_attach(bpf_program__fd(programs[i].program),
				    bpf->maps[programs[i].map], BPF_SK_MSG_VERDICT, 0) < 0)
			return -errno;
	return 0;
}

int kmtls_bpf_open_accel(struct kmtls_bpf *bpf, char *ret_why)
{
	struct accel_bpf *accel = accel_bpf__open();
	int err;

	snprintf(ret_why, KMTLS_WHY, "out of memory");
	if (!accel)
		return -ENOMEM;
	err = load(accel->obj, bpf, "accel", ret_why);
	if (!err) {
		err = attach_accel(accel, bpf);
		if (err)
			snprintf(ret_why, KMTLS_WHY, "sk_msg programs cannot be attached: %s",
				 strerror(-err));
	}
	if (err)
		accel_bpf__destroy(accel);
	else
		bpf->accel = accel;
	return err;
}

int kmtls_bpf_open(const struct kmtls_config *config, struct kmtls_bpf **ret_bpf, char *ret_why)
{
	struct kmtls_bpf *bpf;
	int err;

	libbpf_set_print(print_libbpf);
	err = check_version(config->bpf_dir, ret_why);
	if (!err)
		err = make_directories(config->bpf_dir, ret_why);
	if (err)
		return err;

	snprintf(ret_why, KMTLS_WHY, "out of memory");
	bpf = calloc(1, sizeof(*bpf));
	if (!bpf)
		return -ENOMEM;
	bpf->max_entries[KMTLS_MAP_FLOWS] = config->max_flows;
	bpf->max_entries[KMTLS_MAP_UDP_LEDGER] = config->max_udp_peers;
	bpf->directory = strdup(config->bpf_dir);
	bpf->connect = connect_bpf__open();
	bpf->sockops = sockops_bpf__open();
	bpf->hold = hold_bpf__open();
	bpf->bind = bind_bpf__open();
	bpf->reset = reset_bpf__open();
	err = -ENOMEM;
	if (!bpf->directory || !bpf->connect || !bpf->sockops || !bpf->hold || !bpf->bind ||
	    !bpf->reset)
		goto fail;
	drop_resized(bpf);
	err = load(bpf->connect->obj, bpf, "connect", ret_why);
	if (!err)
		err = load(bpf->sockops->obj, bpf, "sockops", ret_why);
	if (!err)
		err = load(bpf->hold->obj, bpf, "hold", ret_why);
	if (!err)
		err = load(bpf->bind->obj, bpf, "bind", ret_why);
	if (!err)
		err = load(bpf->reset->obj, bpf, "reset", ret_why);
	if (err)
		goto fail;
	for (int i = 0; i < KMTLS_MAP_NUMBER; i++)
		bpf->maps[i] =
			bpf_object__find_map_fd_by_name(bpf->connect->obj, map_places[i].name);
	err = stamp_version(bpf);
	if (err)
		goto fail;
	*ret_bpf = bpf;
	return 0;
fail:
	kmtls_bpf_close(bpf);
	return err;
}

void kmtls_bpf_close(struct kmtls_bpf *bpf)
{
	if (!bpf)
		return;
	accel_bpf__destroy(bpf->accel);
	reset_bpf__destroy(bpf->reset);
	bind_bpf__destroy(bpf->bind);
	hold_bpf__destroy(bpf->hold);
	sockops_bpf__destroy(bpf->sockops);
	connect_bpf__destroy(bpf->connect);
	free(bpf->directory);
	free(bpf);
}

const char *kmtls_bpf_directory(const struct kmtls_bpf *bpf)
{
	return bpf->directory;
}

int kmtls_bpf_map(const struct kmtls_bpf *bpf, enum kmtls_map map)
{
	return bpf->maps[map];
}

/* ---- one pod ---- */

static void pod_directory(const struct kmtls_bpf *bpf, __u64 name_hash, char *ret_path, size_t size)
{
	/* A hash: bpffs refuses names with a dot. */
	snprintf(ret_path, size, "%s/links/%016llx", bpf->directory, (unsigned long long)name_hash);
}

/* One instance per pod: the namespace's cookie is a constant of the program. */
static int attach_lookup(struct kmtls_bpf *bpf, const char *directory, int netns_fd,
			 __u64 netns_cookie, char *ret_why)
{
	struct sk_lookup_bpf *lookup = sk_lookup_bpf__open();
	char path[PATH_MAX];
	int err;

	if (!lookup)
		return -ENOMEM;
	lookup->rodata->own_netns = netns_cookie;
	err = load(lookup->obj, bpf, "sk_lookup", ret_why);
	if (!err) {
		snprintf(path, sizeof(path), "%s/sk_lookup", directory);
		err = kmtls_bpf_link_netns(lookup->progs.steer, netns_fd, path, ret_why);
	}
	sk_lookup_bpf__destroy(lookup); /* the pinned link keeps the program */
	return err;
}

/* Likewise. Links to the cgroup, beside all others there. */
static int attach_ledger(struct kmtls_bpf *bpf, const char *directory, int cgroup_fd,
			 __u64 netns_cookie, char *ret_why)
{
	struct udp_bpf *udp = udp_bpf__open();
	char path[PATH_MAX];
	int err;

	if (!udp)
		return -ENOMEM;
	udp->rodata->own_netns = netns_cookie;
	err = load(udp->obj, bpf, "udp", ret_why);
	if (!err) {
		snprintf(path, sizeof(path), "%s/udp_sent", directory);
		err = kmtls_bpf_link_cgroup(udp->progs.udp_sent, cgroup_fd, path, ret_why);
	}
	if (!err) {
		snprintf(path, sizeof(path), "%s/udp_received", directory);
		err = kmtls_bpf_link_cgroup(udp->progs.udp_received, cgroup_fd, path, ret_why);
	}
	udp_bpf__destroy(udp);
	return err;
}

/* Likewise. */
static int attach_backstop(struct kmtls_bpf *bpf, const char *directory, int cgroup_fd,
			   __u64 netns_cookie, char *ret_why)
{
	struct backstop_bpf *backstop = backstop_bpf__open();
	char path[PATH_MAX];
	int err;

	if (!backstop)
		return -ENOMEM;
	backstop->rodata->own_netns = netns_cookie;
	err = load(backstop->obj, bpf, "backstop", ret_why);
	if (!err) {
		snprintf(path, sizeof(path), "%s/backstop", directory);
		err = kmtls_bpf_link_cgroup(backstop->progs.backstop, cgroup_fd, path, ret_why);
	}
	backstop_bpf__destroy(backstop);
	return err;
}

int kmtls_bpf_attach_pod(struct kmtls_bpf *bpf, __u64 name_hash, int cgroup_fd, int netns_fd,
			 __u64 netns_cookie, char *ret_why)
{
	/* connect last: nothing is turned before all else is there. */
	const struct {
		const char *name;
		struct bpf_program *program;
	} cgroup_programs[] = {
		{ "bind4", bpf->bind->progs.bind4 },
		{ "bind6", bpf->bind->progs.bind6 },
		{ "sockops", bpf->sockops->progs.sockops_pod },
		{ "reset", bpf->reset->progs.stray_reset },
		{ "hold", bpf->hold->progs.hold_syn },
		{ "getpeername4", bpf->connect->progs.getpeername4 },
		{ "getpeername6", bpf->connect->progs.getpeername6 },
		{ "getsockname4", bpf->connect->progs.getsockname4 },
		{ "getsockname6", bpf->connect->progs.getsockname6 },
		{ "connect4", bpf->connect->progs.connect4 },
		{ "connect6", bpf->connect->progs.connect6 },
	};
	_Static_assert(sizeof(cgroup_programs) / sizeof(cgroup_programs[0]) ==
			       KMTLS_POD_SHARED_LINK_COUNT,
		       "KMTLS_POD_SHARED_LINKS in link_names.h names each of them");
	char directory[PATH_MAX - 32], path[PATH_MAX];
	bool adopted;
	int err;

	pod_directory(bpf, name_hash, directory, sizeof(directory));
	adopted = mkdir(directory, 0700) < 0 && errno == EEXIST;
	err = attach_lookup(bpf, directory, netns_fd, netns_cookie, ret_why);
	if (!err)
		err = attach_ledger(bpf, directory, cgroup_fd, netns_cookie, ret_why);
	for (size_t i = 0; !err && i < sizeof(cgroup_programs) / sizeof(cgroup_programs[0]); i++) {
		snprintf(path, sizeof(path), "%s/%s", directory, cgroup_programs[i].name);
		err = kmtls_bpf_link_cgroup(cgroup_programs[i].program, cgroup_fd, path, ret_why);
	}
	/* Last: it would drop what the others do not know of yet. */
	if (!err)
		err = attach_backstop(bpf, directory, cgroup_fd, netns_cookie, ret_why);
	/* What an earlier daemon attached stays on failure: refusing is safe. */
	if (err && !adopted)
		kmtls_bpf_detach_pod(bpf, name_hash);
	return err;
}

void kmtls_bpf_detach_pod(struct kmtls_bpf *bpf, __u64 name_hash)
{
	char directory[PATH_MAX];

	pod_directory(bpf, name_hash, directory, sizeof(directory));
	kmtls_bpf_links_remove(directory);
}

int kmtls_bpf_uninstall(const char *bpf_dir, char *ret_why)
{
	char links[PATH_MAX];
	struct stat status;

	if (stat(bpf_dir, &status) < 0 && errno == ENOENT)
		return 0;
	/* Attachments first: as long as one is there it needs its maps. */
	snprintf(links, sizeof(links), "%s/links", bpf_dir);
	kmtls_bpf_links_remove(links);
	kmtls_bpf_links_remove(bpf_dir);
	if (stat(bpf_dir, &status) == 0) {
		snprintf(ret_why, KMTLS_WHY, "%s: could not be removed", bpf_dir);
		return -EBUSY;
	}
	return 0;
}
