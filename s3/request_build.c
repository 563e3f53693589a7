#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/crc.h"
#include "base/err.h"
#include "base/log.h"
#include "s3/request.h"

/* How an attempt comes to be: what the operation wants sent, its body's check, signature, deadlines. */

#define LISTING_MAX    ((size_t)16 << 20) /* a listing of 1000 longest keys with metadata fits thrice */
#define ANSWER_MAX     ((size_t)1 << 20)
#define SSE            "x-amz-server-side-encryption"
#define SLOW_ANSWER_MS ((int64_t)10 * 60 * 1000) /* Complete and Copy, where no patience bounds them */

static int take_keys(struct request *request)
{
    struct credentials *credentials = request->bucket->credentials;
    BUF_SCOPED why = BUF_INIT;
    int rc = credentials ? credentials_get(credentials, &request->keys, &why) : 0;
    if (rc < 0)
        request_explain(request, "NoCredentials", why.length ? why.bytes : err_text(rc));
    return rc < 0 ? -EACCES : 0;
}

static void compute_crc(struct request *request, bool crc64)
{
    const struct store_call *call = request->call;
    for (size_t i = 0; !request->have_crc && i < call->from_count; i++) {
        const struct iovec *piece = &call->from[i];
        request->crc = crc64 ? crc64nvme(request->crc, piece->iov_base, piece->iov_len)
                             : crc32c((uint32_t)request->crc, piece->iov_base, piece->iov_len);
    }
    request->have_crc = true;
}

static const char *name_crc_header(const struct request *request)
{
    return request->bucket->checksum == CHECKSUM_CRC64NVME ? "x-amz-checksum-crc64nvme"
                                                           : "x-amz-checksum-crc32c";
}

static void add_crc(struct request *request)
{
    bool crc64 = request->bucket->checksum == CHECKSUM_CRC64NVME;
    int bytes = crc64 ? 8 : 4;
    uint8_t big_endian[8];
    BUF_SCOPED value = BUF_INIT;

    compute_crc(request, crc64);
    for (int i = 0; i < bytes; i++)
        big_endian[i] = (uint8_t)(request->crc >> (8 * (bytes - 1 - i)));
    buf_add_base64(&value, big_endian, (size_t)bytes);
    store_fields_set(&request->headers, name_crc_header(request), value.bytes);
    request->checksum_sent = true;
}

static void compute_md5(struct request *request, const struct iovec *pieces, size_t piece_count)
{
    if (!request->have_md5 || request->body_kind == BODY_DOCUMENT)
        digest_md5_pieces(pieces, piece_count, request->md5);
    request->have_md5 = true;
}

static void add_md5(struct request *request, const struct iovec *pieces, size_t piece_count)
{
    BUF_SCOPED value = BUF_INIT;
    compute_md5(request, pieces, piece_count);
    buf_add_base64(&value, request->md5, MD5_BYTES);
    store_fields_set(&request->headers, "content-md5", value.bytes);
}

static void add_sha256(struct request *request, struct buf *payload)
{
    if (!request->have_sha256)
        digest_sha256_pieces(request->call->from, request->call->from_count, request->sha256);
    request->have_sha256 = true;
    buf_add_hex(payload, request->sha256, SHA256_BYTES);
}

const char *request_crc_name(struct request *request)
{
    enum store_checksum checksum = request->bucket->checksum;
    if (checksum == CHECKSUM_SHA256 || checksum == CHECKSUM_MD5 || request->retry.checksum_off ||
        bucket_can(request->bucket, ABILITY_OF(checksum)) == ABILITY_NO)
        return NULL;
    return checksum == CHECKSUM_CRC64NVME ? "CRC64NVME" : "CRC32C";
}

static void add_data_integrity(struct request *request, struct buf *payload)
{
    const struct store_call *call = request->call;

    if (request->bucket->checksum == CHECKSUM_SHA256) { /* the server checks the body against the signature */
        add_sha256(request, payload);
        return;
    }
    buf_add_string(payload, SIGN_UNSIGNED_PAYLOAD);
    if (request_crc_name(request))
        add_crc(request);
    else
        add_md5(request, call->from, call->from_count);
}

/* ---- What the answer to a body says of it. ---- */

