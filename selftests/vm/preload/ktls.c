/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ktls - loaded before libc (LD_PRELOAD): every TCP connection over IPv4 that a program dials or accepts,
 * but for those of loopback, is mutual TLS 1.3 with the records in the kernel. The handshake is done
 * inside connect() and accept(). This is the ideal of vmtest/bench: the application itself on kernel TLS,
 * with nothing between it and the wire.
 *
 *   BENCH_KTLS     directory with ca.pem, client.pem and server.pem (certificate and key)
 *   BENCH_SUITE    the cipher suite, TLS_AES_128_GCM_SHA256 or TLS_AES_256_GCM_SHA384
 *   BENCH_RESUME   1: the server sends one ticket, the client resumes with the last one it got
 */
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef SOL_TLS
#define SOL_TLS 282
#endif

#define SECRET_MAX 48
#define SALT 4
#define IV 8

enum side { CLIENT, SERVER };

/* The traffic secrets of the handshake that this thread is at, by who sends with them. */
static __thread uint8_t secrets[2][SECRET_MAX];
static __thread size_t secret_size;
static SSL_SESSION *last_session;
static unsigned tickets; /* that a server sends: one is one record */

static void note_secret(const SSL *ssl, const char *line)
{
	static const char *const labels[] = { "CLIENT_TRAFFIC_SECRET_0 ",
					      "SERVER_TRAFFIC_SECRET_0 " };
	const char *hex;

	for (int side = CLIENT; side <= SERVER; side++) {
		if (strncmp(line, labels[side], strlen(labels[side])))
			continue;
		hex = strrchr(line, ' ') + 1;
		secret_size = strlen(hex) / 2;
		for (size_t i = 0; i < secret_size && i < SECRET_MAX; i++)
			sscanf(hex + 2 * i, "%2hhx", &secrets[side][i]);
	}
}

static int note_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION_free(last_session);
	last_session = session;
	return 1;
}

static SSL_CTX *make_context(enum side side)
{
	const char *dir = getenv("BENCH_KTLS") ?: ".", *suite = getenv("BENCH_SUITE");
	SSL_CTX *context = SSL_CTX_new(side == SERVER ? TLS_server_method() : TLS_client_method());
	char own[512], ca[512];

	snprintf(own, sizeof(own), "%s/%s.pem", dir, side == SERVER ? "server" : "client");
	snprintf(ca, sizeof(ca), "%s/ca.pem", dir);
	tickets = getenv("BENCH_RESUME") ? 1 : 0;
	if (!context || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(context, suite ?: "TLS_AES_128_GCM_SHA256") ||
	    SSL_CTX_use_certificate_chain_file(context, own) != 1 ||
	    SSL_CTX_use_PrivateKey_file(context, own, SSL_FILETYPE_PEM) != 1 ||
	    SSL_CTX_load_verify_file(context, ca) != 1 ||
	    !SSL_CTX_set_session_id_context(context, (const uint8_t *)"bench", 5) ||
	    !SSL_CTX_set_num_tickets(context, tickets)) {
		fprintf(stderr, "ktls: %s and %s cannot be used\n", own, ca);
		_exit(1);
	}
	SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	SSL_CTX_set_mode(context, SSL_MODE_NO_AUTO_CHAIN);
	/* So that a read returns when it has met a ticket. */
	SSL_CTX_clear_mode(context, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_keylog_callback(context, note_secret);
	SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
	if (side == CLIENT && tickets) {
		SSL_CTX_set_session_cache_mode(context,
					       SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(context, note_session);
	}
	return context;
}

/* HKDF-Expand-Label of RFC 8446, 7.1, without a context. */
static bool expand(const uint8_t *secret, const char *label, uint8_t *to, uint8_t size)
{
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *context = EVP_KDF_CTX_new(kdf);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY, length;
	char *digest = secret_size == SECRET_MAX ? "SHA384" : "SHA256";
	uint8_t info[32];
	bool good;

	length = 4 + snprintf((char *)info + 3, sizeof(info) - 4, "tls13 %s", label);
	info[0] = 0;
	info[1] = size;
	info[2] = (uint8_t)(length - 4);
	info[length - 1] = 0;
	good = context &&
	       EVP_KDF_derive(
		       context, to, size,
		       (OSSL_PARAM[]){
			       OSSL_PARAM_int(OSSL_KDF_PARAM_MODE, &mode),
			       OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
			       OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, (void *)secret,
						       secret_size),
			       OSSL_PARAM_octet_string(OSSL_KDF_PARAM_INFO, info, (size_t)length),
			       OSSL_PARAM_END }) == 1;
	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	return good;
}

static bool install(int fd, int direction, enum side sender)
{
	struct tls12_crypto_info_aes_gcm_128 small = { .info.version = TLS_1_3_VERSION,
						       .info.cipher_type = TLS_CIPHER_AES_GCM_128 };
	struct tls12_crypto_info_aes_gcm_256 large = { .info.version = TLS_1_3_VERSION,
						       .info.cipher_type = TLS_CIPHER_AES_GCM_256 };
	bool is_large = secret_size == SECRET_MAX;
	uint8_t key[32], iv[SALT + IV];

	if (!expand(secrets[sender], "key", key,
		    is_large ? sizeof(large.key) : sizeof(small.key)) ||
	    !expand(secrets[sender], "iv", iv, sizeof(iv)))
		return false;
	memcpy(small.key, key, sizeof(small.key));
	memcpy(large.key, key, sizeof(large.key));
	memcpy(small.salt, iv, SALT);
	memcpy(large.salt, iv, SALT);
	memcpy(small.iv, iv + SALT, IV);
	memcpy(large.iv, iv + SALT, IV);
	if (sender == SERVER)
		small.rec_seq[7] = large.rec_seq[7] = (uint8_t)tickets;
	return !setsockopt(fd, SOL_TLS, direction, is_large ? (void *)&large : (void *)&small,
			   is_large ? sizeof(large) : sizeof(small));
}

/* NULL, or what went wrong. */
static const char *shake(SSL *ssl, int fd, enum side side)
{
	uint8_t byte;

	SSL_set_fd(ssl, fd);
	if (side == CLIENT && last_session)
		SSL_set_session(ssl, last_session);
	if ((side == CLIENT ? SSL_connect(ssl) : SSL_accept(ssl)) != 1)
		return "the handshake";
	/* Nothing but the ticket can be there yet. */
	if (side == CLIENT && tickets &&
	    (SSL_read(ssl, &byte, 1) > 0 || SSL_get_error(ssl, -1) != SSL_ERROR_WANT_READ))
		return "the ticket";
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")))
		return "TCP_ULP";
	if (!install(fd, TLS_TX, side))
		return "TLS_TX";
	return install(fd, TLS_RX, side == CLIENT ? SERVER : CLIENT) ? NULL : "TLS_RX";
}

/* The descriptor blocks meanwhile. */
static int secure(int fd, enum side side)
{
	static SSL_CTX *contexts[2];
	struct timeval patience = { .tv_sec = 20 }, forever = { 0 };
	int flags = fcntl(fd, F_GETFL);
	const char *trouble = "memory";
	SSL *ssl;

	if (!contexts[side])
		contexts[side] = make_context(side);
	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	ssl = SSL_new(contexts[side]);
	if (ssl)
		trouble = shake(ssl, fd, side);
	if (trouble) {
		fprintf(stderr, "ktls: %s: %s: %m\n", side == CLIENT ? "client" : "server",
			trouble);
		ERR_print_errors_fp(stderr);
	}
	if (ssl) { /* as if it had been closed in order: its session stays good */
		SSL_set_shutdown(ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
		SSL_free(ssl);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever));
	fcntl(fd, F_SETFL, flags);
	return trouble ? -EPROTO : 0;
}

static bool is_ours(int fd, const struct sockaddr *peer)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)peer;
	int type = 0;
	socklen_t length = sizeof(type);

	return peer->sa_family == AF_INET && (ntohl(in->sin_addr.s_addr) >> 24) != IN_LOOPBACKNET &&
	       !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &length) && type == SOCK_STREAM;
}

