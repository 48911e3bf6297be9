/* SPDX-License-Identifier: Apache-2.0 */
/*
 * control_explain.c - the verb `explain`: what the maps and the pods hold, as explain.h asks for
 * it, and the flows that exist already.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "address.h"
#include "bpf_loader.h"
#include "control_request.h"
#include "daemon.h"
#include "explain.h"
#include "flow_table.h"
#include "listener.h"
#include "map_walk.h"
#include "modes.h"
#include "netns.h"
#include "pod.h"
#include "pods_table.h"
#include "policy.h"
#include "svid.h"

/* Of flows of the pair, at most so many are named. */
#define FLOWS_NAMED 8

/* ---- the view ---- */

static int map_of(void *context, enum kmtls_map map)
{
	return kmtls_bpf_map(((struct kmtls_daemon *)context)->bpf, map);
}

static void fill_pod(struct kmtls_daemon *daemon, struct kmtls_pod *pod,
		     struct kmtls_explain_pod *ret_pod)
{
	struct kmtls_svid *svid = kmtls_pod_svid(pod);

	memset(ret_pod, 0, sizeof(*ret_pod));
	snprintf(ret_pod->name, sizeof(ret_pod->name), "%s", pod->name);
	snprintf(ret_pod->id, sizeof(ret_pod->id), "%s", pod->id);
	ret_pod->netns = pod->netns_cookie;
	ret_pod->has_svid = svid != NULL;
	kmtls_svid_put(svid);
	ret_pod->known = bpf_map_lookup_elem(map_of(daemon, KMTLS_MAP_PODS), &ret_pod->netns,
					     &ret_pod->value) == 0;
}

static int pod_by_name(void *context, const char *name, struct kmtls_explain_pod *ret_pod)
{
	struct kmtls_daemon *daemon = context;
	struct kmtls_pod *pod = kmtls_pods_find_name(daemon->pods, name);

	if (!pod)
		return -ENOENT;
	fill_pod(daemon, pod, ret_pod);
	kmtls_pod_put(pod);
	return 0;
}

static bool is_own(void *context, __u64 netns, const struct kmtls_address *address)
{
	struct kmtls_own_address_key key = { .netns = netns, .address = *address };
	__u32 value;

	return bpf_map_lookup_elem(map_of(context, KMTLS_MAP_OWN_ADDRESSES), &key, &value) == 0;
}

struct search {
	struct kmtls_daemon *daemon;
	const struct kmtls_address *address;
	struct kmtls_explain_pod *ret_pod;
};

static int look_for_address(void *context, struct kmtls_pod *pod)
{
	struct search *search = context;

	if (!is_own(search->daemon, pod->netns_cookie, search->address))
		return 0;
	fill_pod(search->daemon, pod, search->ret_pod);
	return 1;
}

static int pod_by_address(void *context, const struct kmtls_address *address,
			  struct kmtls_explain_pod *ret_pod)
{
	struct kmtls_daemon *daemon = context;
	struct search search = { daemon, address, ret_pod };

	/* Loopback is everybody's. */
	if (kmtls_address_is_loopback(address))
		return -ENOENT;
	return kmtls_pods_each(daemon->pods, look_for_address, &search) ? 0 : -ENOENT;
}

static bool is_counted(void *context, const struct kmtls_local_key *key)
{
	__u32 number;

	return bpf_map_lookup_elem(map_of(context, KMTLS_MAP_LISTENERS), key, &number) == 0 &&
	       number;
}

/* As is_listening() of the programs. */
static bool is_listening(void *context, __u64 netns, const struct kmtls_endpoint *local)
{
	struct kmtls_local_key key = { .netns = netns, .local = *local };
	static const struct kmtls_address any4 = { .bytes = { [10] = 0xff, [11] = 0xff } };

	if (is_counted(context, &key))
		return true;
	memset(&key.local.address, 0, sizeof(key.local.address));
	if (is_counted(context, &key))
		return true;
	if (kmtls_address_is_v4(&local->address)) {
		key.local.address = any4;
		if (is_counted(context, &key))
			return true;
	}
	memset(&key.local, 0, sizeof(key.local));
	return is_counted(context, &key);
}

static int listener_look(void *context, __u64 netns, const struct kmtls_endpoint *local,
			 char *ret_text)
{
	struct kmtls_daemon *daemon = context;
	struct kmtls_pod *pod = kmtls_pods_find(daemon->pods, netns);
	int look = pod ? kmtls_netns_enter(pod->netns_fd, pod->netns_cookie) : -ENOENT;

	if (!look)
		look = kmtls_listener_look(local, ret_text);
	kmtls_netns_leave();
	kmtls_pod_put(pod);
	return look == 1 || look == -ENODEV ? look : 0;
}

static bool has_acceptor(void *context, __u64 netns, enum kmtls_acceptor acceptor)
{
	struct kmtls_acceptor_key key = { .netns = netns, .acceptor = acceptor };
	__u64 cookie;

	return bpf_map_lookup_elem(map_of(context, KMTLS_MAP_ACCEPTORS), &key, &cookie) == 0;
}

