#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "cache/content.h"
#include "cache/core.h"
#include "cache/recording.h"
#include "cache/xattr.h"
#include "tests/support/tree.h"

static int set_with(struct room *room, const char *path, const char *name, const char *value, int flags)
{
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);
    if (rc < 0)
        return rc;
    rc = value ? cache_xattr_set(room->cache, &room->waiter, entry.inode, name, value, strlen(value), flags)
               : cache_xattr_remove(room->cache, &room->waiter, entry.inode, name);
    inode_unref(entry.inode);
    return rc;
}

static int set(struct room *room, const char *path, const char *name, const char *value)
{
    return set_with(room, path, name, value, 0);
}

/* 0 and the value, or the error. */
static int get(struct room *room, const char *path, const char *name, struct buf *ret_value)
{
    struct entry entry;
    int rc = tree_lookup(room, path, &entry);
    buf_reset(ret_value);
    if (rc < 0)
        return rc;
    rc = cache_xattr_get(room->cache, &room->waiter, entry.inode, name, ret_value);
    inode_unref(entry.inode);
    return rc;
}

static bool has(struct room *room, const char *path, const char *name, const char *expected)
{
    BUF_SCOPED value = BUF_INIT;
    int rc = get(room, path, name, &value);
    bool same = rc == 0 && strcmp(value.bytes, expected) == 0;
    if (!same)
        fprintf(stderr, "%s of %s: %d, '%s'\n", name, path, rc, value.bytes);
    return same;
}

static int get_rc(struct room *room, const char *path, const char *name)
{
    BUF_SCOPED value = BUF_INIT;
    return get(room, path, name, &value);
}

/* "user.a user.b " */
static char *list(struct room *room, const char *path)
{
    struct entry entry;
    struct buf names = BUF_INIT;
    cr_assert_eq(tree_lookup(room, path, &entry), 0);
    cr_assert_eq(cache_xattr_list(room->cache, &room->waiter, entry.inode, &names), 0);
    inode_unref(entry.inode);
    for (size_t i = 0; i < names.length; i++)
        names.bytes[i] = names.bytes[i] ? names.bytes[i] : ' ';
    return buf_take(&names);
}

static void check_list(struct room *room, const char *path, const char *expected)
{
    STRING_SCOPED *names = list(room, path);
    cr_expect_str_eq(names, expected, "'%s'", names);
}

/* What of them stands in the bucket, "" nothing. */
static void check_object(struct room *room, const char *key, const char *name, const char *expected)
{
    struct store_object object;
    XATTRS_SCOPED xattrs;
    cr_assert(memory_store_peek(room->bucket, key, &object, NULL), "%s", key);
    xattrs_read(store_fields_get(&object.meta, XATTR_FIELD), &xattrs);
    const struct xattr *found = xattrs_find(&xattrs, name);
    cr_expect_str_eq(found ? found->value : "", expected, "%s: %s", key, name);
    store_object_release(&object);
}

#define FOREIGN "%7B%22user.a%22%3A%22aGVsbG8%3D%22%7D" /* user.a=hello */

Test(xattrs, of_objects_of_others_are_told_without_a_request)
{
    struct room_config config = {.bucket.list_meta = true};
    ROOM_SCOPED(room, &config);
    BUF_SCOPED listed = BUF_INIT;
    tree_put(&room, "p/f", "x", "xattr=" FOREIGN, NULL);
    tree_put(&room, "p/d/", "", "xattr=" FOREIGN, NULL);
    tree_put(&room, "p/plain", "x", NULL);
    cr_assert_eq(tree_list(&room, "", true, &listed), 0);
    size_t heads = memory_store_logged(room.bucket, STORE_HEAD, NULL);
    cr_expect(has(&room, "f", "user.a", "hello"));
    cr_expect(has(&room, "d", "user.a", "hello"));
    check_list(&room, "f", "user.a ");
    check_list(&room, "plain", "");
    cr_expect_eq(get_rc(&room, "plain", "user.a"), -ENODATA);
    cr_expect_eq(get_rc(&room, "plain", "security.capability"), -ENODATA);
    cr_expect_eq(get_rc(&room, "plain", "system.posix_acl_access"), -EOPNOTSUPP);
    cr_expect_eq(get_rc(&room, "plain", "trusted.a"), -EOPNOTSUPP);
    cr_expect_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), heads);
    cr_expect_eq(memory_store_logged(room.bucket, STORE_GET, NULL), 0);
}

