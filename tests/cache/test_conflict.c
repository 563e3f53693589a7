/* Another client replaced or removed the object that was patched here: nothing of either is lost. */
#include "cache/conflict.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "cache/core.h"
#include "tests/support/reader.h"
#include "tests/support/tree.h"

#define MIB ((uint64_t)1 << 20)

/* ---- Names. ---- */

Test(conflict, the_copys_name_is_cut_between_characters_and_never_too_long)
{
    static const struct {
        const char *name;
        unsigned nth;
        size_t room;
        const char *expected; /* NULL: -ENAMETOOLONG */
    } rows[] = {
        {"model.pt", 1, 255, "model.pt.skyvol-conflict-h-20231114T221320Z"},
        {"model.pt", 2, 255, "model.pt.skyvol-conflict-h-20231114T221320Z-2"},
        {"model.pt", 1, 43, "model.pt.skyvol-conflict-h-20231114T221320Z"},
        {"model.pt", 1, 42, "model.p.skyvol-conflict-h-20231114T221320Z"},
        {"a\xc3\xa9z", 1, 39, "a\xc3\xa9z.skyvol-conflict-h-20231114T221320Z"},
        {"a\xc3\xa9z", 1, 38, "a\xc3\xa9.skyvol-conflict-h-20231114T221320Z"},
        {"a\xc3\xa9z", 1, 37, "a.skyvol-conflict-h-20231114T221320Z"},
        {"a\xc3\xa9z", 1, 36, "a.skyvol-conflict-h-20231114T221320Z"},
        {"\xe2\x82\xac", 1, 37, NULL},
        {"a", 1, 35, NULL},
        {"a", 1, 10, NULL},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        BUF_SCOPED name = BUF_INIT;
        int rc =
            conflict_name(rows[i].name, "h", INT64_C(1700000000123456789), rows[i].nth, rows[i].room, &name);
        cr_expect_eq(rc, rows[i].expected ? 0 : -ENAMETOOLONG, "row %zu", i);
        cr_expect(rc < 0 || strcmp(name.bytes, rows[i].expected) == 0, "row %zu: %s", i, name.bytes);
        cr_expect(rc < 0 || name.length <= rows[i].room, "row %zu", i);
    }
}

