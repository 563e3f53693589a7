#include <criterion/criterion.h>
#include <inttypes.h>
#include <pthread.h>
#include <semaphore.h>

#include "base/clock.h"
#include "tests/cache/catalog_stage.h"

#define MIB ((uint64_t)1 << 20)

TestSuite(catalog_evict, .init = begin, .fini = end);

/* ---- Room. ---- */

#define FULL_NAMES 300

static void fill_directory(uint64_t directory, int64_t listed)
{
    WAITER_SCOPED(waiter);
    char name[32], text[100];

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    for (int i = 0; i < FULL_NAMES; i++) {
        snprintf(name, sizeof name, "%d", i);
        put(directory, name, text);
    }
    catalog_set_listed(stage.catalog, directory, listed);
    cr_assert_eq(catalog_wait_room(stage.catalog, &waiter), 0);
}

/* True: it is listed, and whole. */
static bool is_whole(uint64_t directory)
{
    int count = 0;

    if (!catalog_listed(stage.catalog, directory))
        return false;
    cr_assert_eq(catalog_walk(stage.catalog, directory, count_name, &count), 0);
    cr_assert_eq(count, FULL_NAMES);
    return true;
}

Test(catalog_evict, when_it_is_nearly_full_whole_directories_go_those_first_that_were_listed_longest_ago)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    fill_directory(CATALOG_ROOT, 1);
    for (uint64_t i = 2; i < 400; i++) {
        fill_directory(i, (int64_t)i);
        if (i % 10 == 0)
            catalog_settle(stage.catalog);
        cr_assert_leq(report("bytes"), (int64_t)(4 * MIB));
    }
    catalog_settle(stage.catalog);
    cr_assert_not(is_reported_bypassed());
    cr_assert_leq(size_of("/data.mdb"), (off_t)(4 * MIB));
    cr_assert_not(is_whole(CATALOG_ROOT));
    cr_assert(is_whole(399) && is_whole(390));
    bool whole = false;
    for (uint64_t i = 2; i < 400; i++) {
        cr_assert(!whole || is_whole(i), "%" PRIu64, i);
        whole = is_whole(i);
        assert_find(i, "0x", whole ? "ENOENT" : "ENODATA");
    }
    open_again();
    cr_assert(is_whole(399));
}

Test(catalog_evict, directories_that_were_never_listed_go_last_and_go)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    for (uint64_t i = 1; i < 20; i++)
        fill_directory(i, 0);
    for (uint64_t i = 100; i < 300; i++)
        fill_directory(i, (int64_t)i);
    catalog_settle(stage.catalog);
    BUF_SCOPED facts = BUF_INIT;
    cr_assert_eq(catalog_find(stage.catalog, 1, "0", &facts), 0);
    for (uint64_t i = 1000; i < 1300; i++)
        fill_directory(i, 0);
    catalog_settle(stage.catalog);
    cr_assert_not(is_reported_bypassed());
    cr_assert_not(is_whole(299));
}

Test(catalog_evict, a_listing_that_began_before_its_names_were_evicted_is_not_whole)
{
    stage.config.bytes_max = 4 * MIB;
    open_it();
    for (int many = 0; many < 2; many++) {
        fill_directory(1, 1);
        catalog_settle(stage.catalog);
        int64_t began = clock_wall_ns();
        for (uint64_t i = 2; i < (many ? 1500 : 200); i++)
            fill_directory(i, (int64_t)i);
        catalog_settle(stage.catalog);
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        catalog_set_listed(stage.catalog, 1, began);
        cr_assert_eq(catalog_listed(stage.catalog, 1), 0);
        began = clock_wall_ns() + 1;
        fill_directory(1, began);
        cr_assert(is_whole(1));
    }
}

static sem_t walks, may_end;

static bool wait_here(void *context, const char *name, const void *facts, size_t length)
{
    (void)name, (void)facts, (void)length;
    if ((*(int *)context)++ == 0) {
        sem_post(&walks);
        sem_wait(&may_end);
    }
    return true;
}

static void *walk_slowly(void *context)
{
    cr_assert_eq(catalog_walk(stage.catalog, 1, wait_here, context), 0);
    return NULL;
}

static bool is_first_new(void *context, const char *name, const void *facts, size_t length)
{
    bool *is_new = context;
    *is_new = strcmp(name, "0") == 0 && length == 3 && memcmp(facts, "new", 3) == 0;
    return false;
}

/* Over what is being written as over what stands in the map. */
static void assert_newer_counts(uint64_t directory)
{
    BUF_SCOPED facts = BUF_INIT;
    bool new = false;

    put(directory, "0", "new");
    catalog_set_listed(stage.catalog, directory, (int64_t)directory);
    cr_assert_eq(catalog_find(stage.catalog, directory, "0", &facts), 0);
    cr_assert_str_eq(facts.bytes, "new");
    cr_assert_eq(catalog_walk(stage.catalog, directory, is_first_new, &new), 0);
    cr_assert(new);
}

