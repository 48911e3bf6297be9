/* SPDX-License-Identifier: Apache-2.0 */
/* diag.c - see diag.h. Needs CAP_NET_ADMIN for the TLS part (kernel: tcp_diag_get_aux). */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tls.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>
#include <string.h>

#include "address.h"
#include "diag.h"
#include "netlink.h"

#ifndef TLS_CONF_SW
#define TLS_CONF_SW 2
#define TLS_CONF_HW 3
#endif
#define TCP_LISTEN_STATE 10

/* Established, FIN_WAIT1 and 2, CLOSE_WAIT, LAST_ACK, CLOSING. */
#define TCP_CONNECTED_STATES (1u << 1 | 1u << 4 | 1u << 5 | 1u << 8 | 1u << 9 | 1u << 11)

struct request {
	int (*visit)(void *context, const struct kmtls_endpoint *local, unsigned device);
	int (*visit_socket)(void *context, const struct kmtls_diag_socket *socket);
	void *context;
	int err;
	bool found;
	__u8 tx, rx;
};

/* Sends one inet_diag request and feeds the answers to valid. */
static int ask(int type, struct inet_diag_req_v2 *query, int flags, nl_recvmsg_msg_cb_t valid,
	       struct request *request)
{
	struct nl_sock *socket = nl_socket_alloc();
	int err;

	if (!socket)
		return -ENOMEM;
	nl_socket_disable_seq_check(socket);
	if (valid)
		nl_socket_modify_cb(socket, NL_CB_VALID, NL_CB_CUSTOM, valid, request);
	err = nl_connect(socket, NETLINK_SOCK_DIAG);
	if (!err)
		err = nl_send_simple(socket, type, NLM_F_REQUEST | flags, query, sizeof(*query));
	if (err >= 0)
		err = nl_recvmsgs_default(socket);
	nl_socket_free(socket);
	if (request->err)
		return request->err;
	if (err == -NLE_OBJ_NOTFOUND)
		return -ENOENT;
	if (err == -NLE_OPNOTSUPP)
		return -EOPNOTSUPP;
	return err < 0 ? -EIO : 0;
}

static void make_endpoint(int family, const __be32 *words, __be16 port, struct kmtls_endpoint *ret)
{
	memset(ret, 0, sizeof(*ret));
	if (family == AF_INET) {
		ret->address.bytes[10] = ret->address.bytes[11] = 0xff;
		memcpy(ret->address.bytes + 12, words, 4);
	} else {
		memcpy(ret->address.bytes, words, 16);
	}
	ret->port = ntohs(port);
}

static void endpoint_from_id(const struct inet_diag_msg *message, struct kmtls_endpoint *ret)
{
	make_endpoint(message->idiag_family, message->id.idiag_src, message->id.idiag_sport, ret);
}

static int on_listener(struct nl_msg *message, void *context)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	const struct inet_diag_msg *found;
	struct request *request = context;
	struct kmtls_endpoint local;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlmsg_datalen(header) < (int)sizeof(struct inet_diag_msg))
		return NL_SKIP;
	found = nlmsg_data(header);
	endpoint_from_id(found, &local);
	request->err = request->visit(request->context, &local, found->id.idiag_if);
	return request->err ? NL_STOP : NL_OK;
}

/* TCP sockets of both families that are in one of these states. */
static int dump(__u32 states, nl_recvmsg_msg_cb_t valid, struct request *request)
{
	static const int families[] = { AF_INET, AF_INET6 };

	for (int i = 0; i < 2; i++) {
		struct inet_diag_req_v2 query = {
			.sdiag_family = families[i],
			.sdiag_protocol = IPPROTO_TCP,
			.idiag_states = states,
		};
		int err = ask(SOCK_DIAG_BY_FAMILY, &query, NLM_F_DUMP, valid, request);

		/* A kernel without IPv6 has no such family: nothing listens there. */
		if (err && !(families[i] == AF_INET6 && err == -ENOENT))
			return err;
	}
	return 0;
}

int kmtls_diag_listeners(int (*visit)(void *context, const struct kmtls_endpoint *local,
				      unsigned device),
			 void *context)
{
	struct request request = { .visit = visit, .context = context };

	return dump(1 << TCP_LISTEN_STATE, on_listener, &request);
}

static int on_connected(struct nl_msg *message, void *context)
{
	struct nlmsghdr *header = nlmsg_hdr(message);
	struct kmtls_diag_socket socket = {};
	const struct inet_diag_msg *found;
	struct request *request = context;
	struct nlattr *cgroup;

	if (header->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    nlmsg_datalen(header) < (int)sizeof(struct inet_diag_msg))
		return NL_SKIP;
	found = nlmsg_data(header);
	endpoint_from_id(found, &socket.local);
	make_endpoint(found->idiag_family, found->id.idiag_dst, found->id.idiag_dport,
		      &socket.remote);
	socket.cookie = found->id.idiag_cookie[0] | (__u64)found->id.idiag_cookie[1] << 32;
	socket.family = found->idiag_family;
	socket.id = found->id;
	cgroup = nlmsg_find_attr(header, sizeof(*found), INET_DIAG_CGROUP_ID);
	if (cgroup)
		socket.cgroup = nla_get_u64(cgroup);
	request->err = request->visit_socket(request->context, &socket);
	return request->err ? NL_STOP : NL_OK;
}

