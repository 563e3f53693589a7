#include <criterion/criterion.h>
#include <dirent.h>

#include "base/clock.h"
#include "tests/cache/catalog_stage.h"

TestSuite(catalog, .init = begin, .fini = end);

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

Test(catalog, a_walk_gives_what_is_known_whether_that_is_all_or_not)
{
    BUF_SCOPED all = BUF_INIT;
    open_it();
    put(1, "b", "B");
    catalog_settle(stage.catalog);
    put(1, "a", "A");
    cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
    cr_assert_eq(catalog_walk(stage.catalog, 1, add_name, &all), 0);
    cr_assert_str_eq(all.bytes, "a=A b=B ");
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

/* ---- The writer. ---- */

static struct timespec when_written(void)
{
    STRING_SCOPED *path = make_path("/data.mdb");
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    return st.st_mtim;
}

Test(catalog, what_has_not_changed_is_not_written_again)
{
    open_it();
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    struct timespec before = when_written();
    usleep(20000); /* the kernel's clock of files ticks */
    put(1, "a", "A");
    put(1, "b", "B");
    catalog_remove(stage.catalog, 1, "c");
    catalog_set_listed(stage.catalog, 1, 77);
    catalog_settle(stage.catalog);
    struct timespec after = when_written();
    cr_assert(before.tv_sec == after.tv_sec && before.tv_nsec == after.tv_nsec);
    put(1, "b", "C");
    catalog_settle(stage.catalog);
    after = when_written();
    cr_assert(before.tv_sec != after.tv_sec || before.tv_nsec != after.tv_nsec);
}

Test(catalog, what_was_put_is_written_soon_without_being_asked_for)
{
    open_it();
    put(1, "a", "A");
    cr_assert_gt(report("waiting"), 0);
    int64_t until_ms = clock_ms() + 30000;
    while (report("waiting") > 0 && clock_ms() < until_ms)
        usleep(1000);
    cr_assert_eq(report("waiting"), 0);
    cr_assert_eq(report("entries"), 1);
    assert_find(1, "a", "A");
}

/* Of all threads but this one. */
static long count_switches(void)
{
    long all = 0;
    struct dirent *entry;
    DIR *tasks = opendir("/proc/self/task");

    while ((entry = readdir(tasks))) {
        char path[300], line[200];
        long switches;
        if (atoi(entry->d_name) == 0 || atoi(entry->d_name) == (int)gettid())
            continue;
        snprintf(path, sizeof path, "/proc/self/task/%s/status", entry->d_name);
        FILE *file = fopen(path, "r");
        while (file && fgets(line, sizeof line, file))
            if (sscanf(line, "voluntary_ctxt_switches: %ld", &switches) == 1)
                all += switches;
        if (file)
            fclose(file);
    }
    closedir(tasks);
    return all;
}

Test(catalog, who_has_nothing_to_write_sleeps)
{
    open_it();
    put(1, "a", "A");
    catalog_settle(stage.catalog);
    usleep(100000);
    long before = count_switches();
    usleep(300000);
    cr_assert_eq(count_switches(), before);
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
