/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_many_flows.c - `kmtls flows`, `kmtls top` and `kmtls pod list` of a full table: everything is
 * in the answer, and eight times the flows take eight times as long, not sixty-four. With the pinned
 * maps as the daemon has them; the sockets of all flows are one connection. Needs BPF; without
 * root it is skipped, in the guest it is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <cmocka.h>

#include "bpf_place.h"
#include "bpf_loader.h"
#include "config.h"
#include "control_request.h"
#include "daemon.h"
#include "flow_table.h"
#include "hash.h"
#include "pods_table.h"
#include "sockets.h"

#define MANY 64000
#define FEW (MANY / 8)
#define PODS 1000

static _Atomic __u32 used;
static struct kmtls_config config = { .max_flows = MANY, .max_udp_peers = 64 };
static struct kmtls_pods pods = { .change = PTHREAD_MUTEX_INITIALIZER,
				  .lock = PTHREAD_MUTEX_INITIALIZER };
static struct kmtls_daemon daemon_ = { .config = &config, .pods = &pods };

static struct kmtls_pod *new_pod(unsigned number)
{
	struct kmtls_pod *pod = calloc(1, sizeof(*pod));
	char name[32];

	snprintf(name, sizeof(name), "pod-%04u", number);
	atomic_init(&pod->references, 1);
	pthread_mutex_init(&pod->svid_lock, NULL);
	pod->name = strdup(name);
	pod->id = strdup("spiffe://td/pod");
	pod->netns_path = strdup("");
	pod->cgroup_path = strdup("");
	pod->netns_cookie = 7000 - number; /* not in the order of names */
	pod->netns_fd = pod->cgroup_fd = -1; /* nobody goes there */
	return pod;
}

/* Each to a peer of its own, over all pods: the most there is to tell apart. */
static void fill(unsigned count, int fd)
{
	socklen_t length = sizeof(__u64);
	__u64 cookie;

	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &length), 0);
	for (unsigned i = 0; i < count; i++) {
		struct kmtls_flow *flow;
		unsigned slot;

		assert_int_equal(kmtls_flow_table_take(daemon_.flows, 0, 7000 - i % PODS, &slot),
				 0);
		flow = &daemon_.flows->slots[slot];
		flow->role = KMTLS_ROLE_CLIENT;
		flow->cipher = 0x1301;
		flow->wire_fd = fd;
		flow->wire_cookie = cookie;
		flow->peer_identity = i * 0x9e3779b97f4a7c15ull | 1;
		flow->self.port = 1;
		kmtls_flow_set_state(flow, KMTLS_FLOW_HANDSHAKE);
		kmtls_flow_set_state(flow, KMTLS_FLOW_ESTABLISHED);
	}
}

static void empty(void)
{
	for (unsigned slot = 0; slot < *daemon_.flows->used; slot++) {
		kmtls_flow_set_state(&daemon_.flows->slots[slot], KMTLS_FLOW_CLOSING);
		kmtls_flow_set_state(&daemon_.flows->slots[slot], KMTLS_FLOW_FREE);
		kmtls_flow_table_return(daemon_.flows, slot);
	}
}

/* ---- the answers, and the processor time they take, in seconds ---- */

static double processor_time(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static json_t *parsed(struct kmtls_text *text)
{
	json_t *json = json_loadb(text->bytes, text->length, 0, NULL);

	assert_non_null(json);
	kmtls_text_free(text);
	return json;
}

static double top(unsigned count)
{
	struct kmtls_text text = { .limit = 0 };
	double begin = processor_time(), took;
	json_t *answer, *flow, *pair;
	char why[KMTLS_CONTROL_WHY];
	size_t i;

	assert_int_equal(kmtls_control_top(&daemon_, NULL, &text, why), 0);
	took = processor_time() - begin;
	answer = parsed(&text);
	assert_int_equal(json_array_size(json_object_get(answer, "flows")), count);
	assert_int_equal(json_array_size(json_object_get(answer, "pairs")), count);
	json_array_foreach (json_object_get(answer, "flows"), i, flow) {
		json_int_t slot = json_integer_value(json_array_get(flow, 0));
		char name[32];

		/* Slots are taken in any order: by what is in this one. */
		snprintf(name, sizeof(name), "pod-%04u",
			 (unsigned)(7000 - daemon_.flows->slots[slot].netns_cookie));
		pair = json_array_get(json_object_get(answer, "pairs"),
				      json_integer_value(json_array_get(flow, 2)));
		assert_string_equal(json_string_value(json_object_get(pair, "pod")), name);
	}
	json_decref(answer);
	return took;
}

static double flows(unsigned count)
{
	struct kmtls_text text = { .limit = 0 };
	double begin = processor_time(), took;
	json_t *arguments = json_object(), *answer;
	char why[KMTLS_CONTROL_WHY];

	assert_int_equal(kmtls_control_flows(&daemon_, arguments, &text, why), 0);
	took = processor_time() - begin;
	answer = parsed(&text);
	assert_int_equal(json_array_size(answer), count);
	json_decref(answer);
	json_decref(arguments);
	return took;
}

static void see_pod(void *context, const struct kmtls_pod_info *info)
{
	assert_int_equal(info->flows, *(unsigned *)context / PODS + (7000 - info->netns_cookie <
								     *(unsigned *)context % PODS));
}

static double list(unsigned count)
{
	double begin = processor_time();

	kmtls_pods_visit(&pods, see_pod, &count);
	return processor_time() - begin;
}

static void not_quadratic(void **state)
{
	static const struct {
		const char *name;
		double (*ask)(unsigned count);
	} verbs[] = { { "top", top }, { "flows", flows }, { "pod list", list } };
	double few[3], many[3];
	int one, other;

	test_require_bpf(daemon_.bpf);
	test_tcp_pair(&one, &other);
	fill(FEW, one);
	for (int i = 0; i < 3; i++)
		few[i] = verbs[i].ask(FEW);
	empty();
	fill(MANY, one);
	for (int i = 0; i < 3; i++)
		many[i] = verbs[i].ask(MANY);
	empty();
	for (int i = 0; i < 3; i++) {
		print_message("# %s: %d flows %.3f s, %d flows %.3f s\n", verbs[i].name, FEW,
			      few[i], MANY, many[i]);
		/* What takes no time at all may double. */
		assert_true(many[i] < 16 * few[i] + 0.05);
	}
	close(one);
	close(other);
}

static int setup(void **state)
{
	char why[256] = "";

	config.bpf_dir = test_bpf_place();
	if (kmtls_bpf_open(&config, &daemon_.bpf, why) < 0) {
		print_message("# %s\n", why);
		return 0;
	}
	assert_int_equal(kmtls_flow_table_open(daemon_.bpf, MANY, 0, false, &daemon_.flows, why),
			 0);
	kmtls_flow_table_adopt(daemon_.flows, &used);
	pods.daemon = &daemon_;
	for (unsigned i = 0; i < PODS; i++)
		pods.table[i] = new_pod(i);
	return 0;
}

static int teardown(void **state)
{
	char why[256];

	if (!daemon_.bpf)
		return 0;
	for (unsigned i = 0; i < PODS; i++)
		kmtls_pod_put(pods.table[i]);
	kmtls_flow_table_close(daemon_.flows);
	kmtls_bpf_close(daemon_.bpf);
	return kmtls_bpf_uninstall(config.bpf_dir, why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(not_quadratic),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("many_flows", tests, setup, teardown);
}
