/* SPDX-License-Identifier: Apache-2.0 */
/* test_mesh_file.c - what a declared policy says, and with which line and key a wrong one is
 * refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "address.h"
#include "hash.h"
#include "mesh_file.h"

static int parse(const char *text, struct kmtls_mesh_file *ret_file,
		 struct kmtls_mesh_file_error *ret_error)
{
	return kmtls_mesh_file_parse(text, strlen(text), ret_file, ret_error);
}

/* The mode of exactly this element; -1: the file does not say it. */
static int mode_of(const struct kmtls_mesh_file *file, __u8 scope, const char *name, __u8 direction,
		   __u16 port)
{
	struct kmtls_mode_key key = { .scope = scope, .direction = direction, .port = port };

	key.id = name ? kmtls_hash_text(name) : 0;
	for (size_t i = 0; i < file->modes.count; i++)
		if (!memcmp(&file->modes.entries[i].key, &key, sizeof(key)))
			return (int)file->modes.entries[i].mode;
	return -1;
}

static const struct kmtls_peer_value *peer_of(const struct kmtls_mesh_file *file, const char *text)
{
	struct kmtls_peer_key key;

	assert_int_equal(kmtls_prefix_parse(text, &key), 0);
	return &kmtls_peer_table_find(&file->peers.table, &key)->value;
}

static bool is_named(const struct kmtls_mesh_file *file, const char *text)
{
	for (size_t i = 0; i < file->peers.name_count; i++)
		if (!strcmp(file->peers.names[i].text, text))
			return file->peers.names[i].hash == kmtls_hash_text(text);
	return false;
}

#define WHOLE                                                                           \
	"modes:\n"                                                                      \
	"  mesh: {inbound: permissive, outbound: strict}\n"                             \
	"  ports:\n"                                                                    \
	"    9090: off\n"                                                               \
	"    9100: {inbound: off}\n"                                                    \
	"  namespaces:\n"                                                               \
	"    shop: strict\n"                                                            \
	"  pods:\n"                                                                     \
	"    shop/web: permissive\n"                                                    \
	"    old:\n"                                                                    \
	"      mode: off\n"                                                             \
	"      ports:\n"                                                                \
	"        80: strict\n"                                                          \
	"peers:\n"                                                                      \
	"  - {prefix: 10.0.0.2, id: spiffe://td/ns/shop/sa/db}\n"                       \
	"  - prefix: 10.96.0.0/16\n"                                                    \
	"    namespace: shop\n"                                                         \
	"    trust_domain: td\n"                                                        \
	"  - {prefix: 'fd00::/64', trust_domain: td}\n"                                 \
	"  - {prefix: 10.0.0.53, bypass: [53, 9153]}\n"                                 \
	"  - {prefix: 10.0.0.1/32, bypass: all}\n"                                      \
	"authorizations:\n"                                                             \
	"  - {allow: 'namespace:td/shop', to: spiffe://td/ns/shop/sa/db, port: 5432}\n" \
	"  - {deny: any, to: 'trust-domain:td'}\n"                                      \
	"  - {dry-run: spiffe://td/x, to: any}\n"                                       \
	"authorization_default: deny\n"

static void whole(void **state)
{
	struct kmtls_mesh_file_error error;
	struct kmtls_mesh_file file;

	assert_int_equal(parse(WHOLE, &file, &error), 0);
	assert_true(file.has_modes && file.has_peers && file.has_authorizations);
	assert_int_equal(file.authorization_default, KMTLS_AUTHORIZATION_DEFAULT_DENY);
	assert_int_equal(file.modes.count, 2 + 3 + 2 + 2 + 4);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_MESH, NULL, KMTLS_INBOUND, 0), 2);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_MESH, NULL, KMTLS_OUTBOUND, 0), 3);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_PORT, NULL, KMTLS_OUTBOUND, 9090), 1);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_PORT, NULL, KMTLS_INBOUND, 9100), 1);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_PORT, NULL, KMTLS_OUTBOUND, 9100), -1);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_NAMESPACE, "shop", KMTLS_INBOUND, 0), 3);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_POD, "shop/web", KMTLS_OUTBOUND, 0), 2);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_POD, "old", KMTLS_INBOUND, 0), 1);
	assert_int_equal(mode_of(&file, KMTLS_SCOPE_PORT, "old", KMTLS_INBOUND, 80), 3);
	assert_int_equal(file.peers.table.count, 5);
	assert_int_equal(peer_of(&file, "10.0.0.2/32")->match, KMTLS_MATCH_EXACT);
	assert_int_equal(peer_of(&file, "10.96.0.0/16")->match, KMTLS_MATCH_NAMESPACE);
	assert_true(peer_of(&file, "10.96.0.0/16")->identity ==
		    kmtls_hash_text("spiffe://td/ns/shop"));
	assert_int_equal(peer_of(&file, "fd00::/64")->match, KMTLS_MATCH_TRUST_DOMAIN);
	assert_int_equal(peer_of(&file, "10.0.0.53/32")->port_count, 2);
	assert_int_equal(peer_of(&file, "10.0.0.53/32")->ports[1], 9153);
	assert_int_equal(peer_of(&file, "10.0.0.1/32")->port_count, 0);
	assert_int_equal(file.authorizations.count, 3);
	assert_true(is_named(&file, "shop") && is_named(&file, "shop/web") &&
		    is_named(&file, "old"));
	assert_true(is_named(&file, "spiffe://td/ns/shop") && is_named(&file, "spiffe://td/x"));
	kmtls_mesh_file_free(&file);
}

