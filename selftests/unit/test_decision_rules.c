/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_decision_rules.c - the whole truth table: each combination of facts against a table written
 * by hand, and what must hold of all of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "kmtls/decision_rules.h"

#define MODES 4 /* off, permissive, strict, and one nobody knows */
#define PEERS 5 /* in the order of enum kmtls_peer_facts */

static const enum kmtls_mode modes[MODES] = { KMTLS_MODE_OFF, KMTLS_MODE_PERMISSIVE,
					      KMTLS_MODE_STRICT, (enum kmtls_mode)9 };

static const char *rule_name(enum kmtls_decision_rule rule)
{
	static const char *const names[] = {
#define NAME(symbol, name, text) name,
		KMTLS_DECISION_RULES(NAME)
#undef NAME
	};

	return names[rule];
}

/* "P rule", "T rule", "S rule", "R rule reason". */
static const char *describe(struct kmtls_decision decision, char *buffer)
{
	sprintf(buffer, "%c %s", "PTSR"[decision.verdict], rule_name(decision.rule));
	if (decision.verdict == KMTLS_VERDICT_REFUSE)
		sprintf(buffer + strlen(buffer), " %d", decision.reason);
	return buffer;
}

#define OFF "P mode-off"
#define BYP "P bypass"
#define BAD "R bad-peer 4"
#define MESH "T mesh-peer"
#define PLAIN "P permissive"
#define NOPEER "R strict 1"
#define NOTTCP "R not-tcp 7"

static void outbound(void **state)
{
	/*                                 silent   meshed  bypassed unbypassed unreadable */
	static const char *const tcp[MODES][PEERS] = {
		{ OFF, OFF, OFF, OFF, OFF },
		{ PLAIN, MESH, BYP, PLAIN, BAD },
		{ NOPEER, MESH, BYP, NOPEER, BAD },
		{ NOPEER, MESH, BYP, NOPEER, BAD },
	};
	static const char *const other[MODES][PEERS] = {
		{ OFF, OFF, OFF, OFF, OFF },
		{ PLAIN, PLAIN, BYP, PLAIN, BAD },
		{ NOPEER, NOTTCP, BYP, NOPEER, BAD },
		{ NOPEER, NOTTCP, BYP, NOPEER, BAD },
	};
	char buffer[64];

	for (int mode = 0; mode < MODES; mode++) {
		for (int peer = 0; peer < PEERS; peer++) {
			struct kmtls_outbound_facts facts = { .pod_known = true,
							      .mode = modes[mode],
							      .peer = peer };

			assert_string_equal(describe(kmtls_decide_outbound(&facts), buffer),
					    other[mode][peer]);
			facts.tcp = true;
			assert_string_equal(describe(kmtls_decide_outbound(&facts), buffer),
					    tcp[mode][peer]);
		}
	}
}

/* Whatever else is true, in this order. */
static void outbound_first(void **state)
{
	char buffer[64];

	for (int bits = 0; bits < 16; bits++) {
		for (int mode = 0; mode < MODES; mode++) {
			for (int peer = 0; peer < PEERS; peer++) {
				struct kmtls_outbound_facts facts = {
					.loopback = bits & 1,
					.pod_known = bits & 2,
					.own = bits & 4,
					.tcp = bits & 8,
					.mode = modes[mode],
					.peer = peer,
				};
				const char *expected = facts.loopback	  ? "P loopback"
						       : !facts.pod_known ? "R pod-unknown 5"
						       : facts.own	  ? "P own-address"
									  : NULL;

				describe(kmtls_decide_outbound(&facts), buffer);
				if (expected)
					assert_string_equal(buffer, expected);
				else
					assert_null(strstr(buffer, "own"));
			}
		}
	}
}

static void inbound(void **state)
{
	/*                                 silent   meshed  bypassed unbypassed unreadable */
	static const char *const steered[MODES][PEERS] = {
		{ OFF, OFF, OFF, OFF, OFF },
		{ "S permissive", "S permissive", "S bypass", "S permissive", "T bad-peer" },
		{ "T strict", "T strict", "S bypass", "T strict", "T bad-peer" },
		{ "T strict", "T strict", "S bypass", "T strict", "T bad-peer" },
	};
	/* # stands for whichever of the two is missing. */
	static const char *const missing[MODES][PEERS] = {
		{ OFF, OFF, OFF, OFF, OFF },
		{ PLAIN, "#", BYP, PLAIN, "#" },
		{ "#", "#", BYP, "#", "#" },
		{ "#", "#", BYP, "#", "#" },
	};
	char buffer[64];

	for (int bits = 0; bits < 4; bits++) {
		for (int mode = 0; mode < MODES; mode++) {
			for (int peer = 0; peer < PEERS; peer++) {
				struct kmtls_inbound_facts facts = { .pod_known = true,
								     .listening = bits & 1,
								     .daemon = bits & 2,
								     .mode = modes[mode],
								     .peer = peer };
				const char *expected =
					bits == 3 ? steered[mode][peer] : missing[mode][peer];

				if (!strcmp(expected, "#"))
					expected = facts.listening ? "R no-daemon 2"
								   : "R no-listener 3";
				assert_string_equal(describe(kmtls_decide_inbound(&facts), buffer),
						    expected);
				facts.pod_known = false;
				assert_string_equal(describe(kmtls_decide_inbound(&facts), buffer),
						    "R pod-unknown 5");
			}
		}
	}
}

