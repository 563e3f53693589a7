/* The contract of calls as such: each ends once, can be canceled, interrupted, used again, and counted. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/support/contract_hands.h"

#define MANY 32

/* A crowd of calls that were started without store_wait. Its lock ranks below the store's, because a caller cancels
 * under the lock that its done() takes: that is how it knows that the call has not ended. */
struct crowd {
    struct lock lock;
    struct gate gate;
    struct waiter waiter;
    struct store_call calls[MANY];
    size_t ends[MANY]; /* how often done() was called */
    size_t count;
};

static void note_end(struct store_call *call)
{
    struct crowd *crowd = call->owner;
    lock_take(&crowd->lock);
    crowd->ends[call - crowd->calls]++;
    crowd->count++;
    gate_open(&crowd->gate);
    lock_drop(&crowd->lock);
}

static struct crowd *crowd_new(void)
{
    struct crowd *crowd = xcalloc(1, sizeof(*crowd));
    lock_init(&crowd->lock, LOCK_BLOCKS, "crowd");
    gate_init(&crowd->gate);
    waiter_init(&crowd->waiter);
    return crowd;
}

static void crowd_start(struct crowd *crowd, struct store *store)
{
    for (size_t i = 0; i < MANY; i++) {
        crowd->calls[i].done = note_end;
        crowd->calls[i].owner = crowd;
        store_start(store, &crowd->calls[i]);
    }
}

/* The calls use the crowd's memory, so there is no way to give up early. */
static void crowd_await(struct crowd *crowd)
{
    lock_take(&crowd->lock);
    while (crowd->count < MANY)
        gate_wait_locked(&crowd->gate, &crowd->lock, &crowd->waiter, CLOCK_NEVER);
    lock_drop(&crowd->lock);
}

static void crowd_free(struct crowd *crowd)
{
    for (size_t i = 0; i < MANY; i++)
        store_call_release(&crowd->calls[i]);
    waiter_release(&crowd->waiter);
    gate_release(&crowd->gate);
    lock_release(&crowd->lock);
    free(crowd);
}

static void expect_crowd(struct contract *contract, const struct crowd *crowd, bool some_canceled)
{
    for (size_t i = 0; i < MANY; i++) {
        const struct store_call *call = &crowd->calls[i];
        CLAIM(contract, crowd->ends[i] == 1, "done() was called %zu times for call %zu", crowd->ends[i], i);
        if (!some_canceled || call->rc != -ECANCELED)
            CLAIM_RC(contract, call, 0);
    }
}

static void case_calls_run_side_by_side(struct contract *contract)
{
    struct crowd *crowd = crowd_new();
    char *keys[MANY];
    struct iovec from[MANY];
    for (size_t i = 0; i < MANY; i++) {
        STRING_SCOPED *name = xprintf("%02zu", i);
        keys[i] = contract_key(contract, name);
        from[i] = (struct iovec){keys[i], strlen(keys[i])};
        crowd->calls[i] =
            (struct store_call){.op = STORE_PUT, .key = keys[i], .from = &from[i], .from_count = 1};
    }
    crowd_start(crowd, contract->store);
    crowd_await(crowd);
    expect_crowd(contract, crowd, false);
    for (size_t i = 0; i < MANY; i++) {
        if (!contract->failed)
            contract_expect_text(contract, keys[i], keys[i]);
        free(keys[i]);
    }
    crowd_free(crowd);
}

static void case_canceled_calls_end_once(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    STRING_SCOPED *noise = contract_noise(MIB, 8);
    STRING_SCOPED *into = xmalloc(MIB * MANY);
    struct iovec pieces[MANY];
    contract_put(contract, key, noise, MIB, NULL);
    STILL_GOOD(contract);
    struct crowd *crowd = crowd_new();
    for (size_t i = 0; i < MANY; i++) {
        pieces[i] = (struct iovec){into + i * MIB, MIB};
        crowd->calls[i] = (struct store_call){
            .op = STORE_GET, .key = key, .length = MIB, .into = &pieces[i], .into_count = 1};
    }
    crowd_start(crowd, contract->store);
    for (size_t i = MANY; i-- > MANY / 4;) { /* the last ones first: they have hardly begun */
        LOCK_SCOPED(&crowd->lock);
        if (!crowd->ends[i])
            store_cancel(contract->store, &crowd->calls[i]);
    }
    crowd_await(crowd);
    expect_crowd(contract, crowd, true);
    for (size_t i = 0; i < MANY && !contract->failed; i++)
        if (crowd->calls[i].rc == 0 && memcmp(into + i * MIB, noise, MIB) != 0)
            contract_fail(contract, __FILE_NAME__, __LINE__, "the bytes of a call that was not canceled",
                          "call %zu", i);
    crowd_free(crowd);
}

