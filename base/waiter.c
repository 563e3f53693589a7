#include "base/waiter.h"

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "base/clock.h"

/* Waiters with a deadline stand here, to look at it again when a test has moved the time or changed the clock. A waiter
 * registers under a real clock, too: the fake one may begin while it sleeps.
 * Order: registry_mutex, then waiter->mutex. Plain mutexes: they are this file's own and nothing is taken under them. */
static pthread_mutex_t registry_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct list registry = LIST_INIT(registry);

static void hear_clock(void)
{
    pthread_mutex_lock(&registry_mutex);
    list_for_each (at, &registry) {
        struct waiter *waiter = container_of(at, struct waiter, registry);
        pthread_mutex_lock(&waiter->mutex);
        pthread_cond_broadcast(&waiter->cond);
        pthread_mutex_unlock(&waiter->mutex);
    }
    pthread_mutex_unlock(&registry_mutex);
}

static void register_listener(void)
{
    clock_fake_listen(hear_clock);
}

void waiter_init(struct waiter *waiter)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, register_listener);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&waiter->mutex, NULL);
    pthread_cond_init(&waiter->cond, &attr);
    pthread_condattr_destroy(&attr);
    waiter->woken = false;
    waiter->interrupted = false;
    list_init(&waiter->link);
    list_init(&waiter->registry);
}

void waiter_release(struct waiter *waiter)
{
    if (!waiter)
        return;
    assert(list_empty(&waiter->link) && list_empty(&waiter->registry));
    pthread_cond_destroy(&waiter->cond);
    pthread_mutex_destroy(&waiter->mutex);
}

void waiter_interrupt(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    waiter->interrupted = true;
    pthread_cond_signal(&waiter->cond);
    pthread_mutex_unlock(&waiter->mutex);
}

bool waiter_interrupted(struct waiter *waiter)
{
    pthread_mutex_lock(&waiter->mutex);
    bool interrupted = waiter->interrupted;
    pthread_mutex_unlock(&waiter->mutex);
    return interrupted;
}

void gate_init(struct gate *gate)
{
    list_init(&gate->waiters);
}

void gate_release(struct gate *gate)
{
    if (gate)
        assert(list_empty(&gate->waiters));
}

void gate_open(struct gate *gate)
{
    struct list *link;
    while ((link = list_pop(&gate->waiters))) {
        struct waiter *waiter = container_of(link, struct waiter, link);
        pthread_mutex_lock(&waiter->mutex);
        waiter->woken = true;
        pthread_cond_signal(&waiter->cond);
        /* The waiter may go on now, but it cannot end: it needs the gate's lock first, which our caller holds. */
        pthread_mutex_unlock(&waiter->mutex);
    }
}

/* Until something new is to be seen; may end early. */
static void sleep_locked(struct waiter *waiter, int64_t deadline_ms)
{
    if (deadline_ms == CLOCK_NEVER || clock_is_fake()) {
        pthread_cond_wait(&waiter->cond, &waiter->mutex);
        return;
    }
    struct timespec until = {.tv_sec = deadline_ms / 1000, .tv_nsec = deadline_ms % 1000 * 1000000};
    pthread_cond_timedwait(&waiter->cond, &waiter->mutex, &until);
}

static void set_registered(struct waiter *waiter, bool registered)
{
    pthread_mutex_lock(&registry_mutex);
    if (registered)
        list_append(&registry, &waiter->registry);
    else
        list_remove(&waiter->registry);
    pthread_mutex_unlock(&registry_mutex);
}

static void wait_for_news(struct waiter *waiter, int64_t deadline_ms)
{
    bool timed = deadline_ms != CLOCK_NEVER;
    if (timed)
        set_registered(waiter, true);
    pthread_mutex_lock(&waiter->mutex);
    while (!waiter->woken && !waiter->interrupted && clock_ms() < deadline_ms)
        sleep_locked(waiter, deadline_ms);
    pthread_mutex_unlock(&waiter->mutex);
    if (timed)
        set_registered(waiter, false);
}

int gate_wait_locked(struct gate *gate, struct lock *lock, struct waiter *waiter, int64_t deadline_ms)
{
    if (!waiter)
        return -EAGAIN;
    assert(list_empty(&waiter->link)); /* one wait at a time */
    if (waiter_interrupted(waiter))
        return -EINTR;
    if (clock_ms() >= deadline_ms)
        return -ETIMEDOUT;
    waiter->woken = false; /* in no gate's list: nobody else looks at it */
    list_append(&gate->waiters, &waiter->link);
    lock_drop(lock);
    lock_assert_none();
    wait_for_news(waiter, deadline_ms);
    lock_take(lock);
    /* gate_open runs under the lock, so from here on `woken` is settled. What came wins over what ended the wait. */
    list_remove(&waiter->link);
    if (waiter->woken)
        return 0;
    return waiter_interrupted(waiter) ? -EINTR : -ETIMEDOUT;
}
