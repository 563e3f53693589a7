/* What is told of a tree that changes here: cache/forest.c. */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/core.h"
#include "cache/forest.h"
#include "tests/support/walks.h"

/* ---- Against changes of our own. ---- */

Test(forest_changes, what_changed_here_since_it_was_asked_for_wins)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    assert_walk(&room, 0, 10, "f0 f1 ");
    cr_assert_eq(tree_unlink(&room, "d011/f0"), 0);
    cr_assert_eq(tree_write(&room, "d012/new", "x"), 0);
    cr_assert_eq(tree_mkdir(&room, "d013/e"), 0);
    cr_assert_eq(tree_unlink(&room, "d014/f0"), 0);
    cr_assert_eq(tree_unlink(&room, "d014/f1"), 0);
    cr_assert_eq(tree_rmdir(&room, "d014"), 0);
    cr_assert_eq(tree_mkdir(&room, "d014"), 0);
    cr_assert_eq(tree_rename(&room, "d015/f0", "d016/g", 0), 0);
    assert_directory(&room, 11, "f1 ");
    assert_directory(&room, 12, "f0 f1 new ");
    assert_directory(&room, 13, "e/ f0 f1 ");
    assert_directory(&room, 14, "");
    assert_directory(&room, 15, "f1 ");
    assert_directory(&room, 16, "f0 f1 g ");
    assert_drained(&room);
    assert_directory(&room, 11, "f1 ");
    assert_directory(&room, 14, "");
    cr_assert_eq(tree_rename(&room, "d020", "elsewhere", 0), 0);
    cr_assert_eq(tree_rename(&room, "d021", "d020", 0), 0);
    cr_assert_eq(tree_unlink(&room, "d020/f1"), 0);
    assert_list(&room, "d020", true, "f0 ");
    assert_list(&room, "elsewhere", true, "f0 f1 ");
    clock_fake_end();
}

Test(forest_changes, what_is_below_a_directory_that_moved_comes_from_where_it_was)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    tree_put(&room, "p/d020/e/x", "x", NULL);
    tree_put(&room, "p/d021/e/y", "x", NULL);
    assert_walk(&room, 0, 10, "f0 f1 ");
    assert_list(&room, "d020", true, "e/ f0 f1 ");
    assert_list(&room, "d021", true, "e/ f0 f1 ");
    cr_assert_eq(tree_rename(&room, "d020", "elsewhere", 0), 0);
    cr_assert_eq(tree_rename(&room, "d021", "d020", 0), 0);
    assert_list(&room, "d020/e", true, "y ");
    assert_list(&room, "elsewhere/e", true, "x ");
    clock_fake_end();
}

Test(forest_changes, what_is_below_a_directory_that_came_again_is_not_what_was)
{
    struct room_config config = walks_config(true);
    config.negative_ttl_ms = 1;
    ROOM_SCOPED(room, &config);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    tree_put(&room, "p/e/e/g/x", "x", NULL);
    assert_walk(&room, 0, 10, "f0 f1 ");
    assert_list(&room, "e", true, "e/ ");
    memory_store_remove(room.bucket, "p/e/e/g/x");
    cr_assert_eq(tree_rmdir(&room, "e/e"), 0);
    cr_assert_eq(tree_rmdir(&room, "e"), 0);
    assert_drained(&room);
    tree_put(&room, "p/e/e/g/y", "x", NULL);
    clock_fake_advance(2);
    assert_list(&room, "e/e/g", true, "y ");
    clock_fake_end();
}