static void case_interrupt_ends_a_wait(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    CALL_SCOPED call = {.op = STORE_HEAD, .key = key};
    WAITER_SCOPED(waiter);
    waiter_interrupt(&waiter);
    int rc = store_wait(contract->store, &call, &waiter);
    CLAIM(contract, rc == -EINTR, "an interrupted wait gives %s", err_name(rc));
    CALL_SCOPED next = {.op = STORE_HEAD, .key = key}; /* nothing stays behind */
    contract_call(contract, &next);
    CLAIM_RC(contract, &next, -ENOENT);
}

static void case_no_waiter_sends_nothing(struct contract *contract)
{
    struct store_counters before, after;
    STRING_SCOPED *key = contract_key(contract, "object");
    CALL_SCOPED call = {.op = STORE_PUT, .key = key};
    store_counters(contract->store, &before);
    int rc = store_wait(contract->store, &call, NULL);
    store_counters(contract->store, &after);
    CLAIM(contract, rc == -EAGAIN, "a wait without waiter gives %s", err_name(rc));
    CLAIM(contract, after.attempts == before.attempts && after.calls[STORE_PUT] == before.calls[STORE_PUT],
          "nothing was sent");
    contract_expect_missing(contract, key);
}

static void case_released_calls_are_used_again(struct contract *contract)
{
    STRING_SCOPED *key = contract_key(contract, "object");
    CALL_SCOPED call = {.op = STORE_HEAD, .key = key};
    contract_call(contract, &call);
    CLAIM_RC(contract, &call, -ENOENT);
    contract_put_text(contract, key, "text");
    STILL_GOOD(contract);
    for (int round = 0; round < 3; round++) {
        store_call_release(&call);
        contract_call(contract, &call);
        CLAIM_RC(contract, &call, 0);
        CLAIM(contract, call.object.size == 4 && !call.error.code[0] && !call.unknown,
              "nothing is left of the last use: code %s", call.error.code);
    }
}

static void case_counters_count(struct contract *contract)
{
    struct store_counters before, after;
    STRING_SCOPED *key = contract_key(contract, "object");
    store_counters(contract->store, &before);
    contract_put_text(contract, key, "four");
    STILL_GOOD(contract);
    contract_expect_text(contract, key, "four");
    STILL_GOOD(contract);
    store_counters(contract->store, &after);
    CLAIM(contract, after.calls[STORE_PUT] == before.calls[STORE_PUT] + 1, "one PUT");
    CLAIM(contract, after.calls[STORE_GET] == before.calls[STORE_GET] + 1, "one GET");
    CLAIM(contract, after.attempts >= before.attempts + 2, "two attempts at least");
    CLAIM(contract, after.bytes_out >= before.bytes_out + 4 && after.bytes_in >= before.bytes_in + 4,
          "the bytes of both ways");
    CLAIM(contract, after.in_flight == before.in_flight, "%llu in flight",
          (unsigned long long)after.in_flight);
}

static void case_probe_settles_abilities(struct contract *contract)
{
    contract_probe(contract);
    STILL_GOOD(contract);
    const struct store_abilities *abilities = &contract->abilities;
    CLAIM(contract, abilities->conditional_put != ABILITY_UNKNOWN, "conditional_put");
    CLAIM(contract, abilities->conditional_delete != ABILITY_UNKNOWN, "conditional_delete");
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = contract->folder};
    contract_call(contract, &list);
    CLAIM_RC(contract, &list, 0);
    CLAIM(contract, list.object_count == 0, "the probe left %s", list.objects[0].key);
}

static void case_store_describes_itself(struct contract *contract)
{
    BUF_SCOPED text = BUF_INIT;
    store_describe(contract->store, &text);
    CLAIM(contract, text.length > 0 && !strchr(text.bytes, '\n'), "one line: %s", text.bytes);
}

const struct contract_case contract_calls[] = {
    {"calls_run_side_by_side", case_calls_run_side_by_side},
    {"canceled_calls_end_once", case_canceled_calls_end_once},
    {"interrupt_ends_a_wait", case_interrupt_ends_a_wait},
    {"no_waiter_sends_nothing", case_no_waiter_sends_nothing},
    {"released_calls_are_used_again", case_released_calls_are_used_again},
    {"counters_count", case_counters_count},
    {"probe_settles_abilities", case_probe_settles_abilities},
    {"store_describes_itself", case_store_describes_itself},
    {NULL, NULL},
};
