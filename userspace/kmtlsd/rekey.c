/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rekey.c - see rekey.h. This file replaces keys; rekey_limit.c knows when.
 */
#include <errno.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "counters.h"
#include "ktls.h"
#include "log.h"
#include "rekey_parts.h"

/* What a record can hold of the bytes that TCP has received and we have not. */
#define RECORD_MAX (32 * 1024)
/* KeyUpdates of the peer that may come in a row; then one a second, or one for so many KiB. */
#define STORM_BURST 16
#define STORM_KIB 64

static const unsigned char key_update[] = { 24, 0, 0, 1 }; /* and whether we want one too */

struct kmtls_rekey_secrets *kmtls_rekey_secrets_of(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_rekey_secrets *secrets = loop->daemon->rekey->secrets;

	if (!secrets || __atomic_load_n(&secrets[slot].generation, __ATOMIC_ACQUIRE) !=
				kmtls_loop_flow(loop, slot)->generation)
		return NULL;
	return &secrets[slot];
}

/* ---- one direction ---- */

/* The live key and the one after it, as we know them. */
struct step {
	struct kmtls_record_key live, next;
	struct kmtls_secret next_secret;
};

static void wipe_step(struct step *step)
{
	kmtls_record_key_wipe(&step->live);
	kmtls_record_key_wipe(&step->next);
	kmtls_secret_wipe(&step->next_secret);
}
#define __cleanup_step __attribute__((cleanup(wipe_step)))

static int derive(__u16 cipher, const struct kmtls_rekey_key *key, struct step *ret_step)
{
	struct kmtls_secret secret __cleanup_secret = { .length = kmtls_secret_length(cipher) };
	int err;

	memcpy(secret.bytes, key->bytes[key->state & KMTLS_REKEY_HALF], sizeof(secret.bytes));
	err = kmtls_record_key_derive(cipher, &secret, &ret_step->live);
	if (!err)
		err = kmtls_secret_next(cipher, &secret, &ret_step->next_secret);
	if (!err)
		err = kmtls_record_key_derive(cipher, &ret_step->next_secret, &ret_step->next);
	return err;
}

static void read_tcp(int fd, struct tcp_info *ret_info)
{
	socklen_t length = sizeof(*ret_info);

	memset(ret_info, 0, sizeof(*ret_info));
	getsockopt(fd, IPPROTO_TCP, TCP_INFO, ret_info, &length);
}

/* TCP's count of bytes now, and rather less: what waits to be read is under the next key. */
static __u64 base_now(int fd, enum kmtls_way way)
{
	struct tcp_info tcp;
	int waiting = 0;
	__u64 before;

	read_tcp(fd, &tcp);
	if (way == KMTLS_TO_WIRE)
		return tcp.tcpi_bytes_sent;
	if (ioctl(fd, SIOCINQ, &waiting) < 0)
		return 0;
	before = (__u64)waiting + RECORD_MAX;
	return tcp.tcpi_bytes_received > before ? tcp.tcpi_bytes_received - before : 0;
}

/* The kernel has the next key: from here on it is the live one. */
static void commit(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way,
		   const struct step *step)
{
	struct kmtls_rekey_key *key = &loop->daemon->rekey->secrets[slot].keys[way];
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	__u32 half = key->state & KMTLS_REKEY_HALF;

	memcpy(key->bytes[!half], step->next_secret.bytes, sizeof(key->bytes[0]));
	/* One store, so that there is no half of it. */
	__atomic_store_n(&key->state, !half, __ATOMIC_RELEASE);
	explicit_bzero(key->bytes[half], sizeof(key->bytes[half]));
	key->base = base_now(flow->wire_fd, way);
	private->key_bytes[way] = 0;
	private->key_flags &= ~KMTLS_KEY_WARNED(way);
	if (way == KMTLS_TO_LOCAL)
	private->key_flags &= ~KMTLS_KEY_ASKED;
	flow->rekeys++;
	kmtls_counters_add(KMTLS_REASON_REKEYED);
	log_debug("key replaced", "flow=%u.%u direction=%s reason=rekeyed", slot, flow->generation,
		  way == KMTLS_TO_WIRE ? "send" : "receive");
}

static enum kmtls_reason replace(struct kmtls_loop *loop, unsigned slot, enum kmtls_way way,
				 const struct step *step)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	int err = kmtls_ktls_replace(flow->wire_fd,
				     way == KMTLS_TO_WIRE ? KMTLS_KTLS_TX : KMTLS_KTLS_RX,
				     &step->live, &step->next);

	if (err && err != -EALREADY) {
		log_warning("key not replaced", "flow=%u.%u direction=%s err=%s", slot,
			    flow->generation, way == KMTLS_TO_WIRE ? "send" : "receive",
			    kmtls_log_quote(strerror(-err)));
		return KMTLS_REASON_REKEY_FAILED;
	}
	commit(loop, slot, way, step);
	return KMTLS_REASON_NONE;
}