Test(forest_changes, what_changes_here_while_it_is_on_its_way_wins)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct walker walker;
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 3);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    clock_fake_advance(600); /* the markers are known, and the rest of what told them is of no use */
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/"});
    walker_start(&walker, &room, 1, 2);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/", 1));
    cr_assert(memory_store_settle(room.bucket)); /* it happened; its answer is on its way */
    cr_assert_eq(tree_unlink(&room, "d020/f0"), 0);
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(walker.thread, NULL);
    cr_assert(walker.right);
    size_t before = walks_lists(&room);
    assert_directory(&room, 3, "f0 f1 f2 ");
    cr_assert_eq(walks_lists(&room), before, "the rest of it is of use");
    assert_directory(&room, 20, "f1 f2 ");
    clock_fake_end();
}

/* ---- A tree that changes at random, walked all the time. ---- */

#define PATHS_MAX 400

struct shadow {
    struct room *room;
    char *paths[PATHS_MAX]; /* "a/b", directories "a/b/" */
    size_t count;
    unsigned seed;
};

static unsigned pick(struct shadow *shadow, unsigned limit)
{
    shadow->seed = shadow->seed * 1103515245 + 12345;
    return (shadow->seed >> 16) % limit;
}

static bool shadow_has(const struct shadow *shadow, const char *path, bool folder)
{
    size_t length = strlen(path);
    for (size_t i = 0; i < shadow->count; i++)
        if (strncmp(shadow->paths[i], path, length) == 0 &&
            strcmp(shadow->paths[i] + length, folder ? "/" : "") == 0)
            return true;
    return false;
}

static void shadow_drop(struct shadow *shadow, size_t at)
{
    free(shadow->paths[at]);
    shadow->paths[at] = shadow->paths[--shadow->count];
}

/* "" or "a/" of one that is there. */
static const char *pick_directory(struct shadow *shadow)
{
    for (int tries = 0; shadow->count && tries < 50; tries++) {
        const char *path = shadow->paths[pick(shadow, (unsigned)shadow->count)];
        if (path[strlen(path) - 1] == '/')
            return path;
    }
    return "";
}

static bool is_empty(const struct shadow *shadow, const char *directory)
{
    for (size_t i = 0; i < shadow->count; i++)
        if (strncmp(shadow->paths[i], directory, strlen(directory)) == 0 &&
            strcmp(shadow->paths[i], directory) != 0)
            return false;
    return true;
}

static char *without_slash(const char *path)
{
    return xstrndup(path, strlen(path) - (path[strlen(path) - 1] == '/'));
}

static void make_one(struct shadow *shadow)
{
    bool folder = pick(shadow, 3) == 0;
    STRING_SCOPED *path =
        xprintf("%s%c%u", pick_directory(shadow), folder ? 'd' : 'f', pick(shadow, folder ? 12 : 6));

    if (shadow->count == PATHS_MAX || shadow_has(shadow, path, folder) || strlen(path) > 12)
        return;
    cr_assert_eq(folder ? tree_mkdir(shadow->room, path) : tree_write(shadow->room, path, "x"), 0, "%s",
                 path);
    shadow->paths[shadow->count++] = xprintf("%s%s", path, folder ? "/" : "");
}

static void remove_one(struct shadow *shadow)
{
    size_t at = shadow->count ? pick(shadow, (unsigned)shadow->count) : 0;

    if (!shadow->count || !is_empty(shadow, shadow->paths[at]))
        return;
    STRING_SCOPED *path = without_slash(shadow->paths[at]);
    bool folder = strcmp(path, shadow->paths[at]) != 0;
    int rc = folder ? tree_rmdir(shadow->room, path) : tree_unlink(shadow->room, path);
    cr_assert_eq(rc, 0, "%s: %d", shadow->paths[at], rc);
    shadow_drop(shadow, at);
}

