#include "cache/catalog.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "cache/catalog_head.h"
#include "cache/facts.h"

#define MIB ((uint64_t)1 << 20)

/* ---- A place of its own. ---- */

struct stage {
    char root[64], path[80];
    struct catalog_config config;
    struct catalog *catalog;
};

static struct stage stage;

static void begin(void)
{
    strcpy(stage.root, "/tmp/skyvol-catalog.XXXXXX");
    cr_assert_not_null(mkdtemp(stage.root));
    snprintf(stage.path, sizeof stage.path, "%s/catalog", stage.root);
    stage.config =
        (struct catalog_config){.path = stage.path, .source = "http://host/bucket/p", .boot = "boot"};
}

static void end(void)
{
    char *command;

    catalog_free(stage.catalog);
    command = xprintf("rm -rf %s", stage.root);
    cr_assert_eq(system(command), 0);
    free(command);
}

TestSuite(catalog, .init = begin, .fini = end);

static void open_it(void)
{
    BUF_SCOPED why = BUF_INIT;

    stage.catalog = catalog_new(&stage.config, &why);
    cr_assert_not_null(stage.catalog, "%s", why.bytes);
}

static void close_it(void)
{
    catalog_free(stage.catalog);
    stage.catalog = NULL;
}

static void open_again(void)
{
    close_it();
    open_it();
}

static void put(uint64_t directory, const char *name, const char *text)
{
    catalog_put(stage.catalog, directory, name, text, strlen(text));
}

/* "facts"; "ENOENT", "ENODATA". */
static void assert_find(uint64_t directory, const char *name, const char *expected)
{
    BUF_SCOPED facts = BUF_INIT;
    int rc = catalog_find(stage.catalog, directory, name, &facts);
    const char *found = rc == -ENOENT ? "ENOENT" : rc == -ENODATA ? "ENODATA" : facts.bytes;

    cr_assert_str_eq(found, expected, "%s", name);
}

static bool add_name(void *context, const char *name, const void *facts, size_t length)
{
    buf_printf(context, "%s=%.*s ", name, (int)length, (const char *)facts);
    return true;
}

static void assert_walk(uint64_t directory, const char *expected)
{
    BUF_SCOPED all = BUF_INIT;
    int rc = catalog_walk(stage.catalog, directory, add_name, &all);

    if (rc == -ENODATA) {
        buf_reset(&all);
        buf_add_string(&all, "ENODATA");
    }
    cr_assert_str_eq(all.bytes, expected);
}

/* ---- What was put is found. ---- */

