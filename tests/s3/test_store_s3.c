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

static struct store *open_store(const struct store_config *more)
{
    struct store_config config = more ? *more : (struct store_config){0};
    struct keys *keys = keys_new(MINIO_ACCESS_KEY, MINIO_SECRET_KEY, NULL, INT64_MAX);
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
