/* SPDX-License-Identifier: Apache-2.0 */
/* crl.c - see crl.h. */
#include "crl.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cleanup.h"
#include "clock.h"
#include "counters.h"
#include "daemon.h"
#include "hash.h"
#include "log.h"
#include "loop.h"
#include "pod.h"
#include "reason.h"
#include "revocation.h"
#include "svid.h"
#include "verify.h"

#define FILE_MAX (16 * 1024 * 1024)
/* Ticks until a CRL of a CA that is not known is tried again: the CA may come. */
#define UNKNOWN_PAUSE 20
static const char unknown_ca[] = "its CA is in no trust bundle";

/* One configured file. */
static struct file {
	struct stat seen; /* when it was read last */
	bool looked, settled; /* read at least once; not to be read again until it changes */
	bool rejected;
	unsigned pause; /* looks until it is read again although it has not changed */
	const char *said; /* why, in the log already */
	/* What is in use of it. */
	__u64 *hashes;
	size_t count;
	time_t since; /* the latest thisUpdate in it */
	time_t until; /* the earliest nextUpdate; 0: none */
	bool expired_said;
} files[KMTLS_CONFIG_CRL_FILES_MAX];

/* What a file would bring. */
struct load {
	struct kmtls_daemon *daemon;
	const struct file *file;
	__u64 *hashes;
	size_t count, room;
	time_t since, until;
	X509_CRL *crl; /* the one at hand */
	const char *rule; /* what is wrong with it */
	bool any_ca; /* there are bundles at all */
};

/* ---- who has signed it ---- */

static bool try_ca(struct load *load, X509 *ca)
{
	if (X509_NAME_cmp(X509_get_subject_name(ca), X509_CRL_get_issuer(load->crl)))
		return false;
	load->rule = kmtls_crl_rule(load->crl, ca, kmtls_clock_now());
	return !load->rule;
}

static bool add_revoked(struct load *load, X509 *ca)
{
	STACK_OF(X509_REVOKED) *revoked = X509_CRL_get_REVOKED(load->crl);
	int more = sk_X509_REVOKED_num(revoked);

	for (int i = 0; i < more; i++) {
		if (load->count == load->room) {
			size_t room = load->room ? 2 * load->room : 64;
			__u64 *hashes = realloc(load->hashes, room * sizeof(*hashes));

			if (!hashes)
				return false;
			load->hashes = hashes;
			load->room = room;
		}
		load->hashes[load->count++] = kmtls_revocation_hash(
			ca, X509_REVOKED_get0_serialNumber(sk_X509_REVOKED_value(revoked, i)));
	}
	return true;
}

/* 1: found, and taken. */
static int try_stack(struct load *load, STACK_OF(X509) * cas)
{
	for (int i = 0; i < sk_X509_num(cas); i++) {
		if (!try_ca(load, sk_X509_value(cas, i)))
			continue;
		if (!add_revoked(load, sk_X509_value(cas, i)))
			load->rule = "out of memory";
		return 1;
	}
	return 0;
}

static int try_pod(void *context, struct kmtls_pod *pod)
{
	struct kmtls_svid *svid = kmtls_pod_svid(pod);
	STACK_OF(X509) *chain = NULL;
	struct load *load = context;
	int found = 0;

	if (!svid)
		return 0;
	load->any_ca = true;
	for (unsigned i = 0; !found && i < svid->trust->count; i++)
		found = try_stack(load, svid->trust->bundles[i].roots);
	SSL_CTX_get0_chain_certs(svid->client, &chain);
	if (!found && chain)
		found = try_stack(load, chain);
	kmtls_svid_put(svid);
	return found;
}

/* NULL: it is taken. */
static const char *take_crl(struct load *load, X509_CRL *crl)
{
	time_t begin = 0, end = 0;

	load->crl = crl;
	load->rule = unknown_ca;
	if (!kmtls_pods_each(load->daemon->pods, try_pod, load) || load->rule)
		return load->rule;
	if (kmtls_verify_time(X509_CRL_get0_lastUpdate(crl), &begin) == 0 && begin > load->since)
		load->since = begin;
	if (X509_CRL_get0_nextUpdate(crl) &&
	    kmtls_verify_time(X509_CRL_get0_nextUpdate(crl), &end) == 0 &&
	    (!load->until || end < load->until))
		load->until = end;
	/* An expired one is better than none, and not better than the one before. */
	if (load->file->hashes && kmtls_crl_is_expired(crl, kmtls_clock_now()))
		return "has expired";
	return NULL;
}

