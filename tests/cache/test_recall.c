#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "cache/catalog.h"
#include "cache/core.h"
#include "cache/lookup.h"
#include "tests/support/tree.h"

#define BOOT "boot-1"

static const struct room_config warm = {.bucket = {.list_meta = true}, .boot = BOOT, .catalog = true};

static void put_some(struct room *room)
{
    tree_put(room, "p/a", "aa", "mode=33184", NULL);
    tree_put(room, "p/d/x", "x", "mode=33188", NULL);
    tree_put(room, "p/d/y", "yy", NULL);
    tree_put(room, "p/l", "there", "mode=41471", NULL);
    tree_put(room, "p/m/", "", "mode=16832", NULL);
}

/* Nothing asks any more: the refresh behind has ended. */
static bool is_cold(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    bool cold = !room->root->warm_ms && !room->root->refreshing;
    list_for_each (at, &room->root->children) {
        struct inode *child = container_of(at, struct inode, sibling);
        cold = cold && !child->warm_ms && !child->refreshing;
    }
    return cold;
}

static void hang_lists(struct room *room)
{
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST});
    memory_store_fault(room->bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD});
}

Test(recall, what_an_earlier_mount_listed_is_there_at_once_while_the_server_is_still_silent)
{
    ROOM_SCOPED(room, &warm);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    room_close_cache(&room);
    room_reopen(&room);
    hang_lists(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    struct attributes attributes;
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0640);
    cr_assert_eq(attributes.size, 2);
    cr_assert_eq(tree_stat(&room, "m", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0700);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(is_cold, &room));
}

Test(recall, what_changed_in_the_bucket_is_seen_when_it_was_listed_behind)
{
    ROOM_SCOPED(room, &warm);
    struct entry entry;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    tree_put(&room, "p/a", "longer", NULL);
    tree_put(&room, "p/new", "n", NULL);
    memory_store_remove(room.bucket, "p/l");
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST});
    assert_list(&room, "", false, "a d/ l@ m/ ");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(is_cold, &room));
    assert_list(&room, "", false, "a d/ m/ new ");
    struct attributes attributes;
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
    cr_assert_eq(tree_lookup(&room, "l", &entry), -ENOENT);
}

Test(recall, who_opens_asks_the_server_whatever_was_known)
{
    ROOM_SCOPED(room, &warm);
    struct handle *handle;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    memory_store_remove(room.bucket, "p/a");
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST, .key = "p/"});
    struct attributes attributes;
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0, "who only looks is told what was known");
    int rc = tree_open(&room, "a", O_RDONLY, &handle);
    cr_assert(rc == -ENOENT || rc == -ESTALE, "%d", rc);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(is_cold, &room));
}

/* Every try to list them has failed. */
static bool has_tried(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return !room->root->refreshing;
}

Test(recall, until_the_server_answers_what_an_earlier_mount_listed_is_believed_also_by_who_makes_files)
{
    static const struct room_config config = {
        .bucket = {.list_meta = true}, .boot = BOOT, .catalog = true, .durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct entry entry;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    tree_put(&room, "p/new", "n", NULL);
    room_reopen(&room);
    atomic_store(&room.cache->unreached, true);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_FAIL});
    for (int times = 0; times < 3; times++) {
        assert_list(&room, "", false, "a d/ l@ m/ ");
        cr_assert_eq(tree_lookup(&room, "new", &entry), -ENOENT, "nobody knows of it yet");
        cr_assert(room_await(has_tried, &room));
    }
    cr_assert_eq(tree_write(&room, "mine", "m"), 0);
    assert_list(&room, "", false, "a d/ l@ m/ mine ");
    cr_assert(room_await(has_tried, &room));
    cr_assert(atomic_load(&room.cache->unreached), "503 is no answer");
    memory_store_faults_end(room.bucket);
    BUF_SCOPED either = BUF_INIT; /* what was known, or what is there: the answer may be here already */
    cr_assert_eq(tree_list(&room, "", false, &either), 0);
    cr_assert(room_await(is_cold, &room));
    cr_assert_not(atomic_load(&room.cache->unreached));
    assert_list(&room, "", false, "a d/ l@ m/ mine new ");
}

