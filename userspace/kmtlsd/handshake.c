/* SPDX-License-Identifier: Apache-2.0 */
/* handshake.c - see handshake.h. */
#include <errno.h>
#include <openssl/err.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "counters.h"
#include "handshake.h"
#include "inbound_peek.h"
#include "log.h"
#include "match.h"
#include "outbound.h"
#include "pressure.h"
#include "reason.h"
#include "refusals.h"
#include "relay.h"
#include "sources.h"
#include "tls.h"

const char *kmtls_handshake_direction(enum kmtls_role role)
{
	return role == KMTLS_ROLE_CLIENT ? "outbound" : "inbound";
}

__u64 kmtls_handshake_cookie(int fd)
{
	socklen_t length = sizeof(__u64);
	__u64 cookie = 0;

	getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length);
	return cookie;
}

enum kmtls_reason kmtls_handshake_dial_reason(int err)
{
	switch (err) {
	case ECONNREFUSED:
		return KMTLS_REASON_DIAL_REFUSED;
	case EHOSTUNREACH:
	case ENETUNREACH:
	case EHOSTDOWN:
	case ENETDOWN:
	case EACCES: /* a `prohibit` route, an ICMPv6 error */
		return KMTLS_REASON_DIAL_UNREACHABLE;
	case ETIMEDOUT:
		return KMTLS_REASON_DIAL_TIMEOUT;
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
		return KMTLS_REASON_NO_RESOURCES;
	case ECONNRESET: /* accepted, and gone before we could say anything */
	case EPIPE:
		return KMTLS_REASON_HANDSHAKE_RESET;
	}
	return KMTLS_REASON_DIAL_FAILED;
}

/* ---- the loop's lists, first to end first ---- */

static void list_append(struct kmtls_handshake_list *list, struct kmtls_handshake *handshake,
			__u64 milliseconds)
{
	struct kmtls_handshake *before = list->newest;

	handshake->deadline = kmtls_loop_now_ms() + milliseconds;
	handshake->list = list;
	/* All of a list have the same time, but it may have become shorter meanwhile. */
	while (before && before->deadline > handshake->deadline)
		before = before->previous;
	handshake->previous = before;
	handshake->next = before ? before->next : list->oldest;
	if (before)
		before->next = handshake;
	else
		list->oldest = handshake;
	if (handshake->next)
		handshake->next->previous = handshake;
	else
		list->newest = handshake;
}

static void list_remove(struct kmtls_handshake *handshake)
{
	struct kmtls_handshake_list *list = handshake->list;

	if (handshake->previous)
		handshake->previous->next = handshake->next;
	else
		list->oldest = handshake->next;
	if (handshake->next)
		handshake->next->previous = handshake->previous;
	else
		list->newest = handshake->previous;
}

static enum kmtls_reason timeout_reason(const struct kmtls_handshake *handshake)
{
	switch (handshake->stage) {
	case KMTLS_HANDSHAKE_DIALING:
	case KMTLS_HANDSHAKE_DELIVERING:
		return KMTLS_REASON_DIAL_TIMEOUT;
	case KMTLS_HANDSHAKE_PASSED:
		return KMTLS_REASON_LOCAL_TIMEOUT;
	default:
		return KMTLS_REASON_HANDSHAKE_TIMEOUT;
	}
}

static void time_is_over(struct kmtls_handshake *handshake)
{
	/* Something on the way may swallow what has no key share: the next one is an ordinary one. */
	if (handshake->role == KMTLS_ROLE_CLIENT && handshake->psk &&
	    handshake->stage == KMTLS_HANDSHAKE_TLS)
		kmtls_resumption_refuse_symmetric(&handshake->resumption);
	kmtls_handshake_fail(handshake, timeout_reason(handshake),
			     handshake->stage == KMTLS_HANDSHAKE_DELIVERING
				     ? "the application did not answer"
				     : NULL);
}

/* ms until the next one's time is over, or -1. */
static int expire(struct kmtls_handshake_list *list,
		  void (*over)(struct kmtls_handshake *handshake))
{
	__u64 now;

	/* Before every wait, and mostly there is none: the clock is not free. */
	if (!list->oldest)
		return -1;
	now = kmtls_loop_now_ms();
	while (list->oldest && list->oldest->deadline <= now)
		over(list->oldest);
	return list->oldest ? (int)(list->oldest->deadline - now) : -1;
}

