/* Order, time and faults of the calls. What a call does to the bucket: memory_answer.c. */
#include "tests/support/memory_store.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tests/support/memory_bucket.h"
#include "tests/support/memory_record.h"

#define MEANWHILES_MAX 8
#define AWAIT_MAX_MS   10000

struct scripted { /* a fault in force */
    struct fault fault;
    char *key, *code; /* ours */
    int number;
    uint64_t met, struck;
    struct list link;
};

struct running {
    struct store_call *call;
    struct list link; /* in memory_store.waiting, in the order of starting, until done() is due */
    size_t entry;     /* in the record, while its generation is the same */
    uint64_t generation;
    int64_t started_ms;
    int64_t due_ms;
    int64_t patience_end_ms;
    struct fault ending; /* kind 0: none; code is `code` */
    char *code;
    struct fault meanwhiles[MEANWHILES_MAX];
    size_t meanwhile_count;
    bool hanging;
    bool happened; /* FAULT_HANG_REPLY: the outputs are there, the answer is not */
    bool busy;     /* some thread works on it without the lock */
    bool canceled;
    bool slowed; /* it says so before it ends */
};

struct memory_store {
    struct store store;
    struct memory_store_config config;
    pthread_t thread;
    struct waiter waiter; /* the delivery thread's */

    struct lock lock;
    struct gate changed; /* for the delivery thread */
    struct memory_bucket bucket;
    struct memory_record record;
    struct list waiting;
    struct list faults; /* struct scripted */
    struct store_counters counters;
    size_t delivering; /* calls that some thread has between its turn and the end of its done() */
    int faults_ever;
    bool probed;
    bool stopping;
};

static struct memory_store *memory_of(struct store *store)
{
    return container_of(store, struct memory_store, store);
}

/* ---- Faults. ---- */

static struct scripted *find_fault(struct memory_store *memory, int number)
{
    list_for_each (at, &memory->faults) {
        struct scripted *scripted = container_of(at, struct scripted, link);
        if (scripted->number == number)
            return scripted;
    }
    return NULL;
}

static void end_fault(struct scripted *scripted)
{
    list_remove(&scripted->link);
    free(scripted->key);
    free(scripted->code);
    free(scripted);
}

/* True: this call is among those that the fault strikes. */
static bool strike(struct scripted *scripted, const struct store_call *call)
{
    const struct fault *fault = &scripted->fault;
    if (!memory_call_matches(call, fault->op, scripted->key))
        return false;
    if (fault->kind == FAULT_STALE_LIST && call->op != STORE_LIST)
        return false;
    if (fault->times && scripted->struck == fault->times)
        return false;
    if (scripted->met++ < fault->skip)
        return false;
    scripted->struck++;
    return true;
}

static void meet_faults_locked(struct memory_store *memory, struct running *running)
{
    list_for_each (at, &memory->faults) {
        struct scripted *scripted = container_of(at, struct scripted, link);
        if (!strike(scripted, running->call))
            continue;
        if (scripted->fault.kind == FAULT_DELAY) {
            running->due_ms += scripted->fault.delay_ms;
        } else if (scripted->fault.kind == FAULT_MEANWHILE) {
            assert(running->meanwhile_count < MEANWHILES_MAX);
            running->meanwhiles[running->meanwhile_count++] = scripted->fault;
        } else {
            running->ending = scripted->fault;
            running->code = xstrdup(scripted->code);
            break;
        }
    }
    running->hanging = running->ending.kind == FAULT_HANG || running->ending.kind == FAULT_HANG_REPLY;
}

int memory_store_fault(struct memory_store *memory, const struct fault *fault)
{
    assert(fault->kind && fault->changes <= MEMORY_STORE_HISTORY);
    struct scripted *scripted = xcalloc(1, sizeof(*scripted));
    scripted->fault = *fault;
    scripted->key = fault->key ? xstrdup(fault->key) : NULL;
    scripted->code = xstrdup(fault->code ? fault->code : "SlowDown");
    if (!scripted->fault.rc)
        scripted->fault.rc = -EIO;
    if (!scripted->fault.http_status)
        scripted->fault.http_status = 503;
    LOCK_SCOPED(&memory->lock);
    scripted->number = ++memory->faults_ever;
    list_append(&memory->faults, &scripted->link);
    return scripted->number;
}

uint64_t memory_store_fault_struck(struct memory_store *memory, int fault)
{
    LOCK_SCOPED(&memory->lock);
    const struct scripted *scripted = find_fault(memory, fault);
    return scripted ? scripted->struck : 0;
}