static const char *take_bytes(struct load *load, const unsigned char *bytes, size_t length)
{
	STACK_OF(X509_CRL) *crls = kmtls_crl_parse(bytes, length);
	const char *rule = crls ? NULL : "is neither a CRL in DER nor CRLs in PEM";

	for (int i = 0; !rule && i < sk_X509_CRL_num(crls); i++)
		rule = take_crl(load, sk_X509_CRL_value(crls, i));
	sk_X509_CRL_pop_free(crls, X509_CRL_free);
	if (!rule && load->file->hashes && load->since < load->file->since)
		rule = "is older than the one in use";
	/* A list of nobody is one, too. */
	if (!rule && !load->hashes)
		load->hashes = calloc(1, sizeof(*load->hashes));
	return rule || load->hashes ? rule : "out of memory";
}

/* ---- files ---- */

static const char *read_file(const char *path, unsigned char **ret_bytes, size_t *ret_length)
{
	__cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	struct stat status;
	unsigned char *bytes;
	size_t length = 0;
	ssize_t got = 1;

	if (fd < 0 || fstat(fd, &status) < 0)
		return "cannot be opened";
	if (!S_ISREG(status.st_mode) || status.st_size > FILE_MAX)
		return "is not a regular file of at most 16 MiB";
	bytes = malloc((size_t)status.st_size + 1);
	if (!bytes)
		return "out of memory";
	while (got > 0 && length <= (size_t)status.st_size) {
		got = read(fd, bytes + length, (size_t)status.st_size + 1 - length);
		length += got > 0 ? (size_t)got : 0;
	}
	if (got < 0 || length != (size_t)status.st_size) {
		free(bytes);
		return "changed while it was read";
	}
	*ret_bytes = bytes;
	*ret_length = length;
	return NULL;
}

static void copy_path(const struct kmtls_daemon *daemon, const char *path, const char *suffix,
		      char *ret_path)
{
	snprintf(ret_path, PATH_MAX, "%s/crl-%016llx%s", daemon->config->run_dir,
		 kmtls_hash_text(path), suffix);
}

/* For the next worker, if the file is damaged by then. */
static void keep_copy(const struct kmtls_daemon *daemon, const char *path,
		      const unsigned char *bytes, size_t length)
{
	char temporary[PATH_MAX], final[PATH_MAX];
	bool written;
	int fd;

	copy_path(daemon, path, ".tmp", temporary);
	copy_path(daemon, path, "", final);
	fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	written = fd >= 0 && write(fd, bytes, length) == (ssize_t)length;
	if (fd >= 0)
		close(fd);
	if (!written || rename(temporary, final) < 0)
		log_warning("CRL not kept for the next worker", "file=%s", kmtls_log_quote(path));
}

/* true: something else is in use now. */
static bool use(struct file *file, struct load *load)
{
	free(file->hashes);
	file->hashes = kmtls_take_pointer(load->hashes);
	file->count = load->count;
	file->since = load->since;
	file->until = load->until;
	file->expired_said = false;
	return true;
}

static void reject(struct file *file, const char *path, const char *rule)
{
	file->rejected = true;
	if (file->said == rule)
		return;
	file->said = rule;
	kmtls_counters_add(KMTLS_REASON_CRL_REJECTED);
	log_warning("CRL file not taken", "file=%s reason=%s err=%s in_use=%s",
		    kmtls_log_quote(path), kmtls_reason_name(KMTLS_REASON_CRL_REJECTED),
		    kmtls_log_quote(rule), file->hashes ? "\"the one before\"" : "none");
}

