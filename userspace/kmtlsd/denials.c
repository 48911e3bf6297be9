/* SPDX-License-Identifier: Apache-2.0 */
/* denials.c - see denials.h. */
#include "address.h"
#include "denials.h"
#include "kmtls/internal_maps.h"
#include "log.h"
#include "pod.h"
#include "pods.h"
#include "reason.h"
#include "refusals.h"

static const char *direction(const struct kmtls_denied *denied)
{
	return denied->hook == KMTLS_HOOK_LOOKUP ? "inbound" : "outbound";
}

void kmtls_denials_log(struct kmtls_pods *pods, const void *event, size_t size)
{
	char source[KMTLS_ENDPOINT_TEXT], destination[KMTLS_ENDPOINT_TEXT];
	const struct kmtls_denied *denied = event;
	struct kmtls_pod *pod;

	if (size < sizeof(*denied) || denied->reason >= KMTLS_REASON_COUNT ||
	    !kmtls_refusals_worth_a_line(denied->reason))
		return;
	pod = kmtls_pods_find(pods, denied->netns);
	log_warning(denied->hook == KMTLS_HOOK_BACKSTOP ? "packet dropped" : "connection refused",
		    "pod=%s direction=%s source=%s destination=%s reason=%s text=%s",
		    pod ? kmtls_log_quote(pod->name) : "?", direction(denied),
		    kmtls_endpoint_format(&denied->source, source, sizeof(source)),
		    kmtls_endpoint_format(&denied->destination, destination, sizeof(destination)),
		    kmtls_reason_name(denied->reason),
		    kmtls_log_quote(kmtls_reason_text(denied->reason)));
	kmtls_pod_put(pod);
}
