/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.c - see address.h. Parsing is strict, because what is parsed here becomes a key of
 * a policy map: a prefix with bits beyond its length is a typing error, not a prefix.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "address.h"

#define V4_OFFSET 12 /* of the IPv4 bytes in a mapped address */
#define V4_PREFIX 96

static const __u8 v4_mapped[V4_OFFSET] = { [10] = 0xff, [11] = 0xff };

bool kmtls_address_is_v4(const struct kmtls_address *address)
{
	return !memcmp(address->bytes, v4_mapped, sizeof(v4_mapped));
}

bool kmtls_address_is_zero(const struct kmtls_address *address)
{
	static const struct kmtls_address zero;

	return kmtls_address_equal(address, &zero);
}

bool kmtls_address_is_loopback(const struct kmtls_address *address)
{
	static const struct kmtls_address one = { .bytes = { [15] = 1 } };
	static const __u8 any4[4];

	if (kmtls_address_is_v4(address))
		return address->bytes[V4_OFFSET] == 127 ||
		       !memcmp(address->bytes + V4_OFFSET, any4, sizeof(any4));
	return kmtls_address_is_zero(address) || kmtls_address_equal(address, &one);
}

bool kmtls_address_equal(const struct kmtls_address *a, const struct kmtls_address *b)
{
	return !memcmp(a->bytes, b->bytes, sizeof(a->bytes));
}

bool kmtls_endpoint_equal(const struct kmtls_endpoint *a, const struct kmtls_endpoint *b)
{
	return a->port == b->port && kmtls_address_equal(&a->address, &b->address);
}

static void set_v4(struct kmtls_address *address, const void *bytes)
{
	memcpy(address->bytes, v4_mapped, sizeof(v4_mapped));
	memcpy(address->bytes + V4_OFFSET, bytes, 4);
}

int kmtls_address_parse(const char *text, struct kmtls_address *ret_address)
{
	struct in_addr v4;
	struct in6_addr v6;

	if (inet_pton(AF_INET, text, &v4) == 1) {
		set_v4(ret_address, &v4);
		return 0;
	}
	if (inet_pton(AF_INET6, text, &v6) == 1) {
		memcpy(ret_address->bytes, &v6, sizeof(ret_address->bytes));
		return 0;
	}
	return -EINVAL;
}

/* "0" to "999", decimal digits only, no leading zero. */
static int parse_length(const char *text, unsigned *ret_length)
{
	unsigned length = 0;
	size_t digits = strspn(text, "0123456789");

	if (!digits || text[digits] || (digits > 1 && *text == '0'))
		return -EINVAL;
	if (digits > 3)
		return -ERANGE;
	for (; *text; text++)
		length = length * 10 + (unsigned)(*text - '0');
	*ret_length = length;
	return 0;
}

void kmtls_prefix_mask(struct kmtls_peer_key *key)
{
	for (unsigned bit = key->prefix_len; bit < 128; bit++)
		key->address.bytes[bit / 8] &= (__u8) ~(0x80u >> bit % 8);
}

static bool bits_beyond(const struct kmtls_peer_key *key)
{
	struct kmtls_peer_key masked = *key;

	kmtls_prefix_mask(&masked);
	return !kmtls_address_equal(&masked.address, &key->address);
}

int kmtls_prefix_parse(const char *text, struct kmtls_peer_key *ret_key)
{
	const char *slash = strchr(text, '/');
	size_t address_length = slash ? (size_t)(slash - text) : strlen(text);
	char address[INET6_ADDRSTRLEN];
	struct kmtls_peer_key key;
	unsigned limit, length;
	int err;

	if (address_length >= sizeof(address))
		return -EINVAL;
	memcpy(address, text, address_length);
	address[address_length] = '\0';
	err = kmtls_address_parse(address, &key.address);
	if (err)
		return err;
	/* By how it was written: ::ffff:10.0.0.0/104 is an IPv6 length. */
	limit = strchr(address, ':') ? 128 : 32;
	length = limit;
	err = slash ? parse_length(slash + 1, &length) : 0;
	if (err)
		return err;
	if (length > limit)
		return -ERANGE;
	key.prefix_len = limit == 32 ? length + V4_PREFIX : length;
	if (bits_beyond(&key))
		return -EDOM;
	*ret_key = key;
	return 0;
}