Test(recall, a_name_that_was_not_known_is_asked_for_also_in_a_warm_directory)
{
    ROOM_SCOPED(room, &warm);
    struct attributes attributes;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    tree_put(&room, "p/new", "new", NULL);
    room_reopen(&room);
    cr_assert_eq(tree_stat(&room, "new", &attributes), 0);
    cr_assert_eq(attributes.size, 3);
    cr_assert(room_await(is_cold, &room));
}

Test(recall, numbers_stay_over_mounts_also_of_what_was_renamed)
{
    ROOM_SCOPED(room, &warm);
    struct attributes before, after;
    put_some(&room);
    cr_assert_eq(tree_stat(&room, "d/x", &before), 0);
    cr_assert_eq(tree_rename(&room, "d/x", "d/z", 0), 0);
    room_close_cache(&room);
    for (int mount = 0; mount < 3; mount++) {
        room_reopen(&room);
        cr_assert_eq(tree_stat(&room, "d/z", &after), 0);
        cr_assert_eq(before.number, after.number, "mount %d", mount);
        assert_list(&room, "d", true, "y z ");
        cr_assert(room_await(is_cold, &room));
        room_close_cache(&room);
    }
}

Test(recall, our_own_changes_are_known_to_the_next_mount)
{
    ROOM_SCOPED(room, &warm);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_eq(tree_write(&room, "new", "12345"), 0);
    cr_assert_eq(tree_unlink(&room, "a"), 0);
    cr_assert_eq(tree_rename(&room, "d/x", "d/z", 0), 0);
    cr_assert_eq(tree_mkdir(&room, "made"), 0);
    cr_assert_eq(tree_rmdir(&room, "m"), 0);
    room_close_cache(&room);
    room_reopen(&room);
    hang_lists(&room);
    assert_list(&room, "", true, "d/ l@ made/ new ");
    assert_list(&room, "d", true, "y z ");
    struct attributes attributes;
    cr_assert_eq(tree_stat(&room, "new", &attributes), 0);
    cr_assert_eq(attributes.size, 5);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(is_cold, &room));
}

Test(recall, a_renamed_directory_is_not_known_under_its_old_name)
{
    ROOM_SCOPED(room, &warm);
    struct entry entry;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_eq(tree_rename(&room, "d", "e", 0), 0);
    room_close_cache(&room);
    room_reopen(&room);
    assert_list(&room, "", true, "a e/ l@ m/ ");
    assert_list(&room, "e", true, "x y ");
    cr_assert_eq(tree_lookup(&room, "d", &entry), -ENOENT);
    cr_assert(room_await(is_cold, &room));
    assert_list(&room, "e", true, "x y ");
}

Test(recall, where_listings_carry_no_metadata_a_known_version_costs_no_HEAD_after_a_remount)
{
    struct room_config config = {.boot = BOOT, .catalog = true};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    memory_store_log_clear(room.bucket);
    tree_put(&room, "p/l", "elsewhere", "mode=41471", NULL);
    room_reopen(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    cr_assert(room_await(is_cold, &room));
    assert_list(&room, "", true, "a d/ l@ m/ ");
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0640);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/a"), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, "p/l"), 1, "another version is asked for");
}

/* ---- More names than there is room for. ---- */

#define MANY 3000

static void put_many(struct room *room)
{
    char key[32];
    for (int i = 0; i < MANY; i++) {
        snprintf(key, sizeof key, "p/many/f%05d", i);
        memory_store_put_text(room->bucket, key, "12345678");
    }
}

static size_t count_words(const char *text)
{
    size_t count = 0;
    for (; *text; text++)
        count += *text == ' ';
    return count;
}

