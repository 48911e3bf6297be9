/* SPDX-License-Identifier: Apache-2.0 */
/*
 * metrics_pods.c - the part of metrics.h that is about pods. All samples of a metric stand together,
 * so the pods are copied first, at about one moment.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "daemon.h"
#include "flow_table.h"
#include "identity.h"
#include "metrics.h"
#include "pod_svid.h"
#include "pods.h"
#include "udp_ledger.h"

struct pod {
	char *name, *id;
	time_t not_before, not_after, due;
	__u32 rotations, failures;
	enum kmtls_identity_state state;
	unsigned flows;
	bool counted; /* udp says something */
	struct kmtls_udp_value udp;
};

struct pods {
	struct kmtls_daemon *daemon;
	struct pod *all;
	unsigned count;
	bool failed; /* no memory */
};

static void take_pod(void *context, const struct kmtls_pod_svid_info *info)
{
	struct pods *pods = context;
	struct kmtls_daemon *daemon = pods->daemon;
	struct pod *pod = &pods->all[pods->count];

	if (pods->failed || pods->count == KMTLS_PODS_MAX)
		return;
	*pod = (struct pod){
		.name = strdup(info->name),
		.id = strdup(info->id),
		.not_before = info->not_before,
		.not_after = info->not_after,
		.due = info->rotation.due,
		.rotations = info->rotation.rotations,
		.failures = info->rotation.failures,
		.state = info->state_code,
		.flows = kmtls_flow_table_taken(daemon->flows, info->netns_cookie),
	};
	pod->counted = !kmtls_udp_ledger_totals(daemon->bpf, info->netns_cookie, &pod->udp);
	pods->count++;
	pods->failed = !pod->name || !pod->id;
}

/* What a metric is of a pod. false: it has none. */
static bool value_of(const struct pod *pod, enum kmtls_metric metric, __s64 *ret_value)
{
	switch (metric) {
	case KMTLS_METRIC_POD_FLOWS:
		*ret_value = pod->flows;
		return true;
	case KMTLS_METRIC_SVID_VALID:
		*ret_value = pod->not_after > kmtls_clock_now();
		return true;
	case KMTLS_METRIC_SVID_NOT_BEFORE:
		*ret_value = pod->not_before;
		return pod->not_after;
	case KMTLS_METRIC_SVID_NOT_AFTER:
		*ret_value = pod->not_after;
		return pod->not_after;
	case KMTLS_METRIC_SVID_NEXT:
		*ret_value = pod->due;
		return pod->due;
	case KMTLS_METRIC_SVID_ROTATIONS:
		*ret_value = pod->rotations;
		return true;
	case KMTLS_METRIC_SVID_FAILURES:
		*ret_value = pod->failures;
		return true;
	default:
		return false;
	}
}

static void put_each(const struct pods *pods, struct kmtls_text *text, enum kmtls_metric metric)
{
	__s64 value;

	kmtls_metrics_text_begin(text, metric);
	for (unsigned i = 0; i < pods->count; i++)
		if (value_of(&pods->all[i], metric, &value))
			kmtls_metrics_text_put(text, metric, value, pods->all[i].name);
}

static void put_info(const struct pods *pods, struct kmtls_text *text)
{
	kmtls_metrics_text_begin(text, KMTLS_METRIC_POD_INFO);
	for (unsigned i = 0; i < pods->count; i++)
		kmtls_metrics_text_put(text, KMTLS_METRIC_POD_INFO, 1, pods->all[i].name,
				       pods->all[i].id);
}

static void put_states(const struct pods *pods, struct kmtls_text *text)
{
	kmtls_metrics_text_begin(text, KMTLS_METRIC_SVID_SOURCE);
	for (unsigned i = 0; i < pods->count; i++)
		for (unsigned state = KMTLS_IDENTITY_OK; state <= KMTLS_IDENTITY_REFUSED; state++)
			kmtls_metrics_text_put(text, KMTLS_METRIC_SVID_SOURCE,
					       pods->all[i].state == state, pods->all[i].name,
					       kmtls_identity_state_name(state));
}

static void put_udp(const struct pods *pods, struct kmtls_text *text, enum kmtls_metric metric)
{
	bool bytes = metric == KMTLS_METRIC_POD_UDP_BYTES;

	kmtls_metrics_text_begin(text, metric);
	for (unsigned i = 0; i < pods->count; i++) {
		const struct pod *pod = &pods->all[i];

		if (!pod->counted)
			continue;
		kmtls_metrics_text_put(text, metric,
				       (__s64)(bytes ? pod->udp.sent_bytes : pod->udp.sent_packets),
				       pod->name, "sent");
		kmtls_metrics_text_put(
			text, metric,
			(__s64)(bytes ? pod->udp.received_bytes : pod->udp.received_packets),
			pod->name, "received");
	}
}

static void put_all(const struct pods *pods, struct kmtls_text *text)
{
	static const enum kmtls_metric simple[] = {
		KMTLS_METRIC_POD_FLOWS,	     KMTLS_METRIC_SVID_VALID, KMTLS_METRIC_SVID_NOT_BEFORE,
		KMTLS_METRIC_SVID_NOT_AFTER, KMTLS_METRIC_SVID_NEXT,  KMTLS_METRIC_SVID_ROTATIONS,
		KMTLS_METRIC_SVID_FAILURES,
	};

	kmtls_metrics_text_one(text, KMTLS_METRIC_PODS, pods->count);
	put_info(pods, text);
	put_udp(pods, text, KMTLS_METRIC_POD_UDP_PACKETS);
	put_udp(pods, text, KMTLS_METRIC_POD_UDP_BYTES);
	for (size_t i = 0; i < sizeof(simple) / sizeof(simple[0]); i++)
		put_each(pods, text, simple[i]);
	put_states(pods, text);
}

void kmtls_metrics_render_pods(struct kmtls_daemon *daemon, struct kmtls_text *text)
{
	struct pods pods = { .daemon = daemon };

	pods.all = calloc(KMTLS_PODS_MAX, sizeof(*pods.all));
	pods.failed = !pods.all;
	if (!pods.failed)
		kmtls_pod_svid_visit_quickly(daemon->pods, take_pod, &pods);
	if (!pods.failed)
		put_all(&pods, text);
	else if (!text->err)
		text->err = -ENOMEM;
	for (unsigned i = 0; i < pods.count; i++) {
		free(pods.all[i].name);
		free(pods.all[i].id);
	}
	free(pods.all);
}
