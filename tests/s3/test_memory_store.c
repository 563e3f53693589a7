#include "tests/support/memory_store.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "tests/support/store_contract.h"

#define CALL_SCOPED __attribute__((cleanup(store_call_release))) struct store_call

static struct memory_store *memory;
static struct store *store;

static void open_store(const struct memory_store_config *config)
{
    memory = memory_store_new(config);
    store = memory_store_door(memory);
}

static void open_manual(void)
{
    struct memory_store_config config = {.manual = true};
    open_store(&config);
}

/* done() of calls that no one waits for: owner counts. */
static void note_end(struct store_call *call)
{
    ++*(int *)call->owner;
}

static int run_call(struct store_call *call)
{
    WAITER_SCOPED(waiter);
    return store_wait(store, call, &waiter);
}

static int put_text(const char *key, const char *text)
{
    struct iovec from = {(void *)(uintptr_t)text, strlen(text)};
    CALL_SCOPED call = {.op = STORE_PUT, .key = key, .from = &from, .from_count = 1};
    return run_call(&call);
}

static void expect_contract(const struct memory_store_config *config)
{
    open_store(config);
    struct store_contract setup = {
        .store = store, .prefix = "contract/", .any_key = true, .lists_uploads = true};
    for (size_t i = 0; i < store_contract_count(); i++) {
        BUF_SCOPED why = BUF_INIT;
        cr_expect(store_contract_run(i, &setup, &why), "%s: %s", store_contract_name(i), why.bytes);
    }
    store_free(store);
}

Test(memory_store, passes_the_contract)
{
    expect_contract(NULL);
}

Test(memory_store, passes_the_contract_as_an_endpoint_that_can_less)
{
    struct memory_store_config config = {.ignore_conditions = true,
                                         .ignore_delete_conditions = true,
                                         .no_part_copy = true,
                                         .no_delete_many = true,
                                         .unprobed = true};
    expect_contract(&config);
}

Test(memory_store, passes_the_contract_with_metadata_in_small_pages)
{
    struct memory_store_config config = {.list_meta = true, .page_max = 100};
    expect_contract(&config);
}

Test(memory_store, manual_calls_end_only_when_told)
{
    int first = 0, second = 0;
    open_manual();
    CALL_SCOPED put = {.op = STORE_PUT, .key = "a", .done = note_end, .owner = &first};
    CALL_SCOPED head = {.op = STORE_HEAD, .key = "a", .done = note_end, .owner = &second};
    store_start(store, &put);
    store_start(store, &head);
    cr_expect_eq(memory_store_waiting(memory, 0, NULL), 2);
    cr_expect_not(memory_store_has(memory, "a"));
    cr_expect(memory_store_step(memory, STORE_HEAD, "a"), "the later call may be let go first");
    cr_expect_eq(second, 1);
    cr_expect_eq(head.rc, -ENOENT);
    cr_expect_eq(first, 0);
    cr_expect_eq(memory_store_run(memory), 1);
    cr_expect_eq(first, 1);
    cr_expect(memory_store_has(memory, "a"));
    cr_expect_not(memory_store_step(memory, 0, NULL));
    store_free(store);
}

Test(memory_store, a_failed_call_has_not_happened)
{
    open_store(NULL);
    struct fault fault = {.kind = FAULT_FAIL, .op = STORE_PUT, .times = 1, .http_status = 503};
    int number = memory_store_fault(memory, &fault);
    struct iovec from = {(char[]){'x'}, 1};
    CALL_SCOPED call = {.op = STORE_PUT, .key = "a", .from = &from, .from_count = 1};
    cr_expect_eq(run_call(&call), -EIO);
    cr_expect_eq(call.error.http_status, 503);
    cr_expect_str_eq(call.error.code, "SlowDown");
    cr_expect_not(call.unknown);
    cr_expect_not(memory_store_has(memory, "a"));
    cr_expect_eq(memory_store_fault_struck(memory, number), 1);
    cr_expect_eq(put_text("a", "x"), 0, "once means once");
    store_free(store);
}

