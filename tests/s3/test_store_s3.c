#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "s3/credentials.h"
#include "s3/store.h"
#include "tests/support/minio.h"
#include "tests/support/store_contract.h"

/* One MinIO for each test's process; criterion forks for every test. */
static struct minio *minio;
static struct store *store;
static struct waiter waiter;

static struct store *open_store_as(const struct store_config *more, const char *access, const char *secret)
{
    struct store_config config = more ? *more : (struct store_config){0};
    struct keys *keys = keys_new(access, secret, NULL, INT64_MAX);
    struct credentials_config who = {.explicit_keys = keys};
    struct store *opened = NULL;
    BUF_SCOPED why = BUF_INIT;

    config.endpoint = minio_endpoint(minio);
    config.bucket = config.bucket ? config.bucket : MINIO_BUCKET;
    config.credentials = credentials_new(&who);
    cr_assert_eq(store_s3_new(&config, &opened, &why), 0, "%s", why.bytes);
    credentials_unref(config.credentials);
    keys_unref(keys);
    return opened;
}

static struct store *open_store(const struct store_config *more)
{
    return open_store_as(more, MINIO_ACCESS_KEY, MINIO_SECRET_KEY);
}

static void reopen_store(struct store *next)
{
    store_free(store);
    store = next;
}

static void set_up(void)
{
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(minio_start(&minio, &why), 0, "%s", why.bytes);
    store = open_store(NULL);
    waiter_init(&waiter);
}

static void tear_down(void)
{
    store_free(store);
    minio_free(minio);
    waiter_release(&waiter);
}

TestSuite(store_s3, .init = set_up, .fini = tear_down);

#define expect_rc(call, wanted)                                                                              \
    do {                                                                                                     \
        BUF_SCOPED words = BUF_INIT;                                                                         \
        int got = store_wait(store, (call), &waiter);                                                        \
        store_error_print(&(call)->error, got, &words);                                                      \
        cr_assert_eq(got, (wanted), "%s: %d: %s", store_op_name((call)->op), got, words.bytes);              \
    } while (0)

static void put(const char *key, const void *bytes, size_t length)
{
    struct iovec body = {(void *)(uintptr_t)bytes, length};
    struct store_call call = {.op = STORE_PUT, .key = key, .from = &body, .from_count = 1};
    expect_rc(&call, 0);
    store_call_release(&call);
}

Test(store_s3, keeps_the_contract_of_the_store_door)
{
    struct store_contract setup = {.store = store, .prefix = "contract/"};
    for (size_t i = 0; i < store_contract_count(); i++) {
        BUF_SCOPED why = BUF_INIT;
        cr_expect(store_contract_run(i, &setup, &why), "%s: %s", store_contract_name(i), why.bytes);
    }
    struct store_abilities abilities;
    store_abilities(store, &abilities);
    cr_expect_eq(abilities.checksum, ABILITY_YES, "its answers to bodies and parts repeat our checksums");
}

Test(store_s3, puts_heads_gets_lists_and_deletes)
{
    char into[64] = "";
    struct iovec place = {into, 5};
    struct store_call call = {.op = STORE_HEAD, .key = "a/b"};

    put("a/b", "hello world", 11);
    expect_rc(&call, 0);
    cr_expect_eq(call.object.size, 11);
    store_call_release(&call);

    call = (struct store_call){
        .op = STORE_GET, .key = "a/b", .offset = 6, .length = 5, .into = &place, .into_count = 1};
    expect_rc(&call, 0);
    cr_expect_eq(call.received, 5);
    cr_expect_str_eq(into, "world");
    store_call_release(&call);

    call = (struct store_call){.op = STORE_LIST, .prefix = "a/", .delimiter = "/"};
    expect_rc(&call, 0);
    cr_expect_eq(call.object_count, 1);
    cr_expect_str_eq(call.objects[0].key, "a/b");
    store_call_release(&call);

    call = (struct store_call){.op = STORE_DELETE, .key = "a/b"};
    expect_rc(&call, 0);
    call = (struct store_call){.op = STORE_HEAD, .key = "a/b"};
    expect_rc(&call, -ENOENT);
    store_call_release(&call);
}

/* ---- Configurations. ---- */

Test(store_s3, every_checksum_is_taken)
{
    static const enum store_checksum all[] = {CHECKSUM_AUTO, CHECKSUM_CRC32C, CHECKSUM_CRC64NVME,
                                              CHECKSUM_MD5, CHECKSUM_SHA256};
    struct store_abilities abilities;
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        struct store_config config = {.checksum = all[i]};
        reopen_store(open_store(&config));
        put("sum", "hello world", 11);
        put("sum", "", 0);
        store_abilities(store, &abilities);
        cr_expect_neq(abilities.checksum, ABILITY_NO);
    }
}

