/* SPDX-License-Identifier: Apache-2.0 */
/*
 * handshake_authorize.c - the server asks whether the client it now knows may connect to this pod.
 * Before the ticket, so the client's application has not been told anything yet.
 */
#include "address.h"
#include "authorization.h"
#include "counters.h"
#include "handshake.h"
#include "log.h"
#include "reason.h"
#include "refusals.h"

/* A dry-run rule says no, and is not obeyed. */
static void report_dry_run(const struct kmtls_handshake *handshake,
			   const struct kmtls_authorization_verdict *verdict)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	const struct kmtls_authorization_verdict denied = {
		.decider = KMTLS_DECIDED_BY_RULE,
		.rule = verdict->dry_run,
	};
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];
	char why[KMTLS_AUTHORIZATION_LINE];

	kmtls_counters_add(KMTLS_REASON_WOULD_DENY);
	if (!kmtls_refusals_worth_a_line(KMTLS_REASON_WOULD_DENY))
		return;
	log_warning("connection would be denied",
		    "flow=%u.%u pod=%s self=%s peer=%s reason=%s text=%s self_id=%s peer_id=%s "
		    "detail=%s",
		    handshake->slot, flow->generation, kmtls_log_quote(handshake->pod->name),
		    kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		    kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
		    kmtls_reason_name(KMTLS_REASON_WOULD_DENY),
		    kmtls_log_quote(kmtls_reason_text(KMTLS_REASON_WOULD_DENY)),
		    kmtls_log_quote(handshake->pod->id), kmtls_log_quote(handshake->verify.peer_id),
		    kmtls_log_quote_long(kmtls_authorization_why(handshake->loop->daemon->bpf,
								 &denied, why, sizeof(why))));
}

bool kmtls_handshake_authorize(struct kmtls_handshake *handshake)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	struct kmtls_bpf *bpf = handshake->loop->daemon->bpf;
	struct kmtls_authorization_verdict verdict;
	char why[KMTLS_AUTHORIZATION_LINE];

	kmtls_authorization_ask(bpf, handshake->verify.peer_id, handshake->pod->id, flow->self.port,
				&verdict);
	if (!verdict.allowed) {
		kmtls_authorization_why(bpf, &verdict, why, sizeof(why));
		kmtls_handshake_send_alert(handshake, SSL_AD_ACCESS_DENIED);
		kmtls_handshake_fail(handshake, KMTLS_REASON_DENIED, why);
		return false;
	}
	/* Asked once more while it waits for the application: counted already. */
	if (verdict.would_deny && handshake->stage != KMTLS_HANDSHAKE_DELIVERING)
		report_dry_run(handshake, &verdict);
	return true;
}
