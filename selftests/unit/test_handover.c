/* SPDX-License-Identifier: Apache-2.0 */
/*
 * test_handover.c - from a finished OpenSSL handshake to kernel TLS: each role in the kernel, the
 * other one in the kernel too or left in OpenSSL, which then is the judge of what the
 * kernel sends; three ciphers, the ticket's sequence number, refusal and close_notify.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/bio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "certificates.h"
#include "ktls.h"
#include "sockets.h"
#include "tls.h"

#define CLIENT_IN_KERNEL 1
#define SERVER_IN_KERNEL 2
#define BULK 20000 /* more than one record */

struct variant {
	const char *suite;
	__u16 cipher;
	int kernel; /* *_IN_KERNEL */
};

/* An end of a flow: the socket, and OpenSSL unless the kernel took over. */
struct end {
	struct test_side side;
	int fd;
	bool in_kernel;
};

static struct test_certificate root, client_leaf, server_leaf;
static SSL_CTX *client_context, *server_context;
static struct end client, server;

static int setup_group(void **state)
{
	test_trio_make(&root, &client_leaf, &server_leaf);
	client_context = test_context_make(KMTLS_ROLE_CLIENT, &client_leaf, NULL, root.certificate);
	server_context = test_context_make(KMTLS_ROLE_SERVER, &server_leaf, NULL, root.certificate);
	return 0;
}

static int teardown_group(void **state)
{
	SSL_CTX_free(client_context);
	SSL_CTX_free(server_context);
	test_trio_free(&root, &client_leaf, &server_leaf);
	return 0;
}

static int teardown(void **state)
{
	test_side_close(&client.side);
	test_side_close(&server.side);
	close(client.fd);
	close(server.fd);
	memset(&client, 0, sizeof(client));
	memset(&server, 0, sizeof(server));
	client.fd = server.fd = -1;
	return 0;
}

static void open_ends(const struct variant *variant)
{
	BIO *client_bio, *server_bio;

	test_require_ktls();
	test_tcp_pair(&client.fd, &server.fd);
	test_sides_open(&client.side, client_context, &server.side, server_context);
	client_bio = BIO_new_socket(client.fd, BIO_NOCLOSE);
	server_bio = BIO_new_socket(server.fd, BIO_NOCLOSE);
	SSL_set_bio(client.side.ssl, client_bio, client_bio);
	SSL_set_bio(server.side.ssl, server_bio, server_bio);
	SSL_set_ciphersuites(client.side.ssl, variant->suite);
}

/* Up to the point where the server would ask its application. */
static void shake_hands(void)
{
	int tries;

	for (tries = 0; tries < 5000 && !SSL_is_init_finished(server.side.ssl); tries++) {
		if (!SSL_is_init_finished(client.side.ssl))
			kmtls_traffic_secrets_handshake(client.side.ssl);
		kmtls_traffic_secrets_handshake(server.side.ssl);
		usleep(1000);
	}
	assert_true(SSL_is_init_finished(client.side.ssl));
	assert_true(SSL_is_init_finished(server.side.ssl));
}

static void send_ticket(void)
{
	test_side_step(&server.side);
	assert_true(server.side.ready);
}

static void await_ticket(void)
{
	test_wait_readable(client.fd);
	test_side_step(&client.side);
	assert_true(client.side.ready);
}

/* What handshake code does: derive, install, free. */
static void move_into_kernel(struct end *end, __u64 tx_sequence, __u64 rx_sequence)
{
	bool is_server = SSL_is_server(end->side.ssl);
	__u16 cipher = SSL_CIPHER_get_protocol_id(SSL_get_current_cipher(end->side.ssl));
	const struct kmtls_traffic_secrets *secrets = &end->side.secrets;
	struct kmtls_record_key tx __cleanup_record_key = { 0 };
	struct kmtls_record_key rx __cleanup_record_key = { 0 };

	assert_int_equal(SSL_has_pending(end->side.ssl), 0);
	assert_int_equal(kmtls_record_key_derive(
				 cipher, is_server ? &secrets->server : &secrets->client, &tx),
			 0);
	assert_int_equal(kmtls_record_key_derive(
				 cipher, is_server ? &secrets->client : &secrets->server, &rx),
			 0);
	assert_int_equal(kmtls_ktls_attach(end->fd), 0);
	assert_int_equal(kmtls_ktls_install_tx(end->fd, &tx, tx_sequence), 0);
	assert_int_equal(kmtls_ktls_install_rx(end->fd, &rx, rx_sequence), 0);
	test_side_close(&end->side);
	end->in_kernel = true;
}

