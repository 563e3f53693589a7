/* What S3 does for each operation, over a memory_bucket. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/support/memory_bucket.h"

#define NS_PER_S       1000000000
#define NS_PER_MS      1000000
#define PART_BYTES_MIN ((uint64_t)5 << 20)
#define COPY_BYTES_MAX ((uint64_t)5 << 30)
#define META_BYTES_MAX 2048

void memory_refuse(struct store_call *call, int rc, int http_status, const char *code, const char *message)
{
    call->rc = rc;
    call->error.http_status = http_status;
    call->error.refused = rc != -EIO && rc != -ETIMEDOUT;
    call->error.attempts = 1;
    snprintf(call->error.code, sizeof(call->error.code), "%s", code);
    snprintf(call->error.message, sizeof(call->error.message), "%s", message);
    snprintf(call->error.request_id, sizeof(call->error.request_id), "MEMORY");
}

uint64_t memory_body_length(const struct iovec *pieces, size_t count)
{
    uint64_t length = 0;
    for (size_t i = 0; i < count; i++)
        length += pieces[i].iov_len;
    return length;
}

void memory_describe(const struct version *version, struct store_object *ret_object)
{
    *ret_object = (struct store_object){.key = xstrdup(version->key),
                                        .size = version->length,
                                        .modified_ns = version->modified_ns / NS_PER_S * NS_PER_S,
                                        .meta_known = true};
    memcpy(ret_object->etag, version->etag, sizeof(ret_object->etag));
    store_fields_copy(&ret_object->meta, &version->meta);
    store_fields_copy(&ret_object->headers, &version->headers);
    STRING_SCOPED *count = xprintf("%zu", version->tags.count);
    if (version->tags.count)
        store_fields_set(&ret_object->headers, STORE_TAG_COUNT_FIELD, count);
}

static char *copy_body(const struct store_call *call, size_t *ret_length)
{
    size_t length = memory_body_length(call->from, call->from_count);
    char *bytes = xmalloc(length + 1);
    size_t at = 0;
    for (size_t i = 0; i < call->from_count; i++) {
        if (call->from[i].iov_len)
            memcpy(bytes + at, call->from[i].iov_base, call->from[i].iov_len);
        at += call->from[i].iov_len;
    }
    *ret_length = length;
    return bytes;
}

static bool matches(const char *condition, const char *etag)
{
    return strcmp(condition, "*") == 0 || strcmp(condition, etag) == 0;
}

static void refuse_condition(struct store_call *call, int rc)
{
    memory_refuse(call, rc, 412, "PreconditionFailed", "At least one of the pre-conditions did not hold");
}

static void refuse_missing(struct store_call *call)
{
    memory_refuse(call, -ENOENT, 404, "NoSuchKey", "The specified key does not exist.");
}

/* If-Match and If-None-Match of a write, as S3 has them: a key that is gone is 404, not 412. */
static bool check_write_conditions(struct store_call *call, const struct version *now)
{
    if (call->if_absent && now)
        refuse_condition(call, -EEXIST);
    else if (call->if_match && !now)
        refuse_missing(call);
    else if (call->if_match && !matches(call->if_match, now->etag))
        refuse_condition(call, -ESTALE);
    return call->rc == 0;
}

static bool check_meta(struct store_call *call)
{
    size_t bytes = 0;
    for (size_t i = 0; call->meta && i < call->meta->count; i++)
        bytes += strlen(call->meta->all[i].name) + strlen(call->meta->all[i].value);
    if (bytes > META_BYTES_MAX)
        memory_refuse(call, -EIO, 400, "MetadataTooLarge",
                      "Your metadata headers exceed the maximum allowed.");
    return call->rc == 0;
}

static void answer_get(struct memory_bucket *bucket, struct store_call *call)
{
    const struct version *version = memory_bucket_find(bucket, call->key);
    if (!version) {
        refuse_missing(call);
        return;
    }
    if (call->if_match && !matches(call->if_match, version->etag)) {
        refuse_condition(call, -ESTALE);
        return;
    }
    memory_describe(version, &call->object);
    if (call->op == STORE_HEAD || call->offset >= version->length)
        return;
    uint64_t left = version->length - call->offset;
    if (left > call->length)
        left = call->length;
    for (size_t i = 0; i < call->into_count && left; i++) {
        size_t step = call->into[i].iov_len < left ? call->into[i].iov_len : left;
        memcpy(call->into[i].iov_base, version->bytes + call->offset + call->received, step);
        call->received += step;
        left -= step;
    }
}

