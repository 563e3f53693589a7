#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "s3/body.h"
#include "s3/operation.h"

static void prepare_create(struct request *request)
{
    const char *crc = endpoint_tells_region(request->endpoint) ? request_crc_name(request) : NULL;

    request->target_key = request->call->key;
    store_fields_set(&request->query, "uploads", "");
    operation_add_attributes(request);
    operation_add_tags(request);
    /* AWS takes checksums of parts only where they were announced, and with FULL_OBJECT its Complete needs none; MinIO
     * checks parts in any case, and wants announced ones again in Complete. */
    if (crc) {
        store_fields_set(&request->headers, "x-amz-checksum-algorithm", crc);
        store_fields_set(&request->headers, "x-amz-checksum-type", "FULL_OBJECT");
        request->checksum_sent = true;
    }
}

static int read_create(struct request *request)
{
    return operation_read_body(request, answer_create);
}

const struct operation operation_create = {.method = "POST", .prepare = prepare_create, .read = read_create};

static void address_part(struct request *request)
{
    const struct store_call *call = request->call;
    request->target_key = call->key;
    request_add_number(&request->query, "partNumber", (uint64_t)call->part_number);
    store_fields_set(&request->query, "uploadId", call->upload_id);
}

static void prepare_part(struct request *request)
{
    address_part(request);
    operation_add_data(request);
}

const struct operation operation_part = {
    .method = "PUT", .prepare = prepare_part, .read = operation_read_stored};

static void prepare_part_copy(struct request *request)
{
    const struct store_call *call = request->call;
    BUF_SCOPED source = BUF_INIT;
    STRING_SCOPED *range =
        xprintf("bytes=%" PRIu64 "-%" PRIu64, call->offset, call->offset + call->length - 1);

    address_part(request);
    endpoint_copy_source(request->endpoint, call->source_key, &source);
    store_fields_set(&request->headers, "x-amz-copy-source", source.bytes);
    store_fields_set(&request->headers, "x-amz-copy-source-range", range);
    if (call->source_if_match)
        store_fields_set(&request->headers, "x-amz-copy-source-if-match", call->source_if_match);
}

static int read_etag_body(struct request *request)
{
    return operation_read_body(request, answer_etag);
}

const struct operation operation_part_copy = {
    .method = "PUT", .slow = true, .prepare = prepare_part_copy, .read = read_etag_body};

static void address_upload(struct request *request)
{
    request->target_key = request->call->key;
    store_fields_set(&request->query, "uploadId", request->call->upload_id);
}

static void prepare_complete(struct request *request)
{
    address_upload(request);
    operation_add_conditions(request);
    store_fields_set(&request->headers, "content-type", "application/xml");
    body_complete(request->call->parts, request->call->part_count, &request->document);
    request->body_kind = BODY_DOCUMENT;
}

const struct operation operation_complete = {
    .method = "POST", .slow = true, .prepare = prepare_complete, .read = read_etag_body};

const struct operation operation_abort = {.method = "DELETE", .prepare = address_upload};

static void prepare_list_parts(struct request *request)
{
    address_upload(request);
    request_add_number(&request->query, "max-parts", 1000);
    if (request->part_marker > 0)
        request_add_number(&request->query, "part-number-marker", (uint64_t)request->part_marker);
}

/* What is read of a listing of several pages goes with the page that makes no sense: the next try begins anew. */
static int forget_pages(struct request *request, int rc)
{
    store_call_release(request->call);
    free(request->key_marker);
    free(request->id_marker);
    request->key_marker = request->id_marker = NULL;
    request->part_marker = 0;
    return rc;
}

static int read_list_parts(struct request *request)
{
    const struct buf *text = &request->http.text;
    int rc =
        answer_parts(text->bytes, text->length, request->call, &request->part_marker, &request->answer_error);
    if (rc != 0)
        return forget_pages(request, rc);
    return request->part_marker > 0 ? REQUEST_MORE : 0;
}

const struct operation operation_list_parts = {
    .method = "GET", .lists = true, .prepare = prepare_list_parts, .read = read_list_parts};

static void prepare_list_uploads(struct request *request)
{
    store_fields_set(&request->query, "uploads", "");
    store_fields_set(&request->query, "encoding-type", "url");
    request_add_number(&request->query, "max-uploads", 1000);
    if (request->call->prefix)
        store_fields_set(&request->query, "prefix", request->call->prefix);
    const char *key = request->key_marker ? request->key_marker : request->call->start_after;
    const char *id = request->key_marker ? request->id_marker : request->call->upload_id;
    if (key)
        store_fields_set(&request->query, "key-marker", key);
    if (key && id)
        store_fields_set(&request->query, "upload-id-marker", id);
}

static int read_list_uploads(struct request *request)
{
    const struct buf *text = &request->http.text;
    int rc = answer_uploads(text->bytes, text->length, request->call, &request->key_marker,
                            &request->id_marker, &request->answer_error);
    if (rc != 0)
        return forget_pages(request, rc);
    if (!request->key_marker)
        return 0;
    if (request->call->upload_count < STORE_UPLOADS_MAX)
        return REQUEST_MORE;
    request->call->next_token = xstrdup(request->key_marker);
    return 0;
}

const struct operation operation_list_uploads = {
    .method = "GET", .lists = true, .prepare = prepare_list_uploads, .read = read_list_uploads};
