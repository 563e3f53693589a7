#include "cache/ledger.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <time.h>

#include "tests/support/ledger_text.h"

#define UNKNOWN_KIND 0150000u /* S_IFMT bits of nothing */

/* ---- Hands. ---- */

static int apply(struct ledger *ledger, const struct record *record)
{
    BUF_SCOPED why = BUF_INIT;
    int rc = ledger_apply(ledger, record, &why);
    cr_assert_eq(rc == -EBADMSG, why.length > 0, "words: %s", why.bytes);
    ledger_check(ledger);
    return rc;
}

#define APPLY(ledger, ...) apply(ledger, &(struct record){__VA_ARGS__})

static void add_directory(struct ledger *ledger, uint64_t id, uint64_t parent, const char *name)
{
    cr_assert_eq(
        APPLY(ledger, .type = RECORD_NODE, .id = id, .parent = parent, .name = name, .kind = S_IFDIR), 0);
}

static int add_file(struct ledger *ledger, uint64_t id, uint64_t parent, const char *name)
{
    return APPLY(ledger, .type = RECORD_BIRTH, .id = id, .parent = parent, .name = name, .kind = S_IFREG,
                 .attributes = {.mode = S_IFREG | 0644}, .attribute_version = 1, .content_version = 1);
}

static int write_file(struct ledger *ledger, uint64_t id, uint64_t version, uint64_t start, uint64_t end,
                      uint64_t size)
{
    return APPLY(ledger, .type = RECORD_WRITE, .id = id, .start = start, .end = end, .size = size,
                 .content_version = version, .local = "l");
}

static bool is_at(struct ledger *ledger, uint64_t id, const char *path)
{
    BUF_SCOPED found = BUF_INIT;
    struct account *account = ledger_find(ledger, id);
    return account && account_path(account, &found) && strcmp(found.bytes, path) == 0;
}

#define LEDGER_SCOPED(name)                                                                                  \
    struct ledger name __attribute__((cleanup(ledger_release)));                                             \
    ledger_init(&name)

static void same_state(const struct ledger *a, const struct ledger *b)
{
    BUF_SCOPED x = BUF_INIT, y = BUF_INIT;
    ledger_text(a, &x);
    ledger_text(b, &y);
    cr_assert_str_eq(x.bytes, y.bytes);
    cr_assert_eq(a->bytes, b->bytes);
}

static void apply_to(void *context, const struct record *record)
{
    struct ledger *ledger = context;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(ledger_apply(ledger, record, &why), 0, "%s", why.bytes);
}

static void same_after_dump(struct ledger *ledger)
{
    LEDGER_SCOPED(again);
    ledger_dump(ledger, apply_to, &again);
    ledger_check(&again);
    same_state(ledger, &again);
    cr_assert_eq(again.next_id, ledger->next_id);
}

/* ---- Places. ---- */

Test(ledger, a_renamed_directory_takes_along_what_is_in_it)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "a");
    add_directory(&ledger, 2, 1, "b");
    cr_assert_eq(add_file(&ledger, 3, 2, "c"), 0);
    cr_assert(is_at(&ledger, 3, "a/b/c"));
    add_directory(&ledger, 1, 0, "z");
    cr_assert(is_at(&ledger, 3, "z/b/c"));
    cr_assert_eq(ledger.next_id, 4);
    same_after_dump(&ledger);
}

Test(ledger, a_directory_is_never_below_itself)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "a");
    add_directory(&ledger, 2, 1, "b");
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .parent = 2, .name = "x", .kind = S_IFDIR),
                 -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .parent = 1, .name = "x", .kind = S_IFDIR),
                 -EBADMSG);
    cr_assert(is_at(&ledger, 2, "a/b"));
}

Test(ledger, a_place_is_one_files_and_goes_to_another_only_in_one_record)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "old"), 0);
    cr_assert_eq(add_file(&ledger, 2, 0, "new"), 0);
    cr_assert_eq(write_file(&ledger, 1, 2, 0, 10, 10), 0);
    cr_assert_eq(add_file(&ledger, 3, 0, "new"), -EBADMSG);
    struct record move = {.type = RECORD_NODE, .id = 2, .name = "old", .kind = S_IFREG};
    cr_assert_eq(apply(&ledger, &move), -EBADMSG);
    move.replaced = 7;
    cr_assert_eq(apply(&ledger, &move), -EBADMSG);
    move.replaced = 1;
    cr_assert_eq(apply(&ledger, &move), 0);
    cr_assert(is_at(&ledger, 2, "old"));
    struct account *replaced = ledger_find(&ledger, 1);
    cr_assert(replaced && !replaced->name && replaced->dirty.count == 0, "it is there until FORGET");
    cr_assert_eq(apply(&ledger, &move), -EBADMSG, "said twice: 1 is not there any more");
    move.replaced = 0;
    cr_assert_eq(apply(&ledger, &move), 0);
    same_after_dump(&ledger);
}

