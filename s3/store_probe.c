#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/log.h"
#include "s3/code.h"
#include "s3/store_s3.h"

#define PROBE_PATIENCE_MS 30000
#define WRONG_ETAG        "\"00000000000000000000000000000000\""

#define NAMES_MAX 3 /* tried when replies of their PUTs are lost */

struct probe {
    struct store_s3 *s3;
    struct waiter *waiter;
    const char *prefix;
    char *key;
    /* Of the last call. */
    bool unknown;
    struct store_error error;
};

static char probe_body[] = "skyvol asks what this endpoint can do; this object is removed at once.\n";

static void learn(struct probe *probe, size_t ability, bool yes)
{
    bucket_learn(&probe->s3->bucket, ability, yes ? ABILITY_YES : ABILITY_NO);
}

static bool is_unknown(struct probe *probe, size_t ability)
{
    return bucket_can(&probe->s3->bucket, ability) == ABILITY_UNKNOWN;
}

/* Runs a call on the probe's key. */
static int ask(struct probe *probe, struct store_call *call)
{
    call->key = probe->key;
    call->patience_ms = PROBE_PATIENCE_MS;
    int rc = store_wait(&probe->s3->store, call, probe->waiter);
    probe->unknown = call->unknown;
    probe->error = call->error;
    return rc;
}

/* The last call's failure says that the endpoint cannot do such a thing, and not that something was in the way. A 2xx
 * that makes no sense is of a server that took the request for another one. */
static bool means_unsupported(const struct probe *probe, int rc)
{
    int status = probe->error.http_status;
    return rc == -EOPNOTSUPP || (rc == -EIO && (status / 100 == 2 || status == 400) &&
                                 code_find(400, probe->error.code)->class == CODE_FINAL);
}

static void choose_name(struct probe *probe)
{
    uint8_t random[8];
    BUF_SCOPED name = BUF_INIT;
    digest_random(random, sizeof(random));
    buf_printf(&name, "%s.skyvol-probe-", probe->prefix ? probe->prefix : "");
    buf_add_hex(&name, random, sizeof(random));
    free(probe->key);
    probe->key = buf_take(&name);
}

static int put(struct probe *probe, bool if_absent, const char *if_match)
{
    struct iovec body = {probe_body, sizeof(probe_body) - 1};
    struct store_fields meta = {0};
    struct store_call call = {.op = STORE_PUT,
                              .from = &body,
                              .from_count = 1,
                              .meta = &meta,
                              .if_absent = if_absent,
                              .if_match = if_match};
    int rc;

    store_fields_add(&meta, "mode", "33152"); /* a listing with metadata shows it */
    rc = ask(probe, &call);
    store_call_release(&call);
    store_fields_release(&meta);
    return rc;
}

static int remove_probe(struct probe *probe, const char *if_match)
{
    struct store_call call = {.op = STORE_DELETE, .if_match = if_match};
    int rc = ask(probe, &call);
    store_call_release(&call);
    return rc;
}

/* Also for who was interrupted: what it began is not left in the bucket. */
static void tidy_up(struct probe *probe)
{
    struct store_call call = {.op = STORE_DELETE};
    struct waiter *own = probe->waiter;
    WAITER_SCOPED(waiter);

    probe->waiter = &waiter;
    int removed = ask(probe, &call);
    probe->waiter = own;
    store_call_release(&call);
    log_debug("%s is removed: %d", probe->key, removed);
}

/* A PUT under a name that nobody knows. One that has perhaps met itself, its first reply lost, says nothing: another name. */
static int create_probe(struct probe *probe)
{
    for (int i = 0; i < NAMES_MAX; i++) {
        int rc = put(probe, true, NULL);
        if ((rc != -EEXIST && rc != -EIO) || !probe->unknown)
            return rc;
        tidy_up(probe);
        choose_name(probe);
    }
    return -EAGAIN;
}