int kmtls_handshake_expire(struct kmtls_loop *loop)
{
	/* First: they go on to the other list, or end. Or, draining, wait for the next worker. */
	int silent = loop->draining ? -1 : expire(&loop->silent_list, kmtls_inbound_peek_expire);
	int shaking = expire(&loop->shaking_list, time_is_over);

	if (silent < 0 || shaking < 0)
		return silent < 0 ? shaking : silent;
	return silent < shaking ? silent : shaking;
}

bool kmtls_handshake_is_half_done(const struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	return kmtls_flow_state(flow) == KMTLS_FLOW_HANDSHAKE && !flow->untaken &&
	       handshake->stage != KMTLS_HANDSHAKE_DIALING;
}

bool kmtls_handshake_any_half_done(const struct kmtls_loop *loop)
{
	const struct kmtls_handshake *handshake = loop->shaking_list.oldest;

	while (handshake && !kmtls_handshake_is_half_done(handshake))
		handshake = handshake->next;
	return handshake;
}

static void begin_time(struct kmtls_handshake *handshake)
{
	struct kmtls_loop *loop = handshake->loop;

	list_append(&loop->shaking_list, handshake,
		    loop->daemon->config->handshake_timeout * 1000ull);
}

void kmtls_handshake_more_time(struct kmtls_handshake *handshake)
{
	list_remove(handshake);
	begin_time(handshake);
}

void kmtls_handshake_wait_for_peek(struct kmtls_handshake *handshake)
{
	struct kmtls_loop *loop = handshake->loop;

	list_remove(handshake);
	list_append(&loop->silent_list, handshake, loop->daemon->config->peek_timeout_ms);
}

/* ---- begin and end ---- */

void kmtls_handshake_refuse(const struct kmtls_pod *pod, enum kmtls_role role,
			    const struct kmtls_endpoint *peer, enum kmtls_reason reason,
			    const char *detail)
{
	char text[KMTLS_ENDPOINT_TEXT];

	kmtls_counters_add(reason);
	if (!kmtls_refusals_worth_a_line(reason))
		return;
	log_warning("connection refused", "pod=%s direction=%s peer=%s reason=%s text=%s detail=%s",
		    kmtls_log_quote(pod->name), kmtls_handshake_direction(role),
		    peer ? kmtls_endpoint_format(peer, text, sizeof(text)) : "?",
		    kmtls_reason_name(reason), kmtls_log_quote(kmtls_reason_text(reason)),
		    kmtls_log_quote(detail ? detail : ""));
}

void kmtls_handshake_reset_socket(int fd)
{
	static const struct linger reset_on_close = { .l_onoff = 1, .l_linger = 0 };

	if (fd < 0)
		return;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset_on_close, sizeof(reset_on_close));
	close(fd);
}

void kmtls_handshake_free(struct kmtls_handshake *handshake)
{
	list_remove(handshake);
	if (handshake->entered)
		kmtls_sources_leave(
			handshake->loop->daemon->sources,
			&kmtls_loop_flow(handshake->loop, handshake->slot)->peer.address);
	kmtls_hold_forget(handshake->loop->daemon->hold, handshake);
	kmtls_loop_private(handshake->loop, handshake->slot)->handshake = NULL;
	SSL_free(handshake->ssl);
	kmtls_handshake_psk_end(handshake);
	kmtls_resumption_leave(&handshake->resumption, false);
	ERR_clear_error();
	kmtls_traffic_secrets_wipe(&handshake->secrets);
	kmtls_svid_put(handshake->svid);
	kmtls_pod_put(handshake->pod);
	free(handshake);
}

static atomic_uint begun;

unsigned kmtls_handshake_begun(void)
{
	return begun;
}

