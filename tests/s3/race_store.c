/* Many calls, cancels from other threads, faults of the server, and a store that is freed under load: for ThreadSanitizer,
 * which criterion does not live with. Ends with 0 when each call ended exactly once. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "s3/credentials.h"
#include "s3/store.h"
#include "tests/support/wire.h"

#define THREADS 4
#define ROUNDS  20
#define CALLS   8

static struct store *store;

struct racer {
    struct store_call call;
    struct lock lock;
    struct gate gate;
    int ends;
    char bytes[4096];
    struct iovec place;
};

/* By turns: an answer, a cut one, a busy server, a lost reply. */
static void serve(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    for (int turn = connection->number; wire_read(connection, &head, &body); turn++) {
        if (turn % 7 == 0)
            return;
        if (turn % 5 == 0) {
            wire_write(connection, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
        } else if (!strncmp(head.bytes, "GET", 3)) {
            wire_write(connection, "HTTP/1.1 206 OK\r\nETag: \"e\"\r\nContent-Range: bytes 0-9/10\r\n"
                                   "Content-Length: 10\r\n\r\n01234");
            if (turn % 3 == 0)
                return;
            wire_write(connection, "56789");
        } else {
            wire_write(connection, "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n");
        }
    }
}

static void end_racer(struct store_call *call)
{
    struct racer *racer = call->owner;
    LOCK_SCOPED(&racer->lock);
    racer->ends++;
    gate_open(&racer->gate);
}

static void start_racer(struct racer *racer, int number)
{
    static const enum store_op ops[] = {STORE_GET, STORE_PUT, STORE_HEAD, STORE_DELETE};
    racer->ends = 0;
    racer->place = (struct iovec){racer->bytes, 10};
    racer->call = (struct store_call){.op = ops[number % 4],
                                      .key = "key",
                                      .done = end_racer,
                                      .owner = racer,
                                      .length = number % 4 == 0 ? 10 : 0,
                                      .into = &racer->place,
                                      .into_count = 1,
                                      .from = &racer->place,
                                      .from_count = 1,
                                      .patience_ms = 3000};
    store_start(store, &racer->call);
}

/* True: it ended exactly once. */
static bool await_racer(struct racer *racer)
{
    WAITER_SCOPED(waiter);
    lock_take(&racer->lock);
    while (racer->ends == 0)
        gate_wait_locked(&racer->gate, &racer->lock, &waiter, CLOCK_NEVER);
    bool once = racer->ends == 1;
    lock_drop(&racer->lock);
    store_call_release(&racer->call);
    return once;
}

/* As a room above does it: looks and acts under its own lock, of lower rank. */
static void cancel_racer(struct racer *racer)
{
    LOCK_SCOPED(&racer->lock);
    if (racer->ends == 0)
        store_cancel(store, &racer->call);
}

static void *race(void *context)
{
    struct racer *racers = xcalloc(CALLS, sizeof(*racers));
    unsigned seed = (unsigned)(size_t)context;
    bool good = true;

    for (int i = 0; i < CALLS; i++) {
        lock_init(&racers[i].lock, LOCK_UPLOAD, "racer");
        gate_init(&racers[i].gate);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CALLS; i++)
            start_racer(&racers[i], round + i);
        if (rand_r(&seed) % 2)
            usleep((useconds_t)(rand_r(&seed) % 2000));
        for (int i = 0; i < CALLS; i++)
            if (rand_r(&seed) % 2)
                cancel_racer(&racers[i]);
        for (int i = 0; i < CALLS; i++)
            good &= await_racer(&racers[i]);
    }
    for (int i = 0; i < CALLS; i++) {
        gate_release(&racers[i].gate);
        lock_release(&racers[i].lock);
    }
    free(racers);
    return good ? NULL : racers;
}

static bool open_store(const char *endpoint)
{
    struct keys *keys = keys_new("KEY", "secret", NULL, INT64_MAX);
    struct credentials_config who = {.explicit_keys = keys};
    struct store_config config = {.endpoint = endpoint,
                                  .bucket = "bucket",
                                  .loops = 2,
                                  .connections_max = 8,
                                  .credentials = credentials_new(&who)};
    BUF_SCOPED why = BUF_INIT;
    int rc = store_s3_new(&config, &store, &why);
    if (rc < 0)
        fprintf(stderr, "%s\n", why.bytes);
    credentials_unref(config.credentials);
    keys_unref(keys);
    return rc == 0;
}

/* A store that is freed while its calls run. */
static bool free_under_load(void)
{
    struct racer *racers = xcalloc(CALLS, sizeof(*racers));
    bool good = true;
    for (int i = 0; i < CALLS; i++) {
        lock_init(&racers[i].lock, LOCK_UPLOAD, "racer");
        gate_init(&racers[i].gate);
        start_racer(&racers[i], i);
    }
    store_free(store);
    for (int i = 0; i < CALLS; i++) {
        good &= await_racer(&racers[i]);
        gate_release(&racers[i].gate);
        lock_release(&racers[i].lock);
    }
    free(racers);
    return good;
}

int main(void)
{
    struct wire *wire = wire_start(serve, NULL);
    pthread_t threads[THREADS];
    char endpoint[64];
    bool good = true;

    snprintf(endpoint, sizeof(endpoint), "http://127.0.0.1:%d", wire_port(wire));
    if (!open_store(endpoint))
        return 1;
    for (size_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, race, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++) {
        void *bad;
        pthread_join(threads[i], &bad);
        good &= bad == NULL;
    }
    good &= free_under_load();
    wire_free(wire);
    printf("%s\n", good ? "each call ended once" : "a call did not end once");
    return good ? 0 : 1;
}
