/* SPDX-License-Identifier: Apache-2.0 */
/*
 * address.h - IPv4 and IPv6 addresses, endpoints and prefixes in the form the maps
 * use: 16 bytes, IPv4 mapped into ::ffff:0:0/96, ports in host order.
 */
#ifndef KMTLS_ADDRESS_H
#define KMTLS_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

#include "kmtls/abi.h"

/* "[ffff:...:ffff]:65535" and a zero. */
#define KMTLS_ENDPOINT_TEXT 64

bool kmtls_address_is_v4(const struct kmtls_address *address);
bool kmtls_address_is_zero(const struct kmtls_address *address);
/* 127/8, 0.0.0.0, ::1, ::: where a connect() does not leave the host. */
bool kmtls_address_is_loopback(const struct kmtls_address *address);
bool kmtls_address_equal(const struct kmtls_address *a, const struct kmtls_address *b);
bool kmtls_endpoint_equal(const struct kmtls_endpoint *a, const struct kmtls_endpoint *b);

/* "10.0.0.1", "fd00::1". -EINVAL: not an address. No names, no zone. */
int kmtls_address_parse(const char *text, struct kmtls_address *ret_address);
/* ADDRESS or ADDRESS/LEN, IPv4 0..32, IPv6 0..128. -EINVAL: not that; -ERANGE: length;
 * -EDOM: bits set beyond the prefix. ret_key->prefix_len counts from ::/0. */
int kmtls_prefix_parse(const char *text, struct kmtls_peer_key *ret_key);
/* Clears the bits beyond the prefix. */
void kmtls_prefix_mask(struct kmtls_peer_key *key);

/* Is the address one of the prefix's? */
bool kmtls_prefix_has(const struct kmtls_peer_key *prefix, const struct kmtls_address *address);

/* Each writes at most size bytes, zero-terminated, and returns buffer. IPv4-mapped is
 * written as IPv4; an IPv6 endpoint in brackets; a prefix always with its length. */
const char *kmtls_address_format(const struct kmtls_address *address, char *buffer, size_t size);
const char *kmtls_endpoint_format(const struct kmtls_endpoint *endpoint, char *buffer, size_t size);
const char *kmtls_prefix_format(const struct kmtls_peer_key *key, char *buffer, size_t size);

/* AF_INET, or AF_INET6 (also v4-mapped, which becomes IPv4). -EAFNOSUPPORT otherwise. */
int kmtls_endpoint_from_sockaddr(const struct sockaddr_storage *from,
				 struct kmtls_endpoint *ret_endpoint);
/* IPv4 endpoints become AF_INET. Returns the length. */
socklen_t kmtls_endpoint_to_sockaddr(const struct kmtls_endpoint *endpoint,
				     struct sockaddr_storage *ret_to);

#endif