/* Encryption with KMS and some servers give other ETags: then this says nothing. */
static bool etag_is_md5(struct request *request)
{
    BUF_SCOPED etag = BUF_INIT;
    compute_md5(request, request->call->from, request->call->from_count);
    buf_add_char(&etag, '"');
    buf_add_hex(&etag, request->md5, MD5_BYTES);
    buf_add_char(&etag, '"');
    return !strcasecmp(request->call->object.etag, etag.bytes);
}

void request_learn_no_checksum(struct request *request, const char *words)
{
    if (bucket_can(request->bucket, ABILITY_OF(checksum)) != ABILITY_NO)
        log_info("%s %s: Content-MD5 from now on", request->endpoint->host, words);
    bucket_learn(request->bucket, ABILITY_OF(checksum), ABILITY_NO);
}

int request_prove_body(struct request *request)
{
    const char *sent = store_fields_get(&request->headers, name_crc_header(request));
    const char *heard = http_header(&request->http, name_crc_header(request));

    if (!request->checksum_sent)
        return 0;
    if (heard && strcmp(heard, sent) != 0) {
        request_explain(request, "", "the server's checksum of what was sent is another one");
        return -EBADMSG;
    }
    if (heard) {
        if (bucket_can(request->bucket, ABILITY_OF(checksum)) == ABILITY_UNKNOWN)
            bucket_learn(request->bucket, ABILITY_OF(checksum), ABILITY_YES);
        return 0;
    }
    request_learn_no_checksum(request, "does not answer checksum headers");
    return etag_is_md5(request) ? 0 : REQUEST_UNPROVEN;
}

/* ---- What the bucket's owner asks for. ---- */

/* In the place of the encryption that a rewritten object had: buckets refuse what does not ask for theirs. */
static void add_encryption(struct request *request)
{
    static const char *const words[] = {
        [SSE_S3] = "AES256", [SSE_KMS] = "aws:kms", [SSE_KMS_DSSE] = "aws:kms:dsse"};
    static const char *const replaced[] = {SSE, SSE "-aws-kms-key-id", SSE "-bucket-key-enabled",
                                           SSE "-context"};
    const struct bucket *bucket = request->bucket;
    if (bucket->sse == SSE_DEFAULT)
        return;
    for (size_t i = 0; i < sizeof(replaced) / sizeof(*replaced); i++)
        store_fields_remove(&request->headers, replaced[i]);
    store_fields_set(&request->headers, SSE, words[bucket->sse]);
    if (bucket->sse_kms_key_id)
        store_fields_set(&request->headers, SSE "-aws-kms-key-id", bucket->sse_kms_key_id);
}

static void add_policy(struct request *request)
{
    const struct store_call *call = request->call;
    const struct bucket *bucket = request->bucket;
    if (bucket->requester_pays)
        store_fields_set(&request->headers, "x-amz-request-payer", "requester");
    if (call->op != STORE_PUT && call->op != STORE_COPY && call->op != STORE_CREATE)
        return;
    add_encryption(request);
    if (bucket->storage_class && !store_fields_get(&request->headers, "x-amz-storage-class"))
        store_fields_set(&request->headers, "x-amz-storage-class", bucket->storage_class);
}

/* ---- All of an attempt. ---- */

/* Gives http its body, and every byte of it a check by the server. */
static void add_body(struct request *request, struct buf *payload)
{
    struct http_call *http = &request->http;

    http->body = NULL;
    http->body_count = 0;
    if (request->body_kind == BODY_DATA) {
        http->body = request->call->from;
        http->body_count = request->call->from_count;
        add_data_integrity(request, payload);
    } else if (request->body_kind == BODY_DOCUMENT) {
        uint8_t sha256[SHA256_BYTES];
        request->document_piece = (struct iovec){request->document.bytes, request->document.length};
        http->body = &request->document_piece;
        http->body_count = 1;
        add_md5(request, http->body, 1);
        digest_sha256(request->document.bytes, request->document.length, sha256);
        buf_add_hex(payload, sha256, SHA256_BYTES);
    } else {
        buf_add_string(payload, SIGN_EMPTY_PAYLOAD);
    }
}

