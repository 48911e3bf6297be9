/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_flows.c - what `kmtls flows` and `kmtls status` show. Both only read. Flows are
 * written out one by one: a full table of a big node is tens of megabytes of text, and would
 * be ten times that as a tree.
 */
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "bpf_loader.h"
#include "control_request.h"
#include "daemon.h"
#include "flow_table.h"
#include "hash.h"
#include "map_walk.h"
#include "pods.h"
#include "pods_table.h"
#include "modes.h"
#include "policy.h"
#include "reason.h"
#include "rekey.h"
#include "secret_region.h"
#include "shared.h"

static const char *state_name(unsigned state)
{
	switch (state) {
	case KMTLS_FLOW_FREE:
		return "free";
	case KMTLS_FLOW_HANDSHAKE:
		return "handshake";
	case KMTLS_FLOW_ESTABLISHED:
		return "established";
	case KMTLS_FLOW_CLOSING:
		return "closing";
	case KMTLS_FLOW_CONFIRMED:
		return "confirmed";
	default:
		return "unknown";
	}
}

static const char *role_name(unsigned role)
{
	switch (role) {
	case KMTLS_ROLE_CLIENT:
		return "client";
	case KMTLS_ROLE_SERVER:
		return "server";
	default:
		return "unknown";
	}
}

static const char *offload_name(unsigned offload)
{
	switch (offload) {
	case KMTLS_OFFLOAD_NONE:
		return "none";
	case KMTLS_OFFLOAD_SW:
		return "sw";
	case KMTLS_OFFLOAD_HW:
		return "hw";
	default:
		return "unknown";
	}
}

/* RFC 8446 appendix B.4; null before the handshake has chosen one, and for plaintext. */
static json_t *cipher_json(unsigned cipher)
{
	char number[8];

	switch (cipher) {
	case 0:
		return json_null();
	case 0x1301:
		return json_string("TLS_AES_128_GCM_SHA256");
	case 0x1302:
		return json_string("TLS_AES_256_GCM_SHA384");
	case 0x1303:
		return json_string("TLS_CHACHA20_POLY1305_SHA256");
	default:
		snprintf(number, sizeof(number), "0x%04x", cipher & 0xffff);
		return json_string(number);
	}
}

static json_t *side_json(const char *id, const struct kmtls_endpoint *endpoint)
{
	char address[KMTLS_ENDPOINT_TEXT];

	kmtls_address_format(&endpoint->address, address, sizeof(address));
	return json_pack("{s:o, s:s, s:i}", "id", kmtls_json_string(id ? id : ""), "address",
			 address, "port", (int)endpoint->port);
}

/* What the client wants to see, and what it gets. */
struct listing {
	struct kmtls_text *result;
	bool of_pod, of_peer;
	__u64 netns; /* of the pod */
	struct kmtls_peer_key peer;
	__u64 id; /* of either end; 0: any */
	unsigned port; /* likewise */
	const char *state; /* NULL: any */
};

static bool is_wanted(void *context, const struct kmtls_flow *flow)
{
	const struct listing *listing = context;

	return (!listing->of_pod || flow->netns_cookie == listing->netns) &&
	       (!listing->of_peer || kmtls_prefix_has(&listing->peer, &flow->peer.address)) &&
	       (!listing->id || flow->self_identity == listing->id ||
		flow->peer_identity == listing->id) &&
	       (!listing->port || flow->self.port == listing->port ||
		flow->peer.port == listing->port) &&
	       (!listing->state || strcmp(state_name(flow->state), listing->state) == 0);
}

static int check_state(const char *state, char *ret_why)
{
	unsigned known = KMTLS_FLOW_CONFIRMED;

	while (known && strcmp(state_name(known), state))
		known--;
	if (known)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY,
		 "flows: state: %.64s: must be handshake, confirmed, established or closing",
		 state);
	return -EINVAL;
}

int kmtls_control_find_pod(struct kmtls_daemon *daemon, const char *name, __u64 *ret_netns,
			   char *ret_why)
{
	struct kmtls_pod *pod = kmtls_pods_find_name(daemon->pods, name);

	if (!pod) {
		snprintf(ret_why, KMTLS_CONTROL_WHY, "pod %.150s: is not enrolled", name);
		return -ENOENT;
	}
	*ret_netns = pod->netns_cookie;
	kmtls_pod_put(pod);
	return 0;
}