Test(recall, names_that_were_forgotten_for_want_of_room_are_answered_without_a_request)
{
    struct room_config config = {
        .bucket = {.list_meta = true}, .boot = BOOT, .catalog = true, .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    struct entry entry;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_many(&room);
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_list(&room, "many", true, &list), 0);
    cr_assert_eq(count_words(list.bytes), MANY);
    cr_assert_lt(room.cache->names.count, MANY / 2, "%zu names are held", room.cache->names.count);
    memory_store_log_clear(room.bucket);
    for (int i = 0; i < MANY; i += 7) {
        char path[32];
        snprintf(path, sizeof path, "many/f%05d", i);
        cr_assert_eq(tree_stat(&room, path, &attributes), 0, "%s", path);
        cr_assert_eq(attributes.size, 8);
        snprintf(path, sizeof path, "many/g%05d", i);
        cr_assert_eq(tree_lookup(&room, path, &entry), -ENOENT);
    }
    buf_reset(&list);
    cr_assert_eq(tree_list(&room, "many", false, &list), 0);
    cr_assert_eq(count_words(list.bytes), MANY);
    cr_assert_eq(memory_store_log_count(room.bucket), 0);
    clock_fake_advance(1001);
    memory_store_remove(room.bucket, "p/many/f00007");
    memory_store_put_text(room.bucket, "p/many/g", "1");
    buf_reset(&list);
    cr_assert_eq(tree_list(&room, "many", false, &list), 0);
    cr_assert_eq(count_words(list.bytes), MANY);
    cr_assert_null(strstr(list.bytes, "f00007"));
    cr_assert_eq(tree_lookup(&room, "many/f00007", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "many/g", &attributes), 0);
    clock_fake_end();
}

/* As the kernel does: it holds on to what it was told of. */
struct holder {
    struct inode *held[MANY];
    size_t count, names;
};

static bool hold_listed(void *context, struct listed *listed)
{
    struct holder *holder = context;
    if (strchr(listed->name, 'f')) {
        cr_assert_eq(listed->type, S_IFREG);
        cr_assert_neq(listed->number, 0);
        holder->names++;
    }
    if (listed->entry.inode)
        holder->held[holder->count++] = listed->entry.inode;
    return true;
}

Test(recall, who_holds_on_to_what_is_listed_is_told_of_no_more_than_there_is_room_for)
{
    struct room_config config = {.bucket = {.list_meta = true, .page_max = 100},
                                 .boot = BOOT,
                                 .catalog = true,
                                 .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    struct holder holder = {0};
    struct listing *listing;
    struct entry many;
    put_many(&room);
    cr_assert_eq(tree_lookup(&room, "many", &many), 0);
    cr_assert_eq(cache_list_open(room.cache, many.inode, &listing), 0);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, true, hold_listed, &holder), 0);
    cache_list_release(listing);
    cr_assert_eq(holder.names, MANY);
    cr_assert_gt(holder.count, 100);
    cr_assert_lt(holder.count, 1000, "%zu inodes are held", holder.count);
    cr_assert_lt(room.cache->names.count, 1000, "%zu names are held", room.cache->names.count);
    for (size_t i = 0; i < holder.count; i++)
        inode_unref(holder.held[i]);
    inode_unref(many.inode);
}

static void look_at_many(struct room *room, int from, int until)
{
    char path[32];
    struct attributes attributes;
    for (int i = from; i < until; i++) {
        snprintf(path, sizeof path, "many/f%05d", i);
        cr_assert_eq(tree_stat(room, path, &attributes), 0, "%s", path);
    }
}

Test(recall, a_large_directory_is_listed_anew_behind_when_asking_for_its_names_has_cost_as_much)
{
    enum { PAGE = 20, PAGES = MANY / PAGE };
    struct room_config config = {
        .bucket = {.list_meta = true, .page_max = PAGE}, .boot = BOOT, .catalog = true};
    ROOM_SCOPED(room, &config);
    cr_assert_gt(PAGES, LOOKUP_LARGE);
    clock_fake_begin(INT64_C(1700000000000000000));
    put_many(&room);
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_list(&room, "many", false, &list), 0);
    clock_fake_advance(1001);
    memory_store_log_clear(room.bucket);
    look_at_many(&room, 0, PAGES);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), PAGES, "one by one");
    look_at_many(&room, PAGES, PAGES + 1);
    cr_assert(room_await(is_cold, &room));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_LIST, "p/many/"), PAGES + 1,
                 "one was of the lookup of many");
    memory_store_log_clear(room.bucket);
    look_at_many(&room, 0, MANY);
    cr_assert_eq(memory_store_log_count(room.bucket), 0);
    clock_fake_end();
}