int connect(int fd, const struct sockaddr *to, socklen_t length)
{
	int (*original)(int, const struct sockaddr *, socklen_t) = dlsym(RTLD_NEXT, "connect");
	int flags, result;

	if (!is_ours(fd, to))
		return original(fd, to, length);
	flags = fcntl(fd, F_GETFL);
	fcntl(fd, F_SETFL, flags & ~O_NONBLOCK);
	result = original(fd, to, length);
	if (!result && secure(fd, CLIENT)) {
		errno = EPROTO;
		result = -1;
	}
	fcntl(fd, F_SETFL, flags);
	return result;
}

/*
 * wrk reads on as long as FIONREAD says that there is something, and takes EAGAIN for an error. TCP
 * counts what is encrypted: the begin of a record, which nobody can read yet, as well.
 */
int ioctl(int fd, unsigned long request, ...)
{
	int (*original)(int, unsigned long, void *) = dlsym(RTLD_NEXT, "ioctl");
	struct pollfd readable = { .fd = fd, .events = POLLIN };
	char protocol[16] = "";
	socklen_t length = sizeof(protocol);
	va_list rest;
	void *arg;
	int result;

	va_start(rest, request);
	arg = va_arg(rest, void *);
	va_end(rest);
	result = original(fd, request, arg);
	if (!result && request == FIONREAD && *(int *)arg > 0 &&
	    !getsockopt(fd, IPPROTO_TCP, TCP_ULP, protocol, &length) && !strcmp(protocol, "tls") &&
	    poll(&readable, 1, 0) == 0)
		*(int *)arg = 0;
	return result;
}

static int accepted(int fd)
{
	struct sockaddr_storage peer;
	socklen_t length = sizeof(peer);

	if (fd >= 0 && !getpeername(fd, (struct sockaddr *)&peer, &length) &&
	    is_ours(fd, (struct sockaddr *)&peer) && secure(fd, SERVER)) {
		close(fd);
		errno = ECONNABORTED;
		return -1;
	}
	return fd;
}

int accept(int fd, struct sockaddr *restrict peer, socklen_t *restrict length)
{
	int (*original)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");

	return accepted(original(fd, peer, length));
}

int accept4(int fd, struct sockaddr *restrict peer, socklen_t *restrict length, int flags)
{
	int (*original)(int, struct sockaddr *, socklen_t *, int) = dlsym(RTLD_NEXT, "accept4");

	return accepted(original(fd, peer, length, flags));
}
