/* Unlinks race last closes; many threads change one small tree at once, also where replies get lost: no deadlock, no race
 * (run it under ThreadSanitizer), and at the end the tree that a user sees is the tree that the bucket holds. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "cache/core.h"
#include "tests/support/tree.h"

#define THREADS 6
#define ROUNDS  4000

struct worker {
    pthread_t thread;
    struct room room; /* what it needs of it, with a waiter of its own */
    unsigned seed;
    bool lossy, wrong;
    unsigned done[8]; /* of each kind, with success */
    unsigned kind;
};

static unsigned draw(struct worker *worker, unsigned below)
{
    worker->seed = worker->seed * 1103515245u + 12345u;
    return (worker->seed >> 16) % below;
}

/* "d1", "d1/f2", "d1/d3/f0" ... */
static void choose_path(struct worker *worker, bool directory, char path[32])
{
    unsigned depth = draw(worker, 3);
    size_t at = 0;

    for (unsigned i = 0; i < depth; i++)
        at += (size_t)snprintf(path + at, 32 - at, "d%u/", draw(worker, 2));
    snprintf(path + at, 32 - at, "%c%u", directory ? 'd' : 'f', draw(worker, 3));
}

static int act(struct worker *worker)
{
    struct room *room = &worker->room;
    struct attributes wanted = {.mode = 0600}, now;
    BUF_SCOPED list = BUF_INIT;
    char path[32], other[32];
    bool directory = draw(worker, 2);
    struct entry entry;
    int rc;

    choose_path(worker, directory, path);
    choose_path(worker, directory, other);
    worker->kind = draw(worker, 8);
    switch (worker->kind) {
    case 0:
        return tree_mkdir(room, path);
    case 1:
        return directory ? tree_rmdir(room, path) : tree_unlink(room, path);
    case 2:
        return tree_rename(room, path, other, 0);
    case 3:
        return tree_list(room, directory ? path : "", draw(worker, 2), &list);
    case 4:
        rc = tree_lookup(room, path, &entry);
        if (rc < 0)
            return rc;
        rc = cache_set_attributes(room->cache, &room->waiter, entry.inode, NULL, SET_MODE, &wanted, &now);
        inode_unref(entry.inode);
        return rc;
    case 5:
        rc = tree_lookup(room, path, &entry);
        if (rc == 0)
            inode_unref(entry.inode);
        return rc;
    default:
        return directory ? tree_symlink(room, other, "there") : tree_write(room, path, path);
    }
}

static bool expected(int rc, bool lossy)
{
    static const int rows[] = {0,          -ENOENT, -EEXIST, -ENOTDIR, -EISDIR,
                               -ENOTEMPTY, -EINVAL, -ESTALE, -EBUSY,   -ELOOP};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (rc == rows[i])
            return true;
    return lossy && rc == -EIO;
}

static void *work(void *context)
{
    struct worker *worker = context;

    waiter_init(&worker->room.waiter);
    for (int i = 0; i < ROUNDS; i++) {
        int rc = act(worker);
        worker->done[worker->kind] += rc == 0;
        if (!expected(rc, worker->lossy)) {
            fprintf(stderr, "round %d: %d\n", i, rc);
            worker->wrong = true;
        }
    }
    waiter_release(&worker->room.waiter);
    return NULL;
}