Test(memory_store, a_lost_reply_has_happened_and_is_unknown)
{
    open_store(NULL);
    struct fault fault = {.kind = FAULT_LOSE_REPLY, .op = STORE_PUT, .key = "a"};
    memory_store_fault(memory, &fault);
    CALL_SCOPED call = {.op = STORE_PUT, .key = "a"};
    cr_expect_eq(run_call(&call), -EIO);
    cr_expect(call.unknown);
    cr_expect_str_empty(call.object.etag);
    cr_expect(memory_store_has(memory, "a"));
    cr_expect_eq(put_text("b", "x"), 0, "another key is not struck");
    store_free(store);
}

Test(memory_store, a_cut_body_lands_in_part)
{
    open_store(NULL);
    memory_store_put_text(memory, "a", "0123456789");
    struct fault fault = {.kind = FAULT_CUT, .op = STORE_GET, .bytes = 4, .times = 1};
    memory_store_fault(memory, &fault);
    char bytes[11] = "##########";
    struct iovec into = {bytes, 10};
    CALL_SCOPED call = {.op = STORE_GET, .key = "a", .length = 10, .into = &into, .into_count = 1};
    cr_expect_eq(run_call(&call), -EIO);
    cr_expect_eq(call.received, 4);
    cr_expect_str_eq(bytes, "0123######");
    store_free(store);
}

Test(memory_store, a_stale_listing_lacks_the_last_changes)
{
    open_store(NULL);
    memory_store_put_text(memory, "kept", "1");
    memory_store_put_text(memory, "changed", "old");
    memory_store_put_text(memory, "removed", "2");
    memory_store_put_text(memory, "changed", "newer");
    memory_store_put_text(memory, "added", "3");
    memory_store_remove(memory, "removed");
    struct fault fault = {.kind = FAULT_STALE_LIST, .changes = 3, .times = 1};
    memory_store_fault(memory, &fault);
    CALL_SCOPED stale = {.op = STORE_LIST};
    cr_assert_eq(run_call(&stale), 0);
    cr_assert_eq(stale.object_count, 3);
    cr_expect_str_eq(stale.objects[0].key, "changed");
    cr_expect_eq(stale.objects[0].size, 3);
    cr_expect_str_eq(stale.objects[1].key, "kept");
    cr_expect_str_eq(stale.objects[2].key, "removed");
    CALL_SCOPED fresh = {.op = STORE_LIST};
    cr_assert_eq(run_call(&fresh), 0);
    cr_assert_eq(fresh.object_count, 3);
    cr_expect_str_eq(fresh.objects[0].key, "added");
    store_free(store);
}

Test(memory_store, a_listing_older_than_all_changes_is_empty)
{
    open_store(NULL);
    for (int i = 0; i < 300; i++)
        memory_store_put_text(memory, "same", "x");
    memory_store_remove(memory, "same");
    memory_store_put_text(memory, "other", "x");
    struct fault fault = {.kind = FAULT_STALE_LIST, .changes = 2};
    memory_store_fault(memory, &fault);
    CALL_SCOPED list = {.op = STORE_LIST};
    cr_assert_eq(run_call(&list), 0);
    cr_assert_eq(list.object_count, 1);
    cr_expect_str_eq(list.objects[0].key, "same");
    store_free(store);
}

Test(memory_store, a_hanging_call_waits_until_let_go)
{
    int ends = 0;
    open_store(NULL);
    struct fault fault = {.kind = FAULT_HANG, .op = STORE_PUT, .times = 1};
    memory_store_fault(memory, &fault);
    CALL_SCOPED hung = {.op = STORE_PUT, .key = "a", .done = note_end, .owner = &ends};
    store_start(store, &hung);
    cr_expect_eq(put_text("b", "x"), 0, "others pass it");
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 0);
    cr_expect_not(memory_store_has(memory, "a"));
    memory_store_unhang(memory, STORE_PUT, "a");
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 1);
    cr_expect_eq(hung.rc, 0);
    cr_expect(memory_store_has(memory, "a"));
    store_free(store);
}