/* ---- sending ---- */

enum kmtls_reason kmtls_rekey_send(struct kmtls_loop *loop, unsigned slot, bool ask)
{
	struct kmtls_rekey_secrets *secrets = &loop->daemon->rekey->secrets[slot];
	struct kmtls_rekey_key *key = &secrets->keys[KMTLS_TO_WIRE];
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct pollfd wire = { .fd = flow->wire_fd, .events = POLLOUT };
	unsigned char message[sizeof(key_update) + 1];
	struct step step __cleanup_step = {};
	int err;

	/* Only where there is room: the record must not wait inside kernel TLS half sent. Asking
	 * also arms the edge that tells. Data waits as well, or it would take all the room. */
	private->key_flags |= KMTLS_KEY_WAITING;
	if (poll(&wire, 1, 0) != 1)
		return KMTLS_REASON_NONE;
	if (derive(flow->cipher, key, &step) ||
	    kmtls_ktls_which(flow->wire_fd, KMTLS_KTLS_TX, &step.live, &step.next, &key->sequence))
		return KMTLS_REASON_REKEY_FAILED;
	memcpy(message, key_update, sizeof(key_update));
	message[sizeof(key_update)] = ask;
	__atomic_store_n(&key->state, key->state | KMTLS_REKEY_INTENT, __ATOMIC_RELEASE);
	err = kmtls_ktls_send(flow->wire_fd, KMTLS_RECORD_HANDSHAKE, message, sizeof(message));
	if (err)
		__atomic_store_n(&key->state, key->state & ~KMTLS_REKEY_INTENT, __ATOMIC_RELEASE);
	if (err == -EAGAIN)
		return KMTLS_REASON_NONE;
	if (err)
		return err == -EPIPE || err == -ECONNRESET || err == -ETIMEDOUT
			       ? KMTLS_REASON_PEER_RESET
			       : KMTLS_REASON_REKEY_FAILED;
	/* Nothing may be sent before the key is replaced: the peer expects the next one. */
	if (ask)
	private->key_flags |= KMTLS_KEY_ASKED;
	private->key_flags &= ~(KMTLS_KEY_DUE | KMTLS_KEY_WAITING);
	secrets->answer_due = 0;
	return replace(loop, slot, KMTLS_TO_WIRE, &step);
}

/* ---- receiving ---- */

/* Each one costs us more than the peer: they may come as fast as data or time passes. */
static bool is_storm(struct kmtls_flow_private *private)
{
	__u16 now = kmtls_loop_now_ms() / 1000;
	__u32 credit = (__u16)(now - private->key_second) + private->key_since / STORM_KIB;

	private->key_second = now;
	private->key_since = 0;
	private->key_updates = credit < private->key_updates ? private->key_updates - credit : 0;
	return ++private->key_updates > STORM_BURST;
}

/* Whoever comes after a crash need not ask the kernel for each flow's key, only where this says. */
static void intend_rx(struct kmtls_rekey_secrets *secrets)
{
	struct kmtls_rekey_key *key = &secrets->keys[KMTLS_TO_LOCAL];

	__atomic_store_n(&key->state, key->state | KMTLS_REKEY_INTENT, __ATOMIC_RELEASE);
}

enum kmtls_reason kmtls_rekey_resume(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_rekey_secrets *secrets = kmtls_rekey_secrets_of(loop, slot);
	struct step step __cleanup_step = {};

	if (!secrets)
		return KMTLS_REASON_PEER_REKEYED;
	intend_rx(secrets);
	if (derive(kmtls_loop_flow(loop, slot)->cipher, &secrets->keys[KMTLS_TO_LOCAL], &step))
		return KMTLS_REASON_REKEY_FAILED;
	return replace(loop, slot, KMTLS_TO_LOCAL, &step);
}

