/* SPDX-License-Identifier: Apache-2.0 */
/* flow_log.c - the end of an established flow: one counter, one line, one event. */
#include "flow_log.h"
#include "address.h"
#include "counters.h"
#include "log.h"
#include "loop.h"
#include "reason.h"
#include "refusals.h"

/* What people do is not worth a line each by default; what should not happen is. */
static enum kmtls_log_level end_level(enum kmtls_reason reason)
{
	switch (reason) {
	case KMTLS_REASON_ENDED:
	case KMTLS_REASON_LOCAL_RESET:
	case KMTLS_REASON_PEER_RESET:
	case KMTLS_REASON_STOPPED:
	case KMTLS_REASON_POD_DELETED:
	case KMTLS_REASON_UNAUTHORIZED: /* review.c has said more */
	case KMTLS_REASON_PEER_REVOKED:
	case KMTLS_REASON_PEER_EXPIRED: /* expiry.c */
		return KMTLS_LOG_DEBUG;
	default:
		return KMTLS_LOG_WARNING;
	}
}

void kmtls_flow_log_end(struct kmtls_loop *loop, unsigned slot, enum kmtls_reason reason)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];
	enum kmtls_log_level level = end_level(reason);
	struct kmtls_pods *pods;
	struct kmtls_pod *pod;

	kmtls_counters_add(reason);
	if (level == KMTLS_LOG_WARNING && !kmtls_refusals_worth_a_line(reason))
		return;
	if (!kmtls_log_is_wanted(level, "flow ended"))
		return;
	/* Flows of a worker before this one move before pods are there again. */
	pods = loop->daemon->pods;
	pod = pods ? kmtls_pods_find(pods, flow->netns_cookie) : NULL;
	kmtls_log(level, "flow ended", "flow=%u.%u pod=%s self=%s peer=%s reason=%s text=%s", slot,
		  flow->generation, pod ? kmtls_log_quote(pod->name) : "\"\"",
		  kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		  kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)), kmtls_reason_name(reason),
		  kmtls_log_quote(kmtls_reason_text(reason)));
	kmtls_pod_put(pod);
}