static bool stop_after_some(void *context, struct listed *listed)
{
    int *count = context;
    if (++*count == 10)
        return false; /* and its reference is not ours */
    if (listed->entry.inode)
        inode_unref(listed->entry.inode);
    return true;
}

Test(recall,
     who_looks_up_what_he_is_being_told_of_a_large_directory_waits_for_its_listing_and_asks_nothing_more)
{
    enum { PAGE = 20, PAGES = MANY / PAGE };
    struct room_config config = {.bucket = {.list_meta = true, .page_max = PAGE},
                                 .boot = BOOT,
                                 .catalog = true,
                                 .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    struct listing *listing;
    struct entry many;
    int count = 0;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_many(&room);
    cr_assert_eq(tree_lookup(&room, "many", &many), 0);
    cr_assert_eq(cache_list_open(room.cache, many.inode, &listing), 0);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, true, stop_after_some, &count), 0);
    memory_store_log_clear(room.bucket);
    look_at_many(&room, PAGE, MANY);
    cr_assert_leq(memory_store_logged(room.bucket, STORE_HEAD, NULL), LOOKUP_MISSES + 1);
    cr_assert_leq(memory_store_logged(room.bucket, STORE_LIST, NULL), PAGES + LOOKUP_MISSES + 2);
    cache_list_release(listing);
    inode_unref(many.inode);
    clock_fake_end();
}

Test(recall, what_is_made_and_removed_among_forgotten_names_is_seen_so)
{
    struct room_config config = {
        .bucket = {.list_meta = true}, .boot = BOOT, .catalog = true, .memory_bytes = (size_t)4 << 20};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    struct entry entry;
    put_many(&room);
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_list(&room, "many", true, &list), 0);
    cr_assert_eq(tree_unlink(&room, "many/f00003"), 0);
    cr_assert_eq(tree_rename(&room, "many/f00004", "many/f00005", 0), 0);
    cr_assert_eq(tree_write(&room, "many/h", "abc"), 0);
    buf_reset(&list);
    cr_assert_eq(tree_list(&room, "many", false, &list), 0);
    cr_assert_eq(count_words(list.bytes), MANY - 1);
    cr_assert_null(strstr(list.bytes, "f00003 "));
    cr_assert_null(strstr(list.bytes, "f00004 "));
    cr_assert_not_null(strstr(list.bytes, "f00005 "));
    cr_assert_not_null(strstr(list.bytes, "h "));
    cr_assert_eq(tree_lookup(&room, "many/f00003", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "many/h", &attributes), 0);
}

/* ---- Forgetting on request. ---- */

Test(recall, refresh_forgets_what_is_known_and_what_is_known_to_be_missing)
{
    ROOM_SCOPED(room, &warm);
    struct entry entry;
    struct attributes attributes;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_eq(tree_lookup(&room, "d/z", &entry), -ENOENT);
    tree_put(&room, "p/d/z", "zzz", NULL);
    tree_put(&room, "p/a", "longer", NULL);
    cr_assert_eq(tree_lookup(&room, "d/z", &entry), -ENOENT, "attr_ttl has not passed");
    cache_refresh(room.cache, "d");
    cr_assert_eq(tree_stat(&room, "d/z", &attributes), 0);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 2);
    cache_refresh(room.cache, "");
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
    cache_refresh(room.cache, "no/such/name");
    clock_fake_end();
}

Test(recall, refresh_forgets_also_what_would_be_believed_for_longer_than_the_clock_has_run)
{
    struct room_config config = warm;
    struct attributes attributes;
    config.attr_ttl_ms = INT64_C(365) * 24 * 3600 * 1000;
    ROOM_SCOPED(room, &config);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    tree_put(&room, "p/a", "longer", NULL);
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 2);
    cache_refresh(room.cache, "a");
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(room.cache->catalog, CATALOG_ROOT, "a", &facts), -ENODATA,
                 "nor when the tree forgets it");
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
}

