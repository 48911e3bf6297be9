/* SPDX-License-Identifier: Apache-2.0 */
/*
 * testwire.h - what the test programs agree on: the request a client opens a connection with, the
 * payload that a seed stands for, and addresses as text. Every request and every 4 KiB of payload
 * carry a marker, so that one search of a capture shows whether any of it was in the clear.
 */
#ifndef TESTWIRE_H
#define TESTWIRE_H

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define MARKER "KMTLS-PLAINTEXT-MARKER"
#define MARKER_EVERY 4096
#define CHUNK 65536
#define DIGEST 32

enum operation {
	OP_REPORT = 'R', /* the server says which addresses it sees, one line, and closes */
	OP_HOLD = 'H', /* the same, but closes only after the client has */
	OP_ECHO = 'E', /* size bytes there and back */
	OP_SINK = 'S', /* size bytes there, their SHA-256 back */
	OP_GENERATE = 'G', /* the server sends size bytes of the seed's payload */
};

struct request {
	char marker[24];
	uint8_t operation;
	uint8_t pad[7];
	uint64_t size;
	uint64_t seed;
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
	struct sockaddr_storage storage;
};

static inline socklen_t address_length(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

static inline unsigned address_port(const union address *address)
{
	return ntohs(address->any.sa_family == AF_INET6 ? address->v6.sin6_port
							: address->v4.sin_port);
}

/* "10.0.0.1:80" or "[fd00::1]:80"; the port may be missing (0). */
static inline int address_parse(const char *text, union address *ret_address)
{
	char host[INET6_ADDRSTRLEN + 1] = "";
	const char *port = NULL;
	size_t length;

	memset(ret_address, 0, sizeof(*ret_address));
	if (text[0] == '[') {
		length = strcspn(text + 1, "]");
		if (length > INET6_ADDRSTRLEN || text[1 + length] != ']')
			return -EINVAL;
		memcpy(host, text + 1, length);
		if (text[2 + length] == ':')
			port = text + 3 + length;
		ret_address->any.sa_family = AF_INET6;
		ret_address->v6.sin6_port = htons((uint16_t)(port ? atoi(port) : 0));
		return inet_pton(AF_INET6, host, &ret_address->v6.sin6_addr) == 1 ? 0 : -EINVAL;
	}
	length = strcspn(text, ":");
	if (length > INET6_ADDRSTRLEN)
		return -EINVAL;
	memcpy(host, text, length);
	if (text[length] == ':')
		port = text + length + 1;
	ret_address->any.sa_family = AF_INET;
	ret_address->v4.sin_port = htons((uint16_t)(port ? atoi(port) : 0));
	return inet_pton(AF_INET, host, &ret_address->v4.sin_addr) == 1 ? 0 : -EINVAL;
}

#define ADDRESS_TEXT (INET6_ADDRSTRLEN + 10)

/* A mapped IPv4 address is written as the IPv4 address it is. */
static inline const char *address_format(const union address *address, char *text)
{
	char host[INET6_ADDRSTRLEN] = "?";

	if (address->any.sa_family == AF_INET) {
		inet_ntop(AF_INET, &address->v4.sin_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, address_port(address));
	} else if (IN6_IS_ADDR_V4MAPPED(&address->v6.sin6_addr)) {
		inet_ntop(AF_INET, &address->v6.sin6_addr.s6_addr[12], host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "%s:%u", host, address_port(address));
	} else {
		inet_ntop(AF_INET6, &address->v6.sin6_addr, host, sizeof(host));
		snprintf(text, ADDRESS_TEXT, "[%s]:%u", host, address_port(address));
	}
	return text;
}

static inline uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15u;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
	return value ^ (value >> 31);
}

/* The payload's bytes from offset, a multiple of CHUNK, to offset + CHUNK. */
static inline void payload_chunk(uint64_t seed, uint64_t offset, uint8_t *buffer)
{
	uint64_t base = mix(seed), word;

	for (size_t i = 0; i < CHUNK; i += sizeof(word)) {
		word = (base + offset + i) * 0x9e3779b97f4a7c15u;
		word ^= word >> 29;
		memcpy(buffer + i, &word, sizeof(word));
	}
	for (size_t i = 0; i < CHUNK; i += MARKER_EVERY)
		memcpy(buffer + i, MARKER, sizeof(MARKER) - 1);
}

#define PAYLOAD_SCRATCH(size) ((size) + 2 * sizeof(uint64_t))

/* The payload's bytes from any offset: somewhere in scratch, of PAYLOAD_SCRATCH(size) bytes. */
static inline uint8_t *payload_part(uint64_t seed, uint64_t offset, size_t size, uint8_t *scratch)
{
	uint64_t base = mix(seed), start = offset & ~7ull, end = offset + size, word;

	for (uint64_t at = start; at < end; at += sizeof(word)) {
		word = (base + at) * 0x9e3779b97f4a7c15u;
		word ^= word >> 29;
		memcpy(scratch + (at - start), &word, sizeof(word));
	}
	for (uint64_t at = start / MARKER_EVERY * MARKER_EVERY; at < end; at += MARKER_EVERY)
		for (size_t i = 0; i < sizeof(MARKER) - 1; i++)
			if (at + i >= start && at + i < end)
				scratch[at + i - start] = (uint8_t)MARKER[i];
	return scratch + (offset - start);
}

static inline void request_fill(struct request *request, enum operation operation, uint64_t size,
				uint64_t seed)
{
	memset(request, 0, sizeof(*request));
	memcpy(request->marker, MARKER, sizeof(MARKER) - 1);
	request->operation = (uint8_t)operation;
	request->size = size;
	request->seed = seed;
}

static inline int write_all(int fd, const void *data, size_t size)
{
	const uint8_t *at = data;

	while (size) {
		ssize_t sent = send(fd, at, size, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0)
			return -errno;
		at += sent;
		size -= (size_t)sent;
	}
	return 0;
}

/* -ENODATA if the end comes before size bytes. */
static inline int read_all(int fd, void *data, size_t size)
{
	uint8_t *at = data;

	while (size) {
		ssize_t got = recv(fd, at, size, 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (!got)
			return -ENODATA;
		at += got;
		size -= (size_t)got;
	}
	return 0;
}

#endif
