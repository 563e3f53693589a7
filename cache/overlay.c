#include "cache/overlay.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/core.h"

#define STEP_NAMES   64 /* are charged at once */
#define STEP_BYTES   (STEP_NAMES * OVERLAY_NAME_BYTES)
#define RATE_MS      500
#define RATE_LEAST   10 /* names a second, where none is known: what is there goes first */
#define SLEEP_MS_MAX 10000
#define LOOK_MS      1000
#define TELL_MS      60000

struct overlay {
    struct cache *cache;
    size_t limit;          /* names */
    atomic_size_t count;   /* of them there are */
    atomic_size_t charged; /* for so many the budget has given memory */

    struct lock lock;
    struct gate fewer;        /* one has gone */
    struct gate none;         /* never opened: to sleep at */
    uint64_t gone;            /* so far */
    uint64_t rate_gone, rate; /* ... up to rate_ms; a second */
    int64_t rate_ms, hurried_ms, told_ms;
    double turn_ms; /* when the next name has its turn */
};

struct overlay *overlay_new(struct cache *cache)
{
    struct overlay *overlay = xcalloc(1, sizeof *overlay);
    struct memory_report memory;

    memory_report(cache->config.memory, &memory);
    overlay->cache = cache;
    overlay->limit = memory.limit / 2 / STEP_BYTES * STEP_NAMES;
    lock_init(&overlay->lock, LOCK_LEAF, "overlay");
    gate_init(&overlay->fewer);
    gate_init(&overlay->none);
    return overlay;
}

void overlay_free(struct overlay *overlay)
{
    if (!overlay)
        return;
    memory_give(overlay->cache->config.memory, overlay->charged * OVERLAY_NAME_BYTES, SHARE_OVERLAY);
    gate_release(&overlay->fewer);
    gate_release(&overlay->none);
    lock_release(&overlay->lock);
    free(overlay);
}

void overlay_join(struct overlay *overlay)
{
    atomic_fetch_add(&overlay->count, 1);
}

void overlay_leave(struct overlay *overlay)
{
    LOCK_SCOPED(&overlay->lock);
    size_t before = atomic_fetch_sub(&overlay->count, 1);
    assert(before > 0);
    overlay->gone++;
    gate_open(&overlay->fewer);
}

void overlay_settle(struct overlay *overlay)
{
    size_t charged = atomic_load(&overlay->charged);

    while (charged >= atomic_load(&overlay->count) + 2 * STEP_NAMES)
        if (atomic_compare_exchange_weak(&overlay->charged, &charged, charged - STEP_NAMES)) {
            memory_give(overlay->cache->config.memory, STEP_BYTES, SHARE_OVERLAY);
            return;
        }
}

size_t overlay_limit(const struct overlay *overlay)
{
    return overlay->limit;
}

size_t overlay_room(struct overlay *overlay)
{
    size_t count = atomic_load(&overlay->count);
    return count < overlay->limit ? overlay->limit - count : 0;
}

/* ---- Slower. ---- */

static uint64_t take_rate_locked(struct overlay *overlay)
{
    int64_t now = clock_ms(), passed = now - overlay->rate_ms;

    if (passed >= RATE_MS) {
        overlay->rate = overlay->rate_ms ? (overlay->gone - overlay->rate_gone) * 1000 / (uint64_t)passed : 0;
        overlay->rate_gone = overlay->gone;
        overlay->rate_ms = now;
    }
    return overlay->rate > RATE_LEAST ? overlay->rate : RATE_LEAST;
}

/* Names come in turn, so that many makers are not faster than one. */
static int64_t take_turn_locked(struct overlay *overlay, double nearness)
{
    int64_t now = clock_ms();
    double begin = overlay->turn_ms > (double)now ? overlay->turn_ms : (double)now;
    double turn = begin + 1000.0 / (double)take_rate_locked(overlay) * nearness * 2;

    overlay->turn_ms = turn < (double)now + SLEEP_MS_MAX ? turn : (double)now + SLEEP_MS_MAX;
    return (int64_t)overlay->turn_ms;
}