static void sections(void **state)
{
	struct kmtls_mesh_file_error error;
	struct kmtls_mesh_file file;

	assert_int_equal(parse("peers:\n", &file, &error), 0);
	assert_true(file.has_peers && !file.has_modes && !file.has_authorizations);
	assert_int_equal(file.authorization_default, 0);
	kmtls_mesh_file_free(&file);
	assert_int_equal(parse("modes: {}\nauthorizations: []\n", &file, &error), 0);
	assert_true(!file.has_peers && file.has_modes && file.has_authorizations);
	kmtls_mesh_file_free(&file);
}

static void wrong(void **state)
{
	static const struct {
		const char *text, *complaint;
	} rows[] = {
		{ "", "0: : says nothing: there is not one section" },
		{ "# nothing\n", "0: : says nothing: there is not one section" },
		{ "x\n", "1: : must be a mapping" },
		{ "- modes\n", "1: : must be a mapping" },
		{ "mode: strict\n", "1: mode: unknown key" },
		{ "peers:\nmodes:\npeers:\n", "3: peers: must be there only once" },
		{ "modes: {}\n---\npeers:\n", "3: : one document only is allowed" },
		{ "modes: &a {}\npeers: *a\n", "2: : aliases are not allowed" },
		{ "modes: [\n", "2: : not YAML: did not find expected node content" },
		{ "modes: strict\n", "1: modes: must be a mapping" },
		{ "modes: []\n", "1: modes: must be a mapping" },
		{ "modes:\n  meesh: off\n", "2: modes.meesh: unknown key" },
		{ "modes:\n  mesh: On\n", "2: modes.mesh: must be off, permissive or strict" },
		{ "modes:\n  mesh:\n", "2: modes.mesh: must be off, permissive or strict" },
		{ "modes:\n  mesh: [off]\n", "2: modes.mesh: must be off, permissive or strict" },
		{ "modes:\n  mesh: {in: off}\n", "2: modes.mesh.in: unknown key" },
		{ "modes:\n  mesh: {mode: off}\n", "2: modes.mesh.mode: unknown key" },
		{ "modes:\n  mesh: off\n  mesh: strict\n",
		  "3: modes: the same is said on line 2 already" },
		{ "modes:\n  mesh: {inbound: off,\n    inbound: off}\n",
		  "3: modes: the same is said on line 2 already" },
		{ "modes:\n  ports:\n    0: off\n",
		  "3: modes.ports.0: must be a port, from 1 to 65535" },
		{ "modes:\n  ports:\n    65536: off\n",
		  "3: modes.ports.65536: must be a port, from 1 to 65535" },
		{ "modes:\n  ports:\n    http: off\n",
		  "3: modes.ports.http: must be a port, from 1 to 65535" },
		{ "modes:\n  namespaces:\n    a/b: off\n",
		  "3: modes.namespaces.a/b: must be 1 to 127 letters, digits, dots, hyphens or "
		  "underscores" },
		{ "modes:\n  pods:\n    a/b/c: off\n",
		  "3: modes.pods.a/b/c: must be 1 to 127 letters, digits, dots, hyphens or "
		  "underscores, or NAMESPACE/NAME" },
		{ "modes:\n  pods:\n    a: {ports: {80: {mode: off}}}\n",
		  "3: modes.pods.a.ports.80.mode: unknown key" },
		{ "peers: {}\n", "1: peers: must be a list" },
		{ "peers:\n  - 10.0.0.1\n", "2: peers[0]: must be a mapping" },
		{ "peers:\n  - {id: spiffe://td/a}\n", "2: peers[0]: prefix is missing" },
		{ "peers:\n  - {prefix: 10.0.0.1, prefix: 10.0.0.2}\n",
		  "2: peers[0].prefix: must be there only once" },
		{ "peers:\n  - {prefix: 10.0.0.1, name: a}\n", "2: peers[0].name: unknown key" },
		{ "peers:\n  - {prefix: [1], bypass: all}\n",
		  "2: peers[0].prefix: must be a text" },
		{ "peers:\n  - {prefix: 10.0.0.1}\n",
		  "2: peers[0]: needs exactly one of id, trust_domain and bypass" },
		{ "peers:\n  - {prefix: 10.0.0.1, id: spiffe://td/a, bypass: all}\n",
		  "2: peers[0]: needs exactly one of id, trust_domain and bypass" },
		{ "peers:\n  - {prefix: 10.0.0.1, id: spiffe://td/a, namespace: a}\n",
		  "2: peers[0]: namespace: only together with trust_domain" },
		{ "peers:\n  - prefix: 10.0.0.1\n    bypass: all\n  - prefix: 10.0.0.1/33\n"
		  "    bypass: all\n",
		  "4: peers[1].prefix: 10.0.0.1/33: prefix length must be 0 to 32" },
		{ "peers:\n  - {prefix: 10.0.0.1/8, bypass: all}\n",
		  "2: peers[0].prefix: 10.0.0.1/8: bits are set beyond the prefix length" },
		{ "peers:\n  - {prefix: web, bypass: all}\n",
		  "2: peers[0].prefix: web: must be an IP address or ADDRESS/LENGTH" },
		{ "peers:\n  - {prefix: 10.0.0.1, id: spiffe://TD/a}\n",
		  "2: peers[0]: spiffe://TD/a: *" },
		{ "peers:\n  - {prefix: 10.0.0.1, bypass: []}\n",
		  "2: peers[0].bypass: must be all, or a list of ports" },
		{ "peers:\n  - {prefix: 10.0.0.1, bypass: true}\n",
		  "2: peers[0].bypass: must be all, or a list of ports" },
		{ "peers:\n  - {prefix: 10.0.0.1, bypass: [80, 80]}\n",
		  "2: peers[0].bypass: 80 is there twice" },
		{ "peers:\n  - {prefix: 10.0.0.1, bypass: [1, 2, 3, 4, 5, 6, 7, 8, 9]}\n",
		  "2: peers[0].bypass: at most 8 ports" },
		{ "peers:\n  - {prefix: 10.0.0.1, bypass: all}\n  - {prefix: 10.0.0.1/32, bypass: "
		  "all}\n",
		  "3: peers: 10.0.0.1/32: is on line 2 already" },
		{ "authorizations:\n  - {allow: any}\n", "2: authorizations[0]: to is missing" },
		{ "authorizations:\n  - {to: any}\n",
		  "2: authorizations[0]: needs exactly one of allow, deny and dry-run" },
		{ "authorizations:\n  - {allow: any, deny: any, to: any}\n",
		  "2: authorizations[0]: needs exactly one of allow, deny and dry-run" },
		{ "authorizations:\n  - {allow: everyone, to: any}\n",
		  "2: authorizations[0]: everyone: *" },
		{ "authorizations:\n  - {allow: any, to: any, port: 0}\n",
		  "2: authorizations[0]: must be a port, from 1 to 65535" },
		{ "authorizations:\n  - {allow: any, to: any}\n  - {deny: any, to: any}\n",
		  "3: authorizations: the same is said on line 2 already" },
		{ "authorization_default: maybe\n",
		  "1: authorization_default: must be allow or deny" },
		{ "authorization_default: deny\nauthorization_default: deny\n",
		  "2: authorization_default: must be there only once" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct kmtls_mesh_file_error error;
		struct kmtls_mesh_file file;
		char got[1024];
		size_t length = strlen(rows[i].complaint);

		assert_int_equal(parse(rows[i].text, &file, &error), -EINVAL);
		snprintf(got, sizeof(got), "%u: %s: %s", error.line, error.key, error.rule);
		if (rows[i].complaint[length - 1] == '*')
			got[length - 1] = '*', got[length] = '\0';
		assert_string_equal(got, rows[i].complaint);
	}
}

static void bytes(void **state)
{
	static const char zero[] = "modes: {mesh: \"o\\0ff\"}\n", latin[] = "modes: {mesh: \xff}\n";
	struct kmtls_mesh_file_error error;
	struct kmtls_mesh_file file;

	assert_int_equal(parse(zero, &file, &error), -EINVAL);
	assert_string_equal(error.rule, "must be off, permissive or strict");
	assert_int_equal(parse(latin, &file, &error), -EINVAL);
	assert_int_equal(kmtls_mesh_file_parse(zero, KMTLS_MESH_FILE_MAX + 1u, &file, &error),
			 -EINVAL);
	assert_string_equal(error.rule, "longer than 16 MiB");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole),
		cmocka_unit_test(sections),
		cmocka_unit_test(wrong),
		cmocka_unit_test(bytes),
	};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("mesh_file", tests, NULL, NULL);
}
