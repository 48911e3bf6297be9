/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_dump.c - kmtls dump: one file for whoever is to help. What other verbs show, as JSON, and the
 * last lines of the log; of keys nothing, because no verb gives any. What cannot be had is said in
 * the place of it. The bundle is made in a directory of our own and packed by tar(1).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "cleanup.h"
#include "json.h"
#include "modes_dump.h"

#define INSIDE "kmtls-dump" /* the directory in the bundle */
#define LOG_LINES "2000"

static const struct {
	const char *file, *verb;
} verbs[] = {
	{ "status.json", "status" },
	{ "pods.json", "pod-list" },
	{ "peers.json", "peer-list" },
	{ "authorizations.json", "authz-list" },
	{ "default.json", "authz-default" },
	{ "flows.json", "flows" },
	{ "udp.json", "udp" },
	{ "settings.json", "settings-get" },
	{ "identity.json", "identity-show" },
};

static const char readme[] =
	"What kmtls dump saw on this node. status, pods, peers, authorizations, default, flows, "
	"udp,\n"
	"settings and identity are what the daemon answered; check is kmtls check; modes is read "
	"from the "
	"pinned map;\n"
	"metrics.txt is what Prometheus would be told;\n"
	"log.txt are the last lines of the unit kmtlsd in the journal, if there is one. A file "
	"with an\n"
	"\"error\" says why there is nothing else. There are names and addresses in here, and no "
	"keys:\n"
	"neither those of flows or identities nor the root of the built-in CA.\n";

struct dump {
	struct kmtls_cli cli; /* whose errors go to why */
	char why[256];
	char directory[256]; /* made by mkdtemp(), INSIDE is in it */
	int fd; /* of INSIDE */
};

/* ---- files ---- */

static FILE *create(const struct dump *dump, const char *name)
{
	int fd = openat(dump->fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "w");

	if (!file && fd >= 0)
		close(fd);
	return file;
}

/* Takes the reference. */
static int put_json(const struct dump *dump, const char *name, json_t *json)
{
	FILE *file = create(dump, name);
	int err = file && json ? 0 : -ENOMEM;

	if (!file) {
		err = -errno;
	} else {
		if (!err && json_dumpf(json, file, JSON_INDENT(2) | JSON_ENCODE_ANY) < 0)
			err = -EIO;
		if (fclose(file) && !err)
			err = -errno;
	}
	json_decref(json);
	return err;
}

static int put_verb(struct dump *dump, const char *name, const char *verb)
{
	json_t *result = NULL;

	if (kmtls_client_call(&dump->cli, verb, NULL, KMTLS_CLIENT_SECONDS, &result))
		result = json_pack("{s:o}", "error", kmtls_json_string(dump->why));
	return put_json(dump, name, result);
}

static int put_version(const struct dump *dump)
{
	struct utsname kernel = { .release = "" };

	uname(&kernel);
	return put_json(dump, "version.json",
			json_pack("{s:s, s:I, s:s, s:s, s:s, s:o}", "kmtls", KMTLS_VERSION, "time",
				  (json_int_t)time(NULL), "kernel", kernel.release,
				  "kernel_version", kernel.version, "machine", kernel.machine,
				  "host", kmtls_json_string(kernel.nodename)));
}

/* As a scraper has it. */
static int put_metrics(struct dump *dump)
{
	__cleanup_json json_t *result = NULL;
	const char *text = NULL;
	FILE *file;

	if (!kmtls_client_call(&dump->cli, "metrics", NULL, KMTLS_CLIENT_SECONDS, &result))
		text = json_string_value(json_object_get(result, "text"));
	file = create(dump, "metrics.txt");
	if (!file)
		return -errno;
	if (text)
		fputs(text, file);
	else
		fprintf(file, "# error: %s\n", dump->why);
	return fclose(file) ? -errno : 0;
}

static int put_readme(const struct dump *dump)
{
	FILE *file = create(dump, "README.txt");

	if (!file)
		return -errno;
	fputs(readme, file);
	return fclose(file) ? -errno : 0;
}

/* ---- other programs ---- */

/* Runs argv with this standard output; its exit status, -errno if it cannot be run. */
static int run(const char *const *argv, int output)
{
	posix_spawn_file_actions_t actions;
	extern char **environ;
	int err, status = 0;
	pid_t pid;

	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
	posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	err = -posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (err)
		return err;
	while (waitpid(pid, &status, 0) < 0) {
		if (errno != EINTR)
			return -errno;
	}
	return WIFEXITED(status) ? WEXITSTATUS(status) : -ECHILD;
}

