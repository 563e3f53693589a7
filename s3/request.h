/* request: one store_call made into HTTP attempts until it ends: built, signed, sent, judged, repeated.
 *
 *      request_begin --> attempt --> judge --+--> end        rc, unknown, error: final
 *                          ^   ^             |
 *                          |   |             +--> wait (timer) --+
 *                          |   +-- repair (keys, region, clock, checksum) <--+   by retry.c's verdict
 *                          +-------------------------------------------------+
 *
 * An attempt is built anew from the call by the operation's prepare(), so that it is always signed for the keys, the
 * region and the clock that are in force. A call of several pages (REQUEST_MORE) is a request whose retries begin anew.
 *
 * Owns: it frees itself after ended(); who cancels makes sure that ended() has not returned (store_s3.c: by its lock).
 * Threads: one actor at a time: who begins it, then the network thread that has its attempt or its timer. Cancel from any,
 *        locks below LOCK_POOL may be held.
 * Patience: progress_ms is when bytes last moved for good: of a GET landed, of an upload for the first time.
 */
#ifndef S3_REQUEST_H
#define S3_REQUEST_H

#include "s3/answer.h"
#include "s3/bucket.h"

#define REQUEST_MORE     2 /* of operation.read: this page is in, there is another one */
#define REQUEST_UNPROVEN 3 /* of operation.read: done, but nothing shows that our checksum was looked at */

struct deletion;
struct request;

struct operation {
    const char *method;
    bool slow;  /* the server may think for minutes: Complete, Copy */
    bool lists; /* its answer names up to 1000 keys or parts */
    /* Sets target_key, query, headers, body; once per attempt. */
    void (*prepare)(struct request *request);
    /* May be NULL. Headers of a 2xx are in; may set http.sink. */
    void (*started)(struct request *request);
    /* A 2xx: 0 and the call's outputs are filled; REQUEST_MORE; REQUEST_UNPROVEN; 1: an <Error>, in request->answer_error; -EBADMSG: makes
     * no sense; -EAGAIN: cut, though HTTP says that it was whole. */
    int (*read)(struct request *request);
    /* May be NULL. The last answer will not be followed by another attempt. True: with it the call has its outcome. */
    bool (*settle)(struct request *request);
};

enum body_kind {
    BODY_NONE,
    BODY_DATA,     /* the caller's bytes: checksum as the endpoint takes it */
    BODY_DOCUMENT, /* request->document: XML, Content-MD5 */
};

struct request {
    /* Set at birth. */
    struct bucket *bucket;
    struct store_call *call;
    const struct operation *operation;
    void (*ended)(struct request *request);
    void *owner;

    int references; /* atomic */
    bool canceled;  /* atomic */

    /* Of the call, over its attempts. One actor. */
    struct retry retry;
    int attempts; /* over all pages */
    int64_t begun_ms, progress_ms;
    uint64_t sent_most;
    bool list_meta_sent;
    bool finding_region;          /* the attempt is a HEAD of the bucket for its region */
    struct retry_verdict verdict; /* in force while a repair is tried */
    bool have_crc, have_md5, have_sha256;
    uint64_t crc;
    uint8_t md5[MD5_BYTES], sha256[SHA256_BYTES];

    struct {               /* GET */
        uint64_t landed;   /* bytes of the range that are in their place */
        uint64_t told;     /* of them, told by landed() */
        uint64_t judged;   /* of them, there when the last attempt ended */
        uint64_t skip;     /* bytes of this attempt's body that stand before the range: Range was ignored */
        uint64_t expected; /* bytes that the range has, by the object's size */
        bool expected_known;
        bool past_end;             /* 416: a HEAD tells the rest */
        char etag[STORE_ETAG_MAX]; /* of the first answer; "" none */
        size_t piece, piece_offset;
        int rc;            /* an answer that does not go on with what landed: the end */
        const char *words; /* ... and why */
    } get;
    bool bad_header; /* one that the object cannot have */
    struct {         /* DELETE_MANY */
        struct store_failure *all;
        size_t count;
    } again; /* keys that the last answer could not delete for now; none: all of the call are to be asked for */
    int part_marker;
    char *key_marker, *id_marker;
    struct deletion *deletion; /* DELETE_MANY one by one; under the store's lock */

    /* Of one attempt. */
    const char *target_key; /* NULL: the bucket */
    struct store_fields query, headers;
    enum body_kind body_kind;
    struct buf document;
    struct iovec document_piece;
    bool bulk, checksum_sent;
    struct endpoint *endpoint;
    struct keys *keys;
    int64_t signed_skew_ns;
    struct buf url, lines;
    const char **line_list;
    struct http_call http;
    struct http_timer timer;
    struct answer_error answer_error;
};

struct request *request_new(struct bucket *bucket, struct store_call *call,
                            const struct operation *operation);
/* ended() may come before this returns. */
void request_begin(struct request *request);
/* It ends within milliseconds, with -ECANCELED unless it has an outcome already. */
void request_cancel(struct request *request);
struct request *request_ref(struct request *request);
void request_unref(struct request *request);
/* "CRC32C", "CRC64NVME", or NULL where bodies go with another check. */
const char *request_crc_name(struct request *request);
/* For read() of PUT and PART, behind the ETag: 0: the bytes that were sent are those that are stored, because the answer
 * repeats our checksum, or its ETag is their MD5, or a check was sent that servers may not pass over (Content-MD5, a signed
 * SHA-256); -EBADMSG: they are others; REQUEST_UNPROVEN. Teaches the bucket. */
int request_prove_body(struct request *request);
/* For prepare(): a number as query or header value. */
void request_add_number(struct store_fields *fields, const char *name, uint64_t value);

/* Between request.c and request_build.c. */
/* Makes an attempt ready for http_start(): 0, or -errno and request->answer_error says why. */
int request_build(struct request *request);
void request_set_deadlines(struct request *request);
int64_t request_patience_left(const struct request *request); /* RETRY_FOREVER */
/* Words of our own, where S3 did not speak. */
void request_explain(struct request *request, const char *code, const char *words);
/* Content-MD5 from now on; one log line, with what the endpoint does. */
void request_learn_no_checksum(struct request *request, const char *words);

#endif
