/* store: the door to objects. Everything above speaks to a bucket through this header only.
 *
 * One call is one operation on one bucket; the caller fills a struct store_call, starts it, and owns it again when
 * done() is called, exactly once, with `rc` final:
 *
 *      start --> running --(attempts, retries, re-signing: inside)--> done(call)   rc 0 or -errno
 *                   |                                                  ^
 *                   +-- store_cancel() --------------------------------+            rc -ECANCELED (or what came first)
 *
 * An attempt is never seen above (but see `slowed`). A call that may or may not have happened (reply lost, killed while completing) ends
 * with `unknown` true: the caller settles it by HEAD (by an id of its own among the metadata, and the size).
 *
 * Two implementations: store_s3 (s3/), memory_store (tests/support/). Both pass tests/support/store_contract.c.
 *
 * Owns: all inputs are the caller's and stay valid until done(). Outputs are the call's: store_call_release() frees
 *       them (also before a call is used again). A zeroed call with `op`, `done` set and the inputs of its op is ready.
 * Threads: start and cancel from any thread, with no lock of rank LOCK_STORE or above held. done() and landed() run on a
 *       network thread (or, for a call that fails at once, within store_start) with no lock held; they must not block.
 * Errors, the expected ones: -ENOENT (no such key, bucket or upload: error.code tells), -EACCES, -ESTALE (a condition
 *       if_match / source_if_match failed), -EEXIST (if_absent failed), -ETIMEDOUT (no progress for patience_ms),
 *       -ECANCELED, -ENOSPC, -EFBIG, -ENAMETOOLONG, -EILSEQ, -E2BIG (metadata), -EISDIR and -ENOTDIR (`a`
 *         beside `a/b`, where the endpoint holds no two such), -EOPNOTSUPP (the endpoint cannot), -EIO (all else).
 */
#ifndef S3_STORE_H
#define S3_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/waiter.h"

#define STORE_KEY_MAX   1024 /* bytes of a whole key */
#define STORE_ETAG_MAX  128  /* with its quotes and NUL; longer ones are refused as -EBADMSG */
#define STORE_LIST_MAX  1000 /* keys of one page, keys of one DELETE_MANY */
#define STORE_PARTS_MAX 10000
#define STORE_UPLOADS_MAX                                                                                    \
    10000 /* from so many on one LIST_UPLOADS asks for no more pages; MinIO has one page for all */
#define STORE_TAGS_MAX 50 /* of one object: AWS has 10; a longer answer of GET_TAGS makes no sense */
/* Among the headers of an object with tags: how many, in decimal. Only tells: see `tags`. */
#define STORE_TAG_COUNT_FIELD "x-amz-tagging-count"

/* What S3 itself said about a failure. Empty strings where it said nothing. */
struct store_error {
    int http_status;
    int attempts;
    int64_t took_ms;
    bool refused;        /* the same again would be answered the same: somebody has to mend something first */
    char code[64];       /* "SlowDown" */
    char message[200];   /* the server's words, printable, cut */
    char request_id[64]; /* x-amz-request-id */
};

/* Name/value pairs in order. User metadata stand here under their bare lower-case name ("mode", not x-amz-meta-mode). */
struct store_field {
    char *name;
    char *value;
};

struct store_fields {
    struct store_field *all;
    size_t count;
};

void store_fields_add(struct store_fields *fields, const char *name, const char *value);
/* Replaces the value of a name, or adds it. */
void store_fields_set(struct store_fields *fields, const char *name, const char *value);
/* NULL when there is none. */
const char *store_fields_get(const struct store_fields *fields, const char *name);
void store_fields_remove(struct store_fields *fields, const char *name);
void store_fields_copy(struct store_fields *to, const struct store_fields *from);
void store_fields_release(struct store_fields *fields);

enum store_checksum {
    CHECKSUM_AUTO,
    CHECKSUM_CRC32C,
    CHECKSUM_CRC64NVME,
    CHECKSUM_MD5,
    CHECKSUM_SHA256,
    CHECKSUM_CRC32
};

