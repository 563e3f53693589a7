#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "cache/content.h"
#include "cache/overlay.h"
#include "cache/publishing.h"
#include "cache/recording.h"
#include "cache/syncing.h"

/* ---- From any thread: notes, pokes, waiters. ---- */

void uploader_note_dirty_locked(struct inode *inode)
{
    struct uploader *uploader = inode->cache->uploader;
    assert(lock_held(&inode->lock));
    LOCK_SCOPED(&uploader->lock);
    if (!list_empty(&inode->unsent))
        return;
    inode->unsent_since_ms = clock_ms();
    inode->waited_ms = 0;
    list_append(&uploader->unsent, &inode->unsent);
    uploader->unsent_count++;
    overlay_join(uploader->cache->overlay);
    inode_ref(inode);
}

bool uploader_lists(struct uploader *uploader, const struct inode *inode)
{
    LOCK_SCOPED(&uploader->lock);
    return !list_empty(&inode->unsent);
}

/* patiently: a thread that puts all tries off for a moment need not be woken for one more of them. */
static void poke(struct inode *inode, bool patiently)
{
    struct uploader *uploader = inode->cache->uploader;
    LOCK_SCOPED(&uploader->lock);
    if (list_empty(&inode->poked)) {
        list_append(&uploader->poked, &inode->poked);
        inode_ref(inode);
    }
    if (patiently && uploader->dozes)
        return;
    uploader->dozes = false;
    gate_open(&uploader->wake);
}

void uploader_poke(struct inode *inode)
{
    poke(inode, false);
}

static bool is_in_hand(struct inode *inode)
{
    struct uploader *uploader = inode->cache->uploader;
    LOCK_SCOPED(&inode->lock);
    LOCK_SCOPED(&uploader->lock);
    return inode->upload || inode->resumed || !list_empty(&inode->unsent) || !list_empty(&inode->syncs);
}

void uploader_end(struct inode *inode)
{
    if (is_in_hand(inode))
        uploader_poke(inode);
}

bool uploader_asked_locked(const struct inode *inode)
{
    bool may = inode->publish_open || inode->write_opens == 0;
    return (inode->publish && may) || !list_empty(&inode->syncs);
}

static void publish(struct inode *inode, bool open)
{
    lock_take(&inode->lock);
    bool dirty = inode_dirty_locked(inode) && !inode->damaged;
    inode->publish = dirty;
    inode->publish_open = dirty && (inode->publish_open || open);
    if (dirty && !inode->orphan)
        uploader_note_dirty_locked(inode);
    bool patiently = !inode->publish_open && list_empty(&inode->syncs);
    lock_drop(&inode->lock);
    poke(inode, patiently);
}

void uploader_publish(struct inode *inode)
{
    publish(inode, false);
}

void uploader_publish_open(struct inode *inode)
{
    publish(inode, true);
}

void uploader_sync(struct inode *inode, struct cache_sync *sync)
{
    sync->inode = inode;
    sync->answered = false;
    list_init(&sync->link);
    syncing_begin(sync);
    lock_take(&inode->lock);
    bool dirty = inode_dirty_locked(inode), waits = dirty && !inode->orphan;
    int rc = dirty && inode->lost ? -ESTALE : 0;
    if (waits) {
        sync->version = inode->wanted.content_version;
        sync->attribute_version = inode->wanted.attribute_version;
        list_append(&inode->syncs, &sync->link);
        uploader_note_dirty_locked(inode);
    }
    lock_drop(&inode->lock);
    if (waits)
        uploader_poke(inode);
    else
        syncing_answer(sync, rc);
}

bool uploader_sync_interrupt(struct cache_sync *sync)
{
    LOCK_SCOPED(&sync->inode->lock);
    if (sync->answered || list_empty(&sync->link))
        return false;
    list_remove(&sync->link);
    sync->inode->publish = sync->inode->publish_open = true; /* it goes on behind */
    return true;
}

static bool is_satisfied(const struct inode *inode, const struct cache_sync *sync)
{
    bool there = inode->remote.content_version >= sync->version &&
                 inode->remote.attribute_version >= sync->attribute_version;
    return (inode->orphan && !inode->lost) || (there && !inode->displaced);
}

