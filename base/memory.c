#include "base/memory.h"

#include <assert.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/buf.h"
#include "base/cgroup.h"
#include "base/clock.h"
#include "base/lock.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else /* a page that nobody uses may not be touched: ASan sees it */
#define ASAN_POISON_MEMORY_REGION(at, size)   ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

#define ARENA_BYTES    ((size_t)2 << 20)
#define RECLAIMERS_MAX 8

/* The life of a page; only COLD ones take no memory.
 *
 *      COLD --take--> USED --put--> IDLE --take--> USED
 *        ^                           | '--granted, to be claimed--> ASIDE --claim--> USED
 *        '----- trim: DONTNEED ------'
 *
 * USED and ASIDE pages lie within `used`, IDLE ones are counted by themselves:
 *      PAGE_BYTES * (USED + ASIDE) <= used,  used + PAGE_BYTES * IDLE <= limit
 */
enum page_state { PAGE_COLD, PAGE_IDLE, PAGE_ASIDE, PAGE_USED, PAGE_STATES };

/* The numbers of the pages in one state; those in USED stand in no stack, only their count is kept. */
struct stack {
    uint32_t *numbers;
    size_t count;
};

struct reclaimer {
    void (*reclaim)(void *context, size_t bytes);
    void *context;
};

struct memory {
    /* Set at birth: */
    size_t limit;
    size_t parts[SHARE_COUNT]; /* what each share may hold */
    char *region;              /* address space for all pages that the limit can ever hold */
    size_t region_size;
    char *mapping; /* region lies in it, aligned to an arena */
    size_t mapping_size;
    size_t page_count;

    struct lock lock;
    /* Under lock: */
    size_t used;
    size_t shares[SHARE_COUNT]; /* their sum is used; none above its part */
    uint8_t *states;            /* enum page_state of each page */
    struct stack stacks[PAGE_STATES];
    struct list waiting; /* requests, the oldest first */
    size_t waiting_count;
    bool delivering; /* one thread at a time hands out grants, so that callbacks that give do not nest */
    bool reclaiming; /* one thread at a time asks the reclaimers ... */
    bool again;      /* ... and asks them again when something was given meanwhile */
    bool share_too;  /* ... also for a request that only its share keeps back */
    struct reclaimer reclaimers[RECLAIMERS_MAX];
    size_t reclaimer_count;
    struct gate quiet; /* nobody asks them any more */

    atomic_bool wanted; /* written under lock: requests wait */
};

/* ---- pages ---- */

static size_t idle_bytes(const struct memory *memory)
{
    return memory->stacks[PAGE_IDLE].count * PAGE_BYTES;
}

static void check_locked(const struct memory *memory)
{
    size_t within = memory->stacks[PAGE_USED].count + memory->stacks[PAGE_ASIDE].count;
    assert(memory->used <= memory->limit && idle_bytes(memory) <= memory->limit - memory->used);
    assert(within * PAGE_BYTES <=
           memory->used); /* else pages were granted, and their bytes given back instead */
}

static char *locate_page(const struct memory *memory, uint32_t number)
{
    return memory->region + number * PAGE_BYTES;
}

static void push_page(struct memory *memory, uint32_t number, enum page_state state)
{
    struct stack *stack = &memory->stacks[state];
    memory->states[number] = (uint8_t)state;
    if (state != PAGE_USED)
        stack->numbers[stack->count] = number;
    stack->count++;
}

static uint32_t pop_page(struct memory *memory, enum page_state state)
{
    struct stack *stack = &memory->stacks[state];
    assert(stack->count > 0 && state != PAGE_USED);
    uint32_t number = stack->numbers[--stack->count];
    assert(memory->states[number] == state);
    return number;
}

/* Hands idle pages to the kernel until `bytes` more fit beside what is used. */
static void trim_idle_locked(struct memory *memory, size_t bytes)
{
    assert(bytes <= memory->limit - memory->used);
    while (idle_bytes(memory) > memory->limit - memory->used - bytes) {
        uint32_t number = pop_page(memory, PAGE_IDLE);
        int rc = madvise(locate_page(memory, number), PAGE_BYTES, MADV_DONTNEED);
        assert(rc == 0);
        (void)rc;
        push_page(memory, number, PAGE_COLD);
    }
}