Test(ledger, a_full_directory_is_not_replaced_nor_loses_its_name)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "a");
    add_directory(&ledger, 2, 0, "b");
    cr_assert_eq(add_file(&ledger, 3, 1, "f"), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 2, .name = "a", .kind = S_IFDIR, .replaced = 1),
                 -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .kind = S_IFDIR), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 2, .kind = S_IFDIR), 0);
    cr_assert_eq(add_file(&ledger, 4, 2, "x"), -EBADMSG, "in a directory that has no name");
}

Test(ledger, a_forgotten_directory_lives_as_long_as_something_stands_in_it)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "a");
    add_directory(&ledger, 2, 1, "b");
    cr_assert_eq(add_file(&ledger, 3, 2, "c"), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_FORGET, .id = 1), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_FORGET, .id = 2), 0);
    same_after_dump(&ledger);
    cr_assert(is_at(&ledger, 3, "a/b/c"));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_SIZE, .id = 2, .content_version = 1), -EBADMSG);
    add_directory(&ledger, 2, 1, "b"); /* open again */
    cr_assert_eq(APPLY(&ledger, .type = RECORD_FORGET, .id = 3), 0);
    cr_assert(ledger_find(&ledger, 2) && ledger_find(&ledger, 1));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_FORGET, .id = 2), 0);
    cr_assert_eq(HASH_CNT(by_id, ledger.accounts), 0, "and its own directory goes with it");
    cr_assert_eq(ledger.bytes, 0);
    add_directory(&ledger, 1, 0, "a"); /* the same id, after it was gone */
}

Test(ledger, a_move_out_of_forgotten_directories_ends_them)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "a");
    add_directory(&ledger, 2, 1, "b");
    cr_assert_eq(add_file(&ledger, 3, 2, "c"), 0);
    APPLY(&ledger, .type = RECORD_FORGET, .id = 1);
    APPLY(&ledger, .type = RECORD_FORGET, .id = 2);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 3, .parent = 1, .name = "c", .kind = S_IFREG), 0);
    cr_assert_null(ledger_find(&ledger, 2));
    cr_assert_not_null(ledger_find(&ledger, 1));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 3, .kind = S_IFREG), 0);
    cr_assert_null(ledger_find(&ledger, 1));
    cr_assert_not_null(ledger_find(&ledger, 3));
}

Test(ledger, names_and_types_are_those_of_files)
{
    LEDGER_SCOPED(ledger);
    static const char *const bad[] = {"", ".", "..", "a/b"};
    for (size_t i = 0; i < 4; i++)
        cr_assert_eq(add_file(&ledger, 1, 0, bad[i]), -EBADMSG);
    cr_assert_eq(add_file(&ledger, 0, 0, "root"), -EBADMSG);
    cr_assert_eq(add_file(&ledger, 1, 9, "nowhere"), -EBADMSG);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(add_file(&ledger, 2, 1, "in a file"), -EBADMSG);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), -EBADMSG, "born twice");
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .name = "f", .kind = S_IFDIR), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_ATTRIBUTES, .id = 1, .attributes = {.mode = S_IFDIR | 0755},
                       .attribute_version = 2),
                 -EBADMSG);
    cr_assert_eq(
        APPLY(&ledger, .type = RECORD_NODE, .id = 2, .name = "s", .kind = S_IFLNK, .target = "over there"),
        0);
    cr_assert_str_eq(ledger_find(&ledger, 2)->target, "over there");
    same_after_dump(&ledger);
}

static int add_kind(struct ledger *ledger, uint64_t id, const char *name, uint32_t kind, const char *target)
{
    return APPLY(ledger, .type = RECORD_BIRTH, .id = id, .name = name, .kind = kind, .target = target,
                 .attributes = {.mode = kind | 0600}, .attribute_version = 1, .content_version = 1);
}

Test(ledger, special_files_are_kinds_of_their_own_and_unknown_ones_are_refused)
{
    LEDGER_SCOPED(ledger);
    static const uint32_t kinds[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK};
    static const char *const none[] = {"8", "8:", ":1", "8:1 ", "4096:0", "0:1048576", "a:b", "-1:2"};
    for (uint64_t i = 0; i < 4; i++) {
        char name[2] = {(char)('a' + i), 0};
        bool device = kinds[i] == S_IFCHR || kinds[i] == S_IFBLK;
        cr_assert_eq(add_kind(&ledger, i + 1, name, kinds[i], device ? "8:1" : ""), 0);
        cr_assert_eq(APPLY(&ledger, .type = RECORD_EXCLUSIVE, .id = i + 1), 0);
        cr_assert_eq(write_file(&ledger, i + 1, 5, 0, 10, 10), -EBADMSG, "they have no bytes");
        cr_assert_eq(account_device(ledger_find(&ledger, i + 1)), device ? makedev(8, 1) : 0);
    }
    cr_assert_eq(add_kind(&ledger, 9, "x", UNKNOWN_KIND, ""), -EBADMSG);
    cr_assert_eq(add_kind(&ledger, 9, "x", 0, ""), -EBADMSG);
    cr_assert_eq(add_kind(&ledger, 9, "x", S_IFIFO, "8:1"), -EBADMSG, "a fifo is no device");
    cr_assert_eq(add_kind(&ledger, 9, "x", S_IFLNK, ""), -EBADMSG, "a link to nowhere");
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++)
        cr_assert_eq(add_kind(&ledger, 9, "x", S_IFBLK, none[i]), -EBADMSG, "%s", none[i]);
    same_after_dump(&ledger);
}