Test(catalog_evict, a_walk_that_lasts_sees_all_of_its_moment_and_the_writer_waits_for_it_when_the_map_is_full)
{
    pthread_t thread;
    int seen = 0;

    stage.config.bytes_max = MIB;
    sem_init(&walks, 0, 0);
    sem_init(&may_end, 0, 0);
    open_it();
    fill_directory(1, 1);
    catalog_settle(stage.catalog);
    cr_assert_eq(pthread_create(&thread, NULL, walk_slowly, &seen), 0);
    sem_wait(&walks);
    for (uint64_t i = 2; i < 80; i++)
        fill_directory(i, (int64_t)i);
    usleep(200000);
    cr_assert_not(is_reported_bypassed());
    cr_assert_gt(report("waiting"), 0); /* it is full, and the pages that were given up are still looked at */
    for (uint64_t i = 2; i < 80; i++)
        assert_newer_counts(i);
    sem_post(&may_end);
    pthread_join(thread, NULL);
    cr_assert_eq(seen, FULL_NAMES);
    catalog_settle(stage.catalog);
    cr_assert_not(is_reported_bypassed());
    cr_assert(is_whole(79) && !is_whole(1));
}

Test(catalog_evict, what_waits_to_be_called_listed_is_not_when_its_names_are_evicted_meanwhile)
{
    stage.config.bytes_max = MIB;
    open_it();
    for (int round = 0; round < 5; round++) {
        fill_directory(900, 1);
        for (uint64_t i = 2; i < 20; i++)
            fill_directory(i, INT64_MAX - 1);
        catalog_settle(stage.catalog);
        catalog_set_listed(stage.catalog, 900, 2);
        for (uint64_t i = 20; i < 40; i++)
            fill_directory(i, INT64_MAX);
        catalog_settle(stage.catalog);
        is_whole(900);
        catalog_remove_below(stage.catalog, 900);
        for (uint64_t i = 2; i < 40; i++)
            catalog_remove_below(stage.catalog, i);
    }
}

Test(catalog_evict, a_map_that_is_larger_than_allowed_begins_anew)
{
    open_it();
    for (uint64_t i = 1; i < 100; i++)
        fill_directory(i, 1);
    close_it();
    stage.config.bytes_max = MIB;
    open_it();
    assert_find(1, "0", "ENODATA");
    fill_directory(1, 1);
    catalog_settle(stage.catalog);
    cr_assert(is_whole(1));
}

Test(catalog_evict, those_who_put_much_wait_and_can_be_interrupted)
{
    WAITER_SCOPED(waiter);
    char name[32], text[FACTS_BYTES_MAX];
    int rc = 0;

    memset(text, 'x', sizeof text);
    text[sizeof text - 1] = 0;
    open_it();
    for (int i = 0; rc == 0 && i < 100000; i++) {
        snprintf(name, sizeof name, "%d", rand());
        put(1, name, text);
        rc = catalog_wait_room(stage.catalog, NULL);
    }
    cr_assert_eq(rc, -EAGAIN);
    waiter_interrupt(&waiter);
    rc = catalog_wait_room(stage.catalog, &waiter);
    cr_assert(rc == -EINTR || rc == 0); /* 0: it was written meanwhile */
    WAITER_SCOPED(patient);
    cr_assert_eq(catalog_wait_room(stage.catalog, &patient), 0);
    cr_assert_leq(report("waiting"), (int64_t)CATALOG_WAITING_MAX);
}

/* ---- Many. ---- */

/* A million: bench/catalog. */
Test(catalog_evict, a_name_takes_less_than_350_bytes_of_the_file_however_the_names_came)
{
    uint64_t names = 0;
    int seen = 0;

    open_it();
    for (int round = 0; round < 2; round++) /* the second falls between the names of the first */
        for (uint64_t i = 0; i < 500; i++)
            names += put_like_ours(2 + (i * 7919 + (uint64_t)round * 500) % 1000, 100);
    names += put_like_ours(CATALOG_ROOT, 100000);
    catalog_set_listed(stage.catalog, CATALOG_ROOT, 77);
    catalog_settle(stage.catalog);
    cr_assert_lt((uint64_t)size_of("/data.mdb"), names * 350);
    cr_assert_eq(catalog_walk(stage.catalog, CATALOG_ROOT, count_name, &seen), 0);
    cr_assert_eq(seen, 100000);
}

Test(catalog_evict, a_directory_of_many_names_is_removed_in_many_small_steps)
{
    open_it();
    uint64_t top = catalog_new_directory(stage.catalog), sub = catalog_new_directory(stage.catalog);
    put_like_ours(sub, 20000);
    put_directory(top, "sub", sub);
    put(1, "a", "A");
    catalog_settle(stage.catalog);
    catalog_remove_below(stage.catalog, top);
    catalog_settle(stage.catalog);
    cr_assert_eq(report("entries"), 1);
}