void memory_store_fault_end(struct memory_store *memory, int fault)
{
    LOCK_SCOPED(&memory->lock);
    struct scripted *scripted = find_fault(memory, fault);
    if (scripted)
        end_fault(scripted);
}

void memory_store_faults_end(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    list_for_each_safe (at, after, &memory->faults)
        end_fault(container_of(at, struct scripted, link));
}

void memory_store_unhang(struct memory_store *memory, enum store_op op, const char *key)
{
    LOCK_SCOPED(&memory->lock);
    list_for_each (at, &memory->waiting) {
        struct running *running = container_of(at, struct running, link);
        if (memory_call_matches(running->call, op, key))
            running->hanging = false;
    }
    gate_open(&memory->changed);
}

int memory_store_fail_nth(struct memory_store *memory, uint64_t n, int rc)
{
    struct fault fault = {.kind = FAULT_FAIL, .skip = n - 1, .times = 1, .rc = rc};
    return memory_store_fault(memory, &fault);
}

/* ---- Turns: which call is next. ---- */

static bool changes_bucket(enum store_op op)
{
    return op != STORE_GET && op != STORE_HEAD && op != STORE_GET_TAGS && op != STORE_LIST &&
           op != STORE_LIST_PARTS && op != STORE_LIST_UPLOADS;
}

static bool out_of_patience(const struct running *running, int64_t now_ms)
{
    return running->patience_end_ms <= now_ms && (running->hanging || running->due_ms > now_ms);
}

static bool is_ready(const struct running *running, int64_t now_ms)
{
    if (running->busy)
        return false;
    if (running->canceled || out_of_patience(running, now_ms))
        return true;
    if (running->due_ms > now_ms)
        return false;
    return !running->hanging || (running->ending.kind == FAULT_HANG_REPLY && !running->happened);
}

static struct running *find_ready_locked(struct memory_store *memory, enum store_op op, const char *key,
                                         int64_t *ret_next_ms)
{
    int64_t now_ms = clock_ms();
    *ret_next_ms = CLOCK_NEVER;
    list_for_each (at, &memory->waiting) {
        struct running *running = container_of(at, struct running, link);
        if (!memory_call_matches(running->call, op, key))
            continue;
        if (is_ready(running, now_ms))
            return running;
        if (!running->hanging && running->due_ms < *ret_next_ms)
            *ret_next_ms = running->due_ms;
        if (running->hanging && running->due_ms > now_ms && running->due_ms < *ret_next_ms)
            *ret_next_ms = running->due_ms; /* FAULT_HANG_REPLY behind a delay */
        if (running->patience_end_ms < *ret_next_ms)
            *ret_next_ms = running->patience_end_ms;
    }
    return NULL;
}

/* ---- Delivery. ---- */

/* The call happens in the bucket, as far as its fault lets it. */
static void let_happen_locked(struct memory_store *memory, struct running *running)
{
    struct store_call *call = running->call;
    const struct fault *ending = &running->ending;
    call->rc = 0;
    call->received = 0;
    memory->counters.attempts++;
    if (ending->kind == FAULT_FAIL || (ending->kind == FAULT_CUT && call->op != STORE_GET)) {
        memory_refuse(call, ending->rc, ending->http_status, running->code, "as the test's script wants");
        call->unknown = ending->unknown;
        running->slowed = ending->http_status == 503 || ending->http_status == 429;
        return;
    }
    uint64_t length = call->length;
    if (ending->kind == FAULT_CUT && ending->bytes < length)
        call->length = ending->bytes;
    memory_answer(&memory->bucket, &memory->config, call,
                  ending->kind == FAULT_STALE_LIST ? ending->changes : 0);
    call->length = length;
    running->slowed = ending->kind == FAULT_SLOW;
    if (ending->kind == FAULT_LOSE_REPLY) {
        store_call_release(call);
        memory_refuse(call, ending->rc, 0, "", "the reply was lost");
        call->unknown = changes_bucket(call->op);
    } else if (ending->kind == FAULT_CUT && call->rc == 0) {
        store_object_release(&call->object);
        memory_refuse(call, ending->rc, 200, "", "the body was cut");
    }
}

static void give_up(struct running *running, int rc)
{
    struct store_call *call = running->call;
    if (running->happened)
        store_call_release(call);
    memory_refuse(call, rc, 0, "", rc == -ECANCELED ? "canceled" : "no answer within its patience");
    call->unknown = running->hanging && changes_bucket(call->op);
    running->slowed = rc == -ETIMEDOUT;
}