/* ---- Contents. ---- */

Test(ledger, versions_do_not_run_backwards)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(write_file(&ledger, 1, 5, 0, 10, 10), 0);
    cr_assert_eq(write_file(&ledger, 1, 5, 0, 10, 10), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_SIZE, .id = 1, .content_version = 4), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .content_version = 4), -EBADMSG);
    cr_assert_eq(
        APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .content_version = 5, .remote_content_version = 6),
        -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_ATTRIBUTES, .id = 1, .attribute_version = 0), -EBADMSG);
    cr_assert_eq(ledger_find(&ledger, 1)->content_version, 5);
}

Test(ledger, ranges_that_cannot_be_are_refused)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(write_file(&ledger, 1, 2, 10, 10, 10), -EBADMSG);
    cr_assert_eq(write_file(&ledger, 1, 2, 0, 11, 10), -EBADMSG);
    cr_assert_eq(write_file(&ledger, 1, 2, 0, 1, OBJECT_BYTES_MAX + 1), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_WRITE, .id = 1, .end = 1, .size = 1, .content_version = 2),
                 -EBADMSG, "no local file");
    cr_assert_eq(
        APPLY(&ledger, .type = RECORD_SIZE, .id = 1, .size = 1, .base_size = 2, .content_version = 2),
        -EBADMSG);
    struct extent range = {0, 5};
    struct extents dirty = {&range, 1, 1};
    cr_assert_eq(APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .size = 4, .content_version = 2, .local = "l",
                       .dirty = &dirty),
                 -EBADMSG);
    cr_assert_eq(
        APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .size = 5, .content_version = 2, .dirty = &dirty),
        -EBADMSG);
    static char large[64];
    cr_assert_eq(APPLY(&ledger, .type = RECORD_WRITE, .id = 1, .end = 64, .size = RECORD_RIDE_MAX + 1,
                       .content_version = 2, .local = "l", .bytes = large),
                 -EBADMSG, "only small files ride");
}

Test(ledger, dirty_bytes_of_a_file_stand_in_one_local_file)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(write_file(&ledger, 1, 2, 0, 10, 10), 0);
    struct record other = {.type = RECORD_WRITE,
                           .id = 1,
                           .start = 10,
                           .end = 20,
                           .size = 20,
                           .content_version = 4,
                           .local = "another"};
    cr_assert_eq(apply(&ledger, &other), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_SIZE, .id = 1, .content_version = 3), 0);
    cr_assert_eq(apply(&ledger, &other), 0, "nothing was left in the first one");
    cr_assert_str_eq(ledger_find(&ledger, 1)->local, "another");
}

Test(ledger, one_range_too_many_is_told_and_changes_nothing)
{
    LEDGER_SCOPED(ledger);
    BUF_SCOPED why = BUF_INIT;
    uint64_t size = (uint64_t)EXTENTS_MAX * 2 + 2;
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    for (uint64_t i = 0; i < EXTENTS_MAX; i++) {
        struct record record = {.type = RECORD_WRITE,
                                .id = 1,
                                .start = i * 2,
                                .end = i * 2 + 1,
                                .size = size,
                                .content_version = i + 2,
                                .local = "l"};
        cr_assert_eq(ledger_apply(&ledger, &record, &why), 0);
    }
    struct account *account = ledger_find(&ledger, 1);
    cr_assert_eq(write_file(&ledger, 1, EXTENTS_MAX + 2, size - 1, size, size), -E2BIG);
    cr_assert_eq(account->content_version, EXTENTS_MAX + 1);
    cr_assert_eq(write_file(&ledger, 1, EXTENTS_MAX + 2, 1, 2, size), 0, "what joins two");
    same_after_dump(&ledger);
}

Test(ledger, who_has_no_name_holds_no_unsent_bytes)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(write_file(&ledger, 1, 2, 0, 10, 10), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .kind = S_IFREG), 0);
    struct account *account = ledger_find(&ledger, 1);
    cr_assert(account->dirty.count == 0 && !account->local[0]);
    cr_assert_eq(write_file(&ledger, 1, 3, 0, 20, 20), 0, "it is open still");
    cr_assert(account->dirty.count == 0 && !account->local[0]);
    cr_assert_not(account_unsent(account, ""));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .size = 20, .content_version = 3, .key = "f"),
                 0);
    cr_assert(account_unsent(account, ""), "its object is to be deleted");
    same_after_dump(&ledger);
}

/* ---- Parts. ---- */

static int land(struct ledger *ledger, uint64_t index, uint64_t version)
{
    return APPLY(ledger, .type = RECORD_PART, .id = 1, .index = index, .size = 10, .etag = "e",
                 .content_version = version);
}

