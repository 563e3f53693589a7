#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "s3/body.h"
#include "s3/code.h"
#include "s3/operation.h"

/* ---- GET and HEAD. ---- */

static void take_header(void *context, const char *name, const char *value)
{
    struct request *request = context;
    bool ranged = http_header(&request->http, "content-range") != NULL;

    if (ranged && !strcmp(name, "content-length")) /* of the range, not of the object */
        return;
    if (answer_header(&request->call->object, name, value) < 0)
        request->bad_header = true;
    if (request->call->tell_sum)
        answer_sum(&request->call->object.sum, name, value);
}

/* The checksum is that of the whole object only where it is no sum of parts, and nothing less than the whole was answered. */
static void check_sum(struct request *request)
{
    struct store_object *object = &request->call->object;
    const char *type = http_header(&request->http, "x-amz-checksum-type");
    const char *range = http_header(&request->http, "content-range");
    uint64_t first = 0, last = 0;
    bool whole = !range || (sscanf(range, "bytes %" SCNu64 "-%" SCNu64, &first, &last) == 2 && first == 0 &&
                            last + 1 == object->size);
    if (!whole || (type && !strcasecmp(type, "COMPOSITE")))
        object->sum = (struct store_sum){0};
}

/* Endpoints that refuse checksums of what is sent refuse this question, too. */
static void ask_for_sum(struct request *request)
{
    if (!request->call->tell_sum || request->retry.checksum_off ||
        bucket_can(request->bucket, ABILITY_OF(checksum)) == ABILITY_NO)
        return;
    store_fields_set(&request->headers, "x-amz-checksum-mode", "ENABLED");
    request->checksum_sent = true;
}

/* False: nothing says how large the object is (a chunked answer), and 0 would be believed. */
static bool take_object(struct request *request)
{
    struct store_object *object = &request->call->object;
    store_object_release(object);
    memset(object, 0, sizeof(*object));
    object->key = xstrdup(request->call->key);
    object->meta_known = true;
    http_each_header(&request->http, take_header, request);
    check_sum(request);
    operation_name_class(request, object);
    return http_header(&request->http, "content-length") || http_header(&request->http, "content-range");
}

static void prepare_head(struct request *request)
{
    request->target_key = request->call->key;
    operation_add_conditions(request);
    ask_for_sum(request);
}

static int read_head(struct request *request)
{
    request->bad_header = false;
    return take_object(request) && !request->bad_header ? 0 : -EBADMSG;
}

const struct operation operation_head = {.method = "HEAD", .prepare = prepare_head, .read = read_head};

/* The end of a GET: `words` for whoever has to explain it. */
static int end_get(struct request *request, int rc, const char *words)
{
    request->get.words = words;
    return request->get.rc = rc;
}

/* The version that all bytes must be of; NULL: not known (yet). */
static const char *wanted_etag(const struct request *request)
{
    return request->get.etag[0] ? request->get.etag : request->call->if_match;
}

static void prepare_get(struct request *request)
{
    const struct store_call *call = request->call;
    uint64_t from = call->offset + request->get.landed;

    request->target_key = call->key;
    if (request->get.landed > 0 && !wanted_etag(request))
        end_get(request, -EIO, "the object has no ETag to go on by"); /* the rest may be of another version */
    if (wanted_etag(request))
        store_fields_set(&request->headers, "if-match", wanted_etag(request));
    /* Servers tell the checksum of what is asked for without a range. */
    bool whole = call->tell_sum && from == 0;
    if (call->length > 0 && !request->get.past_end) {
        STRING_SCOPED *range = xprintf("bytes=%" PRIu64 "-%" PRIu64, from, call->offset + call->length - 1);
        if (!whole)
            store_fields_set(&request->headers, "range", range);
        request->bulk = call->length - request->get.landed >= BULK_BYTES;
    }
    ask_for_sum(request);
}

/* Puts bytes to their place; the one copy of a read. */
static void place_bytes(struct request *request, const char *bytes, size_t length)
{
    const struct store_call *call = request->call;
    while (length > 0 && request->get.piece < call->into_count) {
        const struct iovec *piece = &call->into[request->get.piece];
        size_t room = piece->iov_len - request->get.piece_offset;
        size_t part = length < room ? length : room;
        memcpy((char *)piece->iov_base + request->get.piece_offset, bytes, part);
        request->get.piece_offset += part;
        request->get.landed += part;
        bytes += part;
        length -= part;
        if (request->get.piece_offset == piece->iov_len) {
            request->get.piece++;
            request->get.piece_offset = 0;
        }
    }
}