static enum kmtls_mode mode_at(void *context, const struct kmtls_mode_key *key)
{
	return kmtls_modes_at(((struct kmtls_daemon *)context)->bpf, key);
}

struct longest {
	const struct kmtls_address *address;
	struct kmtls_peer_key key;
	struct kmtls_peer_value value;
	bool found;
};

static bool is_within(const struct kmtls_address *address, const struct kmtls_peer_key *key)
{
	unsigned bytes = key->prefix_len / 8, bits = key->prefix_len % 8;

	if (key->prefix_len > 128 || memcmp(address->bytes, key->address.bytes, bytes) != 0)
		return false;
	return !bits || !((address->bytes[bytes] ^ key->address.bytes[bytes]) >> (8 - bits));
}

static int look_at_prefix(void *context, const void *raw_key, const void *raw_value)
{
	struct longest *longest = context;
	struct kmtls_peer_key key;

	memcpy(&key, raw_key, sizeof(key));
	if ((longest->found && key.prefix_len < longest->key.prefix_len) ||
	    !is_within(longest->address, &key))
		return 0;
	longest->found = true;
	longest->key = key;
	memcpy(&longest->value, raw_value, sizeof(longest->value));
	return 0;
}

/* The trie tells what its longest prefix holds, not which one it is: looked for by hand. */
static int find_peer(void *context, const struct kmtls_address *address,
		     struct kmtls_peer_key *ret_key, struct kmtls_peer_value *ret_value)
{
	struct longest longest = { .address = address };
	struct kmtls_daemon *daemon = context;

	if (kmtls_policy_peer_lookup(daemon->bpf, address, ret_value) < 0)
		return -ENOENT;
	kmtls_map_walk(map_of(context, KMTLS_MAP_PEERS), look_at_prefix, &longest);
	*ret_key = longest.key;
	kmtls_prefix_mask(ret_key);
	/* Changed between the two: what was seen together. */
	if (longest.found)
		*ret_value = longest.value;
	else
		*ret_key = (struct kmtls_peer_key){ .prefix_len = 128, .address = *address };
	return 0;
}

static int name_of(void *context, __u64 hash, char *ret_text)
{
	return kmtls_policy_name_get(((struct kmtls_daemon *)context)->bpf, hash, ret_text);
}

static void authorize(void *context, const char *source, const char *destination, __u16 port,
		      struct kmtls_authorization_verdict *ret_verdict, char *ret_why)
{
	struct kmtls_daemon *daemon = context;

	kmtls_authorization_ask(daemon->bpf, source, destination, port, ret_verdict);
	kmtls_authorization_why(daemon->bpf, ret_verdict, ret_why, KMTLS_AUTHORIZATION_WHY);
}

/* ---- flows ---- */

static bool is_of_pair(const struct kmtls_flow *flow, bool as_client,
		       const struct kmtls_address *from, const struct kmtls_endpoint *to)
{
	const struct kmtls_endpoint *server = as_client ? &flow->peer : &flow->self;
	const struct kmtls_endpoint *client = as_client ? &flow->self : &flow->peer;

	return flow->role == (as_client ? KMTLS_ROLE_CLIENT : KMTLS_ROLE_SERVER) &&
	       kmtls_address_equal(&client->address, from) &&
	       kmtls_address_equal(&server->address, &to->address) &&
	       (!to->port || to->port == server->port);
}

/* How many flows of the pair are established, and the IDs of some. Those that both ends are of
 * this node have two slots: the client's counts. */
static void add_flows(struct kmtls_daemon *daemon, json_t *answer)
{
	const struct kmtls_flow_table *table = daemon->flows;
	const json_t *source = json_object_get(answer, "source");
	const json_t *destination = json_object_get(answer, "destination");
	struct kmtls_endpoint to = { .port = json_integer_value(json_object_get(answer, "port")) };
	struct kmtls_address from = {};
	json_t *ids = json_array();
	json_int_t established = 0;
	char id[32];

	kmtls_address_parse(json_string_value(json_object_get(source, "address")) ?: "", &from);
	kmtls_address_parse(json_string_value(json_object_get(destination, "address")) ?: "",
			    &to.address);
	for (unsigned slot = 0; slot < table->capacity && slot < *table->used; slot++) {
		const struct kmtls_flow *flow = &table->slots[slot];

		if (kmtls_flow_state(flow) != KMTLS_FLOW_ESTABLISHED ||
		    !is_of_pair(flow, *json_string_value(json_object_get(source, "name")) != '\0',
				&from, &to))
			continue;
		snprintf(id, sizeof(id), "%u.%u", slot, flow->generation);
		if (established++ < FLOWS_NAMED)
			json_array_append_new(ids, json_string(id));
	}
	json_object_set_new(answer, "established", json_integer(established));
	json_object_set_new(answer, "flows", ids);
}

/* A copy of the flow of that name. */
static int find_flow(const struct kmtls_flow_table *table, const char *id,
		     struct kmtls_flow *ret_flow, char *ret_why)
{
	unsigned slot, generation;
	int end = 0;