static void put(struct end *end, const unsigned char *bytes, size_t length)
{
	int tries;

	for (tries = 0; length && tries < 5000; tries++) {
		ssize_t sent = end->in_kernel ? send(end->fd, bytes, length, MSG_NOSIGNAL)
					      : SSL_write(end->side.ssl, bytes, length);

		if (sent > 0) {
			bytes += sent;
			length -= sent;
		} else {
			usleep(1000);
		}
	}
	assert_int_equal(length, 0);
}

static ssize_t get_some(struct end *end, unsigned char *bytes, size_t length)
{
	__u8 type;
	ssize_t got;

	if (!end->in_kernel)
		return SSL_read(end->side.ssl, bytes, length);
	got = kmtls_ktls_receive(end->fd, false, bytes, length, &type);
	if (got > 0)
		assert_int_equal(type, KMTLS_RECORD_DATA);
	else
		assert_int_equal(got, -EAGAIN);
	return got;
}

static void get(struct end *end, const unsigned char *wanted, size_t length)
{
	unsigned char buffer[BULK];
	size_t used = 0;
	int tries;

	for (tries = 0; used < length && tries < 5000; tries++) {
		ssize_t got = get_some(end, buffer + used, length - used);

		if (got > 0)
			used += got;
		else
			usleep(1000);
	}
	assert_int_equal(used, length);
	assert_memory_equal(buffer, wanted, length);
}

static void exchange(void)
{
	unsigned char up[BULK], down[BULK];
	int round, i;

	for (round = 0; round < 5; round++) {
		for (i = 0; i < BULK; i++) {
			up[i] = i * 7 + round;
			down[i] = i * 13 + round;
		}
		put(&client, up, BULK);
		get(&server, up, BULK);
		put(&server, down, BULK);
		get(&client, down, BULK);
	}
}

/* The closing side's close_notify is what the other one sees, as such, before the end. */
static void close_one_way(struct end *from, struct end *to)
{
	unsigned char buffer[16];
	__u8 type = 0xff;
	int got;

	if (from->in_kernel)
		assert_int_equal(kmtls_ktls_send_alert(from->fd, 1, 0), 0);
	else
		assert_true(SSL_shutdown(from->side.ssl) >= 0);
	shutdown(from->fd, SHUT_WR);
	test_wait_readable(to->fd);
	if (to->in_kernel) {
		assert_int_equal(kmtls_ktls_receive(to->fd, false, buffer, sizeof(buffer), &type),
				 2);
		assert_int_equal(type, KMTLS_RECORD_ALERT);
		assert_memory_equal(buffer, "\1\0", 2);
		test_wait_readable(to->fd);
		assert_int_equal(kmtls_ktls_receive(to->fd, false, buffer, sizeof(buffer), &type),
				 0);
		assert_int_equal(type, 0);
		return;
	}
	got = SSL_read(to->side.ssl, buffer, sizeof(buffer));
	assert_int_equal(SSL_get_error(to->side.ssl, got), SSL_ERROR_ZERO_RETURN);
}

static void assert_sequence(const struct end *end, __u16 cipher, __u64 wanted)
{
	__u64 sequence;

	if (!end->in_kernel)
		return;
	assert_int_equal(kmtls_ktls_tx_sequence(end->fd, cipher, &sequence), 0);
	assert_int_equal(sequence, wanted);
}

static void accepted(void **state)
{
	const struct variant *variant = *state;

	open_ends(variant);
	shake_hands();
	send_ticket();
	await_ticket();
	if (variant->kernel & SERVER_IN_KERNEL)
		move_into_kernel(&server, 1, 0);
	if (variant->kernel & CLIENT_IN_KERNEL)
		move_into_kernel(&client, 0, 1);
	assert_sequence(&server, variant->cipher, 1);
	assert_sequence(&client, variant->cipher, 0);
	exchange();
	/* BULK is two records, five rounds. */
	assert_sequence(&server, variant->cipher, 11);
	assert_sequence(&client, variant->cipher, 10);
	close_one_way(&client, &server);
	put(&server, (const unsigned char *)"half-closed", 11);
	get(&client, (const unsigned char *)"half-closed", 11);
	close_one_way(&server, &client);
}

