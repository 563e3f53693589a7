/* Several threads ask, give, claim, withdraw and take at random, for a fixed number of steps. Held all the time: used +
 * idle within the limit, no share above its part, every grant exactly once, nobody forgotten at the end. A plain main:
 * criterion does not run under ThreadSanitizer. */
#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"

#define LIMIT   ((size_t)8 << 20)
#define THREADS 6
#define STEPS   3000
#define PARTS   5

static struct memory *memory;
static _Atomic size_t granted_bytes; /* as the test counts them: never above the limit */
static atomic_size_t asked_count, granted_count, withdrawn_count;

struct asked {
    struct memory_request request;
    atomic_int grants;
};

static void count_bytes(size_t bytes)
{
    size_t now = atomic_fetch_add(&granted_bytes, bytes) + bytes;
    assert(now <= LIMIT);
}

static void note_grant(struct memory_request *request)
{
    struct asked *asked = container_of(request, struct asked, request);
    count_bytes(request->bytes);
    atomic_fetch_add(&granted_count, 1);
    int before = atomic_fetch_add(&asked->grants, 1);
    assert(before == 0);
}

/* Uncounts first: once given, another thread may have the bytes already. */
static void give_bytes(size_t bytes, enum memory_share share)
{
    atomic_fetch_sub(&granted_bytes, bytes);
    memory_give(memory, bytes, share);
}

static void give_granted(struct asked *asked)
{
    if (!asked->request.pages) {
        give_bytes(asked->request.bytes, asked->request.share);
        return;
    }
    void *pages[PARTS];
    size_t count = asked->request.bytes / PAGE_BYTES;
    for (size_t i = 0; i < count; i++) {
        pages[i] = page_claim(memory, asked->request.share);
        memset(pages[i], (int)i, 4096);
    }
    atomic_fetch_sub(&granted_bytes, asked->request.bytes);
    page_put_many(memory, pages, count, asked->request.share);
}

static void ask_and_perhaps_withdraw(unsigned *seed)
{
    enum memory_share share = (enum memory_share)(rand_r(seed) % SHARE_COUNT);
    bool pages = rand_r(seed) % 2;
    size_t bytes =
        pages ? (1 + (size_t)rand_r(seed) % PARTS) * PAGE_BYTES : 1 + (size_t)rand_r(seed) % (LIMIT / 8);
    struct asked asked = {.request = {.bytes = bytes, .share = share, .pages = pages, .granted = note_grant}};
    atomic_fetch_add(&asked_count, 1);
    int rc = memory_ask(memory, &asked.request);
    assert(rc == 0);
    if (rand_r(seed) % 2 && memory_withdraw(memory, &asked.request)) {
        assert(atomic_load(&asked.grants) == 0);
        atomic_fetch_add(&withdrawn_count, 1);
        return;
    }
    while (atomic_load(&asked.grants) == 0) /* a lost wake-up ends here, in the test's time-out */
        sched_yield();
    give_granted(&asked);
}

static pthread_mutex_t taker_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *takers[THREADS]; /* under taker_mutex: whom to interrupt */
static _Thread_local int thread_number;

static void set_taker(struct waiter *waiter)
{
    pthread_mutex_lock(&taker_mutex);
    takers[thread_number] = waiter;
    pthread_mutex_unlock(&taker_mutex);
}

static void *interrupt_takers(void *argument)
{
    atomic_bool *stop = argument;
    while (!atomic_load(stop)) {
        for (int i = 0; i < THREADS; i++) {
            pthread_mutex_lock(&taker_mutex);
            if (takers[i])
                waiter_interrupt(takers[i]);
            pthread_mutex_unlock(&taker_mutex);
            sched_yield();
        }
    }
    return NULL;
}

