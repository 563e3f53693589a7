/* Fifos, sockets and device nodes: empty objects, whose metadata say what they are. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/support/room.h"
#include "tests/support/tree.h"

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static const struct {
    const char *name;
    uint32_t type;
    uint64_t device;
    const char *mode, *numbers;
} kinds[] = {
    {"fifo", S_IFIFO, 0, "4512", NULL},      {"socket", S_IFSOCK, 0, "49568", NULL},
    {"char", S_IFCHR, 0x103, "8608", "1:3"}, {"block", S_IFBLK, 0x801, "24992", "8:1"},
    {"whiteout", S_IFCHR, 0, "8608", NULL},
};
#define KINDS (sizeof kinds / sizeof kinds[0])

static void make_all(struct room *room)
{
    for (size_t i = 0; i < KINDS; i++)
        cr_assert_eq(tree_mknod(room, kinds[i].name, kinds[i].type, kinds[i].device), 0);
}

static void expect_there(struct room *room, const char *path, size_t i)
{
    struct attributes attributes;
    cr_assert_eq(tree_stat(room, path, &attributes), 0, "%s", path);
    cr_assert_eq(attributes.mode, kinds[i].type | 0640, "%s: %o", path, attributes.mode);
    cr_assert_eq(attributes.device, kinds[i].device, "%s: %lx", path, (unsigned long)attributes.device);
    cr_assert_eq(attributes.size, 0);
    cr_assert(attributes.uid == 1 && attributes.gid == 2);
}

static void expect_stored(struct room *room, const char *key, size_t i)
{
    struct store_object object;
    cr_assert(memory_store_peek(room->bucket, key, &object, NULL), "%s", key);
    const char *numbers = store_fields_get(&object.meta, "rdev");
    cr_assert_eq(object.size, 0);
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), kinds[i].mode);
    cr_assert_str_eq(numbers ? numbers : "none", kinds[i].numbers ? kinds[i].numbers : "none");
    store_object_release(&object);
}

static void expect_all(struct room *room)
{
    char key[32];
    for (size_t i = 0; i < KINDS; i++) {
        snprintf(key, sizeof key, "p/%s", kinds[i].name);
        expect_stored(room, key, i);
        expect_there(room, kinds[i].name, i);
    }
    assert_list(room, "", true, "block| char| fifo| socket| whiteout| ");
}

Test(special, all_kinds_are_there_before_the_server_heard_of_them)
{
    ROOM_SCOPED(room, &behind);
    room_stop_server(&room);
    make_all(&room);
    for (size_t i = 0; i < KINDS; i++) {
        expect_there(&room, kinds[i].name, i);
        cr_assert_eq(tree_mknod(&room, kinds[i].name, S_IFIFO, 0), -EEXIST);
    }
    room_start_server(&room);
    assert_drained(&room);
    expect_all(&room);
}

Test(special, in_sync_they_stand_in_the_bucket_when_the_call_returns)
{
    ROOM_SCOPED(room, NULL);
    make_all(&room);
    expect_all(&room);
}

Test(special, a_kill_before_they_went_up_loses_nothing)
{
    ROOM_SCOPED(room, &behind);
    room_stop_server(&room);
    make_all(&room);
    room_crash(&room);
    room_reopen(&room);
    room_stop_server(&room);
    for (size_t i = 0; i < KINDS; i++)
        expect_there(&room, kinds[i].name, i);
    room_start_server(&room);
    assert_drained(&room);
    expect_all(&room);
}

Test(special, a_mount_with_an_empty_cache_sees_them)
{
    for (int listed = 0; listed < 2; listed++) {
        struct room_config config = {.bucket = {.list_meta = listed}};
        ROOM_SCOPED(room, &config);
        make_all(&room);
        room_reopen(&room);
        expect_all(&room);
    }
}

/* The numbers stay where only the mode is changed, and where the name moves. */
Test(special, chmod_and_rename_keep_what_they_are)
{
    for (int killed = 0; killed < 2; killed++) {
        ROOM_SCOPED(room, &behind);
        make_all(&room);
        assert_drained(&room);
        room_reopen(&room);
        room_stop_server(&room);
        for (size_t i = 0; i < KINDS; i++) {
            struct attributes wanted = {.mode = 0640, .uid = 1}, now;
            struct entry entry;
            char moved[32];
            cr_assert_eq(tree_lookup(&room, kinds[i].name, &entry), 0);
            cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE | SET_UID,
                                              &wanted, &now),
                         0);
            inode_unref(entry.inode);
            snprintf(moved, sizeof moved, "%s.2", kinds[i].name);
            cr_assert_eq(tree_rename(&room, kinds[i].name, moved, 0), 0);
        }
        if (killed) {
            room_crash(&room);
            room_reopen(&room);
        } else {
            room_start_server(&room);
        }
        assert_drained(&room);
        for (size_t i = 0; i < KINDS; i++) {
            char key[32];
            snprintf(key, sizeof key, "p/%s.2", kinds[i].name);
            expect_stored(&room, key, i);
            expect_there(&room, key + 2, i);
        }
        assert_list(&room, "", true, "block.2| char.2| fifo.2| socket.2| whiteout.2| ");
    }
}