Test(recall, without_a_directory_for_it_all_goes_on_as_if_nothing_had_been_known)
{
    struct room_config config = {.bucket = {.list_meta = true}, .boot = BOOT, .catalog = true};
    ROOM_SCOPED(room, &config);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    snprintf(room.catalog_path, sizeof room.catalog_path, "/proc/no/such");
    room_reopen(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    room.catalog_path[0] = '\0';
}

/* ---- What an upload by parts leaves out. ---- */

Test(recall, the_time_of_a_file_that_went_up_by_parts_is_known_to_the_next_mount)
{
    struct room_config config = {.bucket = {.list_meta = true, .part_bytes_min = 1},
                                 .boot = BOOT,
                                 .catalog = true,
                                 .part_bytes = 1 << 20};
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct attributes before, after;
    tree_put(&room, "p/a", "a", NULL);
    assert_list(&room, "", true, "a ");
    cr_assert_eq(room_create(&room, "big", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 3 << 20, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_eq(tree_stat(&room, "big", &before), 0);
    room_close_cache(&room);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST});
    cr_assert_eq(tree_stat(&room, "big", &after), 0);
    cr_assert_eq(after.mtime_ns, before.mtime_ns);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    cr_assert(room_await(is_cold, &room));
}

Test(recall, a_forgotten_name_is_believed_to_be_missing_no_longer_than_negative_ttl)
{
    struct room_config config = {.bucket = {.list_meta = true},
                                 .boot = BOOT,
                                 .catalog = true,
                                 .memory_bytes = (size_t)4 << 20,
                                 .attr_ttl_ms = 3600000};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    struct entry entry;
    room.cache->config.negative_ttl_ms = 1000;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_many(&room);
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_list(&room, "many", true, &list), 0);
    cr_assert_eq(tree_lookup(&room, "many/new", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/many/new", "x");
    clock_fake_advance(1001);
    cr_assert_eq(tree_stat(&room, "many/new", &attributes), 0);
    clock_fake_end();
}

/* ---- What is not to be believed. ---- */

static struct inode *find_inode(struct room *room, const char *path)
{
    LOCK_SCOPED(&room->cache->names.lock);
    return names_find_path_locked(&room->cache->names, path);
}

Test(recall, rows_that_went_for_want_of_room_are_noted_again_when_their_directory_is_listed)
{
    ROOM_SCOPED(room, &warm);
    clock_fake_begin(INT64_C(1700000000000000000));
    put_some(&room);
    assert_list(&room, "d", true, "x y ");
    uint64_t number = find_inode(&room, "d")->catalogued;
    catalog_remove(room.cache->catalog, number, "x");
    clock_fake_advance(1001);
    assert_list(&room, "d", true, "x y ");
    clock_fake_end();
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(room.cache->catalog, number, "x", &facts), 0);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    room_reopen(&room);
    hang_lists(&room);
    assert_list(&room, "d", true, "x y ");
    room_start_server(&room);
    cr_assert(room_await(is_cold, &room));
}

Test(recall, the_end_of_a_mount_waits_for_no_listing_behind)
{
    ROOM_SCOPED(room, &warm);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    room_close_cache(&room);
    room_reopen(&room);
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_LIST});
    assert_list(&room, "", true, "a d/ l@ m/ ");
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    int64_t started_ms = clock_ms();
    room_close_cache(&room);
    cr_assert_lt(clock_ms() - started_ms, 10000, "io_timeout is 60 s");
    room_start_server(&room);
}