Test(xattrs, of_what_is_known_are_told_without_a_look_at_the_server_however_old_that_is)
{
    struct room_config config = {.attr_ttl_ms = 1};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    BUF_SCOPED value = BUF_INIT;
    tree_put(&room, "p/f", "x", "xattr=" FOREIGN, NULL);
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    usleep(5000);
    cr_expect_eq(cache_xattr_get(room.cache, NULL, entry.inode, "user.a", &value), 0);
    cr_expect_str_eq(value.bytes, "hello");
    inode_unref(entry.inode);
}

Test(xattrs, are_in_the_bucket_when_the_call_returns_and_no_byte_is_sent_again)
{
    ROOM_SCOPED(room, NULL);
    tree_put(&room, "p/f", "bytes", "colour=blue", "xattr=" FOREIGN, NULL);
    cr_assert_eq(set(&room, "f", "user.b", "two"), 0);
    check_object(&room, "p/f", "user.a", "hello");
    check_object(&room, "p/f", "user.b", "two");
    cr_expect(tree_holds(&room, "p/f", "bytes"));
    cr_expect_eq(memory_store_logged(room.bucket, STORE_PUT, NULL), 0);
    cr_expect_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 1);
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
    cr_expect_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    store_object_release(&object);
    cr_assert_eq(set(&room, "f", "user.a", NULL), 0);
    cr_assert_eq(set(&room, "f", "user.b", NULL), 0);
    cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
    cr_expect_null(store_fields_get(&object.meta, "xattr"));
    store_object_release(&object);
    check_list(&room, "f", "");
}

Test(xattrs, of_a_directory_ride_on_its_marker_which_is_made)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/d/x", "x");
    cr_assert_eq(set(&room, "d", "user.a", "1"), 0);
    check_object(&room, "p/d/", "user.a", "1");
    cr_expect(has(&room, "d", "user.a", "1"));
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .times = 1, .rc = -EACCES});
    cr_expect_eq(set(&room, "d", "user.a", "2"), -EACCES);
    cr_expect(has(&room, "d", "user.a", "1"));
}

Test(xattrs, change_the_ctime_and_nothing_else)
{
    ROOM_SCOPED(room, NULL);
    struct attributes before, after;
    tree_put(&room, "p/f", "x", "mtime=1600000000", "ctime=1600000000", "mode=33152", NULL);
    cr_assert_eq(tree_stat(&room, "f", &before), 0);
    cr_assert_eq(set(&room, "f", "user.a", "1"), 0);
    cr_assert_eq(tree_stat(&room, "f", &after), 0);
    cr_expect_gt(after.ctime_ns, before.ctime_ns);
    cr_expect(after.mtime_ns == before.mtime_ns && after.mode == before.mode);
}

Test(xattrs, of_a_file_that_is_being_written_ride_on_its_next_upload)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(cache_write(room.cache, &room.waiter, handle, "x", 1, 0), 0);
    cr_assert_eq(cache_xattr_set(room.cache, NULL, room_inode(handle), "user.a", "1", 1, 0), 0);
    cr_expect_eq(memory_store_logged(room.bucket, STORE_PUT, NULL), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    check_object(&room, "p/f", "user.a", "1");
    cr_expect_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 0);
    cr_expect(has(&room, "f", "user.a", "1"));
}

Test(xattrs, stay_when_the_file_is_written_truncated_and_renamed)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_write(&room, "f", "first"), 0);
    cr_assert_eq(set(&room, "f", "user.a", "1"), 0);
    cr_assert_eq(tree_write(&room, "f", "second"), 0);
    check_object(&room, "p/f", "user.a", "1");
    cr_assert_eq(tree_rename(&room, "f", "g", 0), 0);
    assert_drained(&room);
    check_object(&room, "p/g", "user.a", "1");
    cr_expect(has(&room, "g", "user.a", "1"));
}

Test(xattrs, of_a_large_file_are_there_when_its_parts_are)
{
    struct room_config config = {.part_bytes = 5 << 20, .memory_bytes = (size_t)64 << 20};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 11 << 20, 1), 0);
    cr_assert_eq(cache_xattr_set(room.cache, &room.waiter, room_inode(handle), "user.a", "1", 1, 0), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_expect_gt(memory_store_logged(room.bucket, STORE_COMPLETE, NULL), 0);
    check_object(&room, "p/f", "user.a", "1");
}