/* The files below, as the tree tells them: each must be an object; returns how many keys are accounted for. */
static size_t count_below(struct room *room, const char *path, bool *wrong)
{
    BUF_SCOPED list = BUF_INIT;
    size_t keys = 0;
    char *save = NULL;

    if (tree_list(room, path, true, &list) < 0)
        *wrong = true;
    for (char *name = strtok_r(list.bytes, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
        char below[64], key[80];
        size_t length = strlen(name);
        bool directory = name[length - 1] == '/';
        if (directory || name[length - 1] == '@')
            name[length - 1] = 0;
        snprintf(below, sizeof below, "%s%s%s", path, *path ? "/" : "", name);
        snprintf(key, sizeof key, "p/%s%s", below, directory ? "/" : "");
        bool there = memory_store_has(room->bucket, key);
        if (directory) {
            key[strlen(key) - 1] = 0;
            if (memory_store_has(room->bucket, key)) {
                fprintf(stderr, "%s stands beside its directory\n", key);
                *wrong = true;
            }
        }
        keys += there;
        if (!there && !directory) {
            fprintf(stderr, "%s is no object\n", key);
            *wrong = true;
        }
        if (directory)
            keys += count_below(room, below, wrong);
    }
    return keys;
}

static bool nothing_is_doomed(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return list_empty(&room->cache->names.doomed);
}

static bool check(struct room *room)
{
    bool wrong = !room_await(nothing_is_doomed, room);
    size_t unsent = 0;
    int rc = cache_drain(room->cache, &room->waiter, INT64_MAX, &unsent);
    size_t seen = count_below(room, "", &wrong), there = memory_store_object_count(room->bucket);

    if (rc < 0 || unsent)
        fprintf(stderr, "drain: %d, %zu unsent\n", rc, unsent);
    if (seen != there) {
        BUF_SCOPED log = BUF_INIT;
        fprintf(stderr, "%zu keys seen, %zu there\n", seen, there);
        memory_store_log_print(room->bucket, &log);
        fputs(log.bytes, stderr);
    }
    return !wrong && rc == 0 && seen == there && !memory_store_upload_count(room->bucket);
}

/* ---- Unlinks against last closes. ---- */

#define UNLINKS 2000

struct closing {
    struct room *room;
    struct handle *handle;
};

static void *close_last(void *context)
{
    struct closing *closing = context;
    cache_release(closing->room->cache, closing->handle);
    return NULL;
}

/* Whoever comes first, the object goes: with the unlink, or with the close. */
static bool unlinks_race_last_closes(void)
{
    struct room_config config = {.attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    bool good = true;

    char name[16], key[20];
    memory_store_put_text(room.bucket, "p/stays", "x");
    for (int i = 0; i < UNLINKS; i++) {
        snprintf(key, sizeof key, "p/f%d", i);
        memory_store_put_text(room.bucket, key, "x");
    }
    for (int i = 0; good && i < UNLINKS; i++) {
        struct closing closing = {.room = &room};
        pthread_t thread;
        snprintf(name, sizeof name, "f%d", i);
        if (tree_open(&room, name, O_RDONLY, &closing.handle) < 0)
            return false;
        pthread_create(&thread, NULL, close_last, &closing);
        for (volatile int spin = 0; spin < (i * 37) % 20000; spin++)
            ;
        good = tree_unlink(&room, name) == 0 && good;
        pthread_join(thread, NULL);
    }
    return room_await(nothing_is_doomed, &room) && good && memory_store_object_count(room.bucket) == 1;
}

struct injector {
    struct room *room;
    atomic_bool ends;
};

/* Replies of PUTs and COPYs are lost, and many of the HEADs that would tell what they did fail. */
static void *lose_replies(void *context)
{
    struct injector *injector = context;
    struct memory_store *bucket = injector->room->bucket;

    while (!atomic_load(&injector->ends)) {
        memory_store_fault(bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .times = 1});
        memory_store_fault(bucket, &(struct fault){.kind = FAULT_LOSE_REPLY, .op = STORE_COPY, .times = 1});
        memory_store_fault(bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_HEAD, .times = 1});
        usleep(500);
        memory_store_faults_end(bucket);
        usleep(500);
    }
    return NULL;
}

static bool many_change_one_tree(bool lossy)
{
    struct room_config config = {.bucket = {.page_max = 4}, .attr_ttl_ms = 20};
    struct worker workers[THREADS];
    ROOM_SCOPED(room, &config);
    unsigned done[8] = {0};
    struct injector injector = {.room = &room};
    pthread_t injecting;
    bool good = true;

    if (lossy)
        pthread_create(&injecting, NULL, lose_replies, &injector);
    for (int i = 0; i < THREADS; i++) {
        /* Not its disk, which is at work. */
        struct room view = {
            .bucket = room.bucket, .store = room.store, .cache = room.cache, .root = room.root};
        workers[i] = (struct worker){.room = view, .lossy = lossy, .seed = (unsigned)i * 7919u + 1};
        pthread_create(&workers[i].thread, NULL, work, &workers[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(workers[i].thread, NULL);
        good = good && !workers[i].wrong;
        for (int kind = 0; kind < 8; kind++)
            done[kind] += workers[i].done[kind];
    }
    atomic_store(&injector.ends, true);
    if (lossy)
        pthread_join(injecting, NULL);
    printf("mkdir %u, remove %u, rename %u, list %u, set %u, lookup %u, make %u\n", done[0], done[1], done[2],
           done[3], done[4], done[5], done[6] + done[7]);
    return good && check(&room);
}

int main(void)
{
    log_set_level(LOG_LEVEL_ERROR);
    bool unlinked = unlinks_race_last_closes(), changed = many_change_one_tree(false);
    log_open(LOG_TO_FILE, "/dev/null"); /* thousands of errors, as asked for */
    bool settled = many_change_one_tree(true);

    return unlinked && changed && settled ? EXIT_SUCCESS : EXIT_FAILURE;
}
