/* SPDX-License-Identifier: Apache-2.0 */
/* denials.c - see denials.h. */
#include <bpf/libbpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "address.h"
#include "bpf_loader.h"
#include "daemon.h"
#include "denials.h"
#include "kmtls/internal_maps.h"
#include "log.h"
#include "pod.h"
#include "pods.h"
#include "reason.h"
#include "refusals.h"

struct kmtls_denials {
	struct kmtls_daemon *daemon;
	struct ring_buffer *ring;
	unsigned left; /* to be read in one go */
};

/* Twice as many as the ring holds: one that fills as fast as it is read is left for later. */
#define AT_A_TIME 2048

static void tell(struct kmtls_pods *pods, const struct kmtls_denied *denied)
{
	char source[KMTLS_ENDPOINT_TEXT], destination[KMTLS_ENDPOINT_TEXT];
	struct kmtls_pod *pod = kmtls_pods_find(pods, denied->netns);

	log_warning(denied->hook == KMTLS_HOOK_BACKSTOP ? "packet dropped" : "connection refused",
		    "pod=%s direction=%s source=%s destination=%s reason=%s text=%s",
		    pod ? kmtls_log_quote(pod->name) : "?",
		    denied->hook == KMTLS_HOOK_LOOKUP ? "inbound" : "outbound",
		    kmtls_endpoint_format(&denied->source, source, sizeof(source)),
		    kmtls_endpoint_format(&denied->destination, destination, sizeof(destination)),
		    kmtls_reason_name(denied->reason),
		    kmtls_log_quote(kmtls_reason_text(denied->reason)));
	kmtls_pod_put(pod);
}

static int on_denied(void *context, void *data, size_t size)
{
	struct kmtls_denials *denials = context;
	const struct kmtls_denied *denied = data;

	if (size >= sizeof(*denied) && denied->reason < KMTLS_REASON_COUNT &&
	    kmtls_refusals_worth_a_line(denied->reason))
		tell(denials->daemon->pods, denied);
	/* An error stops the reader; the event itself is taken. */
	return --denials->left ? 0 : -EAGAIN;
}

int kmtls_denials_open(struct kmtls_daemon *daemon, struct kmtls_denials **ret_denials,
		       char *ret_why)
{
	struct kmtls_denials *denials = calloc(1, sizeof(*denials));

	snprintf(ret_why, KMTLS_WHY, "the ring buffer of denials cannot be opened");
	if (!denials)
		return -ENOMEM;
	denials->daemon = daemon;
	denials->ring = ring_buffer__new(kmtls_bpf_map(daemon->bpf, KMTLS_MAP_DENIALS), on_denied,
					 denials, NULL);
	if (!denials->ring) {
		int err = -errno;

		free(denials);
		return err;
	}
	*ret_denials = denials;
	return 0;
}

void kmtls_denials_tick(struct kmtls_denials *denials)
{
	denials->left = AT_A_TIME;
	ring_buffer__consume(denials->ring);
}

void kmtls_denials_close(struct kmtls_denials *denials)
{
	if (!denials)
		return;
	ring_buffer__free(denials->ring);
	free(denials);
}