static int read_filters(struct kmtls_daemon *daemon, const json_t *arguments,
			struct listing *listing, char *ret_why)
{
	const char *pod = json_string_value(json_object_get(arguments, "pod"));
	const char *peer = json_string_value(json_object_get(arguments, "peer"));
	const char *id = json_string_value(json_object_get(arguments, "id"));
	int err = 0;

	listing->of_pod = pod;
	listing->of_peer = peer;
	listing->id = id ? kmtls_hash_text(id) : 0;
	listing->port = (unsigned)json_integer_value(json_object_get(arguments, "port"));
	listing->state = json_string_value(json_object_get(arguments, "state"));
	if (listing->state)
		err = check_state(listing->state, ret_why);
	if (!err && peer && kmtls_prefix_parse(peer, &listing->peer) < 0) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "flows: peer: %.64s: not ADDRESS or ADDRESS/LEN", peer);
		err = -EINVAL;
	}
	return err || !pod ? err : kmtls_control_find_pod(daemon, pod, &listing->netns, ret_why);
}

static int list_flow(void *context, const struct kmtls_flow_info *info)
{
	const struct listing *listing = context;
	const struct kmtls_flow *flow = &info->flow;
	char id[32];

	snprintf(id, sizeof(id), "%u.%u", info->slot, flow->generation);
	return kmtls_text_append_element(
		listing->result,
		json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:b, s:s, s:s, s:I, s:I, s:I, s:I, s:I}",
			  "id", id, "state", state_name(flow->state), "role", role_name(flow->role),
			  "self", side_json(info->self_id, &flow->self), "peer",
			  side_json(info->peer_id, &flow->peer), "cipher",
			  cipher_json(flow->cipher), "plaintext",
			  flow->state == KMTLS_FLOW_ESTABLISHED && kmtls_flow_is_plain(flow),
			  "ktls_tx", offload_name(info->offload_tx), "ktls_rx",
			  offload_name(info->offload_rx), "started", (json_int_t)flow->started,
			  "peer_not_after", (json_int_t)flow->peer_not_after, "rekeys",
			  (json_int_t)flow->rekeys, "bytes_sent", (json_int_t)info->bytes_sent,
			  "bytes_received", (json_int_t)info->bytes_received));
}

int kmtls_control_flows(struct kmtls_daemon *daemon, const json_t *arguments,
			struct kmtls_text *result, char *ret_why)
{
	struct listing listing = { .result = result };
	int err = read_filters(daemon, arguments, &listing, ret_why);

	if (err)
		return err;
	kmtls_text_append_string(result, "[");
	err = kmtls_flow_table_visit(daemon, is_wanted, list_flow, &listing);
	kmtls_text_append_string(result, "]");
	return result->err ? 0 : err; /* the caller looks at result->err */
}

static json_t *counters_json(struct kmtls_daemon *daemon)
{
	static const enum kmtls_reason reasons[] = {
#define REASON_NUMBER(number, symbol, name, text) KMTLS_REASON_##symbol,
		KMTLS_REASONS(REASON_NUMBER)
#undef REASON_NUMBER
	};
	json_t *counters = json_object();

	for (size_t i = 0; i < sizeof(reasons) / sizeof(reasons[0]); i++) {
		__u64 value = kmtls_policy_counter(daemon->bpf, reasons[i]);

		if (value)
			json_object_set_new(counters, kmtls_reason_name(reasons[i]),
					    json_integer((json_int_t)value));
	}
	return counters;
}

static void count_pod(void *context, const struct kmtls_pod_info *info)
{
	(*(unsigned *)context)++;
}

static json_t *totals_json(struct kmtls_daemon *daemon)
{
	struct kmtls_flow_totals totals;

	kmtls_flow_table_totals(daemon, &totals);
	return json_pack("{s:I, s:I, s:I, s:I}", "capacity", (json_int_t)totals.capacity,
			 "handshake", (json_int_t)totals.handshake, "established",
			 (json_int_t)totals.established, "closing", (json_int_t)totals.closing);
}

