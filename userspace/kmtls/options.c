/* SPDX-License-Identifier: Apache-2.0 */
/*
 * options.c - checked arguments. getopt_long() would accept abbreviations, which turn into
 * something else when an option is added; here an option is its whole name.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "address.h"
#include "cleanup.h"
#include "cli.h"
#include "json.h"
#include "reason.h"
#include "spiffe.h"

static const struct kmtls_option *find_option(const struct kmtls_option *options, const char *text,
					      size_t length)
{
	for (; options->name; options++) {
		if (strlen(options->name) == length && !strncmp(options->name, text, length))
			return options;
	}
	return NULL;
}

static int add_value(const struct kmtls_cli *cli, const struct kmtls_option *option,
		     const char *value)
{
	unsigned place = 0;

	if (!value || !*value)
		return kmtls_cli_usage(cli, "%s: a value is missing", option->name);
	while (place < option->limit && option->values[place])
		place++;
	if (place == option->limit && option->limit == 1)
		return kmtls_cli_usage(cli, "%s: is given twice", option->name);
	if (place == option->limit)
		return kmtls_cli_usage(cli, "%s: at most %u of them", option->name, option->limit);
	option->values[place] = value;
	if (option->count)
		*option->count = place + 1;
	return 0;
}

/* The option at argv[*at], which may take argv[*at + 1] as its value. */
static int take_option(struct kmtls_cli *cli, int argc, char **argv,
		       const struct kmtls_option *options, int *at)
{
	const char *text = argv[*at], *equals = strchr(text, '=');
	const struct kmtls_option *option;

	if (!strcmp(text, "--json")) {
		cli->json = true;
		return 0;
	}
	option = find_option(options, text, equals ? (size_t)(equals - text) : strlen(text));
	if (!option)
		return kmtls_cli_usage(cli, "%s: unknown option", text);
	if (option->flag) {
		if (equals)
			return kmtls_cli_usage(cli, "%s: takes no value", option->name);
		*option->flag = true;
		return 0;
	}
	if (equals)
		return add_value(cli, option, equals + 1);
	if (*at + 1 == argc || !strncmp(argv[*at + 1], "--", 2))
		return add_value(cli, option, NULL);
	return add_value(cli, option, argv[++*at]);
}

int kmtls_options_parse(struct kmtls_cli *cli, int argc, char **argv,
			const struct kmtls_option *options, const char *const *operand_names,
			const char **ret_operands)
{
	static const struct kmtls_option none[] = { { .name = NULL } };
	bool operands_only = false;
	unsigned count = 0;
	int err;

	for (int i = 0; i < argc; i++) {
		if (!operands_only && !strcmp(argv[i], "--")) {
			operands_only = true;
		} else if (!operands_only && argv[i][0] == '-' && argv[i][1]) {
			err = take_option(cli, argc, argv, options ? options : none, &i);
			if (err)
				return err;
		} else if (!operand_names || !operand_names[count]) {
			return kmtls_cli_usage(cli, "%s: unexpected argument", argv[i]);
		} else if (!*argv[i]) {
			return kmtls_cli_usage(cli, "%s: must not be empty", operand_names[count]);
		} else {
			ret_operands[count++] = argv[i];
		}
	}
	if (operand_names && operand_names[count])
		return kmtls_cli_usage(cli, "%s: is missing", operand_names[count]);
	return 0;
}

/* What the typist of 10.1.2.3/8 probably meant. */
static void suggest_prefix(const char *text, char *suggestion, size_t size)
{
	const char *slash = strchr(text, '/');
	struct kmtls_peer_key key;
	char address[64];

	snprintf(address, sizeof(address), "%.*s", (int)(slash - text), text);
	if (kmtls_prefix_parse(address, &key))
		return;
	key.prefix_len = (unsigned)atoi(slash + 1) + (strchr(address, ':') ? 0 : 96);
	for (unsigned bit = key.prefix_len; bit < 128; bit++)
		key.address.bytes[bit / 8] &= (__u8) ~(0x80 >> bit % 8);
	kmtls_prefix_format(&key, suggestion, size);
}

