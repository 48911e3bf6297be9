/* SPDX-License-Identifier: Apache-2.0 */
/* control_metrics.c - the verb metrics: the text of a scrape, for who has no scraper. */
#include "control_request.h"
#include "daemon.h"
#include "metrics.h"

int kmtls_control_metrics(struct kmtls_daemon *daemon, const json_t *arguments,
			  struct kmtls_text *result, char *ret_why)
{
	__cleanup_text struct kmtls_text text = { .limit = KMTLS_CONTROL_ANSWER_MAX };
	int err = kmtls_metrics_render(daemon, &text);

	if (err)
		return err;
	return kmtls_text_append_json(result, json_pack("{s:s, s:s%}", "content_type",
							KMTLS_METRICS_CONTENT_TYPE, "text",
							text.bytes, text.length));
}