static void tell_landed(struct store_call *call)
{
    if (call->op != STORE_GET || !call->landed || !call->received)
        return;
    if (call->received > 1)
        call->landed(call, call->received / 2);
    call->landed(call, call->received);
}

static void end_locked(struct memory_store *memory, struct running *running)
{
    struct store_call *call = running->call;
    if (running->generation == memory->record.cleared) {
        memory->record.all[running->entry]->ended = true;
        memory->record.all[running->entry]->rc = call->rc;
    }
    call->error.took_ms = clock_ms() - running->started_ms;
    memory->counters.in_flight--;
    memory->counters.failures += call->rc < 0;
    memory->counters.bytes_in += call->op == STORE_GET ? call->received : 0;
    if (call->rc == 0 && (call->op == STORE_PUT || call->op == STORE_PART))
        memory->counters.bytes_out += memory_body_length(call->from, call->from_count);
    list_remove(&running->link);
    call->running = NULL;
    free(running->code);
    free(running);
}

/* One turn of a call that is_ready(); it ends here unless its reply hangs. Called and left with the lock held, which is
 * dropped for the test's meanwhiles, landed() and done(). True: done() was called. */
static bool take_turn_locked(struct memory_store *memory, struct running *running)
{
    struct store_call *call = running->call;
    running->busy = true;
    memory->delivering++;
    if (running->canceled || out_of_patience(running, clock_ms())) {
        give_up(running, running->canceled ? -ECANCELED : -ETIMEDOUT);
    } else if (!running->happened) {
        for (size_t i = 0; i < running->meanwhile_count; i++) {
            lock_drop(&memory->lock);
            running->meanwhiles[i].meanwhile(memory, call, running->meanwhiles[i].context);
            lock_take(&memory->lock);
        }
        let_happen_locked(memory, running);
        running->happened = true;
        if (running->hanging) {
            running->busy = false;
            memory->delivering--;
            gate_open(&memory->changed);
            return false;
        }
    }
    lock_drop(&memory->lock);
    tell_landed(call);
    if (running->slowed && call->slowed)
        call->slowed(call);
    lock_take(&memory->lock);
    end_locked(memory, running);
    lock_drop(&memory->lock);
    call->done(call);
    lock_take(&memory->lock);
    memory->delivering--;
    return true;
}

static void *deliver_calls(void *argument)
{
    struct memory_store *memory = argument;
    lock_take(&memory->lock);
    while (!memory->stopping || !list_empty(&memory->waiting)) {
        int64_t next_ms;
        struct running *running = find_ready_locked(memory, 0, NULL, &next_ms);
        if (running)
            take_turn_locked(memory, running);
        else
            gate_wait_locked(&memory->changed, &memory->lock, &memory->waiter, next_ms);
    }
    lock_drop(&memory->lock);
    return NULL;
}

bool memory_store_step(struct memory_store *memory, enum store_op op, const char *key)
{
    LOCK_SCOPED(&memory->lock);
    for (;;) {
        int64_t next_ms;
        struct running *running = find_ready_locked(memory, op, key, &next_ms);
        if (!running)
            return false;
        if (take_turn_locked(memory, running))
            return true;
    }
}

size_t memory_store_run(struct memory_store *memory)
{
    size_t steps = 0;
    while (memory_store_step(memory, 0, NULL))
        steps++;
    return steps;
}

static size_t count_waiting(struct memory_store *memory, enum store_op op, const char *key, bool only_free)
{
    LOCK_SCOPED(&memory->lock);
    size_t waiting = only_free ? memory->delivering : 0;
    int64_t now_ms = clock_ms();
    list_for_each (at, &memory->waiting) {
        struct running *running = container_of(at, struct running, link);
        if (memory_call_matches(running->call, op, key) && (!only_free || is_ready(running, now_ms)))
            waiting++;
    }
    return waiting;
}

size_t memory_store_waiting(struct memory_store *memory, enum store_op op, const char *key)
{
    return count_waiting(memory, op, key, false);
}

/* Real time, since base/clock may stand still. */
static void nap(void)
{
    struct timespec ms = {0, 1000000};
    nanosleep(&ms, NULL);
}

bool memory_store_await(struct memory_store *memory, enum store_op op, const char *key, size_t count)
{
    for (int ms = 0; ms < AWAIT_MAX_MS; ms++) {
        if (count_waiting(memory, op, key, false) >= count)
            return true;
        nap();
    }
    return false;
}