/* YES: both conditions were refused as they must be. */
static int probe_put(struct probe *probe)
{
    int rc;

    if (!is_unknown(probe, ABILITY_OF(conditional_put)))
        return put(probe, false, NULL);
    rc = create_probe(probe);
    if (rc == -EOPNOTSUPP || rc == -EEXIST) { /* refused, or "exists" though nobody knows this name */
        learn(probe, ABILITY_OF(conditional_put), false);
        return put(probe, false, NULL);
    }
    if (rc < 0)
        return rc;
    rc = put(probe, true, NULL);
    if (rc == -EEXIST)
        rc = put(probe, false, WRONG_ETAG);
    if (rc < 0 && rc != -ESTALE && rc != -EOPNOTSUPP)
        return rc;
    learn(probe, ABILITY_OF(conditional_put), rc == -ESTALE);
    return 0;
}

static int probe_list(struct probe *probe)
{
    struct store_call call = {.op = STORE_LIST, .prefix = probe->key, .max_keys = 1};
    int rc = 0;
    if (is_unknown(probe, ABILITY_OF(list_meta)))
        rc = ask(probe, &call); /* its answer teaches */
    if (rc == 0 && is_unknown(probe, ABILITY_OF(list_meta)))
        learn(probe, ABILITY_OF(list_meta), false);
    store_call_release(&call);
    return rc;
}

static int copy_part(struct probe *probe, const char *upload_id)
{
    struct store_call call = {.op = STORE_PART_COPY,
                              .upload_id = upload_id,
                              .part_number = 1,
                              .source_key = probe->key,
                              .length = sizeof(probe_body) - 1};
    int rc = ask(probe, &call);
    store_call_release(&call);
    return rc;
}

static int probe_part_copy(struct probe *probe)
{
    struct store_call create = {.op = STORE_CREATE};
    int rc;

    if (!is_unknown(probe, ABILITY_OF(part_copy)))
        return 0;
    rc = ask(probe, &create);
    bool unsupported = means_unsupported(probe, rc);
    if (rc == 0) {
        struct store_call abort = {.op = STORE_ABORT, .upload_id = create.new_upload_id};
        rc = copy_part(probe, create.new_upload_id);
        unsupported = means_unsupported(probe, rc);
        ask(probe, &abort);
        store_call_release(&abort);
    }
    store_call_release(&create);
    if (rc < 0 && !unsupported)
        return rc;
    learn(probe, ABILITY_OF(part_copy), rc == 0);
    return 0;
}

static int probe_delete(struct probe *probe)
{
    int rc;
    if (!is_unknown(probe, ABILITY_OF(conditional_delete)))
        return 0;
    rc = remove_probe(probe, WRONG_ETAG);
    if (rc < 0 && rc != -ESTALE && !means_unsupported(probe, rc))
        return rc;
    learn(probe, ABILITY_OF(conditional_delete), rc == -ESTALE);
    return 0;
}

static int probe_delete_many(struct probe *probe)
{
    const char *keys[] = {probe->key};
    struct store_call call = {.op = STORE_DELETE_MANY, .keys = keys, .key_count = 1};
    int rc = ask(probe, &call); /* teaches; and the object is gone */
    store_call_release(&call);
    return rc;
}

static bool knows_all(struct probe *probe)
{
    return !is_unknown(probe, ABILITY_OF(conditional_put)) && !is_unknown(probe, ABILITY_OF(list_meta)) &&
           !is_unknown(probe, ABILITY_OF(part_copy)) && !is_unknown(probe, ABILITY_OF(delete_many)) &&
           !is_unknown(probe, ABILITY_OF(checksum)) && !is_unknown(probe, ABILITY_OF(conditional_delete));
}

static int run_probe(struct probe *probe)
{
    int rc = probe_put(probe);
    if (rc == 0)
        rc = probe_list(probe);
    if (rc == 0)
        rc = probe_part_copy(probe);
    if (rc == 0)
        rc = probe_delete(probe);
    if (rc == 0)
        rc = probe_delete_many(probe);
    return rc;
}

int store_s3_probe(struct store *store, const char *prefix, struct waiter *waiter)
{
    struct probe probe = {
        .s3 = container_of(store, struct store_s3, store), .waiter = waiter, .prefix = prefix};
    int rc;

    if (knows_all(&probe))
        return 0;
    if (!waiter)
        return -EAGAIN;
    choose_name(&probe);
    rc = run_probe(&probe);
    if (rc < 0)
        tidy_up(&probe);
    free(probe.key);
    return rc;
}
