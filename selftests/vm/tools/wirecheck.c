/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wirecheck - reads a capture (pcap, Ethernet) and says what an eavesdropper saw: which TCP
 * connections are TLS record for record in both directions, which are not, and where given byte
 * strings stand in the clear, in any packet of any protocol or across two segments of a stream.
 *
 *   wirecheck [-l] [-m BYTES]... [-x PORT]... [-a ADDRESS]... FILE
 *     -m  a marker to search for          -x  a port whose connections may be plaintext
 *     -a  an address of the mesh: connections with both ends among these must be TLS; none: all
 *     -l  a line for each connection first: its ends, when it began, its kind (tls, plaintext, empty,
 *         gaps), and the bytes that each end sent
 *
 * Prints JSON. Exit status 0 if it could read the capture.
 */
#include <netinet/tcp.h>
#include <search.h>
#include <stdbool.h>

#include "capture.h"
#include "testwire.h"

#define MARKERS_MAX 8
#define ADDRESSES_MAX 16
#define PORTS_MAX 8
#define HEADER 5
#define RECORD_MAX (16384 + 256)
#define HELD_MAX 256
#define TAIL 64

enum { CHANGE_CIPHER_SPEC = 20, ALERT = 21, HANDSHAKE = 22, APPLICATION_DATA = 23 };

struct held {
	uint32_t sequence;
	uint32_t size;
	uint8_t *data;
};

struct direction {
	bool synchronised, not_tls, lost;
	uint32_t next; /* sequence number expected */
	uint64_t bytes;
	uint8_t header[HEADER];
	unsigned header_size;
	uint32_t record_left;
	uint8_t first[2048]; /* of the first record: ClientHello or ServerHello */
	unsigned first_size;
	unsigned records[4];
	uint8_t tail[TAIL]; /* end of the last segment, for markers across two */
	unsigned tail_size;
	struct held held[HELD_MAX]; /* segments that came before their turn */
	unsigned held_count;
};

struct flow_key {
	struct in6_addr low, high;
	uint16_t low_port, high_port;
};

struct flow {
	struct flow_key key;
	struct direction directions[2]; /* from the low end, from the high end */
	bool mesh, excluded, client_is_high;
	double began;
	struct flow *older; /* an earlier connection of the same addresses and ports */
};

static struct {
	const char *markers[MARKERS_MAX];
	unsigned marker_count;
	uint16_t ports[PORTS_MAX];
	unsigned port_count;
	struct in6_addr addresses[ADDRESSES_MAX];
	unsigned address_count;
	bool list;
} options;

static struct {
	uint64_t packets, bytes;
	uint64_t found[MARKERS_MAX];
	unsigned connections, tls, empty, plaintext, excluded, foreign, gaps, client_hellos, alpn,
		server_hellos;
	uint64_t records[4];
	char example[256];
} totals;

static void *flows; /* tsearch tree of struct flow, the newest of each key */

static int compare_flows(const void *left, const void *right)
{
	return memcmp(left, right, sizeof(struct flow_key));
}

static void search_markers(const uint8_t *data, size_t size)
{
	for (unsigned i = 0; i < options.marker_count; i++) {
		size_t length = strlen(options.markers[i]);
		const uint8_t *at = data, *hit;

		while ((hit = memmem(at, size - (size_t)(at - data), options.markers[i], length))) {
			totals.found[i]++;
			at = hit + length;
		}
	}
}

/* Only what lies across the border; each part has been searched by itself. */
static void search_border(struct direction *direction, const uint8_t *data, size_t size)
{
	uint8_t border[2 * TAIL];
	size_t before, part;

	for (unsigned i = 0; i < options.marker_count; i++) {
		size_t keep = strlen(options.markers[i]) - 1;

		before = keep < direction->tail_size ? keep : direction->tail_size;
		part = size < keep ? size : keep;
		memcpy(border, direction->tail + direction->tail_size - before, before);
		memcpy(border + before, data, part);
		if (memmem(border, before + part, options.markers[i], keep + 1))
			totals.found[i]++;
	}
	part = size < TAIL ? size : TAIL;
	before = TAIL - part < direction->tail_size ? TAIL - part : direction->tail_size;
	memmove(direction->tail, direction->tail + direction->tail_size - before, before);
	memcpy(direction->tail + before, data + size - part, part);
	direction->tail_size = (unsigned)(before + part);
}