Test(xattrs, of_existing_ones_flags_decide)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_write(&room, "f", "x"), 0);
    cr_expect_eq(set_with(&room, "f", "user.a", "1", XATTR_REPLACE), -ENODATA);
    cr_expect_eq(set_with(&room, "f", "user.a", "1", XATTR_CREATE), 0);
    cr_expect_eq(set_with(&room, "f", "user.a", "2", XATTR_CREATE), -EEXIST);
    cr_expect(has(&room, "f", "user.a", "1"));
    cr_expect_eq(set_with(&room, "f", "user.a", "3", XATTR_REPLACE), 0);
    cr_expect(has(&room, "f", "user.a", "3"));
    cr_expect_eq(set(&room, "f", "user.b", NULL), -ENODATA);
    cr_expect_eq(set(&room, "f", "user.\xff", "1"), -EILSEQ);
}

Test(xattrs, that_cannot_be_are_refused)
{
    ROOM_SCOPED(room, NULL);
    cr_assert_eq(tree_write(&room, "f", "x"), 0);
    cr_assert_eq(tree_symlink(&room, "l", "f"), 0);
    cr_expect_eq(set(&room, "f", "system.posix_acl_access", "1"), -EOPNOTSUPP);
    cr_expect_eq(set(&room, "f", "security.capability", "1"), -EOPNOTSUPP);
    cr_expect_eq(set(&room, "f", "security.capability", NULL), -EOPNOTSUPP);
    cr_expect_eq(set(&room, "f", "trusted.a", "1"), -EOPNOTSUPP);
    cr_expect_eq(set(&room, "f", "user.skyvol.key", "1"), -EPERM);
    cr_expect_eq(set(&room, "f", "user.skyvol.mine", "1"), -EPERM);
    cr_expect_eq(set(&room, "f", "user.skyvol.key", NULL), -EPERM);
    cr_expect_eq(set(&room, "l", "user.a", "1"), -EPERM);
    cr_expect_eq(cache_xattr_set(room.cache, &room.waiter, room.root, "user.a", "1", 1, 0), -EOPNOTSUPP);
    room.cache->config.read_only = true;
    cr_expect_eq(set(&room, "f", "user.a", "1"), -EROFS);
    cr_expect_eq(set(&room, "f", "user.a", NULL), -EROFS);
    check_list(&room, "f", "");
}

Test(xattrs, beyond_what_s3_takes_nothing_is_changed)
{
    ROOM_SCOPED(room, NULL);
    char value[1501];
    memset(value, 'v', sizeof value);
    value[1500] = '\0';
    cr_assert_eq(tree_write(&room, "f", "x"), 0);
    cr_assert_eq(set(&room, "f", "user.a", "1"), 0);
    cr_expect_eq(set(&room, "f", "user.b", value), -ENOSPC);
    value[1200] = '\0';
    cr_expect_eq(set(&room, "f", "user.b", value), 0);
    cr_expect_eq(set(&room, "f", "user.c", value), -ENOSPC);
    check_list(&room, "f", "user.a user.b ");
    check_object(&room, "p/f", "user.b", value);
    cr_expect_eq(set(&room, "f", "user.b", NULL), 0);
    cr_expect_eq(set(&room, "f", "user.c", value), 0);
}

Test(xattrs, that_cannot_be_read_are_kept_until_the_user_changes_one)
{
    ROOM_SCOPED(room, NULL);
    struct attributes mode = {.mode = 0600}, got;
    struct store_object object;
    struct entry entry;
    tree_put(&room, "p/f", "x", "xattr=not JSON at all", NULL);
    check_list(&room, "f", "");
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &mode, &got), 0);
    inode_unref(entry.inode);
    cr_assert_eq(tree_write(&room, "f", "other"), 0);
    cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
    cr_expect_str_eq(store_fields_get(&object.meta, "xattr"), "not JSON at all");
    store_object_release(&object);
    cr_assert_eq(set(&room, "f", "user.b", "2"), 0);
    check_object(&room, "p/f", "user.b", "2");
}

