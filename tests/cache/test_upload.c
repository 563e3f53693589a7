/* The drawing in upload.h: every edge is walked, by what a bucket and a user can do. */
#include "cache/upload.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/room.h"

#define MIB ((uint64_t)1 << 20)

/* ---- The edges that were seen, from the uploader's own trace. ---- */

static char walked[64][64];
static size_t walked_count;
static pthread_mutex_t walked_mutex = PTHREAD_MUTEX_INITIALIZER;

static void hear_line(void *context, enum log_level level, const char *line)
{
    (void)context, (void)level;
    const char *edge = strstr(line, " -> ") ? strstr(line, "upload of inode ") : NULL;
    edge = edge ? strstr(edge, ": ") : NULL;
    if (!edge)
        return;
    pthread_mutex_lock(&walked_mutex);
    size_t i = 0;
    while (i < walked_count && strcmp(walked[i], edge + 2) != 0)
        i++;
    if (i == walked_count && walked_count < 64)
        snprintf(walked[walked_count++], sizeof walked[0], "%s", edge + 2);
    pthread_mutex_unlock(&walked_mutex);
}

static bool was_walked(const char *edge)
{
    pthread_mutex_lock(&walked_mutex);
    bool found = false;
    for (size_t i = 0; i < walked_count; i++)
        found = found || strncmp(walked[i], edge, strlen(edge)) == 0;
    pthread_mutex_unlock(&walked_mutex);
    return found;
}

/* ---- One file, what stands in the bucket, what is done to it, what the store does. ---- */

enum change { CREATE, PATCH, REWRITE, CHMOD };

struct scene {
    const char *edge; /* this one, in any case */
    enum change change;
    bool big, unprobed, unconditional, headers_unknown;
    struct fault fault; /* kind 0: none */
    bool hold;          /* while the fault hangs */
    bool second_round;  /* a write while the parts are read, one request at once */
};

#define FAIL(what)                                                                                           \
    {                                                                                                        \
        .kind = FAULT_FAIL, .op = STORE_##what, .times = 1                                                   \
    }
#define HANG(what)                                                                                           \
    {                                                                                                        \
        .kind = FAULT_HANG, .op = STORE_##what, .times = 1                                                   \
    }
#define LOSE(what)                                                                                           \
    {                                                                                                        \
        .kind = FAULT_LOSE_REPLY, .op = STORE_##what, .times = 1                                             \
    }

static const struct scene scenes[] = {
    {.edge = "idle -> completing", .change = CREATE},
    {.edge = "completing -> confirmed", .change = CREATE},
    {.edge = "confirmed -> idle", .change = CREATE},
    {.edge = "idle -> creating", .change = CREATE, .big = true},
    {.edge = "creating -> sending", .change = CREATE, .big = true},
    {.edge = "sending -> completing", .change = CREATE, .big = true},
    {.edge = "idle -> asking", .change = PATCH, .unprobed = true},
    {.edge = "asking -> filling", .change = PATCH, .unprobed = true},
    {.edge = "asking -> completing", .change = REWRITE, .unprobed = true},
    {.edge = "asking -> creating", .change = REWRITE, .unprobed = true, .big = true},
    {.edge = "idle -> filling", .change = PATCH},
    {.edge = "filling -> completing", .change = PATCH},
    {.edge = "filling -> creating", .change = PATCH, .big = true},
    {.edge = "filling -> asking", .change = PATCH, .unconditional = true},
    {.edge = "sending -> asking", .change = PATCH, .unconditional = true, .big = true},
    {.edge = "idle -> copying", .change = CHMOD},
    {.edge = "copying -> confirmed", .change = CHMOD},
    {.edge = "asking -> copying", .change = CHMOD, .headers_unknown = true},
    {.edge = "asking -> parked", .change = REWRITE, .headers_unknown = true, .fault = FAIL(HEAD)},
    {.edge = "parked -> idle", .change = REWRITE, .headers_unknown = true, .fault = FAIL(HEAD)},
    {.edge = "filling -> parked", .change = PATCH, .fault = FAIL(GET)},
    {.edge = "creating -> parked", .change = CREATE, .big = true, .fault = FAIL(CREATE)},
    {.edge = "sending -> parked", .change = CREATE, .big = true, .fault = FAIL(PART)},
    {.edge = "idle -> sending", .change = CREATE, .big = true, .fault = FAIL(PART)},
    {.edge = "completing -> parked", .change = CREATE, .fault = FAIL(PUT)},
    {.edge = "copying -> parked", .change = CHMOD, .fault = FAIL(COPY)},
    {.edge = "copying -> creating",
     .change = CHMOD,
     .fault = {.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EFBIG, .times = 1}},
    {.edge = "completing -> settling", .change = CREATE, .fault = LOSE(PUT)},
    {.edge = "settling -> confirmed", .change = CREATE, .big = true, .fault = LOSE(COMPLETE)},
    {.edge = "copying -> settling", .change = CHMOD, .fault = LOSE(COPY)},
    {.edge = "settling -> parked",
     .change = CREATE,
     .fault = {.kind = FAULT_FAIL, .op = STORE_PUT, .unknown = true, .times = 1}},
    {.edge = "asking -> idle", .change = REWRITE, .headers_unknown = true, .fault = HANG(HEAD), .hold = true},
    {.edge = "filling -> idle", .change = PATCH, .fault = HANG(GET), .hold = true},
    {.edge = "creating -> idle", .change = CREATE, .big = true, .fault = HANG(CREATE), .hold = true},
    {.edge = "sending -> idle", .change = CREATE, .big = true, .fault = HANG(PART), .hold = true},
    {.edge = "sending -> frozen", .change = CREATE, .big = true, .second_round = true},
    {.edge = "frozen -> sending", .change = CREATE, .big = true, .second_round = true},
    {.edge = "frozen -> parked",
     .change = CREATE,
     .big = true,
     .second_round = true,
     .fault = {.kind = FAULT_FAIL, .op = STORE_PART, .skip = 3, .times = 1}},
    {.edge = "frozen -> idle",
     .change = CREATE,
     .big = true,
     .second_round = true,
     .fault = {.kind = FAULT_HANG, .op = STORE_PART, .skip = 3, .times = 1},
     .hold = true},
};

