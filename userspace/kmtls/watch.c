/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - see watch.h. */
#include <stdio.h>
#include <unistd.h>

#include "watch.h"

#define INTERVAL 2
#define CLEAR "\033[H\033[2J"

int kmtls_watch_interval(const struct kmtls_cli *cli, const struct kmtls_watch *watch,
			 unsigned *ret_seconds)
{
	*ret_seconds = INTERVAL;
	if (!watch->interval)
		return 0;
	if (!watch->on)
		return kmtls_cli_usage(cli, "--interval: only with --watch");
	return kmtls_options_number(cli, "--interval", watch->interval, 1, 3600, ret_seconds);
}

int kmtls_watch_run(const struct kmtls_cli *cli, const struct kmtls_watch *watch,
		    int (*show)(const struct kmtls_cli *cli, void *context), void *context)
{
	bool terminal = isatty(STDOUT_FILENO) && !cli->json;
	unsigned seconds;
	int status = kmtls_watch_interval(cli, watch, &seconds);

	if (status || !watch->on)
		return status ? status : show(cli, context);
	for (;;) {
		if (terminal)
			fputs(CLEAR, stdout);
		status = show(cli, context);
		if (status || fflush(stdout) || ferror(stdout))
			return status;
		sleep(seconds);
		if (!terminal && !cli->json)
			putchar('\n');
	}
}
