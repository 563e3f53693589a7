#include "s3/store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"

/* ---- Fields. ---- */

Test(store, fields_keep_order_and_replace_by_name)
{
    struct store_fields fields = {0}, copy = {0};
    for (int i = 0; i < 40; i++) {
        STRING_SCOPED *name = xprintf("n%d", i);
        store_fields_set(&fields, name, "1");
        store_fields_set(&fields, name, store_fields_get(&fields, name)); /* its own value */
    }
    cr_expect_eq(fields.count, 40u);
    for (int i = 0; i < 40; i += 2) {
        STRING_SCOPED *name = xprintf("n%d", i);
        store_fields_remove(&fields, name);
        cr_expect_null(store_fields_get(&fields, name));
    }
    store_fields_remove(&fields, "nobody");
    for (int i = 40; i < 60; i++) {
        STRING_SCOPED *name = xprintf("n%d", i);
        store_fields_add(&fields, name, "2");
    }
    cr_expect_eq(fields.count, 40u);
    cr_expect_str_eq(fields.all[0].name, "n1");
    cr_expect_str_eq(fields.all[20].name, "n40");
    store_fields_add(&copy, "old", "x");
    store_fields_copy(&copy, &fields);
    cr_expect_eq(copy.count, 40u);
    cr_expect_str_eq(store_fields_get(&copy, "n59"), "2");
    store_fields_copy(&copy, NULL);
    cr_expect_eq(copy.count, 0u);
    store_fields_release(&fields);
    store_fields_release(&copy);
    store_fields_release(NULL);
    cr_expect_null(store_fields_get(NULL, "x"));
}

Test(store, every_operation_has_a_name)
{
    for (int op = STORE_GET; op <= STORE_LIST_UPLOADS; op++)
        cr_expect(strcmp(store_op_name(op), "?") != 0);
    cr_expect_str_eq(store_op_name(0), "?");
    cr_expect_str_eq(store_op_name(STORE_LIST_UPLOADS + 1), "?");
}

Test(store, errors_are_one_line)
{
    struct store_error error = {.http_status = 503, .attempts = 4, .took_ms = 812};
    strcpy(error.code, "SlowDown");
    strcpy(error.request_id, "17A9");
    strcpy(error.message, "Please reduce your request rate.");
    BUF_SCOPED line = BUF_INIT, bare = BUF_INIT;
    store_error_print(&error, -EIO, &line);
    cr_expect_str_eq(line.bytes,
                     "SlowDown (503), request 17A9, 4 attempts in 812 ms: Please reduce your request rate.");
    store_error_print(&(struct store_error){0}, -ECANCELED, &bare);
    cr_expect_str_eq(bare.bytes, "ECANCELED: Operation canceled");
}

Test(store, a_released_call_can_be_used_again)
{
    struct store_call call = {0};
    call.object.key = xstrdup("k");
    store_fields_add(&call.object.meta, "a", "b");
    call.objects = xcalloc(1, sizeof(*call.objects));
    call.object_count = 1;
    call.objects[0].key = xstrdup("k");
    call.prefixes = xcalloc(1, sizeof(*call.prefixes));
    call.prefix_count = 1;
    call.prefixes[0] = xstrdup("p");
    call.uploads = xcalloc(1, sizeof(*call.uploads));
    call.upload_count = 1;
    call.uploads[0].key = xstrdup("u");
    call.next_token = xstrdup("t");
    call.rc = -EIO;
    call.unknown = true;
    store_call_release(&call);
    static const struct store_call empty;
    cr_expect_eq(memcmp(&call, &empty, sizeof(call)), 0);
    store_call_release(&call);
    store_call_release(NULL);
}

/* ---- The wait, on a store that ends its call when told: at once, by another thread, at cancel, or late after it. ---- */

enum mode { AT_ONCE, BY_THREAD, AT_CANCEL, LATE_SUCCESS };

struct fake {
    struct store store;
    enum mode mode;
    int rc;
    struct store_call *call;
    int started, canceled;
    pthread_t thread;
    struct waiter *interrupt; /* pulled once the call runs */
};

static struct fake *fake_of(struct store *store)
{
    return container_of(store, struct fake, store);
}

static void *end_later(void *context)
{
    struct fake *fake = context;
    if (fake->interrupt)
        waiter_interrupt(fake->interrupt);
    if (fake->mode == AT_CANCEL || fake->mode == LATE_SUCCESS)
        while (!__atomic_load_n(&fake->canceled, __ATOMIC_ACQUIRE))
            sched_yield();
    fake->call->rc = fake->rc;
    fake->call->done(fake->call);
    return NULL;
}

static void start_fake(struct store *store, struct store_call *call)
{
    struct fake *fake = fake_of(store);
    fake->started++;
    fake->call = call;
    if (fake->mode == AT_ONCE) {
        call->rc = fake->rc;
        call->done(call);
    } else {
        cr_assert_eq(pthread_create(&fake->thread, NULL, end_later, fake), 0);
    }
}

static void cancel_fake(struct store *store, struct store_call *call)
{
    (void)call;
    __atomic_add_fetch(&fake_of(store)->canceled, 1, __ATOMIC_RELEASE);
}

static const struct store_ops fake_ops = {.start = start_fake, .cancel = cancel_fake};

static int wait_fake(struct fake *fake, struct waiter *waiter)
{
    struct store_call call = {.op = STORE_HEAD, .owner = fake};
    fake->store.ops = &fake_ops;
    int rc = store_wait(&fake->store, &call, waiter);
    if (fake->started && fake->mode != AT_ONCE)
        pthread_join(fake->thread, NULL);
    cr_expect_eq(call.owner, fake, "the caller's own is given back");
    cr_expect_eq(call.rc, rc);
    return rc;
}

Test(store, wait_gives_what_the_call_ended_with)
{
    WAITER_SCOPED(waiter);
    struct fake at_once = {.mode = AT_ONCE, .rc = -ENOENT}, by_thread = {.mode = BY_THREAD, .rc = 0};
    cr_expect_eq(wait_fake(&at_once, &waiter), -ENOENT);
    cr_expect_eq(wait_fake(&by_thread, &waiter), 0);
    cr_expect_eq(by_thread.canceled, 0);
}

Test(store, wait_without_a_waiter_sends_nothing)
{
    struct fake fake = {.mode = AT_ONCE};
    cr_expect_eq(wait_fake(&fake, NULL), -EAGAIN);
    cr_expect_eq(fake.started, 0);
}

Test(store, an_interrupt_cancels_and_still_waits_for_done)
{
    WAITER_SCOPED(waiter);
    struct fake fake = {.mode = AT_CANCEL, .rc = -ECANCELED, .interrupt = &waiter};
    cr_expect_eq(wait_fake(&fake, &waiter), -EINTR);
    cr_expect_eq(fake.canceled, 1);
    struct fake next = {.mode = AT_ONCE};
    cr_expect_eq(wait_fake(&next, &waiter), -EINTR, "an interrupt is sticky");
    cr_expect_eq(next.started, 0);
}

Test(store, what_was_done_all_the_same_is_not_called_interrupted)
{
    WAITER_SCOPED(waiter);
    WAITER_SCOPED(other);
    struct fake done = {.mode = LATE_SUCCESS, .rc = 0, .interrupt = &waiter};
    cr_expect_eq(wait_fake(&done, &waiter), 0);
    struct fake failed = {.mode = LATE_SUCCESS, .rc = -EACCES, .interrupt = &other};
    cr_expect_eq(wait_fake(&failed, &other), -EACCES);
}