static bool header_valid(const struct direction *direction)
{
	const uint8_t *header = direction->header;
	unsigned length = (unsigned)header[3] << 8 | header[4];

	return header[0] >= CHANGE_CIPHER_SPEC && header[0] <= APPLICATION_DATA && header[1] == 3 &&
	       (header[2] == 1 || header[2] == 3) && length && length <= RECORD_MAX;
}

/* In-order bytes of one direction: all of them must be TLS records. */
static void parse_records(struct direction *direction, const uint8_t *data, size_t size)
{
	size_t room = sizeof(direction->first) - direction->first_size;

	memcpy(direction->first + direction->first_size, data, size < room ? size : room);
	direction->first_size += (unsigned)(size < room ? size : room);
	direction->bytes += size;
	while (size && !direction->not_tls) {
		size_t part;

		if (direction->record_left) {
			part = size < direction->record_left ? size : direction->record_left;
			direction->record_left -= (uint32_t)part;
		} else {
			part = HEADER - direction->header_size;
			part = size < part ? size : part;
			memcpy(direction->header + direction->header_size, data, part);
			direction->header_size += (unsigned)part;
			if (direction->header_size == HEADER) {
				if (!header_valid(direction)) {
					direction->not_tls = true;
					return;
				}
				direction->record_left =
					(uint32_t)direction->header[3] << 8 | direction->header[4];
				direction->records[direction->header[0] - CHANGE_CIPHER_SPEC]++;
				direction->header_size = 0;
			}
		}
		data += part;
		size -= part;
	}
}

static void in_order(struct direction *direction, const uint8_t *data, size_t size)
{
	search_border(direction, data, size);
	parse_records(direction, data, size);
	direction->next += (uint32_t)size;
}

static bool take_held(struct direction *direction)
{
	for (unsigned i = 0; i < direction->held_count; i++) {
		struct held held = direction->held[i];
		uint32_t skip = direction->next - held.sequence;

		if ((int32_t)skip < 0)
			continue;
		if (skip < held.size)
			in_order(direction, held.data + skip, held.size - skip);
		free(held.data);
		direction->held[i] = direction->held[--direction->held_count];
		return true;
	}
	return false;
}

static void segment(struct direction *direction, uint32_t sequence, const uint8_t *data,
		    size_t size)
{
	uint32_t skip;

	if (!size || direction->lost)
		return;
	if (!direction->synchronised) { /* the capture began later */
		direction->synchronised = true;
		direction->next = sequence;
	}
	skip = direction->next - sequence;
	if ((int32_t)skip < 0) {
		struct held *held = &direction->held[direction->held_count];

		if (direction->held_count == HELD_MAX) {
			direction->lost = true;
			return;
		}
		*held = (struct held){ sequence, (uint32_t)size, malloc(size) };
		if (!held->data)
			abort();
		memcpy(held->data, data, size);
		direction->held_count++;
		return;
	}
	if (skip >= size)
		return; /* sent again */
	in_order(direction, data + skip, size - skip);
	while (direction->held_count && take_held(direction))
		;
}

static bool listed(const struct in6_addr *address)
{
	for (unsigned i = 0; i < options.address_count; i++)
		if (!memcmp(address, &options.addresses[i], sizeof(*address)))
			return true;
	return !options.address_count;
}

static struct flow *find_flow(const struct flow_key *key, bool fresh, double at)
{
	struct flow *flow;
	void **slot = tfind(key, &flows, compare_flows);

	if (slot && !fresh)
		return *slot;
	flow = calloc(1, sizeof(*flow));
	if (!flow)
		abort();
	flow->key = *key;
	flow->began = at;
	flow->mesh = listed(&key->low) && listed(&key->high);
	for (unsigned i = 0; i < options.port_count; i++)
		if (key->low_port == options.ports[i] || key->high_port == options.ports[i])
			flow->excluded = true;
	if (slot) {
		flow->older = *slot;
		*slot = flow;
	} else {
		tsearch(flow, &flows, compare_flows);
	}
	return flow;
}

