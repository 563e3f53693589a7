/* The S3 store against the strict little S3: what MinIO lets pass, and what it cannot be told to do. */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "s3/credentials.h"
#include "s3/store.h"
#include "tests/support/little.h"
#include "tests/support/store_contract.h"

#define CALL_SCOPED __attribute__((cleanup(store_call_release))) struct store_call

static struct little *little;
static struct store *store;

static void open_store(const char *const *options, const struct store_config *more, const char *token)
{
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(little_start(options, &little, &why), 0, "%s", why.bytes);
    struct store_config config = more ? *more : (struct store_config){0};
    struct keys *keys = keys_new(LITTLE_ACCESS_KEY, LITTLE_SECRET_KEY, token, INT64_MAX);
    struct credentials_config who = {.explicit_keys = keys};
    config.endpoint = little_endpoint(little);
    config.bucket = LITTLE_BUCKET;
    config.credentials = credentials_new(&who);
    cr_assert_eq(store_s3_new(&config, &store, &why), 0, "%s", why.bytes);
    credentials_unref(config.credentials);
    keys_unref(keys);
}

static void close_store(void)
{
    store_free(store);
    little_free(little);
}

static void tell(const char *name, const char *json)
{
    BUF_SCOPED out = BUF_INIT;
    cr_assert_eq(little_control(little, name, json, &out), 0, "%s: %s", name, out.bytes);
}

static void expect_no_violations(void)
{
    BUF_SCOPED violations = BUF_INIT;
    cr_assert_eq(little_control(little, "violations", NULL, &violations), 0);
    cr_expect_str_eq(violations.bytes, "[]");
}

static void expect_contract(void)
{
    struct store_contract setup = {
        .store = store, .prefix = "contract/", .any_key = true, .lists_uploads = true};
    for (size_t i = 0; i < store_contract_count(); i++) {
        BUF_SCOPED why = BUF_INIT;
        cr_expect(store_contract_run(i, &setup, &why), "%s: %s", store_contract_name(i), why.bytes);
    }
    expect_no_violations();
}

static int run_call(struct store_call *call)
{
    WAITER_SCOPED(waiter);
    return store_wait(store, call, &waiter);
}

static int put_text(const char *key, const char *text, struct store_call *ret_call)
{
    struct iovec from = {(void *)(uintptr_t)text, strlen(text)};
    *ret_call = (struct store_call){
        .op = STORE_PUT, .key = key, .from = &from, .from_count = 1, .patience_ms = 20000};
    return run_call(ret_call);
}

Test(store_little, keeps_the_contract_on_a_strict_server)
{
    open_store(NULL, NULL, NULL);
    expect_contract();
    /* No case was passed over for a lack that is not there. */
    struct store_abilities abilities;
    store_abilities(store, &abilities);
    cr_expect_eq(abilities.conditional_put, ABILITY_YES);
    cr_expect_eq(abilities.conditional_delete, ABILITY_YES);
    cr_expect_eq(abilities.checksum, ABILITY_YES);
    cr_expect_neq(abilities.part_copy, ABILITY_NO);
    cr_expect_neq(abilities.delete_many, ABILITY_NO);
    close_store();
}

Test(store_little, keeps_the_contract_with_session_token_and_metadata_in_listings)
{
    static const char *const options[] = {"--session-token", "TOKEN/+==", "--list-metadata", NULL};
    open_store(options, NULL, "TOKEN/+==");
    expect_contract();
    close_store();
}

Test(store_little, keeps_the_contract_where_the_endpoint_can_less)
{
    open_store(NULL, NULL, NULL);
    tell("abilities",
         "{\"checksums\": false, \"delete_many\": false, \"part_copy\": false, \"conditions\": false, "
         "\"delete_conditions\": false}");
    expect_contract();
    close_store();
}

Test(store_little, keeps_the_contract_with_other_checksums)
{
    static const enum store_checksum checksums[] = {CHECKSUM_CRC64NVME, CHECKSUM_MD5, CHECKSUM_SHA256};
    for (size_t i = 0; i < sizeof(checksums) / sizeof(*checksums); i++) {
        struct store_config config = {.checksum = checksums[i]};
        open_store(NULL, &config, NULL);
        expect_contract();
        close_store();
    }
}

Test(store_little, finds_the_region_by_itself)
{
    static const char *const refused[] = {"--region", "eu-central-2", NULL};
    static const char *const redirected[] = {"--region", "eu-central-2", "--redirect", NULL};
    static const char *const *const options[] = {refused, redirected};
    for (size_t i = 0; i < 2; i++) {
        open_store(options[i], NULL, NULL);
        CALL_SCOPED call = {0};
        cr_expect_eq(put_text("a", "text", &call), 0, "%s", call.error.message);
        expect_no_violations();
        close_store();
    }
}

Test(store_little, corrects_its_clock)
{
    static const char *const options[] = {"--skew", "7200", NULL};
    open_store(options, NULL, NULL);
    CALL_SCOPED call = {0};
    cr_expect_eq(put_text("a", "text", &call), 0, "%s", call.error.message);
    close_store();
}

