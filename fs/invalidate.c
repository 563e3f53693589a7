#include "fs/invalidate.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fs/session.h"

struct note {
    UT_hash_handle by_key; /* uthash keeps the order of adding */
    size_t key_length;
    struct note_key {
        uint64_t id;  /* node, or parent of the name */
        char name[1]; /* "" for the node itself; as long as it is */
    } key;
};

struct invalidator {
    struct fs *fs;
    pthread_t thread;
    struct lock lock;
    /* Under lock. */
    struct gate gate;
    struct note *notes;
    bool running;
    uint64_t told, dropped;
};

struct invalidator *invalidator_new(struct fs *fs)
{
    struct invalidator *invalidator = xcalloc(1, sizeof *invalidator);
    invalidator->fs = fs;
    lock_init(&invalidator->lock, LOCK_LEAF, "invalidator");
    gate_init(&invalidator->gate);
    return invalidator;
}

static void free_notes(struct invalidator *invalidator)
{
    struct note *note, *next;
    HASH_ITER (by_key, invalidator->notes, note, next) {
        HASH_DELETE(by_key, invalidator->notes, note);
        free(note);
    }
}

void invalidator_free(struct invalidator *invalidator)
{
    if (!invalidator)
        return;
    assert(!invalidator->running);
    free_notes(invalidator);
    gate_release(&invalidator->gate);
    lock_release(&invalidator->lock);
    free(invalidator);
}

static void tell_kernel(struct invalidator *invalidator, const struct note *note)
{
    struct fuse_session *session = invalidator->fs->session;
    const char *name = note->key.name;
    int rc = *name ? fuse_lowlevel_notify_inval_entry(session, note->key.id, name, strlen(name))
                   : fuse_lowlevel_notify_inval_inode(session, note->key.id, 0, 0);
    /* ENOENT: the kernel has forgotten it by itself. */
    if (rc < 0 && rc != -ENOENT)
        log_debug("invalidate: node %" PRIu64 " \"%s\": %s", note->key.id, name, err_name(rc));
}

static void *run_invalidator(void *context)
{
    struct invalidator *invalidator = context;
    pthread_setname_np(pthread_self(), "fs-invalidate");
    WAITER_SCOPED(waiter);
    lock_take(&invalidator->lock);
    while (invalidator->running) {
        struct note *note = invalidator->notes;
        if (!note) {
            gate_wait_locked(&invalidator->gate, &invalidator->lock, &waiter, CLOCK_NEVER);
            continue;
        }
        HASH_DELETE(by_key, invalidator->notes, note);
        invalidator->told++;
        lock_drop(&invalidator->lock);
        tell_kernel(invalidator, note);
        free(note);
        lock_take(&invalidator->lock);
    }
    lock_drop(&invalidator->lock);
    return NULL;
}

int invalidator_start(struct invalidator *invalidator)
{
    invalidator->running = true;
    int rc = pthread_create(&invalidator->thread, NULL, run_invalidator, invalidator);
    if (rc != 0)
        invalidator->running = false;
    return -rc;
}

void invalidator_stop(struct invalidator *invalidator)
{
    lock_take(&invalidator->lock);
    bool was_running = invalidator->running;
    invalidator->running = false;
    gate_open(&invalidator->gate);
    lock_drop(&invalidator->lock);
    if (was_running)
        pthread_join(invalidator->thread, NULL);
}

static void leave_note(struct invalidator *invalidator, uint64_t id, const char *name)
{
    if (!nodes_known(&invalidator->fs->nodes, id))
        return;
    size_t name_size = strlen(name) + 1;
    struct note *note = xcalloc(1, sizeof *note + name_size);
    note->key.id = id;
    memcpy(note->key.name, name, name_size);
    note->key_length = offsetof(struct note_key, name) + name_size;
    struct note *found = NULL;
    lock_take(&invalidator->lock);
    HASH_FIND(by_key, invalidator->notes, &note->key, note->key_length, found);
    bool keep = !found && invalidator->running && HASH_CNT(by_key, invalidator->notes) < INVALIDATE_MAX;
    if (keep) {
        HASH_ADD_KEYPTR(by_key, invalidator->notes, &note->key, note->key_length, note);
        gate_open(&invalidator->gate);
    }
    bool first_drop = false;
    if (!keep && !found && invalidator->running)
        first_drop = invalidator->dropped++ == 0;
    lock_drop(&invalidator->lock);
    if (!keep)
        free(note);
    if (first_drop)
        log_warn(
            "invalidate: %d changes wait to be told to the kernel; more are seen when their time is over",
            INVALIDATE_MAX);
}

void invalidator_inode(struct invalidator *invalidator, uint64_t id)
{
    leave_note(invalidator, id, "");
}

void invalidator_name(struct invalidator *invalidator, uint64_t parent_id, const char *name)
{
    if (*name)
        leave_note(invalidator, parent_id, name);
}

void invalidator_report(struct invalidator *invalidator, struct json *object)
{
    LOCK_SCOPED(&invalidator->lock);
    json_set_integer(object, "waiting", HASH_CNT(by_key, invalidator->notes));
    json_set_integer(object, "told", (int64_t)invalidator->told);
    json_set_integer(object, "dropped", (int64_t)invalidator->dropped);
}