/* Who is to be answered, all at one moment: who comes while they are answered waits for the next try. */
static void take_answered_locked(struct inode *inode, bool all, struct list *ret_good, struct list *ret_bad)
{
    list_for_each_safe (at, after, &inode->syncs) {
        struct cache_sync *sync = container_of(at, struct cache_sync, link);
        bool satisfied = is_satisfied(inode, sync);
        if (!satisfied && !all)
            continue;
        list_remove(at);
        list_append(satisfied ? ret_good : ret_bad, at);
        sync->answered = true;
    }
}

static void answer_list(struct list *syncs, int rc)
{
    struct list *at;
    while ((at = list_pop(syncs))) {
        syncing_answer(container_of(at, struct cache_sync, link), rc);
    }
}

void uploader_answer(struct inode *inode, int rc)
{
    struct list good = LIST_INIT(good), bad = LIST_INIT(bad);
    lock_take(&inode->lock);
    take_answered_locked(inode, rc < 0, &good, &bad);
    lock_drop(&inode->lock);
    answer_list(&good, 0);
    answer_list(&bad, rc);
}

void uploader_forgo_attributes(struct inode *inode)
{
    struct list good = LIST_INIT(good), bad = LIST_INIT(bad);
    lock_take(&inode->lock);
    take_answered_locked(inode, true, &good,
                         &bad); /* in the same hold: who wishes again wishes for another object */
    inode_attributes_sent_locked(inode, inode->wanted.attribute_version);
    inode->remote.confirmed_ms = 0;
    recording_remote_locked(inode);
    lock_drop(&inode->lock);
    answer_list(&good, 0);
    answer_list(&bad, -ESTALE);
}

struct waiting { /* one uploader_sync_wait() */
    struct cache_sync sync;
    struct lock lock;
    struct gate gate;
    bool done;
    int rc;
};

static void hear_sync(struct cache_sync *sync, int rc)
{
    struct waiting *waiting = sync->owner;
    LOCK_SCOPED(&waiting->lock);
    waiting->done = true;
    waiting->rc = rc;
    gate_open(&waiting->gate);
}

