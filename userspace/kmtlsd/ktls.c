/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ktls.c - the four system calls that make a TCP socket kernel TLS and talk to it outside
 * of the stream of bytes. Everything the kernel copies that holds a key lives in one union
 * that is wiped when it goes out of scope.
 */
#include "ktls.h"

#include <arpa/inet.h>
#include <endian.h>
#include <errno.h>
#include <linux/tls.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/crypto.h>
#include <string.h>
#include <sys/socket.h>

#include "cleanup.h"

#ifndef SOL_TLS
#define SOL_TLS 282
#endif
#ifndef TCP_ULP
#define TCP_ULP 31
#endif

union crypto_info {
	struct tls_crypto_info info;
	struct tls12_crypto_info_aes_gcm_128 aes128;
	struct tls12_crypto_info_aes_gcm_256 aes256;
	struct tls12_crypto_info_chacha20_poly1305 chacha20;
};

static void wipe_crypto_info(union crypto_info *info)
{
	OPENSSL_cleanse(info, sizeof(*info));
}

#define __cleanup_crypto_info __attribute__((cleanup(wipe_crypto_info)))

/* What the kernel calls the cipher, and how long its description is. 0: unknown. */
static socklen_t cipher_layout(__u16 cipher, __u16 *ret_type)
{
	switch (cipher) {
	case 0x1301:
		*ret_type = TLS_CIPHER_AES_GCM_128;
		return sizeof(struct tls12_crypto_info_aes_gcm_128);
	case 0x1302:
		*ret_type = TLS_CIPHER_AES_GCM_256;
		return sizeof(struct tls12_crypto_info_aes_gcm_256);
	case 0x1303:
		*ret_type = TLS_CIPHER_CHACHA20_POLY1305;
		return sizeof(struct tls12_crypto_info_chacha20_poly1305);
	}
	return 0;
}

/* AES-GCM: the kernel wants the 12 bytes of the IV as a salt of 4 and an IV of 8. */
static socklen_t fill_crypto_info(union crypto_info *info, const struct kmtls_record_key *key,
				  __u64 sequence)
{
	const __u64 be_sequence = htobe64(sequence);
	__u16 type;
	socklen_t length = cipher_layout(key->cipher, &type);

	if (!length)
		return 0;
	info->info.version = TLS_1_3_VERSION;
	info->info.cipher_type = type;
	switch (type) {
	case TLS_CIPHER_AES_GCM_128:
		memcpy(info->aes128.salt, key->iv, sizeof(info->aes128.salt));
		memcpy(info->aes128.iv, key->iv + 4, sizeof(info->aes128.iv));
		memcpy(info->aes128.key, key->key, sizeof(info->aes128.key));
		memcpy(info->aes128.rec_seq, &be_sequence, sizeof(be_sequence));
		break;
	case TLS_CIPHER_AES_GCM_256:
		memcpy(info->aes256.salt, key->iv, sizeof(info->aes256.salt));
		memcpy(info->aes256.iv, key->iv + 4, sizeof(info->aes256.iv));
		memcpy(info->aes256.key, key->key, sizeof(info->aes256.key));
		memcpy(info->aes256.rec_seq, &be_sequence, sizeof(be_sequence));
		break;
	default:
		memcpy(info->chacha20.iv, key->iv, sizeof(info->chacha20.iv));
		memcpy(info->chacha20.key, key->key, sizeof(info->chacha20.key));
		memcpy(info->chacha20.rec_seq, &be_sequence, sizeof(be_sequence));
	}
	return length;
}

static int install(int fd, int direction, const struct kmtls_record_key *key, __u64 sequence)
{
	union crypto_info info __cleanup_crypto_info = { 0 };
	socklen_t length = fill_crypto_info(&info, key, sequence);

	if (!length)
		return -EINVAL;
	return setsockopt(fd, SOL_TLS, direction, &info, length) ? -errno : 0;
}

/*
 * 0: no key yet, -EBUSY: there is one. 6.1 and 6.12 say so themselves when it is set again,
 * but 7.2 takes it as a rekey, restarts the sequence and so reuses nonces: ask first. Without
 * a key getsockopt answers EBUSY; without the ULP it fails in another way, and so will the
 * setsockopt that follows.
 */
static int check_not_installed(int fd, int direction)
{
	union crypto_info info __cleanup_crypto_info = { 0 };
	socklen_t length = sizeof(info.info);

	return getsockopt(fd, SOL_TLS, direction, &info, &length) ? 0 : -EBUSY;
}

int kmtls_ktls_attach(int fd)
{
	return setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) ? -errno : 0;
}

int kmtls_ktls_install_tx(int fd, const struct kmtls_record_key *key, __u64 sequence)
{
	int err = check_not_installed(fd, TLS_TX);

	return err ? err : install(fd, TLS_TX, key, sequence);
}

int kmtls_ktls_install_rx(int fd, const struct kmtls_record_key *key, __u64 sequence)
{
	int err = check_not_installed(fd, TLS_RX);

	return err ? err : install(fd, TLS_RX, key, sequence);
}

