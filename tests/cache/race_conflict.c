/* Patches, another client's writes, renames, removals, discards and open readers side by side on a few names, for
 * ThreadSanitizer: nothing hangs, and what is left at the end can go up or has a reason. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/room.h"

#define NAMES  3
#define ROUNDS 150

static struct room room;
static const char *const names[NAMES] = {"a", "b", "c"};
static atomic_uint seeds;

static unsigned next_random(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return *seed >> 8;
}

static const char *any_name(unsigned *seed)
{
    return names[next_random(seed) % NAMES];
}

static int open_name(struct waiter *waiter, const char *name, int flags, struct handle **ret_handle)
{
    struct entry entry;
    struct opened opened;
    int rc = cache_lookup(room.cache, waiter, room.root, name, &entry);
    if (rc < 0)
        return rc;
    rc = cache_open(room.cache, waiter, entry.inode, flags, ROOM_PROCESS, ret_handle, &opened);
    inode_unref(entry.inode);
    return rc;
}

static void patch(struct waiter *waiter, unsigned *seed)
{
    char bytes[3000];
    struct handle *handle;
    if (open_name(waiter, any_name(seed), O_RDWR, &handle) < 0)
        return;
    memset(bytes, 'p', sizeof bytes);
    int rc = cache_write(room.cache, waiter, handle, bytes, 1 + next_random(seed) % sizeof bytes,
                         next_random(seed) % 2 ? 0 : next_random(seed) % 3000);
    assert(rc == 0);
    if (next_random(seed) % 2)
        room_fsync(&room, handle);
    room_close(&room, handle);
}

static void read_some(struct waiter *waiter, unsigned *seed)
{
    struct handle *handle;
    struct reader reader;
    if (open_name(waiter, any_name(seed), O_RDONLY, &handle) < 0)
        return;
    for (int i = 0; i < 3; i++) {
        reader_begin(&reader, &room, handle, next_random(seed) % 3000, 500);
        int rc = reader_wait(&reader);
        assert(rc == 0 || rc == -ESTALE);
        reader_release(&reader);
    }
    cache_release(room.cache, handle);
}

static void make(struct waiter *waiter, unsigned *seed)
{
    struct maker maker = {.mode = 0644, .process = ROOM_PROCESS};
    struct handle *handle;
    struct entry entry;
    int flags = next_random(seed) % 4 ? O_RDWR : O_RDWR | O_EXCL;
    if (cache_create(room.cache, waiter, room.root, any_name(seed), flags, &maker, &entry, &handle) < 0)
        return;
    inode_unref(entry.inode);
    cache_write(room.cache, waiter, handle, "new", 3, 0);
    room_close(&room, handle);
}

static void change_names(struct waiter *waiter, unsigned *seed)
{
    BUF_SCOPED why = BUF_INIT;
    switch (next_random(seed) % 4) {
    case 0:
        cache_unlink(room.cache, waiter, room.root, any_name(seed));
        break;
    case 1:
        cache_discard(room.cache, waiter, any_name(seed), &why);
        break;
    default:
        cache_rename(room.cache, waiter, room.root, any_name(seed), room.root, any_name(seed), 0);
    }
}

static void put_foreign(unsigned *seed)
{
    char key[8], bytes[4000];
    snprintf(key, sizeof key, "p/%s", any_name(seed));
    memset(bytes, 'f', sizeof bytes);
    memory_store_put(room.bucket, key, bytes, 1000 + next_random(seed) % 3000, NULL, NULL);
}

static void *work(void *argument)
{
    unsigned seed = atomic_fetch_add(&seeds, 7919);
    WAITER_SCOPED(waiter);
    (void)argument;
    for (int i = 0; i < ROUNDS; i++) {
        switch (next_random(&seed) % 8) {
        case 0:
        case 1:
        case 2:
            patch(&waiter, &seed);
            break;
        case 3:
            read_some(&waiter, &seed);
            break;
        case 4:
            make(&waiter, &seed);
            break;
        case 5:
            change_names(&waiter, &seed);
            break;
        default:
            put_foreign(&seed);
        }
    }
    return NULL;
}

int main(void)
{
    static const enum conflict_rule rules[] = {CONFLICT_KEEP_BOTH, CONFLICT_KEEP_BOTH, CONFLICT_REMOTE_WINS,
                                               CONFLICT_LOCAL_WINS};
    uint64_t copies = 0;
    log_open(LOG_TO_FILE, "/dev/null"); /* thousands of warnings, as asked for */
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        struct room_config config = {.conflict = rules[i],
                                     .attr_ttl_ms = 1,
                                     .durability = i % 2 ? DURABILITY_WRITEBACK : DURABILITY_SYNC};
        pthread_t threads[4];
        size_t unsent;
        room_init(&room, &config);
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++)
            pthread_create(&threads[t], NULL, work, NULL);
        for (size_t t = 0; t < sizeof threads / sizeof threads[0]; t++)
            pthread_join(threads[t], NULL);
        int rc = cache_drain(room.cache, &room.waiter, clock_ms() + 20000, &unsent);
        assert(rc == 0 || rc == -ESTALE); /* what lacks bytes of its base stays */
        copies += atomic_load(&room.cache->conflict_copies);
        room_release(&room);
    }
    printf("%u conflict copies\n", (unsigned)copies);
    assert(copies > 0);
    return 0;
}