/* Of a whole object, as it is stored with it. */
struct store_sum {
    enum store_checksum
        kind; /* CHECKSUM_CRC32C, CHECKSUM_CRC64NVME, CHECKSUM_CRC32; CHECKSUM_AUTO: none is known */
    uint64_t value;
};

/* An object as HEAD, GET or a listing tells it. */
struct store_object {
    char *key; /* whole key; owned */
    uint64_t size;
    int64_t
        modified_ns; /* LastModified: whole seconds from HEAD and GET, milliseconds from listings: compare seconds */
    char etag[STORE_ETAG_MAX];   /* as sent, with quotes */
    struct store_fields meta;    /* user metadata */
    struct store_fields headers; /* content-type, content-encoding, cache-control, content-disposition,
                                    content-language, expires, x-amz-storage-class, x-amz-version-id,
                                    x-amz-server-side-encryption...: what a rewrite must keep (HEAD and GET only); x-amz-tagging-count;
                                    given back as inputs, those that no request may set are not sent */
    bool meta_known;             /* false: a listing without user metadata */
    struct store_sum sum;        /* HEAD, and GET of the whole, that asked for it (tell_sum) */
};

void store_object_release(struct store_object *object);

enum store_op {
    STORE_GET = 1,  /* [offset, offset+length) of key -> into; if_match */
    STORE_HEAD,     /* key -> object */
    STORE_GET_TAGS, /* key -> found_tags; none is success; -ENOENT: no such object (or, where error.code is NoSuchTagSet, no tags) */
    STORE_LIST,     /* prefix, delimiter, start_after|token, max_keys -> objects, prefixes, next_token */
    STORE_PUT,      /* key, from, meta, headers, tags; if_match | if_absent -> object.etag */
    STORE_COPY, /* source_key [source_if_match] -> key, with its tags; replace_meta: meta, headers instead of the source's;
                          up to 5 GiB (-EFBIG beyond: copy by parts) -> object.etag, object.modified_ns */
    STORE_DELETE, /* key; if_match where the endpoint honours it; a missing key is success */
    STORE_DELETE_MANY, /* keys -> failures (per key; those that pass are asked for again before). Falls back to single
                          deletes where the endpoint cannot */
    STORE_CREATE, /* multipart: key, meta, headers, tags -> upload_id */
    STORE_PART,   /* key, upload_id, part_number, from -> object.etag */
    STORE_PART_COPY, /* key, upload_id, part_number, source_key, offset, length, source_if_match -> object.etag */
    STORE_COMPLETE,     /* key, upload_id, parts; if_match | if_absent -> object.etag */
    STORE_ABORT,        /* key, upload_id; an unknown upload is success */
    STORE_LIST_PARTS,   /* key, upload_id -> parts found (all pages) */
    STORE_LIST_UPLOADS, /* prefix; start_after and upload_id: behind that one -> uploads; next_token: there are more behind the last */
};

struct store_part {
    int number; /* 1 ... STORE_PARTS_MAX, ascending */
    uint64_t size;
    char etag[STORE_ETAG_MAX];
};

struct store_failure {
    const char *key; /* points into call->keys */
    int rc;
    char code[64];
};

struct store_upload {
    char *key;
    char *upload_id;
    int64_t initiated_ns;
};

struct store;

struct store_call {
    enum store_op op;
    void (*done)(struct store_call *call);
    /* GET only, may be NULL: the first `landed` bytes of the range are in `into` and stay. Never goes back, also
     * when the body is cut and fetched on from there. */
    void (*landed)(struct store_call *call, uint64_t landed);
    /* May be NULL: an attempt was too much for the server (503 SlowDown, 429), or got no answer in time. The call goes on, or ends
     * as it does. On a network thread, no lock held, must not block; never after done(). */
    void (*slowed)(struct store_call *call);
    /* PUT and PART only, may be NULL: so many bytes of the body are beyond the network in the attempt that runs; 0 when another one
     * begins. Now and then, or never; on a network thread, no lock held, must not block; never after done(). */
    void (*taken)(struct store_call *call, uint64_t taken);
    void *owner; /* the caller's own */