Test(store_s3, wrong_keys_and_wrong_buckets_are_told_apart)
{
    static const char *const cases[][4] = {
        {"nobody", MINIO_SECRET_KEY, MINIO_BUCKET, "InvalidAccessKeyId"},
        {MINIO_ACCESS_KEY, "wrongsecret", MINIO_BUCKET, "SignatureDoesNotMatch"},
        {MINIO_ACCESS_KEY, MINIO_SECRET_KEY, "no-such-bucket", "NoSuchBucket"},
    };
    for (int i = 0; i < 3; i++) {
        struct store_config config = {.bucket = cases[i][2]};
        struct store_call call = {.op = STORE_LIST, .max_keys = 1, .patience_ms = 5000};
        reopen_store(open_store_as(&config, cases[i][0], cases[i][1]));
        expect_rc(&call, i < 2 ? -EACCES : -EIO);
        cr_expect_str_eq(call.error.code, cases[i][3]);
        cr_expect_neq(call.error.request_id[0], 0);
        store_call_release(&call);
    }
}

Test(store_s3, a_probe_knows_minio_and_leaves_nothing)
{
    struct store_abilities abilities;
    struct store_call list = {.op = STORE_LIST};
    cr_assert_eq(store_probe(store, "", &waiter), 0);
    store_abilities(store, &abilities);
    cr_expect_eq(abilities.list_meta, ABILITY_YES);
    cr_expect_eq(abilities.conditional_put, ABILITY_YES);
    cr_expect_eq(abilities.checksum, ABILITY_YES);
    cr_expect_eq(abilities.delete_many, ABILITY_YES);
    cr_expect_eq(abilities.part_copy, ABILITY_YES);
    cr_expect_neq(abilities.conditional_delete, ABILITY_UNKNOWN);
    expect_rc(&list, 0);
    cr_expect_eq(list.object_count, 0);
    store_call_release(&list);
}

/* ---- Outages. ---- */

struct outage {
    struct store_call call;
    struct lock lock;
    struct gate gate;
    bool ended;
};

static void end_outage(struct store_call *call)
{
    struct outage *outage = call->owner;
    LOCK_SCOPED(&outage->lock);
    outage->ended = true;
    gate_open(&outage->gate);
}

Test(store_s3, an_outage_is_waited_out)
{
    char into[16] = "";
    struct iovec place = {into, 11};
    struct outage outage = {
        .call = {.op = STORE_GET, .key = "kept", .length = 11, .into = &place, .into_count = 1}};
    BUF_SCOPED why = BUF_INIT;

    put("kept", "hello world", 11);
    minio_halt(minio);
    lock_init(&outage.lock, LOCK_UPLOAD, "outage");
    gate_init(&outage.gate);
    outage.call.done = end_outage;
    outage.call.owner = &outage;
    store_start(store, &outage.call);
    cr_assert_eq(minio_revive(minio, &why), 0, "%s", why.bytes);
    lock_take(&outage.lock);
    while (!outage.ended)
        gate_wait_locked(&outage.gate, &outage.lock, &waiter, CLOCK_NEVER);
    lock_drop(&outage.lock);
    cr_expect_eq(outage.call.rc, 0);
    cr_expect_str_eq(into, "hello world");
    cr_expect_gt(outage.call.error.attempts, 1);
    store_call_release(&outage.call);
    gate_release(&outage.gate);
    lock_release(&outage.lock);
}

Test(store_s3, patience_ends_at_a_server_that_hangs)
{
    struct store_call call = {.op = STORE_HEAD, .key = "kept", .patience_ms = 500};
    put("kept", "hello world", 11);
    minio_freeze(minio);
    expect_rc(&call, -ETIMEDOUT);
    minio_thaw(minio);
    store_call_release(&call);
}

/* ---- TLS. ---- */

static void set_up_tls(void)
{
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(minio_start_tls(&minio, &why), 0, "%s", why.bytes);
    waiter_init(&waiter);
}

TestSuite(store_s3_tls, .init = set_up_tls, .fini = tear_down);

Test(store_s3_tls, works_with_the_certificate_and_not_without)
{
    struct store_config config = {.ca_bundle = minio_ca(minio)};
    struct store_call call = {.op = STORE_LIST, .max_keys = 1, .patience_ms = 5000};

    store = open_store(&config);
    put("secure", "hello world", 11);
    reopen_store(open_store(NULL));
    expect_rc(&call, -ETIMEDOUT);
    cr_expect_not_null(strstr(call.error.message, "certificate"), "%s", call.error.message);
    cr_expect_eq(call.error.http_status, 0);
    store_call_release(&call);
}