/* At the borders of pages and at the end is often enough. */
static void tell_landed(struct request *request)
{
    struct store_call *call = request->call;
    uint64_t landed = request->get.landed;
    bool border = (call->offset + landed) / PAGE_BYTES != (call->offset + request->get.told) / PAGE_BYTES;

    call->received = landed;
    if (landed == request->get.told || !(border || landed == request->get.expected))
        return;
    request->get.told = landed;
    if (call->landed)
        call->landed(call, landed);
}

static bool land(struct http_call *http, const char *bytes, size_t length)
{
    struct request *request = http->owner;
    uint64_t skip = request->get.skip < length ? request->get.skip : length;
    uint64_t left = request->get.expected - request->get.landed;

    request->get.skip -= skip;
    bytes += skip;
    length -= skip;
    place_bytes(request, bytes, length < left ? length : left);
    tell_landed(request);
    return length <= left; /* more is not wanted: the server ignored the range's end */
}

static bool refuse_bytes(struct http_call *http, const char *bytes, size_t length)
{
    (void)http, (void)bytes, (void)length;
    return false;
}

/* The first byte of a 206's body, by "bytes 5-9/10". */
static bool begins_at(const char *content_range, uint64_t *ret_first)
{
    return content_range && sscanf(content_range, "bytes %" SCNu64 "-", ret_first) == 1;
}

/* 0, or why this answer cannot go on with what landed. */
static int check_answer(struct request *request, bool size_told)
{
    const struct store_call *call = request->call;
    uint64_t from = call->offset + request->get.landed, first = 0;
    const char *wanted = wanted_etag(request);

    if (request->bad_header)
        return end_get(request, -EIO, "a header of the answer makes no sense");
    if (!size_told)
        return end_get(request, -EIO, "the answer does not tell how large the object is");
    if (wanted && strcmp(call->object.etag, wanted) != 0)
        return end_get(request, -ESTALE, "the object changed while it was read");
    if (request->http.status == 206 &&
        (!begins_at(http_header(&request->http, "content-range"), &first) || first != from))
        return end_get(request, -EIO, "the answer has other bytes than were asked for");
    return 0;
}

static void start_get(struct request *request)
{
    struct store_call *call = request->call;
    uint64_t size;

    if (check_answer(request, take_object(request)) < 0) {
        request->http.sink = refuse_bytes;
        return;
    }
    memcpy(request->get.etag, call->object.etag, sizeof(request->get.etag));
    size = call->object.size;
    request->get.expected = call->offset >= size                 ? 0
                            : call->length < size - call->offset ? call->length
                                                                 : size - call->offset;
    request->get.expected_known = true;
    request->get.skip = request->http.status == 206 ? 0 : call->offset + request->get.landed;
    request->http.sink = land;
}

static int read_get(struct request *request)
{
    const struct store_call *call = request->call;
    if (call->length == 0)
        return 0;
    if (request->get.past_end &&
        call->offset < call->object.size) { /* grown meanwhile, or a server that errs */
        request->get.past_end = false;
        request_explain(request, "", "the range was refused, and the object reaches beyond its beginning");
        return -EBADMSG;
    }
    if (request->get.past_end)
        return 0;
    return request->get.landed == request->get.expected ? 0 : -EAGAIN;
}

const struct operation operation_get = {
    .method = "GET", .prepare = prepare_get, .started = start_get, .read = read_get};

/* ---- Tags. ---- */

static void prepare_get_tags(struct request *request)
{
    request->target_key = request->call->key;
    store_fields_set(&request->query, "tagging", "");
}

static int read_get_tags(struct request *request)
{
    return operation_read_body(request, answer_tags);
}

const struct operation operation_get_tags = {
    .method = "GET", .prepare = prepare_get_tags, .read = read_get_tags};

/* ---- PUT, COPY, DELETE. ---- */

static void prepare_put(struct request *request)
{
    request->target_key = request->call->key;
    operation_add_attributes(request);
    operation_add_tags(request);
    operation_add_conditions(request);
    operation_add_data(request);
}