int overlay_slow_down(struct overlay *overlay, struct waiter *waiter)
{
    size_t quarter = overlay->limit / 4, soft = overlay->limit - quarter,
           count = atomic_load(&overlay->count);

    if (count <= soft)
        return 0;
    if (!waiter)
        return -EAGAIN;
    LOCK_SCOPED(&overlay->lock);
    int64_t deadline_ms = take_turn_locked(overlay, (double)(count - soft) / (double)quarter);
    int rc = gate_wait_locked(&overlay->none, &overlay->lock, waiter, deadline_ms);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* ---- Waiting. ---- */

/* At most so often. */
static bool is_due(struct overlay *overlay, int64_t *last_ms, int64_t every_ms)
{
    int64_t now = clock_ms();
    LOCK_SCOPED(&overlay->lock);
    bool due = !*last_ms || now - *last_ms >= every_ms;
    if (due)
        *last_ms = now;
    return due;
}

struct progress {
    uint64_t gone, sent_bytes;
    int64_t since_ms;
};

/* A large file goes up for long before its name is one less. */
static bool has_stalled(struct overlay *overlay, struct progress *progress)
{
    struct uploader_report report;

    uploader_report_sent(overlay->cache->uploader, &report);
    LOCK_SCOPED(&overlay->lock);
    if (overlay->gone != progress->gone || report.sent_bytes != progress->sent_bytes)
        *progress = (struct progress){overlay->gone, report.sent_bytes, clock_ms()};
    return clock_ms() - progress->since_ms >= overlay->cache->config.io_timeout_ms;
}

static int wait_for_fewer(struct overlay *overlay, struct progress *progress, struct waiter *waiter)
{
    int64_t look_ms = clock_ms() + LOOK_MS, io_timeout_ms = overlay->cache->config.io_timeout_ms;

    if (is_due(overlay, &overlay->told_ms, TELL_MS))
        log_warn("%zu names are unsent, as many as half of memory= holds: who makes more waits for them",
                 overlay->limit);
    if (is_due(overlay, &overlay->hurried_ms, LOOK_MS))
        uploader_publish_growing(overlay->cache->uploader);
    if (has_stalled(overlay, progress)) {
        log_error("a new name gets ENOSPC: %zu are unsent, as many as half of memory= holds, and nothing has "
                  "gone up for %" PRId64 " s; see `skyvol status`",
                  atomic_load(&overlay->count), io_timeout_ms / 1000);
        return -ENOSPC;
    }
    if (io_timeout_ms < LOOK_MS)
        look_ms = clock_ms() + io_timeout_ms;
    LOCK_SCOPED(&overlay->lock);
    if (overlay->gone != progress->gone)
        return 0;
    int rc = gate_wait_locked(&overlay->fewer, &overlay->lock, waiter, look_ms);
    return rc == -ETIMEDOUT ? 0 : rc;
}

/* Clean blocks make room. */
static int charge_step(struct overlay *overlay, struct waiter *waiter)
{
    struct memory *memory = overlay->cache->config.memory;
    int rc = 0;

    if (!memory_try(memory, STEP_BYTES, SHARE_OVERLAY))
        rc = memory_take(memory, STEP_BYTES, SHARE_OVERLAY, waiter, clock_ms() + LOOK_MS);
    if (rc == 0)
        atomic_fetch_add(&overlay->charged, STEP_NAMES);
    return rc;
}

/* Names are below their half: what is missing is no room in the bucket, nor on a disk. */
static int refuse_memory(struct overlay *overlay)
{
    log_error("a new name gets ENOMEM: %zu are unsent, %zu may be, but reads and uploads have held the rest "
              "of memory= "
              "for %" PRId64 " s, and nothing has gone up; see `skyvol status`",
              atomic_load(&overlay->count), overlay->limit, overlay->cache->config.io_timeout_ms / 1000);
    return -ENOMEM;
}

static bool is_unsent(struct overlay *overlay, struct inode *inode)
{
    return inode && uploader_lists(overlay->cache->uploader, inode);
}

int overlay_wait(struct overlay *overlay, struct inode *inode, struct waiter *waiter)
{
    struct progress progress = {.since_ms = clock_ms()};
    int rc = 0;

    if (overlay->cache->config.read_only)
        return 0;
    while (rc == 0 && atomic_load(&overlay->count) >= atomic_load(&overlay->charged) &&
           !is_unsent(overlay, inode)) {
        size_t count = atomic_load(&overlay->count);
        if (count + STEP_NAMES <= overlay->limit)
            rc = charge_step(overlay, waiter);
        else
            rc = waiter ? wait_for_fewer(overlay, &progress, waiter) : -EAGAIN;
        if (rc == -ETIMEDOUT)
            rc = has_stalled(overlay, &progress) ? refuse_memory(overlay) : 0;
    }
    return rc;
}