struct kmtls_handshake *kmtls_handshake_new(struct kmtls_loop *loop, struct kmtls_pod *pod,
					    enum kmtls_role role, int fd,
					    const struct kmtls_endpoint *self,
					    const struct kmtls_endpoint *peer)
{
	struct kmtls_handshake *handshake = calloc(1, sizeof(*handshake));
	enum kmtls_reason reason = KMTLS_REASON_NO_RESOURCES;
	struct kmtls_flow *flow;
	int err;

	atomic_fetch_add_explicit(&begun, 1, memory_order_relaxed);
	if (!handshake)
		goto refuse;
	reason = KMTLS_REASON_MEMORY_PRESSURE;
	if (kmtls_pressure_is_high(loop->daemon->pressure))
		goto free_memory;
	handshake->svid = kmtls_pod_svid(pod);
	reason = KMTLS_REASON_NO_IDENTITY;
	/* A server's client may speak plaintext: found out later (kmtls_handshake_start_tls()). */
	if (!handshake->svid && role == KMTLS_ROLE_CLIENT)
		goto free_memory;
	err = kmtls_flow_table_take(loop->daemon->flows, loop->number, pod->netns_cookie,
				    &handshake->slot);
	reason = err == -EDQUOT ? KMTLS_REASON_POD_LIMIT : KMTLS_REASON_TABLE_FULL;
	if (err)
		goto put_svid;

	handshake->loop = loop;
	handshake->role = role;
	handshake->pod = pod;
	atomic_fetch_add(&pod->references, 1);
	begin_time(handshake);
	kmtls_loop_private(loop, handshake->slot)->handshake = handshake;

	flow = kmtls_loop_flow(loop, handshake->slot);
	flow->role = role;
	flow->self_identity = pod->identity_hash;
	flow->self = *self;
	flow->peer = *peer;
	flow->started = time(NULL);
	if (role == KMTLS_ROLE_CLIENT && fd >= 0) {
		flow->local_fd = fd;
		flow->local_cookie = kmtls_handshake_cookie(fd);
	} else if (fd >= 0) {
		flow->wire_fd = fd;
		flow->wire_cookie = kmtls_handshake_cookie(fd);
	}
	kmtls_flow_set_state(flow, KMTLS_FLOW_HANDSHAKE);
	if (fd >= 0 &&
	    kmtls_loop_watch(loop, role == KMTLS_ROLE_CLIENT ? KMTLS_TAG_LOCAL : KMTLS_TAG_WIRE,
			     handshake->slot, fd) < 0) {
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, strerror(errno));
		return NULL;
	}
	return handshake;

put_svid:
	kmtls_svid_put(handshake->svid);
free_memory:
	free(handshake);
refuse:
	kmtls_handshake_refuse(pod, role, peer, reason, NULL);
	kmtls_handshake_reset_socket(fd);
	return NULL;
}

/* Its identity was verified, its keys are installed: what is left is to wait. */
static struct kmtls_handshake *resumed(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_pod *pod = kmtls_pods_find(loop->daemon->pods, flow->netns_cookie);
	struct kmtls_handshake *handshake = pod ? calloc(1, sizeof(*handshake)) : NULL;

	if (!handshake) {
		kmtls_pod_put(pod);
		return NULL;
	}
	handshake->loop = loop;
	handshake->slot = slot;
	handshake->role = flow->role;
	handshake->stage = KMTLS_HANDSHAKE_PASSED;
	handshake->pod = pod;
	begin_time(handshake);
	kmtls_loop_private(loop, slot)->handshake = handshake;
	return handshake;
}

void kmtls_handshake_resume(struct kmtls_loop *loop, unsigned slot)
{
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);
	struct kmtls_handshake *handshake = resumed(loop, slot);
	bool watched;

	if (!handshake) {
		kmtls_relay_reset(loop, slot, KMTLS_REASON_POD_REMOVED);
		return;
	}
	watched = kmtls_loop_watch(loop, KMTLS_TAG_WIRE, slot, flow->wire_fd) == 0;
	if (watched && flow->local_fd >= 0) {
		/* The connection had come. */
		flow->local_cookie = kmtls_handshake_cookie(flow->local_fd);
		watched = kmtls_loop_watch(loop, KMTLS_TAG_LOCAL, slot, flow->local_fd) == 0;
	} else if (watched) {
		kmtls_hold_resume(loop->daemon->hold, handshake);
		return;
	}
	if (watched)
		kmtls_handshake_establish(handshake);
	else
		kmtls_handshake_fail(handshake, KMTLS_REASON_NO_RESOURCES, strerror(errno));
}

/*
 * Closes a wire socket whose handshake failed. Where an alert went out, what the peer has
 * sent in the meantime is thrown away first, or the close would become a reset that overtakes
 * it. To someone who does not even speak TLS there is nothing to say: a reset.
 */
static void close_wire(int fd, bool said_something)
{
	char discarded[4096];

	if (fd < 0)
		return;
	if (!said_something) {
		kmtls_handshake_reset_socket(fd);
		return;
	}
	shutdown(fd, SHUT_WR);
	for (int i = 0; i < 16 && recv(fd, discarded, sizeof(discarded), MSG_DONTWAIT) > 0; i++)
		;
	close(fd);
}

static bool has_spoken(const struct kmtls_handshake *handshake)
{
	return handshake->psk
		       ? kmtls_psk_has_spoken(handshake->psk)
		       : handshake->ssl && BIO_number_written(SSL_get_wbio(handshake->ssl)) > 0;
}

