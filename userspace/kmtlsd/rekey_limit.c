/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey_limit.c - see rekey.h. When keys are replaced, how much they may encrypt, what happens
 * to flows that cannot; and where the secrets are.
 *
 * The sender's key is replaced at a quarter of the limit. The peer does the same with its own;
 * one that has not done so at three eighths is asked to. A flow whose key passes a half of the
 * limit all the same (its side cannot, or the peer does not answer) is reported once, and goes
 * on or is ended at the limit. That end is no end of the stream, so it never looks like one:
 * what was taken is delivered, the peer gets a fatal alert and both applications a reset.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

#include "counters.h"
#include "ktls.h"
#include "log.h"
#include "rekey_parts.h"

#define ALERT_FATAL 2
#define ALERT_INTERNAL_ERROR 80 /* RFC 8446 has none that says it better */
/* For the applications and the peer to take what is on its way. */
#define CLOSING_SECONDS 30
#define CHACHA20 0x1303

/* ---- the table ---- */

size_t kmtls_rekey_size(unsigned capacity)
{
	return (size_t)capacity * sizeof(struct kmtls_rekey_secrets);
}

/* Locked page by page, as they are used: most flows of most nodes never need it. */
static int map_locked(size_t bytes, void **ret_memory)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (memory == MAP_FAILED)
		return -errno;
	if (mlock2(memory, bytes, MLOCK_ONFAULT) || madvise(memory, bytes, MADV_DONTDUMP)) {
		int err = -errno;

		munmap(memory, bytes);
		return err;
	}
	*ret_memory = memory;
	return 0;
}

int kmtls_rekey_open(const struct kmtls_rekey_options *options, void *memory, unsigned capacity,
		     struct kmtls_rekey_table **ret_table)
{
	struct kmtls_rekey_table *table = calloc(1, sizeof(*table));
	size_t bytes = kmtls_rekey_size(capacity);
	int err = 0;

	if (!table)
		return -ENOMEM;
	table->limit = options->limit;
	table->close_at_limit = options->close_at_limit;
	if (options->wanted)
		err = kmtls_ktls_probe_rekey();
	if (options->wanted && !err && !memory) {
		err = map_locked(bytes, &memory);
		if (!err)
			table->own_bytes = bytes;
	}
	/* Given memory may hold secrets of flows that another configuration began. */
	table->secrets = memory;
	table->offered = options->wanted && !err;
	if (err)
		log_info("keys are not replaced", "err=%s",
			 kmtls_log_quote(err == -EBUSY ? "the kernel cannot, before 6.14"
						       : strerror(-err)));
	*ret_table = table;
	return 0;
}

void kmtls_rekey_close(struct kmtls_rekey_table *table)
{
	if (table && table->own_bytes)
		munmap(table->secrets, table->own_bytes);
	free(table);
}

/* ---- limits ---- */

static __u64 limit_of(struct kmtls_loop *loop, unsigned slot)
{
	return kmtls_loop_flow(loop, slot)->cipher == CHACHA20 ? ~0ull : loop->daemon->rekey->limit;
}

static enum kmtls_reason update(struct kmtls_loop *loop, unsigned slot, __u64 limit)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	bool ask;

	if (kmtls_loop_flow(loop, slot)->to_wire.notify != KMTLS_NOTIFY_NONE) {
		/* After close_notify nothing is sent, so nothing is encrypted either. */
		private->key_flags &= ~KMTLS_KEY_DUE;
		return KMTLS_REASON_NONE;
	}
	ask = private->key_bytes[KMTLS_TO_LOCAL] >= limit / 8 * 3 &&
	      !(private->key_flags & KMTLS_KEY_ASKED);
	if (!ask && !(private->key_flags & KMTLS_KEY_DUE) &&
	    private->key_bytes[KMTLS_TO_WIRE] < limit / 4)
		return KMTLS_REASON_NONE;
	return kmtls_rekey_send(loop, slot, ask);
}

static void warn(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	private->key_flags |= KMTLS_KEY_WARNED(way);
	kmtls_counters_add(KMTLS_REASON_KEY_LIMIT_NEAR);
	log_warning("key limit near", "flow=%u.%u direction=%s bytes=%llu limit=%llu", slot,
		    kmtls_loop_flow(loop, slot)->generation,
		    way == KMTLS_TO_WIRE ? "send" : "receive", private->key_bytes[way],
		    loop->daemon->rekey->limit);
}

static void begin_closing(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);

	private->key_flags |= KMTLS_KEY_CLOSING;
	if (!private->linger_deadline)
		loop->lingering++;
	private->linger_deadline = kmtls_loop_now_ms() / 1000 + CLOSING_SECONDS;
}

/* Delivers what was taken, tells the peer, waits until it knows. */
static enum kmtls_reason serve_closing(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct pollfd wire = { .fd = flow->wire_fd, .events = POLLOUT };

	if (private->key_flags & KMTLS_KEY_SAID) {
		wire.events = POLLRDHUP;
		return poll(&wire, 1, 0) == 1 ? KMTLS_REASON_KEY_LIMIT : KMTLS_REASON_NONE;
	}
	if (private->queued[KMTLS_TO_WIRE] || private->queued[KMTLS_TO_LOCAL])
		return KMTLS_REASON_NONE;
	if (flow->to_wire.notify != KMTLS_NOTIFY_NONE)
		return KMTLS_REASON_KEY_LIMIT; /* the peer has all of this way, there is no word left */
	if (poll(&wire, 1, 0) != 1)
		return KMTLS_REASON_NONE;
	if (kmtls_ktls_send_alert(flow->wire_fd, ALERT_FATAL, ALERT_INTERNAL_ERROR))
		return KMTLS_REASON_KEY_LIMIT;
	shutdown(flow->wire_fd, SHUT_WR);
	private->key_flags |= KMTLS_KEY_SAID;
	return KMTLS_REASON_NONE;
}

enum kmtls_reason kmtls_rekey_serve(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_rekey_table *table = loop->daemon->rekey;
	__u64 limit = limit_of(loop, slot);
	enum kmtls_reason reason;

	if (kmtls_rekey_closing(private))
		return serve_closing(loop, slot);
	if (kmtls_rekey_secrets_of(loop, slot)) {
		reason = update(loop, slot, limit);
		if (reason)
			return reason;
	}
	for (int way = KMTLS_TO_WIRE; way <= KMTLS_TO_LOCAL; way++) {
		if (private->key_bytes[way] >= limit / 2 &&
		    !(private->key_flags & KMTLS_KEY_WARNED(way)))
			warn(loop, slot, way);
		/* What one more splice would move must fit in. */
		if (table->close_at_limit && !kmtls_rekey_closing(private) &&
		    private->key_bytes[way] + 2 * KMTLS_PIPE_BYTES >= limit)
			begin_closing(loop, slot);
	}
	/* At once: from here on nothing is read, so if nothing is on its way no edge will come. */
	return kmtls_rekey_closing(private) ? serve_closing(loop, slot) : KMTLS_REASON_NONE;
}

enum kmtls_reason kmtls_rekey_end_reason(struct kmtls_loop *loop, unsigned slot,
					 enum kmtls_reason reason)
{
	return kmtls_rekey_closing(kmtls_loop_private(loop, slot)) ? KMTLS_REASON_KEY_LIMIT
								   : reason;
}