Test(conflict, the_hosts_name_is_its_first_label_in_plain_letters)
{
    static const char *const rows[][2] = {
        {"gpu-7.cluster.local", "gpu-7"},
        {"", "host"},
        {".x", "host"},
        {"a/b c\xc3\xa9", "a_b_c__"},
        {"0123456789012345678901234567890123456789", "01234567890123456789012345678901"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        BUF_SCOPED host = BUF_INIT;
        conflict_host(rows[i][0], &host);
        cr_expect_str_eq(host.bytes, rows[i][1]);
    }
}

/* ---- Scenery. ---- */

static void put(struct room *room, const char *key, uint64_t size, unsigned seed)
{
    char *bytes = xmalloc(size + 1);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(seed, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    free(bytes);
}

/* The nth key that is a conflict copy's; NULL. The caller's. */
static char *find_copy(struct room *room, size_t nth)
{
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    char *next = NULL;
    for (char *key = strtok_r(keys.bytes, "\n", &next); key; key = strtok_r(NULL, "\n", &next))
        if (strstr(key, ".skyvol-conflict-") && nth-- == 0)
            return xstrdup(key);
    return NULL;
}

static bool a_copy_is_there(void *context)
{
    STRING_SCOPED *key = find_copy(context, 0);
    return key != NULL;
}

static bool no_upload_is_left(void *context)
{
    struct room *room = context;
    return memory_store_upload_count(room->bucket) == 0;
}

static int drain(struct room *room)
{
    size_t unsent;
    return cache_drain(room->cache, &room->waiter, clock_ms() + 10000, &unsent);
}

static uint64_t count_copies(struct room *room)
{
    return atomic_load(&room->cache->conflict_copies);
}

/* What stands under `a` is read as another client's: `size` bytes of pattern 3. */
static void check_theirs(struct room *room, uint64_t size)
{
    struct handle *handle;
    cr_assert_eq(tree_open(room, "a", O_RDONLY, &handle), 0);
    cr_assert_eq(room_read(room, handle, 0, size, 3), 0);
    cache_release(room->cache, handle);
    cr_assert_eq(room_object_size(room, "p/a"), size);
    cr_assert(room_object_holds(room, "p/a", 0, size, 3));
}

/* ---- Both are kept. ---- */

struct kinds {
    bool honoured, big, vanished;
};

static void keep_both(const struct kinds *kinds)
{
    struct room_config config = {.bucket = {.ignore_conditions = !kinds->honoured}};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct attributes attributes;
    uint64_t size = kinds->big ? 20 * MIB : 1000;
    put(&room, "p/a", size, 1);
    cr_assert_eq(room_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, size, 2), 0);
    if (kinds->vanished)
        memory_store_remove(room.bucket, "p/a");
    else
        put(&room, "p/a", 500, 3);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert_eq(room_fsync(&room, handle), 0, "it goes up beside theirs");
    STRING_SCOPED *key = find_copy(&room, 0);
    cr_assert(key && strncmp(key, "p/a.skyvol-conflict-", 20) == 0);
    cr_assert_eq(room_object_size(&room, key), size);
    cr_assert(room_object_holds(&room, key, 0, size, 2));
    cr_assert(room_await(no_upload_is_left, &room), "an upload was left behind");
    cr_assert_eq(count_copies(&room), 1);

    if (kinds->vanished)
        cr_assert_eq(tree_stat(&room, "a", &attributes), -ENOENT);
    else
        check_theirs(&room, 500);
    cr_assert_eq(tree_stat(&room, key + 2, &attributes), 0);
    cr_assert_eq(attributes.size, size);

    cr_assert_eq(room_write(&room, handle, 10, 10, 7), 0, "the handle goes with ours");
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, key, 10, 20, 7));
    cr_assert(room_object_holds(&room, key, 20, size, 2));
    cr_assert_eq(memory_store_has(room.bucket, "p/a"), !kinds->vanished);
    cr_assert(room_await_no_local_file(&room));
    room_reopen(&room);
    cr_assert_eq(drain(&room), 0);
    cr_assert_eq(memory_store_object_count(room.bucket), kinds->vanished ? 1 : 2);
}

Test(conflict, a_patch_over_a_foreign_version_goes_up_beside_it)
{
    for (int i = 0; i < 8; i++)
        keep_both(&(struct kinds){i & 1, i & 2, i & 4});
}

static void put_theirs(struct memory_store *memory, const struct store_call *call, void *context)
{
    (void)call;
    put(context, "p/a", 500, 3);
    (void)memory;
}

Test(conflict, the_bytes_of_the_base_that_are_here_go_along)
{
    for (int big = 0; big < 2; big++) {
        struct room_config config = {
            .bucket = {.no_part_copy = true}}; /* where parts are copied: test_copied.c */
        ROOM_SCOPED(room, &config);
        struct handle *handle;
        uint64_t size = big ? 20 * MIB : 1000;
        put(&room, "p/a", size, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 100, 10, 2), 0);
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                        .op = big ? STORE_COMPLETE : STORE_PUT,
                                                        .times = 1,
                                                        .meanwhile = put_theirs,
                                                        .context = &room});
        cr_assert_eq(room_close(&room, handle), -ESTALE);
        cr_assert_eq(drain(&room), 0);
        STRING_SCOPED *key = find_copy(&room, 0);
        cr_assert(key && room_object_size(&room, key) == size);
        cr_assert(room_object_holds(&room, key, 0, 100, 1));
        cr_assert(room_object_holds(&room, key, 100, 110, 2));
        cr_assert(room_object_holds(&room, key, 110, size, 1));
        check_theirs(&room, 500);
        cr_assert(room_await(no_upload_is_left, &room));
    }
}