int kmtls_diag_connected(int (*visit)(void *context, const struct kmtls_diag_socket *socket),
			 void *context)
{
	struct request request = { .visit_socket = visit, .context = context };

	return dump(TCP_CONNECTED_STATES, on_connected, &request);
}

int kmtls_diag_destroy(const struct kmtls_diag_socket *socket)
{
	struct inet_diag_req_v2 query = {
		.sdiag_family = socket->family,
		.sdiag_protocol = IPPROTO_TCP,
		.idiag_states = ~0u,
		.id = socket->id,
	};
	struct request request = {};

	return ask(SOCK_DESTROY, &query, NLM_F_ACK, NULL, &request);
}

static __u8 offload(struct nlattr *attribute)
{
	switch (attribute ? nla_get_u16(attribute) : 0) {
	case TLS_CONF_SW:
		return KMTLS_OFFLOAD_SW;
	case TLS_CONF_HW:
		return KMTLS_OFFLOAD_HW;
	default:
		return KMTLS_OFFLOAD_NONE;
	}
}

static int on_socket(struct nl_msg *message, void *context)
{
	struct nlattr *info, *tls;
	struct request *request = context;

	if (nlmsg_hdr(message)->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return NL_SKIP;
	request->found = true;
	info = nlmsg_find_attr(nlmsg_hdr(message), sizeof(struct inet_diag_msg),
			       INET_DIAG_ULP_INFO);
	tls = info ? nla_find(nla_data(info), nla_len(info), INET_ULP_INFO_TLS) : NULL;
	if (!tls)
		return NL_OK;
	request->tx = offload(nla_find(nla_data(tls), nla_len(tls), TLS_INFO_TXCONF));
	request->rx = offload(nla_find(nla_data(tls), nla_len(tls), TLS_INFO_RXCONF));
	return NL_OK;
}

static void put_address(const struct kmtls_address *address, int family, __be32 *ret_words)
{
	if (family == AF_INET)
		memcpy(ret_words, address->bytes + 12, 4);
	else
		memcpy(ret_words, address->bytes, 16);
}

/* ---- the listener of a connection; asked for each, so without libnl and its buffers ---- */

int kmtls_diag_listener_of(const struct kmtls_endpoint *local, unsigned device, unsigned *ret_bound)
{
	int family = kmtls_address_is_v4(&local->address) ? AF_INET : AF_INET6;
	struct {
		struct nlmsghdr header;
		struct inet_diag_req_v2 query;
	} question = {
		.header = {
			.nlmsg_len = sizeof(question),
			.nlmsg_type = SOCK_DIAG_BY_FAMILY,
			.nlmsg_flags = NLM_F_REQUEST,
		},
		.query = {
			.sdiag_family = family,
			.sdiag_protocol = IPPROTO_TCP,
			.id = {
				.idiag_sport = htons(local->port),
				.idiag_dst[0] = htonl(INADDR_LOOPBACK),
				.idiag_if = device,
				.idiag_cookie = { INET_DIAG_NOCOOKIE, INET_DIAG_NOCOOKIE },
			},
		},
	};
	union kmtls_netlink_answer answer;
	int err;

	put_address(&local->address, family, question.query.id.idiag_src);
	if (family == AF_INET6)
		memcpy(question.query.id.idiag_dst, &in6addr_loopback, sizeof(in6addr_loopback));
	err = kmtls_netlink_ask(NETLINK_SOCK_DIAG, &question.header, SOCK_DIAG_BY_FAMILY,
				sizeof(struct inet_diag_msg), &answer);
	if (!err)
		*ret_bound =
			((const struct inet_diag_msg *)NLMSG_DATA(&answer.header))->id.idiag_if;
	return err;
}

/* ---- TLS ---- */

int kmtls_diag_tls(const struct kmtls_endpoint *local, const struct kmtls_endpoint *remote,
		   __u64 cookie, __u8 *ret_tx, __u8 *ret_rx)
{
	int family = kmtls_address_is_v4(&remote->address) ? AF_INET : AF_INET6;
	struct inet_diag_req_v2 query = {
		.sdiag_family = family,
		.sdiag_protocol = IPPROTO_TCP,
		/* Without TCP_INFO the kernel leaves the TLS part out too. */
		.idiag_ext = 1 << (INET_DIAG_INFO - 1),
		.idiag_states = ~0u,
		.id = {
			.idiag_sport = htons(local->port),
			.idiag_dport = htons(remote->port),
			.idiag_cookie = { (__u32)cookie, (__u32)(cookie >> 32) },
		},
	};
	struct request request = {};
	int err;

	put_address(&local->address, family, query.id.idiag_src);
	put_address(&remote->address, family, query.id.idiag_dst);
	err = ask(SOCK_DIAG_BY_FAMILY, &query, 0, on_socket, &request);
	if (err)
		return err;
	if (!request.found)
		return -ENOENT;
	*ret_tx = request.tx;
	*ret_rx = request.rx;
	return 0;
}
