/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_hash.c - kmtls hash TEXT: the key under which the maps know a text. No daemon needed. */
#include <stdio.h>

#include "cli.h"
#include "hash.h"

int kmtls_cmd_hash(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "TEXT", NULL };
	const char *text;
	int err = kmtls_options_parse(cli, argc, argv, NULL, names, &text);

	if (err)
		return err;
	printf(cli->json ? "{\"hash\": \"0x%016llx\"}\n" : "0x%016llx\n",
	       (unsigned long long)kmtls_hash_text(text));
	return KMTLS_EXIT_OK;
}