static void rename_one(struct shadow *shadow)
{
    size_t at = shadow->count ? pick(shadow, (unsigned)shadow->count) : 0;

    if (!shadow->count)
        return;
    STRING_SCOPED *from = xstrdup(shadow->paths[at]), *bare = without_slash(from);
    bool folder = strcmp(from, bare) != 0;
    STRING_SCOPED *to =
        xprintf("%s%c%u", pick_directory(shadow), folder ? 'd' : 'f', pick(shadow, folder ? 12 : 6));
    if (shadow_has(shadow, to, folder) || strncmp(to, from, strlen(from)) == 0 || strlen(to) > 9)
        return;
    cr_assert_eq(tree_rename(shadow->room, bare, to, 0), 0, "%s %s", bare, to);
    for (size_t i = 0; i < shadow->count; i++)
        if (strcmp(shadow->paths[i], from) == 0 ||
            (folder && strncmp(shadow->paths[i], from, strlen(from)) == 0)) {
            char *moved = xprintf("%s%s", to, shadow->paths[i] + strlen(bare));
            free(shadow->paths[i]);
            shadow->paths[i] = moved;
        }
}

/* No directory is listed behind: by this clock that may take long, and is believed three times as long. */
static bool is_quiet_locked(struct inode *directory)
{
    bool quiet = !directory->refreshing;
    list_for_each (at, &directory->children)
        quiet = quiet && is_quiet_locked(container_of(at, struct inode, sibling));
    return quiet;
}

static bool is_quiet(void *context)
{
    struct room *room = context;
    LOCK_SCOPED(&room->cache->names.lock);
    return is_quiet_locked(room->root);
}

/* Another client, which has been heard of after attr_ttl. */
static void put_one(struct shadow *shadow)
{
    STRING_SCOPED *path = xprintf("%sx%u", pick_directory(shadow), pick(shadow, 4));
    STRING_SCOPED *key = xprintf("p/%s", path);

    if (shadow->count == PATHS_MAX || shadow_has(shadow, path, false))
        return;
    cr_assert(room_await(is_quiet, shadow->room));
    assert_drained(shadow->room); /* else a directory may be on its way to another name */
    memory_store_put_text(shadow->room->bucket, key, "x");
    shadow->paths[shadow->count++] = xstrdup(path);
    clock_fake_advance(1001);
}

static void walk_below(struct shadow *shadow, const char *directory)
{
    STRING_SCOPED *bare = *directory ? without_slash(directory) : xstrdup("");
    BUF_SCOPED list = BUF_INIT;
    size_t expected = 0, found = 0;

    cr_assert_eq(tree_list(shadow->room, bare, pick(shadow, 2), &list), 0, "%s", directory);
    for (size_t i = 0; i < shadow->count; i++) {
        if (strncmp(shadow->paths[i], directory, strlen(directory)) != 0)
            continue;
        const char *rest = shadow->paths[i] + strlen(directory), *slash = strchr(rest, '/');
        expected += *rest && (!slash || !slash[1]);
    }
    for (char *name = list.bytes, *next; *name; name = next) {
        next = name + strcspn(name, " ") + 1;
        next[-1] = '\0';
        name[strcspn(name, "?")] = '\0';
        STRING_SCOPED *path = xprintf("%s%s", directory, name);
        STRING_SCOPED *plain = without_slash(path);
        bool folder = strcmp(path, plain) != 0;
        cr_assert(shadow_has(shadow, plain, folder), "%s is not there", path);
        found++;
        if (folder)
            walk_below(shadow, path);
    }
    cr_assert_eq(found, expected, "in %s: %zu of %zu", directory, found, expected);
}

static void change_and_walk(struct room *room, unsigned seed)
{
    struct shadow shadow = {.room = room, .seed = seed};
    void (*const changes[])(struct shadow *) = {make_one,   make_one,   make_one,
                                                remove_one, rename_one, put_one};

    clock_fake_begin(INT64_C(1700000000000000000));
    for (int i = 0; i < 60; i++)
        make_one(&shadow);
    for (int round = 0; round < 60; round++) {
        walk_below(&shadow, "");
        for (unsigned some = pick(&shadow, 4); some-- > 0;)
            changes[pick(&shadow, 6)](&shadow);
        if (pick(&shadow, 4) == 0)
            assert_drained(room);
        cr_assert(room_await(is_quiet, room));
        clock_fake_advance(pick(&shadow, 3) ? pick(&shadow, 300) : 900);
    }
    clock_fake_end();
    while (shadow.count)
        shadow_drop(&shadow, 0);
}