static void tcp_packet(const struct in6_addr *from, const struct in6_addr *to, const uint8_t *data,
		       size_t size, double at)
{
	const struct tcphdr *tcp = (const void *)data;
	uint16_t source, destination;
	struct flow_key key;
	struct flow *flow;
	bool high, opening;
	uint32_t sequence;

	if (size < sizeof(*tcp) || size < tcp->doff * 4u)
		return;
	source = ntohs(tcp->source);
	destination = ntohs(tcp->dest);
	high = memcmp(from, to, sizeof(*from)) > 0 ||
	       (!memcmp(from, to, sizeof(*from)) && source > destination);
	memset(&key, 0, sizeof(key));
	key.low = high ? *to : *from;
	key.high = high ? *from : *to;
	key.low_port = high ? destination : source;
	key.high_port = high ? source : destination;
	sequence = ntohl(tcp->seq);
	opening = tcp->syn && !tcp->ack;
	flow = find_flow(&key, false, at);
	if (opening && flow->directions[high].synchronised &&
	    flow->directions[high].next != sequence + 1)
		flow = find_flow(&key, true, at); /* the same ports again */
	if (tcp->syn) {
		flow->directions[high].synchronised = true;
		flow->directions[high].next = sequence + 1;
	}
	if (opening)
		flow->client_is_high = high;
	if (!tcp->rst)
		segment(&flow->directions[high], sequence, data + tcp->doff * 4u,
			size - tcp->doff * 4u);
}

static void packet(const uint8_t *data, size_t size, double at)
{
	struct capture_ip ip;

	totals.packets++;
	totals.bytes += size;
	search_markers(data, size);
	if (capture_parse_ip(data, size, &ip) == 0 && ip.protocol == IPPROTO_TCP)
		tcp_packet(&ip.from, &ip.to, ip.payload, ip.size, at);
}

static void count_hellos(const struct direction *client, const struct direction *server)
{
	static const uint8_t version[] = { 0, 0x2b, 0, 2, 3, 4 }; /* supported_versions: TLS 1.3 */

	if (client->first_size > 5 && client->first[0] == HANDSHAKE && client->first[5] == 1) {
		totals.client_hellos++;
		totals.alpn += !!memmem(client->first, client->first_size, "\x07kmtls/1", 8);
	}
	if (server->first_size > 5 && server->first[0] == HANDSHAKE && server->first[5] == 2)
		totals.server_hellos +=
			!!memmem(server->first, server->first_size, version, sizeof(version));
}

static void format_ends(const struct flow *flow, char *ret_low, char *ret_high)
{
	union address low = { .v6 = { .sin6_family = AF_INET6,
				      .sin6_addr = flow->key.low,
				      .sin6_port = htons(flow->key.low_port) } };
	union address high = { .v6 = { .sin6_family = AF_INET6,
				       .sin6_addr = flow->key.high,
				       .sin6_port = htons(flow->key.high_port) } };

	address_format(&low, ret_low);
	address_format(&high, ret_high);
}

static void describe(const struct flow *flow)
{
	char left[ADDRESS_TEXT], right[ADDRESS_TEXT];

	if (totals.example[0])
		return;
	format_ends(flow, left, right);
	snprintf(totals.example, sizeof(totals.example), "%s - %s", left, right);
}

static bool has_gaps(const struct flow *flow)
{
	const struct direction *one = &flow->directions[0], *two = one + 1;

	return one->lost || two->lost || one->held_count || two->held_count;
}

/* What it is by its bytes alone, whoever the ends are. */
static const char *kind_of(const struct flow *flow)
{
	const struct direction *one = &flow->directions[0], *two = one + 1;

	if (has_gaps(flow))
		return "gaps";
	if (one->not_tls || two->not_tls)
		return "plaintext";
	return one->bytes || two->bytes ? "tls" : "empty";
}