static void take_and_give(unsigned *seed)
{
    WAITER_SCOPED(waiter);
    bool interruptible = rand_r(seed) % 2;
    size_t bytes = 1 + (size_t)rand_r(seed) % (LIMIT / 8);
    enum memory_share share = (enum memory_share)(rand_r(seed) % SHARE_COUNT);
    int64_t deadline_ms = rand_r(seed) % 2 ? CLOCK_NEVER : clock_ms() + rand_r(seed) % 2;
    set_taker(interruptible ? &waiter : NULL);
    int rc = memory_take(memory, bytes, share, &waiter, deadline_ms);
    set_taker(NULL);
    assert(rc == 0 || (rc == -ETIMEDOUT && deadline_ms != CLOCK_NEVER) || (rc == -EINTR && interruptible));
    if (rc < 0)
        return;
    count_bytes(bytes);
    give_bytes(bytes, share);
}

static void try_page(unsigned *seed)
{
    enum memory_share share = (enum memory_share)(rand_r(seed) % SHARE_COUNT);
    void *page = page_try(memory, share);
    if (!page)
        return;
    count_bytes(PAGE_BYTES);
    memset(page, 1, 4096);
    if (share == SHARE_AHEAD && memory_move(memory, PAGE_BYTES, share, SHARE_DEMAND))
        share = SHARE_DEMAND;
    atomic_fetch_sub(&granted_bytes, PAGE_BYTES);
    page_put(memory, page, share);
}

static void check_report(void)
{
    struct memory_report report;
    memory_report(memory, &report);
    size_t sum = 0;
    for (int i = 0; i < SHARE_COUNT; i++)
        sum += report.shares[i];
    assert(sum == report.used && report.used + report.idle <= report.limit);
    assert(report.shares[SHARE_AHEAD] <= LIMIT / 2 && report.shares[SHARE_NAMES] <= LIMIT / 8);
}

static void *run_thread(void *argument)
{
    unsigned seed = (unsigned)(uintptr_t)argument;
    thread_number = (int)seed - 1;
    for (int step = 0; step < STEPS; step++) {
        int dice = rand_r(&seed) % 10;
        if (dice < 4)
            ask_and_perhaps_withdraw(&seed);
        else if (dice < 7)
            take_and_give(&seed);
        else
            try_page(&seed);
        check_report();
    }
    return NULL;
}

/* Memory that a "cache" keeps until it is asked for it. */
static pthread_mutex_t hoard_mutex = PTHREAD_MUTEX_INITIALIZER;
static size_t hoard;

static void reclaim_hoard(void *context, size_t bytes)
{
    (void)context;
    pthread_mutex_lock(&hoard_mutex);
    size_t part = bytes < hoard ? bytes : hoard;
    hoard -= part;
    pthread_mutex_unlock(&hoard_mutex);
    if (part)
        give_bytes(part, SHARE_UPLOAD);
}

static void *fill_hoard(void *argument)
{
    atomic_bool *stop = argument;
    while (!atomic_load(stop)) {
        if (memory_try(memory, PAGE_BYTES, SHARE_UPLOAD)) {
            count_bytes(PAGE_BYTES);
            pthread_mutex_lock(&hoard_mutex);
            hoard += PAGE_BYTES;
            pthread_mutex_unlock(&hoard_mutex);
            memory_press(memory);
        }
        sched_yield();
    }
    return NULL;
}

int main(void)
{
    memory = memory_new(LIMIT);
    memory_add_reclaimer(memory, reclaim_hoard, NULL);
    pthread_t threads[THREADS], filler, interrupter;
    atomic_bool stop = false;
    pthread_create(&filler, NULL, fill_hoard, &stop);
    pthread_create(&interrupter, NULL, interrupt_takers, &stop);
    for (uintptr_t i = 0; i < THREADS; i++)
        pthread_create(&threads[i], NULL, run_thread, (void *)(i + 1));
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    atomic_store(&stop, true);
    pthread_join(filler, NULL);
    pthread_join(interrupter, NULL);
    reclaim_hoard(NULL, SIZE_MAX);
    struct memory_report report;
    memory_report(memory, &report);
    assert(report.used == 0 && report.waiting == 0 && granted_bytes == 0);
    assert(asked_count == granted_count + withdrawn_count);
    memory_free(memory);
    printf("%zu asked, %zu withdrawn\n", (size_t)asked_count, (size_t)withdrawn_count);
    return 0;
}
