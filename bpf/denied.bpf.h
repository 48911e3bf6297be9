/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * denied.bpf.h - tells the daemon what was refused, for its log. Whether it hears of it changes
 * nothing: the decision has been made, and was counted.
 */
#ifndef KMTLS_DENIED_BPF_H
#define KMTLS_DENIED_BPF_H

#include "context.bpf.h"

static __always_inline void tell_denied(enum kmtls_reason reason, enum kmtls_hook hook, __u64 netns,
					struct kmtls_endpoint *source,
					struct kmtls_endpoint *destination)
{
	struct kmtls_denied *denied;

	denied = bpf_ringbuf_reserve(&denials, sizeof(*denied), 0);
	if (!denied)
		return; /* more than are worth a line anyway */
	denied->reason = reason;
	denied->netns = netns;
	denied->source = *source;
	denied->destination = *destination;
	denied->hook = hook;
	bpf_ringbuf_submit(denied, BPF_RB_NO_WAKEUP);
}

#endif
