/* Tags of objects outlive what is done here to their files: whoever writes an object anew gives them along. */
#include "cache/tagging.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "tests/support/tree.h"

#define MIB  ((uint64_t)1 << 20)
#define TAGS "colour=blue&a key=1+1"

static const struct room_config behind = {.durability = DURABILITY_WRITEBACK, .attr_ttl_ms = 60000};

static void put_tagged(struct room *room, const char *key, const char *text)
{
    memory_store_put_text(room->bucket, key, text);
    memory_store_tag(room->bucket, key, TAGS);
}

static void put_large(struct room *room, const char *key, uint64_t size)
{
    char *bytes = xmalloc(size);
    for (uint64_t i = 0; i < size; i++)
        bytes[i] = room_byte(1, i);
    memory_store_put(room->bucket, key, bytes, size, NULL, NULL);
    memory_store_tag(room->bucket, key, TAGS);
    free(bytes);
}

#define assert_tags(room, key, expected)                                                                     \
    do {                                                                                                     \
        BUF_SCOPED tags_now = BUF_INIT;                                                                      \
        memory_store_tags((room)->bucket, key, &tags_now);                                                   \
        cr_assert_str_eq(tags_now.length ? tags_now.bytes : "", expected);                                   \
    } while (0)

static size_t count_asked(struct room *room)
{
    return memory_store_logged(room->bucket, STORE_GET_TAGS, NULL);
}

static int rewrite(struct room *room, const char *path, int flags, uint64_t offset, size_t size)
{
    struct handle *handle;
    int rc = tree_open(room, path, O_RDWR | flags, &handle);
    if (rc < 0)
        return rc;
    rc = room_write(room, handle, offset, size, 2);
    int closed = room_close(room, handle);
    return rc ? rc : closed;
}

/* ---- PUT. ---- */

Test(tagging, a_small_file_keeps_them_written_anew_or_in_part_again_and_again)
{
    static const int flags[] = {O_TRUNC, 0, O_APPEND};
    ROOM_SCOPED(room, NULL);
    put_tagged(&room, "p/a", "0123456789");
    for (size_t i = 0; i < 3; i++) {
        cr_assert_eq(rewrite(&room, "a", flags[i], 2, 5), 0);
        assert_tags(&room, "p/a", TAGS);
        cr_assert_eq(count_asked(&room), i + 1);
    }
}

Test(tagging, what_has_none_costs_no_request)
{
    ROOM_SCOPED(room, NULL);
    memory_store_put_text(room.bucket, "p/a", "text");
    cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, 5), 0);
    cr_assert_eq(rewrite(&room, "a", 0, 3, 5), 0);
    cr_assert_eq(tree_write(&room, "b", "new"), 0);
    cr_assert_eq(rewrite(&room, "b", O_TRUNC, 0, 20 * MIB), 0);
    cr_assert_eq(tree_mkdir(&room, "d"), 0);
    cr_assert_eq(tree_rename(&room, "b", "d/b", 0), 0);
    cr_assert_eq(count_asked(&room), 0);
}

Test(tagging, another_file_of_the_same_name_has_none)
{
    ROOM_SCOPED(room, NULL);
    put_tagged(&room, "p/a", "one");
    put_tagged(&room, "p/b", "two");
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_write(&room, "a", "other"), 0);
    assert_tags(&room, "p/a", "");
    cr_assert_eq(tree_write(&room, "c", "other"), 0);
    cr_assert_eq(tree_rename(&room, "c", "b", 0), 0);
    assert_tags(&room, "p/b", "");
    cr_assert_eq(rewrite(&room, "b", O_TRUNC, 0, 5), 0);
    assert_tags(&room, "p/b", "");
    cr_assert_eq(count_asked(&room), 0);
}