    /* Inputs. */
    const char *key;
    int64_t
        patience_ms; /* no byte acknowledged for this long ends the call with -ETIMEDOUT; 0: retried for ever. A COMPLETE or COPY that
                        the server goes on with is then `unknown`; its white space on the way counts as bytes */
    const char *if_match; /* ETag with quotes */
    bool if_absent;       /* If-None-Match: * */
    bool
        tell_sum; /* HEAD, and GET of [0, size): the object's checksum is asked for, where the endpoint takes the question */
    uint64_t offset, length;
    const struct iovec *into; /* GET: memory for exactly `length` bytes in pieces */
    size_t into_count;
    const struct iovec *from; /* PUT, PART: the body in pieces; it must not change until done() */
    size_t from_count;
    const struct store_fields *meta;
    const struct store_fields *headers;
    const struct store_fields
        *tags; /* of the object that is made; NULL: none. What is overwritten leaves it none */
    const char *source_key;
    const char *source_if_match;
    bool replace_meta;
    const char *prefix, *delimiter, *start_after, *token; /* LIST; NULL: not sent */
    int max_keys;                                         /* 0: STORE_LIST_MAX */
    const char *upload_id;
    int part_number;
    const struct store_part *parts;
    size_t part_count;
    const char *const *keys;
    size_t key_count;

    /* Outputs, valid from done() to store_call_release(). */
    int rc;
    bool unknown; /* rc is an error, but the operation may have happened */
    struct store_error error;
    struct store_object
        object;        /* GET, HEAD: all; PUT, PART, COPY, COMPLETE: etag (and modified_ns where told) */
    uint64_t received; /* GET: bytes that landed; less than length only at the object's end */
    struct store_object *objects;
    size_t object_count;
    char **prefixes; /* common prefixes, whole, in key order as the objects are */
    size_t prefix_count;
    char *next_token; /* NULL: the listing is complete */
    char *new_upload_id;
    struct store_part *found_parts;
    size_t found_part_count;
    struct store_fields found_tags; /* at most STORE_TAGS_MAX, no name twice */
    struct store_failure *failures;
    size_t failure_count;
    struct store_upload *uploads;
    size_t upload_count;

    void *waiting; /* store_wait()'s own */
    /* The implementation's own, while the call runs. */
    void *running;
    struct list link;
};

/* What the endpoint can, as far as is known. Learned from answers, and by store_probe(). */
enum store_ability { ABILITY_UNKNOWN, ABILITY_YES, ABILITY_NO };

struct store_abilities {
    enum store_ability list_meta;       /* listings carry user metadata */
    enum store_ability conditional_put; /* If-Match and If-None-Match on PUT and Complete are honoured */
    enum store_ability conditional_delete;
    enum store_ability checksum; /* x-amz-checksum-* is taken, and its value answered (else Content-MD5) */
    enum store_ability delete_many;
    enum store_ability part_copy;
    bool equal_parts; /* all parts but the last must have one size (R2) */
};

struct store_counters {
    uint64_t calls[STORE_LIST_UPLOADS + 1]; /* by op */
    uint64_t attempts, retries, failures;
    uint64_t bytes_in, bytes_out;
    uint64_t in_flight;
};

struct store_ops {
    void (*start)(struct store *store, struct store_call *call);
    void (*cancel)(struct store *store, struct store_call *call);
    void (*abilities)(struct store *store, struct store_abilities *ret_abilities);
    int (*probe)(struct store *store, const char *prefix, struct waiter *waiter);
    void (*counters)(struct store *store, struct store_counters *ret_counters);
    void (*describe)(struct store *store,
                     struct buf *out); /* "http://127.0.0.1:9000/bucket, region us-east-1" */
    void (*free)(struct store *store);
};

