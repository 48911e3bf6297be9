/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_monitor.c - kmtls monitor: events as they happen, one line each. When the daemon's worker is
 * replaced the connection ends; then this asks the next one, and says so as an event of its own.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cleanup.h"
#include "cli.h"
#include "json.h"
#include "table.h"

#define PATIENCE 150 /* tries to reach the next worker... */
#define PAUSE_MS 200 /* ...so far apart */

struct monitor {
	const struct kmtls_cli *cli;
	json_t *arguments;
	json_int_t keeper, worker_starts; /* of who told us last; 0: nobody yet */
};

/* The level says what colour; a colour is not the only sign. */
static enum kmtls_colour colour_of(const char *level)
{
	if (!strcmp(level, "error"))
		return KMTLS_RED;
	if (!strcmp(level, "warning"))
		return KMTLS_YELLOW;
	return strcmp(level, "debug") ? KMTLS_BOLD : KMTLS_PLAIN;
}

static void print_pair(const char *key, const char *value)
{
	bool quote = !*value || strchr(value, ' ') || strchr(value, '"');

	printf(" %s=%s", key, quote ? "\"" : "");
	kmtls_table_put(KMTLS_PLAIN, value);
	printf("%s", quote ? "\"" : "");
}

static void print_event(const json_t *event)
{
	const char *time, *level, *what, *key;
	json_t *value;

	if (json_unpack((json_t *)event, "{s:s, s:s, s:s}", "time", &time, "level", &level, "event",
			&what))
		return;
	kmtls_table_put(KMTLS_DIM, time);
	printf(" %-7s ", level);
	kmtls_table_put(colour_of(level), what);
	printf("%*s", strlen(what) < 24 ? (int)(24 - strlen(what)) : 0, "");
	json_object_foreach ((json_t *)event, key, value) {
		if (strcmp(key, "time") && strcmp(key, "level") && strcmp(key, "event") &&
		    json_is_string(value))
			print_pair(key, json_string_value(value));
	}
	putchar('\n');
}

static void put_event(const struct monitor *monitor, const json_t *event)
{
	if (!monitor->cli->json) {
		print_event(event);
		return;
	}
	json_dumpf(event, stdout, JSON_COMPACT);
	putchar('\n');
}

/* What only we can see: another process answers. */
static void tell_change(const struct monitor *monitor, json_int_t keeper, json_int_t worker)
{
	__cleanup_json json_t *event = NULL;
	struct timespec now;
	char text[32], whole[40], number[24];

	clock_gettime(CLOCK_REALTIME, &now);
	kmtls_table_time(now.tv_sec, text);
	snprintf(whole, sizeof(whole), "%.19s.%03ldZ", text, now.tv_nsec / 1000000);
	snprintf(number, sizeof(number), "%lld", (long long)worker);
	event = json_pack("{s:s, s:s, s:s, s:s}", "time", whole, "level", "warning", "event",
			  keeper == monitor->keeper ? "worker restarted" : "daemon restarted",
			  "worker", number);
	put_event(monitor, event);
}

static int subscribe(struct monitor *monitor, FILE **ret_events)
{
	__cleanup_json json_t *hello = NULL;
	json_int_t keeper = 0, worker = 0, starts = 0;
	int status = kmtls_client_subscribe(monitor->cli, "monitor",
					    json_incref(monitor->arguments), &hello, ret_events);

	if (status)
		return status;
	json_unpack(hello, "{s:I, s:I, s:I}", "keeper", &keeper, "worker", &worker, "worker_starts",
		    &starts);
	if (monitor->keeper && (keeper != monitor->keeper || starts != monitor->worker_starts))
		tell_change(monitor, keeper, worker);
	monitor->keeper = keeper;
	monitor->worker_starts = starts;
	return 0;
}

/* Until the daemon closes the connection. False: nobody reads our output any more. */
static bool read_events(const struct monitor *monitor, FILE *events)
{
	char *line = NULL, why[256];
	size_t size = 0;
	ssize_t length;

	while (!fflush(stdout) && !ferror(stdout) && (length = getline(&line, &size, events)) > 0) {
		json_t *event = NULL;

		if (kmtls_json_parse(line, (size_t)length, &event, why))
			kmtls_cli_error(monitor->cli, "an event that is %s", why);
		else
			put_event(monitor, event);
		json_decref(event);
	}
	free(line);
	return !ferror(stdout);
}

/* A new worker takes a moment; its errors until then are nobody's business. */
static int subscribe_again(struct monitor *monitor, FILE **ret_events)
{
	const struct kmtls_cli *cli = monitor->cli;
	struct kmtls_cli quiet = *cli;
	int status = KMTLS_EXIT_REFUSED;

	quiet.quiet = true;
	monitor->cli = &quiet;
	for (unsigned i = 0; status && i < PATIENCE; i++) {
		usleep(PAUSE_MS * 1000);
		monitor->cli = i + 1 < PATIENCE ? &quiet : cli;
		status = subscribe(monitor, ret_events);
	}
	monitor->cli = cli;
	return status;
}

int kmtls_cmd_monitor(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *arguments = json_object();
	struct monitor monitor = { .cli = cli, .arguments = arguments };
	const char *pod = NULL, *reason = NULL;
	const struct kmtls_option options[] = {
		{ .name = "--pod", .values = &pod, .limit = 1 },
		{ .name = "--reason", .values = &reason, .limit = 1 },
		{ .name = NULL },
	};
	int status = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);
	FILE *events = NULL;
	bool heard;

	if (!status && reason)
		status = kmtls_options_reason(cli, "--reason", reason);
	if (pod)
		json_object_set_new(arguments, "pod", kmtls_json_string(pod));
	if (reason)
		json_object_set_new(arguments, "reason", kmtls_json_string(reason));
	if (!status)
		status = subscribe(&monitor, &events);
	while (!status) {
		heard = read_events(&monitor, events);
		fclose(events);
		status = heard ? subscribe_again(&monitor, &events) : KMTLS_EXIT_REFUSED;
	}
	return status;
}