Test(tagging, those_that_another_client_set_on_what_is_known_are_kept_when_it_was_looked_at_since)
{
    struct room_config config = {.attr_ttl_ms = 1};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    cr_assert_eq(tree_write(&room, "a", "ours"), 0);
    memory_store_tag(room.bucket, "p/a", TAGS);
    usleep(5000);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, 5), 0);
    assert_tags(&room, "p/a", TAGS);
    memory_store_tag(room.bucket, "p/a", "");
    usleep(5000);
    cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, 5), 0);
    assert_tags(&room, "p/a", "");
    cr_assert_eq(count_asked(&room), 1);
}

Test(tagging, a_directory_keeps_them)
{
    ROOM_SCOPED(room, NULL);
    struct entry entry;
    struct attributes wanted = {.mode = 0700}, now;
    put_tagged(&room, "p/d/", "");
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    assert_tags(&room, "p/d/", TAGS);
}

/* ---- Parts. ---- */

Test(tagging, a_large_file_keeps_them_written_anew_or_in_part)
{
    static const int flags[] = {O_TRUNC, 0};
    struct room_config config = {.part_bytes = 5 * MIB};
    for (size_t i = 0; i < 2; i++) {
        ROOM_SCOPED(room, &config);
        put_large(&room, "p/a", 21 * MIB);
        cr_assert_eq(rewrite(&room, "a", flags[i], 1000, i ? 1000 : 12 * MIB), 0);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 1);
        cr_assert_eq(memory_store_logged(room.bucket, STORE_PART_COPY, "p/a") > 0, i == 1);
        cr_assert(room_object_holds(&room, "p/a", 1000, 2000, 2));
        assert_tags(&room, "p/a", TAGS);
    }
}

Test(tagging, a_file_that_grew_over_one_part_keeps_them)
{
    ROOM_SCOPED(room, NULL);
    put_tagged(&room, "p/a", "small");
    cr_assert_eq(rewrite(&room, "a", 0, 5, 20 * MIB), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_CREATE, "p/a"), 1);
    assert_tags(&room, "p/a", TAGS);
}

/* ---- Under other names. ---- */

static void refuse_large_copies(struct room *room)
{
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .rc = -EFBIG});
}

Test(tagging, a_renamed_file_keeps_them_copied_at_once_or_by_parts)
{
    for (int durability = DURABILITY_SYNC; durability <= DURABILITY_WRITEBACK; durability++) {
        for (int way = 0; way < 3; way++) { /* at once, since it is large, since the endpoint says so */
            struct room_config config = {.durability = (enum durability)durability,
                                         .bucket.part_bytes_min = 1,
                                         .copy_bytes_max = way == 1 ? 8 : 0};
            ROOM_SCOPED(room, &config);
            put_tagged(&room, "p/a", "0123456789");
            if (way == 2)
                refuse_large_copies(&room);
            cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
            assert_drained(&room);
            assert_keys(&room, "p/b ");
            assert_tags(&room, "p/b", TAGS);
            cr_assert(tree_holds(&room, "p/b", "0123456789"));
            cr_assert_eq(count_asked(&room), way > 0);
        }
    }
}

Test(tagging, a_file_that_was_changed_and_renamed_before_it_went_up_keeps_them)
{
    ROOM_SCOPED(room, &behind);
    struct handle *handle;
    put_tagged(&room, "p/a", "0123456789");
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 2, 5, 2), 0);
    room_stop_server(&room);
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert_eq(room_flush(&room, handle), 0);
    room_crash(&room);
    cache_release(room.cache, handle);
    room_reopen(&room);
    room_start_server(&room);
    assert_drained(&room);
    assert_keys(&room, "p/b ");
    cr_assert(room_object_holds(&room, "p/b", 2, 7, 2));
    assert_tags(&room, "p/b", TAGS);
}

Test(tagging, a_chmod_of_what_the_endpoint_copies_only_by_parts_keeps_them)
{
    struct room_config config = {.bucket.part_bytes_min = 1};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    struct attributes wanted = {.mode = 0600}, now;
    put_tagged(&room, "p/a", "0123456789");
    refuse_large_copies(&room);
    cr_assert_eq(tree_lookup(&room, "a", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    assert_tags(&room, "p/a", TAGS);
    cr_assert(tree_holds(&room, "p/a", "0123456789"));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_COPY, NULL), 1);
}