static int wait_for_sync(struct waiting *waiting, struct waiter *waiter)
{
    LOCK_SCOPED(&waiting->lock);
    while (!waiting->done) {
        int rc = gate_wait_locked(&waiting->gate, &waiting->lock, waiter, CLOCK_NEVER);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int uploader_sync_wait(struct inode *inode, struct waiter *waiter)
{
    lock_take(&inode->lock);
    bool clean = !inode_dirty_locked(inode) || inode->orphan;
    lock_drop(&inode->lock);
    if (!waiter)
        return clean ? 0 : -EAGAIN;
    struct waiting waiting = {.sync = {.done = hear_sync, .owner = &waiting}};
    lock_init(&waiting.lock, LOCK_POOL, "sync");
    gate_init(&waiting.gate);
    uploader_sync(inode, &waiting.sync);
    int rc = wait_for_sync(&waiting, waiter);
    if (rc < 0 && !uploader_sync_interrupt(&waiting.sync)) {
        WAITER_SCOPED(patient); /* the answer is on its way into this frame */
        wait_for_sync(&waiting, &patient);
        rc = 0;
    }
    gate_release(&waiting.gate);
    lock_release(&waiting.lock);
    return rc < 0 ? rc : waiting.rc;
}

int upload_hold(struct inode *inode, struct waiter *waiter)
{
    int rc = 0;
    lock_take(&inode->lock);
    inode->holds++;
    if (inode->upload_busy) {
        lock_drop(&inode->lock);
        uploader_poke(inode);
        lock_take(&inode->lock);
    }
    while (rc == 0 && inode->upload_busy)
        rc = waiter ? gate_wait_locked(&inode->changed, &inode->lock, waiter, CLOCK_NEVER) : -EAGAIN;
    lock_drop(&inode->lock);
    if (rc < 0)
        upload_unhold(inode);
    return rc;
}

void upload_unhold(struct inode *inode)
{
    lock_take(&inode->lock);
    assert(inode->holds > 0);
    inode->holds--;
    inode->awaits_key = false; /* its key may be another one now */
    gate_open(&inode->changed);
    lock_drop(&inode->lock);
    uploader_poke(inode);
}

int upload_await_end(struct inode *inode, struct waiter *waiter)
{
    int rc = 0;
    LOCK_SCOPED(&inode->lock);
    while (rc == 0 && inode->upload && !inode_dirty_locked(inode))
        rc = gate_wait_locked(&inode->changed, &inode->lock, waiter, CLOCK_NEVER);
    return rc;
}

#define RING_MS 50 /* how often uploads that wait are looked at */

/* ---- The thread. ---- */

static void unlist(struct uploader *uploader, struct inode *inode)
{
    lock_take(&inode->lock);
    lock_take(&uploader->lock);
    bool listed = !list_empty(&inode->unsent) && (inode->orphan || !inode_dirty_locked(inode));
    if (listed) {
        list_remove(&inode->unsent);
        uploader->unsent_count--;
        overlay_leave(uploader->cache->overlay);
        gate_open(&uploader->drained);
    }
    lock_drop(&uploader->lock);
    content_tidy_locked(inode);
    lock_drop(&inode->lock);
    recording_tidy(inode);
    names_delete_behind(inode);
    if (!listed)
        return;
    inode_unref(inode);
    overlay_settle(uploader->cache->overlay);
}

/* Where somebody waits for it, it goes before those that nobody waits for. */
static void queue_begin(struct upload *upload, bool urgent)
{
    struct uploader *uploader = upload->uploader;
    if (upload->queued && (upload->urgent || !urgent))
        return; /* it keeps its place, and since when it waits */
    if (!upload->queued) {
        upload->waiting_ms = clock_ms();
        uploader->queued_count++;
    }
    upload->queued = true;
    upload->urgent = urgent;
    list_remove(&upload->turn);
    list_append(urgent ? &uploader->urgent : &uploader->begins, &upload->turn);
}

/* Its writer has left more whole parts behind than were looked at. */
static bool goes_early_locked(const struct inode *inode)
{
    const struct upload *upload = inode->upload;
    uint64_t enough = inode->cache->config.early_bytes;
    if (!enough || inode->left_behind < enough)
        return false;
    return !upload || (upload->state == UPLOAD_IDLE && inode->left_behind > upload->early_end);
}

/* Somebody asks for what goes up early. */
static void ask_for_early_locked(struct upload *upload)
{
    struct inode *inode = upload->inode;
    if (upload->early && !upload->halting && uploader_asked_locked(inode))
        upload_take_order_locked(upload);
}

/* Something changed about this inode: what is to be done for it now? */
static void look_at(struct uploader *uploader, struct inode *inode)
{
    lock_take(&inode->lock);
    bool finished = inode->orphan || !inode_dirty_locked(inode);
    bool held = inode->holds > 0 || inode->awaits_key;
    bool follows = inode_follows_locked(inode) && !(inode->upload && inode->upload->state == UPLOAD_PARKED);
    bool wanted = uploader_asked_locked(inode) || follows || (!finished && goes_early_locked(inode));
    bool begins = !finished && !held && wanted, leftover = finished && inode->resumed;
    if ((begins || leftover) && !inode->upload && !uploader->stops) {
        inode->upload = upload_new_locked(uploader, inode);
        if (!inode->maybe_inherited) /* restore.h says what an earlier process did not read */
            extents_clear(&inode->unread);
    }
    struct upload *upload = inode->upload;
    if (upload && upload->busy)
        ask_for_early_locked(upload);
    bool halt = held || inode->orphan || inode->rekeyed, lost = inode->lost,
         urgent = !list_empty(&inode->syncs);
    lock_drop(&inode->lock);
    if (upload && upload->busy) {
        if (halt && !upload->halting)
            upload_step(upload, EVENT_HALT, NULL);
        return;
    }
    if (finished) {
        if (upload)
            upload_free(upload);
        unlist(uploader, inode);
        uploader_answer(inode, lost ? -ESTALE : 0);
    } else if (upload && !held && wanted && !uploader->stops) {
        queue_begin(upload, urgent);
    }
}

static void look_at_poked(struct uploader *uploader)
{
    for (;;) {
        lock_take(&uploader->lock);
        struct list *first = list_pop(&uploader->poked);
        lock_drop(&uploader->lock);
        if (!first)
            return;
        struct inode *inode = container_of(first, struct inode, poked);
        look_at(uploader, inode);
        inode_unref(inode);
    }
}

/* One that failed is tried again at the next mount. */
static void end_abort(struct errand *errand)
{
    if (errand->call.rc == 0 || errand->call.rc == -ENOENT)
        recording_upload_end(errand->aborted, errand->upload_id);
    errand_free(errand);
}

static void take_arrived(struct uploader *uploader)
{
    for (;;) {
        lock_take(&uploader->lock);
        struct list *first = list_pop(&uploader->arrived);
        struct errand *errand = first ? container_of(first, struct errand, arrived) : NULL;
        bool granted = errand && errand->asked_memory && !errand->granted;
        lock_drop(&uploader->lock);
        if (!errand)
            return;
        if (errand->flushing && errand_heard_flush(errand))
            continue;
        if (!granted && errand->call.rc == 0 && errand->rc == 0)
            uploader->progress_ms = clock_ms();
        if (errand->upload)
            upload_step(errand->upload, granted ? EVENT_GRANTED : EVENT_ENDED, errand);
        else
            end_abort(errand);
    }
}

/* Who makes many files is not kept from it by their way up. ret_next: when to look again. */
static bool defers(struct uploader *uploader, int64_t *ret_next)
{
    int64_t now = clock_ms(), until = atomic_load(&uploader->cache->made_ms) + UPLOADS_DEFER_MS;
    *ret_next = CLOCK_NEVER;
    if (uploader->queued_count < UPLOADS_DEFER_COUNT || list_empty(&uploader->begins) || until <= now)
        return false;
    const struct upload *first = container_of(uploader->begins.next, struct upload, turn);
    if (now - first->waiting_ms >= UPLOADS_DEFER_MAX)
        return false;
    *ret_next = until;
    return true;
}

/* The first that has something to send and may. */
static struct upload *find_ready(struct uploader *uploader)
{
    list_for_each (at, &uploader->ready) {
        struct upload *upload = container_of(at, struct upload, turn);
        if (!upload->early || uploader->early_used < uploader->early_max)
            return upload;
    }
    return NULL;
}

/* Tries begin, and requests with data start, as far as there is room for them. When to look again; ret_dozes: not before, for no
 * try that nobody waits for. */
static int64_t pump(struct uploader *uploader, bool *ret_dozes)
{
    int64_t next;
    lock_take(&uploader->lock);
    size_t slots = window_room(&uploader->window);
    lock_drop(&uploader->lock);
    while (uploader->busy_count < UPLOADS_BUSY_MAX && !list_empty(&uploader->urgent))
        upload_step(container_of(uploader->urgent.next, struct upload, turn), EVENT_GO, NULL);
    while (uploader->busy_count < UPLOADS_BUSY_MAX && !list_empty(&uploader->begins) &&
           !defers(uploader, &next))
        upload_step(container_of(uploader->begins.next, struct upload, turn), EVENT_GO, NULL);
    struct upload *upload;
    while (uploader->slots_used < slots && (upload = find_ready(uploader))) {
        uint64_t bytes = upload_next_bytes(upload);
        if (uploader->bytes_used && uploader->bytes_used + bytes > uploader->memory_max)
            break;
        upload_step(upload, EVENT_GO, NULL);
    }
    *ret_dozes = defers(uploader, &next);
    return next;
}

static int64_t ring_parked(struct uploader *uploader)
{
    int64_t now = clock_ms(), next = CLOCK_NEVER;
    list_for_each_safe (at, after, &uploader->parked) {
        struct upload *upload = container_of(at, struct upload, turn);
        if (upload->due_ms <= now)
            queue_begin(upload, false);
        else if (upload->due_ms < next)
            next = upload->due_ms;
    }
    return next;
}

static bool under_way(const struct errand *errand)
{
    return errand->kind == ERRAND_CALL ? !errand->asked_memory || errand->granted
                                       : atomic_load(&errand->begun);
}

/* The store itself ends calls that see no byte for io_timeout, but for one that the server may think about. So any other one
 * that runs longer does get its bytes through. */
static bool runs_slowly(const struct errand *errand, int64_t now, int64_t patience_ms)
{
    return under_way(errand) && !errand_thinks(errand) &&
           now - errand->started_ms > patience_ms + patience_ms / 8;
}

/* True when nothing of it is under way: it waits for others to give back memory or a place. */
static bool only_waits(struct uploader *uploader, struct upload *upload, int64_t now)
{
    bool waits = true;
    list_for_each (at, &upload->errands) {
        struct errand *errand = container_of(at, struct errand, link);
        if (runs_slowly(errand, now, uploader->cache->config.io_timeout_ms))
            uploader->progress_ms = now;
        waits = waits && !under_way(errand);
    }
    return waits && (upload->busy || !list_empty(&upload->turn)) && upload->state != UPLOAD_PARKED;
}

/* Whoever waits for a COMPLETE or a PART_COPY that the server has not answered for io_timeout hears EIO; it goes on behind. */
static int64_t ring_thinking(struct upload *upload, int64_t now, int64_t patience_ms)
{
    int64_t next = CLOCK_NEVER;
    list_for_each (at, &upload->errands) {
        struct errand *errand = container_of(at, struct errand, link);
        int64_t due_ms = errand->started_ms + patience_ms;
        if (!errand_thinks(errand) || errand->told)
            continue;
        if (due_ms > now) {
            next = due_ms;
        } else {
            errand->told = true;
            uploader_answer(upload->inode, -EIO);
            reads_go_on(upload->inode, -EIO);
        }
    }
    return next;
}

/* Syncs whose upload waits behind others that move nothing hear EIO as those others do. */
static int64_t ring_waiting(struct uploader *uploader)
{
    int64_t now = clock_ms(), next = CLOCK_NEVER, patience_ms = uploader->cache->config.io_timeout_ms;
    if (now < uploader->waiting_ms)
        return uploader->waiting_ms;
    /* There may be thousands, and events by the thousand. */
    uploader->waiting_ms = now + RING_MS + (int64_t)uploader->queued_count / 32;
    list_for_each (at, &uploader->uploads) {
        struct upload *upload = container_of(at, struct upload, link);
        int64_t thinking = ring_thinking(upload, now, patience_ms);
        if (thinking < next)
            next = thinking;
        if (!only_waits(uploader, upload, now))
            continue;
        int64_t since =
            upload->waiting_ms > uploader->progress_ms ? upload->waiting_ms : uploader->progress_ms;
        if (since + patience_ms <= now) {
            uploader_answer(upload->inode, -EIO);
            since = upload->waiting_ms = now;
        }
        if (since + patience_ms < next)
            next = since + patience_ms;
    }
    return next;
}

static void stop_all(struct uploader *uploader)
{
    list_for_each_safe (at, after, &uploader->uploads) {
        struct upload *upload = container_of(at, struct upload, link);
        if (upload->busy) /* also one that halts already: now nothing of it is left alone */
            upload_step(upload, EVENT_HALT, NULL);
        else
            upload_free(upload);
    }
    uploader->ended = list_empty(&uploader->uploads) && list_empty(&uploader->aborts);
}

static void *run(void *argument)
{
    struct uploader *uploader = argument;
    while (!uploader->ended) {
        take_arrived(uploader);
        look_at_poked(uploader);
        int64_t next = ring_parked(uploader), rings[] = {ring_waiting(uploader), publishing_ring(uploader)};
        for (size_t i = 0; i < sizeof rings / sizeof rings[0]; i++)
            next = rings[i] < next ? rings[i] : next;
        lock_take(&uploader->lock);
        uploader->stops = uploader->stopping;
        uploader->room_grew = false; /* looked at below */
        lock_drop(&uploader->lock);
        int64_t pumped = CLOCK_NEVER;
        bool dozes = false;
        if (uploader->stops) {
            stop_all(uploader);
            pumped = clock_ms() + RING_MS; /* what was left alone for a moment */
        } else
            pumped = pump(uploader, &dozes);
        next = pumped < next ? pumped : next;
        if (uploader->ended)
            break;
        LOCK_SCOPED(&uploader->lock);
        uploader->busy_shown = uploader->busy_count;
        uploader->parked_shown = uploader->parked_count;
        uploader->dozes = dozes && list_empty(&uploader->poked);
        while (list_empty(&uploader->arrived) && (uploader->dozes || list_empty(&uploader->poked)) &&
               !uploader->room_grew && uploader->stops == uploader->stopping)
            if (gate_wait_locked(&uploader->wake, &uploader->lock, &uploader->waiter, next) < 0)
                break;
        uploader->dozes = false;
    }
    return NULL;
}

struct uploader *uploader_new(struct cache *cache)
{
    struct uploader *uploader = xcalloc(1, sizeof *uploader);
    struct memory_report memory;
    uploader->cache = cache;
    memory_report(cache->config.memory, &memory);
    uploader->memory_max = memory.limit / 2;
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uploader->early_max = processors > 3 ? (size_t)processors / 2 : 2;
    window_init(&uploader->window, cache->config.uploads_max);
    lock_init(&uploader->lock, LOCK_UPLOAD, "uploader");
    gate_init(&uploader->wake);
    gate_init(&uploader->drained);
    waiter_init(&uploader->waiter);
    struct list *lists[] = {&uploader->poked,   &uploader->arrived, &uploader->unsent,
                            &uploader->uploads, &uploader->urgent,  &uploader->begins,
                            &uploader->ready,   &uploader->parked,  &uploader->aborts};
    for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
        list_init(lists[i]);
    uploader->jobs = pool_new("upload", UPLOAD_JOBS, 2 * UPLOADS_BUSY_MAX);
    int error = pthread_create(&uploader->thread, NULL, run, uploader);
    if (error) {
        log_error("the uploader's thread: %s", err_name(error));
        abort();
    }
    return uploader;
}

static void drop_references(struct uploader *uploader, struct list *inodes, size_t member)
{
    for (;;) {
        lock_take(&uploader->lock);
        struct list *first = list_pop(inodes);
        lock_drop(&uploader->lock);
        if (!first)
            return;
        inode_unref((struct inode *)(void *)((char *)first - member));
    }
}

void uploader_free(struct uploader *uploader)
{
    if (!uploader)
        return;
    lock_take(&uploader->lock);
    uploader->stopping = true;
    gate_open(&uploader->wake);
    lock_drop(&uploader->lock);
    pthread_join(uploader->thread, NULL);
    pool_free(uploader->jobs);
    drop_references(uploader, &uploader->poked, offsetof(struct inode, poked));
    drop_references(uploader, &uploader->unsent, offsetof(struct inode, unsent));
    gate_release(&uploader->wake);
    gate_release(&uploader->drained);
    waiter_release(&uploader->waiter);
    lock_release(&uploader->lock);
    free(uploader);
}

/* ---- All of the unsent. ---- */

/* References to all unsent inodes; the caller drops them and frees the array. */
static struct inode **list_unsent(struct uploader *uploader, size_t *ret_count)
{
    LOCK_SCOPED(&uploader->lock);
    struct inode **inodes = xcalloc(uploader->unsent_count + 1, sizeof inodes[0]);
    size_t count = 0;
    list_for_each (at, &uploader->unsent)
        inodes[count++] = inode_ref(container_of(at, struct inode, unsent));
    *ret_count = count;
    return inodes;
}

static void publish_all(struct uploader *uploader)
{
    size_t count;
    struct inode **inodes = list_unsent(uploader, &count);
    for (size_t i = 0; i < count; i++) {
        uploader_publish_open(inodes[i]);
        inode_unref(inodes[i]);
    }
    free(inodes);
}

static bool is_growing(struct inode *inode)
{
    LOCK_SCOPED(&inode->lock);
    return inode->write_opens && !inode->upload_busy && !inode->parked_rc;
}

void uploader_publish_growing(struct uploader *uploader)
{
    size_t count;
    struct inode **inodes = list_unsent(uploader, &count);
    for (size_t i = 0; i < count; i++) {
        if (is_growing(inodes[i]))
            uploader_publish_open(inodes[i]);
        inode_unref(inodes[i]);
    }
    free(inodes);
}

bool uploader_stuck(int parked_rc)
{
    return parked_rc != 0 && parked_rc != -EIO && parked_rc != -EACCES && parked_rc != -ENOSPC;
}

/* 0 while something may still go up by itself; else the error of one that cannot. */
static int find_stuck(struct uploader *uploader)
{
    size_t count;
    struct inode **inodes = list_unsent(uploader, &count);
    int rc = 0;
    bool moving = count == 0;
    for (size_t i = 0; i < count; i++) {
        lock_take(&inodes[i]->lock);
        int parked_rc = inodes[i]->upload_busy || inodes[i]->publish ? 0 : inodes[i]->parked_rc;
        lock_drop(&inodes[i]->lock);
        inode_unref(inodes[i]);
        if (uploader_stuck(parked_rc))
            rc = parked_rc;
        else
            moving = true;
    }
    free(inodes);
    return moving ? 0 : rc;
}

#define LOOK_MS 1000 /* how often a drain looks whether what is left can still go up */

int uploader_drain(struct uploader *uploader, struct waiter *waiter, int64_t deadline_ms, size_t *ret_unsent)
{
    int rc = 0;
    publish_all(uploader);
    lock_take(&uploader->lock);
    while (rc == 0 && uploader->unsent_count > 0) {
        int64_t now = clock_ms(), look_ms = now + LOOK_MS;
        rc = gate_wait_locked(&uploader->drained, &uploader->lock, waiter,
                              look_ms < deadline_ms ? look_ms : deadline_ms);
        if (rc == -ETIMEDOUT && clock_ms() < deadline_ms) {
            lock_drop(&uploader->lock);
            rc = find_stuck(uploader);
            lock_take(&uploader->lock);
        }
    }
    *ret_unsent = uploader->unsent_count;
    lock_drop(&uploader->lock);
    return *ret_unsent == 0 ? 0 : rc;
}

void uploader_list_unsent(struct uploader *uploader, struct inode ***ret_inodes, size_t *ret_count)
{
    *ret_inodes = list_unsent(uploader, ret_count);
}

void uploader_count_sent(struct uploader *uploader, uint64_t files, uint64_t bytes, uint64_t again)
{
    LOCK_SCOPED(&uploader->lock);
    uploader->sent_files += files;
    uploader->sent_bytes += bytes;
    uploader->sent_again_bytes += again;
}

void uploader_count_copied(struct uploader *uploader, uint64_t bytes)
{
    LOCK_SCOPED(&uploader->lock);
    uploader->copied_bytes += bytes;
}

bool uploader_copies_parts(const struct uploader *uploader)
{
    struct store_abilities abilities;
    store_abilities(uploader->cache->config.store, &abilities);
    return abilities.part_copy != ABILITY_NO && !abilities.equal_parts && !uploader->copies_refused;
}

void uploader_report_sent(struct uploader *uploader, struct uploader_report *ret_report)
{
    LOCK_SCOPED(&uploader->lock);
    *ret_report = (struct uploader_report){.sent_files = uploader->sent_files,
                                           .sent_bytes = uploader->sent_bytes,
                                           .sent_again_bytes = uploader->sent_again_bytes,
                                           .copied_bytes = uploader->copied_bytes};
}

void uploader_report(struct uploader *uploader, struct uploader_report *ret_report)
{
    size_t count;
    struct inode **inodes = list_unsent(uploader, &count);
    uint64_t bytes = 0, conflicts = 0;
    int64_t since_ms = CLOCK_NEVER;
    for (size_t i = 0; i < count; i++) {
        lock_take(&inodes[i]->lock);
        bytes += extents_bytes(&inodes[i]->dirty);
        int64_t one_ms = inodes[i]->unsent_since_ms - inodes[i]->waited_ms;
        since_ms = one_ms < since_ms ? one_ms : since_ms;
        conflicts += inodes[i]->parked_rc == -ESTALE;
        lock_drop(&inodes[i]->lock);
        inode_unref(inodes[i]);
    }
    free(inodes);
    LOCK_SCOPED(&uploader->lock);
    *ret_report = (struct uploader_report){
        .unsent_files = uploader->unsent_count,
        .unsent_bytes = bytes,
        .uploading = uploader->busy_shown,
        .parked = uploader->parked_shown,
        .in_flight_max = uploader->window.size,
        .conflicts = conflicts,
        .sent_files = uploader->sent_files,
        .sent_bytes = uploader->sent_bytes,
        .sent_again_bytes = uploader->sent_again_bytes,
        .copied_bytes = uploader->copied_bytes,
    };
    if (since_ms != CLOCK_NEVER)
        ret_report->oldest_unsent_ms = clock_ms() - since_ms;
}
