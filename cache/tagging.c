#include "cache/tagging.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "cache/keepsake.h"
#include "cache/server.h"

/* ---- What is lost. ---- */

static void tell_unread(struct cache *cache, const struct store_call *call)
{
    BUF_SCOPED words = BUF_INIT;
    if (atomic_exchange(&cache->tags_unread_told, true))
        return;
    store_error_print(&call->error, call->rc, &words);
    log_warn("tags of %s: %s: objects that are written anew here lose their tags%s", call->key, words.bytes,
             call->rc == -EACCES ? "; grant s3:GetObjectTagging to keep them" : ", this endpoint tells none");
}

static void tell_unsent(struct cache *cache, const char *key)
{
    if (!atomic_exchange(&cache->tags_unsent_told, true))
        log_warn("tags of %s: the server took the object only without them: objects that are written anew "
                 "here lose "
                 "their tags; grant s3:PutObjectTagging to keep them",
                 key);
}

/* ---- Asked. ---- */

static bool are_told(const struct store_fields *headers)
{
    const char *count = store_fields_get(headers, STORE_TAG_COUNT_FIELD);
    return count && strtoul(count, NULL, 10) > 0;
}

static void set_count(struct store_fields *headers, size_t count)
{
    STRING_SCOPED *text = xprintf("%zu", count);
    if (count)
        store_fields_set(headers, STORE_TAG_COUNT_FIELD, text);
    else
        store_fields_remove(headers, STORE_TAG_COUNT_FIELD);
}

/* Whoever asks again hears the same: no right, no such request, or again and again what makes no sense. */
static bool is_denied(const struct store_call *call)
{
    int status = call->error.http_status;
    return (call->rc == -EACCES && status == 403) || call->rc == -EOPNOTSUPP ||
           (call->rc == -EIO && status / 100 == 2 && !call->error.code[0]);
}

/* The end of a GET_TAGS: 0, or an error to be tried again. -ENOENT: the object has gone since, or its tags have. */
static int settle(struct cache *cache, const struct store_call *call, struct store_fields *headers,
                  struct store_fields *ret_tags)
{
    bool denied = is_denied(call);
    if (call->rc < 0 && call->rc != -ENOENT && !denied)
        return call->rc;
    if (denied)
        tell_unread(cache, call);
    store_fields_copy(ret_tags, &call->found_tags);
    set_count(headers, ret_tags->count);
    return 0;
}

int tagging_ask(struct cache *cache, const char *what, const char *key, struct store_fields *headers,
                struct store_fields *ret_tags, struct waiter *waiter)
{
    struct store_call call = server_call(cache, STORE_GET_TAGS, key);
    if (!are_told(headers))
        return 0;
    int rc = store_wait(cache->config.store, &call, waiter);
    if (waiter)
        rc = settle(cache, &call, headers, ret_tags);
    if (waiter && rc < 0)
        rc = server_settle(cache, what, &call, 0);
    store_call_release(&call);
    return rc;
}

/* ---- Given along. ---- */

/* Servers say so where only the tags were too much. */
static bool may_be_for_tags(int rc, const struct store_error *error)
{
    return rc == -EACCES || rc == -EOPNOTSUPP || strcmp(error->code, "InvalidTag") == 0;
}

int tagging_wait(struct cache *cache, const char *what, struct store_call *call, int expected,
                 struct waiter *waiter)
{
    bool tagged = call->tags && call->tags->count;
    int rc = store_wait(cache->config.store, call, waiter);
    if (rc == -EAGAIN && !waiter)
        return rc;
    if (!tagged || call->unknown || !may_be_for_tags(rc, &call->error))
        return server_settle(cache, what, call, expected);
    store_call_release(call);
    call->tags = NULL;
    rc = server_wait(cache, what, call, expected, waiter);
    if (rc == 0)
        tell_unsent(cache, call->key);
    return rc;
}

/* ---- Of an upload. ---- */

bool tagging_begin(struct upload *upload)
{
    struct cache *cache = upload->uploader->cache;
    if (upload->tags_known || !are_told(&upload->headers))
        return false;
    if (upload->untagged) {
        set_count(&upload->headers, 0);
        return false;
    }
    struct errand *errand = errand_new_call(upload, STORE_GET_TAGS, false);
    /* A copy made inside the mount has the headers of what it goes over (clone.h), so these are not its tags. */
    if (upload->base_key && !keepsake_is_key(cache, upload->base_key))
        errand->call.key = upload->base_key;
    upload_set_state(upload, UPLOAD_ASKING);
    errand_start(errand);
    return true;
}

void tagging_heard(struct upload *upload, struct errand *errand)
{
    int rc = settle(upload->uploader->cache, &errand->call, &upload->headers, &upload->tags);
    struct store_error error = errand->call.error;
    errand_free(errand);
    if (upload_halts(upload))
        return;
    upload->tags_known = rc == 0;
    if (rc < 0)
        upload_fail_call(upload, rc, &error);
    else
        upload_advance(upload);
}

bool tagging_gives_way(struct upload *upload, int rc, const struct store_error *error)
{
    if (!upload->tags.count || !may_be_for_tags(rc, error))
        return false;
    upload->untagged = true;
    if (upload->early || upload->moves) { /* nobody has asked for it */
        upload_drop_multipart(upload);
        upload_rest(upload);
    } else {
        upload_start_over(upload);
    }
    return true;
}

void tagging_confirmed(struct upload *upload)
{
    if (upload->untagged)
        tell_unsent(upload->uploader->cache, upload->key);
    upload->untagged = false;
}
