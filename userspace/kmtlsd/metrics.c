/* SPDX-License-Identifier: Apache-2.0 */
/* metrics.c - see metrics.h. Pods are in metrics_pods.c, backends in metrics_backends.c. */
#include "metrics.h"

#include "clock.h"
#include "counters.h"
#include "daemon.h"
#include "flow_table.h"
#include "known_chains.h"
#include "reason.h"
#include "shared.h"

static void put_node(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	const struct kmtls_shared *shared = daemon->shared;

	kmtls_metrics_text_begin(text, KMTLS_METRIC_NODE_INFO);
	kmtls_metrics_text_put(text, KMTLS_METRIC_NODE_INFO, 1, daemon->config->node, KMTLS_VERSION,
			       daemon->config->identity.trust_domain);
	kmtls_metrics_text_one(text, KMTLS_METRIC_START_TIME, daemon->started);
	kmtls_metrics_text_one(text, KMTLS_METRIC_WORKER_STARTS, shared->starts);
	kmtls_metrics_text_one(text, KMTLS_METRIC_UPGRADES, shared->upgrades);
	kmtls_metrics_text_one(text, KMTLS_METRIC_CLOCK_BEHIND, kmtls_clock_behind());
}

static void put_chains(struct kmtls_text *text)
{
	__u64 known_total, new_total;

	kmtls_known_chains_count(&known_total, &new_total);
	kmtls_metrics_text_begin(text, KMTLS_METRIC_PEER_CHAINS);
	kmtls_metrics_text_put(text, KMTLS_METRIC_PEER_CHAINS, (__s64)known_total, "known");
	kmtls_metrics_text_put(text, KMTLS_METRIC_PEER_CHAINS, (__s64)new_total, "new");
}

/* All of them, also those that are 0: what appears only when it happens has no rate the first time. */
static int put_events(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	static const enum kmtls_reason reasons[] = {
#define REASON_NUMBER(number, symbol, name, meaning) KMTLS_REASON_##symbol,
		KMTLS_REASONS(REASON_NUMBER)
#undef REASON_NUMBER
	};
	__u64 sums[KMTLS_REASON_COUNT];
	int err = kmtls_counters_read_all(daemon->bpf, sums);

	if (err)
		return err;
	kmtls_metrics_text_begin(text, KMTLS_METRIC_EVENTS);
	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++)
		if (reasons[i] != KMTLS_REASON_NONE)
			kmtls_metrics_text_put(text, KMTLS_METRIC_EVENTS, (__s64)sums[reasons[i]],
					       kmtls_reason_name(reasons[i]));
	return 0;
}

static const char *const roles[] = {
	[KMTLS_ROLE_CLIENT] = "client",
	[KMTLS_ROLE_SERVER] = "server",
};
#define ROLES (sizeof(roles) / sizeof(roles[0]))

static const char *const states[] = {
	[KMTLS_FLOW_HANDSHAKE] = "handshake",
	[KMTLS_FLOW_CONFIRMED] = "confirmed",
	[KMTLS_FLOW_ESTABLISHED] = "established",
	[KMTLS_FLOW_CLOSING] = "closing",
};
#define STATES (sizeof(states) / sizeof(states[0]))

struct flow_counts {
	unsigned by[STATES][ROLES], plaintext;
};

/* One look at each slot, whatever loops do to it meanwhile. */
static void count_flows(const struct kmtls_flow_table *table, struct flow_counts *ret_counts)
{
	struct flow_counts counts = { .plaintext = 0 };

	for (unsigned i = 0; i < *table->used; i++) {
		const struct kmtls_flow *flow = &table->slots[i];
		unsigned state = kmtls_flow_state(flow);
		unsigned role = __atomic_load_n(&flow->role, __ATOMIC_RELAXED);

		if (state == KMTLS_FLOW_FREE || state >= STATES || role >= ROLES)
			continue;
		counts.by[state][role]++;
		counts.plaintext += state == KMTLS_FLOW_ESTABLISHED && kmtls_flow_is_plain(flow);
	}
	*ret_counts = counts;
}

static void put_flows(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	struct flow_counts counts;

	count_flows(daemon->flows, &counts);
	kmtls_metrics_text_begin(text, KMTLS_METRIC_FLOWS);
	for (unsigned state = 0; state < STATES; state++)
		for (unsigned role = 0; role < ROLES; role++)
			if (states[state] && roles[role])
				kmtls_metrics_text_put(text, KMTLS_METRIC_FLOWS,
						       counts.by[state][role], states[state],
						       roles[role]);
	kmtls_metrics_text_one(text, KMTLS_METRIC_FLOWS_PLAINTEXT, counts.plaintext);
	kmtls_metrics_text_one(text, KMTLS_METRIC_FLOW_SLOTS, daemon->flows->usable);
	kmtls_metrics_text_begin(text, KMTLS_METRIC_HANDSHAKES);
	for (unsigned role = 0; role < ROLES; role++)
		if (roles[role])
			kmtls_metrics_text_put(text, KMTLS_METRIC_HANDSHAKES,
					       counts.by[KMTLS_FLOW_HANDSHAKE][role], roles[role]);
}

int kmtls_metrics_render(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	int err;

	put_node(daemon, text);
	err = put_events(daemon, text);
	if (err)
		return err;
	put_flows(daemon, text);
	put_chains(text);
	kmtls_metrics_render_pods(daemon, text);
	kmtls_metrics_render_backends(daemon, text);
	return text->err;
}
