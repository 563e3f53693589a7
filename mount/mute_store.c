#include "mount/mute_store.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

struct mute_store {
    struct store store;
    struct store *below;
};

static struct store *below(struct store *store)
{
    return ((struct mute_store *)store)->below;
}

static bool only_reads(enum store_op op)
{
    return op == STORE_GET || op == STORE_HEAD || op == STORE_GET_TAGS || op == STORE_LIST ||
           op == STORE_LIST_PARTS || op == STORE_LIST_UPLOADS;
}

static void start(struct store *store, struct store_call *call)
{
    if (only_reads(call->op)) {
        store_start(below(store), call);
        return;
    }
    call->rc = -EIO;
    call->running = NULL;
    snprintf(call->error.message, sizeof call->error.message, "nothing is uploaded by this command");
    call->done(call);
}

static void cancel(struct store *store, struct store_call *call)
{
    store_cancel(below(store), call);
}

static void abilities(struct store *store, struct store_abilities *ret_abilities)
{
    store_abilities(below(store), ret_abilities);
}

/* It would write. */
static int probe(struct store *store, const char *prefix, struct waiter *waiter)
{
    (void)store;
    (void)prefix;
    (void)waiter;
    return -EAGAIN;
}

static void counters(struct store *store, struct store_counters *ret_counters)
{
    store_counters(below(store), ret_counters);
}

static void describe(struct store *store, struct buf *out)
{
    store_describe(below(store), out);
}

static void free_both(struct store *store)
{
    store_free(below(store));
    free(store);
}

struct store *mute_store_new(struct store **taken)
{
    static const struct store_ops ops = {start, cancel, abilities, probe, counters, describe, free_both};
    struct mute_store *mute = xcalloc(1, sizeof *mute);
    mute->store.ops = &ops;
    mute->below = *taken;
    *taken = NULL;
    return &mute->store;
}