int kmtls_options_prefix(const struct kmtls_cli *cli, const char *text)
{
	char suggestion[KMTLS_ENDPOINT_TEXT] = "";
	struct kmtls_peer_key key;

	switch (kmtls_prefix_parse(text, &key)) {
	case 0:
		return 0;
	case -ERANGE:
		return kmtls_cli_usage(cli, "%s: prefix length must be 0 to %d", text,
				       strchr(text, ':') ? 128 : 32);
	case -EDOM:
		suggest_prefix(text, suggestion, sizeof(suggestion));
		return kmtls_cli_usage(cli, "%s: bits are set beyond the prefix length (%s?)", text,
				       suggestion);
	default:
		return kmtls_cli_usage(cli, "%s: must be an IP address or ADDRESS/LENGTH", text);
	}
}

int kmtls_options_spiffe_id(const struct kmtls_cli *cli, const char *option, const char *text)
{
	struct kmtls_spiffe_id id;
	const char *rule;

	if (!kmtls_spiffe_id_parse(text, strlen(text), &id, &rule))
		return 0;
	return kmtls_cli_usage(cli, "%s %s: %s", option, text, rule);
}

int kmtls_options_number(const struct kmtls_cli *cli, const char *option, const char *text,
			 unsigned from, unsigned to, unsigned *ret_number)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long long value = digits && digits < 11 ? strtoull(text, NULL, 10) : ULLONG_MAX;

	if (text[digits] || value < from || value > to)
		return kmtls_cli_usage(cli, "%s %s: must be a number from %u to %u", option, text,
				       from, to);
	*ret_number = (unsigned)value;
	return 0;
}

int kmtls_options_reason(const struct kmtls_cli *cli, const char *option, const char *text)
{
	for (unsigned reason = 0; reason < KMTLS_REASON_COUNT; reason++) {
		if (!strcmp(kmtls_reason_name(reason), text) && strcmp(text, "unknown") != 0)
			return 0;
	}
	return kmtls_cli_usage(cli, "%s %s: must be the name of a reason code", option, text);
}

/*
 * The directory is resolved, the last component stays: /proc/PID/ns/net is a link to a name
 * that no file has, which realpath() would follow. /proc/self becomes our own process, as it
 * must: to the daemon it would be the daemon.
 */
int kmtls_options_path(const struct kmtls_cli *cli, const char *option, const char *text,
		       char **ret_path)
{
	const char *slash = strrchr(text, '/'), *last = slash ? slash + 1 : text;
	__cleanup_free char *directory = NULL, *resolved = NULL;
	struct stat status;
	char *path;

	if (stat(text, &status))
		return kmtls_cli_usage(cli, "%s %s: %s", option, text, strerror(errno));
	if (!*last || !strcmp(last, ".") || !strcmp(last, "..")) {
		resolved = realpath(text, NULL);
		path = kmtls_take_pointer(resolved);
	} else {
		directory = slash ? strndup(text, (size_t)(slash - text) + 1) : strdup(".");
		resolved = directory ? realpath(directory, NULL) : NULL;
		if (!resolved ||
		    asprintf(&path, "%s%s%s", resolved, strcmp(resolved, "/") ? "/" : "", last) < 0)
			path = NULL;
	}
	if (!path)
		return kmtls_cli_usage(cli, "%s %s: %s", option, text, strerror(errno));
	*ret_path = path;
	return 0;
}

static int read_all(int fd, struct kmtls_text *text)
{
	char buffer[65536];
	ssize_t got;

	for (;;) {
		got = read(fd, buffer, sizeof(buffer));
		if (!got)
			return 0;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (got > 0 && kmtls_text_append(text, buffer, (size_t)got))
			return text->err;
	}
}

int kmtls_options_read(const char **path, struct kmtls_text *text)
{
	bool is_stdin = !strcmp(*path, "-");
	__cleanup_fd int fd = is_stdin ? dup(STDIN_FILENO) : open(*path, O_RDONLY | O_CLOEXEC);

	if (is_stdin)
		*path = "standard input";
	return fd < 0 ? -errno : read_all(fd, text);
}
