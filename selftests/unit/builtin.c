/* SPDX-License-Identifier: Apache-2.0 */
/* builtin.c - see builtin.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "builtin.h"
#include "certificates.h"

char builtin_directory[] = "/tmp/kmtls-builtin-XXXXXX";
char builtin_root[64];
struct kmtls_config_backend builtin_backend;

struct kmtls_identity_options builtin_options(const char *root_file)
{
	builtin_backend = (struct kmtls_config_backend){
		.name = (char *)"own",
		.type = KMTLS_BACKEND_BUILTIN,
		.key_type = KMTLS_KEY_EC_P256,
		.root_file = (char *)root_file,
		.root_ttl = 3600 * 24,
		.svid_ttl = 3600,
	};
	return (struct kmtls_identity_options){
		.backend = &builtin_backend,
		.trust_domain = TEST_TRUST_DOMAIN,
	};
}

struct kmtls_identity *builtin_open(const char *root_file)
{
	struct kmtls_identity_options options = builtin_options(root_file);
	struct kmtls_identity *identity = NULL;
	char why[256] = "";

	if (kmtls_identity_builtin_open(&options, &identity, why))
		fail_msg("%s", why);
	return identity;
}

static void remove_files(void)
{
	DIR *dir = opendir(builtin_directory);
	struct dirent *entry;

	while ((entry = readdir(dir)))
		unlinkat(dirfd(dir), entry->d_name, 0);
	closedir(dir);
}

int builtin_setup_group(void **state)
{
	assert_non_null(mkdtemp(builtin_directory));
	snprintf(builtin_root, sizeof(builtin_root), "%s/root.pem", builtin_directory);
	return 0;
}

int builtin_teardown_group(void **state)
{
	remove_files();
	return rmdir(builtin_directory);
}

int builtin_teardown(void **state)
{
	remove_files();
	return 0;
}
