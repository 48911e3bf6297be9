/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suites - loaded before OpenSSL (LD_PRELOAD): a program offers the one TLS 1.3 cipher suite that
 * BENCH_SUITE names, whatever it would offer itself. So vmtest/bench compares daemons on one cipher
 * that have no setting for it.
 */
#include <dlfcn.h>
#include <openssl/ssl.h>
#include <stdlib.h>

int SSL_CTX_set_ciphersuites(SSL_CTX *context, const char *suites)
{
	int (*original)(SSL_CTX *, const char *) = dlsym(RTLD_NEXT, "SSL_CTX_set_ciphersuites");

	return original(context, getenv("BENCH_SUITE") ?: suites);
}
