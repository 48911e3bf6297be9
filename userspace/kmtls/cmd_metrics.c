/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_metrics.c - kmtls metrics: what a scraper would get (metrics.listen), without one. */
#include <stdio.h>

#include "cli.h"
#include "json.h"

int kmtls_cmd_metrics(struct kmtls_cli *cli, int argc, char **argv)
{
	__cleanup_json json_t *result = NULL;
	const char *text;
	int status;

	status = kmtls_options_parse(cli, argc, argv, NULL, NULL, NULL);
	if (status)
		return status;
	status = kmtls_client_call(cli, "metrics", NULL, KMTLS_CLIENT_SECONDS, &result);
	if (status)
		return status;
	if (cli->json) {
		kmtls_client_print(result);
		return KMTLS_EXIT_OK;
	}
	text = json_string_value(json_object_get(result, "text"));
	if (!text) {
		kmtls_cli_error(cli, "the daemon's answer cannot be read");
		return KMTLS_EXIT_REFUSED;
	}
	fputs(text, stdout);
	return KMTLS_EXIT_OK;
}