static int put_log(const struct dump *dump)
{
	static const char *const argv[] = { "journalctl", "--unit",	"kmtlsd",  "--lines",
					    LOG_LINES,	  "--no-pager", "--quiet", NULL };
	FILE *file = create(dump, "log.txt");
	int err;

	if (!file)
		return -errno;
	err = run(argv, fileno(file));
	if (err)
		fprintf(file, "error: the journal cannot be read: %s\n",
			err < 0 ? strerror(-err) : "journalctl failed");
	return fclose(file) ? -errno : 0;
}

static int pack(const struct dump *dump, int output)
{
	const char *const argv[] = { "tar", "-C", dump->directory, "-czf", "-", INSIDE, NULL };
	int err = run(argv, output);

	return err > 0 ? -EIO : err;
}

/* ---- the directory ---- */

static int open_directory(struct dump *dump)
{
	const char *where = getenv("TMPDIR");
	char path[sizeof(dump->directory) + 16];

	snprintf(dump->directory, sizeof(dump->directory), "%s/kmtls.XXXXXX",
		 where && *where == '/' && strlen(where) < 200 ? where : "/tmp");
	if (!mkdtemp(dump->directory))
		return -errno;
	snprintf(path, sizeof(path), "%s/" INSIDE, dump->directory);
	if (mkdir(path, 0700) < 0)
		return -errno;
	dump->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return dump->fd < 0 ? -errno : 0;
}

static void remove_directory(struct dump *dump)
{
	char path[sizeof(dump->directory) + 16];
	DIR *list = dump->fd >= 0 ? fdopendir(dump->fd) : NULL;
	const struct dirent *entry;

	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] != '.')
			unlinkat(dirfd(list), entry->d_name, 0);
	}
	if (list)
		closedir(list);
	snprintf(path, sizeof(path), "%s/" INSIDE, dump->directory);
	rmdir(path);
	rmdir(dump->directory);
}

static int fill(struct dump *dump, struct kmtls_cli *cli)
{
	json_t *report = kmtls_check_report(cli, NULL);
	int err = put_readme(dump);

	if (!err)
		err = put_version(dump);
	if (!err)
		err = put_json(
			dump, "modes.json",
			kmtls_modes_dump(json_string_value(json_object_get(report, "bpf_dir"))));
	if (!err)
		err = put_json(dump, "check.json", json_incref(report));
	for (size_t i = 0; !err && i < sizeof(verbs) / sizeof(verbs[0]); i++)
		err = put_verb(dump, verbs[i].file, verbs[i].verb);
	if (!err)
		err = put_metrics(dump);
	if (!err)
		err = put_log(dump);
	json_decref(report);
	return err;
}

/* ---- the verb ---- */

static int open_output(const struct kmtls_cli *cli, const char *path)
{
	int fd;

	if (!strcmp(path, "-"))
		return dup(STDOUT_FILENO);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		kmtls_cli_error(cli, "%s: %s", path, strerror(errno));
	return fd;
}

static int write_bundle(struct kmtls_cli *cli, int output)
{
	struct dump dump = { .cli = *cli, .fd = -1 };
	int err;

	dump.cli.why = dump.why;
	dump.cli.why_size = sizeof(dump.why);
	err = open_directory(&dump);
	if (!err)
		err = fill(&dump, cli);
	if (!err)
		err = pack(&dump, output);
	remove_directory(&dump);
	return err;
}

static void default_name(char *buffer, size_t size)
{
	time_t now = time(NULL);
	struct tm utc;

	gmtime_r(&now, &utc);
	strftime(buffer, size, "kmtls-dump-%Y%m%dT%H%M%SZ.tar.gz", &utc);
}

static void print_result(const char *path)
{
	__cleanup_json json_t *result = json_pack("{s:o}", "file", kmtls_json_string(path));

	kmtls_client_print(result);
}

int kmtls_cmd_dump(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "FILE", NULL };
	const char *path = NULL;
	bool named = false;
	char name[64];
	int output, err;

	for (int i = 0; i < argc; i++)
		named = named || strcmp(argv[i], "--json");
	err = kmtls_options_parse(cli, argc, argv, NULL, named ? names : NULL, &path);
	if (err)
		return err;
	default_name(name, sizeof(name));
	if (!path)
		path = name;
	output = open_output(cli, path);
	if (output < 0)
		return KMTLS_EXIT_REFUSED;
	err = write_bundle(cli, output);
	close(output);
	if (err) {
		kmtls_cli_error(cli, "%s: not written: %s", path, strerror(-err));
		if (strcmp(path, "-"))
			unlink(path);
		return KMTLS_EXIT_REFUSED;
	}
	if (strcmp(path, "-") && cli->json)
		print_result(path);
	else if (strcmp(path, "-"))
		printf("%s\n", path);
	return KMTLS_EXIT_OK;
}
