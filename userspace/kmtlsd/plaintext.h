/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plaintext.h - connections of pods that are in the clear and that the mode forbids: those the
 * daemon relays in plaintext, and those it has nothing to do with, opened before the enrolment or
 * while the mode let them pass. A mode counts for connections from its change on; whoever wants
 * the others gone as well asks for it (--now).
 *
 * For the control thread: it enters the pods' namespaces.
 */
#ifndef KMTLS_PLAINTEXT_H
#define KMTLS_PLAINTEXT_H

#include <stddef.h>

#include "diag.h"
#include "modes.h"

struct kmtls_daemon;
struct kmtls_pod;

struct kmtls_plaintext {
	struct kmtls_pod *pod; /* a reference */
	enum kmtls_direction direction;
	bool relayed; /* by the daemon */
	unsigned slot, generation; /* relayed */
	struct kmtls_diag_socket socket; /* relayed: only its ends */
};

struct kmtls_plaintext_list {
	struct kmtls_plaintext *list;
	size_t count, size;
};

/* What the change is about and would be forbidden, were it made. Pods that cannot be looked into
 * are logged and left out. -ENOMEM. */
int kmtls_plaintext_find(struct kmtls_daemon *daemon, const struct kmtls_mode_change *change,
			 struct kmtls_plaintext_list *ret_list);
/* Resets them, each with a line in the log and counted as forbidden; how many. */
size_t kmtls_plaintext_end(struct kmtls_daemon *daemon, const struct kmtls_plaintext_list *list);
void kmtls_plaintext_free(struct kmtls_plaintext_list *list);

#endif