Test(forest_changes, whatever_changes_here_each_walk_shows_the_tree_as_it_is)
{
    for (unsigned seed = 1; seed <= 12; seed++) {
        struct room_config config = walks_config(seed & 1);
        config.durability = seed & 2 ? DURABILITY_WRITEBACK : DURABILITY_SYNC;
        config.catalog = seed & 4;
        config.boot = "boot";
        ROOM_SCOPED(room, &config);
        change_and_walk(&room, seed);
    }
}

/* ---- What is renamed while the server is asked. ---- */

struct renamer {
    struct room room;
    const char *from, *to;
    pthread_t thread;
    int rc;
};
static void *rename_thread(void *context)
{
    struct renamer *r = context;
    waiter_init(&r->room.waiter);
    r->rc = tree_rename(&r->room, r->from, r->to, 0);
    waiter_release(&r->room.waiter);
    return NULL;
}
static void check_rename(bool folder)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct renamer r = {.from = folder ? "d010/e" : "d010/f0", .to = folder ? "d010/g" : "d010/h"};
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    tree_put(&room, "p/d010/e/x", "x", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    assert_list(&room, "d010", true, "e/ f0 f1 ");
    clock_fake_advance(900); /* about to expire, known */
    r.room = room;
    enum store_op op = folder ? STORE_DELETE_MANY : STORE_DELETE;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = op});
    pthread_create(&r.thread, NULL, rename_thread, &r);
    cr_assert(memory_store_await(room.bucket, op, NULL, 1));
    clock_fake_advance(200);
    assert_directory(&room, 1, "f0 f1 ");
    assert_directory(&room, 2, "f0 f1 ");
    assert_directory(&room, 3, "f0 f1 ");
    memory_store_faults_end(room.bucket);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.rc, 0);
    struct attributes attributes;
    assert_list(&room, "d010", true, folder ? "f0 f1 g/ " : "e/ f1 h ");
    cr_assert_eq(tree_stat(&room, r.from, &attributes), -ENOENT);
    clock_fake_end();
}
Test(forest_changes, a_directory_renamed_in_sync_is_not_shown_under_its_old_name)
{
    check_rename(true);
}
Test(forest_changes, a_file_renamed_in_sync_is_not_shown_under_its_old_name)
{
    check_rename(false);
}

Test(forest_changes, copies_of_a_directory_whose_rename_failed_are_not_shown)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct renamer r = {.from = "d020", .to = "d021/new"};
    BUF_SCOPED list = BUF_INIT;
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    cr_assert_eq(tree_list(&room, "", true, &list), 0);
    assert_directory(&room, 0, "f0 f1 ");
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_DELAY, .op = STORE_COPY, .key = "p/d021/new/f1", .delay_ms = 700});
    memory_store_fault(
        room.bucket,
        &(struct fault){.kind = FAULT_FAIL, .op = STORE_COPY, .key = "p/d021/new/f1", .rc = -EACCES});
    r.room = room;
    pthread_create(&r.thread, NULL, rename_thread, &r);
    cr_assert(memory_store_await(room.bucket, STORE_COPY, "p/d021/new/f1", 1));
    cr_assert(memory_store_settle(room.bucket));
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 f1 "); /* this tells of the first copy */
    cr_assert(memory_store_has(room.bucket, "p/d021/new/f0"));
    clock_fake_advance(100);
    pthread_join(r.thread, NULL);
    cr_assert_eq(r.rc, -EACCES);
    cr_assert_not(memory_store_has(room.bucket, "p/d021/new/f0"));
    assert_directory(&room, 21, "f0 f1 ");
    assert_directory(&room, 20, "f0 f1 ");
    clock_fake_end();
}