/* The daemon, asked again: a mode that has become off meanwhile opens, an unknown one does not. */
static void accepted(void **state)
{
	static const char *const table[MODES][PEERS] = {
		{ "S mode-off", "S mode-off", "S bypass", "S mode-off", "T bad-peer" },
		{ "S permissive", "S permissive", "S bypass", "S permissive", "T bad-peer" },
		{ "T strict", "T strict", "S bypass", "T strict", "T bad-peer" },
		{ "T strict", "T strict", "S bypass", "T strict", "T bad-peer" },
	};
	char buffer[64];

	for (int mode = 0; mode < MODES; mode++)
		for (int peer = 0; peer < PEERS; peer++)
			assert_string_equal(
				describe(kmtls_decide_accepted(modes[mode], peer), buffer),
				table[mode][peer]);
}

static void backstop(void **state)
{
	for (int bits = 0; bits < 8; bits++) {
		for (int out = 0; out < MODES; out++) {
			for (int in = 0; in < MODES; in++) {
				struct kmtls_backstop_facts facts = {
					.outbound = modes[out],
					.inbound = modes[in],
					.outbound_bypassed = bits & 1,
					.inbound_bypassed = bits & 2,
					.answers = bits & 4,
				};
				/* Those after permissive are strict, known or not. */
				int as_client = out < 2 || bits & 1;
				int as_server = bits & 4 && (in < 2 || bits & 2);

				assert_int_equal(kmtls_backstop_lets(&facts),
						 as_client || as_server);
			}
		}
	}
}

static void read_peer(void **state)
{
	static const struct {
		struct kmtls_peer_value value;
		__u16 port;
		enum kmtls_peer_facts facts;
	} rows[] = {
		{ { .kind = 1, .match = 1 }, 80, KMTLS_PEER_MESHED },
		{ { .kind = 1, .match = 2 }, 80, KMTLS_PEER_MESHED },
		{ { .kind = 1, .match = 3 }, 80, KMTLS_PEER_MESHED },
		{ { .kind = 1, .match = 0 }, 80, KMTLS_PEER_UNREADABLE },
		{ { .kind = 1, .match = 4 },
		  80,
		  KMTLS_PEER_UNREADABLE }, /* any: nobody's promise */
		{ { .kind = 1, .match = 255 }, 80, KMTLS_PEER_UNREADABLE },
		{ { .kind = 0, .match = 1 }, 80, KMTLS_PEER_UNREADABLE },
		{ { .kind = 3, .match = 1 }, 80, KMTLS_PEER_UNREADABLE },
		{ { .kind = 2 }, 80, KMTLS_PEER_BYPASSED },
		{ { .kind = 2, .ports = { 80 } }, 81, KMTLS_PEER_BYPASSED },
		{ { .kind = 2, .match = 9 }, 80, KMTLS_PEER_BYPASSED },
		{ { .kind = 2, .port_count = 1, .ports = { 80 } }, 80, KMTLS_PEER_BYPASSED },
		{ { .kind = 2, .port_count = 1, .ports = { 80 } }, 81, KMTLS_PEER_UNBYPASSED },
		{ { .kind = 2, .port_count = 1, .ports = { 80, 81 } }, 81, KMTLS_PEER_UNBYPASSED },
		{ { .kind = 2, .port_count = 1, .ports = { 80 } }, 0, KMTLS_PEER_UNBYPASSED },
		{ { .kind = 2, .port_count = 1 }, 80, KMTLS_PEER_UNBYPASSED },
		{ { .kind = 2, .port_count = 255, .ports = { 80 } }, 81, KMTLS_PEER_UNBYPASSED },
	};
	struct kmtls_peer_value eight = { .kind = 2 };

	assert_int_equal(kmtls_peer_read(NULL, 80), KMTLS_PEER_SILENT);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		assert_int_equal(kmtls_peer_read(&rows[i].value, rows[i].port), rows[i].facts);
	for (int i = 0; i < KMTLS_BYPASS_PORTS; i++)
		eight.ports[i] = 1000 + i;
	for (int count = 1; count <= KMTLS_BYPASS_PORTS; count++) {
		eight.port_count = count;
		for (int i = 0; i < KMTLS_BYPASS_PORTS; i++)
			assert_int_equal(kmtls_peer_covers(&eight, 1000 + i), i < count);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(outbound), cmocka_unit_test(outbound_first),
		cmocka_unit_test(inbound),  cmocka_unit_test(accepted),
		cmocka_unit_test(backstop), cmocka_unit_test(read_peer),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("decision_rules", tests, NULL, NULL);
}
