/* Readers in and out of sequence, interrupts, writers, foreign versions and failing GETs in little memory, for
 * ThreadSanitizer. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/reader.h"

#define FILES   3
#define READERS 4
#define ROUNDS  600
#define BYTES   (5u << 20)

/* A read that somebody else may interrupt: as fs/, the release waits for that. */
struct slot {
    pthread_mutex_t mutex;
    struct reader *reader;
};

struct stage {
    struct room room;
    struct handle *handles[FILES];
    struct slot slots[READERS];
    atomic_int readers; /* that are still at work */
    atomic_uint answered, interrupted, failed;
};

struct actor {
    struct stage *stage;
    int number;
};

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static void put_slot(struct slot *slot, struct reader *reader)
{
    pthread_mutex_lock(&slot->mutex);
    slot->reader = reader;
    pthread_mutex_unlock(&slot->mutex);
}

static void *read_on(void *argument)
{
    struct actor *actor = argument;
    struct stage *stage = actor->stage;
    struct slot *slot = &stage->slots[actor->number];
    unsigned random = 77u + (unsigned)actor->number;
    uint64_t at = 0;
    for (int i = 0; i < ROUNDS; i++) {
        struct handle *handle = stage->handles[(unsigned)i / 60 % FILES];
        size_t size = next_random(&random) % (1u << 20) + 1;
        struct reader reader;
        reader_begin(&reader, &stage->room, handle, at, size);
        put_slot(slot, &reader);
        int rc = reader_wait(&reader);
        put_slot(slot, NULL);
        assert(rc == 0 || rc == -EINTR || rc == -EIO || rc == -ESTALE);
        atomic_fetch_add(rc == 0 ? &stage->answered : rc == -EINTR ? &stage->interrupted : &stage->failed, 1);
        at = i % 7 && at + size < BYTES ? at + size : next_random(&random) % BYTES;
        reader_release(&reader);
    }
    atomic_fetch_sub(&stage->readers, 1);
    return NULL;
}

static void *interrupt(void *argument)
{
    struct stage *stage = ((struct actor *)argument)->stage;
    unsigned random = 5;
    while (atomic_load(&stage->readers) > 0) {
        struct slot *slot = &stage->slots[next_random(&random) % READERS];
        pthread_mutex_lock(&slot->mutex);
        if (slot->reader && next_random(&random) % 2 == 0)
            reader_interrupt(slot->reader);
        pthread_mutex_unlock(&slot->mutex);
        usleep(300);
    }
    return NULL;
}

static void *write_and_sync(void *argument)
{
    struct stage *stage = ((struct actor *)argument)->stage;
    unsigned random = 9;
    struct waiter waiter;
    waiter_init(&waiter);
    char *bytes = calloc(1, 100000);
    while (atomic_load(&stage->readers) > 0) {
        struct handle *handle = stage->handles[next_random(&random) % 2]; /* the third has foreign versions */
        int rc = cache_write(stage->room.cache, &waiter, handle, bytes, next_random(&random) % 100000,
                             next_random(&random) % (BYTES - 100000));
        assert(rc == 0);
        if (next_random(&random) % 8 == 0) {
            struct room_sync sync;
            room_fsync_begin(&stage->room, handle, &sync);
            room_sync_end(&sync);
        }
    }
    free(bytes);
    waiter_release(&waiter);
    return NULL;
}

static void *disturb(void *argument)
{
    struct stage *stage = ((struct actor *)argument)->stage;
    char *bytes = calloc(1, BYTES);
    struct blocks_report report;
    unsigned random = 3;
    while (atomic_load(&stage->readers) > 0) {
        struct fault fail = {.kind = FAULT_CUT,
                             .op = STORE_GET,
                             .times = 1,
                             .skip = 3,
                             .bytes = next_random(&random) % 500000};
        int fault = memory_store_fault(stage->room.bucket, &fail);
        bytes[0]++;
        if (bytes[0] == 20)
            memory_store_put(stage->room.bucket, "p/c", bytes, BYTES, NULL, NULL);
        blocks_report(stage->room.cache->blocks, &report);
        usleep(500);
        memory_store_fault_end(stage->room.bucket, fault);
    }
    free(bytes);
    return NULL;
}

int main(void)
{
    static struct stage stage;
    struct room_config config = {
        .memory_bytes = 8u << 20, .part_bytes = 8 * PAGE_BYTES, .bucket = {.part_bytes_min = 1}};
    void *(*const jobs[])(void *) = {read_on, read_on, read_on, read_on, interrupt, write_and_sync, disturb};
    enum { COUNT = sizeof jobs / sizeof jobs[0] };
    static struct actor actors[COUNT];
    pthread_t threads[COUNT];
    char *bytes = calloc(1, BYTES);
    log_set_level(LOG_LEVEL_ERROR);
    room_init(&stage.room, &config);
    for (int i = 0; i < FILES; i++) {
        char key[4] = {'p', '/', (char)('a' + i), 0};
        memory_store_put(stage.room.bucket, key, bytes, BYTES, NULL, NULL);
    }
    for (int i = 0; i < FILES; i++) {
        char name[2] = {(char)('a' + i), 0};
        int rc = room_open(&stage.room, name, O_RDWR, &stage.handles[i]);
        assert(rc == 0);
    }
    free(bytes);
    for (int i = 0; i < READERS; i++)
        pthread_mutex_init(&stage.slots[i].mutex, NULL);
    atomic_store(&stage.readers, READERS);
    for (int i = 0; i < COUNT; i++) {
        actors[i] = (struct actor){&stage, i};
        pthread_create(&threads[i], NULL, jobs[i], &actors[i]);
    }
    for (int i = 0; i < COUNT; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < FILES; i++)
        room_close(&stage.room, stage.handles[i]);
    room_release(&stage.room);
    printf("%u answered, %u interrupted, %u failed\n", atomic_load(&stage.answered),
           atomic_load(&stage.interrupted), atomic_load(&stage.failed));
    assert(atomic_load(&stage.answered) > 100 && atomic_load(&stage.interrupted) > 10);
    return 0;
}
