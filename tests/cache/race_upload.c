/* Writers, fsyncs, interrupts, truncates, holds and drains side by side on a few files, for ThreadSanitizer. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/room.h"

#define FILES  3
#define ROUNDS 100

struct stage {
    struct room room;
    struct handle *handles[FILES];
    atomic_bool synced; /* writers go on until then */
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void *write_and_cut(void *argument)
{
    struct stage *stage = argument;
    unsigned random = (unsigned)(uintptr_t)pthread_self();
    struct waiter waiter;
    waiter_init(&waiter);
    char *bytes = calloc(1, 300000);
    for (int i = 0; i < ROUNDS * 4 || !atomic_load(&stage->synced); i++) {
        struct handle *handle = stage->handles[next_random(&random) % FILES];
        int rc;
        if (next_random(&random) % 8 == 0)
            rc = content_truncate(room_inode(handle), &waiter, next_random(&random) % 2000000);
        else
            rc = cache_write(stage->room.cache, &waiter, handle, bytes, next_random(&random) % 300000,
                             next_random(&random) % 3000000);
        assert(rc == 0);
    }
    free(bytes);
    waiter_release(&waiter);
    return NULL;
}

static void *sync_and_interrupt(void *argument)
{
    struct stage *stage = argument;
    unsigned random = (unsigned)(uintptr_t)pthread_self();
    for (int i = 0; i < ROUNDS; i++) {
        struct handle *handle = stage->handles[next_random(&random) % FILES];
        struct room_sync sync;
        room_fsync_begin(&stage->room, handle, &sync);
        if (next_random(&random) % 3 == 0 && cache_sync_interrupt(stage->room.cache, &sync.sync))
            continue;
        int rc = room_sync_end(&sync);
        assert(rc == 0);
    }
    atomic_store(&stage->synced, true);
    return NULL;
}

static void *hold_and_drain(void *argument)
{
    struct stage *stage = argument;
    unsigned random = (unsigned)(uintptr_t)pthread_self();
    struct waiter waiter;
    waiter_init(&waiter);
    for (int i = 0; i < ROUNDS; i++) {
        struct inode *inode = room_inode(stage->handles[next_random(&random) % FILES]);
        size_t unsent;
        struct uploader_report report;
        if (upload_hold(inode, &waiter) == 0)
            upload_unhold(inode);
        uploader_report(stage->room.cache->uploader, &report);
        if (i % 8 == 0)
            cache_drain(stage->room.cache, &waiter, clock_ms() + 20, &unsent);
    }
    waiter_release(&waiter);
    return NULL;
}

int main(void)
{
    static struct stage stage;
    struct room_config config = {.part_bytes = PAGE_BYTES, .bucket = {.part_bytes_min = 1}};
    void *(*const jobs[])(void *) = {write_and_cut, write_and_cut, sync_and_interrupt, sync_and_interrupt,
                                     hold_and_drain};
    pthread_t threads[sizeof jobs / sizeof jobs[0]];
    room_init(&stage.room, &config);
    for (int i = 0; i < FILES; i++) {
        char name[2] = {(char)('a' + i), 0};
        int rc = room_create(&stage.room, name, &stage.handles[i]);
        assert(rc == 0);
    }
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        pthread_create(&threads[i], NULL, jobs[i], &stage);
    for (size_t i = 0; i < sizeof jobs / sizeof jobs[0]; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < FILES; i++) {
        int rc = room_close(&stage.room, stage.handles[i]);
        assert(rc == 0);
    }
    struct uploader_report report;
    uploader_report(stage.room.cache->uploader, &report);
    room_release(&stage.room);
    printf("%u files went up\n", (unsigned)report.sent_files);
    assert(report.sent_files > 0);
    return 0;
}