static uint64_t part_size(struct ledger *ledger, size_t index)
{
    struct account_upload *upload = ledger_find(ledger, 1)->upload;
    return index < upload->part_count ? upload->parts[index].size : 0;
}

static void begin_upload(struct ledger *ledger, bool copying)
{
    cr_assert_eq(add_file(ledger, 1, 0, "f"), 0);
    cr_assert_eq(write_file(ledger, 1, 2, 0, 50, 50), 0);
    cr_assert_eq(APPLY(ledger, .type = RECORD_UPLOAD, .id = 1, .upload_id = "u", .key = "f",
                       .plan = {.bytes = 10, .bytes_max = 10, .equal = true}, .copying = copying),
                 0);
}

Test(ledger, a_part_is_stale_once_its_range_changed)
{
    LEDGER_SCOPED(ledger);
    begin_upload(&ledger, false);
    for (uint64_t i = 0; i < 5; i++)
        cr_assert_eq(land(&ledger, i, 2), 0);
    cr_assert_eq(write_file(&ledger, 1, 3, 19, 21, 50), 0);
    for (size_t i = 0; i < 5; i++)
        cr_assert_eq(part_size(&ledger, i), i == 1 || i == 2 ? 0 : 10);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_SIZE, .id = 1, .size = 35, .content_version = 4), 0);
    cr_assert_eq(part_size(&ledger, 3), 0);
    cr_assert_eq(part_size(&ledger, 4), 0);
    cr_assert_eq(land(&ledger, 4, 4), 0);
    cr_assert_eq(write_file(&ledger, 1, 5, 60, 61, 61), 0, "and the hole up to there");
    cr_assert_eq(part_size(&ledger, 4), 0);
    cr_assert_eq(part_size(&ledger, 0), 10);
    same_after_dump(&ledger);
}

Test(ledger, a_part_that_lands_with_older_bytes_stays_stale)
{
    LEDGER_SCOPED(ledger);
    begin_upload(&ledger, false);
    cr_assert_eq(write_file(&ledger, 1, 3, 0, 5, 50),
                 0); /* while part 0, read at version 2, was on its way */
    cr_assert_eq(land(&ledger, 0, 2), 0);
    cr_assert_eq(part_size(&ledger, 0), 0);
    same_after_dump(&ledger);
    cr_assert_eq(land(&ledger, 0, 3), 0);
    cr_assert_eq(part_size(&ledger, 0), 10);
}

Test(ledger, copied_parts_are_the_objects_and_never_stale)
{
    LEDGER_SCOPED(ledger);
    begin_upload(&ledger, true);
    cr_assert_eq(land(&ledger, 0, 0), 0);
    cr_assert_eq(write_file(&ledger, 1, 3, 0, 50, 50), 0);
    cr_assert_eq(part_size(&ledger, 0), 10);
}

Test(ledger, uploads_begin_and_end_once)
{
    LEDGER_SCOPED(ledger);
    begin_upload(&ledger, false);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_UPLOAD, .id = 1, .upload_id = "v", .key = "f",
                       .plan = {.bytes = 10, .bytes_max = 10, .equal = true}),
                 -EBADMSG);
    cr_assert_eq(land(&ledger, STORE_PARTS_MAX, 2), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_UPLOAD_END, .id = 1), 0);
    cr_assert_eq(land(&ledger, 0, 2), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_UPLOAD_END, .id = 1), -EBADMSG);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_UPLOAD, .id = 1, .upload_id = "v", .key = "f",
                       .plan = {.bytes = 0, .bytes_max = 10, .equal = true}),
                 -EBADMSG);
}

Test(ledger, a_huge_cut_touches_the_parts_there_can_be)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(add_file(&ledger, 1, 0, "f"), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_UPLOAD, .id = 1, .upload_id = "u", .key = "f",
                       .plan = {.bytes = 10, .bytes_max = 10, .equal = true}),
                 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_SIZE, .id = 1, .size = OBJECT_BYTES_MAX, .content_version = 2),
                 0);
    cr_assert_eq(ledger_find(&ledger, 1)->upload->part_count, STORE_PARTS_MAX);
    same_after_dump(&ledger);
}

/* ---- What is left to do. ---- */