static void answer_get_tags(struct memory_bucket *bucket, struct store_call *call)
{
    const struct version *version = memory_bucket_find(bucket, call->key);
    if (version)
        store_fields_copy(&call->found_tags, &version->tags);
    else
        refuse_missing(call);
}

static void answer_put(struct memory_bucket *bucket, const struct memory_store_config *rules,
                       struct store_call *call)
{
    if (!rules->ignore_conditions && !check_write_conditions(call, memory_bucket_find(bucket, call->key)))
        return;
    if (!check_meta(call))
        return;
    size_t length;
    char *bytes = copy_body(call, &length);
    struct version *version =
        memory_bucket_put(bucket, call->key, bytes, length, call->meta, call->headers, NULL);
    store_fields_copy(&version->tags, call->tags);
    memcpy(call->object.etag, version->etag, sizeof(version->etag));
}

/* The source of COPY and PART_COPY, or NULL and a refused call. */
static const struct version *find_source(struct memory_bucket *bucket, struct store_call *call)
{
    const struct version *source = memory_bucket_find(bucket, call->source_key);
    if (!source) {
        refuse_missing(call);
        return NULL;
    }
    if (call->source_if_match && !matches(call->source_if_match, source->etag)) {
        refuse_condition(call, -ESTALE);
        return NULL;
    }
    return source;
}

static char *copy_range(const struct version *source, uint64_t offset, uint64_t length)
{
    char *bytes = xmalloc(length + 1);
    memcpy(bytes, source->bytes + offset, length);
    return bytes;
}

static void answer_copy(struct memory_bucket *bucket, struct store_call *call)
{
    const struct version *source = find_source(bucket, call);
    if (!source || (call->replace_meta && !check_meta(call)))
        return;
    if (source->length > COPY_BYTES_MAX) {
        memory_refuse(call, -EFBIG, 400, "InvalidRequest", "The copy source is larger than 5 GiB");
        return;
    }
    if (!call->replace_meta && strcmp(call->key, call->source_key) == 0) {
        memory_refuse(call, -EIO, 400, "InvalidRequest", "A copy onto itself must change something");
        return;
    }
    /* put takes copies of the fields before the old version, perhaps the source itself, goes to the history. */
    struct version *version =
        memory_bucket_put(bucket, call->key, copy_range(source, 0, source->length), source->length,
                          call->replace_meta ? call->meta : &source->meta,
                          call->replace_meta ? call->headers : &source->headers, NULL);
    store_fields_copy(&version->tags, &source->tags); /* also of the same key: the history has it */
    memcpy(call->object.etag, version->etag, sizeof(version->etag));
    call->object.modified_ns = version->modified_ns / NS_PER_MS * NS_PER_MS;
}

static void answer_delete(struct memory_bucket *bucket, const struct memory_store_config *rules,
                          struct store_call *call)
{
    const struct version *now = memory_bucket_find(bucket, call->key);
    if (now && call->if_match && !rules->ignore_delete_conditions && !matches(call->if_match, now->etag)) {
        refuse_condition(call, -ESTALE);
        return;
    }
    memory_bucket_remove(bucket, call->key);
}

static void answer_delete_many(struct memory_bucket *bucket, struct store_call *call)
{
    if (call->key_count > STORE_LIST_MAX) {
        memory_refuse(call, -EINVAL, 400, "MalformedXML", "More than 1000 keys");
        return;
    }
    for (size_t i = 0; i < call->key_count; i++)
        memory_bucket_remove(bucket, call->keys[i]);
}

/* ---- Listings. ---- */

struct page {
    struct store_call *call;
    const struct memory_store_config *rules;
    const char *prefix, *delimiter, *after; /* after: exclusive; "" from the start */
    bool after_folder; /* `after` is a common prefix that was given: all below it is done */
    size_t max;
    const char
        *last; /* the key or common prefix given last; points into the versions or the call's prefixes */
};

static void page_add_object(struct page *page, const struct version *version)
{
    struct store_call *call = page->call;
    call->objects = xrealloc(call->objects, (call->object_count + 1) * sizeof(*call->objects));
    struct store_object *object = &call->objects[call->object_count++];
    *object = (struct store_object){.key = xstrdup(version->key),
                                    .size = version->length,
                                    .modified_ns = version->modified_ns / NS_PER_MS * NS_PER_MS,
                                    .meta_known = page->rules->list_meta};
    memcpy(object->etag, version->etag, sizeof(object->etag));
    if (object->meta_known)
        store_fields_copy(&object->meta, &version->meta);
    page->last = version->key;
}

