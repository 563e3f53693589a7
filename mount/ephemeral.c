#include "mount/ephemeral.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/digest.h"
#include "base/waiter.h"
#include "mount/home.h"
#include "mount/hyperstack.h"
#include "mount/reach.h"
#include "mount/words.h"

struct ephemeral {
    struct hyperstack_lease *lease;
};

static char *choose_path(const char *directory)
{
    uint8_t chance[4];
    BUF_SCOPED path = BUF_INIT;
    digest_random(chance, sizeof(chance));
    buf_printf(&path, "%s/hyperstack-%d-", directory, (int)getpid());
    buf_add_hex(&path, chance, sizeof(chance));
    buf_add_string(&path, ".json");
    return buf_take(&path);
}

static int find_api_key(const struct storage *storage, struct secret **ret_key, struct buf *why)
{
    const char *said = getenv("HYPERSTACK_API_KEY");
    if (storage->api_key.kind != DEFERRED_NONE)
        return deferred_resolve(&storage->api_key, "api_key", ret_key, why);
    if (!said || !*said) {
        buf_add_string(why,
                       "hyperstack: there is no API key: set HYPERSTACK_API_KEY, or api_key in the storage");
        return -ENOKEY;
    }
    *ret_key = secret_new(said, strlen(said));
    return 0;
}

/* The new key is known to the service, or something else is wrong that who uses it will say. */
static int await_key(const struct storage *storage, const char *bucket, const struct hyperstack_key *key,
                     struct waiter *waiter, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    struct reach reach = {.endpoint = storage->endpoint,
                          .region = HYPERSTACK_SIGNING,
                          .bucket = bucket,
                          .path_style = storage->path_style,
                          .waiter = waiter};
    reach.keys = keys_new(key->access_key, secret_reveal(key->secret_key), NULL, INT64_MAX);
    int rc = reach_bucket(&reach, &words);
    keys_unref(reach.keys);
    if (rc != -ETIMEDOUT && rc != -EINTR)
        return 0;
    buf_add_string(why, words.bytes);
    return rc;
}

/* The storage with the keys in the place of none. */
static int open_store(const struct storage *storage, const char *bucket, const struct hyperstack_key *key,
                      struct store **ret_store, struct buf *why)
{
    struct storage copy = {
        .endpoint = storage->endpoint, .region = storage->region, .path_style = storage->path_style};
    copy.access_key = (struct deferred){.kind = DEFERRED_LITERAL,
                                        .literal = secret_new(key->access_key, strlen(key->access_key))};
    copy.secret_key = (struct deferred){.kind = DEFERRED_LITERAL, .literal = secret_ref(key->secret_key)};
    int rc = storage_open(&copy, bucket, ret_store, why);
    secret_unref(copy.access_key.literal);
    secret_unref(copy.secret_key.literal);
    return rc;
}

static int make_key(const struct storage *storage, struct waiter *waiter, struct hyperstack_lease **ret_lease,
                    struct hyperstack_key *ret_key, struct buf *why)
{
    STRING_SCOPED *base = home_base();
    STRING_SCOPED *directory = xprintf("%s/keys", base ? base : ".");
    STRING_SCOPED *path = choose_path(directory);
    struct secret *api_key = NULL;
    BUF_SCOPED words = BUF_INIT;
    int rc = find_api_key(storage, &api_key, why);
    struct hyperstack account = {
        .api_key = api_key, .state_path = path, .pool = "operation", .waiter = waiter};
    if (rc == 0 && hyperstack_sweep(&account, directory, &words) < 0 && words.length)
        words_complain(words.bytes);
    if (rc == 0)
        rc = hyperstack_lease_begin(&account, ret_lease, ret_key, why);
    secret_unref(api_key);
    return rc;
}

int ephemeral_open(const struct storage *storage, const char *bucket, struct waiter *waiter,
                   struct ephemeral **ret_ephemeral, struct store **ret_store, struct buf *why)
{
    struct hyperstack_key key = {0};
    if (!storage_makes_keys(storage))
        return storage_open(storage, bucket, ret_store, why);
    struct ephemeral *ephemeral = xcalloc(1, sizeof(*ephemeral));
    int rc = make_key(storage, waiter, &ephemeral->lease, &key, why);
    if (rc == 0)
        rc = await_key(storage, bucket, &key, waiter, why);
    if (rc == 0)
        rc = open_store(storage, bucket, &key, ret_store, why);
    hyperstack_key_release(&key);
    *ret_ephemeral = ephemeral; /* also after a failure: the key may be there */
    return rc;
}

int ephemeral_end(struct ephemeral *ephemeral, struct buf *why)
{
    if (!ephemeral)
        return 0;
    int rc = hyperstack_lease_end(ephemeral->lease, why);
    free(ephemeral);
    return rc;
}