enum kmtls_reason kmtls_rekey_receive(struct kmtls_loop *loop, unsigned slot,
				      const unsigned char *record, size_t length)
{
	struct kmtls_rekey_secrets *secrets = kmtls_rekey_secrets_of(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	unsigned char taken[sizeof(key_update) + 1];
	__u8 type;

	/* Whole and alone: no message may reach from one key into the next (RFC 8446, 5.1). */
	if (length != sizeof(key_update) + 1 || memcmp(record, key_update, sizeof(key_update)) ||
	    record[sizeof(key_update)] > 1)
		return KMTLS_REASON_UNEXPECTED_RECORD;
	if (!secrets)
		return KMTLS_REASON_PEER_REKEYED;
	if (is_storm(private))
		return KMTLS_REASON_REKEY_STORM;
	if (record[sizeof(key_update)]) {
		/* However often it asks before it is answered: once. */
		secrets->answer_due = 1;
		private->key_flags |= KMTLS_KEY_DUE;
	}
	intend_rx(secrets);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	kmtls_ktls_receive(kmtls_loop_flow(loop, slot)->wire_fd, false, taken, sizeof(taken),
			   &type);
	/* Reads fail and poll is silent until the next key is there: at once. */
	return kmtls_rekey_resume(loop, slot);
}

/* ---- the flow's life ---- */

void kmtls_rekey_begin(struct kmtls_loop *loop, unsigned slot, const struct kmtls_secret *tx,
		       const struct kmtls_secret *rx)
{
	struct kmtls_rekey_table *table = loop->daemon->rekey;
	struct kmtls_rekey_secrets *secrets = &table->secrets[slot];

	if (!table->secrets)
		return;
	secrets->generation = 0;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	memset(secrets->keys, 0, sizeof(secrets->keys));
	secrets->answer_due = 0;
	memcpy(secrets->keys[KMTLS_TO_WIRE].bytes[0], tx->bytes, sizeof(tx->bytes));
	memcpy(secrets->keys[KMTLS_TO_LOCAL].bytes[0], rx->bytes, sizeof(rx->bytes));
	__atomic_store_n(&secrets->generation, kmtls_loop_flow(loop, slot)->generation,
			 __ATOMIC_RELEASE);
}

void kmtls_rekey_end(struct kmtls_rekey_table *table, unsigned slot)
{
	static const struct kmtls_rekey_secrets none;

	/* A kill may have left keys without a generation: looked at as a whole. */
	if (table->secrets && memcmp(&table->secrets[slot], &none, sizeof(none)) != 0)
		explicit_bzero(&table->secrets[slot], sizeof(table->secrets[slot]));
}

/* A KeyUpdate of ours was under way. */
static enum kmtls_reason adopt_tx(struct kmtls_loop *loop, unsigned slot,
				  struct kmtls_rekey_key *key)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct step step __cleanup_step = {};
	__u64 sequence = 0;
	int which;

	if (derive(flow->cipher, key, &step))
		return KMTLS_REASON_REKEY_FAILED;
	which = kmtls_ktls_which(flow->wire_fd, KMTLS_KTLS_TX, &step.live, &step.next, &sequence);
	if (which == 1 || (which == 0 && sequence == key->sequence + 1))
		return replace(loop, slot, KMTLS_TO_WIRE, &step);
	if (which || sequence != key->sequence)
		return KMTLS_REASON_REKEY_FAILED;
	__atomic_store_n(&key->state, key->state & ~KMTLS_REKEY_INTENT, __ATOMIC_RELEASE);
	return KMTLS_REASON_NONE;
}

/* A KeyUpdate of the peer's was seen. The kernel may have the next key already; if it has not but
 * waits for it, the next read says so. */
static enum kmtls_reason adopt_rx(struct kmtls_loop *loop, unsigned slot,
				  struct kmtls_rekey_key *key)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct step step __cleanup_step = {};
	int which;

	if (derive(flow->cipher, key, &step))
		return KMTLS_REASON_REKEY_FAILED;
	which = kmtls_ktls_which(flow->wire_fd, KMTLS_KTLS_RX, &step.live, &step.next, NULL);
	if (which == 1)
		commit(loop, slot, KMTLS_TO_LOCAL, &step);
	return which < 0 ? KMTLS_REASON_REKEY_FAILED : KMTLS_REASON_NONE;
}

/* TCP counts 22 bytes for a record beside what it carries, kmtls_rekey_count() up to 32. */
static __u64 count_anew(__u64 bytes, __u64 base)
{
	return bytes > base ? (bytes - base) / 2 * 3 : 0;
}

enum kmtls_reason kmtls_rekey_adopt(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_rekey_secrets *secrets = kmtls_rekey_secrets_of(loop, slot);
	struct kmtls_flow_private *private = kmtls_loop_private(loop, slot);
	enum kmtls_reason reason = KMTLS_REASON_NONE;
	__u64 tx_base = 0, rx_base = 0;
	struct tcp_info tcp;

	if (secrets && secrets->keys[KMTLS_TO_WIRE].state & KMTLS_REKEY_INTENT)
		reason = adopt_tx(loop, slot, &secrets->keys[KMTLS_TO_WIRE]);
	if (secrets && !reason && secrets->keys[KMTLS_TO_LOCAL].state & KMTLS_REKEY_INTENT)
		reason = adopt_rx(loop, slot, &secrets->keys[KMTLS_TO_LOCAL]);
	if (reason)
		return reason;
	if (secrets) {
		tx_base = secrets->keys[KMTLS_TO_WIRE].base;
		rx_base = secrets->keys[KMTLS_TO_LOCAL].base;
		if (secrets->answer_due)
		private->key_flags |= KMTLS_KEY_DUE;
	}
	read_tcp(kmtls_loop_flow(loop, slot)->wire_fd, &tcp);
	private->key_bytes[KMTLS_TO_WIRE] = count_anew(tcp.tcpi_bytes_sent, tx_base);
	private->key_bytes[KMTLS_TO_LOCAL] = count_anew(tcp.tcpi_bytes_received, rx_base);
	return KMTLS_REASON_NONE;
}