bool memory_store_settle(struct memory_store *memory)
{
    for (int ms = 0; ms < AWAIT_MAX_MS; ms++) {
        if (count_waiting(memory, 0, NULL, true) == 0)
            return true;
        nap();
    }
    return false;
}

/* ---- The door. ---- */

static void start_call(struct store *store, struct store_call *call)
{
    struct memory_store *memory = memory_of(store);
    assert(call->done && call->op);
    struct running *running = xcalloc(1, sizeof(*running));
    running->call = call;
    call->running = running;
    lock_take(&memory->lock);
    assert(!memory->stopping);
    running->started_ms = running->due_ms = clock_ms();
    running->patience_end_ms = call->patience_ms ? running->started_ms + call->patience_ms : CLOCK_NEVER;
    running->entry = memory_record_add(&memory->record, call);
    running->generation = memory->record.cleared;
    memory->counters.calls[call->op]++;
    memory->counters.in_flight++;
    meet_faults_locked(memory, running);
    list_append(&memory->waiting, &running->link);
    if (running->ending.kind == FAULT_FAIL && running->ending.at_once)
        take_turn_locked(memory, running);
    else
        gate_open(&memory->changed);
    lock_drop(&memory->lock);
}

static void cancel_call(struct store *store, struct store_call *call)
{
    struct memory_store *memory = memory_of(store);
    LOCK_SCOPED(&memory->lock);
    list_for_each (at, &memory->waiting) {
        struct running *running = container_of(at, struct running, link);
        if (running->call == call)
            running->canceled = true;
    }
    gate_open(&memory->changed);
}

static enum store_ability ability(const struct memory_store *memory, bool can)
{
    if (!memory->probed)
        return ABILITY_UNKNOWN;
    return can ? ABILITY_YES : ABILITY_NO;
}

static void tell_abilities(struct store *store, struct store_abilities *ret_abilities)
{
    struct memory_store *memory = memory_of(store);
    const struct memory_store_config *config = &memory->config;
    LOCK_SCOPED(&memory->lock);
    *ret_abilities = (struct store_abilities){
        .list_meta = ability(memory, config->list_meta),
        .conditional_put = ability(memory, !config->ignore_conditions),
        .conditional_delete = ability(memory, !config->ignore_delete_conditions),
        .checksum = ability(memory, true),
        .delete_many = ability(memory, !config->no_delete_many),
        .part_copy = ability(memory, !config->no_part_copy),
        .equal_parts = config->equal_parts,
    };
}

/* Goes through the script of faults like the real one: a hidden key is written and removed. */
static int probe_store(struct store *store, const char *prefix, struct waiter *waiter)
{
    struct memory_store *memory = memory_of(store);
    STRING_SCOPED *key = xprintf("%s.skyvol-probe-1", prefix);
    struct store_call call = {.op = STORE_PUT, .key = key};
    int rc = store_wait(store, &call, waiter);
    store_call_release(&call);
    if (rc < 0)
        return rc;
    call = (struct store_call){.op = STORE_DELETE, .key = key};
    rc = store_wait(store, &call, waiter);
    store_call_release(&call);
    if (rc < 0)
        return rc;
    LOCK_SCOPED(&memory->lock);
    memory->probed = true;
    return 0;
}

static void tell_counters(struct store *store, struct store_counters *ret_counters)
{
    struct memory_store *memory = memory_of(store);
    LOCK_SCOPED(&memory->lock);
    *ret_counters = memory->counters;
}

static void describe_store(struct store *store, struct buf *out)
{
    (void)store;
    buf_add_string(out, "a bucket in memory");
}

static void free_store(struct store *store)
{
    struct memory_store *memory = memory_of(store);
    lock_take(&memory->lock);
    memory->stopping = true;
    list_for_each (at, &memory->waiting)
        container_of(at, struct running, link)->canceled = true;
    gate_open(&memory->changed);
    lock_drop(&memory->lock);
    if (memory->config.manual)
        memory_store_run(memory);
    else
        pthread_join(memory->thread, NULL);
    assert(list_empty(&memory->waiting));
    memory_store_faults_end(memory);
    memory_bucket_release(&memory->bucket);
    memory_record_clear(&memory->record);
    gate_release(&memory->changed);
    waiter_release(&memory->waiter);
    lock_release(&memory->lock);
    free(memory);
}

static const struct store_ops memory_ops = {
    .start = start_call,
    .cancel = cancel_call,
    .abilities = tell_abilities,
    .probe = probe_store,
    .counters = tell_counters,
    .describe = describe_store,
    .free = free_store,
};