/* Reads what is live. The answer holds the key: the caller's union wipes it. */
static int read_live(int fd, int direction, __u16 cipher, union crypto_info *ret_info,
		     __u64 *ret_sequence)
{
	__u16 type;
	socklen_t length = cipher_layout(cipher, &type);
	__u64 sequence;

	if (!length)
		return -EINVAL;
	if (getsockopt(fd, SOL_TLS, direction, ret_info, &length))
		return -errno;
	switch (type) {
	case TLS_CIPHER_AES_GCM_128:
		memcpy(&sequence, ret_info->aes128.rec_seq, sizeof(sequence));
		break;
	case TLS_CIPHER_AES_GCM_256:
		memcpy(&sequence, ret_info->aes256.rec_seq, sizeof(sequence));
		break;
	default:
		memcpy(&sequence, ret_info->chacha20.rec_seq, sizeof(sequence));
	}
	*ret_sequence = be64toh(sequence);
	return 0;
}

int kmtls_ktls_tx_sequence(int fd, __u16 cipher, __u64 *ret_sequence)
{
	union crypto_info info __cleanup_crypto_info = { 0 };

	return read_live(fd, TLS_TX, cipher, &info, ret_sequence);
}

/* Is key what the kernel has? Its sequence is passed in, so that it does not count. */
static bool is_live(const union crypto_info *live, const struct kmtls_record_key *key,
		    __u64 sequence)
{
	union crypto_info info __cleanup_crypto_info = { 0 };
	socklen_t length = fill_crypto_info(&info, key, sequence);

	return length && !CRYPTO_memcmp(live, &info, length);
}

int kmtls_ktls_which(int fd, enum kmtls_ktls_way way, const struct kmtls_record_key *first,
		     const struct kmtls_record_key *second, __u64 *ret_sequence)
{
	union crypto_info live __cleanup_crypto_info = { 0 };
	__u64 sequence;
	int err;

	err = read_live(fd, way == KMTLS_KTLS_TX ? TLS_TX : TLS_RX, first->cipher, &live,
			&sequence);
	if (err)
		return err;
	if (ret_sequence)
		*ret_sequence = sequence;
	if (is_live(&live, first, sequence))
		return 0;
	return is_live(&live, second, sequence) ? 1 : -ESTALE;
}

int kmtls_ktls_replace(int fd, enum kmtls_ktls_way way, const struct kmtls_record_key *old,
		       const struct kmtls_record_key *key)
{
	int which = kmtls_ktls_which(fd, way, old, key, NULL);

	if (which)
		return which == 1 ? -EALREADY : which;
	return install(fd, way == KMTLS_KTLS_TX ? TLS_TX : TLS_RX, key, 0);
}

int kmtls_ktls_send(int fd, __u8 type, const void *record, size_t length)
{
	char control[CMSG_SPACE(1)] __attribute__((aligned(__alignof__(struct cmsghdr)))) = { 0 };
	struct iovec vector = { .iov_base = (void *)record, .iov_len = length };
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header = CMSG_FIRSTHDR(&message);

	header->cmsg_level = SOL_TLS;
	header->cmsg_type = TLS_SET_RECORD_TYPE;
	header->cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(header) = type;
	message.msg_controllen = header->cmsg_len;
	return sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

int kmtls_ktls_send_alert(int fd, __u8 level, __u8 description)
{
	const unsigned char alert[2] = { level, description };

	return kmtls_ktls_send(fd, KMTLS_RECORD_ALERT, alert, sizeof(alert));
}

ssize_t kmtls_ktls_receive(int fd, bool peek, void *buffer, size_t size, __u8 *ret_type)
{
	char control[CMSG_SPACE(1)] __attribute__((aligned(__alignof__(struct cmsghdr))));
	struct iovec vector = { .iov_base = buffer, .iov_len = size };
	struct msghdr message = {
		.msg_iov = &vector,
		.msg_iovlen = 1,
		.msg_control = control,
		.msg_controllen = sizeof(control),
	};
	struct cmsghdr *header;
	ssize_t received = recvmsg(fd, &message, MSG_DONTWAIT | (peek ? MSG_PEEK : 0));

	if (received < 0)
		return -errno;
	/* Every record brings its type along, an empty one too; the end of the stream does not. */
	header = CMSG_FIRSTHDR(&message);
	*ret_type =
		header && header->cmsg_level == SOL_TLS && header->cmsg_type == TLS_GET_RECORD_TYPE
			? *CMSG_DATA(header)
			: 0;
	return received;
}

/* A connected socket to a listener of its own on loopback: the ULP wants ESTABLISHED. */
static int connect_to_self(int listener, int *ret_fd)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int fd __cleanup_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(listener, (struct sockaddr *)&address, sizeof(address)) ||
	    listen(listener, 1) || getsockname(listener, (struct sockaddr *)&address, &length) ||
	    connect(fd, (struct sockaddr *)&address, sizeof(address)))
		return -errno;
	*ret_fd = kmtls_take_fd(fd);
	return 0;
}

/* On a socket that says nothing and is closed at once. */
static int probe(int (*question)(int fd))
{
	int listener __cleanup_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd __cleanup_fd = -1;
	int err;

	if (listener < 0)
		return -errno;
	err = connect_to_self(listener, &fd);
	if (!err)
		err = kmtls_ktls_attach(fd);
	return err || !question ? err : question(fd);
}

int kmtls_ktls_probe(void)
{
	return probe(NULL);
}

static int set_both_twice(int fd)
{
	static const struct kmtls_record_key keys[2] = { { .cipher = 0x1301, .key = { 1 } },
							 { .cipher = 0x1301, .key = { 2 } } };
	int err = 0;

	for (int i = 0; i < 2 && !err; i++) {
		err = install(fd, TLS_TX, &keys[i], 0);
		if (!err)
			err = install(fd, TLS_RX, &keys[i], 0);
	}
	return err;
}

int kmtls_ktls_probe_rekey(void)
{
	return probe(set_both_twice);
}