/* A copy by the server stands under a hidden key first, with its source's metadata. */
Test(tagging, a_file_that_another_is_copied_onto_keeps_its_own)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK, .part_bytes = 5 * MIB};
    ROOM_SCOPED(room, &config);
    struct handle *from, *to;
    uint64_t length;
    put_large(&room, "p/a", 12 * MIB);
    memory_store_put_text(room.bucket, "p/b", "old");
    memory_store_tag(room.bucket, "p/b", "own=b");
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &from), 0);
    cr_assert_eq(tree_open(&room, "b", O_RDWR | O_TRUNC, &to), 0);
    cr_assert_eq(cache_copy_range(room.cache, &room.waiter, from, 0, to, 0, (uint64_t)0x7ffff000, &length),
                 0);
    cr_assert_eq(length, 12 * MIB);
    cr_assert_eq(room_close(&room, to), 0);
    cache_release(room.cache, from);
    assert_drained(&room);
    cr_assert(room_object_holds(&room, "p/b", 0, 12 * MIB, 1));
    assert_tags(&room, "p/b", "own=b");
    assert_tags(&room, "p/a", TAGS);
}

/* ---- After a crash. ---- */

Test(tagging, what_goes_up_after_a_crash_has_them)
{
    static const size_t sizes[] = {1000, 20 * MIB};
    for (int i = 0; i < 2; i++) {
        ROOM_SCOPED(room, &behind);
        struct handle *handle;
        put_tagged(&room, "p/a", "0123456789");
        cr_assert_eq(tree_open(&room, "a", O_WRONLY | O_TRUNC, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, sizes[i], 2), 0);
        room_stop_server(&room);
        cr_assert_eq(room_flush(&room, handle), 0);
        room_crash(&room);
        cache_release(room.cache, handle);
        room_reopen(&room);
        room_start_server(&room);
        assert_drained(&room);
        cr_assert(room_object_holds(&room, "p/a", 0, sizes[i], 2));
        assert_tags(&room, "p/a", TAGS);
    }
}

/* ---- Where they cannot be had. ---- */

static atomic_int told;

static void hear(void *context, enum log_level level, const char *line)
{
    (void)context;
    if (level <= LOG_LEVEL_WARN && strstr(line, "tags of p/"))
        told++;
}

static void deny(struct room *room, enum store_op op, int rc, int status, const char *code)
{
    memory_store_fault(
        room->bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = op, .rc = rc, .http_status = status, .code = code});
}

static const struct {
    int rc, status;
    const char *code;
    int told;
} denials[] = {
    {-EACCES, 403, "AccessDenied", 1},         {-EOPNOTSUPP, 501, "NotImplemented", 1},
    {-EOPNOTSUPP, 405, "MethodNotAllowed", 1}, {-EIO, 200, "", 1},
    {-ENOENT, 404, "NoSuchTagSet", 0},
};

Test(tagging, where_they_cannot_be_read_files_go_up_without_and_the_log_says_so_once)
{
    for (size_t i = 0; i < sizeof denials / sizeof denials[0]; i++) {
        struct room_config config = {.bucket.part_bytes_min = 1, .copy_bytes_max = 8};
        ROOM_SCOPED(room, &config);
        put_tagged(&room, "p/a", "0123456789");
        put_tagged(&room, "p/b", "0123456789");
        put_tagged(&room, "p/c", "0123456789");
        deny(&room, STORE_GET_TAGS, denials[i].rc, denials[i].status, denials[i].code);
        told = 0;
        log_tap(hear, NULL);
        cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, 5), 0);
        cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, 6), 0);
        cr_assert_eq(count_asked(&room), 1, "it has none any more, and that is known");
        cr_assert_eq(rewrite(&room, "b", O_TRUNC, 0, 20 * MIB), 0);
        cr_assert_eq(tree_rename(&room, "c", "d", 0), 0);
        log_tap(NULL, NULL);
        assert_tags(&room, "p/a", "");
        assert_tags(&room, "p/b", "");
        cr_assert(tree_holds(&room, "p/d", "0123456789"));
        cr_assert_eq(told, denials[i].told, "%s: %d lines", denials[i].code, told);
    }
}