struct memory_store *memory_store_new(const struct memory_store_config *config)
{
    struct memory_store *memory = xcalloc(1, sizeof(*memory));
    memory->store.ops = &memory_ops;
    if (config)
        memory->config = *config;
    memory->probed = !memory->config.unprobed;
    lock_init(&memory->lock, LOCK_STORE, "memory store");
    gate_init(&memory->changed);
    waiter_init(&memory->waiter);
    list_init(&memory->waiting);
    list_init(&memory->faults);
    if (!memory->config.manual && pthread_create(&memory->thread, NULL, deliver_calls, memory) != 0)
        abort();
    return memory;
}

struct store *memory_store_door(struct memory_store *memory)
{
    return &memory->store;
}

/* ---- Peeks, pokes and the record. ---- */

void memory_store_put(struct memory_store *memory, const char *key, const void *bytes, size_t length,
                      const struct store_fields *meta, const struct store_fields *headers)
{
    char *copy = xmalloc(length + 1);
    if (length)
        memcpy(copy, bytes, length);
    LOCK_SCOPED(&memory->lock);
    memory_bucket_put(&memory->bucket, key, copy, length, meta, headers, NULL);
}

void memory_store_put_text(struct memory_store *memory, const char *key, const char *text)
{
    memory_store_put(memory, key, text, strlen(text), NULL, NULL);
}

static void read_tags(const char *text, struct store_fields *tags)
{
    while (*text) {
        size_t length = strcspn(text, "&"), name = strcspn(text, "=");
        STRING_SCOPED *tag = xstrndup(text, name);
        STRING_SCOPED *value = xstrndup(text + name + 1, length - name - 1);
        store_fields_add(tags, tag, value);
        text += length + (text[length] == '&');
    }
}

void memory_store_tag(struct memory_store *memory, const char *key, const char *tags)
{
    LOCK_SCOPED(&memory->lock);
    struct version *version = memory_bucket_find(&memory->bucket, key);
    assert(version);
    store_fields_release(&version->tags);
    read_tags(tags, &version->tags);
}

void memory_store_tags(struct memory_store *memory, const char *key, struct buf *out)
{
    LOCK_SCOPED(&memory->lock);
    const struct version *version = memory_bucket_find(&memory->bucket, key);
    for (size_t i = 0; version && i < version->tags.count; i++)
        buf_printf(out, "%s%s=%s", i ? "&" : "", version->tags.all[i].name, version->tags.all[i].value);
}

bool memory_store_remove(struct memory_store *memory, const char *key)
{
    LOCK_SCOPED(&memory->lock);
    return memory_bucket_remove(&memory->bucket, key);
}

bool memory_store_peek(struct memory_store *memory, const char *key, struct store_object *ret_object,
                       struct buf *bytes)
{
    LOCK_SCOPED(&memory->lock);
    const struct version *version = memory_bucket_find(&memory->bucket, key);
    if (!version)
        return false;
    if (ret_object)
        memory_describe(version, ret_object);
    if (bytes)
        buf_add(bytes, version->bytes, version->length);
    return true;
}

bool memory_store_has(struct memory_store *memory, const char *key)
{
    return memory_store_peek(memory, key, NULL, NULL);
}

size_t memory_store_object_count(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    return memory->bucket.count;
}

void memory_store_keys(struct memory_store *memory, struct buf *out)
{
    LOCK_SCOPED(&memory->lock);
    for (size_t i = 0; i < memory->bucket.count; i++)
        buf_printf(out, "%s\n", memory->bucket.all[i]->key);
}

size_t memory_store_upload_count(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    return memory->bucket.upload_count;
}

void memory_store_forget_uploads(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    while (memory->bucket.upload_count)
        memory_bucket_forget(&memory->bucket, memory->bucket.uploads);
}

size_t memory_store_log_count(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    return memory->record.count;
}

const struct memory_store_entry *memory_store_log(struct memory_store *memory, size_t index)
{
    LOCK_SCOPED(&memory->lock);
    return index < memory->record.count ? memory->record.all[index] : NULL;
}

void memory_store_log_print(struct memory_store *memory, struct buf *out)
{
    LOCK_SCOPED(&memory->lock);
    memory_record_print(&memory->record, out);
}

void memory_store_log_clear(struct memory_store *memory)
{
    LOCK_SCOPED(&memory->lock);
    memory_record_clear(&memory->record);
}

size_t memory_store_logged(struct memory_store *memory, enum store_op op, const char *key)
{
    LOCK_SCOPED(&memory->lock);
    return memory_record_find(&memory->record, op, key);
}
