#include "cache/pressure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/core.h"
#include "cache/journal.h"

#define LIMIT_MS      1000                /* how long a look at the disk is believed */
#define RATE_MS       500                 /* over which the rate of the way up is taken */
#define RATE_LEAST    ((uint64_t)1 << 20) /* bytes a second, where none is known: what is there goes first */
#define SLEEP_MS_MAX  1000
#define HURRY_MS      1000 /* everything is published at most so often */
#define GRACE_MS      2000
#define MOMENT_MS     20
#define RESERVE_MAX   ((uint64_t)10 << 30)
#define RESERVE_SHARE 20 /* of the disk is left to others: a 20th, at most RESERVE_MAX */

struct pressure {
    struct cache *cache;
    atomic_int_fast64_t dirty;
    atomic_uint_fast64_t limit;
    atomic_int_fast64_t limit_ms; /* when it was looked up; 0: never */

    struct lock lock;
    struct gate room;    /* dirty went down */
    struct gate none;    /* never opened: to sleep at */
    uint64_t sent, rate; /* bytes up to rate_ms; bytes a second */
    int64_t rate_ms, hurried_ms, grown_ms;
    uint64_t freed;   /* grows when dirty goes down */
    int64_t freed_ms; /* when it last did */
};

struct pressure *pressure_new(struct cache *cache)
{
    struct pressure *pressure = xcalloc(1, sizeof *pressure);
    pressure->cache = cache;
    lock_init(&pressure->lock, LOCK_LEAF, "pressure");
    gate_init(&pressure->room);
    gate_init(&pressure->none);
    return pressure;
}

void pressure_free(struct pressure *pressure)
{
    if (!pressure)
        return;
    gate_release(&pressure->room);
    gate_release(&pressure->none);
    lock_release(&pressure->lock);
    free(pressure);
}

void pressure_note(struct pressure *pressure, int64_t bytes)
{
    atomic_fetch_add(&pressure->dirty, bytes);
    if (bytes >= 0)
        return;
    LOCK_SCOPED(&pressure->lock);
    pressure->freed += (uint64_t)-bytes;
    pressure->freed_ms = clock_ms();
    gate_open(&pressure->room);
}

uint64_t pressure_dirty(const struct pressure *pressure)
{
    int64_t dirty = atomic_load(&pressure->dirty);
    return dirty > 0 ? (uint64_t)dirty : 0;
}

/* ---- The limit. ---- */

static uint64_t ask_disk(struct pressure *pressure)
{
    struct disk *disk = pressure->cache->config.disk;
    uint64_t total, space, reserve;
    if (disk->ops->space(disk, &total, &space) < 0)
        return UINT64_MAX;
    reserve = total / RESERVE_SHARE;
    reserve = reserve < RESERVE_MAX ? reserve : RESERVE_MAX;
    space += pressure_dirty(pressure);
    return space > reserve ? space - reserve : 0;
}

static uint64_t find_limit(struct pressure *pressure)
{
    if (pressure->cache->config.dirty_max)
        return pressure->cache->config.dirty_max;
    int64_t now = clock_ms(), seen = atomic_load(&pressure->limit_ms);
    if (!seen || now - seen >= LIMIT_MS) {
        atomic_store(&pressure->limit, ask_disk(pressure));
        atomic_store(&pressure->limit_ms, now ? now : 1);
    }
    return atomic_load(&pressure->limit);
}

/* ---- Slower. ---- */

static uint64_t take_rate(struct pressure *pressure)
{
    struct uploader_report report;
    uploader_report_sent(pressure->cache->uploader, &report);
    int64_t now = clock_ms();
    LOCK_SCOPED(&pressure->lock);
    int64_t passed = now - pressure->rate_ms;
    if (passed >= RATE_MS) {
        pressure->rate =
            pressure->rate_ms ? (report.sent_bytes - pressure->sent) * 1000 / (uint64_t)passed : 0;
        pressure->sent = report.sent_bytes;
        pressure->rate_ms = now;
    }
    return pressure->rate;
}

