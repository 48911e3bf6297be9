/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_top.c - kmtls top: bytes a second between each pod and each peer, from two looks at the flows.
 * What a flow moved between the two counts for its pair; one that began in between counts whole, one
 * that ended in between is not seen any more.
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
#include "watch.h"

struct flow {
	json_int_t slot, generation, acked, received;
	size_t pair;
};

struct sample {
	double seconds; /* monotonic */
	struct flow *flows; /* in the order of slots */
	size_t count;
	json_t *answer;
};

struct row {
	const char *pod, *peer;
	double sent, received, begun; /* a second */
	unsigned flows;
};

struct top {
	const struct kmtls_cli *cli;
	const char *pod; /* NULL: all */
	unsigned interval, rounds; /* rounds 0: no end */
};

static void free_sample(struct sample *sample)
{
	free(sample->flows);
	json_decref(sample->answer);
	*sample = (struct sample){ .count = 0 };
}

static int read_sample(const struct top *top, struct sample *ret_sample)
{
	struct sample sample = { .count = 0 };
	const json_t *list, *item;
	struct timespec now;
	size_t i;
	int status = kmtls_client_call(top->cli, "top", json_pack("{s:s*}", "pod", top->pod),
				       KMTLS_CLIENT_SECONDS, &sample.answer);

	if (status)
		return status;
	clock_gettime(CLOCK_MONOTONIC, &now);
	sample.seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	list = json_object_get(sample.answer, "flows");
	sample.flows = calloc(json_array_size(list) + 1, sizeof(*sample.flows));
	if (!sample.flows)
		kmtls_table_out_of_memory();
	json_array_foreach (list, i, item) {
		struct flow *flow = &sample.flows[sample.count];
		json_int_t pair;

		if (json_unpack((json_t *)item, "[I, I, I, I, I]", &flow->slot, &flow->generation,
				&pair, &flow->acked, &flow->received) ||
		    pair < 0 ||
		    (size_t)pair >= json_array_size(json_object_get(sample.answer, "pairs")))
			continue;
		flow->pair = (size_t)pair;
		sample.count++;
	}
	*ret_sample = sample;
	return 0;
}

/* The same flow in the sample before; NULL: it is new. Both are in the order of slots. */
static const struct flow *find_before(const struct sample *before, const struct flow *flow,
				      size_t *at)
{
	while (*at < before->count && before->flows[*at].slot < flow->slot)
		++*at;
	if (*at == before->count || before->flows[*at].slot != flow->slot ||
	    before->flows[*at].generation != flow->generation)
		return NULL;
	return &before->flows[*at];
}

static struct row *make_rows(const struct sample *before, const struct sample *after,
			     size_t *ret_count)
{
	const json_t *pairs = json_object_get(after->answer, "pairs"), *pair;
	double seconds = after->seconds - before->seconds;
	struct row *rows = calloc(json_array_size(pairs) + 1, sizeof(*rows));
	size_t i, at = 0;

	if (!rows)
		kmtls_table_out_of_memory();
	json_array_foreach (pairs, i, pair) {
		const char *pod = json_string_value(json_object_get(pair, "pod"));
		const char *peer = json_string_value(json_object_get(pair, "peer"));

		rows[i].pod = pod ? pod : "";
		rows[i].peer = peer ? peer : "";
	}
	for (i = 0; i < after->count; i++) {
		const struct flow *flow = &after->flows[i], *old = find_before(before, flow, &at);
		struct row *row = &rows[flow->pair];

		row->flows++;
		row->begun += old ? 0 : 1 / seconds;
		row->sent += (double)(flow->acked - (old ? old->acked : 0)) / seconds;
		row->received += (double)(flow->received - (old ? old->received : 0)) / seconds;
	}
	*ret_count = json_array_size(pairs);
	return rows;
}

/* Most bytes first; then by name, so that what is idle stays where it is. */
static int compare(const void *a, const void *b)
{
	const struct row *left = a, *right = b;
	double left_bytes = left->sent + left->received,
	       right_bytes = right->sent + right->received;
	int names;

	if (left_bytes != right_bytes)
		return left_bytes < right_bytes ? 1 : -1;
	names = strcmp(left->pod, right->pod);
	return names ? names : strcmp(left->peer, right->peer);
}

