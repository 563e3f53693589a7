/* Threads that put, remove, list, find and walk side by side over a small map, for ThreadSanitizer: what one thread said it finds again,
 * unless it was evicted, and a directory that counts as listed has all of its names. */
#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cache/catalog.h"

#define THREADS 4
#define ROUNDS  100
#define NAMES   200

struct actor {
    struct catalog *catalog;
    uint64_t directory; /* nobody else puts there */
    uint64_t seen, answers, evicted;
    uint64_t before[ROUNDS]; /* what it filled and left */
    int count;
};

static bool count_name(void *context, const char *name, const void *facts, size_t length)
{
    size_t *count = context;
    assert(length == 40 && strncmp(facts, name, strlen(name)) == 0);
    ++*count;
    return true;
}

static void put_one(struct actor *actor, int i)
{
    char name[16], facts[40] = "";
    snprintf(name, sizeof name, "%d", i);
    strcpy(facts, name);
    catalog_put(actor->catalog, actor->directory, name, facts, sizeof facts);
}

static void check_all(struct actor *actor, size_t expected)
{
    size_t count = 0;
    int rc = catalog_walk(actor->catalog, actor->directory, count_name, &count);
    assert(rc == -ENODATA || !catalog_listed(actor->catalog, actor->directory) || count == expected);
    for (int i = 0; i < NAMES; i += 17) {
        BUF_SCOPED facts = BUF_INIT;
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        rc = catalog_find(actor->catalog, actor->directory, name, &facts);
        assert(rc == 0 || rc == -ENODATA);
        actor->answers += rc == 0;
        rc = catalog_find(actor->catalog, actor->directory, "none", &facts);
        assert(rc == -ENOENT || rc == -ENODATA);
    }
}

/* What the others are at is looked at too. */
static void look_around(struct actor *actor, uint64_t last)
{
    for (uint64_t id = last > 20 ? last - 20 : 2; id < last; id++) {
        size_t count = 0;
        catalog_listed(actor->catalog, id);
        catalog_walk(actor->catalog, id, count_name, &count);
        actor->seen += count;
    }
}

/* Whole, or not known. */
static void look_back(struct actor *actor)
{
    for (int i = 0; i < actor->count; i += 5) {
        size_t count = 0;
        int rc = catalog_walk(actor->catalog, actor->before[i], count_name, &count);
        bool whole = catalog_listed(actor->catalog, actor->before[i]);
        assert(rc == -ENODATA || !whole || count == NAMES - 1);
        actor->evicted += !whole;
    }
}

static void live_once(struct actor *actor, int round, struct waiter *waiter)
{
    int64_t began = clock_wall_ns();
    actor->directory = catalog_new_directory(actor->catalog);
    for (int i = 0; i < NAMES; i++)
        put_one(actor, i);
    catalog_set_listed(actor->catalog, actor->directory, began);
    check_all(actor, NAMES);
    if (round % 7 == 0)
        catalog_settle(actor->catalog);
    check_all(actor, NAMES);
    catalog_remove(actor->catalog, actor->directory, "1");
    check_all(actor, NAMES - 1);
    look_around(actor, actor->directory);
    if (round % 3 == 0) {
        catalog_remove_below(actor->catalog, actor->directory);
        assert(catalog_listed(actor->catalog, actor->directory) == 0);
    } else {
        actor->before[actor->count++] = actor->directory;
    }
    look_back(actor);
    int rc = catalog_wait_room(actor->catalog, waiter);
    assert(rc == 0);
}

static void *live(void *argument)
{
    struct actor *actor = argument;
    WAITER_SCOPED(waiter);
    for (int round = 0; round < ROUNDS; round++)
        live_once(actor, round, &waiter);
    return NULL;
}

static bool is_bypassed(struct catalog *catalog)
{
    struct json *json = json_object_new();
    bool bypassed = true;
    catalog_report(catalog, json);
    json_get_bool(json, "bypassed", &bypassed);
    json_free(json);
    return bypassed;
}

int main(void)
{
    char root[] = "/tmp/skyvol-race-catalog.XXXXXX", path[64], command[64];
    assert(mkdtemp(root));
    snprintf(path, sizeof path, "%s/catalog", root);
    struct catalog_config config = {.path = path, .source = "race", .boot = "boot", .bytes_max = 1 << 20};
    struct actor actors[THREADS];
    pthread_t threads[THREADS];
    uint64_t seen = 0, answers = 0, evicted = 0;
    BUF_SCOPED why = BUF_INIT;
    struct catalog *catalog = catalog_new(&config, &why);
    assert(catalog);
    for (int i = 0; i < THREADS; i++) {
        actors[i] = (struct actor){.catalog = catalog};
        pthread_create(&threads[i], NULL, live, &actors[i]);
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        seen += actors[i].seen;
        answers += actors[i].answers;
        evicted += actors[i].evicted;
    }
    assert(!is_bypassed(catalog) && evicted > 0);
    catalog_free(catalog);
    snprintf(command, sizeof command, "rm -r %s", root);
    assert(system(command) == 0);
    printf("%" PRIu64 " names seen around, %" PRIu64 " found, %" PRIu64 " times evicted\n", seen, answers,
           evicted);
    return 0;
}