Test(recall, an_object_that_was_copied_onto_itself_elsewhere_is_asked_for)
{
    struct room_config config = {.boot = BOOT, .catalog = true};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    cr_assert_eq(tree_write(&room, "f", "12345"), 0);
    cr_assert_eq(tree_stat(&room, "f", &attributes), 0);
    room_close_cache(&room);
    tree_put(&room, "p/f", "12345", "mode=33216", NULL); /* the same ETag; our row tells no LastModified */
    memory_store_log_clear(room.bucket);
    room_reopen(&room);
    assert_list(&room, "", true, "f ");
    cr_assert_eq(tree_stat(&room, "f", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0700);
}

Test(recall, refresh_of_all_leaves_nothing_for_the_next_mount_to_be_wrong_about)
{
    ROOM_SCOPED(room, &warm);
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_neq(catalog_listed(room.cache->catalog, CATALOG_ROOT), 0);
    uint64_t number = find_inode(&room, "d")->catalogued;
    cache_refresh(room.cache, "");
    catalog_settle(room.cache->catalog);
    cr_assert_eq(catalog_listed(room.cache->catalog, CATALOG_ROOT), 0);
    cr_assert_eq(catalog_listed(room.cache->catalog, number), 0);
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(room.cache->catalog, CATALOG_ROOT, "a", &facts), -ENODATA);
}

