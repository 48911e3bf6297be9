/* SPDX-License-Identifier: Apache-2.0 */
/* test_explain.c - what is explained of a world written down row by row: which rule decides, with
 * which result, and what becomes of the rules before it. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "address.h"
#include "explain.h"
#include "hash.h"

#define ID_A "spiffe://td/ns/one/sa/a"
#define ID_B "spiffe://td/ns/two/sa/b"
#define OFF KMTLS_MODE_OFF
#define PERMISSIVE KMTLS_MODE_PERMISSIVE
#define STRICT KMTLS_MODE_STRICT

enum entry { NOTHING, MESH, OTHER, NAMELESS, NAMESPACE, DOMAIN_, ODD, BYPASS, BYPASS_53 };

/* Pods a (10.0.0.1, fd00::1) and b (10.0.0.2, only IPv4) are here. */
struct world {
	enum kmtls_mode mesh, name_space, pod, pod_port, port; /* both directions, pod a and b */
	enum kmtls_mode in_mesh; /* INBOUND of the mesh, if it is another */
	enum entry peer; /* whoever is asked about */
	bool closed, no_daemon, no_svid, unknown, deny, at_once;
	bool bound,
		other_device; /* its listener: to a device; to one that does not have the address */
};

static void fill(const struct world *world, bool a, struct kmtls_explain_pod *ret_pod)
{
	memset(ret_pod, 0, sizeof(*ret_pod));
	strcpy(ret_pod->name, a ? "a" : "b");
	strcpy(ret_pod->id, a ? ID_A : ID_B);
	ret_pod->netns = a ? 1 : 2;
	ret_pod->known = !world->unknown;
	ret_pod->has_svid = !world->no_svid;
	ret_pod->value.name = kmtls_hash_text(ret_pod->name);
	ret_pod->value.namespace_ = 77;
	ret_pod->value.flags = world->at_once ? KMTLS_POD_CONNECT_AT_ONCE : 0;
	kmtls_address_parse(a ? "10.0.0.1" : "10.0.0.2", &ret_pod->value.address4);
	if (a)
		kmtls_address_parse("fd00::1", &ret_pod->value.address6);
}

static int pod_by_name(void *context, const char *name, struct kmtls_explain_pod *ret_pod)
{
	if (strcmp(name, "a") != 0 && strcmp(name, "b") != 0)
		return -ENOENT;
	fill(context, *name == 'a', ret_pod);
	return 0;
}

static bool is_own(void *context, __u64 netns, const struct kmtls_address *address)
{
	struct kmtls_explain_pod pod;

	fill(context, netns == 1, &pod);
	return kmtls_address_equal(address, &pod.value.address4) ||
	       (netns == 1 && kmtls_address_equal(address, &pod.value.address6));
}

static int pod_by_address(void *context, const struct kmtls_address *address,
			  struct kmtls_explain_pod *ret_pod)
{
	for (__u64 netns = 1; netns <= 2; netns++) {
		if (is_own(context, netns, address)) {
			fill(context, netns == 1, ret_pod);
			return 0;
		}
	}
	return -ENOENT;
}

static bool is_listening(void *context, __u64 netns, const struct kmtls_endpoint *local)
{
	assert_int_not_equal(local->port, 0);
	return !((struct world *)context)->closed;
}

static int listener_look(void *context, __u64 netns, const struct kmtls_endpoint *local,
			 char *ret_text)
{
	const struct world *world = context;

	strcpy(ret_text, world->other_device ? "bound to eth9, which does not have it" : "eth9");
	return world->other_device ? -ENODEV : world->bound;
}

static bool has_acceptor(void *context, __u64 netns, enum kmtls_acceptor acceptor)
{
	return !((struct world *)context)->no_daemon;
}

static enum kmtls_mode mode_at(void *context, const struct kmtls_mode_key *key)
{
	const struct world *world = context;

	switch (key->scope) {
	case KMTLS_SCOPE_MESH:
		return key->direction == KMTLS_INBOUND && world->in_mesh ? world->in_mesh
									 : world->mesh;
	case KMTLS_SCOPE_NAMESPACE:
		return world->name_space;
	case KMTLS_SCOPE_POD:
		return world->pod;
	default:
		assert_int_not_equal(key->port, 0);
		return key->id ? world->pod_port : world->port;
	}
}