Test(special, removed_they_are_gone)
{
    ROOM_SCOPED(room, &behind);
    make_all(&room);
    cr_assert_eq(tree_unlink(&room, "fifo"), 0);
    cr_assert_eq(tree_rename(&room, "char", "block", 0), 0);
    assert_drained(&room);
    expect_stored(&room, "p/block", 2);
    assert_keys(&room, "p/block p/socket p/whiteout ");
}

Test(special, they_are_not_opened_here)
{
    ROOM_SCOPED(room, &behind);
    struct maker maker = {.mode = 0600, .process = ROOM_PROCESS};
    struct attributes wanted = {.size = 5}, now;
    struct handle *handle;
    struct entry entry;
    make_all(&room);
    for (size_t i = 0; i < KINDS; i++) {
        cr_assert_eq(tree_open(&room, kinds[i].name, O_RDWR, &handle), -ENXIO);
        cr_assert_eq(
            cache_create(room.cache, &room.waiter, room.root, kinds[i].name, O_RDWR, &maker, &entry, &handle),
            -ESTALE, "the kernel looks again, and opens it itself");
        cr_assert_eq(cache_create(room.cache, &room.waiter, room.root, kinds[i].name, O_RDWR | O_EXCL, &maker,
                                  &entry, &handle),
                     -EEXIST);
        cr_assert_eq(tree_lookup(&room, kinds[i].name, &entry), 0);
        cr_assert_eq(
            cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_SIZE, &wanted, &now),
            -EINVAL);
        inode_unref(entry.inode);
    }
    cr_assert_eq(tree_mknod(&room, "x", S_IFREG, 0), -EINVAL);
    cr_assert_eq(tree_mknod(&room, "x", S_IFDIR, 0), -EINVAL);
}

Test(special, another_kind_in_its_place_is_a_new_node)
{
    struct room_config config = {.attr_ttl_ms = 1};
    ROOM_SCOPED(room, &config);
    struct entry before, after;
    cr_assert_eq(tree_mknod(&room, "fifo", S_IFIFO, 0), 0);
    cr_assert_eq(tree_lookup(&room, "fifo", &before), 0);
    static const char *const modes[] = {"mode=49568", "mode=33188", "mode=41471"};
    for (size_t i = 0; i < 3; i++) {
        tree_put(&room, "p/fifo", i ? "x" : "", modes[i], NULL);
        usleep(5000);
        cr_assert_eq(tree_lookup(&room, "fifo", &after), 0);
        cr_assert_neq(after.id, before.id);
        cr_assert_eq(before.attributes.number, after.attributes.number);
        cr_assert_eq(after.attributes.mode & S_IFMT, (uint32_t)atoi(modes[i] + 5) & S_IFMT);
        inode_unref(before.inode);
        before = after;
    }
    inode_unref(before.inode);
}

Test(special, foreign_devices_without_numbers_are_device_zero_and_stay_so)
{
    ROOM_SCOPED(room, &behind);
    struct attributes wanted = {.mode = 0600}, now;
    struct store_object object;
    struct entry entry;
    tree_put(&room, "p/d", "", "mode=8630", NULL);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(entry.attributes.mode, S_IFCHR | 0666);
    cr_assert_eq(entry.attributes.device, 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    assert_drained(&room);
    cr_assert(memory_store_peek(room.bucket, "p/d", &object, NULL));
    cr_assert_str_eq(store_fields_get(&object.meta, "mode"), "8576");
    cr_assert_null(store_fields_get(&object.meta, "rdev"));
    store_object_release(&object);
}

Test(special, what_calls_itself_a_fifo_and_has_bytes_is_a_file)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    tree_put(&room, "p/f", "precious", "mode=4516", NULL);
    cr_assert_eq(tree_open(&room, "f", O_RDONLY, &handle), 0);
    cache_release(room.cache, handle);
    assert_list(&room, "", true, "f ");
}