Test(ledger, unsent_is_what_differs_from_the_bucket)
{
    LEDGER_SCOPED(ledger);
    add_directory(&ledger, 1, 0, "d");
    cr_assert_not(account_unsent(ledger_find(&ledger, 1), "p/"), "a place is nothing to send");
    cr_assert_eq(add_file(&ledger, 2, 1, "f"), 0);
    struct account *file = ledger_find(&ledger, 2);
    cr_assert(account_unsent(file, "p/"));
    struct record remote = {.type = RECORD_REMOTE,
                            .id = 2,
                            .key = "p/d/f",
                            .content_version = 1,
                            .remote_content_version = 1,
                            .remote_attribute_version = 1};
    cr_assert_eq(apply(&ledger, &remote), 0);
    cr_assert_not(account_unsent(file, "p/"));
    add_directory(&ledger, 1, 0, "e");
    cr_assert(account_unsent(file, "p/"), "its key is another one");
    remote.key = "p/e/f";
    apply(&ledger, &remote);
    cr_assert_not(account_unsent(file, "p/"));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_TRYING, .id = 2, .skyvol_id = "x", .key = "p/e/f"), 0);
    cr_assert(account_unsent(file, "p/"));
    cr_assert_eq(APPLY(&ledger, .type = RECORD_TRYING, .id = 2), 0);
    cr_assert_not(account_unsent(file, "p/"));
    APPLY(&ledger, .type = RECORD_TRYING, .id = 2, .skyvol_id = "x", .key = "p/e/f");
    apply(&ledger, &remote);
    cr_assert_not(account_unsent(file, "p/"), "what the bucket holds is known");
    remote = (struct record){.type = RECORD_REMOTE, .id = 1, .key = "p/e/"};
    cr_assert_eq(apply(&ledger, &remote), 0);
    cr_assert_not(account_unsent(ledger_find(&ledger, 1), "p/"), "a directory's marker ends in a slash");
}

Test(ledger, an_account_that_was_only_opened_says_nothing_of_what_the_bucket_has)
{
    LEDGER_SCOPED(ledger);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_NODE, .id = 1, .name = "f", .kind = S_IFREG), 0);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_ATTRIBUTES, .id = 1, .attributes = {.mode = S_IFREG | 0600},
                       .attribute_version = 1),
                 0);
    cr_assert_not(account_unsent(ledger_find(&ledger, 1), "p/"));
    same_after_dump(&ledger);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_REMOTE, .id = 1, .key = "p/f"), 0);
    cr_assert(account_unsent(ledger_find(&ledger, 1), "p/"), "its attributes are others");
    same_after_dump(&ledger);
}

/* ---- A plain model. ---- */

#define IDS   9
#define SPACE 64
#define PART  16

struct plain {
    bool there, forgotten, named, upload, exclusive;
    uint64_t parent;
    char name[2];
    uint32_t kind, mode;
    const char *target;
    uint64_t size, version, attribute_version, remote_version, remote_attribute_version;
    uint64_t part[SPACE / PART], part_version[SPACE / PART];
    bool dirty[SPACE];
    char key[4], trying[4], xattrs[8]; /* "none": they are to go; "": the object's */
};

struct model {
    struct plain all[IDS + 1];
};

static size_t count_children(const struct model *model, uint64_t id)
{
    size_t count = 0;
    for (uint64_t i = 1; i <= IDS; i++)
        count += model->all[i].there && model->all[i].named && model->all[i].parent == id;
    return count;
}

static bool is_below(const struct model *model, uint64_t at, uint64_t id)
{
    for (; at; at = model->all[at].parent)
        if (at == id)
            return true;
    return false;
}

/* Forgotten directories that are empty go, until there are none. */
static void sweep(struct model *model)
{
    for (bool again = true; again;) {
        again = false;
        for (uint64_t i = 1; i <= IDS; i++)
            if (model->all[i].there && model->all[i].forgotten && count_children(model, i) == 0) {
                model->all[i] = (struct plain){0};
                again = true;
            }
    }
}

static uint64_t who_is_at(const struct model *model, uint64_t parent, const char *name)
{
    for (uint64_t i = 1; i <= IDS; i++) {
        const struct plain *plain = &model->all[i];
        if (plain->there && plain->named && plain->parent == parent && strcmp(plain->name, name) == 0)
            return i;
    }
    return 0;
}

static void lose_name(struct plain *plain)
{
    plain->named = false;
    plain->parent = 0;
    plain->name[0] = 0;
    memset(plain->dirty, 0, sizeof plain->dirty);
    plain->exclusive = false;
}

static bool target_fits(const struct record *record)
{
    bool told = record->target && *record->target;
    if (record->kind == S_IFLNK)
        return told || !record_is_birth(record);
    return !told ||
           ((record->kind == S_IFCHR || record->kind == S_IFBLK) && strcmp(record->target, "8:1") == 0);
}

static bool model_node(struct model *model, const struct record *record)
{
    struct plain *plain = &model->all[record->id];
    bool named = record->name && *record->name;
    if (record->kind == UNKNOWN_KIND || !target_fits(record))
        return false;
    if (record->type == RECORD_BIRTH_EXCLUSIVE && record->kind == S_IFDIR)
        return false;
    if (plain->there && (plain->kind != record->kind || record_is_birth(record)))
        return false;
    if (!named) {
        if (record->replaced || count_children(model, record->id) || record_is_birth(record))
            return false;
    } else {
        const struct plain *parent = &model->all[record->parent];
        uint64_t there = who_is_at(model, record->parent, record->name);
        if (record->parent && (!parent->there || !parent->named || parent->kind != S_IFDIR))
            return false;
        if (is_below(model, record->parent, record->id))
            return false;
        if ((there == record->id ? 0 : there) != record->replaced)
            return false;
        if (record->replaced && count_children(model, record->replaced))
            return false;
    }
    if (!plain->there)
        plain->target = record->target ? record->target : "";
    plain->there = true;
    plain->forgotten = false;
    plain->kind = record->kind;
    if (record->replaced)
        lose_name(&model->all[record->replaced]);
    if (!named) {
        lose_name(plain);
    } else {
        bool stays =
            plain->named && plain->parent == record->parent && strcmp(plain->name, record->name) == 0;
        plain->exclusive = plain->exclusive && stays;
        plain->named = true;
        plain->parent = record->parent;
        strcpy(plain->name, record->name);
    }
    if (record_is_birth(record)) {
        plain->exclusive = record->type == RECORD_BIRTH_EXCLUSIVE;
        plain->mode = record->attributes.mode;
        plain->version = plain->attribute_version = 1;
    }
    sweep(model);
    return true;
}

