#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "s3/store_s3.h"

#define DELETES_AT_ONCE 16

struct deletion {
    struct store_s3 *s3;
    struct request *request; /* a reference */

    /* Under the store's lock. */
    size_t next; /* key that nobody has yet */
    size_t running;
    bool canceled;
    struct store_call children[DELETES_AT_ONCE];
};

/* Takes the next key for a child. False: there is none, or no more are wanted. */
static bool take_key(struct deletion *deletion, struct store_call *child)
{
    const struct store_call *call = deletion->request->call;
    LOCK_SCOPED(&deletion->s3->lock);
    if (deletion->canceled || deletion->next >= call->key_count)
        return false;
    child->key = call->keys[deletion->next++];
    deletion->running++;
    return true;
}

static void end_deletion(struct deletion *deletion)
{
    struct store_s3 *s3 = deletion->s3;
    struct request *request = deletion->request;
    struct store_call *call = request->call;

    lock_take(&s3->lock);
    if (deletion->canceled && call->rc == 0)
        call->rc = -ECANCELED;
    call->unknown = call->rc < 0;
    request->deletion = NULL;
    lock_drop(&s3->lock);
    store_s3_end(s3, call);
    request_unref(request);
    free(deletion);
}

static void add_failure_locked(struct store_call *call, const struct store_call *child)
{
    call->failures = xrealloc(call->failures, (call->failure_count + 1) * sizeof(*call->failures));
    struct store_failure *failure = &call->failures[call->failure_count++];
    failure->key = child->key;
    failure->rc = child->rc;
    memcpy(failure->code, child->error.code, sizeof(failure->code));
}

/* Keeps the outcome of a key. True: it was the last of all. */
static bool drop_key(struct deletion *deletion, struct store_call *child)
{
    LOCK_SCOPED(&deletion->s3->lock);
    if (child->rc < 0 && child->rc != -ECANCELED)
        add_failure_locked(deletion->request->call, child);
    return --deletion->running == 0;
}

static void run_child(struct deletion *deletion, struct store_call *child)
{
    store_s3_start(&deletion->s3->store, child);
}

/* A child goes on with the next key while it holds its place, so that `running` is 0 at the end only. */
static void hear_child(struct store_call *child)
{
    struct deletion *deletion = child->owner;
    struct store_call next = *child;

    if (take_key(deletion, &next)) {
        const char *key = next.key;
        bool last = drop_key(deletion, child);
        assert(!last);
        store_call_release(child);
        child->key = key;
        run_child(deletion, child);
        return;
    }
    bool last = drop_key(deletion, child);
    store_call_release(child);
    if (last)
        end_deletion(deletion);
}

void deletion_begin(struct store_s3 *s3, struct request *request)
{
    struct store_call *call = request->call;
    struct deletion *deletion = xcalloc(1, sizeof(*deletion));

    store_call_release(call);
    deletion->s3 = s3;
    deletion->request = request_ref(request);
    deletion->running = 1; /* this thread, until all children are off */
    lock_take(&s3->lock);
    request->deletion = deletion;
    deletion->canceled = __atomic_load_n(&request->canceled, __ATOMIC_SEQ_CST) || s3->closing;
    lock_drop(&s3->lock);
    for (size_t i = 0; i < DELETES_AT_ONCE; i++) {
        struct store_call *child = &deletion->children[i];
        child->op = STORE_DELETE;
        child->done = hear_child;
        child->owner = deletion;
        child->patience_ms = call->patience_ms;
        if (!take_key(deletion, child))
            break;
        run_child(deletion, child);
    }
    lock_take(&s3->lock);
    bool last = --deletion->running == 0;
    lock_drop(&s3->lock);
    if (last)
        end_deletion(deletion);
}

void deletion_cancel_locked(struct deletion *deletion)
{
    deletion->canceled = true;
    for (size_t i = 0; i < DELETES_AT_ONCE; i++)
        store_s3_cancel_locked(&deletion->children[i]);
}