Test(recall, a_directory_with_forgotten_names_is_not_empty)
{
    struct room_config config = {.bucket = {.list_meta = true},
                                 .boot = BOOT,
                                 .catalog = true,
                                 .memory_bytes = (size_t)4 << 20,
                                 .durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    put_many(&room);
    BUF_SCOPED list = BUF_INIT;
    cr_assert_eq(tree_list(&room, "many", true, &list), 0);
    struct inode *many = find_inode(&room, "many");
    lock_take(&room.cache->names.lock);
    cr_assert(many->beyond);
    lock_drop(&room.cache->names.lock);
    cr_assert_eq(tree_rmdir(&room, "many"), -ENOTEMPTY);
    cr_assert_eq(tree_rename(&room, "many", "moved", 0), 0);
    assert_drained(&room);
    buf_reset(&list);
    cr_assert_eq(tree_list(&room, "moved", false, &list), 0);
    cr_assert_eq(count_words(list.bytes), MANY);
    struct entry entry;
    cr_assert_eq(tree_lookup(&room, "many", &entry), -ENOENT);
}

Test(recall, a_long_pause_of_who_reads_a_listing_makes_nothing_believed_for_long)
{
    struct room_config config = {.bucket = {.list_meta = true, .page_max = 2}, .boot = BOOT, .catalog = true};
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    struct entry entry;
    clock_fake_begin(INT64_C(1700000000000000000));
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    cr_assert_lt(room.root->listing_ms, 1000);
    clock_fake_advance(1001);
    cr_assert_eq(tree_lookup(&room, "new", &entry), -ENOENT);
    memory_store_put_text(room.bucket, "p/new", "n");
    clock_fake_advance(1001);
    cr_assert_eq(tree_stat(&room, "new", &attributes), 0);
    clock_fake_end();
}

Test(recall, attributes_of_a_directory_that_were_set_here_are_known_to_the_next_mount)
{
    ROOM_SCOPED(room, &warm);
    struct attributes attributes = {.mode = 0711};
    struct entry entry;
    put_some(&room);
    assert_list(&room, "", true, "a d/ l@ m/ ");
    cr_assert_eq(tree_lookup(&room, "m", &entry), 0);
    cr_assert_eq(
        cache_set_attributes(room.cache, &room.waiter, entry.inode, NULL, SET_MODE, &attributes, &attributes),
        0);
    inode_unref(entry.inode);
    room_close_cache(&room);
    room_reopen(&room);
    hang_lists(&room);
    cr_assert_eq(tree_stat(&room, "m", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFDIR | 0711);
    room_start_server(&room);
    cr_assert(room_await(is_cold, &room));
}

/* ---- Where nothing changes. ---- */

static const struct room_config immutable = {.bucket = {.list_meta = true},
                                             .boot = BOOT,
                                             .catalog = true,
                                             .read_only = true,
                                             .immutable = true,
                                             .attr_ttl_ms = INT64_C(365) * 24 * 3600 * 1000};

static bool take_name(void *context, struct listed *listed)
{
    buf_printf(context, "%s ", listed->name);
    inode_unref(listed->entry.inode);
    return true;
}

static uint64_t count_asked(struct room *room)
{
    return atomic_load(&room->cache->heads) + atomic_load(&room->cache->lists);
}

Test(recall, where_nothing_changes_the_server_is_asked_for_nothing_that_an_earlier_mount_knew)
{
    ROOM_SCOPED(room, &immutable);
    struct attributes attributes;
    struct entry entry;
    struct handle *handle;
    put_some(&room);
    tree_put(&room, "p/s/single/file", "single", NULL);
    assert_list(&room, "", true, "a d/ l@ m/ s/ ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_eq(tree_stat(&room, "s/single/file", &attributes), 0);
    room_close_cache(&room);
    room_reopen(&room);
    assert_list(&room, "", true, "a d/ l@ m/ s/ ");
    assert_list(&room, "d", true, "x y ");
    assert_list(&room, "d", true, "x y ");
    cr_assert_eq(tree_stat(&room, "a", &attributes), 0);
    cr_assert_eq(attributes.mode, S_IFREG | 0640);
    cr_assert_eq(tree_lookup(&room, "d/none", &entry), -ENOENT);
    cr_assert_eq(tree_stat(&room, "s/single/file", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
    cr_assert_eq(tree_open(&room, "a", O_RDONLY, &handle), 0);
    cache_release(room.cache, handle);
    cr_assert_eq(count_asked(&room), 0);
    cr_assert_eq(tree_lookup(&room, "s/other", &entry), -ENOENT);
    cr_assert_neq(count_asked(&room), 0, "s was not listed: nobody knew");
}

Test(recall, where_nothing_changes_what_a_mount_noted_that_saw_changes_is_not_believed)
{
    struct room_config config = immutable;
    config.immutable = false;
    ROOM_SCOPED(room, &config);
    struct attributes attributes;
    put_some(&room);
    assert_list(&room, "d", true, "x y ");
    room_close_cache(&room);
    tree_put(&room, "p/d/x", "longer", NULL);
    room.config.immutable = true;
    room_reopen(&room);
    cr_assert_eq(tree_stat(&room, "d/x", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
    assert_list(&room, "d", true, "x y ");
    room_close_cache(&room);
    room_reopen(&room);
    cr_assert_eq(tree_stat(&room, "d/x", &attributes), 0);
    cr_assert_eq(count_asked(&room), 0, "it believes what it noted itself");
}

Test(recall, where_nothing_changes_refresh_forgets_what_an_earlier_mount_knew)
{
    ROOM_SCOPED(room, &immutable);
    struct attributes attributes;
    put_some(&room);
    assert_list(&room, "d", true, "x y ");
    room_close_cache(&room);
    tree_put(&room, "p/d/x", "longer", NULL);
    tree_put(&room, "p/d/z", "new", NULL);
    room_reopen(&room);
    assert_list(&room, "d", true, "x y ");
    cache_refresh(room.cache, "d");
    assert_list(&room, "d", true, "x y z ");
    cr_assert_eq(tree_stat(&room, "d/x", &attributes), 0);
    cr_assert_eq(attributes.size, 6);
}

Test(recall, where_nothing_changes_who_opens_never_waits_and_another_version_is_another_node)
{
    ROOM_SCOPED(room, &immutable);
    struct entry before, after;
    struct handle *handle;
    struct opened opened;
    put_some(&room);
    cr_assert_eq(tree_lookup(&room, "d/x", &before), 0);
    cache_refresh(room.cache, "");
    cr_assert_eq(cache_open(room.cache, NULL, before.inode, O_RDONLY, 0, &handle, &opened), 0);
    cache_release(room.cache, handle);
    tree_put(&room, "p/d/x", "longer", NULL);
    cr_assert_eq(tree_lookup(&room, "d/x", &after), 0);
    cr_assert_neq(after.id, before.id, "the kernel may have it open");
    cr_assert_eq(after.attributes.number, before.attributes.number);
    cr_assert_eq(cache_open(room.cache, NULL, before.inode, O_RDONLY, 0, &handle, &opened), -ESTALE);
    inode_unref(before.inode);
    inode_unref(after.inode);
}

Test(recall, where_nothing_changes_a_listing_that_is_read_by_two_keeps_its_places)
{
    ROOM_SCOPED(room, &immutable);
    struct entry entry;
    struct listing *listing;
    put_some(&room);
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_list_open(room.cache, entry.inode, &listing), 0);
    BUF_SCOPED first = BUF_INIT;
    BUF_SCOPED second = BUF_INIT;
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, true, take_name, &first), 0);
    uint64_t asked = count_asked(&room);
    tree_put(&room, "p/d/a", "", NULL);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, true, take_name, &second), 0);
    cr_assert_str_eq(first.bytes, ". .. x y ");
    cr_assert_str_eq(second.bytes, first.bytes);
    cr_assert_eq(count_asked(&room), asked);
    cr_assert_gt(cache_list_bytes(listing), 0);
    cache_refresh(room.cache, "d");
    buf_reset(&second);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, true, take_name, &second), 0);
    cr_assert_str_eq(second.bytes, ". .. a x y ");
    cache_list_release(listing);
    inode_unref(entry.inode);
}

