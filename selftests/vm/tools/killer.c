/* SPDX-License-Identifier: Apache-2.0 */
/*
 * killer - kills workers at random moments: killer [option]... PIDFILE...
 *
 *   -n COUNT     kills in all (1); 0: until stdin ends
 *   -i MIN:MAX   milliseconds from one to the next (20:200)
 *   -e SEED
 *
 * Each file holds the process id of a keeper and is read anew each time, since a keeper may be
 * replaced. A kill is SIGKILL to the keeper's child, of all keepers in turn. Prints one line of JSON:
 * killed, and missed: the times when there was no living child, none but the one just killed, or no
 * keeper.
 */
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define KEEPERS_MAX 8

static uint64_t mix(uint64_t value)
{
	value += 0x9e3779b97f4a7c15u;
	value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9u;
	value = (value ^ (value >> 27)) * 0x94d049bb133111ebu;
	return value ^ (value >> 31);
}

static bool read_text(const char *path, char *text, size_t size)
{
	FILE *file = fopen(path, "re");
	size_t length;

	if (!file)
		return false;
	length = fread(text, 1, size - 1, file);
	text[length] = 0;
	fclose(file);
	return length > 0;
}

static bool alive(int pid)
{
	char path[64], text[512], *state;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_text(path, text, sizeof(text)))
		return false;
	state = strrchr(text, ')');
	return state && state[1] == ' ' && state[2] != 'Z' && state[2] != 'X';
}

/* The last child is the youngest. 0: none that lives. */
static int worker_of(const char *pidfile)
{
	char path[64], text[512], *word, *rest;
	int keeper, worker = 0;

	if (!read_text(pidfile, text, sizeof(text)))
		return 0;
	keeper = atoi(text);
	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", keeper, keeper);
	if (!read_text(path, text, sizeof(text)))
		return 0;
	for (word = strtok_r(text, " \n", &rest); word; word = strtok_r(NULL, " \n", &rest))
		if (alive(atoi(word)))
			worker = atoi(word);
	return worker;
}

/* False when stdin has ended. */
static bool pause_ms(int ms)
{
	struct pollfd input = { .fd = STDIN_FILENO, .events = POLLIN };
	char byte;

	return poll(&input, 1, ms) == 0 || read(STDIN_FILENO, &byte, 1) > 0;
}

int main(int argc, char **argv)
{
	unsigned count = 1, shortest = 20, longest = 200, killed = 0, missed = 0;
	int last[KEEPERS_MAX] = {}; /* takes a while to die */
	uint64_t seed = 1;
	int option;

	while ((option = getopt(argc, argv, "n:i:e:")) > 0) {
		if (option == 'n')
			count = (unsigned)atoi(optarg);
		else if (option == 'e')
			seed = strtoull(optarg, NULL, 0);
		else if (option != 'i' || sscanf(optarg, "%u:%u", &shortest, &longest) != 2)
			return 2;
	}
	if (optind == argc || argc - optind > KEEPERS_MAX || longest < shortest) {
		fprintf(stderr, "usage: killer [-n COUNT] [-i MIN:MAX] [-e SEED] PIDFILE...\n");
		return 2;
	}
	for (unsigned turn = 0; !count || killed < count; turn++) {
		uint64_t random = mix(seed * 1000003 + turn);
		unsigned which = turn % (unsigned)(argc - optind);
		int worker;

		if (!pause_ms((int)(shortest + random % (longest - shortest + 1))))
			break;
		worker = worker_of(argv[optind + (int)which]);
		if (worker > 0 && worker != last[which] && kill(worker, SIGKILL) == 0)
			killed++;
		else
			missed++;
		last[which] = worker;
	}
	printf("{\"killed\": %u, \"missed\": %u}\n", killed, missed);
	return 0;
}
