/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_log.c - kmtls log LEVEL: the daemon's log level until its next start. */
#include "cli.h"
#include "log.h"

int kmtls_cmd_log(struct kmtls_cli *cli, int argc, char **argv)
{
	static const char *const names[] = { "LEVEL", NULL };
	enum kmtls_log_level parsed;
	const char *level;
	int err = kmtls_options_parse(cli, argc, argv, NULL, names, &level);

	if (err)
		return err;
	if (kmtls_log_parse_level(level, &parsed))
		return kmtls_cli_usage(cli, "%s: must be error, warning, info or debug", level);
	return kmtls_client_do(cli, "log", json_pack("{s:s}", "level", level),
			       KMTLS_CLIENT_SECONDS);
}