static int peer(void *context, const struct kmtls_address *address, struct kmtls_peer_key *ret_key,
		struct kmtls_peer_value *ret_value)
{
	static const struct kmtls_peer_value values[] = {
		[MESH] = { .kind = 1, .match = 1, .identity = 2 },
		[OTHER] = { .kind = 1, .match = 1, .identity = 3 },
		[NAMELESS] = { .kind = 1, .match = 1, .identity = 9 },
		[NAMESPACE] = { .kind = 1, .match = 2, .identity = 4 },
		[DOMAIN_] = { .kind = 1, .match = 3, .identity = 5 },
		[ODD] = { .kind = 7 },
		[BYPASS] = { .kind = 2 },
		[BYPASS_53] = { .kind = 2, .port_count = 1, .ports = { 53 } },
	};
	const struct world *world = context;

	if (world->peer == NOTHING)
		return -ENOENT;
	*ret_key = (struct kmtls_peer_key){ .prefix_len = 128, .address = *address };
	*ret_value = values[world->peer];
	return 0;
}

static int name(void *context, __u64 hash, char *ret_text)
{
	static const char *const texts[] = { [2] = ID_B,
					     [3] = "spiffe://td/ns/two/sa/c",
					     [4] = "spiffe://td/ns/two",
					     [5] = "spiffe://td" };

	if (hash >= sizeof(texts) / sizeof(texts[0]) || !texts[hash])
		return -ENOENT;
	strcpy(ret_text, texts[hash]);
	return 0;
}

static void authorize(void *context, const char *source, const char *destination, __u16 port,
		      struct kmtls_authorization_verdict *ret_verdict, char *ret_why)
{
	*ret_verdict = (struct kmtls_authorization_verdict){
		.allowed = !((struct world *)context)->deny,
		.decider = KMTLS_DECIDED_BY_DEFAULT,
	};
	snprintf(ret_why, KMTLS_AUTHORIZATION_WHY, "%s to %s %u", source, destination, port);
}

static int ask(const struct world *world, const struct kmtls_explain_question *question,
	       json_t **ret_answer, char *ret_why)
{
	const struct kmtls_explain_view view = {
		.context = (void *)world,
		.pod_by_name = pod_by_name,
		.pod_by_address = pod_by_address,
		.is_own = is_own,
		.is_listening = is_listening,
		.listener_look = listener_look,
		.has_acceptor = has_acceptor,
		.mode_at = mode_at,
		.peer = peer,
		.name = name,
		.authorize = authorize,
	};

	return kmtls_explain(&view, question, ret_answer, ret_why);
}

static const char *text_of(const json_t *answer, const char *key)
{
	return json_string_value(json_object_get(answer, key));
}

/* "rule=state" of the first step of that rule; "" if there is none. */
static const char *state_of(const json_t *answer, const char *stage, const char *rule)
{
	const json_t *step;
	size_t i;

	json_array_foreach (json_object_get(answer, "steps"), i, step)
		if (!strcmp(text_of(step, "stage"), stage) && !strcmp(text_of(step, "rule"), rule))
			return text_of(step, "state");
	return "";
}

/* Exactly one step decides, the last, and it is the one that the answer names. */
static void check_whole(const json_t *answer)
{
	const json_t *steps = json_object_get(answer, "steps"), *step;
	size_t i, last = json_array_size(steps) - 1;

	json_array_foreach (steps, i, step)
		assert_int_equal(!strcmp(text_of(step, "state"), "decides"), i == last);
	assert_string_equal(text_of(json_array_get(steps, last), "rule"),
			    text_of(answer, "decided_by"));
	assert_int_equal(!strcmp(text_of(answer, "result"), "refused"),
			 *text_of(answer, "sees") != '\0');
}

