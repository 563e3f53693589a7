#include "s3/store_s3.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "s3/body.h"

static struct store_s3 *store_s3_of(struct store *store)
{
    return container_of(store, struct store_s3, store);
}

void store_s3_end(struct store_s3 *s3, struct store_call *call)
{
    lock_take(&s3->lock);
    call->running = NULL;
    list_remove(&call->link);
    s3->in_flight--;
    lock_drop(&s3->lock);

    call->done(call); /* which may free it, or start it again */

    LOCK_SCOPED(&s3->lock);
    if (--s3->owed == 0)
        gate_open(&s3->idle);
}

static void end_request(struct request *request)
{
    struct store_s3 *s3 = request->owner;
    if (request->call->op == STORE_DELETE_MANY && request->call->rc == -EOPNOTSUPP)
        deletion_begin(s3, request);
    else
        store_s3_end(s3, request->call);
}

static bool is_utf8(const char *text, size_t length)
{
    uint32_t code;
    size_t taken = 0, step;
    while (taken < length && (step = utf8_decode(text + taken, length - taken, &code)) > 0)
        taken += step;
    return taken == length;
}

static int check_key(const char *key)
{
    size_t length = key ? strlen(key) : 0;
    if (length == 0)
        return -EINVAL;
    if (length > STORE_KEY_MAX)
        return -ENAMETOOLONG;
    return is_utf8(key, length) ? 0 : -EILSEQ;
}

/* What no endpoint can hold fails here, before anything is sent. */
static int check_keys(const struct store_call *call)
{
    int rc = 0;
    switch (call->op) {
    case STORE_LIST:
    case STORE_LIST_UPLOADS:
        return 0;
    case STORE_DELETE_MANY:
        for (size_t i = 0; i < call->key_count && rc == 0; i++)
            rc = check_key(call->keys[i]);
        return call->key_count > STORE_LIST_MAX ? -EINVAL : rc;
    case STORE_COPY:
    case STORE_PART_COPY:
        rc = check_key(call->source_key);
        break;
    default:
        break;
    }
    return rc ? rc : check_key(call->key);
}

/* False: DeleteObjects cannot serve these keys here. */
static bool fits_delete_many(struct store_s3 *s3, const struct store_call *call)
{
    if (bucket_can(&s3->bucket, ABILITY_OF(delete_many)) == ABILITY_NO)
        return false;
    for (size_t i = 0; i < call->key_count; i++)
        if (!body_holds_key(call->keys[i]))
            return false;
    return true;
}

static void end_at_once(struct store_s3 *s3, struct store_call *call, int rc)
{
    call->rc = rc;
    store_s3_end(s3, call);
}

/* False: the store is being freed. */
static bool admit(struct store_s3 *s3, struct store_call *call, struct request *request)
{
    LOCK_SCOPED(&s3->lock);
    call->running = request;
    list_append(&s3->calls, &call->link);
    s3->in_flight++;
    s3->owed++;
    return !s3->closing;
}

void store_s3_start(struct store *store, struct store_call *call)
{
    struct store_s3 *s3 = store_s3_of(store);
    struct request *request;
    int rc;

    store_call_release(call);
    request = request_new(&s3->bucket, call, operation_of(call->op));
    request->ended = end_request;
    request->owner = s3;
    rc = admit(s3, call, request) ? check_keys(call) : -ECANCELED;
    lock_take(&s3->bucket.lock);
    s3->bucket.counters.calls[call->op]++;
    lock_drop(&s3->bucket.lock);
    if (rc < 0 || (call->op == STORE_DELETE_MANY && call->key_count == 0)) {
        end_at_once(s3, call, rc);
        request_unref(request);
    } else if (call->op == STORE_DELETE_MANY && !fits_delete_many(s3, call)) {
        deletion_begin(s3, request);
        request_unref(request);
    } else {
        request_begin(request);
    }
}

void store_s3_cancel_locked(struct store_call *call)
{
    struct request *request = call->running;
    if (!request) /* its done() is being called */
        return;
    request_cancel(request);
    if (request->deletion)
        deletion_cancel_locked(request->deletion);
}

void store_s3_cancel(struct store *store, struct store_call *call)
{
    struct store_s3 *s3 = store_s3_of(store);
    LOCK_SCOPED(&s3->lock);
    store_s3_cancel_locked(call);
}

static void read_abilities(struct store *store, struct store_abilities *ret_abilities)
{
    struct store_s3 *s3 = store_s3_of(store);
    LOCK_SCOPED(&s3->bucket.lock);
    *ret_abilities = s3->bucket.abilities;
}

static void read_counters(struct store *store, struct store_counters *ret_counters)
{
    struct store_s3 *s3 = store_s3_of(store);
    lock_take(&s3->lock);
    size_t in_flight = s3->in_flight;
    lock_drop(&s3->lock);
    LOCK_SCOPED(&s3->bucket.lock);
    *ret_counters = s3->bucket.counters;
    ret_counters->in_flight = in_flight;
}

static void describe(struct store *store, struct buf *out)
{
    struct endpoint *endpoint = bucket_endpoint(&store_s3_of(store)->bucket);
    endpoint_describe(endpoint, out);
    endpoint_unref(endpoint);
}

static void cancel_all_and_wait(struct store_s3 *s3)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&s3->lock);
    s3->closing = true;
    list_for_each (at, &s3->calls) {
        store_s3_cancel_locked(container_of(at, struct store_call, link));
    }
    while (s3->owed > 0)
        gate_wait_locked(&s3->idle, &s3->lock, &waiter, CLOCK_NEVER);
}

static void free_store(struct store *store)
{
    struct store_s3 *s3 = store_s3_of(store);
    cancel_all_and_wait(s3);
    bucket_release(&s3->bucket);
    gate_release(&s3->idle);
    lock_release(&s3->lock);
    free(s3);
}

static const struct store_ops store_s3_ops = {
    .start = store_s3_start,
    .cancel = store_s3_cancel,
    .abilities = read_abilities,
    .probe = store_s3_probe,
    .counters = read_counters,
    .describe = describe,
    .free = free_store,
};

int store_s3_new(const struct store_config *config, struct store **ret_store, struct buf *why)
{
    struct store_s3 *s3 = xcalloc(1, sizeof(*s3));
    int rc;

    s3->store.ops = &store_s3_ops;
    lock_init(&s3->lock, LOCK_STORE, "store");
    gate_init(&s3->idle);
    list_init(&s3->calls);
    rc = bucket_init(&s3->bucket, config, why);
    if (rc < 0) {
        free_store(&s3->store);
        return rc;
    }
    *ret_store = &s3->store;
    return 0;
}