static void log_failure(const struct kmtls_handshake *handshake, enum kmtls_reason reason,
			const char *detail)
{
	const struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT];

	log_warning("connection refused",
		    "flow=%u.%u pod=%s direction=%s self=%s peer=%s reason=%s text=%s self_id=%s "
		    "peer_id=%s expected_id=%s match=%s detail=%s",
		    handshake->slot, flow->generation, kmtls_log_quote(handshake->pod->name),
		    kmtls_handshake_direction(handshake->role),
		    kmtls_endpoint_format(&flow->self, self, sizeof(self)),
		    kmtls_endpoint_format(&flow->peer, peer, sizeof(peer)),
		    kmtls_reason_name(reason), kmtls_log_quote(kmtls_reason_text(reason)),
		    kmtls_log_quote(handshake->pod->id), kmtls_log_quote(handshake->verify.peer_id),
		    kmtls_log_quote(handshake->expected_id),
		    handshake->role == KMTLS_ROLE_CLIENT
			    ? kmtls_match_name(handshake->verify.expected_match)
			    : "\"\"",
		    kmtls_log_quote_long(detail));
}

void kmtls_handshake_fail(struct kmtls_handshake *handshake, enum kmtls_reason reason,
			  const char *detail)
{
	struct kmtls_loop *loop = handshake->loop;
	unsigned slot = handshake->slot;
	struct kmtls_flow *flow = kmtls_loop_flow(loop, slot);

	kmtls_counters_add(reason);
	if (kmtls_refusals_worth_a_line(reason))
		log_failure(handshake, reason, detail);
	kmtls_flow_set_state(flow, KMTLS_FLOW_CLOSING);
	if (flow->local_fd >= 0)
		close(flow->local_fd); /* a reset: SO_LINGER from birth */
	else if (handshake->attempt.cookie)
		kmtls_hold_answer(loop->daemon->hold, handshake, reason);
	close_wire(flow->wire_fd, has_spoken(handshake));
	kmtls_handshake_free(handshake);
	kmtls_loop_return_slot(loop, slot);
}

/*
 * The peer's daemon may have been replaced under us: a reset that says nothing is worth one
 * more try, as long as the application waits for its connect() and has sent nothing. (A server
 * application may then see a connection that ends at once, and another.) So may a server that
 * does not know symmetric handshakes: it ends the connection after its alert. What an application has
 * sent that did not wait is still in its socket.
 */
static bool may_retry(const struct kmtls_handshake *handshake, enum kmtls_reason reason)
{
	bool waits = handshake->attempt.cookie && !handshake->attempt.passed;

	return reason == KMTLS_REASON_HANDSHAKE_RESET && handshake->role == KMTLS_ROLE_CLIENT &&
	       (waits || (handshake->psk_refused && handshake->stage == KMTLS_HANDSHAKE_TLS)) &&
	       !handshake->retried;
}

void kmtls_handshake_dial_again(struct kmtls_handshake *handshake)
{
	struct kmtls_flow *flow = kmtls_loop_flow(handshake->loop, handshake->slot);

	handshake->retried = true;
	/* What it begins with again has had its chance. */
	handshake->psk_over = true;
	handshake->psk_refused = false;
	kmtls_handshake_psk_end(handshake);
	kmtls_resumption_leave(&handshake->resumption, false);
	kmtls_counters_add(KMTLS_REASON_RETRIED);
	log_debug("handshake tried once more", "flow=%u.%u", handshake->slot, flow->generation);
	SSL_free(handshake->ssl);
	handshake->ssl = NULL;
	kmtls_traffic_secrets_wipe(&handshake->secrets);
	memset(&handshake->verify, 0, sizeof(handshake->verify));
	close_wire(flow->wire_fd, false);
	flow->wire_fd = -1;
	handshake->stage = KMTLS_HANDSHAKE_DIALING;
	kmtls_outbound_dial(handshake);
}

void kmtls_handshake_fail_or_retry(struct kmtls_handshake *handshake, enum kmtls_reason reason,
				   const char *detail)
{
	if (may_retry(handshake, reason))
		kmtls_handshake_dial_again(handshake);
	else
		kmtls_handshake_fail(handshake, reason, detail);
}

void kmtls_handshake_fail_tls(struct kmtls_handshake *handshake)
{
	char detail[KMTLS_VERIFY_DETAIL];
	enum kmtls_reason reason;

	reason = kmtls_verify_handshake_error(handshake->ssl, &handshake->verify, detail);
	kmtls_handshake_fail_or_retry(handshake, reason, detail);
}