static void page_add_folder(struct page *page, const char *key, size_t length)
{
    struct store_call *call = page->call;
    call->prefixes = xrealloc(call->prefixes, (call->prefix_count + 1) * sizeof(*call->prefixes));
    call->prefixes[call->prefix_count++] = xstrndup(key, length);
    page->last = call->prefixes[call->prefix_count - 1];
}

/* How many bytes of the key are its common prefix; 0: it is an object of its own here. */
static size_t folder_length(const struct page *page, const char *key)
{
    if (!page->delimiter || !*page->delimiter)
        return 0;
    const char *found = strstr(key + strlen(page->prefix), page->delimiter);
    return found ? (size_t)(found - key) + strlen(page->delimiter) : 0;
}

static bool starts_with(const char *text, const char *start, size_t length)
{
    return strncmp(text, start, length) == 0;
}

static bool page_skips(const struct page *page, const char *key, size_t folder)
{
    if (page->last && folder && starts_with(page->last, key, folder) && strlen(page->last) == folder)
        return true; /* its folder was given on this page */
    if (page->after_folder && starts_with(key, page->after, strlen(page->after)))
        return true;
    if (!folder)
        return strcmp(key, page->after) <= 0;
    /* A common prefix at or before start-after is dropped, whatever lies below it. */
    return strncmp(key, page->after, folder) < 0 ||
           (strncmp(key, page->after, folder) == 0 && strlen(page->after) >= folder);
}

/* Tokens: what was given last behind "K" (a key) or "P" (a common prefix), and a mark that needs escaping in URLs. */
#define TOKEN_MARK "1+/="

static bool page_begin(struct page *page)
{
    const char *token = page->call->token;
    if (!token) {
        page->after = page->call->start_after ? page->call->start_after : "";
        return true;
    }
    size_t mark = strlen(TOKEN_MARK);
    if (!starts_with(token, TOKEN_MARK, mark) || (token[mark] != 'K' && token[mark] != 'P')) {
        memory_refuse(page->call, -EIO, 400, "InvalidArgument", "The continuation token is not one of ours");
        return false;
    }
    page->after = token + mark + 1;
    page->after_folder = token[mark] == 'P';
    return true;
}

static void page_end(struct page *page)
{
    size_t length = strlen(page->last);
    bool folder =
        page->call->prefix_count && page->call->prefixes[page->call->prefix_count - 1] == page->last;
    page->call->next_token = xprintf("%s%c%.*s", TOKEN_MARK, folder ? 'P' : 'K', (int)length, page->last);
}

static void fill_page(struct page *page, struct version *const *all, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *key = all[i]->key;
        if (!starts_with(key, page->prefix, strlen(page->prefix)))
            continue;
        size_t folder = folder_length(page, key);
        if (page_skips(page, key, folder))
            continue;
        if (page->call->object_count + page->call->prefix_count == page->max) {
            page_end(page);
            return;
        }
        if (folder)
            page_add_folder(page, key, folder);
        else
            page_add_object(page, all[i]);
    }
}

static void answer_list(struct memory_bucket *bucket, const struct memory_store_config *rules,
                        struct store_call *call, unsigned stale)
{
    struct page page = {.call = call,
                        .rules = rules,
                        .prefix = call->prefix ? call->prefix : "",
                        .delimiter = call->delimiter};
    page.max = call->max_keys ? (size_t)call->max_keys : STORE_LIST_MAX;
    size_t most = rules->page_max ? (size_t)rules->page_max : STORE_LIST_MAX;
    if (page.max > most)
        page.max = most;
    if (!page_begin(&page))
        return;
    if (!stale) {
        fill_page(&page, bucket->all, bucket->count);
        return;
    }
    size_t count;
    struct version **past = memory_bucket_past(bucket, stale, &count);
    fill_page(&page, past, count);
    memory_past_free(past, count);
}

/* ---- Multipart. ---- */

static struct memory_upload *find_upload(struct memory_bucket *bucket, struct store_call *call)
{
    struct memory_upload *upload = memory_bucket_upload(bucket, call->key, call->upload_id);
    if (!upload)
        memory_refuse(call, -ENOENT, 404, "NoSuchUpload", "The specified upload does not exist.");
    return upload;
}