struct scribbling {
    struct room *room;
    struct handle *handle;
    bool done;
};

/* Once the last part is being read, the first ones change. */
static void scribble(void *context, uint64_t offset)
{
    struct scribbling *scribbling = context;
    if (scribbling->done || offset < 16 * MIB)
        return;
    scribbling->done = true;
    cr_assert_eq(cache_write(scribbling->room->cache, NULL, scribbling->handle, "new", 3, 0), 0);
    cr_assert_eq(cache_write(scribbling->room->cache, NULL, scribbling->handle, "new", 3, 9 * MIB), 0);
}

static struct handle *set_the_stage(struct room *room, const struct scene *scene)
{
    struct handle *handle;
    uint64_t size = scene->big ? 20 * MIB : 1000;
    if (scene->change == CREATE) {
        cr_assert_eq(room_create(room, "a", &handle), 0);
        cr_assert_eq(room_write(room, handle, 0, size, 1), 0);
        return handle;
    }
    char *bytes = xcalloc(1, size);
    memory_store_put(room->bucket, "p/a", bytes, size, NULL, NULL);
    free(bytes);
    cr_assert_eq(room_open(room, "a", scene->change == CHMOD ? O_RDONLY : O_RDWR, &handle), 0);
    if (scene->change == PATCH)
        cr_assert_eq(room_write(room, handle, 10, 10, 2), 0);
    if (scene->change == REWRITE)
        cr_assert_eq(room_write(room, handle, 0, size, 2), 0);
    struct inode *inode = room_inode(handle);
    lock_take(&inode->lock);
    if (scene->change == CHMOD) {
        inode->wanted.attributes.mode = S_IFREG | 0600;
        inode->wanted.attribute_version++;
    }
    inode->remote.headers_known = inode->remote.headers_known && !scene->headers_unknown;
    lock_drop(&inode->lock);
    return handle;
}

static bool is_frozen(void *context)
{
    (void)context;
    return was_walked("sending -> frozen");
}

static void hold_while_it_hangs(struct room *room, struct handle *handle, const struct scene *scene)
{
    cr_assert(!scene->second_round || room_await(is_frozen, NULL));
    cr_assert(memory_store_await(room->bucket, scene->fault.op, "p/a", 1), "%s", scene->edge);
    cr_assert_eq(upload_hold(room_inode(handle), &room->waiter), 0);
    upload_unhold(room_inode(handle));
}

static void play(const struct scene *scene)
{
    struct room_config config = {
        .bucket = {.unprobed = scene->unprobed, .ignore_conditions = scene->unconditional},
        .uploads_max = scene->second_round ? 1 : 0,
    };
    ROOM_SCOPED(room, &config);
    struct room_sync sync;
    struct handle *handle = set_the_stage(&room, scene);
    struct scribbling scribbling = {&room, handle, false};
    room.disk.context = &scribbling;
    room.disk.before_read = scene->second_round ? scribble : NULL;
    if (scene->fault.kind)
        memory_store_fault(room.bucket, &scene->fault);
    if (strcmp(scene->edge, "settling -> parked") == 0) /* and the HEAD that would settle it */
        memory_store_fault(room.bucket, &(struct fault)FAIL(HEAD));
    walked_count = 0;
    room_fsync_begin(&room, handle, &sync);
    if (scene->hold)
        hold_while_it_hangs(&room, handle, scene);
    int rc = room_sync_end(&sync);
    cr_assert(rc == 0 || rc == -EIO, "%s: %d", scene->edge, rc);
    for (int i = 0; rc < 0 && i < 3; i++)
        rc = room_fsync(&room, handle);
    cr_assert_eq(rc, 0, "%s", scene->edge);
    cr_assert(was_walked(scene->edge), "%s was not walked", scene->edge);
    cr_assert(room_clean(handle));
    room.disk.before_read = NULL;
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(upload, every_edge_of_the_drawing_can_be_walked_and_ends_in_the_bucket)
{
    log_set_level(LOG_LEVEL_TRACE);
    log_tap(hear_line, NULL);
    for (size_t i = 0; i < sizeof scenes / sizeof scenes[0]; i++)
        play(&scenes[i]);
    log_tap(NULL, NULL);
}

Test(upload, a_settled_but_parked_try_is_settled_first_when_it_comes_again)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    memory_store_fault(room.bucket, &(struct fault)LOSE(PUT));
    memory_store_fault(room.bucket, &(struct fault)FAIL(HEAD));
    cr_assert_eq(room_fsync(&room, handle), -EIO);
    cr_assert_eq(room_fsync(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 1, "what was done was done again");
    cr_assert_eq(room_close(&room, handle), 0);
}

Test(upload, a_file_that_10_000_parts_do_not_hold_is_efbig_at_once)
{
    struct room_config config = {.memory_bytes = 16 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_truncate(&room, handle, (uint64_t)1 << 40), 0);
    cr_assert_eq(room_fsync(&room, handle), -EFBIG);
    cr_assert_eq(room_truncate(&room, handle, 10), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 10);
}