/* Where mkdir fails behind the point at which the object has gone: the marker's key is longer than keys may be. */
Test(forest_changes, an_object_that_made_way_for_a_directory_is_not_shown)
{
    struct room_config config = walks_config(true);
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    char name[201], last[214];
    memset(name, 'n', 200);
    memset(last, 'l', 213);
    name[200] = last[213] = '\0';
    STRING_SCOPED *directory = xprintf("d005/%s/%s/%s/%s", name, name, name, name);
    STRING_SCOPED *path = xprintf("%s/%s", directory, last), *key = xprintf("p/%s", path);
    cr_assert_eq(strlen(key), STORE_KEY_MAX);
    clock_fake_begin(INT64_C(1700000000000000000));
    walks_plant(&room, 30, 2);
    tree_put(&room, key, "x", NULL);
    assert_walk(&room, 0, 1, "f0 f1 ");
    cr_assert_eq(tree_open(&room, path, O_RDONLY, &handle), 0);
    cr_assert_eq(tree_unlink(&room, path), 0);
    clock_fake_advance(600);
    assert_directory(&room, 1, "f0 f1 ");
    cr_assert(memory_store_has(room.bucket, key), "it stands, hidden");
    cr_assert_eq(tree_mkdir(&room, path), -ENAMETOOLONG);
    cr_assert_not(memory_store_has(room.bucket, key));
    assert_list(&room, directory, true, "");
    cr_assert_eq(room_close(&room, handle), 0);
    clock_fake_end();
}

struct stater {
    struct room room;
    const char *path;
    pthread_t thread;
    int rc;
};
static void *stat_thread(void *context)
{
    struct stater *s = context;
    struct attributes attributes;
    waiter_init(&s->room.waiter);
    s->rc = tree_stat(&s->room, s->path, &attributes);
    waiter_release(&s->room.waiter);
    return NULL;
}
Test(forest_changes, a_directory_that_is_renamed_while_its_neighbours_are_asked_for_is_looked_for_anew)
{
    struct room_config config = walks_config(true);
    config.durability = DURABILITY_WRITEBACK;
    config.attr_ttl_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct stater s = {.path = "r/d020"};
    struct attributes attributes;
    BUF_SCOPED list = BUF_INIT;
    char key[64];
    for (int i = 0; i < 30; i++) {
        snprintf(key, sizeof key, "p/r/d%03d/f0", i);
        tree_put(&room, key, "x", NULL);
    }
    tree_put(&room, "p/a/f", "x", NULL);
    tree_put(&room, "p/b/f", "x", NULL);
    tree_put(&room, "p/c/f", "x", NULL);
    cr_assert_eq(tree_list(&room, "", false, &list), 0);
    cr_assert_eq(tree_list(&room, "r", false, &list), 0);
    cr_assert_eq(tree_stat(&room, "r/d001", &attributes), 0);
    {
        lock_take(&room.cache->names.lock);
        forest_clear_locked(room.cache);
        lock_drop(&room.cache->names.lock);
    }
    memory_store_fault(
        room.bucket, &(struct fault){.kind = FAULT_HANG_REPLY, .op = STORE_LIST, .key = "p/r/", .times = 1});
    s.room = room;
    pthread_create(&s.thread, NULL, stat_thread, &s);
    cr_assert(memory_store_await(room.bucket, STORE_LIST, "p/r/", 1));
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_COPY});
    cr_assert_eq(tree_rename(&room, "r", "s", 0), 0);
    cr_assert_eq(tree_list(&room, "a", true, &list), 0);
    cr_assert_eq(tree_list(&room, "b", true, &list), 0);
    cr_assert_eq(tree_list(&room, "c", true, &list), 0);
    memory_store_unhang(room.bucket, STORE_LIST, NULL);
    pthread_join(s.thread, NULL);
    room_start_server(&room);
}