static void decisions(void **state)
{
	static const struct {
		struct world world;
		const char *source, *destination;
		unsigned port;
		const char *result, *decided_by, *reason, *sees;
	} rows[] = {
		/* out of a, to somewhere else */
		{ { .mesh = STRICT }, "a", "127.0.0.1", 80, "plaintext", "loopback", "", "" },
		{ { .mesh = STRICT }, "a", "::", 80, "plaintext", "loopback", "", "" },
		{ { .mesh = STRICT }, "a", "a", 80, "plaintext", "own-address", "", "" },
		{ { .mesh = STRICT }, "a", "fd00::1", 80, "plaintext", "own-address", "", "" },
		{ { .unknown = 1 },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "pod-unknown",
		  "pod-unknown",
		  "EPERM" },
		{ { .mesh = OFF }, "a", "10.9.9.9", 80, "plaintext", "mode-off", "", "" },
		{ { .mesh = STRICT },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "strict",
		  "no-peer",
		  "EPERM" },
		{ {}, "a", "10.9.9.9", 80, "refused", "strict", "no-peer", "EPERM" },
		{ { .mesh = 9 }, "a", "10.9.9.9", 80, "refused", "strict", "no-peer", "EPERM" },
		{ { .mesh = PERMISSIVE }, "a", "10.9.9.9", 80, "plaintext", "permissive", "", "" },
		{ { .mesh = STRICT, .peer = BYPASS },
		  "a",
		  "10.9.9.9",
		  80,
		  "plaintext",
		  "bypass",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = BYPASS_53 },
		  "a",
		  "10.9.9.9",
		  53,
		  "plaintext",
		  "bypass",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = BYPASS_53 },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "strict",
		  "no-peer",
		  "EPERM" },
		{ { .mesh = STRICT, .peer = BYPASS_53 },
		  "a",
		  "10.9.9.9",
		  0,
		  "refused",
		  "strict",
		  "no-peer",
		  "EPERM" },
		{ { .mesh = PERMISSIVE, .peer = ODD },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "bad-peer",
		  "bad-policy",
		  "EPERM" },
		{ { .mesh = STRICT, .peer = MESH },
		  "a",
		  "10.9.9.9",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = PERMISSIVE, .peer = DOMAIN_ },
		  "a",
		  "fd00::9",
		  0,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = MESH, .no_svid = 1 },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "svid",
		  "no-identity",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = MESH, .no_svid = 1, .at_once = 1 },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "svid",
		  "no-identity",
		  "connected, then ECONNRESET" },
		{ { .mesh = STRICT, .peer = MESH, .no_daemon = 1 },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "no-daemon",
		  "no-daemon",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = NAMELESS },
		  "a",
		  "10.9.9.9",
		  80,
		  "refused",
		  "promise",
		  "no-promise",
		  "ECONNREFUSED" },
		/* from a to b, both here */
		{ { .mesh = STRICT, .peer = MESH },
		  "a",
		  "b",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = NAMESPACE },
		  "a",
		  "b",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = OTHER },
		  "a",
		  "b",
		  80,
		  "refused",
		  "promise",
		  "wrong-peer",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = MESH, .deny = 1 },
		  "a",
		  "b",
		  80,
		  "refused",
		  "authorization",
		  "denied",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = MESH, .closed = 1 },
		  "a",
		  "b",
		  80,
		  "refused",
		  "no-listener",
		  "no-listener",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = MESH, .closed = 1 },
		  "a",
		  "b",
		  0,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .in_mesh = OFF, .peer = MESH },
		  "a",
		  "b",
		  80,
		  "refused",
		  "mode-off",
		  "not-mesh",
		  "ECONNREFUSED" },
		{ { .mesh = OFF, .in_mesh = STRICT, .peer = MESH },
		  "a",
		  "b",
		  80,
		  "refused",
		  "strict",
		  "not-mesh",
		  "connected, then ECONNRESET" },
		{ { .mesh = OFF, .in_mesh = PERMISSIVE, .peer = MESH },
		  "a",
		  "b",
		  80,
		  "plaintext",
		  "permissive",
		  "",
		  "" },
		{ { .mesh = OFF, .closed = 1 },
		  "a",
		  "b",
		  80,
		  "refused",
		  "no-listener",
		  "",
		  "ECONNREFUSED" },
		/* from outside */
		{ { .mesh = STRICT },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "strict",
		  "not-mesh",
		  "connected, then ECONNRESET" },
		{ { .mesh = PERMISSIVE }, "10.9.9.9", "b", 80, "plaintext", "permissive", "", "" },
		{ { .mesh = PERMISSIVE, .peer = ODD },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "bad-peer",
		  "not-mesh",
		  "connected, then ECONNRESET" },
		{ { .mesh = PERMISSIVE, .no_daemon = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "plaintext",
		  "permissive",
		  "",
		  "" },
		{ { .mesh = STRICT, .no_daemon = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "no-daemon",
		  "no-daemon",
		  "ECONNREFUSED" },
		{ { .mesh = OFF }, "10.9.9.9", "b", 80, "plaintext", "mode-off", "", "" },
		{ { .mesh = STRICT, .peer = MESH },
		  "10.9.9.9",
		  "b",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = PERMISSIVE, .peer = MESH, .deny = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "authorization",
		  "denied",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = NAMESPACE, .deny = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = MESH, .no_svid = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "svid",
		  "no-identity",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = BYPASS_53 },
		  "10.9.9.9",
		  "b",
		  53,
		  "plaintext",
		  "bypass",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = BYPASS_53 },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "strict",
		  "not-mesh",
		  "connected, then ECONNRESET" },
		/* to a listener that is bound to a device */
		{ { .mesh = STRICT, .peer = MESH, .bound = 1 },
		  "a",
		  "b",
		  80,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = MESH, .other_device = 1 },
		  "a",
		  "b",
		  80,
		  "refused",
		  "listener-device",
		  "listener-device",
		  "ECONNREFUSED" },
		{ { .mesh = STRICT, .peer = MESH, .other_device = 1 },
		  "a",
		  "b",
		  0,
		  "encrypted",
		  "mesh-peer",
		  "",
		  "" },
		{ { .mesh = STRICT, .peer = MESH, .other_device = 1, .deny = 1 },
		  "a",
		  "b",
		  80,
		  "refused",
		  "authorization",
		  "denied",
		  "ECONNREFUSED" },
		{ { .mesh = PERMISSIVE, .bound = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "plaintext",
		  "permissive",
		  "",
		  "" },
		{ { .mesh = PERMISSIVE, .other_device = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "refused",
		  "listener-device",
		  "listener-device",
		  "connected, then ECONNRESET" },
		{ { .mesh = OFF, .other_device = 1 },
		  "10.9.9.9",
		  "b",
		  80,
		  "plaintext",
		  "mode-off",
		  "",
		  "" },
	};
	char why[KMTLS_WHY];
	json_t *answer;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct kmtls_explain_question question = { .source = rows[i].source,
								 .destination = rows[i].destination,
								 .port = rows[i].port };
		char got[256], expected[256];

		assert_int_equal(ask(&rows[i].world, &question, &answer, why), 0);
		check_whole(answer);
		snprintf(got, sizeof(got), "%zu: %s %s %s, %s", i, text_of(answer, "result"),
			 text_of(answer, "decided_by"), text_of(answer, "reason"),
			 text_of(answer, "sees"));
		snprintf(expected, sizeof(expected), "%zu: %s %s %s, %s", i, rows[i].result,
			 rows[i].decided_by, rows[i].reason, rows[i].sees);
		assert_string_equal(got, expected);
		json_decref(answer);
	}
}

