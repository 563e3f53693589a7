/* answer: what S3 says, made into the structs of store.h: XML documents and headers.
 *
 * Everything here is hostile until read. -EBADMSG: not well-formed, another document, numbers out of range, ETags with
 * control characters or too long, keys that are not under the prefix asked for, paging that does not move on. A failed
 * reading adds nothing to the call's arrays: the page may be asked for again.
 * Each reader of a 2xx body returns 0; 1 when the document is an <Error> (Copy, Complete say so under status 200), which is
 * then in ret_error; or -EBADMSG.
 * Use: the call's `op` and inputs are looked at where named. Readers of pages append, so that a caller may loop.
 * Pure; any thread.
 */
#ifndef S3_ANSWER_H
#define S3_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "s3/store.h"

/* An <Error> document. Empty strings for what is missing. */
struct answer_error {
    char code[64];
    char message[200]; /* printable, cut */
    char request_id[64];
    char region[64];    /* <Region>: not checked, see endpoint_region_valid() */
    char endpoint[256]; /* <Endpoint>: for the log only; hosts are never built from it */
};

/* A body of an answer that is no 2xx. 0, or -EBADMSG when it is no <Error> document (HTML of a proxy, nothing). */
int answer_error(const char *bytes, size_t length, struct answer_error *ret_error);
/* The same words in the struct that travels with a call; status, attempts and time stay as they are. */
void answer_error_to_store(const struct answer_error *error, struct store_error *to);

/* list-type=2: objects and prefixes (each run in its own order), next_token; call->prefix and call->token are checked.
 * Keys are decoded only where the answer says EncodingType url. meta_known where MinIO's UserMetadata was there. Keys
 * that hold a NUL cannot be named by anybody above: left out. */
int answer_list(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error);
/* InitiateMultipartUploadResult -> new_upload_id. */
int answer_create(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error);
/* CompleteMultipartUploadResult, CopyObjectResult, CopyPartResult by call->op -> object.etag, object.modified_ns. */
int answer_etag(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error);
/* A page of ListParts -> found_parts. *ret_marker: the part-number-marker of the next page, 0 when complete. Call with
 * the marker of this page in it. */
int answer_parts(const char *bytes, size_t length, struct store_call *call, int *ret_marker,
                 struct answer_error *ret_error);
/* A page of ListMultipartUploads -> uploads. The markers (malloc'ed, both NULL when complete; freed and replaced here) as above. */
int answer_uploads(const char *bytes, size_t length, struct store_call *call, char **ret_key_marker,
                   char **ret_id_marker, struct answer_error *ret_error);
/* Tagging -> found_tags; -EBADMSG also for more than STORE_TAGS_MAX, a name that comes twice, and what is longer than tags are. */
int answer_tags(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error);
/* DeleteResult -> failures, with rc from the one table; a key that was not there is no failure. */
int answer_delete(const char *bytes, size_t length, struct store_call *call, struct answer_error *ret_error);

/* One header of an answer to GET, HEAD, PUT, PART: etag, last-modified, content-length or content-range (size, the whole
 * object's), x-amz-meta-* -> meta (decoded), what a rewrite must keep -> headers; others are ignored. name in lower case. */
int answer_header(struct store_object *object, const char *name, const char *value);
/* A value of x-amz-checksum-crc32c, -crc64nvme, -crc32, or x-goog-hash (of which the crc32c is taken) -> sum. What is another checksum, or one
 * of parts ("BASE64-3"), changes nothing. */
void answer_sum(struct store_sum *sum, const char *name, const char *value);
/* True: a header of an object that no request may set: left out where its headers are sent again. */
bool answer_header_only_tells(const char *name);
/* An ETag as it may be sent again: printable, with quotes (added where a server leaves them out). -EBADMSG. */
int answer_copy_etag(char to[STORE_ETAG_MAX], const char *etag);

/* Appends form-decoded text: %XX, `+` is a space. -EBADMSG for a bad escape or a NUL. */
int answer_url_decode(const char *text, struct buf *out);
/* Metadata values on the wire: RFC 2047 words ("=?UTF-8?B?...?=", Q too) are decoded to UTF-8; text that is none stays. */
void answer_meta_decode(const char *value, struct buf *out);
/* The reverse for sending: printable ASCII that would be read back the same goes as it is, all else as RFC 2047 words. No
 * value, decoded from whatever a server said, can break out of its header. */
void answer_meta_encode(const char *value, struct buf *out);

#endif
