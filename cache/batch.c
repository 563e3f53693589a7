#include "cache/batch.h"

#include <assert.h>
#include <errno.h>

#include "base/clock.h"

struct batch {
    struct store *store;
    struct lock lock; /* LOCK_LEAF: around all below */
    struct gate ended;
    struct store_call *calls;
    size_t count, started, finished, in_flight_max;
    bool stop_on_error, stopped;
    int first_error;
};

static void end_call(struct store_call *call)
{
    struct batch *batch = call->owner;

    lock_take(&batch->lock);
    batch->finished++;
    if (call->rc < 0 && call->rc != -ENOENT && batch->stop_on_error) {
        if (!batch->first_error)
            batch->first_error = call->rc;
        batch->stopped = true;
    }
    gate_open(&batch->ended);
    lock_drop(&batch->lock);
}

static void start_some(struct batch *batch)
{
    for (;;) {
        lock_take(&batch->lock);
        bool room = !batch->stopped && batch->started < batch->count &&
                    batch->started - batch->finished < batch->in_flight_max;
        struct store_call *call = room ? &batch->calls[batch->started++] : NULL;
        lock_drop(&batch->lock);
        if (!call)
            return;
        store_start(batch->store, call);
    }
}

/* Only this thread starts calls, so none is between "counted as started" and store_start here. */
static void cancel_running(struct batch *batch)
{
    for (size_t i = 0; i < batch->started; i++)
        store_cancel(batch->store, &batch->calls[i]); /* one that has ended is left alone */
}

static int wait_for_all(struct batch *batch, struct waiter *waiter)
{
    int rc = 0;

    for (;;) {
        start_some(batch);
        lock_take(&batch->lock);
        size_t finished = batch->finished;
        bool all = finished == batch->started && (batch->stopped || batch->started == batch->count);
        int waited = 0;
        while (!all && waited == 0 && batch->finished == finished) {
            /* After an interrupt the canceled calls end by themselves: wait on without the user. */
            WAITER_SCOPED(own);
            waited = gate_wait_locked(&batch->ended, &batch->lock, rc ? &own : waiter, CLOCK_NEVER);
        }
        if (waited < 0)
            batch->stopped = true;
        lock_drop(&batch->lock);
        if (all)
            return rc;
        if (waited < 0) {
            rc = waited;
            cancel_running(batch);
        }
    }
}

int batch_run(struct store *store, struct store_call *calls, size_t count,
              const struct batch_options *options, struct waiter *waiter)
{
    struct batch batch = {.store = store, .calls = calls, .count = count};
    int rc;

    if (!waiter)
        return -EAGAIN;
    lock_assert_none();
    batch.in_flight_max = options && options->in_flight_max ? options->in_flight_max : BATCH_IN_FLIGHT;
    batch.stop_on_error = options && options->stop_on_error;
    lock_init(&batch.lock, LOCK_LEAF, "batch");
    gate_init(&batch.ended);
    for (size_t i = 0; i < count; i++) {
        calls[i].done = end_call;
        calls[i].owner = &batch;
        calls[i].rc = -ECANCELED;
    }
    rc = wait_for_all(&batch, waiter);
    for (size_t i = batch.started; i < count; i++)
        calls[i].rc = -ECANCELED;
    gate_release(&batch.ended);
    lock_release(&batch.lock);
    return rc ? rc : batch.first_error;
}

void batch_release(struct store_call *calls, size_t count)
{
    for (size_t i = 0; i < count; i++)
        store_call_release(&calls[i]);
}