struct store {
    const struct store_ops *ops;
};

void store_start(struct store *store, struct store_call *call);
/* Asks a running call to end soon; done() is still called, once. A call that has ended meanwhile (call->running is NULL:
 * implementations set it before done()) is left alone; its memory must still be there. */
void store_cancel(struct store *store, struct store_call *call);
/* The one blocking wait: starts the call (its `done` is overwritten), waits, returns call->rc. An interrupt cancels it
 * and gives -EINTR (unless it was done all the same). A NULL waiter gives -EAGAIN before anything was sent (see waiter.h). */
int store_wait(struct store *store, struct store_call *call, struct waiter *waiter);
void store_call_release(struct store_call *call);
/* Settles what is unknown and matters before the first conditional write: writes, overwrites and removes hidden keys
 * PREFIX.skyvol-probe-*. Never called on read-only mounts. 0: the abilities are known
 * afterwards; -errno: some are not, and may be asked for again (-EAGAIN: replies were lost, or there is no waiter). */
int store_probe(struct store *store, const char *prefix, struct waiter *waiter);
void store_abilities(struct store *store, struct store_abilities *ret_abilities);
void store_counters(struct store *store, struct store_counters *ret_counters);
void store_describe(struct store *store, struct buf *out);
void store_free(struct store *store);        /* cancels what runs and waits for its done() */
const char *store_op_name(enum store_op op); /* "GET", "LIST_PARTS": for the log */
/* "SlowDown (503), request 17A9..., 4 attempts in 812 ms: Please reduce your request rate" for one log line. */
void store_error_print(const struct store_error *error, int rc, struct buf *out);

struct credentials;

enum store_style { STYLE_AUTO, STYLE_PATH, STYLE_VIRTUAL };

/* Encryption on the server's side that is asked for with each object that is made. */
enum store_sse {
    SSE_DEFAULT,
    SSE_S3,
    SSE_KMS,
    SSE_KMS_DSSE
}; /* DEFAULT: as the bucket says, or as the object had it */

struct store_config {
    const char *endpoint; /* "https://host[:port]"; NULL: AWS of the region */
    const char *bucket;
    const char *region; /* NULL: from the endpoint's name, else discovered, else us-east-1 */
    enum store_style style;
    enum store_checksum checksum; /* not CRC32; AUTO: CRC32C where the endpoint takes it, else Content-MD5 */
    struct credentials *credentials; /* a reference is taken; NULL: unsigned requests */
    enum store_sse sse;              /* of all that is made, rewritten or copied */
    const char *sse_kms_key_id;      /* of SSE_KMS and SSE_KMS_DSSE; NULL: AWS's own key of the account */
    const char *
        storage_class; /* of what is made without one among its headers; NULL: none is said. With it, what is read names STANDARD too */
    bool requester_pays;   /* x-amz-request-payer with every request */
    const char *ca_bundle; /* NULL: the system's */
    const char *proxy;     /* NULL: HTTPS_PROXY, HTTP_PROXY (https/http), NO_PROXY of the environment */
    bool allow_http;       /* http:// to other hosts than loopback */
    bool insecure_tls;     /* never by default; tests with a self-made certificate use ca_bundle instead */
    int loops;             /* network threads, 1 or 2; 0: by the number of processors */
    int connections_max;   /* 0: 64 */
    int64_t connect_timeout_ms; /* one attempt; 0: 5 s */
    int64_t
        first_byte_timeout_ms; /* one attempt, from sent to first byte of the answer; 0: 20 s (Complete, Copy: the call's patience, 10 min without) */
    int64_t stall_timeout_ms;  /* one attempt, no byte moved; 0: 15 s */
};

/* -EINVAL with the words of what is wrong with the configuration in `why`. Sends nothing. */
int store_s3_new(const struct store_config *config, struct store **ret_store, struct buf *why);

#endif
