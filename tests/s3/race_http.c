#include <assert.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>

#include "base/lock.h"
#include "s3/http.h"
#include "tests/support/wire.h"

/* Calls that are canceled while they still stand in the loop's mailbox, where other threads put theirs. */

#define THREADS 4
#define CALLS   1000

static struct http *http;
static char url[64];

struct trial {
    struct http_call call;
    bool ended; /* atomic */
};

static void end_trial(struct http_call *call)
{
    struct trial *trial = call->owner;
    __atomic_store_n(&trial->ended, true, __ATOMIC_RELEASE);
}

static void *start_and_cancel(void *context)
{
    (void)context;
    for (int i = 0; i < CALLS; i++) {
        struct trial trial = {.call = {.method = "GET", .url = url, .done = end_trial}};
        trial.call.owner = &trial;
        http_start(http, &trial.call);
        http_cancel(http, &trial.call);
        while (!__atomic_load_n(&trial.ended, __ATOMIC_ACQUIRE))
            sched_yield();
        assert(trial.call.end == HTTP_CANCELED);
        http_call_release(&trial.call);
    }
    return NULL;
}

int main(void)
{
    struct wire *wire = wire_start(wire_await_close, NULL);
    struct http_config config = {.loops = 1, .connections_max = 4};
    BUF_SCOPED why = BUF_INIT;
    pthread_t threads[THREADS];

    snprintf(url, sizeof(url), "http://127.0.0.1:%d/", wire_port(wire));
    int rc = http_new(&config, &http, &why);
    assert(rc == 0);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, start_and_cancel, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    http_free(http);
    wire_free(wire);
    return 0;
}
