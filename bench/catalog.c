/* catalog: the metadata cache alone, in a directory that is made.
 *
 *      catalog DIRECTORY [NAMES [DIRECTORIES [ROUNDS]]]        1 000 000 names in 1 directory when nothing is said
 *
 * One line per step and round, with CPU of both threads: puts/s (until all stand in LMDB), the same again (nothing has changed), finds/s at random, names/s of
 * walks, bytes of the file per name, and the time to close and open it again.
 * DIRECTORY/skyvol-bench-catalog stays: remove it before the next run.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "cache/catalog.h"
#include "cache/facts.h"

#define FINDS     1000000
#define NAME_ROOM 48

struct bench {
    struct catalog_config config;
    struct catalog *catalog;
    unsigned long names, directories, seen;
    struct facts facts;
};

static double seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

struct since {
    double wall, cpu;
};

static struct since start(void)
{
    return (struct since){seconds(CLOCK_MONOTONIC), seconds(CLOCK_PROCESS_CPUTIME_ID)};
}

static void tell(const char *what, unsigned long count, struct since since)
{
    struct since until = start();
    printf("%-12s %9.0f /s  %6.3f us of CPU each\n", what, (double)count / (until.wall - since.wall),
           (until.cpu - since.cpu) * 1e6 / (double)count);
    fflush(stdout);
}

static uint64_t directory_of(const struct bench *bench, unsigned long i)
{
    return CATALOG_ROOT + i / (bench->names / bench->directories);
}

static void print_name(unsigned long i, char name[NAME_ROOM])
{
    snprintf(name, NAME_ROOM, "shard-%08lu.parquet", i);
}

static void put_all(struct bench *bench)
{
    WAITER_SCOPED(waiter);
    BUF_SCOPED bytes = BUF_INIT;
    char name[NAME_ROOM];

    for (unsigned long i = 0; i < bench->names; i++) {
        print_name(i, name);
        bench->facts.seen.size = i;
        snprintf(bench->facts.seen.etag, STORE_ETAG_MAX, "\"%032lx\"", i * 2654435761u);
        buf_reset(&bytes);
        facts_write(&bench->facts, directory_of(bench, i), name, &bytes);
        catalog_put(bench->catalog, directory_of(bench, i), name, bytes.bytes, bytes.length);
        if (i % 1000 == 999)
            catalog_wait_room(bench->catalog, &waiter);
    }
    for (unsigned long i = 0; i < bench->directories; i++)
        catalog_set_listed(bench->catalog, CATALOG_ROOT + i, 1);
    catalog_settle(bench->catalog);
}

static void find_some(struct bench *bench)
{
    BUF_SCOPED bytes = BUF_INIT;
    char name[NAME_ROOM];

    for (int i = 0; i < FINDS; i++) {
        unsigned long at = (unsigned long)rand() % bench->names;
        print_name(at, name);
        buf_reset(&bytes);
        if (catalog_find(bench->catalog, directory_of(bench, at), name, &bytes) == 0)
            bench->seen++;
    }
}

static bool hear_name(void *context, const char *name, const void *facts, size_t length)
{
    struct bench *bench = context;
    uint32_t type;
    uint64_t number;

    bench->seen += *name && facts_glance(facts, length, &type, &number) == 0;
    return true;
}

static void walk_all(struct bench *bench)
{
    for (unsigned long i = 0; i < bench->directories; i++)
        catalog_walk(bench->catalog, CATALOG_ROOT + i, hear_name, bench);
}

static int expect(struct bench *bench, const char *what, unsigned long count)
{
    if (bench->seen != count)
        fprintf(stderr, "catalog: %s: %lu of %lu\n", what, bench->seen, count);
    int rc = bench->seen == count ? 0 : 1;
    bench->seen = 0;
    return rc;
}

static void tell_size(const struct bench *bench)
{
    BUF_SCOPED path = BUF_INIT;
    struct stat st = {0};

    buf_printf(&path, "%s/data.mdb", bench->config.path);
    stat(path.bytes, &st);
    printf("%-12s %9.1f bytes per name\n", "file", (double)st.st_size / (double)bench->names);
}

static int open_it(struct bench *bench)
{
    BUF_SCOPED why = BUF_INIT;

    bench->catalog = catalog_new(&bench->config, &why);
    if (!bench->catalog)
        fprintf(stderr, "catalog: %s\n", why.bytes);
    return bench->catalog ? 0 : 1;
}

static int run_round(struct bench *bench, int round)
{
    struct since since = start();
    put_all(bench);
    tell(round ? "put again" : "put", bench->names, since);
    since = start();
    find_some(bench);
    tell("find", FINDS, since);
    int rc = expect(bench, "find", FINDS);
    since = start();
    walk_all(bench);
    tell("walk", bench->names, since);
    rc |= expect(bench, "walk", bench->names);
    tell_size(bench);
    since = start();
    catalog_free(bench->catalog);
    rc |= open_it(bench);
    printf("%-12s %9.1f ms\n", "open again", (start().wall - since.wall) * 1e3);
    return rc;
}

static int run(struct bench *bench, int rounds)
{
    int rc = open_it(bench);

    for (int i = 0; i < rounds && !rc; i++)
        rc = run_round(bench, i);
    catalog_free(bench->catalog);
    return rc;
}

static unsigned long argument(int count, char **arguments, int at, unsigned long standard)
{
    return count > at ? strtoul(arguments[at], NULL, 10) : standard;
}

int main(int count, char **arguments)
{
    struct bench bench = {.names = argument(count, arguments, 2, 1000000),
                          .directories = argument(count, arguments, 3, 1),
                          .facts = {.type = S_IFREG, .attributes_known = true, .exists = true}};

    if (count < 2 || !bench.directories || bench.names % bench.directories) {
        fprintf(stderr, "usage: catalog DIRECTORY [NAMES [DIRECTORIES [ROUNDS]]]\n");
        return 2;
    }
    bench.facts.seen.modified_ns = INT64_C(1790000000123000000);
    bench.facts.seen.meta_known = true;
    store_fields_add(&bench.facts.seen.meta, "mode", "33188");
    store_fields_add(&bench.facts.seen.meta, "uid", "1000");
    store_fields_add(&bench.facts.seen.meta, "gid", "1000");
    store_fields_add(&bench.facts.seen.meta, "mtime", "1790000000.123456789");
    store_fields_add(&bench.facts.seen.meta, "ctime", "1790000000.987654321");
    store_fields_add(&bench.facts.seen.meta, "skyvol-id", "0123456789abcdef0123456789abcdef");
    BUF_SCOPED path = BUF_INIT;
    buf_printf(&path, "%s/skyvol-bench-catalog", arguments[1]);
    bench.config = (struct catalog_config){.path = path.bytes, .source = "bench", .boot = "bench"};
    int rc = run(&bench, (int)argument(count, arguments, 4, 2));
    facts_release(&bench.facts);
    return rc;
}