static void answer_create(struct memory_bucket *bucket, struct store_call *call)
{
    if (!check_meta(call))
        return;
    struct memory_upload *upload = memory_bucket_create(bucket, call->key, call->meta, call->headers);
    store_fields_copy(&upload->tags, call->tags);
    call->new_upload_id = xstrdup(upload->id);
}

static void answer_part(struct memory_bucket *bucket, const struct memory_store_config *rules,
                        struct store_call *call)
{
    struct memory_upload *upload = find_upload(bucket, call);
    if (!upload)
        return;
    if (call->part_number < 1 || call->part_number > STORE_PARTS_MAX) {
        memory_refuse(call, -EIO, 400, "InvalidArgument", "Part number must be between 1 and 10000");
        return;
    }
    size_t length = call->length;
    char *bytes;
    if (call->op == STORE_PART) {
        bytes = copy_body(call, &length);
    } else {
        if (rules->no_part_copy) {
            memory_refuse(call, -EOPNOTSUPP, 501, "NotImplemented", "UploadPartCopy is not implemented");
            return;
        }
        const struct version *source = find_source(bucket, call);
        if (!source)
            return;
        if (!call->length || call->offset > source->length || call->length > source->length - call->offset) {
            memory_refuse(call, -EIO, 400, "InvalidArgument",
                          "Range specified is not valid for source object");
            return;
        }
        bytes = copy_range(source, call->offset, call->length);
    }
    struct memory_part *part = memory_upload_part(upload, call->part_number, bytes, length);
    memcpy(call->object.etag, part->etag, sizeof(part->etag));
}

static const struct memory_part *find_part(const struct memory_upload *upload,
                                           const struct store_part *wanted)
{
    for (size_t i = 0; i < upload->part_count; i++)
        if (upload->parts[i].number == wanted->number && strcmp(upload->parts[i].etag, wanted->etag) == 0)
            return &upload->parts[i];
    return NULL;
}

static bool check_parts(const struct memory_upload *upload, const struct memory_store_config *rules,
                        struct store_call *call, size_t *ret_length)
{
    uint64_t least = rules->part_bytes_min ? rules->part_bytes_min : PART_BYTES_MIN;
    *ret_length = 0;
    if (!call->part_count)
        memory_refuse(call, -EIO, 400, "MalformedXML", "No parts");
    for (size_t i = 0; i < call->part_count && call->rc == 0; i++) {
        const struct memory_part *part = find_part(upload, &call->parts[i]);
        if (i && call->parts[i].number <= call->parts[i - 1].number)
            memory_refuse(call, -EIO, 400, "InvalidPartOrder",
                          "The list of parts was not in ascending order.");
        else if (!part)
            memory_refuse(call, -EIO, 400, "InvalidPart", "One or more of the parts could not be found.");
        else if (rules->equal_parts && i && call->parts[i - 1].size != call->parts[0].size)
            memory_refuse(call, -EIO, 400, "InvalidPart", "All parts but the last must have one length.");
        else if (part->length < least && i + 1 < call->part_count)
            memory_refuse(call, -EIO, 400, "EntityTooSmall", "A part is smaller than the minimum.");
        else
            *ret_length += part->length;
    }
    return call->rc == 0;
}

static void answer_complete(struct memory_bucket *bucket, const struct memory_store_config *rules,
                            struct store_call *call)
{
    struct memory_upload *upload = find_upload(bucket, call);
    size_t length;
    if (!upload || !check_parts(upload, rules, call, &length))
        return;
    if (!rules->ignore_conditions && !check_write_conditions(call, memory_bucket_find(bucket, call->key)))
        return;
    BUF_SCOPED digests = BUF_INIT;
    char *bytes = xmalloc(length + 1);
    size_t at = 0;
    for (size_t i = 0; i < call->part_count; i++) {
        const struct memory_part *part = find_part(upload, &call->parts[i]);
        memcpy(bytes + at, part->bytes, part->length);
        at += part->length;
        buf_add(&digests, part->md5, MD5_BYTES);
    }
    uint8_t md5[MD5_BYTES];
    struct iovec piece = {digests.bytes, digests.length};
    digest_md5_pieces(&piece, 1, md5);
    memory_print_etag(md5, call->part_count, call->object.etag);
    struct version *version = memory_bucket_put(bucket, call->key, bytes, length, &upload->meta,
                                                &upload->headers, call->object.etag);
    store_fields_copy(&version->tags, &upload->tags);
    memory_bucket_forget(bucket, upload);
}

