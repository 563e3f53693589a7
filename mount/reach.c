#include "mount/reach.h"

#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/err.h"
#include "mount/api.h"
#include "s3/signed.h"
#include "s3/store.h"

#define AGAIN_MS     500
#define AGAIN_MAX_MS 5000
#define ANSWER_MS    15000

/* As services say that they do not know a key (yet). */
static bool is_unknown_key(const struct store_error *error)
{
    static const char *const codes[] = {"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidSecurity",
                                        "InvalidClientTokenId"};
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++)
        if (strcmp(error->code, codes[i]) == 0)
            return true;
    return false;
}

static int pause_ms(struct waiter *waiter, int64_t ms)
{
    struct lock lock;
    struct gate gate;
    lock_init(&lock, LOCK_LEAF, "reach");
    gate_init(&gate);
    lock_take(&lock);
    int rc = gate_wait_locked(&gate, &lock, waiter, clock_ms() + ms);
    lock_drop(&lock);
    gate_release(&gate);
    lock_release(&lock);
    return rc == -ETIMEDOUT ? 0 : rc;
}

static int list_one(struct store *store, const struct reach *reach, struct store_error *ret_error)
{
    struct store_call call = {.op = STORE_LIST, .prefix = "", .max_keys = 1, .patience_ms = ANSWER_MS};
    int rc = store_wait(store, &call, reach->waiter);
    *ret_error = call.error;
    store_call_release(&call);
    return rc;
}

static int say(const struct reach *reach, const struct store_error *error, int rc, struct buf *why)
{
    if (rc != -EINTR && error->http_status == 404 && strcmp(error->code, "NoSuchBucket") == 0)
        rc = -ENOENT;
    if (rc == -EINTR) {
        buf_add_string(why, "interrupted");
        return rc;
    }
    buf_printf(why, "bucket %s at %s: ", reach->bucket, reach->endpoint);
    store_error_print(error, rc, why);
    return rc;
}

int reach_bucket(const struct reach *reach, struct buf *why)
{
    struct credentials_config source = {.explicit_keys = reach->keys};
    struct credentials *credentials = credentials_new(&source);
    struct store_config config = {
        .endpoint = reach->endpoint, .bucket = reach->bucket, .region = reach->region, .loops = 1};
    struct store *store = NULL;
    struct store_error error = {0};
    int64_t deadline = clock_ms() + REACH_MS, delay = AGAIN_MS;
    config.style = reach->path_style ? STYLE_PATH : STYLE_AUTO;
    config.credentials = credentials;
    int rc = store_s3_new(&config, &store, why);
    if (rc == 0) {
        while ((rc = list_one(store, reach, &error)) < 0 && is_unknown_key(&error) &&
               clock_ms() + delay < deadline) {
            if (pause_ms(reach->waiter, delay) < 0) {
                rc = -EINTR;
                break;
            }
            delay = delay * 2 < AGAIN_MAX_MS ? delay * 2 : AGAIN_MAX_MS;
        }
        if (rc < 0)
            rc = say(reach, &error, rc != -EINTR && is_unknown_key(&error) ? -ETIMEDOUT : rc, why);
    }
    store_free(store);
    credentials_unref(credentials);
    return rc;
}

int reach_make(const struct reach *reach, struct buf *why)
{
    struct api_config config = {
        .name = "S3", .url = reach->endpoint, .where = "the endpoint", .waiter = reach->waiter};
    struct api *api = NULL;
    struct api_answer answer;
    STRING_SCOPED *path = xprintf("/%s", reach->bucket);
    int rc = api_new(&config, &api, why);
    if (rc < 0)
        return rc;
    struct signed_input input = {
        .method = "PUT", .host = strstr(api_url(api), "://") + 3, .path = path, .service = "s3"};
    input.region = reach->region;
    input.keys = reach->keys;
    input.wall_ns = clock_wall_ns();
    char **lines = signed_lines(&input);
    struct api_request request = {.method = "PUT", .path = path, .lines = lines, .plain = true};
    rc = api_send(api, &request, &answer, why);
    signed_release(lines);
    api_answer_release(&answer);
    api_free(api);
    return rc;
}