/* How full the maps are that refuse when they are. The table of flows is above. */
static json_t *maps_json(struct kmtls_bpf *bpf)
{
	static const struct {
		const char *name;
		enum kmtls_map map;
	} maps[] = {
		{ "modes", KMTLS_MAP_MODES },
		{ "peers", KMTLS_MAP_PEERS },
		{ "authorizations", KMTLS_MAP_AUTHORIZATIONS },
		{ "names", KMTLS_MAP_NAMES },
		{ "pods", KMTLS_MAP_PODS },
		{ "udp_totals", KMTLS_MAP_UDP_TOTALS },
		{ "internal/listeners", KMTLS_MAP_LISTENERS },
		{ "internal/own_addresses", KMTLS_MAP_OWN_ADDRESSES },
	};
	json_t *list = json_object();
	size_t entries, capacity;

	for (size_t i = 0; i < sizeof(maps) / sizeof(maps[0]); i++)
		if (kmtls_map_count(kmtls_bpf_map(bpf, maps[i].map), &entries, &capacity) == 0)
			json_object_set_new(list, maps[i].name,
					    json_pack("{s:I, s:I}", "entries", (json_int_t)entries,
						      "capacity", (json_int_t)capacity));
	return list;
}

static const char *outcome_name(unsigned outcome)
{
	switch (outcome) {
	case KMTLS_OUTCOME_NONE:
		return "none";
	case KMTLS_OUTCOME_RUNNING:
		return "running";
	case KMTLS_OUTCOME_DONE:
		return "done";
	case KMTLS_OUTCOME_ROLLED_BACK:
		return "rolled-back";
	default:
		return "unknown";
	}
}

/* Upgrades and take-overs: how many were begun, how the last one ended. */
static json_t *upgrade_json(const struct kmtls_shared *shared)
{
	return json_pack(
		"{s:I, s:s, s:o}", "begun", (json_int_t)shared->upgrades, "outcome",
		outcome_name(shared->outcome), "why",
		kmtls_json_string(shared->outcome == KMTLS_OUTCOME_ROLLED_BACK ? shared->why : ""));
}

int kmtls_control_status(struct kmtls_daemon *daemon, const json_t *arguments,
			 struct kmtls_text *result, char *ret_why)
{
	const struct kmtls_config *config = daemon->config;
	const struct kmtls_shared *shared = daemon->shared;
	struct utsname kernel = { .release = "" };
	time_t now = time(NULL);
	unsigned pods = 0;

	uname(&kernel);
	kmtls_pods_visit(daemon->pods, count_pod, &pods);
	return kmtls_text_append_json(
		result,
		json_pack(
			"{s:s, s:i, s:i, s:I, s:s, s:o, s:o, s:I, s:I, s:o, s:s, s:s, s:o, s:o, "
			"s:b, "
			"s:I, s:I, s:o, s:o, s:o, s:o, s:o, s:s}",
			"version", KMTLS_VERSION, "keeper", shared->keeper, "worker",
			shared->worker, "worker_starts", (json_int_t)shared->starts, "secrets",
			kmtls_secret_region_is_secret(daemon->secrets) ? "memfd-secret" : "locked",
			"upgrade", upgrade_json(shared), "node", kmtls_json_string(config->node),
			"started", (json_int_t)daemon->started, "uptime",
			(json_int_t)(now > daemon->started ? now - daemon->started : 0), "kernel",
			kmtls_json_string(kernel.release), "mode",
			kmtls_mode_name(kmtls_modes_mesh(daemon->bpf, KMTLS_INBOUND)), "log_level",
			kmtls_log_level_name(kmtls_log_get_level()), "trust_domain",
			kmtls_json_string(config->identity.trust_domain), "identity",
			kmtls_control_identity_status(daemon), "rekey", (int)daemon->rekey->offered,
			"workers", (json_int_t)config->workers, "pods", (json_int_t)pods, "flows",
			totals_json(daemon), "udp", kmtls_control_udp_totals(daemon), "bpf_dir",
			kmtls_json_string(config->bpf_dir), "maps", maps_json(daemon->bpf),
			"counters", counters_json(daemon), "openssl",
			OpenSSL_version(OPENSSL_FULL_VERSION_STRING)));
}