/* As long as the way up takes for so many bytes, times how near the limit is. */
static int sleep_for(struct pressure *pressure, size_t size, uint64_t over, uint64_t quarter,
                     struct waiter *waiter)
{
    uint64_t rate = take_rate(pressure);
    double nearness = (double)over / (double)quarter;
    double ms = (double)size * 1000 / (double)(rate > RATE_LEAST ? rate : RATE_LEAST) * nearness * 2;
    int64_t deadline = clock_ms() + (ms < SLEEP_MS_MAX ? (int64_t)ms : SLEEP_MS_MAX);
    LOCK_SCOPED(&pressure->lock);
    int rc = gate_wait_locked(&pressure->none, &pressure->lock, waiter, deadline);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* ---- Waiting. ---- */

/* At most so often. */
static bool is_due(struct pressure *pressure, int64_t *last_ms)
{
    int64_t now = clock_ms();
    LOCK_SCOPED(&pressure->lock);
    bool due = !*last_ms || now - *last_ms >= HURRY_MS;
    if (due)
        *last_ms = now;
    return due;
}

static void hurry(struct pressure *pressure)
{
    if (is_due(pressure, &pressure->hurried_ms))
        cache_publish(pressure->cache, "");
}

struct progress {
    uint64_t sent, freed;
    int64_t since_ms;
};

static bool has_moved(struct pressure *pressure, struct progress *progress)
{
    struct uploader_report report;
    uploader_report_sent(pressure->cache->uploader, &report);
    LOCK_SCOPED(&pressure->lock);
    if (report.sent_bytes == progress->sent && pressure->freed == progress->freed)
        return false;
    progress->sent = report.sent_bytes;
    progress->freed = pressure->freed;
    progress->since_ms = clock_ms();
    return true;
}

/* Until dirty goes down. */
static int wait_for_less(struct pressure *pressure, struct progress *progress, struct waiter *waiter)
{
    int64_t patience_ms = pressure->cache->config.io_timeout_ms;
    hurry(pressure);
    has_moved(pressure, progress);
    if (clock_ms() - progress->since_ms >= patience_ms)
        return -ENOSPC;
    int64_t look_ms = clock_ms() + (patience_ms < HURRY_MS ? patience_ms : HURRY_MS);
    LOCK_SCOPED(&pressure->lock);
    if (pressure->freed != progress->freed)
        return 0;
    int rc = gate_wait_locked(&pressure->room, &pressure->lock, waiter, look_ms);
    return rc == -ETIMEDOUT ? 0 : rc;
}

static void tell(struct pressure *pressure, int rc, uint64_t limit)
{
    if (rc == -ENOSPC)
        log_error("a write gets ENOSPC: %" PRIu64 " MiB are unsent, at most %" PRIu64
                  " MiB may be, and nothing has gone up for %" PRId64 " s; see `skyvol status`",
                  pressure_dirty(pressure) >> 20, limit >> 20, pressure->cache->config.io_timeout_ms / 1000);
}

int pressure_wait(struct pressure *pressure, size_t size, struct waiter *waiter)
{
    struct progress progress = {.since_ms = clock_ms()};
    for (;;) {
        uint64_t limit = find_limit(pressure), dirty = pressure_dirty(pressure), soft = limit - limit / 4;
        if (dirty == 0 || dirty + size <= soft)
            return 0;
        if (!waiter)
            return -EAGAIN;
        if (is_due(pressure,
                   &pressure->grown_ms)) /* what was closed goes by itself, what failed in its time */
            uploader_publish_growing(pressure->cache->uploader);
        if (dirty + size <= limit)
            return sleep_for(pressure, size, dirty + size - soft, limit / 4, waiter);
        int rc = wait_for_less(pressure, &progress, waiter);
        tell(pressure, rc, limit);
        if (rc < 0)
            return rc;
    }
}

bool pressure_is_near(struct pressure *pressure, size_t size)
{
    uint64_t limit = find_limit(pressure);
    return !pressure->cache->config.dirty_max && pressure_dirty(pressure) + size > limit - limit / 4;
}

void pressure_look_again(struct pressure *pressure)
{
    atomic_store(&pressure->limit_ms, 0);
}

/* The local file of what was sent goes a moment later, when the journal has been flushed. */
static bool freed_just_now(struct pressure *pressure)
{
    LOCK_SCOPED(&pressure->lock);
    return pressure->freed && clock_ms() - pressure->freed_ms < GRACE_MS;
}

static int sleep_a_moment(struct pressure *pressure, struct waiter *waiter)
{
    int rc = journal_flush(pressure->cache->journal, waiter);
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&pressure->lock);
    rc = gate_wait_locked(&pressure->none, &pressure->lock, waiter, clock_ms() + MOMENT_MS);
    return rc == -ETIMEDOUT ? 0 : rc;
}

int pressure_await_space(struct pressure *pressure, uint64_t bytes, struct waiter *waiter)
{
    struct progress progress = {.since_ms = clock_ms()};
    for (;;) {
        uint64_t space = ask_disk(pressure), dirty = pressure_dirty(pressure);
        if (bytes <= (space > dirty ? space - dirty : 0))
            return 0;
        if (bytes > space)
            return -ENOSPC;
        if (!waiter)
            return -EAGAIN;
        int rc = freed_just_now(pressure) ? sleep_a_moment(pressure, waiter)
                                          : wait_for_less(pressure, &progress, waiter);
        if (rc < 0)
            return rc;
    }
}

int pressure_await_room(struct pressure *pressure, struct waiter *waiter)
{
    struct progress progress = {.since_ms = clock_ms()};
    uint64_t before = pressure_dirty(pressure);
    if (!waiter)
        return -EAGAIN;
    if (freed_just_now(pressure))
        return sleep_a_moment(pressure, waiter);
    if (before == 0)
        return -ENOSPC;
    while (pressure_dirty(pressure) >= before) {
        int rc = wait_for_less(pressure, &progress, waiter);
        tell(pressure, rc, find_limit(pressure));
        if (rc < 0)
            return rc;
    }
    return sleep_a_moment(pressure, waiter);
}