/* Makes a page of bytes that `used` holds already. */
static void *use_page_locked(struct memory *memory)
{
    enum page_state from = memory->stacks[PAGE_ASIDE].count  ? PAGE_ASIDE
                           : memory->stacks[PAGE_IDLE].count ? PAGE_IDLE
                                                             : PAGE_COLD;
    uint32_t number = pop_page(memory, from);
    push_page(memory, number, PAGE_USED);
    check_locked(memory);
    char *page = locate_page(memory, number);
    ASAN_UNPOISON_MEMORY_REGION(page, PAGE_BYTES);
    return page;
}

static void idle_page_locked(struct memory *memory, void *page)
{
    size_t offset = (size_t)((char *)page - memory->region);
    assert((char *)page >= memory->region && offset < memory->page_count * PAGE_BYTES &&
           offset % PAGE_BYTES == 0);
    uint32_t number = (uint32_t)(offset / PAGE_BYTES);
    assert(memory->states[number] == PAGE_USED);
    ASAN_POISON_MEMORY_REGION(page, PAGE_BYTES);
    memory->stacks[PAGE_USED].count--;
    push_page(memory, number, PAGE_IDLE);
}

static bool map_region(struct memory *memory)
{
    memory->page_count = memory->limit / PAGE_BYTES;
    memory->region_size = (memory->page_count * PAGE_BYTES + ARENA_BYTES - 1) / ARENA_BYTES * ARENA_BYTES;
    memory->mapping_size = memory->region_size + ARENA_BYTES;
    void *mapping = mmap(NULL, memory->mapping_size, PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return false;
    memory->mapping = mapping;
    memory->region = memory->mapping + (ARENA_BYTES - (uintptr_t)mapping % ARENA_BYTES) % ARENA_BYTES;
    madvise(mapping, memory->mapping_size, MADV_NOHUGEPAGE); /* fails on kernels without hugepages: as well */
    madvise(mapping, memory->mapping_size, MADV_DONTDUMP);   /* a core shows our state, not the user's data */
    ASAN_POISON_MEMORY_REGION(memory->region, memory->region_size);
    memory->states = xcalloc(memory->page_count, 1);
    for (int state = 0; state < PAGE_USED; state++)
        memory->stacks[state].numbers = xcalloc(memory->page_count, sizeof(uint32_t));
    for (size_t number = memory->page_count; number-- > 0;) /* the lowest one is taken first */
        push_page(memory, (uint32_t)number, PAGE_COLD);
    return true;
}

/* ---- budget ---- */

/* A share that may hold everything never keeps a request back: the limit does. */
static bool share_fits_locked(const struct memory *memory, size_t bytes, enum memory_share share)
{
    size_t part = memory->parts[share], held = memory->shares[share];
    return part == memory->limit || bytes <= part - held;
}

static bool limit_fits_locked(const struct memory *memory, size_t bytes)
{
    return bytes <= memory->limit - memory->used; /* idle pages give way */
}

static void charge_locked(struct memory *memory, size_t bytes, enum memory_share share, bool pages)
{
    assert(!pages || bytes % PAGE_BYTES == 0);
    for (size_t left = pages ? bytes / PAGE_BYTES : 0; left && memory->stacks[PAGE_IDLE].count; left--)
        push_page(memory, pop_page(memory, PAGE_IDLE), PAGE_ASIDE);
    trim_idle_locked(memory, bytes);
    memory->used += bytes;
    memory->shares[share] += bytes;
    check_locked(memory);
}

static void uncharge_locked(struct memory *memory, size_t bytes, enum memory_share share)
{
    assert(memory->shares[share] >= bytes && memory->used >= bytes);
    memory->shares[share] -= bytes;
    memory->used -= bytes;
}

/* The oldest request that waits for the limit, not for its share; NULL: there is none. A request is held up by its share
 * also when one before it of that share is; `ret_held_up` says which shares are, up to there. */
static struct memory_request *find_head_locked(const struct memory *memory, bool ret_held_up[SHARE_COUNT])
{
    memset(ret_held_up, 0, SHARE_COUNT * sizeof(bool));
    for (struct list *at = memory->waiting.next; at != &memory->waiting; at = at->next) {
        struct memory_request *request = container_of(at, struct memory_request, link);
        if (!ret_held_up[request->share] && share_fits_locked(memory, request->bytes, request->share))
            return request;
        ret_held_up[request->share] = true;
    }
    return NULL;
}

/* May a newcomer of this share go before those that wait? */
static bool may_pass_locked(const struct memory *memory, enum memory_share share)
{
    bool held_up[SHARE_COUNT];
    return !find_head_locked(memory, held_up) && !held_up[share];
}

static bool try_locked(struct memory *memory, size_t bytes, enum memory_share share, bool pages)
{
    if (!share_fits_locked(memory, bytes, share) || !limit_fits_locked(memory, bytes) ||
        !may_pass_locked(memory, share))
        return false;
    charge_locked(memory, bytes, share, pages);
    return true;
}

static void enqueue_locked(struct memory *memory, struct memory_request *request)
{
    list_append(&memory->waiting, &request->link);
    memory->waiting_count++;
    atomic_store(&memory->wanted, true);
}

static void dequeue_locked(struct memory *memory, struct memory_request *request)
{
    list_remove(&request->link);
    memory->waiting_count--;
    atomic_store(&memory->wanted, memory->waiting_count > 0);
}

/* Grants whatever can be granted. A thread that finds another one here leaves the work to it: that one looks again
 * after each callback, so nothing that was given before is overlooked. */
static void deliver_grants(struct memory *memory)
{
    lock_take(&memory->lock);
    if (memory->delivering) {
        lock_drop(&memory->lock);
        return;
    }
    memory->delivering = true;
    struct memory_request *request;
    bool held_up[SHARE_COUNT];
    while ((request = find_head_locked(memory, held_up)) && limit_fits_locked(memory, request->bytes)) {
        dequeue_locked(memory, request);
        charge_locked(memory, request->bytes, request->share, request->pages);
        lock_drop(&memory->lock);
        request->granted(request); /* may free it */
        lock_take(&memory->lock);
    }
    memory->delivering = false;
    lock_drop(&memory->lock);
}

/* How many bytes the next request lacks; 0: nobody waits, or just for its own share and `share_too` is false. */
static size_t measure_shortfall_locked(const struct memory *memory, bool share_too)
{
    bool held_up[SHARE_COUNT];
    const struct memory_request *head = find_head_locked(memory, held_up);
    if (head)
        return limit_fits_locked(memory, head->bytes) ? 0 : head->bytes - (memory->limit - memory->used);
    if (!share_too || list_empty(&memory->waiting))
        return 0;
    const struct memory_request *first = container_of(memory->waiting.next, struct memory_request, link);
    return first->bytes - (memory->parts[first->share] - memory->shares[first->share]);
}

/* `share_too`: also for a request that only its share keeps back. That is done once, when it begins to wait: reclaimers
 * do not know shares, and would be emptied for a read-ahead that waits for its own bytes in flight. */
static void run_reclaimers(struct memory *memory, bool share_too)
{
    lock_take(&memory->lock);
    memory->again = true;
    memory->share_too |= share_too;
    if (memory->reclaiming) {
        lock_drop(&memory->lock);
        return;
    }
    memory->reclaiming = true;
    while (memory->again) {
        memory->again = false;
        share_too = memory->share_too;
        memory->share_too = false;
        for (size_t i = 0; i < memory->reclaimer_count; i++) {
            size_t shortfall = measure_shortfall_locked(memory, share_too);
            if (shortfall == 0)
                break;
            struct reclaimer reclaimer = memory->reclaimers[i];
            lock_drop(&memory->lock);
            reclaimer.reclaim(reclaimer.context, shortfall);
            lock_take(&memory->lock);
        }
    }
    memory->reclaiming = false;
    gate_open(&memory->quiet);
    lock_drop(&memory->lock);
}

/* After any change that may help somebody who waits. */
static void serve_waiting(struct memory *memory, bool share_too)
{
    lock_assert_none();
    if (!atomic_load(&memory->wanted))
        return;
    deliver_grants(memory);
    if (atomic_load(&memory->wanted))
        run_reclaimers(memory, share_too);
}

struct memory *memory_new(size_t limit_bytes)
{
    struct memory *memory = xcalloc(1, sizeof(*memory));
    memory->limit = limit_bytes;
    memory->parts[SHARE_DEMAND] = memory->parts[SHARE_UPLOAD] = limit_bytes;
    memory->parts[SHARE_AHEAD] = memory->parts[SHARE_OVERLAY] = limit_bytes / 2;
    memory->parts[SHARE_NAMES] = limit_bytes / 8;
    if (!map_region(memory)) {
        free(memory);
        return NULL;
    }
    lock_init(&memory->lock, LOCK_MEMORY, "memory");
    gate_init(&memory->quiet);
    list_init(&memory->waiting);
    return memory;
}

void memory_free(struct memory *memory)
{
    if (!memory)
        return;
    assert(list_empty(&memory->waiting) && memory->used == 0);
    ASAN_UNPOISON_MEMORY_REGION(memory->region, memory->region_size);
    munmap(memory->mapping, memory->mapping_size);
    for (int state = 0; state < PAGE_USED; state++)
        free(memory->stacks[state].numbers);
    free(memory->states);
    gate_release(&memory->quiet);
    lock_release(&memory->lock);
    free(memory);
}

bool memory_try(struct memory *memory, size_t bytes, enum memory_share share)
{
    LOCK_SCOPED(&memory->lock);
    return try_locked(memory, bytes, share, false);
}

size_t memory_left(struct memory *memory, enum memory_share share)
{
    LOCK_SCOPED(&memory->lock);
    size_t part = memory->parts[share], held = memory->shares[share];
    return part > held ? part - held : 0;
}

void memory_give(struct memory *memory, size_t bytes, enum memory_share share)
{
    lock_take(&memory->lock);
    uncharge_locked(memory, bytes, share);
    check_locked(memory);
    lock_drop(&memory->lock);
    serve_waiting(memory, false);
}

int memory_ask(struct memory *memory, struct memory_request *request)
{
    if (request->bytes > memory->parts[request->share])
        return -EFBIG;
    list_init(&request->link);
    lock_take(&memory->lock);
    bool granted = try_locked(memory, request->bytes, request->share, request->pages);
    if (!granted)
        enqueue_locked(memory, request);
    lock_drop(&memory->lock);
    if (granted) {
        lock_assert_none();
        request->granted(request);
    } else {
        serve_waiting(memory, true);
    }
    return 0;
}

bool memory_withdraw(struct memory *memory, struct memory_request *request)
{
    lock_take(&memory->lock);
    bool waiting = request->link.next && !list_empty(&request->link);
    if (waiting)
        dequeue_locked(memory, request);
    lock_drop(&memory->lock);
    serve_waiting(memory, false); /* it may have stood before others */
    return waiting;
}

void memory_press(struct memory *memory)
{
    serve_waiting(memory, false);
}

bool memory_move(struct memory *memory, size_t bytes, enum memory_share from, enum memory_share to)
{
    lock_take(&memory->lock);
    assert(memory->shares[from] >= bytes);
    bool fits = share_fits_locked(memory, bytes, to);
    if (fits) {
        memory->shares[from] -= bytes;
        memory->shares[to] += bytes;
    }
    lock_drop(&memory->lock);
    serve_waiting(memory, false);
    return fits;
}

void memory_add_reclaimer(struct memory *memory, void (*reclaim)(void *context, size_t bytes), void *context)
{
    LOCK_SCOPED(&memory->lock);
    assert(memory->reclaimer_count < RECLAIMERS_MAX);
    memory->reclaimers[memory->reclaimer_count++] = (struct reclaimer){reclaim, context};
}

void memory_remove_reclaimer(struct memory *memory, const void *context)
{
    WAITER_SCOPED(waiter);
    size_t place = 0;
    LOCK_SCOPED(&memory->lock);
    while (memory->reclaiming)
        gate_wait_locked(&memory->quiet, &memory->lock, &waiter, CLOCK_NEVER);
    while (place < memory->reclaimer_count && memory->reclaimers[place].context != context)
        place++;
    assert(place < memory->reclaimer_count);
    for (memory->reclaimer_count--; place < memory->reclaimer_count; place++)
        memory->reclaimers[place] = memory->reclaimers[place + 1];
}

/* ---- the blocking form ---- */

struct taking {
    struct memory_request request;
    struct lock lock;
    struct gate gate;
    bool granted; /* under lock */
};

static void finish_taking(struct memory_request *request)
{
    struct taking *taking = container_of(request, struct taking, request);
    LOCK_SCOPED(&taking->lock);
    taking->granted = true;
    gate_open(&taking->gate);
}

/* 0 when granted, else how the wait ended. */
static int wait_for_grant(struct taking *taking, struct waiter *waiter, int64_t deadline_ms)
{
    int rc = 0;
    LOCK_SCOPED(&taking->lock);
    while (!taking->granted && rc == 0)
        rc = gate_wait_locked(&taking->gate, &taking->lock, waiter, deadline_ms);
    return taking->granted ? 0 : rc;
}

static int take_waiting(struct memory *memory, size_t bytes, enum memory_share share, bool pages,
                        struct waiter *waiter, int64_t deadline_ms)
{
    struct taking taking = {
        .request = {.bytes = bytes, .share = share, .pages = pages, .granted = finish_taking}};
    lock_init(&taking.lock, LOCK_LEAF, "taking memory");
    gate_init(&taking.gate);
    memory_ask(memory, &taking.request);
    int rc = wait_for_grant(&taking, waiter, deadline_ms);
    if (rc < 0 && !memory_withdraw(memory, &taking.request)) {
        WAITER_SCOPED(patient); /* the grant is on its way, and it writes into our stack */
        rc = wait_for_grant(&taking, &patient, CLOCK_NEVER);
    }
    gate_release(&taking.gate);
    lock_release(&taking.lock);
    return rc;
}

static int take_bytes(struct memory *memory, size_t bytes, enum memory_share share, bool pages,
                      struct waiter *waiter, int64_t deadline_ms)
{
    if (bytes > memory->parts[share])
        return -EFBIG;
    lock_take(&memory->lock);
    bool taken = try_locked(memory, bytes, share, pages);
    lock_drop(&memory->lock);
    if (taken)
        return 0;
    return waiter ? take_waiting(memory, bytes, share, pages, waiter, deadline_ms) : -EAGAIN;
}

int memory_take(struct memory *memory, size_t bytes, enum memory_share share, struct waiter *waiter,
                int64_t deadline_ms)
{
    return take_bytes(memory, bytes, share, false, waiter, deadline_ms);
}

int page_take_many(struct memory *memory, void **ret_pages, size_t count, enum memory_share share,
                   struct waiter *waiter, int64_t deadline_ms)
{
    if (count > memory->page_count)
        return -EFBIG;
    int rc = take_bytes(memory, count * PAGE_BYTES, share, true, waiter, deadline_ms);
    for (size_t i = 0; i < count && rc == 0; i++)
        ret_pages[i] = page_claim(memory, share);
    return rc;
}

/* ---- pages, from outside ---- */

void *page_try(struct memory *memory, enum memory_share share)
{
    LOCK_SCOPED(&memory->lock);
    return try_locked(memory, PAGE_BYTES, share, true) ? use_page_locked(memory) : NULL;
}

void *page_claim(struct memory *memory, enum memory_share share)
{
    LOCK_SCOPED(&memory->lock);
    assert(memory->shares[share] >= PAGE_BYTES);
    return use_page_locked(memory);
}

void page_put_many(struct memory *memory, void **pages, size_t count, enum memory_share share)
{
    lock_take(&memory->lock);
    for (size_t i = 0; i < count; i++)
        idle_page_locked(memory, pages[i]);
    uncharge_locked(memory, count * PAGE_BYTES, share);
    check_locked(memory);
    lock_drop(&memory->lock);
    serve_waiting(memory, false);
}

void page_put(struct memory *memory, void *page, enum memory_share share)
{
    page_put_many(memory, &page, 1, share);
}

void memory_report(struct memory *memory, struct memory_report *ret_report)
{
    LOCK_SCOPED(&memory->lock);
    ret_report->limit = memory->limit;
    ret_report->used = memory->used;
    ret_report->idle = idle_bytes(memory);
    memcpy(ret_report->shares, memory->shares, sizeof(memory->shares));
    ret_report->waiting = memory->waiting_count;
}

size_t memory_default_limit(void)
{
    const uint64_t most = (uint64_t)256 << 20, least = (uint64_t)16 << 20;
    uint64_t limit = cgroup_memory_limit("") / 4;
    return (size_t)(limit > most ? most : limit < least ? least : limit);
}