/* Bytes that arrive before the keys do: they wait in the socket, in both directions. */
static void early_bytes(void **state)
{
	const struct variant *variant = *state;
	static const unsigned char up[] = "from the client", down[] = "from the server";

	open_ends(variant);
	shake_hands();
	send_ticket();
	move_into_kernel(&server, 1, 0);
	put(&server, down, sizeof(down)); /* on the heels of the ticket */
	usleep(20000);
	await_ticket();
	put(&client, up, sizeof(up));
	move_into_kernel(&client, 1, 1); /* OpenSSL sent the first record */
	get(&server, up, sizeof(up));
	get(&client, down, sizeof(down));
}

/* The application refused: no ticket, TX at 0, an alert from the kernel. */
static void refused_by_application(void **state)
{
	const struct variant *variant = *state;

	open_ends(variant);
	shake_hands();
	move_into_kernel(&server, 0, 0);
	assert_int_equal(kmtls_ktls_send_alert(server.fd, 2, SSL_AD_UNRECOGNIZED_NAME), 0);
	shutdown(server.fd, SHUT_WR);
	test_wait_readable(client.fd);
	test_side_step(&client.side);
	assert_false(client.side.ready);
	assert_int_equal(client.side.reason, KMTLS_REASON_REFUSED_BY_APPLICATION);
	assert_int_equal(kmtls_tls_tickets_seen(client.side.ssl), 0);
}

/* The wrong sequence number must not pass: that is what the ticket's 1 is about. */
static void ticket_not_counted(void **state)
{
	const struct variant *variant = *state;
	unsigned char buffer[16];
	__u8 type;

	open_ends(variant);
	shake_hands();
	send_ticket();
	await_ticket();
	move_into_kernel(&server, 1, 0);
	move_into_kernel(&client, 0, 0);
	put(&server, (const unsigned char *)"x", 1);
	test_wait_readable(client.fd);
	assert_int_equal(kmtls_ktls_receive(client.fd, false, buffer, sizeof(buffer), &type),
			 -EBADMSG);
}

#define AES128 "TLS_AES_128_GCM_SHA256", 0x1301
#define AES256 "TLS_AES_256_GCM_SHA384", 0x1302
#define CHACHA20 "TLS_CHACHA20_POLY1305_SHA256", 0x1303
#define BOTH (CLIENT_IN_KERNEL | SERVER_IN_KERNEL)

static const struct variant variants[] = {
	{ AES128, BOTH },   { AES128, CLIENT_IN_KERNEL },   { AES128, SERVER_IN_KERNEL },
	{ AES256, BOTH },   { AES256, CLIENT_IN_KERNEL },   { AES256, SERVER_IN_KERNEL },
	{ CHACHA20, BOTH }, { CHACHA20, CLIENT_IN_KERNEL }, { CHACHA20, SERVER_IN_KERNEL },
};

#define TEST(name, function, variant)                              \
	{                                                          \
		name, function, NULL, teardown, (void *)&(variant) \
	}

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST("AES-128-GCM, both in the kernel", accepted, variants[0]),
		TEST("AES-128-GCM, client in the kernel", accepted, variants[1]),
		TEST("AES-128-GCM, server in the kernel", accepted, variants[2]),
		TEST("AES-256-GCM, both in the kernel", accepted, variants[3]),
		TEST("AES-256-GCM, client in the kernel", accepted, variants[4]),
		TEST("AES-256-GCM, server in the kernel", accepted, variants[5]),
		TEST("ChaCha20-Poly1305, both in the kernel", accepted, variants[6]),
		TEST("ChaCha20-Poly1305, client in the kernel", accepted, variants[7]),
		TEST("ChaCha20-Poly1305, server in the kernel", accepted, variants[8]),
		TEST("early bytes, AES-128-GCM", early_bytes, variants[0]),
		TEST("early bytes, AES-256-GCM", early_bytes, variants[3]),
		TEST("early bytes, ChaCha20-Poly1305", early_bytes, variants[6]),
		TEST("refusal, AES-128-GCM", refused_by_application, variants[2]),
		TEST("refusal, AES-256-GCM", refused_by_application, variants[5]),
		TEST("refusal, ChaCha20-Poly1305", refused_by_application, variants[8]),
		TEST("ticket not counted", ticket_not_counted, variants[0]),
	};

	client.fd = server.fd = -1;
	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests_name("handover", tests, setup_group, teardown_group);
}
