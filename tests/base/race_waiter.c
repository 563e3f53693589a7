/* Waiters at one gate, openers and interrupters: every condition that came true is seen, nobody sleeps for ever. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/waiter.h"

#define WAITERS 4
#define ROUNDS  2000

static struct lock lock;
static struct gate gate;
static int tokens;             /* under lock */
static int taken, interrupted; /* under lock */

static pthread_mutex_t target_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *targets[WAITERS]; /* under target_mutex: whom to interrupt */
static atomic_bool stop;

static int take_token(struct waiter *waiter, int64_t deadline_ms)
{
    int rc = 0;
    LOCK_SCOPED(&lock);
    while (tokens == 0 && rc == 0)
        rc = gate_wait_locked(&gate, &lock, waiter, deadline_ms);
    if (tokens == 0) {
        interrupted += rc == -EINTR;
        return rc;
    }
    tokens--;
    taken++;
    return 0;
}

static void set_target(int number, struct waiter *waiter)
{
    pthread_mutex_lock(&target_mutex);
    targets[number] = waiter;
    pthread_mutex_unlock(&target_mutex);
}

static void *run_waiter(void *argument)
{
    int number = (int)(intptr_t)argument;
    unsigned seed = (unsigned)number;
    for (int done = 0; done < ROUNDS;) {
        WAITER_SCOPED(waiter);
        set_target(number, &waiter);
        int64_t deadline_ms = rand_r(&seed) % 2 ? CLOCK_NEVER : clock_ms() + 1;
        int rc = take_token(&waiter, deadline_ms);
        set_target(number, NULL);
        assert(rc == 0 || rc == -EINTR || (rc == -ETIMEDOUT && deadline_ms != CLOCK_NEVER));
        done += rc == 0;
    }
    return NULL;
}

static void *run_interrupter(void *argument)
{
    (void)argument;
    unsigned seed = 9;
    while (!atomic_load(&stop)) {
        int number = rand_r(&seed) % WAITERS;
        pthread_mutex_lock(&target_mutex);
        if (targets[number])
            waiter_interrupt(targets[number]);
        pthread_mutex_unlock(&target_mutex);
        sched_yield();
    }
    return NULL;
}

static void *run_clock(void *argument)
{
    (void)argument;
    while (!atomic_load(&stop)) {
        clock_fake_begin(0);
        clock_fake_advance(3);
        clock_fake_end();
        sched_yield();
    }
    return NULL;
}

int main(void)
{
    lock_init(&lock, LOCK_STORE, "tokens");
    gate_init(&gate);
    pthread_t waiters[WAITERS], interrupter, mover;
    for (int i = 0; i < WAITERS; i++)
        pthread_create(&waiters[i], NULL, run_waiter, (void *)(intptr_t)i);
    pthread_create(&interrupter, NULL, run_interrupter, NULL);
    pthread_create(&mover, NULL, run_clock, NULL);
    for (int given = 0; given < WAITERS * ROUNDS; given++) {
        lock_take(&lock);
        tokens++;
        gate_open(&gate);
        lock_drop(&lock);
        if (given % 8 == 0)
            sched_yield();
    }
    for (int i = 0; i < WAITERS; i++)
        pthread_join(waiters[i], NULL);
    atomic_store(&stop, true);
    pthread_join(interrupter, NULL);
    pthread_join(mover, NULL);
    assert(taken == WAITERS * ROUNDS && tokens == 0);
    gate_release(&gate);
    lock_release(&lock);
    printf("%d taken, %d interrupted\n", taken, interrupted);
    return 0;
}
