/* Where symlinks point to: told from memory before they went up, survives, and what other clients stored as one is data. */
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/support/room.h"
#include "tests/support/tree.h"

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static bool points_to(struct room *room, const char *path, const char *target)
{
    char *found;
    int rc = tree_readlink(room, path, &found);
    bool same = rc == 0 && strcmp(found, target) == 0;
    if (!same)
        fprintf(stderr, "%s: %d, %s\n", path, rc, found ? found : "nothing");
    free(found);
    return same;
}

static void expect_link(struct room *room, const char *key, const char *target)
{
    struct store_object object;
    cr_assert(tree_holds(room, key, target));
    cr_assert(memory_store_peek(room->bucket, key, &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "41471");
    store_object_release(&object);
}

static void expect_nothing_unsent(struct room *room)
{
    struct cache_backlog backlog;
    cache_backlog(room->cache, &backlog);
    cr_assert_eq(backlog.files, 0);
}

/* ---- Made here. ---- */

Test(target, a_link_is_there_before_the_server_heard_of_it)
{
    ROOM_SCOPED(room, &behind);
    struct attributes attributes;
    room_stop_server(&room);
    cr_assert_eq(tree_symlink(&room, "l", "../some/where"), 0);
    cr_assert(points_to(&room, "l", "../some/where"));
    cr_assert_eq(tree_stat(&room, "l", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFLNK | 0777);
    cr_assert_eq(attributes.size, 13);
    assert_list(&room, "", true, "l@ ");
    cr_assert_eq(tree_symlink(&room, "l", "x"), -EEXIST);
    room_start_server(&room);
    assert_drained(&room);
    expect_link(&room, "p/l", "../some/where");
    cr_assert(points_to(&room, "l", "../some/where"));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, NULL), 0);
}

Test(target, what_is_known_to_be_free_needs_no_waiter)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .commit_ms = 100};
    ROOM_SCOPED(room, &config);
    struct maker maker = {.mode = 0777, .process = ROOM_PROCESS};
    struct entry entry;
    char *target;
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    struct inode *parent = entry.inode;
    cr_assert_eq(cache_symlink(room.cache, NULL, parent, "l", "t", &maker, &entry), 0);
    cr_assert_eq(cache_readlink(room.cache, NULL, entry.inode, &target), 0);
    cr_assert_str_eq(target, "t");
    free(target);
    inode_unref(entry.inode);
    inode_unref(parent);
}

Test(target, a_kill_before_it_went_up_loses_nothing)
{
    ROOM_SCOPED(room, &behind);
    struct attributes attributes;
    room_stop_server(&room);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_symlink(&room, "d/l", "there"), 0);
    room_crash(&room);
    room_reopen(&room);
    room_stop_server(&room);
    cr_assert(points_to(&room, "d/l", "there"));
    cr_assert_eq(tree_stat(&room, "d/l", &attributes), 0);
    cr_assert_eq(attributes.size, 5);
    room_start_server(&room);
    assert_drained(&room);
    expect_link(&room, "p/d/l", "there");
    room_reopen(&room);
    expect_nothing_unsent(&room);
    cr_assert(points_to(&room, "d/l", "there"));
}

Test(target, renamed_before_it_went_up_it_goes_once_under_its_last_name)
{
    for (int killed = 0; killed < 2; killed++) {
        ROOM_SCOPED(room, &behind);
        room_stop_server(&room);
        cr_assert_eq(tree_write(&room, "b", "replaced"), 0);
        cr_assert_eq(tree_symlink(&room, "a", "there"), 0);
        cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
        cr_assert(points_to(&room, "b", "there"));
        if (killed) {
            room_crash(&room);
            room_reopen(&room);
        } else {
            room_start_server(&room);
        }
        assert_drained(&room);
        assert_keys(&room, "p/b ");
        expect_link(&room, "p/b", "there");
        cr_assert(points_to(&room, "b", "there"));
    }
}