const struct operation operation_put = {
    .method = "PUT", .prepare = prepare_put, .read = operation_read_stored};

static void prepare_copy(struct request *request)
{
    const struct store_call *call = request->call;
    BUF_SCOPED source = BUF_INIT;

    request->target_key = call->key;
    endpoint_copy_source(request->endpoint, call->source_key, &source);
    store_fields_set(&request->headers, "x-amz-copy-source", source.bytes);
    store_fields_set(&request->headers, "x-amz-metadata-directive", call->replace_meta ? "REPLACE" : "COPY");
    if (call->source_if_match)
        store_fields_set(&request->headers, "x-amz-copy-source-if-match", call->source_if_match);
    if (call->replace_meta)
        operation_add_attributes(request);
    operation_add_conditions(request);
}

static int read_copy(struct request *request)
{
    return operation_read_body(request, answer_etag);
}

const struct operation operation_copy = {
    .method = "PUT", .slow = true, .prepare = prepare_copy, .read = read_copy};

static void prepare_delete(struct request *request)
{
    request->target_key = request->call->key;
    operation_add_conditions(request);
}

const struct operation operation_delete = {.method = "DELETE", .prepare = prepare_delete};

static void prepare_delete_many(struct request *request)
{
    const struct store_call *call = request->call;
    size_t count = request->again.count;
    const char **again = xcalloc(count + 1, sizeof(*again));

    for (size_t i = 0; i < count; i++)
        again[i] = request->again.all[i].key;
    store_fields_set(&request->query, "delete", "");
    store_fields_set(&request->headers, "content-type", "application/xml");
    if (body_delete(count ? again : call->keys, count ? count : call->key_count, &request->document) < 0)
        buf_reset(&request->document); /* cannot be: store_s3.c looked at the keys */
    request->body_kind = BODY_DOCUMENT;
    free(again);
}

/* By its code only: what we do not know is not asked for again for ever. */
static bool is_passing(const struct store_failure *failure)
{
    const struct code *code = code_find(0, failure->code);
    return code->name &&
           (code->class == CODE_RETRY || code->class == CODE_THROTTLE || code->class == CODE_FEW);
}

static bool was_asked(const struct request *request, const char *key)
{
    for (size_t i = 0; i < request->again.count; i++)
        if (request->again.all[i].key == key) /* both point into call->keys */
            return true;
    return request->again.count == 0;
}

/* Takes the failures behind the first `settled` ones that pass off the call, and those that were told before. */
static void take_passing(struct request *request, size_t settled)
{
    struct store_call *call = request->call;
    size_t asked = request->again.count ? request->again.count : call->key_count, count = 0, kept = settled;
    struct store_failure *again = xcalloc(call->failure_count - settled + 1, sizeof(*again));

    for (size_t i = settled; i < call->failure_count; i++) {
        if (!was_asked(request, call->failures[i].key))
            continue;
        if (is_passing(&call->failures[i]))
            again[count++] = call->failures[i];
        else
            call->failures[kept++] = call->failures[i];
    }
    free(request->again.all);
    request->again.all = again;
    request->again.count = count;
    call->failure_count = kept;
    if (count < asked)
        request->progress_ms = request->http.moved_ms;
}

static int read_delete_many(struct request *request)
{
    const struct buf *text = &request->http.text;
    size_t settled = request->call->failure_count;
    int rc = answer_delete(text->bytes, text->length, request->call, &request->answer_error);
    if (rc != 0)
        return rc;
    take_passing(request, settled);
    if (!request->again.count)
        return 0;
    request_explain(request, request->again.all[0].code, "some keys could not be deleted for now");
    return 1;
}

static bool settle_delete_many(struct request *request)
{
    struct store_call *call = request->call;
    size_t count = call->failure_count + request->again.count;

    call->failures = xrealloc(call->failures, (count + 1) * sizeof(*call->failures));
    for (size_t i = 0; i < request->again.count; i++)
        call->failures[call->failure_count++] = request->again.all[i];
    return request->again.count > 0;
}

const struct operation operation_delete_many = {.method = "POST",
                                                .lists = true,
                                                .prepare = prepare_delete_many,
                                                .read = read_delete_many,
                                                .settle = settle_delete_many};
