/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * denied.bpf.h - tells the daemon what was refused, for its log. Whether it hears of it changes
 * nothing: the decision has been made, and was counted.
 */
#ifndef KMTLS_DENIED_BPF_H
#define KMTLS_DENIED_BPF_H

#include "context.bpf.h"

/* Held SYNs come the same way and must find room, however often a pod tries what it may not. */
#define DENIED_ROOM (EVENTS_SIZE / 4)

static __always_inline void tell_denied(enum kmtls_reason reason, enum kmtls_hook hook, __u64 netns,
					struct kmtls_endpoint *source,
					struct kmtls_endpoint *destination)
{
	struct kmtls_denied *denied;

	if (bpf_ringbuf_query(&events, BPF_RB_AVAIL_DATA) > DENIED_ROOM)
		return;
	denied = bpf_ringbuf_reserve(&events, sizeof(*denied), 0);
	if (!denied)
		return;
	denied->type = KMTLS_EVENT_DENIED;
	denied->reason = reason;
	denied->netns = netns;
	denied->source = *source;
	denied->destination = *destination;
	denied->hook = hook;
	denied->pad = 0;
	bpf_ringbuf_submit(denied, 0);
}

#endif
