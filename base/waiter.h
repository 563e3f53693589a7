/* waiter: one request that may have to wait; gate: a place where waiters wait.
 *
 * A waiter is woken for one of three reasons: what it waits for came (gate_open), the user interrupted it
 * (waiter_interrupt, sticky), or its deadline passed. Each blocking call below takes the waiter of the request it
 * works for, so that Ctrl-C reaches every depth. A NULL waiter where a function takes one means: this caller may
 * not wait; the function returns -EAGAIN where it would have to.
 *
 *      lock_take(&lock);
 *      while (!condition)
 *          if ((rc = gate_wait_locked(&gate, &lock, waiter, deadline)) < 0) break;     0 | -EINTR | -ETIMEDOUT
 *      lock_drop(&lock);
 *
 * Owns: the waiter belongs to its request and outlives the wait; a gate must have no waiters when released.
 * Threads: waiter_interrupt from any thread. gate_open under the same lock that gate_wait_locked was given, which is
 * the only lock that the waiting thread may hold. A waiter waits at one gate at a time.
 */
#ifndef BASE_WAITER_H
#define BASE_WAITER_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/list.h"
#include "base/lock.h"

struct waiter {
    pthread_mutex_t mutex;
    pthread_cond_t cond;
    bool woken;           /* written under mutex, by the gate that the waiter stands at */
    bool interrupted;     /* under mutex; sticky */
    struct list link;     /* in the gate's list, under the gate's lock */
    struct list registry; /* while it waits with a deadline: a moved clock wakes it */
};

struct gate {
    struct list waiters;
};

void waiter_init(struct waiter *waiter);
void waiter_release(struct waiter *waiter);
void waiter_interrupt(struct waiter *waiter);
bool waiter_interrupted(struct waiter *waiter);

void gate_init(struct gate *gate);
void gate_release(struct gate *gate);
/* Wakes all who wait here; they look at their condition again. */
void gate_open(struct gate *gate);
int gate_wait_locked(struct gate *gate, struct lock *lock, struct waiter *waiter, int64_t deadline_ms);

/* An uninterruptible private waiter, for callers without a request (mount, tests). */
#define WAITER_SCOPED(name)                                                                                  \
    struct waiter name __attribute__((cleanup(waiter_release)));                                             \
    waiter_init(&name)

#endif