/* The file at path, or the copy of it, as CRLs of the file that is configured. */
static const char *load_from(struct kmtls_daemon *daemon, struct file *file, const char *path,
			     const char *configured, struct load *load)
{
	unsigned char *bytes __cleanup_free = NULL;
	size_t length = 0;
	const char *rule = read_file(path, &bytes, &length);

	*load = (struct load){ .daemon = daemon, .file = file };
	if (!rule)
		rule = take_bytes(load, bytes, length);
	if (!rule && configured)
		keep_copy(daemon, configured, bytes, length);
	if (rule)
		free(kmtls_take_pointer(load->hashes));
	return rule;
}

static bool read_anew(struct kmtls_daemon *daemon, struct file *file, const char *path)
{
	char copy[PATH_MAX];
	struct load load;
	const char *rule = load_from(daemon, file, path, path, &load);

	/* Without an SVID there is no CA to ask, and nobody to be refused. Once there is one, it may
	 * still be that of the CA that comes. */
	file->settled = rule != unknown_ca;
	if (!rule) {
		log_info("CRL file taken", "file=%s revoked=%zu", kmtls_log_quote(path),
			 load.count);
		file->rejected = false;
		file->said = NULL;
		return use(file, &load);
	}
	if (rule == unknown_ca && !load.any_ca)
		return false;
	if (rule == unknown_ca)
		file->pause = UNKNOWN_PAUSE;
	copy_path(daemon, path, "", copy);
	if (!file->hashes && !load_from(daemon, file, copy, NULL, &load))
		use(file, &load);
	reject(file, path, rule);
	return file->hashes;
}

/* Anything that a program that writes files changes about them. */
static bool has_changed(const struct file *file, const struct stat *now)
{
	return !file->looked || now->st_dev != file->seen.st_dev ||
	       now->st_ino != file->seen.st_ino || now->st_size != file->seen.st_size ||
	       now->st_mtim.tv_sec != file->seen.st_mtim.tv_sec ||
	       now->st_mtim.tv_nsec != file->seen.st_mtim.tv_nsec ||
	       now->st_ctim.tv_sec != file->seen.st_ctim.tv_sec ||
	       now->st_ctim.tv_nsec != file->seen.st_ctim.tv_nsec;
}

static bool look_at(struct kmtls_daemon *daemon, struct file *file, const char *path)
{
	struct stat now = { .st_size = 0 }; /* a file that is not there is all zero */

	if (stat(path, &now) < 0)
		memset(&now, 0, sizeof(now));
	if (file->until && file->until <= kmtls_clock_now() && !file->expired_said) {
		file->expired_said = true;
		log_warning("CRL has expired and stays in use", "file=%s", kmtls_log_quote(path));
	}
	if (has_changed(file, &now)) {
		file->said = NULL;
	} else if (file->settled || file->pause) {
		file->pause -= file->pause > 0;
		return false;
	}
	file->seen = now;
	file->looked = true;
	return read_anew(daemon, file, path);
}

static void put_together(struct kmtls_daemon *daemon)
{
	size_t count = 0, at = 0;
	__u64 *hashes;

	for (unsigned i = 0; i < daemon->config->identity.crl_files_count; i++)
		count += files[i].count;
	hashes = malloc((count + 1) * sizeof(*hashes));
	if (!hashes)
		return; /* with the next change */
	for (unsigned i = 0; i < daemon->config->identity.crl_files_count; i++) {
		if (files[i].count)
			memcpy(hashes + at, files[i].hashes, files[i].count * sizeof(*hashes));
		at += files[i].count;
	}
	if (kmtls_revocation_replace(hashes, count))
		kmtls_loops_review(daemon->loops);
}

void kmtls_crl_tick(struct kmtls_daemon *daemon)
{
	bool changed = false;

	for (unsigned i = 0; i < daemon->config->identity.crl_files_count; i++)
		if (look_at(daemon, &files[i], daemon->config->identity.crl_files[i]))
			changed = true;
	if (changed)
		put_together(daemon);
}

unsigned kmtls_crl_rejected(void)
{
	unsigned count = 0;

	for (unsigned i = 0; i < KMTLS_CONFIG_CRL_FILES_MAX; i++)
		count += __atomic_load_n(&files[i].rejected, __ATOMIC_RELAXED);
	return count;
}