static void note_conflict(void *context, const struct cache_unsent *unsent)
{
    size_t *count = context;
    *count += unsent->conflict && unsent->parked && strcmp(unsent->path, "a") == 0;
}

Test(conflict, where_the_base_cannot_be_read_any_more_ours_stays_and_is_named)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    size_t count = 0;
    put(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 100, 10, 2), 0);
    put(&room, "p/a", 500, 3);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE);
    cr_assert_eq(room_fsync(&room, handle), -ESTALE, "a later fsync must not lie");
    cr_assert_eq(room_close(&room, handle), -ESTALE);
    cache_unsent(room.cache, note_conflict, &count);
    cr_assert_eq(count, 1);
    cr_assert_eq(count_copies(&room), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 500, 3));
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

Test(conflict, in_write_back_it_happens_behind)
{
    ROOM_SCOPED(room, (&(struct room_config){.durability = DURABILITY_WRITEBACK}));
    struct handle *handle;
    put(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 2), 0);
    put(&room, "p/a", 500, 3);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_await(a_copy_is_there, &room));
    cr_assert_eq(drain(&room), 0);
    check_theirs(&room, 500);
}

Test(conflict, a_second_one_in_the_same_second_has_a_name_of_its_own)
{
    clock_fake_begin(INT64_C(1700000000000000000));
    {
        ROOM_SCOPED(room, NULL);
        for (unsigned i = 0; i < 3; i++) {
            struct handle *handle;
            put(&room, "p/a", 1000, 1);
            clock_fake_advance(0);
            cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
            cr_assert_eq(room_write(&room, handle, 0, 1000, 20 + i), 0);
            put(&room, "p/a", 500, 3);
            cr_assert_eq(room_fsync(&room, handle), -ESTALE);
            cr_assert_eq(room_close(&room, handle), 0);
        }
        for (unsigned i = 0; i < 3; i++) {
            STRING_SCOPED *key = find_copy(&room, i);
            cr_assert(key && room_object_holds(&room, key, 0, 1000, 20 + i), "%s", key);
            cr_assert(i == 0 || key[strlen(key) - 1] == (char)('1' + i));
        }
    }
    clock_fake_end();
}

Test(conflict, whole_replacement_is_none)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put(&room, "p/a", 1000, 1);
    cr_assert_eq(room_open(&room, "a", O_WRONLY | O_TRUNC, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 700, 2), 0);
    put(&room, "p/a", 500, 3);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert(room_object_holds(&room, "p/a", 0, 700, 2));
    cr_assert_eq(count_copies(&room), 0);
    cr_assert_eq(memory_store_object_count(room.bucket), 1);
}

Test(conflict, a_file_in_a_directory_whose_names_are_long_finds_room_or_stays)
{
    static const size_t lengths[] = {255, 250, 1};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        BUF_SCOPED path = BUF_INIT;
        /* The last one leaves 13 bytes of a key. */
        for (int d = 0; i == 2 && d < 4; d++)
            buf_printf(&path, "%0*d/", d < 3 ? 255 : 240, d);
        buf_printf(&path, "%0*d", (int)lengths[i], 7);
        STRING_SCOPED *key = xprintf("p/%s", path.bytes);
        put(&room, key, 1000, 1);
        cr_assert_eq(tree_open(&room, path.bytes, O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 1000, 2), 0);
        put(&room, key, 500, 3);
        cr_assert_eq(room_fsync(&room, handle), -ESTALE);
        cr_assert_eq(room_close(&room, handle), i < 2 ? 0 : -ESTALE);
        cr_assert(room_object_holds(&room, key, 0, 500, 3));
        STRING_SCOPED *copy = find_copy(&room, 0);
        cr_assert_eq(copy != NULL, i < 2);
        cr_assert(!copy || (strlen(copy) == 2 + 255 && room_object_holds(&room, copy, 0, 1000, 2)));
    }
}

/* ---- Beside other work on the name. ---- */