Test(memory_store, a_canceled_hang_is_unknown)
{
    int ends = 0;
    open_manual();
    struct fault before = {.kind = FAULT_HANG, .op = STORE_PUT, .key = "a"};
    struct fault after = {.kind = FAULT_HANG_REPLY, .op = STORE_PUT, .key = "b"};
    memory_store_fault(memory, &before);
    memory_store_fault(memory, &after);
    CALL_SCOPED a = {.op = STORE_PUT, .key = "a", .done = note_end, .owner = &ends};
    CALL_SCOPED b = {.op = STORE_PUT, .key = "b", .done = note_end, .owner = &ends};
    store_start(store, &a);
    store_start(store, &b);
    cr_expect_eq(memory_store_run(memory), 0);
    store_cancel(store, &a);
    store_cancel(store, &b);
    cr_expect_eq(ends, 0, "cancel asks, the step delivers");
    cr_expect_eq(memory_store_run(memory), 2);
    cr_expect_eq(ends, 2);
    cr_expect_eq(a.rc, -ECANCELED);
    cr_expect_eq(b.rc, -ECANCELED);
    cr_expect(a.unknown && b.unknown);
    cr_expect_not(memory_store_has(memory, "a"));
    cr_expect(memory_store_has(memory, "b"), "its reply hung, it had happened");
    cr_expect_str_empty(b.object.etag);
    store_free(store);
}

Test(memory_store, a_call_that_was_not_sent_is_canceled_without_doubt)
{
    int ends = 0;
    open_manual();
    CALL_SCOPED call = {.op = STORE_PUT, .key = "a", .done = note_end, .owner = &ends};
    store_start(store, &call);
    store_cancel(store, &call);
    memory_store_run(memory);
    cr_expect_eq(call.rc, -ECANCELED);
    cr_expect_not(call.unknown);
    store_free(store);
}

Test(memory_store, delays_and_patience_follow_the_fake_clock)
{
    int ends = 0;
    clock_fake_begin(1732450000000000000);
    open_store(NULL);
    struct fault slow = {.kind = FAULT_DELAY, .key = "slow", .delay_ms = 5000};
    struct fault hang = {.kind = FAULT_HANG, .key = "hung"};
    memory_store_fault(memory, &slow);
    memory_store_fault(memory, &hang);
    CALL_SCOPED slow_call = {.op = STORE_PUT, .key = "slow", .done = note_end, .owner = &ends};
    CALL_SCOPED hung_call = {
        .op = STORE_PUT, .key = "hung", .patience_ms = 60000, .done = note_end, .owner = &ends};
    store_start(store, &slow_call);
    store_start(store, &hung_call);
    clock_fake_advance(4999);
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 0);
    clock_fake_advance(1);
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 1);
    cr_expect_eq(slow_call.rc, 0);
    clock_fake_advance(54999);
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 1);
    clock_fake_advance(1);
    cr_expect(memory_store_settle(memory));
    cr_expect_eq(ends, 2);
    cr_expect_eq(hung_call.rc, -ETIMEDOUT);
    cr_expect(hung_call.unknown);
    struct store_object object;
    cr_assert(memory_store_peek(memory, "slow", &object, NULL));
    cr_expect_eq(object.modified_ns, 1732450005000000000, "LastModified is the fake clock's");
    store_object_release(&object);
    store_free(store);
    clock_fake_end();
}

static void write_meanwhile(struct memory_store *of, const struct store_call *call, void *context)
{
    memory_store_put_text(of, call->key, context);
}

Test(memory_store, a_foreign_write_comes_between)
{
    open_store(NULL);
    cr_expect_eq(put_text("a", "ours"), 0);
    struct store_object object;
    cr_assert(memory_store_peek(memory, "a", &object, NULL));
    struct fault fault = {.kind = FAULT_MEANWHILE,
                          .op = STORE_PUT,
                          .times = 1,
                          .meanwhile = write_meanwhile,
                          .context = (char[]){"foreign"}};
    memory_store_fault(memory, &fault);
    CALL_SCOPED call = {.op = STORE_PUT, .key = "a", .if_match = object.etag};
    cr_expect_eq(run_call(&call), -ESTALE);
    BUF_SCOPED bytes = BUF_INIT;
    memory_store_peek(memory, "a", NULL, &bytes);
    cr_expect_str_eq(bytes.bytes, "foreign");
    store_object_release(&object);
    store_free(store);
}