static void list_flow(const struct flow *flow)
{
	const struct direction *client = &flow->directions[flow->client_is_high];
	const struct direction *server = &flow->directions[!flow->client_is_high];
	char ends[2][ADDRESS_TEXT];

	format_ends(flow, ends[0], ends[1]);
	printf("{\"client\": \"%s\", \"server\": \"%s\", \"began\": %.6f, \"kind\": \"%s\", "
	       "\"sent\": %llu, \"received\": %llu}\n",
	       ends[flow->client_is_high], ends[!flow->client_is_high], flow->began, kind_of(flow),
	       (unsigned long long)client->bytes, (unsigned long long)server->bytes);
}

static void judge(const struct flow *flow)
{
	const struct direction *one = &flow->directions[0], *two = one + 1;

	totals.connections++;
	if (options.list)
		list_flow(flow);
	if (!flow->mesh) {
		totals.foreign++;
	} else if (flow->excluded) {
		totals.excluded++;
	} else if (has_gaps(flow)) {
		totals.gaps++;
		describe(flow);
	} else if (one->not_tls || two->not_tls) {
		totals.plaintext++;
		describe(flow);
	} else if (!one->bytes && !two->bytes) {
		totals.empty++;
	} else {
		totals.tls++;
		for (unsigned i = 0; i < 4; i++)
			totals.records[i] += one->records[i] + two->records[i];
		count_hellos(&flow->directions[flow->client_is_high],
			     &flow->directions[!flow->client_is_high]);
	}
}

static void visit(const void *node, VISIT which, int depth)
{
	if (which == postorder || which == leaf)
		for (const struct flow *flow = *(struct flow *const *)node; flow;
		     flow = flow->older)
			judge(flow);
}

static void print(void)
{
	printf("{\"packets\": %llu, \"bytes\": %llu, "
	       "\"connections\": %u, \"tls\": %u, \"plaintext\": %u, \"empty\": %u, "
	       "\"excluded\": %u, \"foreign\": %u, \"gaps\": %u, \"client_hellos\": %u, "
	       "\"alpn_kmtls\": %u, \"tls13\": %u, \"records\": {\"change_cipher_spec\": %llu, "
	       "\"alert\": %llu, \"handshake\": %llu, \"application_data\": %llu}, "
	       "\"example\": \"%s\", \"found\": [",
	       (unsigned long long)totals.packets, (unsigned long long)totals.bytes,
	       totals.connections, totals.tls, totals.plaintext, totals.empty, totals.excluded,
	       totals.foreign, totals.gaps, totals.client_hellos, totals.alpn, totals.server_hellos,
	       (unsigned long long)totals.records[0], (unsigned long long)totals.records[1],
	       (unsigned long long)totals.records[2], (unsigned long long)totals.records[3],
	       totals.example);
	for (unsigned i = 0; i < options.marker_count; i++)
		printf("%s%llu", i ? ", " : "", (unsigned long long)totals.found[i]);
	printf("]}\n");
}

static void add_address(const char *text)
{
	struct in6_addr *address = &options.addresses[options.address_count++];
	uint32_t v4;

	if (inet_pton(AF_INET, text, &v4) == 1)
		capture_map_v4(v4, address);
	else if (inet_pton(AF_INET6, text, address) != 1)
		exit(2);
}

int main(int argc, char **argv)
{
	int option;

	while ((option = getopt(argc, argv, "m:x:a:l")) > 0) {
		if (option == 'm' && options.marker_count < MARKERS_MAX && *optarg &&
		    strlen(optarg) <= TAIL)
			options.markers[options.marker_count++] = optarg;
		else if (option == 'x' && options.port_count < PORTS_MAX)
			options.ports[options.port_count++] = (uint16_t)atoi(optarg);
		else if (option == 'a' && options.address_count < ADDRESSES_MAX)
			add_address(optarg);
		else if (option == 'l')
			options.list = true;
		else
			return 2;
	}
	if (optind + 1 != argc) {
		fprintf(stderr, "usage: wirecheck [-l] [-m BYTES] [-x PORT] [-a ADDRESS] FILE\n");
		return 2;
	}
	if (capture_read(argv[optind], packet) == 0) {
		twalk(flows, visit);
		print();
		return 0;
	}
	perror(argv[optind]);
	return 1;
}