static void put_rate(struct kmtls_table *table, double rate)
{
	static const char units[] = " kMGT";
	unsigned unit = 0;

	while (rate >= 9999.5 && unit < sizeof(units) - 2) {
		rate /= 1000;
		unit++;
	}
	if (unit)
		kmtls_table_cell(table, KMTLS_PLAIN, "%.0f %c", rate, units[unit]);
	else
		kmtls_table_cell(table, KMTLS_PLAIN, "%.0f", rate);
}

static void print_rows(const struct row *rows, size_t count)
{
	static const char *const headings[] = { "POD",	 "PEER-ID", "SENT/s", "RECEIVED/s",
						"FLOWS", "NEW/s",   NULL };
	struct kmtls_table table = { .columns = 0 };

	kmtls_table_headings(&table, headings);
	for (size_t i = 0; i < count; i++) {
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", rows[i].pod);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%s", rows[i].peer);
		put_rate(&table, rows[i].sent);
		put_rate(&table, rows[i].received);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%u", rows[i].flows);
		kmtls_table_cell(&table, KMTLS_PLAIN, "%.1f", rows[i].begun);
	}
	kmtls_table_print(&table);
}

static void dump_rows(const struct row *rows, size_t count)
{
	__cleanup_json json_t *list = json_array();

	for (size_t i = 0; i < count; i++) {
		json_array_append_new(list,
				      json_pack("{s:s, s:s, s:f, s:f, s:i, s:f}", "pod",
						rows[i].pod, "peer_id", rows[i].peer, "sent",
						rows[i].sent, "received", rows[i].received, "flows",
						(int)rows[i].flows, "new", rows[i].begun));
	}
	json_dumpf(list, stdout, JSON_COMPACT | JSON_REAL_PRECISION(6));
	putchar('\n');
}

static int show(const struct top *top, const struct sample *before, const struct sample *after)
{
	size_t count;
	struct row *rows = make_rows(before, after, &count);

	qsort(rows, count, sizeof(*rows), compare);
	if (top->rounds != 1)
		kmtls_watch_begin_page(top->cli);
	if (top->cli->json)
		dump_rows(rows, count);
	else
		print_rows(rows, count);
	free(rows);
	return top->rounds == 1 ? 0 : kmtls_watch_end_page(top->cli);
}

static int run(const struct top *top)
{
	struct sample before, after;
	int status = read_sample(top, &before);

	if (status)
		return status;
	for (unsigned round = 0; !status && (!top->rounds || round < top->rounds); round++) {
		sleep(top->interval);
		status = read_sample(top, &after);
		if (status)
			break;
		if (show(top, &before, &after))
			status = KMTLS_EXIT_REFUSED;
		free_sample(&before);
		before = after;
	}
	free_sample(&before);
	return status;
}

int kmtls_cmd_top(struct kmtls_cli *cli, int argc, char **argv)
{
	struct top top = { .cli = cli, .interval = 2 };
	const char *count = NULL, *interval = NULL;
	bool once = false;
	const struct kmtls_option options[] = {
		{ .name = "--pod", .values = &top.pod, .limit = 1 },
		{ .name = "-n", .values = &count, .limit = 1 },
		{ .name = "--once", .flag = &once },
		{ .name = "--interval", .values = &interval, .limit = 1 },
		{ .name = NULL },
	};
	int err = kmtls_options_parse(cli, argc, argv, options, NULL, NULL);

	if (!err && count && once)
		err = kmtls_cli_usage(cli, "--once: cannot be together with -n");
	if (!err && count)
		err = kmtls_options_number(cli, "-n", count, 1, 1000000, &top.rounds);
	if (!err && interval)
		err = kmtls_options_number(cli, "--interval", interval, 1, 3600, &top.interval);
	if (err)
		return err;
	if (once)
		top.rounds = 1;
	return run(&top);
}