Test(target, unlinked_before_it_went_up_nothing_of_it_stays)
{
    for (int killed = 0; killed < 2; killed++) {
        ROOM_SCOPED(room, &behind);
        room_stop_server(&room);
        cr_assert_eq(tree_symlink(&room, "a", "there"), 0);
        cr_assert_eq(tree_unlink(&room, "a"), 0);
        if (killed) {
            room_crash(&room);
            room_reopen(&room);
        } else {
            room_start_server(&room);
        }
        assert_drained(&room);
        assert_keys(&room, "");
        expect_nothing_unsent(&room);
    }
}

Test(target, in_a_directory_that_is_renamed_it_goes_along)
{
    ROOM_SCOPED(room, &behind);
    room_stop_server(&room);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_symlink(&room, "d/l", "there"), 0);
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    cr_assert(points_to(&room, "e/l", "there"));
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/e/ p/e/l ");
    expect_link(&room, "p/e/l", "there");
}

Test(target, its_owner_and_times_ride_along)
{
    ROOM_SCOPED(room, &behind);
    struct attributes wanted = {.uid = 77, .mtime_ns = INT64_C(1500000000000000000)}, now;
    struct store_object object;
    struct entry entry;
    room_stop_server(&room);
    cr_assert_eq(tree_symlink(&room, "l", "there"), 0);
    cr_assert_eq(tree_lookup(&room, "l", &entry), 0);
    cr_assert_eq(
        cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_UID | SET_MTIME, &wanted, &now),
        0);
    inode_unref(entry.inode);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    expect_link(&room, "p/l", "there");
    cr_assert(memory_store_peek(room.bucket, "p/l", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "uid"), "77");
    cr_assert_str_eq(store_fields_get(&object.meta, "mtime"), "1500000000");
    store_object_release(&object);
}

static void expect_both(struct room *room)
{
    BUF_SCOPED keys = BUF_INIT;
    memory_store_keys(room->bucket, &keys);
    char *aside = strstr(keys.bytes, "p/l.skyvol-conflict-");
    cr_assert(aside, "no conflict copy among %s", keys.bytes);
    *strchr(aside, '\n') = '\0';
    expect_link(room, aside, "ours");
    cr_assert(tree_holds(room, "p/l", "theirs"));
}

Test(target, another_clients_object_is_not_overwritten_and_ours_is_kept_beside_it)
{
    for (int killed = 0; killed < 2; killed++) {
        ROOM_SCOPED(room, &behind);
        room_stop_server(&room);
        cr_assert_eq(tree_symlink(&room, "l", "ours"), 0);
        if (killed)
            room_crash(&room);
        memory_store_put_text(room.bucket, "p/l", "theirs");
        if (killed)
            room_reopen(&room);
        else
            room_start_server(&room);
        assert_drained(&room);
        expect_both(&room);
    }
}

static bool second_stands(void *context)
{
    return tree_holds(context, "p/l", "second");
}

/* The first one's object was overwritten by the second's, which nobody answered: the third must not take itself for that one's heir. */
Test(target, over_one_of_two_that_were_removed_before_a_kill)
{
    ROOM_SCOPED(room, &behind);
    cr_assert_eq(tree_symlink(&room, "l", "first"), 0);
    assert_drained(&room);
    int away = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_DELETE_MANY});
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_PUT});
    cr_assert_eq(tree_unlink(&room, "l"), 0);
    while (!memory_store_fault_struck(room.bucket, away))
        usleep(1000);
    cr_assert_eq(tree_symlink(&room, "l", "second"), 0);
    cr_assert(room_await(second_stands, &room));
    cr_assert_eq(tree_unlink(&room, "l"), 0);
    cr_assert_eq(tree_symlink(&room, "l", "third"), 0);
    room_crash(&room);
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "p/l ");
    expect_link(&room, "p/l", "third");
}

