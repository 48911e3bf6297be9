/* SPDX-License-Identifier: Apache-2.0 */
/* pressure.c - see pressure.h. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cleanup.h"
#include "log.h"
#include "loop.h"
#include "pressure.h"

#define LEVELS 16
#define LOOK_MS 100

struct level {
	int max, current, stat;
};

struct kmtls_pressure {
	atomic_uint percent; /* 0: never high */
	unsigned count;
	struct level levels[LEVELS];
	pthread_mutex_t lock; /* of looking */
	atomic_ullong next_look; /* ms, monotonic */
	atomic_bool high;
};

static void close_level(struct level *level)
{
	if (level->max >= 0)
		close(level->max);
	if (level->current >= 0)
		close(level->current);
	if (level->stat >= 0)
		close(level->stat);
}

/* The cgroup of that directory and all above it, but the root, which has no limit. */
static void open_levels(struct kmtls_pressure *pressure, int cgroup_fd)
{
	__cleanup_fd int fd = openat(cgroup_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	while (fd >= 0 && faccessat(fd, "cgroup.type", F_OK, 0) == 0 && pressure->count < LEVELS) {
		struct level *level = &pressure->levels[pressure->count];
		int above;

		level->max = openat(fd, "memory.max", O_RDONLY | O_CLOEXEC);
		level->current = openat(fd, "memory.current", O_RDONLY | O_CLOEXEC);
		level->stat = openat(fd, "memory.stat", O_RDONLY | O_CLOEXEC);
		if (level->max >= 0 && level->current >= 0 && level->stat >= 0)
			pressure->count++;
		else
			close_level(level);
		above = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(fd);
		fd = above;
	}
}

int kmtls_pressure_open(int cgroup_fd, unsigned percent, struct kmtls_pressure **ret_pressure)
{
	struct kmtls_pressure *pressure = calloc(1, sizeof(*pressure));

	if (!pressure)
		return -ENOMEM;
	pressure->percent = percent;
	pthread_mutex_init(&pressure->lock, NULL);
	open_levels(pressure, cgroup_fd); /* percent may become another */
	*ret_pressure = pressure;
	return 0;
}

void kmtls_pressure_close(struct kmtls_pressure *pressure)
{
	if (!pressure)
		return;
	for (unsigned i = 0; i < pressure->count; i++)
		close_level(&pressure->levels[i]);
	pthread_mutex_destroy(&pressure->lock);
	free(pressure);
}

void kmtls_pressure_limit(struct kmtls_pressure *pressure, unsigned percent)
{
	atomic_store(&pressure->percent, percent);
}

static bool read_text(int fd, char *ret_text, size_t size)
{
	ssize_t length = pread(fd, ret_text, size - 1, 0);

	if (length <= 0)
		return false;
	ret_text[length] = '\0';
	return true;
}

/* Bytes of files that the kernel gives up before it kills anyone. */
static unsigned long long reclaimable(int stat_fd)
{
	static const char *const keys[] = { "\ninactive_file ", "\nactive_file " };
	unsigned long long sum = 0;
	char text[8192];

	if (!read_text(stat_fd, text, sizeof(text)))
		return 0;
	for (unsigned i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
		const char *found = strstr(text, keys[i]);

		if (found)
			sum += strtoull(found + strlen(keys[i]), NULL, 10);
	}
	return sum;
}

static bool is_high(const struct level *level, unsigned percent)
{
	unsigned long long max, current, files;
	char text[64];

	if (!read_text(level->max, text, sizeof(text)) || text[0] == 'm') /* "max": no limit */
		return false;
	max = strtoull(text, NULL, 10);
	if (!read_text(level->current, text, sizeof(text)))
		return false;
	current = strtoull(text, NULL, 10);
	if (current < max / 100 * percent)
		return false;
	files = reclaimable(level->stat);
	return current - (files < current ? files : current) >= max / 100 * percent;
}

static void look(struct kmtls_pressure *pressure)
{
	unsigned percent = atomic_load(&pressure->percent);
	bool high = false;

	for (unsigned i = 0; percent && !high && i < pressure->count; i++)
		high = is_high(&pressure->levels[i], percent);
	if (high != atomic_exchange(&pressure->high, high))
		log_warning(high ? "memory pressure: new connections are refused"
				 : "memory pressure is over",
			    NULL);
}

bool kmtls_pressure_is_high(struct kmtls_pressure *pressure)
{
	__u64 now;

	if (!pressure->count || (!atomic_load(&pressure->percent) && !atomic_load(&pressure->high)))
		return false;
	now = kmtls_loop_now_ms();
	if (now >= atomic_load(&pressure->next_look) &&
	    pthread_mutex_trylock(&pressure->lock) == 0) {
		look(pressure);
		atomic_store(&pressure->next_look, now + LOOK_MS);
		pthread_mutex_unlock(&pressure->lock);
	}
	return atomic_load(&pressure->high);
}