static void answer_list_parts(struct memory_bucket *bucket, struct store_call *call)
{
    struct memory_upload *upload = find_upload(bucket, call);
    if (!upload || !upload->part_count)
        return;
    call->found_parts = xcalloc(upload->part_count, sizeof(*call->found_parts));
    call->found_part_count = upload->part_count;
    for (size_t i = 0; i < upload->part_count; i++) {
        const struct memory_part *part = &upload->parts[i];
        call->found_parts[i] = (struct store_part){.number = part->number, .size = part->length};
        memcpy(call->found_parts[i].etag, part->etag, sizeof(part->etag));
    }
}

static int compare_uploads(const void *left, const void *right)
{
    const struct store_upload *a = left, *b = right;
    int order = strcmp(a->key, b->key);
    return order ? order : strcmp(a->upload_id, b->upload_id);
}

/* Of a key without an upload's id all are before it. */
static bool is_behind(const struct memory_upload *upload, const struct store_call *call)
{
    int order = call->start_after ? strcmp(upload->key, call->start_after) : 1;
    return order > 0 || (order == 0 && call->upload_id && strcmp(upload->id, call->upload_id) > 0);
}

static void answer_list_uploads(struct memory_bucket *bucket, struct store_call *call)
{
    const char *prefix = call->prefix ? call->prefix : "";
    call->uploads = xcalloc(bucket->upload_count + 1, sizeof(*call->uploads));
    for (size_t i = 0; i < bucket->upload_count; i++) {
        const struct memory_upload *upload = &bucket->uploads[i];
        if (!starts_with(upload->key, prefix, strlen(prefix)) || !is_behind(upload, call))
            continue;
        call->uploads[call->upload_count++] = (struct store_upload){.key = xstrdup(upload->key),
                                                                    .upload_id = xstrdup(upload->id),
                                                                    .initiated_ns = upload->initiated_ns};
    }
    qsort(call->uploads, call->upload_count, sizeof(*call->uploads), compare_uploads);
    if (call->upload_count > STORE_UPLOADS_MAX)
        call->next_token = xstrdup("more");
    while (call->upload_count > STORE_UPLOADS_MAX) {
        struct store_upload *last = &call->uploads[--call->upload_count];
        free(last->key);
        free(last->upload_id);
    }
}

/* ---- */

static bool check_key(struct store_call *call)
{
    if (call->op == STORE_LIST || call->op == STORE_LIST_UPLOADS || call->op == STORE_DELETE_MANY)
        return true;
    if (!call->key || !*call->key)
        memory_refuse(call, -EINVAL, 400, "InvalidRequest", "There is no key");
    else if (strlen(call->key) > STORE_KEY_MAX)
        memory_refuse(call, -ENAMETOOLONG, 400, "KeyTooLongError", "Your key is too long");
    return call->rc == 0;
}

void memory_answer(struct memory_bucket *bucket, const struct memory_store_config *rules,
                   struct store_call *call, unsigned stale)
{
    if (!check_key(call))
        return;
    switch (call->op) {
    case STORE_GET:
    case STORE_HEAD:
        answer_get(bucket, call);
        break;
    case STORE_GET_TAGS:
        answer_get_tags(bucket, call);
        break;
    case STORE_LIST:
        answer_list(bucket, rules, call, stale);
        break;
    case STORE_PUT:
        answer_put(bucket, rules, call);
        break;
    case STORE_COPY:
        answer_copy(bucket, call);
        break;
    case STORE_DELETE:
        answer_delete(bucket, rules, call);
        break;
    case STORE_DELETE_MANY:
        answer_delete_many(bucket, call);
        break;
    case STORE_CREATE:
        answer_create(bucket, call);
        break;
    case STORE_PART:
    case STORE_PART_COPY:
        answer_part(bucket, rules, call);
        break;
    case STORE_COMPLETE:
        answer_complete(bucket, rules, call);
        break;
    case STORE_ABORT: {
        struct memory_upload *upload = memory_bucket_upload(bucket, call->key, call->upload_id);
        if (upload)
            memory_bucket_forget(bucket, upload);
        break;
    }
    case STORE_LIST_PARTS:
        answer_list_parts(bucket, call);
        break;
    case STORE_LIST_UPLOADS:
        answer_list_uploads(bucket, call);
        break;
    }
}
