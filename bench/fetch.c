/* fetch: GETs ranges of one object in parallel through the store into memory, and says what it cost.
 *
 *      fetch ENDPOINT BUCKET KEY [RANGE_KIB [PARALLEL [LOOPS [ROUNDS]]]]      keys from the environment
 *
 * One line per round: MB/s, CPU seconds per GB of this process. Compare with curl on the same object in the same run.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/waiter.h"
#include "s3/credentials.h"
#include "s3/store.h"

struct fetch {
    struct store *store;
    const char *key;
    uint64_t size, range;
    struct lock lock;
    struct gate gate;
    uint64_t next;
    int running, rc;
};

struct lane {
    struct fetch *fetch;
    struct store_call call;
    struct iovec place;
};

static bool start_next(struct lane *lane)
{
    struct fetch *fetch = lane->fetch;
    lock_take(&fetch->lock);
    uint64_t offset = fetch->next;
    bool more = offset < fetch->size && fetch->rc == 0;
    if (more)
        fetch->next += fetch->range;
    lock_drop(&fetch->lock);
    if (!more)
        return false;
    lane->call.offset = offset;
    lane->call.length = fetch->size - offset < fetch->range ? fetch->size - offset : fetch->range;
    store_start(fetch->store, &lane->call);
    return true;
}

static void end_lane(struct store_call *call)
{
    struct lane *lane = call->owner;
    struct fetch *fetch = lane->fetch;
    if (call->rc == 0) {
        store_call_release(call);
        if (start_next(lane))
            return;
    }
    LOCK_SCOPED(&fetch->lock);
    if (call->rc < 0)
        fetch->rc = call->rc;
    fetch->running--;
    gate_open(&fetch->gate);
}

static double cpu_seconds(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int run_round(struct fetch *fetch, struct lane *lanes, int parallel)
{
    WAITER_SCOPED(waiter);
    int64_t begun_ms = clock_ms();
    double cpu = cpu_seconds();

    fetch->next = 0;
    fetch->running = parallel;
    for (int i = 0; i < parallel; i++)
        if (!start_next(&lanes[i])) {
            LOCK_SCOPED(&fetch->lock);
            fetch->running--;
        }
    lock_take(&fetch->lock);
    while (fetch->running > 0)
        gate_wait_locked(&fetch->gate, &fetch->lock, &waiter, CLOCK_NEVER);
    lock_drop(&fetch->lock);
    double seconds = (double)(clock_ms() - begun_ms) / 1e3, gigabytes = (double)fetch->size / 1e9;
    printf("%7.0f MB/s  %.3f CPU s/GB\n", gigabytes * 1e3 / seconds, (cpu_seconds() - cpu) / gigabytes);
    fflush(stdout);
    return fetch->rc;
}

static struct store *open_store(const char *endpoint, const char *bucket, int loops)
{
    struct credentials_config who = {0};
    struct store_config config = {.endpoint = endpoint, .bucket = bucket, .loops = loops};
    struct store *store = NULL;
    BUF_SCOPED why = BUF_INIT;

    config.credentials = credentials_new(&who);
    if (store_s3_new(&config, &store, &why) < 0)
        fprintf(stderr, "fetch: %s\n", why.bytes);
    credentials_unref(config.credentials);
    return store;
}

static int run_rounds(struct fetch *fetch, int parallel, int rounds)
{
    struct lane *lanes = xcalloc((size_t)parallel, sizeof(*lanes));
    int rc = 0;

    for (int i = 0; i < parallel; i++) {
        lanes[i].fetch = fetch;
        lanes[i].place = (struct iovec){xmalloc(fetch->range), fetch->range};
        lanes[i].call = (struct store_call){.op = STORE_GET,
                                            .key = fetch->key,
                                            .done = end_lane,
                                            .owner = &lanes[i],
                                            .into = &lanes[i].place,
                                            .into_count = 1};
    }
    for (int i = 0; i < rounds && rc == 0; i++)
        rc = run_round(fetch, lanes, parallel);
    if (rc < 0)
        fprintf(stderr, "fetch: %s\n", err_text(rc));
    for (int i = 0; i < parallel; i++) {
        store_call_release(&lanes[i].call);
        free(lanes[i].place.iov_base);
    }
    free(lanes);
    return rc;
}

static int argument(int count, char **arguments, int at, int standard)
{
    return count > at ? atoi(arguments[at]) : standard;
}

int main(int count, char **arguments)
{
    struct fetch fetch = {0};
    struct store_call head = {.op = STORE_HEAD};
    WAITER_SCOPED(waiter);
    int rc;

    if (count < 4) {
        fprintf(stderr, "usage: fetch ENDPOINT BUCKET KEY [RANGE_KIB [PARALLEL [LOOPS [ROUNDS]]]]\n");
        return 2;
    }
    fetch.store = open_store(arguments[1], arguments[2], argument(count, arguments, 6, 0));
    if (!fetch.store)
        return 1;
    lock_init(&fetch.lock, LOCK_BLOCKS, "fetch");
    gate_init(&fetch.gate);
    fetch.key = head.key = arguments[3];
    fetch.range = (uint64_t)argument(count, arguments, 4, 1024) * 1024;
    rc = store_wait(fetch.store, &head, &waiter);
    fetch.size = head.object.size;
    store_call_release(&head);
    if (rc == 0)
        rc = run_rounds(&fetch, argument(count, arguments, 5, 8), argument(count, arguments, 7, 3));
    else
        fprintf(stderr, "fetch: HEAD: %s\n", err_text(rc));
    store_free(fetch.store);
    return rc ? 1 : 0;
}