	if (sscanf(id, "%9u.%10u%n", &slot, &generation, &end) != 2 || id[end]) {
		snprintf(ret_why, KMTLS_CONTROL_WHY,
			 "explain: flow: %.32s: must be SLOT.GENERATION, as in kmtls flows", id);
		return -EINVAL;
	}
	if (slot < table->capacity) {
		*ret_flow = table->slots[slot];
		if (kmtls_flow_state_of(&table->slots[slot], generation) != KMTLS_FLOW_FREE &&
		    ret_flow->generation == generation)
			return 0;
	}
	snprintf(ret_why, KMTLS_CONTROL_WHY, "explain: flow: %.32s: there is no such flow", id);
	return -ENOENT;
}

static void describe_flow(const char *id, const struct kmtls_flow *flow, json_t *answer)
{
	bool established = flow->state == KMTLS_FLOW_ESTABLISHED;
	const char *is = !established ? "handshake" : flow->cipher ? "encrypted" : "plaintext";
	const char *now = json_string_value(json_object_get(answer, "result"));
	bool same = now && !strcmp(now, is);

	json_object_set_new(
		answer, "flow",
		json_pack("{s:s, s:s, s:s, s:I, s:b, s:s}", "id", id, "role",
			  flow->role == KMTLS_ROLE_CLIENT ? "client" : "server", "is", is,
			  "started", (json_int_t)flow->started, "same", (int)same, "text",
			  !established ? "not established: what follows is what awaits it"
			  : same       ? "as a new connection would be"
				 : "policy has changed since it began: a new connection would "
				   "be otherwise"));
}

/* ---- the verb ---- */

static const char *text_of(const json_t *arguments, const char *name)
{
	return json_string_value(json_object_get(arguments, name));
}

static int ask(struct kmtls_daemon *daemon, const struct kmtls_explain_question *question,
	       json_t **ret_answer, char *ret_why)
{
	const struct kmtls_explain_view view = {
		.context = daemon,
		.pod_by_name = pod_by_name,
		.pod_by_address = pod_by_address,
		.is_own = is_own,
		.is_listening = is_listening,
		.listener_look = listener_look,
		.has_acceptor = has_acceptor,
		.mode_at = mode_at,
		.peer = find_peer,
		.name = name_of,
		.authorize = authorize,
	};
	char why[KMTLS_WHY] = "out of memory";
	int err = kmtls_explain(&view, question, ret_answer, why);

	if (err)
		snprintf(ret_why, KMTLS_CONTROL_WHY, "explain: %.240s", why);
	return err;
}

static int ask_flow(struct kmtls_daemon *daemon, const char *id, json_t **ret_answer, char *ret_why)
{
	char self[KMTLS_ENDPOINT_TEXT], peer[KMTLS_ENDPOINT_TEXT], peer_id[KMTLS_SPIFFE_ID_MAX + 1];
	struct kmtls_flow flow;
	bool client;
	int err = find_flow(daemon->flows, id, &flow, ret_why);

	if (err)
		return err;
	client = flow.role == KMTLS_ROLE_CLIENT;
	kmtls_address_format(&flow.self.address, self, sizeof(self));
	kmtls_address_format(&flow.peer.address, peer, sizeof(peer));
	if (!flow.peer_identity ||
	    kmtls_policy_name_get(daemon->bpf, flow.peer_identity, peer_id) < 0)
		*peer_id = '\0';
	err = ask(daemon,
		  &(struct kmtls_explain_question){
			  .source = client ? self : peer,
			  .destination = client ? peer : self,
			  .port = client ? flow.peer.port : flow.self.port,
			  .source_id = !client && *peer_id ? peer_id : NULL,
		  },
		  ret_answer, ret_why);
	if (!err)
		describe_flow(id, &flow, *ret_answer);
	return err;
}

/* Either a flow, or two ends. */
static int check_arguments(const json_t *arguments, char *ret_why)
{
	const char *rule = NULL;

	if (text_of(arguments, "flow") && json_object_size(arguments) > 1)
		rule = "flow: excludes every other argument";
	else if (!text_of(arguments, "flow") && !text_of(arguments, "source"))
		rule = "source: is required";
	else if (!text_of(arguments, "flow") && !text_of(arguments, "destination"))
		rule = "destination: is required";
	if (!rule)
		return 0;
	snprintf(ret_why, KMTLS_CONTROL_WHY, "explain: %s", rule);
	return -EINVAL;
}

int kmtls_control_explain(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why)
{
	const char *flow = text_of(arguments, "flow");
	json_t *answer = NULL;
	int err = check_arguments(arguments, ret_why);

	if (!err && flow)
		err = ask_flow(daemon, flow, &answer, ret_why);
	else if (!err)
		err = ask(daemon,
			  &(struct kmtls_explain_question){
				  .source = text_of(arguments, "source"),
				  .destination = text_of(arguments, "destination"),
				  .port = json_integer_value(json_object_get(arguments, "port")),
				  .udp = json_is_true(json_object_get(arguments, "udp")),
			  },
			  &answer, ret_why);
	if (err)
		return err;
	add_flows(daemon, answer);
	return kmtls_text_append_json(result, answer);
}