Test(tagging, what_passes_is_asked_for_again)
{
    static const int rcs[] = {-EIO, -EACCES};
    for (size_t i = 0; i < 2; i++) {
        ROOM_SCOPED(room, NULL);
        struct handle *handle;
        put_tagged(&room, "p/a", "0123456789");
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                        .op = STORE_GET_TAGS,
                                                        .times = 1,
                                                        .rc = rcs[i],
                                                        .http_status = i ? 400 : 503,
                                                        .code = i ? "ExpiredToken" : "SlowDown"});
        cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
        cr_assert_eq(room_write(&room, handle, 0, 5, 2), 0);
        cr_assert_eq(room_fsync(&room, handle), rcs[i]);
        cr_assert(tree_holds(&room, "p/a", "0123456789"));
        cr_assert_eq(room_fsync(&room, handle), 0);
        cr_assert_eq(room_close(&room, handle), 0);
        assert_tags(&room, "p/a", TAGS);
    }
}

Test(tagging, who_may_not_set_them_writes_without_and_the_log_says_so_once)
{
    static const enum store_op ops[] = {STORE_PUT, STORE_CREATE};
    for (size_t i = 0; i < 2; i++) {
        struct room_config config = {.attr_ttl_ms = 1};
        ROOM_SCOPED(room, &config);
        told = 0;
        log_tap(hear, NULL);
        for (int round = 0; round < 2; round++) {
            put_tagged(&room, "p/a", "0123456789");
            usleep(5000);
            memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                            .op = ops[i],
                                                            .times = 1,
                                                            .rc = -EACCES,
                                                            .http_status = 403,
                                                            .code = "AccessDenied"});
            cr_assert_eq(rewrite(&room, "a", O_TRUNC, 0, i ? 20 * MIB : 5), 0);
            assert_tags(&room, "p/a", "");
            memory_store_faults_end(room.bucket);
        }
        log_tap(NULL, NULL);
        cr_assert_eq(told, 1, "%d lines", told);
    }
}

Test(tagging, who_may_not_write_at_all_hears_that_and_tags_are_not_lost_over_it)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    put_tagged(&room, "p/a", "0123456789");
    deny(&room, STORE_PUT, -EACCES, 403, "AccessDenied");
    cr_assert_eq(tree_open(&room, "a", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 5, 2), 0);
    told = 0;
    log_tap(hear, NULL);
    cr_assert_eq(room_fsync(&room, handle), -EACCES);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 2);
    memory_store_faults_end(room.bucket);
    cr_assert_eq(room_fsync(&room, handle), 0);
    log_tap(NULL, NULL);
    cr_assert_eq(told, 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_tags(&room, "p/a", TAGS);
}

Test(tagging, a_copy_by_parts_and_a_marker_go_without_where_they_may_not_be_set)
{
    struct room_config config = {.bucket.part_bytes_min = 1, .copy_bytes_max = 8};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    struct attributes wanted = {.mode = 0700}, now;
    put_tagged(&room, "p/a", "0123456789");
    put_tagged(&room, "p/d/", "");
    for (int i = 0; i < 2; i++)
        memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL,
                                                        .op = i ? STORE_PUT : STORE_CREATE,
                                                        .times = 1,
                                                        .rc = -EACCES,
                                                        .http_status = 403,
                                                        .code = "AccessDenied"});
    cr_assert_eq(tree_rename(&room, "a", "b", 0), 0);
    cr_assert(tree_holds(&room, "p/b", "0123456789"));
    assert_tags(&room, "p/b", "");
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &wanted, &now),
                 0);
    inode_unref(entry.inode);
    assert_tags(&room, "p/d/", "");
}
