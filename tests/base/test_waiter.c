#include "base/waiter.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <unistd.h>

#include "base/clock.h"

static struct lock lock;
static struct gate gate;
static int condition; /* under lock */

static void begin(void)
{
    lock_init(&lock, LOCK_STORE, "test");
    gate_init(&gate);
}

TestSuite(waiter, .init = begin);

struct waiting {
    pthread_t thread;
    struct waiter waiter;
    int64_t deadline_ms;
    int rc;
};

static void *wait_for_condition(void *argument)
{
    struct waiting *waiting = argument;
    int rc = 0;
    lock_take(&lock);
    while (!condition && rc == 0)
        rc = gate_wait_locked(&gate, &lock, &waiting->waiter, waiting->deadline_ms);
    lock_drop(&lock);
    waiting->rc = rc;
    return NULL;
}

static size_t count_waiters(void)
{
    LOCK_SCOPED(&lock);
    size_t count = 0;
    list_for_each (at, &gate.waiters) {
        count++;
    }
    return count;
}

/* Returns when the waiter stands at the gate: from then on its thread does nothing but wait. */
static void start_waiting(struct waiting *waiting, int64_t deadline_ms)
{
    size_t before = count_waiters();
    waiter_init(&waiting->waiter);
    waiting->deadline_ms = deadline_ms;
    pthread_create(&waiting->thread, NULL, wait_for_condition, waiting);
    while (count_waiters() == before)
        usleep(500);
}

static int end_waiting(struct waiting *waiting)
{
    pthread_join(waiting->thread, NULL);
    waiter_release(&waiting->waiter);
    return waiting->rc;
}

Test(waiter, null_may_not_wait)
{
    LOCK_SCOPED(&lock);
    cr_assert_eq(gate_wait_locked(&gate, &lock, NULL, CLOCK_NEVER), -EAGAIN);
}

Test(waiter, an_opened_gate_wakes_all)
{
    struct waiting waitings[5];
    for (int i = 0; i < 5; i++)
        start_waiting(&waitings[i], i % 2 ? CLOCK_NEVER : clock_ms() + 1000000);
    lock_take(&lock);
    condition = 1;
    gate_open(&gate);
    lock_drop(&lock);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(end_waiting(&waitings[i]), 0);
    gate_release(&gate);
}

Test(waiter, an_interrupt_ends_the_wait_and_sticks)
{
    struct waiting waiting, other;
    start_waiting(&waiting, CLOCK_NEVER);
    start_waiting(&other, CLOCK_NEVER);
    waiter_interrupt(&waiting.waiter);
    pthread_join(waiting.thread, NULL);
    cr_assert_eq(waiting.rc, -EINTR);
    cr_assert_eq(count_waiters(), 1, "the other one waits on");
    cr_assert(waiter_interrupted(&waiting.waiter));
    lock_take(&lock);
    cr_assert_eq(gate_wait_locked(&gate, &lock, &waiting.waiter, CLOCK_NEVER), -EINTR);
    lock_drop(&lock);
    waiter_release(&waiting.waiter);
    waiter_interrupt(&other.waiter);
    cr_assert_eq(end_waiting(&other), -EINTR);
}

Test(waiter, an_interrupt_before_the_wait_is_not_lost)
{
    WAITER_SCOPED(waiter);
    waiter_interrupt(&waiter);
    LOCK_SCOPED(&lock);
    cr_assert_eq(gate_wait_locked(&gate, &lock, &waiter, CLOCK_NEVER), -EINTR);
}

Test(waiter, a_real_deadline_passes)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&lock);
    int64_t deadline_ms = clock_ms() + 20;
    cr_assert_eq(gate_wait_locked(&gate, &lock, &waiter, deadline_ms), -ETIMEDOUT);
    cr_assert_geq(clock_ms(), deadline_ms);
    cr_assert_eq(gate_wait_locked(&gate, &lock, &waiter, deadline_ms), -ETIMEDOUT, "passed already");
    cr_assert(list_empty(&gate.waiters));
}

Test(waiter, a_fake_deadline_passes_only_when_time_is_moved)
{
    clock_fake_begin(0);
    struct waiting soon, late;
    start_waiting(&soon, clock_ms() + 100);
    start_waiting(&late, clock_ms() + 60000);
    clock_fake_advance(99);
    usleep(20000);
    cr_assert_eq(count_waiters(), 2);
    clock_fake_advance(1);
    cr_assert_eq(end_waiting(&soon), -ETIMEDOUT);
    cr_assert_eq(count_waiters(), 1);
    clock_fake_advance(60000);
    cr_assert_eq(end_waiting(&late), -ETIMEDOUT);
    clock_fake_end();
}

Test(waiter, a_clock_that_becomes_fake_during_the_wait_is_heard)
{
    struct waiting waiting;
    start_waiting(&waiting, clock_ms() + 3600000);
    clock_fake_begin(0);
    clock_fake_advance(3600001);
    cr_assert_eq(end_waiting(&waiting), -ETIMEDOUT);
    clock_fake_end();
}

Test(waiter, a_clock_that_becomes_real_again_is_heard)
{
    clock_fake_begin(0);
    struct waiting waiting;
    start_waiting(&waiting, clock_ms() + 20);
    clock_fake_end();
    cr_assert_eq(end_waiting(&waiting), -ETIMEDOUT);
}