struct renaming {
    struct room *room;
    pthread_t thread;
    int rc;
};

static void *rename_directory(void *argument)
{
    struct renaming *renaming = argument;
    struct room *room = renaming->room;
    WAITER_SCOPED(waiter);
    renaming->rc = cache_rename(room->cache, &waiter, room->root, "d", room->root, "e", 0);
    return NULL;
}

Test(conflict, a_directory_that_is_renamed_meanwhile_takes_ours_and_theirs_along)
{
    for (int late = 0; late < 2; late++) { /* the conflict is being settled, or not yet found */
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        struct room_sync sync;
        struct renaming renaming = {.room = &room};
        put(&room, "p/d/a", 1000, 1);
        cr_assert_eq(tree_open(&room, "d/a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 1000, 2), 0);
        put(&room, "p/d/a", 500, 3);
        enum store_op op = late ? STORE_PUT : STORE_HEAD;
        memory_store_fault(room.bucket,
                           &(struct fault){.kind = FAULT_HANG, .op = op, .skip = late ? 0 : 1, .times = 1});
        room_fsync_begin(&room, handle, &sync);
        cr_assert(memory_store_await(room.bucket, op, NULL, 1));
        pthread_create(&renaming.thread, NULL, rename_directory, &renaming);
        usleep(50000);
        memory_store_unhang(room.bucket, 0, NULL);
        pthread_join(renaming.thread, NULL);
        room_sync_end(&sync);
        cr_assert_eq(room_close(&room, handle), 0);
        cr_assert_eq(drain(&room), 0);
        cr_assert_eq(renaming.rc, 0, "%d", renaming.rc);
        STRING_SCOPED *key = find_copy(&room, 0);
        BUF_SCOPED keys = BUF_INIT;
        tree_keys(&room, &keys);
        cr_assert(key && strncmp(key, "p/e/a.skyvol-conflict-", 22) == 0, "%d: %s", late, keys.bytes);
        cr_assert(room_object_holds(&room, key, 0, 1000, 2));
        cr_assert(room_object_holds(&room, "p/e/a", 0, 500, 3));
        cr_assert_eq(memory_store_object_count(room.bucket), 2, "%s", keys.bytes);
    }
}

/* ---- By the user's rule. ---- */

Test(conflict, remote_wins_gives_ours_up)
{
    for (int gaps = 0; gaps < 2; gaps++) {
        ROOM_SCOPED(room, (&(struct room_config){.conflict = CONFLICT_REMOTE_WINS}));
        struct handle *handle;
        put(&room, "p/a", 1000, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, gaps ? 10 : 1000, 2), 0);
        put(&room, "p/a", 500, 3);
        cr_assert_eq(room_fsync(&room, handle), -ESTALE);
        check_theirs(&room, 500);
        cr_assert_eq(room_write(&room, handle, 0, 10, 2), 0);
        cr_assert_eq(room_close(&room, handle), -ESTALE, "what goes nowhere is not said to be safe");
        check_theirs(&room, 500);
        cr_assert(room_await_no_local_file(&room));
        room_reopen(&room);
        cr_assert_eq(drain(&room), 0);
        cr_assert_eq(memory_store_object_count(room.bucket), 1);
    }
}

Test(conflict, local_wins_overwrites_theirs_with_what_is_whole)
{
    for (int gaps = 0; gaps < 2; gaps++) {
        ROOM_SCOPED(room, (&(struct room_config){.conflict = CONFLICT_LOCAL_WINS}));
        struct handle *handle;
        put(&room, "p/a", 1000, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, gaps ? 10 : 1000, 2), 0);
        put(&room, "p/a", 500, 3);
        cr_assert_eq(room_close(&room, handle), gaps ? -ESTALE : 0);
        cr_assert(room_object_holds(&room, "p/a", 0, gaps ? 500 : 1000, gaps ? 3 : 2));
        cr_assert_eq(memory_store_object_count(room.bucket), 1);
    }
}

/* ---- Whatever fails, and whenever the process dies. ---- */