static void model_touch(struct plain *plain, uint64_t start, uint64_t end, uint64_t version)
{
    for (uint64_t at = start; plain->upload && at < end; at++) {
        plain->part[at / PART] = 0;
        plain->part_version[at / PART] = version;
    }
}

static bool model_change(struct plain *plain, const struct record *record)
{
    bool write = record->type == RECORD_WRITE;
    uint64_t old = plain->size, low = old < record->size ? old : record->size;
    uint64_t high = old > record->size ? old : record->size;
    if (record->content_version <= plain->version)
        return false;
    if (write && (plain->kind != S_IFREG || record->start >= record->end || record->end > record->size))
        return false;
    plain->version = record->content_version;
    plain->size = record->size;
    if (write)
        model_touch(plain, record->start < old ? record->start : old, record->end, plain->version);
    else
        model_touch(plain, low, high, plain->version);
    for (uint64_t at = record->size; at < SPACE; at++)
        plain->dirty[at] = false;
    for (uint64_t at = record->start; write && plain->named && at < record->end; at++)
        plain->dirty[at] = true;
    return true;
}

static bool model_remote(struct plain *plain, const struct record *record)
{
    if (record->content_version < plain->version ||
        record->remote_content_version > record->content_version ||
        record->remote_attribute_version > plain->attribute_version)
        return false;
    plain->remote_attribute_version = record->remote_attribute_version;
    if (plain->remote_attribute_version == plain->attribute_version)
        plain->xattrs[0] = 0;
    plain->version = record->content_version;
    plain->size = record->size;
    plain->remote_version = record->remote_content_version;
    plain->exclusive = plain->exclusive && !plain->remote_version;
    strcpy(plain->key, record->key);
    memset(plain->dirty, 0, sizeof plain->dirty);
    if (record->type == RECORD_REMOTE)
        plain->trying[0] = 0;
    return true;
}

static bool model_forget(struct model *model, uint64_t id)
{
    struct plain *plain = &model->all[id];
    struct plain place = {.there = true,
                          .forgotten = true,
                          .named = plain->named,
                          .parent = plain->parent,
                          .kind = plain->kind,
                          .target = ""};
    strcpy(place.name, plain->name);
    *plain = count_children(model, id) ? place : (struct plain){0};
    sweep(model);
    return true;
}

static bool model_part(struct plain *plain, const struct record *record)
{
    if (!plain->upload)
        return false;
    if (record->content_version >= plain->part_version[record->index]) {
        plain->part[record->index] = record->size;
        plain->part_version[record->index] = record->content_version;
    }
    return true;
}

static bool model_upload(struct plain *plain, bool begins)
{
    if (plain->upload == begins)
        return false;
    plain->upload = begins;
    memset(plain->part, 0, sizeof plain->part);
    memset(plain->part_version, 0, sizeof plain->part_version);
    return true;
}

static bool model_apply(struct model *model, const struct record *record)
{
    struct plain *plain = &model->all[record->id];
    if (record->type == RECORD_NODE || record_is_birth(record))
        return model_node(model, record);
    if (!plain->there || plain->forgotten)
        return false;
    switch (record->type) {
    case RECORD_ATTRIBUTES:
        if (record->attribute_version < plain->attribute_version ||
            (record->attributes.mode & S_IFMT) != plain->kind)
            return false;
        plain->attribute_version = record->attribute_version;
        plain->mode = record->attributes.mode;
        return true;
    case RECORD_XATTRS:
        if ((plain->kind != S_IFREG && plain->kind != S_IFDIR) ||
            record->attribute_version < plain->attribute_version ||
            record->attribute_version <= plain->remote_attribute_version)
            return false;
        plain->attribute_version = record->attribute_version;
        strcpy(plain->xattrs, *record->xattrs ? record->xattrs : "none");
        return true;
    case RECORD_WRITE:
    case RECORD_SIZE:
        return model_change(plain, record);
    case RECORD_REMOTE:
    case RECORD_RESTATED:
        return model_remote(plain, record);
    case RECORD_EXCLUSIVE:
        if (plain->kind == S_IFDIR || !plain->named || plain->remote_version)
            return false;
        plain->exclusive = true;
        return true;
    case RECORD_UPLOAD:
    case RECORD_UPLOAD_END:
        return model_upload(plain, record->type == RECORD_UPLOAD);
    case RECORD_PART:
        return model_part(plain, record);
    case RECORD_TRYING:
        strcpy(plain->trying, record->skyvol_id);
        return true;
    default:
        return model_forget(model, record->id);
    }
}