Test(xattrs, of_another_class_in_the_field_are_hidden_and_stay)
{
    ROOM_SCOPED(room, NULL);
    tree_put(&room, "p/f", "x",
             "xattr={\"system.posix_acl_access\":\"MQ==\",\"user.skyvol.key\":\"MQ==\",\"user.a\":\"MQ==\"}",
             NULL);
    check_list(&room, "f", "user.a ");
    cr_expect(has(&room, "f", "user.skyvol.key", "p/f"));
    cr_assert_eq(set(&room, "f", "user.b", "2"), 0);
    check_object(&room, "p/f", "system.posix_acl_access", "1");
    check_object(&room, "p/f", "user.b", "2");
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
    cr_expect_null(strstr(store_fields_get(&object.meta, "xattr"), "skyvol"));
    store_object_release(&object);
}

Test(xattrs, that_could_not_be_recorded_are_not_there)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    room.disk.spared = NULL; /* not the journal either */
    room_reopen(&room);
    tree_put(&room, "p/f", "x", "xattr=" FOREIGN, NULL);
    tree_put(&room, "p/d/", "", "xattr=" FOREIGN, NULL);
    cr_assert_eq(set(&room, "f", "user.b", "2"), 0);
    cr_assert_eq(set(&room, "d", "user.b", "2"), 0);
    assert_drained(&room);
    atomic_store(&room.disk.write_rc, -EIO);
    cr_expect_eq(set(&room, "f", "user.c", "3"), -EIO);
    cr_expect_eq(set(&room, "d", "user.c", "3"), -EIO);
    atomic_store(&room.disk.write_rc, 0);
    check_list(&room, "f", "user.a user.b ");
    check_list(&room, "d", "user.a user.b ");
    check_object(&room, "p/f", "user.c", "");
}

/* ---- What is virtual. ---- */

Test(xattrs, that_are_virtual_tell_of_the_object_and_are_not_listed)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct store_object object;
    memory_store_put_text(room.bucket, "p/f", "x");
    cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
    STRING_SCOPED *etag = xstrndup(object.etag + 1, strlen(object.etag) - 2);
    store_object_release(&object);
    cr_expect(has(&room, "f", "user.skyvol.etag", etag));
    cr_expect(has(&room, "f", "user.skyvol.key", "p/f"));
    cr_expect(has(&room, "f", "user.skyvol.state", "clean"));
    cr_expect(has(&room, "f", "user.skyvol.storage-class", "STANDARD"));
    cr_expect_eq(get_rc(&room, "f", "user.skyvol.nothing"), -ENODATA);
    check_list(&room, "f", "");
}

static bool is_parked(void *context)
{
    BUF_SCOPED state = BUF_INIT;
    cr_assert_eq(get(context, "f", "user.skyvol.state", &state), 0);
    return strncmp(state.bytes, "parked: ", 8) == 0 && state.length > 8;
}

Test(xattrs, of_what_has_not_gone_up_the_state_says_why)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), 0);
    cr_expect(has(&room, "f", "user.skyvol.state", "unsent"));
    cr_expect(has(&room, "f", "user.skyvol.key", "p/f"));
    cr_expect_eq(get_rc(&room, "f", "user.skyvol.etag"), -ENODATA);
    cr_expect_eq(get_rc(&room, "f", "user.skyvol.storage-class"), -ENODATA);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_PUT, .rc = -EACCES});
    cr_expect_eq(room_fsync(&room, handle), -EACCES);
    cr_expect(room_await(is_parked, &room));
    memory_store_faults_end(room.bucket);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_PUT});
    struct room_sync sync;
    room_fsync_begin(&room, handle, &sync);
    cr_assert(memory_store_await(room.bucket, STORE_PUT, "p/f", 1));
    cr_expect(has(&room, "f", "user.skyvol.state", "sending"));
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_expect_eq(room_sync_end(&sync), 0);
    cr_expect(has(&room, "f", "user.skyvol.state", "clean"));
    cr_assert_eq(room_close(&room, handle), 0);
}

/* ---- Behind, and after a crash. ---- */

Test(xattrs, that_go_up_behind_are_coalesced_and_told_meanwhile)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    char name[16];
    tree_put(&room, "p/f", "bytes", "xattr=" FOREIGN, NULL);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    for (int i = 0; i < 20; i++) {
        snprintf(name, sizeof name, "user.n%d", i);
        cr_assert_eq(set(&room, "f", name, "v"), 0);
        cr_expect(has(&room, "f", name, "v"));
        if (i == 0)
            cr_assert(memory_store_await(room.bucket, STORE_COPY, "p/f", 1));
    }
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    assert_drained(&room);
    check_object(&room, "p/f", "user.n0", "v");
    check_object(&room, "p/f", "user.n19", "v");
    check_object(&room, "p/f", "user.a", "hello");
    cr_expect_leq(memory_store_logged(room.bucket, STORE_COPY, NULL), 3);
    cr_expect(has(&room, "f", "user.n19", "v"));
}