const char *kmtls_address_format(const struct kmtls_address *address, char *buffer, size_t size)
{
	char text[INET6_ADDRSTRLEN];

	if (kmtls_address_is_v4(address))
		inet_ntop(AF_INET, address->bytes + V4_OFFSET, text, sizeof(text));
	else
		inet_ntop(AF_INET6, address->bytes, text, sizeof(text));
	snprintf(buffer, size, "%s", text);
	return buffer;
}

const char *kmtls_endpoint_format(const struct kmtls_endpoint *endpoint, char *buffer, size_t size)
{
	char text[INET6_ADDRSTRLEN];

	kmtls_address_format(&endpoint->address, text, sizeof(text));
	if (kmtls_address_is_v4(&endpoint->address))
		snprintf(buffer, size, "%s:%u", text, endpoint->port);
	else
		snprintf(buffer, size, "[%s]:%u", text, endpoint->port);
	return buffer;
}

const char *kmtls_prefix_format(const struct kmtls_peer_key *key, char *buffer, size_t size)
{
	char text[INET6_ADDRSTRLEN];

	/* Shorter than the mapping, it covers more than IPv4 and is an IPv6 prefix. */
	if (kmtls_address_is_v4(&key->address) && key->prefix_len >= V4_PREFIX) {
		kmtls_address_format(&key->address, text, sizeof(text));
		snprintf(buffer, size, "%s/%u", text, key->prefix_len - V4_PREFIX);
	} else {
		inet_ntop(AF_INET6, key->address.bytes, text, sizeof(text));
		snprintf(buffer, size, "%s/%u", text, key->prefix_len);
	}
	return buffer;
}

int kmtls_endpoint_from_sockaddr(const struct sockaddr_storage *from,
				 struct kmtls_endpoint *ret_endpoint)
{
	const struct sockaddr_in *v4 = (const void *)from;
	const struct sockaddr_in6 *v6 = (const void *)from;
	struct kmtls_endpoint endpoint = { .pad = 0 };

	switch (from->ss_family) {
	case AF_INET:
		set_v4(&endpoint.address, &v4->sin_addr);
		endpoint.port = ntohs(v4->sin_port);
		break;
	case AF_INET6:
		memcpy(endpoint.address.bytes, &v6->sin6_addr, sizeof(endpoint.address.bytes));
		endpoint.port = ntohs(v6->sin6_port);
		break;
	default:
		return -EAFNOSUPPORT;
	}
	*ret_endpoint = endpoint;
	return 0;
}

bool kmtls_prefix_has(const struct kmtls_peer_key *prefix, const struct kmtls_address *address)
{
	unsigned whole = prefix->prefix_len / 8, bits = prefix->prefix_len % 8;

	if (memcmp(address->bytes, prefix->address.bytes, whole))
		return false;
	return !bits || !((address->bytes[whole] ^ prefix->address.bytes[whole]) >> (8 - bits));
}

socklen_t kmtls_endpoint_to_sockaddr(const struct kmtls_endpoint *endpoint,
				     struct sockaddr_storage *ret_to)
{
	struct sockaddr_in *v4 = (void *)ret_to;
	struct sockaddr_in6 *v6 = (void *)ret_to;

	memset(ret_to, 0, sizeof(*ret_to));
	if (kmtls_address_is_v4(&endpoint->address)) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(endpoint->port);
		memcpy(&v4->sin_addr, endpoint->address.bytes + V4_OFFSET, sizeof(v4->sin_addr));
		return sizeof(*v4);
	}
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(endpoint->port);
	memcpy(&v6->sin6_addr, endpoint->address.bytes, sizeof(v6->sin6_addr));
	return sizeof(*v6);
}
