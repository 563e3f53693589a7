/* read_cache: reads one object through the cache as the kernel would, without FUSE: several 1 MiB reads in flight, in order.
 *
 *      read_cache ENDPOINT BUCKET KEY [MEMORY_MIB [IN_FLIGHT [WINDOW_MIB [ROUNDS [random]]]]]  keys from the environment
 *
 * One line per round: MB/s, CPU seconds per GB of this process, GETs. `random`: 4 KiB at random places instead, reads/s.
 * Compare with bench/fetch (the store alone) and curl on the same object in the same run.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/err.h"
#include "cache/cache.h"
#include "s3/credentials.h"

#define READ_BYTES   ((size_t)1 << 20)
#define RANDOM_BYTES 4096
#define RANDOM_READS 2000

struct bench {
    struct store *store;
    struct memory *memory;
    struct cache *cache;
    struct handle *handle;
    uint64_t size;
    size_t read_bytes;
    bool random;
    struct lock lock;
    struct gate gate;
    /* Under lock. */
    uint64_t next, reads_left;
    int running, rc;
    struct list answered;
};

struct lane {
    struct list link;
    struct bench *bench;
    struct cache_read read;
};

static void hear_read(struct cache_read *read)
{
    struct lane *lane = read->owner;
    LOCK_SCOPED(&lane->bench->lock);
    list_append(&lane->bench->answered, &lane->link);
    gate_open(&lane->bench->gate);
}

static void ask_next(struct lane *lane)
{
    struct bench *bench = lane->bench;
    lock_take(&bench->lock);
    bool more = bench->rc == 0 && bench->reads_left > 0;
    uint64_t offset = bench->next;
    bench->reads_left -= more;
    bench->next += bench->read_bytes;
    bench->running -= !more;
    lock_drop(&bench->lock);
    if (!more)
        return;
    if (bench->random)
        offset = (uint64_t)rand() * RANDOM_BYTES % bench->size / RANDOM_BYTES * RANDOM_BYTES;
    lane->read = (struct cache_read){.handle = bench->handle,
                                     .offset = offset,
                                     .size = bench->read_bytes,
                                     .done = hear_read,
                                     .owner = lane};
    cache_read(bench->cache, &lane->read);
}

/* The next answer; NULL: none is coming any more. */
static struct lane *take_answer(struct bench *bench)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&bench->lock);
    while (list_empty(&bench->answered) && bench->running > 0)
        gate_wait_locked(&bench->gate, &bench->lock, &waiter, CLOCK_NEVER);
    struct list *first = list_pop(&bench->answered);
    return first ? container_of(first, struct lane, link) : NULL;
}

static void run_reads(struct bench *bench, struct lane *lanes, int in_flight)
{
    struct lane *lane;
    bench->next = 0;
    bench->running = in_flight;
    bench->reads_left =
        bench->random ? RANDOM_READS : (bench->size + bench->read_bytes - 1) / bench->read_bytes;
    for (int i = 0; i < in_flight; i++)
        ask_next(&lanes[i]);
    while ((lane = take_answer(bench))) {
        if (lane->read.rc < 0)
            bench->rc = lane->read.rc;
        cache_read_release(bench->cache, &lane->read);
        ask_next(lane);
    }
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int open_file(struct bench *bench, const char *key)
{
    WAITER_SCOPED(waiter);
    struct inode *root = cache_root(bench->cache);
    struct entry entry;
    struct opened opened;
    int rc = cache_lookup(bench->cache, &waiter, root, key, &entry);
    inode_unref(root);
    if (rc < 0)
        return rc;
    bench->size = entry.attributes.size;
    rc = cache_open(bench->cache, &waiter, entry.inode, O_RDONLY, 1, &bench->handle, &opened);
    inode_unref(entry.inode);
    return rc;
}

/* A fresh cache, so that every round is cold. */
static int run_round(struct bench *bench, const struct cache_config *config, const char *key, int in_flight)
{
    struct lane *lanes = xcalloc((size_t)in_flight, sizeof(*lanes));
    struct store_counters before, after;
    BUF_SCOPED why = BUF_INIT;
    int rc = cache_new(config, &bench->cache, &why);
    if (rc < 0)
        fprintf(stderr, "%s\n", why.bytes);
    if (rc == 0)
        rc = open_file(bench, key);
    if (rc < 0)
        return rc;
    for (int i = 0; i < in_flight; i++)
        lanes[i].bench = bench;
    store_counters(bench->store, &before);
    int64_t begun_ms = clock_ms();
    double cpu = cpu_seconds();
    run_reads(bench, lanes, in_flight);
    double seconds = (double)(clock_ms() - begun_ms) / 1e3, gigabytes = (double)bench->size / 1e9;
    cpu = cpu_seconds() - cpu;
    store_counters(bench->store, &after);
    unsigned gets = (unsigned)(after.calls[STORE_GET] - before.calls[STORE_GET]);
    if (bench->random)
        printf("%7.0f reads/s  %u GETs\n", RANDOM_READS / seconds, gets);
    else
        printf("%7.0f MB/s  %.3f CPU s/GB  %u GETs\n", gigabytes * 1e3 / seconds, cpu / gigabytes, gets);
    fflush(stdout);
    cache_release(bench->cache, bench->handle);
    cache_free(bench->cache);
    free(lanes);
    return bench->rc;
}

static struct store *open_store(const char *endpoint, const char *bucket)
{
    struct credentials_config who = {0};
    struct store_config config = {.endpoint = endpoint, .bucket = bucket};
    struct store *store = NULL;
    BUF_SCOPED why = BUF_INIT;

    config.credentials = credentials_new(&who);
    if (store_s3_new(&config, &store, &why) < 0)
        fprintf(stderr, "read_cache: %s\n", why.bytes);
    credentials_unref(config.credentials);
    return store;
}

static int argument(int count, char **arguments, int at, int standard)
{
    return count > at ? atoi(arguments[at]) : standard;
}

int main(int count, char **arguments)
{
    struct bench bench = {.read_bytes = READ_BYTES};
    int in_flight = argument(count, arguments, 5, 4), rounds = argument(count, arguments, 7, 3), rc = 0;

    if (count < 4) {
        fprintf(stderr, "usage: read_cache ENDPOINT BUCKET KEY [MEMORY_MIB [IN_FLIGHT [WINDOW_MIB [ROUNDS "
                        "[random]]]]]\n");
        return 2;
    }
    bench.random = count > 8;
    if (bench.random)
        bench.read_bytes = RANDOM_BYTES;
    bench.store = open_store(arguments[1], arguments[2]);
    if (!bench.store)
        return 1;
    lock_init(&bench.lock, LOCK_LEAF, "bench");
    gate_init(&bench.gate);
    list_init(&bench.answered);
    /* The reclaimers of a cache that is gone stay with its memory: one budget each round. */
    for (int i = 0; i < rounds && rc == 0; i++) {
        bench.memory = memory_new((size_t)argument(count, arguments, 4, 256) << 20);
        struct cache_config config = {.store = bench.store,
                                      .memory = bench.memory,
                                      .prefix = "",
                                      .read_only = true,
                                      .attr_ttl_ms = 1000,
                                      .negative_ttl_ms = 1000,
                                      .read_ahead_max = (uint64_t)argument(count, arguments, 6, 0) << 20};
        rc = run_round(&bench, &config, arguments[3], in_flight);
        if (rc == 0)
            memory_free(bench.memory);
    }
    if (rc < 0)
        fprintf(stderr, "read_cache: %s\n", err_text(rc));
    else
        store_free(bench.store);
    return rc ? 1 : 0;
}