static void compare_account(const struct account *account, const struct plain *plain)
{
    cr_assert_eq(account->kind, plain->kind);
    cr_assert_str_eq(account->target ? account->target : "", plain->target);
    cr_assert_eq(account->parent ? account->parent->id : 0, plain->parent);
    cr_assert_str_eq(account->name ? account->name : "", plain->name);
    cr_assert_eq(account->forgotten, plain->forgotten);
    cr_assert_eq(account->exclusive, plain->exclusive);
    cr_assert_eq(account->attributes.mode, plain->mode);
    cr_assert_eq(account->attributes.size, plain->size);
    cr_assert_eq(account->content_version, plain->version);
    cr_assert_eq(account->attribute_version, plain->attribute_version);
    cr_assert_eq(account->remote_content_version, plain->remote_version);
    cr_assert_eq(account->remote_attribute_version, plain->remote_attribute_version);
    const char *xattrs = !account->xattrs ? "" : *account->xattrs ? account->xattrs : "none";
    cr_assert_str_eq(xattrs, plain->xattrs);
    cr_assert_str_eq(account->key ? account->key : "", plain->key);
    cr_assert_str_eq(account->trying ? account->trying->skyvol_id : "", plain->trying);
    for (uint64_t at = 0; at < SPACE; at++)
        cr_assert_eq(extents_cover(&account->dirty, at, at + 1), plain->dirty[at]);
    cr_assert_eq(account->upload != NULL, plain->upload);
    for (size_t i = 0; account->upload && i < SPACE / PART; i++) {
        bool known = i < account->upload->part_count;
        cr_assert_eq(known ? account->upload->parts[i].size : 0, plain->part[i]);
        cr_assert_eq(known ? account->upload->parts[i].content_version : 0, plain->part_version[i]);
    }
}

static void compare(struct ledger *ledger, const struct model *model)
{
    for (uint64_t i = 1; i <= IDS; i++) {
        struct account *account = ledger_find(ledger, i);
        cr_assert_eq(account != NULL, model->all[i].there, "id %" PRIu64, i);
        if (!account)
            continue;
        cr_assert_eq(account->children, count_children(model, i));
        compare_account(account, &model->all[i]);
    }
}

/* ---- Random records, most of them near to what fits. ---- */

static uint64_t below(uint64_t limit)
{
    return (uint64_t)random() % limit;
}

struct words {
    char name[2], key[4], trying[4], xattrs[4];
};

/* What no kind has, and what one may have, as likely. */
static void make_target(struct record *record)
{
    static const char *const targets[] = {"", "over/there", "8:1", "8:1x"};
    bool linked = record->kind == S_IFLNK, device = record->kind == S_IFCHR || record->kind == S_IFBLK;
    record->target = linked || device ? targets[below(4)] : below(20) ? "" : "8:1";
    if (linked && below(4))
        record->target = "over/there";
}

static void make_place(const struct model *model, struct record *record, struct words *words)
{
    static const uint32_t kinds[] = {S_IFREG, S_IFREG, S_IFDIR, S_IFDIR,  S_IFDIR, S_IFDIR,
                                     S_IFLNK, S_IFIFO, S_IFCHR, S_IFSOCK, S_IFBLK, UNKNOWN_KIND};
    const struct plain *plain = &model->all[record->id];
    record->parent = below(4) ? below(IDS + 1) : 0;
    record->kind = plain->there && below(8) ? plain->kind : kinds[below(sizeof kinds / sizeof kinds[0])];
    make_target(record);
    words->name[0] = below(8) ? (char)('a' + below(3)) : 0;
    record->name = words->name;
    uint64_t there = who_is_at(model, record->parent, words->name);
    record->replaced = there != record->id && below(2) ? there : 0;
    if (record_is_birth(record)) {
        record->replaced = 0;
        record->attributes.mode = record->kind | 0644;
        record->attribute_version = record->content_version = 1;
    }
}

static void make_content(const struct plain *plain, struct record *record, struct words *words)
{
    record->start = below(SPACE);
    record->end = record->start + below(SPACE - record->start + 1);
    record->size = record->end + below(SPACE - record->end + 1);
    record->content_version = plain->version + below(4);
    record->remote_content_version =
        record->content_version - below(record->content_version + 1) + (below(20) == 0);
    record->remote_attribute_version = below(plain->attribute_version + 1) + (below(20) == 0);
    record->local = "l";
    snprintf(words->key, sizeof words->key, "k%" PRIu64, below(5));
    record->key = words->key;
}