Test(catalog, what_was_put_is_found_at_once_and_after_it_was_written_and_after_it_was_opened_again)
{
    open_it();
    put(1, "a", "A");
    put(2, "a", "B");
    for (int i = 0; i < 3; i++) {
        assert_find(1, "a", "A");
        assert_find(2, "a", "B");
        assert_find(1, "b", "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
}

Test(catalog, the_last_that_was_said_of_a_name_counts)
{
    open_it();
    for (int written = 0; written < 3; written++) {
        put(1, "a", "A");
        if (written > 0)
            catalog_settle(stage.catalog);
        put(1, "a", "longer facts");
        assert_find(1, "a", "longer facts");
        if (written > 1)
            catalog_settle(stage.catalog);
        assert_find(1, "a", "longer facts");
        catalog_remove(stage.catalog, 1, "a");
        assert_find(1, "a", "ENODATA");
        catalog_settle(stage.catalog);
        assert_find(1, "a", "ENODATA");
    }
}

Test(catalog, while_a_directory_was_listed_whole_a_name_that_is_not_there_does_not_exist)
{
    open_it();
    put(1, "a", "A");
    catalog_set_listed(stage.catalog, 1, 77);
    for (int i = 0; i < 3; i++) {
        assert_find(1, "b", "ENOENT");
        assert_find(1, "a", "A");
        assert_find(2, "b", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, 1), 77);
        assert_walk(1, "a=A ");
        assert_walk(2, "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
    catalog_remove(stage.catalog, 1, "a");
    assert_find(1, "a", "ENOENT");
    assert_walk(1, "");
    catalog_set_listed(stage.catalog, 1, 0);
    for (int i = 0; i < 3; i++) {
        assert_find(1, "a", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        assert_walk(1, "ENODATA");
        if (i == 0)
            catalog_settle(stage.catalog);
        else
            open_again();
    }
}

Test(catalog, a_walk_gives_names_in_the_order_of_their_bytes_what_waits_over_what_is_written)
{
    open_it();
    put(1, "b", "old");
    put(1, "d", "D");
    put(1, "f", "F");
    put(1, "z", "Z");
    put(2, "a", "other");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    put(1, "a", "A");
    put(1, "b", "new");
    put(1, "\xff", "last");
    put(1, "e", "E");
    put(1, "dd", "DD");
    catalog_remove(stage.catalog, 1, "f");
    for (int i = 0; i < 2; i++) {
        assert_walk(1, "a=A b=new d=D dd=DD e=E z=Z \xff=last ");
        catalog_settle(stage.catalog);
    }
}

static bool end_at_once(void *context, const char *name, const void *facts, size_t length)
{
    (void)name, (void)facts, (void)length;
    ++*(int *)context;
    return false;
}

Test(catalog, a_walk_ends_when_it_is_told_to)
{
    int seen = 0;

    open_it();
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_set_listed(stage.catalog, 1, 77);
    for (int i = 1; i <= 2; i++) {
        cr_assert_eq(catalog_walk(stage.catalog, 1, end_at_once, &seen), 0);
        cr_assert_eq(seen, i);
        catalog_settle(stage.catalog);
    }
}

/* ---- Below. ---- */

static void put_directory(uint64_t directory, const char *name, uint64_t id)
{
    struct facts facts = {.type = S_IFDIR, .directory = id};
    BUF_SCOPED bytes = BUF_INIT;

    cr_assert_eq(facts_write(&facts, directory, name, &bytes), 0);
    catalog_put(stage.catalog, directory, name, bytes.bytes, bytes.length);
}

Test(catalog, what_is_removed_below_goes_wherever_it_stood_and_what_is_put_after_stays)
{
    open_it();
    for (int written = 0; written < 4; written++) {
        uint64_t top = catalog_new_directory(stage.catalog), sub = catalog_new_directory(stage.catalog),
                 deep = catalog_new_directory(stage.catalog), moved = catalog_new_directory(stage.catalog);
        put(top, "a", "A");
        put_directory(top, "sub", sub);
        put_directory(top, "moved", moved);
        put(moved, "x", "X");
        if (written & 1)
            catalog_settle(stage.catalog);
        put_directory(sub, "deep", deep);
        put(deep, "b", "B");
        catalog_set_listed(stage.catalog, top, 5);
        catalog_set_listed(stage.catalog, deep, 5);
        if (written & 2)
            catalog_settle(stage.catalog);
        put_directory(1, "elsewhere", moved);
        catalog_remove(stage.catalog, top, "moved");
        catalog_remove_below(stage.catalog, top);
        put(top, "c", "C");
        for (int i = 0; i < 2; i++) {
            assert_find(top, "a", "ENODATA");
            assert_find(top, "c", "C");
            cr_assert_eq(catalog_listed(stage.catalog, top), 0);
            catalog_settle(stage.catalog);
        }
        assert_find(deep, "b", "ENODATA");
        cr_assert_eq(catalog_listed(stage.catalog, deep), 0);
        assert_find(moved, "x", "X");
    }
}

Test(catalog, numbers_of_directories_are_never_given_twice)
{
    uint64_t last = CATALOG_ROOT;

    open_it();
    for (int i = 0; i < 3; i++) {
        uint64_t id = catalog_new_directory(stage.catalog);
        cr_assert_gt(id, last);
        last = id;
        if (i)
            open_again();
    }
    cr_assert_neq(catalog_new_directory(NULL), catalog_new_directory(NULL));
}

/* ---- None at all. ---- */

Test(catalog, without_one_nothing_is_known_and_what_is_put_is_dropped)
{
    put(1, "a", "A");
    catalog_remove(NULL, 1, "a");
    catalog_remove_below(NULL, 1);
    catalog_set_listed(NULL, 1, 77);
    catalog_settle(NULL);
    cr_assert_eq(catalog_wait_room(NULL, NULL), 0);
    assert_find(1, "a", "ENODATA");
    assert_walk(1, "ENODATA");
    cr_assert_eq(catalog_listed(NULL, 1), 0);
    catalog_dying();
}