Test(memory_store, fails_within_start_when_asked)
{
    int ends = 0;
    open_manual();
    struct fault fault = {.kind = FAULT_FAIL, .rc = -EACCES, .at_once = true};
    memory_store_fault(memory, &fault);
    CALL_SCOPED call = {.op = STORE_HEAD, .key = "a", .done = note_end, .owner = &ends};
    store_start(store, &call);
    cr_expect_eq(ends, 1);
    cr_expect_eq(call.rc, -EACCES);
    store_free(store);
}

/* Three calls; how many of them succeeded. */
static int climb(void)
{
    CALL_SCOPED head = {.op = STORE_HEAD, .key = "a"};
    return (put_text("a", "1") == 0) + (run_call(&head) == 0) + (put_text("b", "2") == 0);
}

Test(memory_store, the_ladder_strikes_each_call_once)
{
    open_store(NULL);
    memory_store_put_text(memory, "a", "0");
    for (uint64_t n = 1; n <= 3; n++) {
        int rung = memory_store_fail_nth(memory, n, -EIO);
        cr_expect_eq(climb(), 2, "rung %d", (int)n);
        cr_expect_eq(memory_store_fault_struck(memory, rung), 1);
        memory_store_fault_end(memory, rung);
    }
    int rung = memory_store_fail_nth(memory, 4, -EIO);
    cr_expect_eq(climb(), 3);
    cr_expect_eq(memory_store_fault_struck(memory, rung), 0, "the climb is over");
    store_free(store);
}

Test(memory_store, the_log_tells_what_was_sent)
{
    open_store(NULL);
    cr_expect_eq(put_text("dir/a", "12345"), 0);
    struct store_fields meta = {0};
    store_fields_add(&meta, "mode", "33188");
    CALL_SCOPED copy = {.op = STORE_COPY,
                        .key = "b",
                        .source_key = "dir/a",
                        .source_if_match = "*",
                        .replace_meta = true,
                        .meta = &meta};
    cr_expect_eq(run_call(&copy), 0);
    const char *keys[] = {"dir/a", "b"};
    CALL_SCOPED many = {.op = STORE_DELETE_MANY, .keys = keys, .key_count = 2};
    cr_expect_eq(run_call(&many), 0);
    CALL_SCOPED head = {.op = STORE_HEAD, .key = "b"};
    cr_expect_eq(run_call(&head), -ENOENT);
    BUF_SCOPED text = BUF_INIT;
    memory_store_log_print(memory, &text);
    cr_expect_str_eq(text.bytes, "PUT dir/a 5\nCOPY dir/a -> b\nDELETE_MANY dir/a (2)\nHEAD b\n");
    const struct memory_store_entry *entry = memory_store_log(memory, 1);
    cr_expect_str_eq(store_fields_get(&entry->meta, "mode"), "33188");
    cr_expect(entry->replace_meta && entry->ended && entry->rc == 0);
    cr_expect_eq(memory_store_log(memory, 3)->rc, -ENOENT);
    cr_expect_eq(memory_store_logged(memory, STORE_HEAD, "b"), 1);
    memory_store_log_clear(memory);
    cr_expect_eq(memory_store_log_count(memory), 0);
    store_fields_release(&meta);
    store_free(store);
}

Test(memory_store, the_server_may_lose_its_uploads)
{
    open_store(NULL);
    CALL_SCOPED create = {.op = STORE_CREATE, .key = "a"};
    cr_assert_eq(run_call(&create), 0);
    cr_expect_eq(memory_store_upload_count(memory), 1);
    memory_store_forget_uploads(memory);
    CALL_SCOPED part = {.op = STORE_PART, .key = "a", .upload_id = create.new_upload_id, .part_number = 1};
    cr_expect_eq(run_call(&part), -ENOENT);
    cr_expect_str_eq(part.error.code, "NoSuchUpload");
    store_free(store);
}

Test(memory_store, freeing_ends_what_hangs)
{
    int ends = 0;
    open_store(NULL);
    struct fault fault = {.kind = FAULT_HANG};
    memory_store_fault(memory, &fault);
    CALL_SCOPED call = {.op = STORE_PUT, .key = "a", .done = note_end, .owner = &ends};
    store_start(store, &call);
    cr_expect(memory_store_await(memory, STORE_PUT, "a", 1));
    store_free(store);
    cr_expect_eq(ends, 1);
    cr_expect_eq(call.rc, -ECANCELED);
}