static void check_after_crash(enum durability durability, bool directory)
{
    struct room_config config = {.durability = durability};
    ROOM_SCOPED(room, &config);
    const char *path = directory ? "d" : "f", *key = directory ? "p/d/" : "p/f";
    tree_put(&room, key, "", "xattr=" FOREIGN, "colour=blue", NULL);
    cr_assert_eq(tree_write(&room, "other", "x"), 0);
    assert_drained(&room);
    room_stop_server(&room);
    cr_assert_eq(set(&room, path, "user.b", "two"), 0);
    cr_assert_eq(set(&room, path, "user.a", NULL), 0);
    room_crash(&room);
    room_reopen(&room);
    check_list(&room, path, "user.b ");
    cr_expect(has(&room, path, "user.b", "two"));
    cr_expect(!has(&room, path, "user.skyvol.state", "clean"));
    room_start_server(&room);
    assert_drained(&room);
    check_object(&room, key, "user.b", "two");
    check_object(&room, key, "user.a", "");
    struct store_object object;
    cr_assert(memory_store_peek(room.bucket, key, &object, NULL));
    cr_expect_str_eq(store_fields_get(&object.meta, "colour"), "blue");
    store_object_release(&object);
    room_close_cache(&room);
    room_reopen(&room);
    check_list(&room, path, "user.b ");
}

Test(xattrs, that_were_not_sent_survive_the_death_of_the_process)
{
    check_after_crash(DURABILITY_WRITEBACK, false);
    check_after_crash(DURABILITY_LOCAL, false);
}

Test(xattrs, of_a_directory_survive_it_too)
{
    check_after_crash(DURABILITY_WRITEBACK, true);
}

Test(xattrs, of_a_new_file_survive_it_under_its_last_name)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    room_stop_server(&room);
    cr_assert_eq(tree_write(&room, "f", "bytes"), 0);
    cr_assert_eq(set(&room, "f", "user.a", "1"), 0);
    cr_assert_eq(tree_rename(&room, "f", "g", 0), 0);
    room_crash(&room);
    room_reopen(&room);
    cr_expect(has(&room, "g", "user.a", "1"));
    room_start_server(&room);
    assert_drained(&room);
    check_object(&room, "p/g", "user.a", "1");
    cr_expect(tree_holds(&room, "p/g", "bytes"));
}

Test(xattrs, of_a_large_file_survive_with_its_parts)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .part_bytes = 5 << 20};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "f", &handle), 0);
    cr_assert_eq(cache_xattr_set(room.cache, &room.waiter, room_inode(handle), "user.a", "1", 1, 0), 0);
    cr_assert_eq(room_write(&room, handle, 0, 11 << 20, 1), 0);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COMPLETE});
    cr_assert_eq(room_flush(&room, handle), 0);
    cache_release(room.cache, handle);
    cr_assert(memory_store_await(room.bucket, STORE_COMPLETE, "p/f", 1));
    room_crash(&room);
    size_t parts = memory_store_logged(room.bucket, STORE_PART, "p/f");
    room_reopen(&room);
    cr_expect(has(&room, "f", "user.a", "1"));
    assert_drained(&room);
    cr_expect_eq(memory_store_logged(room.bucket, STORE_PART, "p/f"), parts, "it went on");
    check_object(&room, "p/f", "user.a", "1");
    cr_expect(has(&room, "f", "user.a", "1"));
}

/* Also where they were wanted before the journal had heard of the file. */
Test(xattrs, are_said_when_an_account_is_opened)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    tree_put(&room, "p/f", "x", NULL);
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    lock_take(&room.cache->names.lock);
    lock_take(&entry.inode->lock);
    entry.inode->wanted.xattrs = xstrdup(FOREIGN);
    entry.inode->wanted.attribute_version++;
    cr_assert_eq(recording_open_locked(entry.inode), 0);
    lock_drop(&entry.inode->lock);
    lock_drop(&room.cache->names.lock);
    inode_unref(entry.inode);
    room_crash(&room);
    room_reopen(&room);
    cr_expect(has(&room, "f", "user.a", "hello"));
    assert_drained(&room);
    check_object(&room, "p/f", "user.a", "hello");
}

