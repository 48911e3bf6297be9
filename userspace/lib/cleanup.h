/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cleanup.h - cleanup attributes for leaf functions. A constructor with several
 * stages unwinds with a reverse goto ladder instead; never both in one function.
 */
#ifndef KMTLS_CLEANUP_H
#define KMTLS_CLEANUP_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static inline void kmtls_cleanup_fd(int *fd)
{
	if (*fd >= 0) {
		int saved = errno;

		close(*fd);
		errno = saved;
	}
}

static inline void kmtls_cleanup_free(void *pointer)
{
	free(*(void **)pointer);
}

static inline void kmtls_cleanup_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

#define __cleanup_fd __attribute__((cleanup(kmtls_cleanup_fd)))
#define __cleanup_free __attribute__((cleanup(kmtls_cleanup_free)))
#define __cleanup_file __attribute__((cleanup(kmtls_cleanup_file)))

/* Moves ownership out of a variable that has a cleanup attribute. */
#define kmtls_take_fd(variable)          \
	({                               \
		int taken_ = (variable); \
		(variable) = -1;         \
		taken_;                  \
	})
#define kmtls_take_pointer(variable)                      \
	({                                                \
		__typeof__(variable) taken_ = (variable); \
		(variable) = NULL;                        \
		taken_;                                   \
	})

#endif