static bool holds(struct room *room, const char *key, bool patched)
{
    if (!patched)
        return room_object_size(room, key) == 1000 && room_object_holds(room, key, 0, 1000, 2);
    return room_object_size(room, key) == 1000 && room_object_holds(room, key, 0, 100, 1) &&
           room_object_holds(room, key, 100, 110, 2) && room_object_holds(room, key, 110, 1000, 1);
}

Test(conflict, both_are_whole_whichever_call_fails)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        put(&room, "p/a", 1000, 1);
        cr_assert_eq(room_open(&room, "a", O_WRONLY, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 1000, 2), 0);
        put(&room, "p/a", 500, 3);
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        cr_assert_lt(room_fsync(&room, handle), 0);
        for (int i = 0; i < 3 && room_fsync(&room, handle) < 0; i++)
            ;
        cr_assert_eq(room_close(&room, handle), 0);
        STRING_SCOPED *key = find_copy(&room, 0);
        cr_assert(key && holds(&room, key, false), "rung %d", (int)n);
        bool struck = memory_store_fault_struck(room.bucket, rung);
        memory_store_faults_end(room.bucket);
        check_theirs(&room, 500);
        if (!struck) {
            cr_assert_gt(n, 3);
            return;
        }
    }
}

struct death {
    struct room *room;
    int hang; /* the fault */
};

static bool hangs(const struct death *death)
{
    return memory_store_fault_struck(death->room->bucket, death->hang) > 0;
}

static bool hangs_or_is_sent(void *context)
{
    struct death *death = context;
    struct cache_backlog backlog;
    cache_backlog(death->room->cache, &backlog);
    return hangs(death) || backlog.files == 0;
}

/* The nth call of the conflict hangs when the process dies. False: there are not so many. */
static bool die_at(struct room *room, uint64_t n, bool patched)
{
    struct handle *handle;
    struct room_sync sync;
    put(room, "p/a", 1000, 1);
    cr_assert_eq(room_open(room, "a", O_WRONLY, &handle), 0);
    cr_assert_eq(room_write(room, handle, patched ? 100 : 0, patched ? 10 : 1000, 2), 0);
    if (!patched)
        put(room, "p/a", 500, 3);
    else
        memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_MEANWHILE,
                                                         .op = STORE_PUT,
                                                         .times = 1,
                                                         .meanwhile = put_theirs,
                                                         .context = room});
    /* A patch: from behind the GET of its base, the PUT that is refused and the HEAD that settles it on. */
    struct fault fault = {.kind = FAULT_HANG, .skip = n - 1 + (patched ? 3 : 0)};
    struct death death = {room, memory_store_fault(room->bucket, &fault)};
    room_fsync_begin(room, handle, &sync);
    cr_assert(room_await(hangs_or_is_sent, &death));
    bool died = hangs(&death);
    room_crash(room);
    if (!cache_sync_interrupt(room->cache, &sync.sync))
        cr_assert_eq(room_sync_end(&sync), -ESTALE);
    cache_release(room->cache, handle);
    room_close_cache(room);
    memory_store_faults_end(room->bucket);
    return died;
}

Test(conflict, both_are_whole_whenever_the_process_dies)
{
    for (int patched = 0; patched < 2; patched++)
        for (uint64_t n = 1;; n++) {
            ROOM_SCOPED(room, NULL);
            bool died = die_at(&room, n, patched);
            room_reopen(&room);
            cr_assert_eq(drain(&room), 0, "rung %d", (int)n);
            STRING_SCOPED *key = find_copy(&room, 0), *other = find_copy(&room, 1);
            BUF_SCOPED keys = BUF_INIT;
            tree_keys(&room, &keys);
            cr_assert(key && holds(&room, key, patched), "rung %d of %d: %s", (int)n, patched, keys.bytes);
            cr_assert_null(other);
            check_theirs(&room, 500);
            if (!died) {
                cr_assert_gt(n, 3);
                break;
            }
        }
}