/* What becomes of each element of modes. */
static void overrides(void **state)
{
	static const struct {
		struct world world;
		unsigned port;
		const char *pod_port, *any_port, *pod, *name_space, *mesh, *result;
	} rows[] = {
		{ { .mesh = STRICT, .pod = OFF },
		  80,
		  "unset",
		  "unset",
		  "ignored",
		  "unset",
		  "applies",
		  "refused" },
		{ { .mesh = STRICT, .pod_port = OFF, .name_space = PERMISSIVE },
		  80,
		  "ignored",
		  "unset",
		  "unset",
		  "ignored",
		  "applies",
		  "refused" },
		{ { .mesh = STRICT, .port = OFF, .pod = OFF },
		  80,
		  "unset",
		  "applies",
		  "ignored",
		  "unset",
		  "overridden",
		  "plaintext" },
		{ { .mesh = STRICT, .port = OFF },
		  0,
		  "needs-port",
		  "needs-port",
		  "unset",
		  "unset",
		  "applies",
		  "refused" },
		{ { .mesh = PERMISSIVE, .pod = STRICT },
		  80,
		  "unset",
		  "unset",
		  "applies",
		  "unset",
		  "overridden",
		  "refused" },
		{ { .mesh = PERMISSIVE, .pod = STRICT, .pod_port = OFF },
		  80,
		  "applies",
		  "unset",
		  "overridden",
		  "unset",
		  "overridden",
		  "plaintext" },
		{ { .pod = OFF }, 80, "unset", "unset", "ignored", "unset", "applies", "refused" },
		{ { .mesh = OFF, .name_space = STRICT },
		  80,
		  "unset",
		  "unset",
		  "unset",
		  "applies",
		  "overridden",
		  "refused" },
	};
	char why[KMTLS_WHY];
	json_t *answer;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct kmtls_explain_question question = { .source = "a",
								 .destination = "10.9.9.9",
								 .port = rows[i].port };

		assert_int_equal(ask(&rows[i].world, &question, &answer, why), 0);
		assert_string_equal(state_of(answer, "outbound", "mode-pod-port"),
				    rows[i].pod_port);
		assert_string_equal(state_of(answer, "outbound", "mode-port"), rows[i].any_port);
		assert_string_equal(state_of(answer, "outbound", "mode-pod"), rows[i].pod);
		assert_string_equal(state_of(answer, "outbound", "mode-namespace"),
				    rows[i].name_space);
		assert_string_equal(state_of(answer, "outbound", "mode-mesh"), rows[i].mesh);
		assert_string_equal(text_of(answer, "result"), rows[i].result);
		json_decref(answer);
	}
}