Test(target, a_kill_while_its_name_moves_forgets_nothing)
{
    ROOM_SCOPED(room, &behind);
    cr_assert_eq(tree_symlink(&room, "a", "there"), 0);
    assert_drained(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    room_crash(&room);
    memory_store_remove(room.bucket, "p/a");
    room_reopen(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    expect_link(&room, "p/b", "there");
    cr_assert(points_to(&room, "b", "there"));
}

Test(target, one_whose_object_went_while_its_name_moved_is_made_anew)
{
    ROOM_SCOPED(room, &behind);
    cr_assert_eq(tree_symlink(&room, "a", "there"), 0);
    assert_drained(&room);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    memory_store_remove(room.bucket, "p/a");
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    expect_link(&room, "p/b", "there");
}

Test(target, whatever_call_fails_a_link_goes_up)
{
    for (uint64_t n = 1;; n++) {
        ROOM_SCOPED(room, &behind);
        int rung = memory_store_fail_nth(room.bucket, n, -EIO);
        int rc = tree_symlink(&room, "l", "there");
        cr_assert(rc == 0 || rc == -EIO);
        if (rc < 0)
            cr_assert_eq(tree_symlink(&room, "l", "there"), 0);
        assert_drained(&room);
        expect_link(&room, "p/l", "there");
        if (!memory_store_fault_struck(room.bucket, rung))
            break;
    }
}

Test(target, in_sync_it_stands_in_the_bucket_when_the_call_returns)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_symlink(&room, "l", "there"), 0);
    expect_link(&room, "p/l", "there");
    cr_assert(points_to(&room, "l", "there"));
}

/* ---- Stored by others. ---- */

static char warned[512];

static void hear_warning(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level == LOG_LEVEL_WARN)
        snprintf(warned, sizeof warned, "%s", line);
}

Test(target, what_another_client_put_in_its_place_is_read_there)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 1};
    ROOM_SCOPED(room, &config);
    cr_assert_eq(tree_symlink(&room, "l", "ours"), 0);
    assert_drained(&room);
    tree_put(&room, "p/l", "theirs", "mode=41471", NULL);
    usleep(5000);
    cr_assert(points_to(&room, "l", "theirs"));
    cr_assert_eq(tree_rename(&room, "l", "m", 0), 0);
    assert_drained(&room);
    expect_link(&room, "p/m", "theirs");
}

Test(target, bodies_that_are_no_target_are_refused_in_a_line_and_not_fetched)
{
    ROOM_SCOPED(room, NULL);
    static char bytes[1 << 20];
    static const struct {
        size_t size, nul;
        int rc;
        uint64_t gets;
        const char *words;
    } rows[] = {
        {0, 1, -EIO, 0, "is empty"},
        {5, 2, -EIO, 1, "NUL"},
        {5, 4, -EIO, 1, "NUL"},
        {4095, SIZE_MAX, 0, 1, NULL},
        {4096, SIZE_MAX, -EIO, 0, "longer than a path"},
        {sizeof bytes, SIZE_MAX, -EIO, 0, "longer than a path"},
    };
    struct store_fields meta = {0};
    store_fields_add(&meta, "mode", "41471");
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char key[16];
        memset(bytes, 'x', sizeof bytes);
        if (rows[i].nul < sizeof bytes)
            bytes[rows[i].nul] = 0;
        snprintf(key, sizeof key, "p/l%zu", i);
        memory_store_put(room.bucket, key, bytes, rows[i].size, &meta, NULL);
    }
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char name[16], *target;
        struct attributes attributes;
        snprintf(name, sizeof name, "l%zu", i);
        cr_assert_eq(tree_stat(&room, name, &attributes), 0);
        cr_assert_eq(attributes.mode & S_IFMT, S_IFLNK);
        cr_assert_eq(attributes.size, rows[i].size);
        memory_store_log_clear(room.bucket);
        warned[0] = 0;
        log_tap(hear_warning, NULL);
        cr_assert_eq(tree_readlink(&room, name, &target), rows[i].rc, "row %zu", i);
        log_tap(NULL, NULL);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_GET, NULL), rows[i].gets, "row %zu", i);
        cr_assert(rows[i].words ? strstr(warned, rows[i].words) != NULL : !warned[0], "row %zu: %s", i,
                  warned);
        cr_assert_eq(rows[i].rc == 0 ? strlen(target) : 0, rows[i].rc == 0 ? rows[i].size : 0);
        free(target);
        cr_assert_eq(tree_unlink(&room, name), 0);
    }
    store_fields_release(&meta);
}