static bool breaks_header(const char *text)
{
    for (; *text; text++)
        if (*text == '\r' || *text == '\n')
            return true;
    return false;
}

static int write_lines(struct request *request)
{
    const struct store_fields *headers = &request->headers;
    size_t at = 0;

    for (size_t i = 0; i < headers->count; i++) {
        const struct store_field *field = &headers->all[i];
        if (breaks_header(field->name) || breaks_header(field->value)) {
            request_explain(request, "InvalidHeader", "a header holds a line break");
            return -EINVAL;
        }
        /* libcurl writes a header without a value when it ends with a semicolon. */
        buf_add_string(&request->lines, field->name);
        buf_add_string(&request->lines, field->value[0] ? ": " : ";");
        buf_add(&request->lines, field->value, strlen(field->value) + 1);
    }
    request->line_list = xcalloc(headers->count + 1, sizeof(*request->line_list));
    for (size_t i = 0; i < headers->count; i++) {
        request->line_list[i] = request->lines.bytes + at;
        at += strlen(request->line_list[i]) + 1;
    }
    request->http.headers = request->line_list;
    return 0;
}

static int sign(struct request *request, const char *method, const char *payload)
{
    struct bucket *bucket = request->bucket;
    BUF_SCOPED host = BUF_INIT;
    BUF_SCOPED path = BUF_INIT;
    BUF_SCOPED query = BUF_INIT;

    endpoint_locate(request->endpoint, request->target_key, &host, &path);
    struct sign_input input = {
        .method = method,
        .host = host.bytes,
        .path = path.bytes,
        .query = &request->query,
        .payload = payload,
        .region = request->endpoint->region,
        .service = "s3",
        .keys = request->keys,
        .wall_ns = clock_wall_ns() + request->signed_skew_ns,
    };
    sign_request(&input, &request->headers, &bucket->sign_cache);
    sign_query(&request->query, &query);
    endpoint_url(request->endpoint, host.bytes, path.bytes, query.bytes, &request->url);
    request->http.method = method;
    request->http.url = request->url.bytes;
    return write_lines(request);
}

int64_t request_patience_left(const struct request *request)
{
    int64_t patience_ms = request->call->patience_ms;
    return patience_ms > 0 ? patience_ms - (clock_ms() - request->progress_ms) : RETRY_FOREVER;
}

void request_set_deadlines(struct request *request)
{
    const struct bucket *bucket = request->bucket;
    struct http_call *http = &request->http;
    int64_t left_ms = request_patience_left(request);
    bool slow = request->operation->slow && !request->finding_region;

    http->connect_timeout_ms = bucket->connect_timeout_ms;
    http->patience_ms = left_ms == RETRY_FOREVER ? 0 : left_ms > 0 ? left_ms : 1;
    /* A server that thinks about a Complete or a Copy may take all the patience there is; white space that it sends
     * meanwhile to keep the connection moves http's clock. */
    int64_t slow_ms = http->patience_ms > 0 ? http->patience_ms : SLOW_ANSWER_MS;
    http->first_byte_timeout_ms = slow ? slow_ms : bucket->first_byte_timeout_ms;
    http->stall_timeout_ms = slow ? slow_ms : bucket->stall_timeout_ms;
    http->text_max = request->operation->lists ? LISTING_MAX : ANSWER_MAX;
    http->bulk = request->bulk;
    http->started = NULL;
    http->sink = NULL;
}

int request_build(struct request *request)
{
    const struct store_call *call = request->call;
    const char *method = request->operation->method;
    BUF_SCOPED payload = BUF_INIT;
    int rc;

    request->endpoint = bucket_endpoint(request->bucket);
    request->signed_skew_ns = bucket_skew_ns(request->bucket);
    rc = take_keys(request);
    if (rc < 0)
        return rc;
    request->operation->prepare(request);
    add_policy(request);
    if (request->get.rc) {
        request_explain(request, "", request->get.words);
        return request->get.rc;
    }
    if (call->op == STORE_GET && (call->length == 0 || request->get.past_end))
        method = "HEAD"; /* there is no empty range */
    add_body(request, &payload);
    rc = sign(request, method, payload.bytes);
    if (rc == 0)
        request_set_deadlines(request);
    return rc;
}