Test(xattrs, of_an_unlinked_open_file_stay_here)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    BUF_SCOPED value = BUF_INIT;
    cr_assert_eq(tree_write(&room, "f", "x"), 0);
    assert_drained(&room);
    cr_assert_eq(tree_open(&room, "f", O_RDWR, &handle), 0);
    cr_assert_eq(tree_unlink(&room, "f"), 0);
    cr_expect_eq(cache_xattr_set(room.cache, &room.waiter, room_inode(handle), "user.a", "1", 1, 0), 0);
    cr_expect_eq(cache_xattr_get(room.cache, &room.waiter, room_inode(handle), "user.a", &value), 0);
    cr_expect_str_eq(value.bytes, "1");
    cache_release(room.cache, handle);
    assert_drained(&room);
    cr_expect_not(memory_store_has(room.bucket, "p/f"));
}

Test(xattrs, that_meet_a_foreign_version_go_onto_it)
{
    struct room_config config = {.attr_ttl_ms = 100000};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    tree_put(&room, "p/f", "old", "xattr=" FOREIGN, NULL);
    cr_assert_eq(tree_lookup(&room, "f", &entry), 0);
    tree_put(&room, "p/f", "foreign version", "xattr={\"user.x\":\"MQ==\"}", NULL);
    cr_expect_eq(cache_xattr_set(room.cache, &room.waiter, entry.inode, "user.b", "2", 1, 0), 0);
    inode_unref(entry.inode);
    cr_expect(tree_holds(&room, "p/f", "foreign version"));
    check_object(&room, "p/f", "user.x", "1");
    check_object(&room, "p/f", "user.b", "2");
    check_object(&room, "p/f", "user.a", "");
}

/* attributes=listing: the metadata are asked for before they are changed, so that what others wrote stays. */
Test(xattrs, where_listings_do_not_tell_are_asked_for_before_they_are_changed)
{
    ROOM_SCOPED(room, NULL);
    BUF_SCOPED listed = BUF_INIT;
    tree_put(&room, "p/f", "x", "xattr=" FOREIGN, "colour=blue", NULL);
    room.cache->config.list_attributes_only = true;
    cr_assert_eq(tree_list(&room, "", true, &listed), 0);
    check_list(&room, "f", "");
    cr_assert_eq(set(&room, "f", "user.b", "2"), 0);
    check_object(&room, "p/f", "user.a", "hello");
    check_object(&room, "p/f", "user.b", "2");
    check_list(&room, "f", "user.a user.b ");
}

/* ---- Another file of the same name. ---- */

/* The new one is open while the old one's object is met: it stands under its name from then on. */
Test(xattrs, a_new_file_takes_over_none_of_the_one_that_had_its_name)
{
    for (int way = 0; way < 4; way++) {
        bool replaced = way & 1, killed = way & 2;
        ROOM_SCOPED(room, &(struct room_config){.durability = DURABILITY_WRITEBACK});
        struct handle *handle;
        struct store_object object = {0};
        cr_assert_eq(tree_write(&room, "f", "old"), 0);
        cr_assert_eq(set(&room, "f", "user.sum", "OLD"), 0);
        assert_drained(&room);
        if (!replaced)
            cr_assert_eq(tree_unlink(&room, "f"), 0);
        cr_assert_eq(room_create(&room, replaced ? "t" : "f", &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 100, 1), 0);
        if (replaced)
            cr_assert_eq(tree_rename(&room, "t", "f", 0), 0);
        usleep(300000); /* the deleter meets it */
        cr_assert_eq(get_rc(&room, "f", "user.sum"), -ENODATA);
        if (killed)
            room_crash(&room);
        cr_assert_eq(room_close(&room, handle), 0);
        if (killed)
            room_reopen(&room);
        assert_drained(&room);
        cr_assert_eq(get_rc(&room, "f", "user.sum"), -ENODATA);
        cr_assert(memory_store_peek(room.bucket, "p/f", &object, NULL));
        cr_assert_null(store_fields_get(&object.meta, "xattr"));
        store_object_release(&object);
    }
}
