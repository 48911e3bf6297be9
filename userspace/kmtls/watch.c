/* SPDX-License-Identifier: Apache-2.0 */
/* watch.c - see watch.h. */
#include <errno.h>
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

static bool is_on_terminal(const struct kmtls_cli *cli)
{
	return isatty(STDOUT_FILENO) && !cli->json;
}

void kmtls_watch_begin_page(const struct kmtls_cli *cli)
{
	if (is_on_terminal(cli))
		fputs(CLEAR, stdout);
}

int kmtls_watch_end_page(const struct kmtls_cli *cli)
{
	if (!is_on_terminal(cli) && !cli->json)
		putchar('\n');
	return fflush(stdout) || ferror(stdout) ? -EIO : 0;
}

int kmtls_watch_run(const struct kmtls_cli *cli, const struct kmtls_watch *watch,
		    int (*show)(const struct kmtls_cli *cli, void *context), void *context)
{
	unsigned seconds;
	int status = kmtls_watch_interval(cli, watch, &seconds);

	if (status || !watch->on)
		return status ? status : show(cli, context);
	for (;;) {
		kmtls_watch_begin_page(cli);
		status = show(cli, context);
		if (status || kmtls_watch_end_page(cli))
			return status;
		sleep(seconds);
	}
}
