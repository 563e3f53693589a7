#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "cache/batch.h"
#include "cache/copying.h"
#include "tests/support/tree.h"

#define CALLS 40

struct heads {
    struct room *room;
    struct store_call calls[CALLS];
    char keys[CALLS][16];
    struct waiter waiter;
    int rc;
};

static struct heads *make_heads(struct room *room)
{
    struct heads *heads = calloc(1, sizeof *heads);
    heads->room = room;
    waiter_init(&heads->waiter);
    for (int i = 0; i < CALLS; i++) {
        snprintf(heads->keys[i], sizeof heads->keys[i], "p/%02d", i);
        memory_store_put_text(room->bucket, heads->keys[i], "x");
        heads->calls[i] = (struct store_call){.op = STORE_HEAD, .key = heads->keys[i]};
    }
    return heads;
}

static void free_heads(struct heads *heads)
{
    batch_release(heads->calls, CALLS);
    waiter_release(&heads->waiter);
    free(heads);
}

static void *run_heads(void *context)
{
    struct heads *heads = context;
    heads->rc = batch_run(heads->room->store, heads->calls, CALLS, NULL, &heads->waiter);
    return NULL;
}

Test(batch, all_calls_end_each_with_its_own_answer)
{
    ROOM_SCOPED(room, NULL);
    struct heads *heads = make_heads(&room);
    memory_store_remove(room.bucket, "p/07");
    memory_store_fault(room.bucket,
                       &(struct fault){.kind = FAULT_FAIL, .key = "p/11", .rc = -EACCES, .at_once = true});
    run_heads(heads);
    cr_assert_eq(heads->rc, 0);
    for (int i = 0; i < CALLS; i++)
        cr_assert_eq(heads->calls[i].rc, (i == 7 ? -ENOENT : i == 11 ? -EACCES : 0), "%d", i);
    free_heads(heads);
}

Test(batch, no_more_are_in_flight_than_allowed)
{
    ROOM_SCOPED(room, NULL);
    struct heads *heads = make_heads(&room);
    pthread_t thread;
    int hang = memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD});
    pthread_create(&thread, NULL, run_heads, heads);
    cr_assert(memory_store_await(room.bucket, STORE_HEAD, NULL, BATCH_IN_FLIGHT));
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), BATCH_IN_FLIGHT);
    memory_store_fault_end(room.bucket, hang);
    memory_store_unhang(room.bucket, 0, NULL);
    pthread_join(thread, NULL);
    cr_assert_eq(heads->rc, 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), CALLS);
    free_heads(heads);
}

Test(batch, an_interrupt_cancels_what_runs_and_begins_no_more)
{
    ROOM_SCOPED(room, NULL);
    struct heads *heads = make_heads(&room);
    pthread_t thread;
    memory_store_fault(room.bucket, &(struct fault){.kind = FAULT_HANG, .op = STORE_HEAD});
    pthread_create(&thread, NULL, run_heads, heads);
    cr_assert(memory_store_await(room.bucket, STORE_HEAD, NULL, BATCH_IN_FLIGHT));
    waiter_interrupt(&heads->waiter);
    pthread_join(thread, NULL);
    cr_assert_eq(heads->rc, -EINTR);
    for (int i = 0; i < CALLS; i++)
        cr_assert_eq(heads->calls[i].rc, -ECANCELED, "%d", i);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_HEAD, NULL), BATCH_IN_FLIGHT);
    free_heads(heads);
}