static bool take_some(void *context, struct listed *listed)
{
    int *room = context;
    bool takes = (*room)-- > 0;
    if (takes)
        inode_unref(listed->entry.inode);
    return takes;
}

Test(recall, where_nothing_changes_who_begins_to_list_does_not_undo_what_another_has_got)
{
    ROOM_SCOPED(room, &immutable);
    struct entry entry;
    struct listing *listing;
    for (int i = 0; i < 2500; i++) {
        char key[32];
        snprintf(key, sizeof key, "p/d/f%04d", i);
        tree_put(&room, key, "", NULL);
    }
    cr_assert_eq(tree_lookup(&room, "d", &entry), 0);
    cr_assert_eq(cache_list_open(room.cache, entry.inode, &listing), 0);
    uint64_t before = count_asked(&room);
    int one = 1200, other = 10, rest = 9999;
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_some, &one), 0);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 0, false, take_some, &other), 0);
    cr_assert_eq(cache_list(room.cache, &room.waiter, listing, 1200, false, take_some, &rest), 0);
    cr_assert_eq(9999 - rest, 2502 - 1200);
    cr_assert_leq(count_asked(&room) - before, 3, "pages");
    cache_list_release(listing);
    inode_unref(entry.inode);
}

static int64_t count_entries(struct room *room)
{
    struct json *report = json_object_new();
    int64_t entries = -1;
    assert_drained(room);
    catalog_settle(room->cache->catalog);
    catalog_report(room->cache->catalog, report);
    cr_assert(json_get_integer(report, "entries", &entries));
    json_free(report);
    return entries;
}

Test(recall, of_a_directory_that_was_removed_or_renamed_over_nothing_is_left)
{
    for (int way = 0; way < 4; way++) {
        ROOM_SCOPED(room,
                    &((struct room_config){.catalog = true,
                                           .boot = BOOT,
                                           .durability = way & 1 ? DURABILITY_SYNC : DURABILITY_WRITEBACK,
                                           .attr_ttl_ms = 1,
                                           .negative_ttl_ms = 1}));
        tree_put(&room, "p/stays", "x", NULL);
        assert_list(&room, "", true, "stays ");
        int64_t before = count_entries(&room);
        for (int i = 0; i < 8; i++) {
            assert_list(&room, "", true, "stays ");
            cr_assert_eq(tree_mkdir(&room, "d"), 0);
            assert_list(&room, "d", true, "");
            if (way & 2) {
                cr_assert_eq(tree_mkdir(&room, "e"), 0);
                assert_drained(&room);
                cr_assert_eq(tree_rename(&room, "e", "d", 0), 0);
            }
            assert_drained(&room);
            usleep(2500); /* the server is asked */
            assert_list(&room, "d", true, "");
            cr_assert_eq(tree_rmdir(&room, "d"), 0);
        }
        int64_t after = count_entries(&room);
        cr_assert_leq(after, before, "way %d: %d, %d", way, (int)before, (int)after);
    }
}