Test(store_little, damaged_bodies_are_sent_again)
{
    open_store(NULL, NULL, NULL);
    tell("fault", "{\"op\": \"PutObject\", \"action\": \"falsify_request\", \"bytes\": 2, \"times\": 1}");
    CALL_SCOPED put = {0};
    cr_expect_eq(put_text("a", "whole", &put), 0, "%s", put.error.message);
    char bytes[8] = "";
    struct iovec into = {bytes, 5};
    CALL_SCOPED get = {.op = STORE_GET, .key = "a", .length = 5, .into = &into, .into_count = 1};
    cr_expect_eq(run_call(&get), 0);
    cr_expect_str_eq(bytes, "whole");
    close_store();
}

Test(store_little, cut_bodies_are_fetched_on)
{
    open_store(NULL, NULL, NULL);
    CALL_SCOPED put = {0};
    cr_expect_eq(put_text("a", "0123456789", &put), 0);
    tell("fault", "{\"op\": \"GetObject\", \"action\": \"cut\", \"bytes\": 4, \"times\": 2}");
    char bytes[11] = "";
    struct iovec into = {bytes, 10};
    CALL_SCOPED get = {
        .op = STORE_GET, .key = "a", .length = 10, .into = &into, .into_count = 1, .patience_ms = 20000};
    cr_expect_eq(run_call(&get), 0, "%s", get.error.message);
    cr_expect_str_eq(bytes, "0123456789");
    close_store();
}

Test(store_little, lost_replies_of_conditional_writes_are_unknown)
{
    open_store(NULL, NULL, NULL);
    WAITER_SCOPED(waiter);
    cr_assert_eq(store_probe(store, "", &waiter), 0);
    tell("fault", "{\"op\": \"PutObject\", \"action\": \"lose_reply\", \"times\": 1}");
    struct iovec from = {(char[]){'x'}, 1};
    CALL_SCOPED put = {
        .op = STORE_PUT, .key = "a", .from = &from, .from_count = 1, .if_absent = true, .patience_ms = 20000};
    int rc = run_call(&put);
    cr_expect(rc < 0 && put.unknown, "the retry's 412 does not tell whose object it is: %d, unknown %d", rc,
              put.unknown);
    close_store();
}

Test(store_little, a_probe_is_not_misled_by_lost_replies)
{
    static const char *const ops[] = {"PutObject", "UploadPartCopy", "DeleteObject", "DeleteObjects"};
    for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++) {
        WAITER_SCOPED(waiter);
        struct store_abilities abilities;
        STRING_SCOPED *fault = xprintf("{\"op\": \"%s\", \"action\": \"lose_reply\", \"times\": 1}", ops[i]);
        open_store(NULL, NULL, NULL);
        tell("fault", fault);
        cr_assert_eq(store_probe(store, "", &waiter), 0, "%s", ops[i]);
        store_abilities(store, &abilities);
        cr_expect(abilities.conditional_put == ABILITY_YES && abilities.part_copy == ABILITY_YES &&
                      abilities.conditional_delete == ABILITY_YES && abilities.delete_many == ABILITY_YES,
                  "%s", ops[i]);
        CALL_SCOPED list = {.op = STORE_LIST, .prefix = ""};
        cr_expect_eq(run_call(&list), 0);
        cr_expect_eq(list.object_count, 0, "%s", ops[i]);
        close_store();
    }
}

static void *interrupt_soon(void *waiter)
{
    usleep(500000);
    waiter_interrupt(waiter);
    return NULL;
}

Test(store_little, a_probe_that_is_interrupted_leaves_nothing)
{
    WAITER_SCOPED(waiter);
    pthread_t thread;
    open_store(NULL, NULL, NULL);
    tell("fault", "{\"op\": \"ListObjectsV2\", \"action\": \"hang\", \"times\": 1}");
    cr_assert_eq(pthread_create(&thread, NULL, interrupt_soon, &waiter), 0);
    cr_assert_eq(store_probe(store, "", &waiter), -EINTR);
    pthread_join(thread, NULL);
    CALL_SCOPED list = {.op = STORE_LIST, .prefix = ""};
    cr_expect_eq(run_call(&list), 0);
    cr_expect_eq(list.object_count, 0);
    close_store();
}

Test(store_little, a_probe_learns_from_refusals_that_mean_it)
{
    static const struct {
        const char *answer;
        enum store_ability learned;
    } rows[] = {
        {"\"status\": 501, \"code\": \"NotImplemented\"", ABILITY_NO},
        {"\"status\": 400, \"code\": \"InvalidArgument\"", ABILITY_NO},
        {"\"status\": 403, \"code\": \"AccessDenied\"", ABILITY_UNKNOWN},
        {"\"status\": 507, \"code\": \"XMinioStorageFull\"", ABILITY_UNKNOWN},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        WAITER_SCOPED(waiter);
        struct store_abilities abilities;
        STRING_SCOPED *fault =
            xprintf("{\"op\": \"UploadPartCopy\", \"action\": \"answer\", %s}", rows[i].answer);
        open_store(NULL, NULL, NULL);
        tell("fault", fault);
        int rc = store_probe(store, "", &waiter);
        store_abilities(store, &abilities);
        cr_expect((rc < 0) == (rows[i].learned == ABILITY_UNKNOWN), "row %zu: %d", i, rc);
        cr_expect_eq(abilities.part_copy, rows[i].learned, "row %zu", i);
        close_store();
    }
}