static void make_record(const struct model *model, struct record *record, struct words *words)
{
    static const enum record_type types[] = {
        RECORD_NODE,       RECORD_NODE,           RECORD_NODE,   RECORD_BIRTH,    RECORD_BIRTH,
        RECORD_ATTRIBUTES, RECORD_WRITE,          RECORD_WRITE,  RECORD_WRITE,    RECORD_SIZE,
        RECORD_REMOTE,     RECORD_UPLOAD,         RECORD_PART,   RECORD_PART,     RECORD_UPLOAD_END,
        RECORD_TRYING,     RECORD_FORGET,         RECORD_FORGET, RECORD_RESTATED, RECORD_EXCLUSIVE,
        RECORD_XATTRS,     RECORD_BIRTH_EXCLUSIVE};
    memset(words, 0, sizeof *words);
    *record = (struct record){.type = types[below(sizeof types / sizeof types[0])], .id = 1 + below(IDS)};
    const struct plain *plain = &model->all[record->id];
    if (record->type == RECORD_NODE || record_is_birth(record))
        make_place(model, record, words);
    if (record->type == RECORD_ATTRIBUTES) {
        record->attributes.mode = plain->kind | (uint32_t)below(512);
        record->attribute_version = plain->attribute_version + below(3) - (plain->attribute_version > 0);
    }
    if (record->type == RECORD_XATTRS) {
        snprintf(words->xattrs, sizeof words->xattrs, "%s", below(3) ? "a" : below(2) ? "b" : "");
        record->xattrs = words->xattrs;
        record->attribute_version = plain->attribute_version + below(3) - (plain->attribute_version > 0);
    }
    if (record->type == RECORD_WRITE || record->type == RECORD_SIZE || record->type == RECORD_REMOTE ||
        record->type == RECORD_RESTATED)
        make_content(plain, record, words);
    if (record->type == RECORD_UPLOAD) {
        record->upload_id = "u";
        record->key = "k";
        record->plan = (struct part_plan){.bytes = PART, .bytes_max = PART, .equal = true};
    }
    if (record->type == RECORD_PART) {
        record->index = below(SPACE / PART);
        record->size = below(PART);
        record->content_version = below(plain->version + 1);
    }
    if (record->type == RECORD_TRYING) {
        snprintf(words->trying, sizeof words->trying, "%s", below(2) ? "try" : "");
        record->skyvol_id = words->trying;
        record->key = "k";
    }
}

static unsigned seed_and_say(void)
{
    const char *given = getenv("SKYVOL_SEED");
    unsigned seed = given ? (unsigned)strtoul(given, NULL, 10) : (unsigned)time(NULL);
    fprintf(stderr, "SKYVOL_SEED=%u\n", seed);
    srandom(seed);
    return seed;
}

Test(ledger, agrees_with_a_plain_model_after_any_records)
{
    seed_and_say();
    size_t taken = 0, refused = 0;
    for (int round = 0; round < 300; round++) {
        LEDGER_SCOPED(ledger);
        struct model model = {0};
        for (int step = 0; step < 300; step++) {
            struct record record;
            struct words words;
            make_record(&model, &record, &words);
            bool fits = model_apply(&model, &record);
            cr_assert_eq(apply(&ledger, &record), fits ? 0 : -EBADMSG, "%s of %" PRIu64,
                         record_type_name(record.type), record.id);
            taken += fits;
            refused += !fits;
            compare(&ledger, &model);
        }
        same_after_dump(&ledger);
    }
    cr_assert(taken > 15000 && refused > 10000, "%zu taken, %zu refused", taken, refused);
}

Test(ledger, a_dump_in_slices_is_the_state_of_its_beginning_whatever_comes_meanwhile)
{
    seed_and_say();
    for (int round = 0; round < 1000; round++) {
        LEDGER_SCOPED(ledger);
        LEDGER_SCOPED(before);
        LEDGER_SCOPED(dumped);
        struct model model = {0};
        struct record record;
        struct words words;
        for (int step = 0; step < 100; step++) {
            make_record(&model, &record, &words);
            if (model_apply(&model, &record)) {
                apply(&ledger, &record);
                apply(&before, &record);
            }
        }
        ledger_dump_begin(&ledger, apply_to, &dumped);
        bool more = true;
        for (int step = 0; step < 30 || more; step++) {
            make_record(&model, &record, &words);
            if (model_apply(&model, &record))
                apply(&ledger, &record);
            if (more && below(5) == 0)
                more = ledger_dump_more(&ledger, 1 + below(600));
        }
        ledger_check(&dumped);
        same_state(&before, &dumped);
        ledger_check(&ledger);
        same_after_dump(&ledger);
    }
}

Test(ledger, a_dump_that_is_abandoned_leaves_no_trace)
{
    LEDGER_SCOPED(ledger);
    LEDGER_SCOPED(dumped);
    for (uint64_t id = 1; id < 100; id++) {
        char name[8];
        snprintf(name, sizeof name, "f%" PRIu64, id);
        cr_assert_eq(add_file(&ledger, id, 0, name), 0);
    }
    ledger_dump_begin(&ledger, apply_to, &dumped);
    cr_assert(ledger_dump_more(&ledger, 1000));
    ledger_dump_end(&ledger);
    ledger_dump_end(&ledger);
    cr_assert_eq(APPLY(&ledger, .type = RECORD_FORGET, .id = 99), 0);
    same_after_dump(&ledger);
}