/* What is not looked up is not shown; what has another node to decide is said to have. */
static void consulted(void **state)
{
	const struct world off = { .mesh = OFF }, mesh = { .mesh = STRICT, .peer = MESH };
	char why[KMTLS_WHY];
	json_t *answer;

	assert_int_equal(ask(&off,
			     &(struct kmtls_explain_question){
				     .source = "a", .destination = "10.9.9.9", .port = 80 },
			     &answer, why),
			 0);
	assert_string_equal(state_of(answer, "outbound", "peers"), "");
	json_decref(answer);
	assert_int_equal(ask(&mesh,
			     &(struct kmtls_explain_question){
				     .source = "a", .destination = "10.9.9.9", .port = 80 },
			     &answer, why),
			 0);
	assert_string_equal(state_of(answer, "outbound", "peers"), "applies");
	assert_string_equal(state_of(answer, "authorization", "authorization"), "elsewhere");
	assert_string_equal(text_of(answer, "expected"), "exact " ID_B);
	json_decref(answer);
}

/* A flow's client has proved who it is: the peers map is not asked for that. */
static void proved(void **state)
{
	const struct world world = { .mesh = STRICT, .deny = 1 };
	const struct kmtls_explain_question question = {
		.source = "10.9.9.9", .destination = "b", .port = 80, .source_id = ID_A
	};
	char why[KMTLS_WHY];
	json_t *answer;

	assert_int_equal(ask(&world, &question, &answer, why), 0);
	assert_string_equal(text_of(answer, "decided_by"), "authorization");
	assert_string_equal(text_of(answer, "text"), ID_A " to " ID_B " 80");
	json_decref(answer);
}

static void udp(void **state)
{
	const struct world world = { .mesh = STRICT };
	const struct kmtls_explain_question question = {
		.source = "a", .destination = "10.9.9.9", .port = 53, .udp = true
	};
	char why[KMTLS_WHY];
	json_t *answer;

	assert_int_equal(ask(&world, &question, &answer, why), 0);
	check_whole(answer);
	assert_string_equal(text_of(answer, "result"), "plaintext");
	assert_string_equal(text_of(answer, "decided_by"), "udp");
	json_decref(answer);
}

static void wrong(void **state)
{
	static const struct {
		const char *source, *destination, *why;
	} rows[] = {
		{ "nobody", "b", "source: nobody: neither a pod of this node nor an IP address" },
		{ "a", "10.0.0",
		  "destination: 10.0.0: neither a pod of this node nor an IP address" },
		{ "10.9.9.9", "10.9.9.8",
		  "neither 10.9.9.9 nor 10.9.9.8 is a pod of this node: nothing of it can be seen "
		  "here" },
		{ "b", "fd00::9", "b has no IPv6 address" },
		{ "fd00::9", "10.0.0.2",
		  "source and destination: one is an IPv4 address, the other an IPv6 address" },
	};
	const struct world world = { .mesh = STRICT };
	char why[KMTLS_WHY];
	json_t *answer;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct kmtls_explain_question question = { .source = rows[i].source,
								 .destination =
									 rows[i].destination };

		assert_int_equal(ask(&world, &question, &answer, why), -EINVAL);
		assert_string_equal(why, rows[i].why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(decisions), cmocka_unit_test(overrides),
		cmocka_unit_test(consulted), cmocka_unit_test(proved),
		cmocka_unit_test(udp),	     cmocka_unit_test(wrong),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("explain", tests, NULL, NULL);
}
