/* memory_store: the second implementation of the store door: a bucket in memory, for unit tests of the rooms
 * above s3/.
 *
 *      store_start -> waiting --(its turn, its due time, no hang)--> happens in the bucket -> done()
 *                        |                                             |
 *                        '-- FAULT_FAIL, cancel, patience: it never happened   '-- FAULT_LOSE_REPLY,
 * FAULT_HANG_REPLY
 *
 * A call happens in the instant in which it is delivered, whole and alone, in the order of starting (later
 * for those that are delayed). Delivery is one private thread, or, when config.manual is set,
 * memory_store_step(): then nothing ever happens by itself and each order of events can be written down by
 * the test.
 *
 * It keeps S3's rules: ETags (md5, md5-of-parts), conditions, the smallest part, list v2 by pages with
 * delimiter, LastModified in seconds by HEAD and milliseconds by listing. Keys are any bytes; nothing is
 * folded or refused but an empty key and one over STORE_KEY_MAX.
 *
 * Use: memory_store_new() -> memory_store_door() for the code under test -> store_free() of that door ends
 * it. Owns: peeks give copies; log entries live until memory_store_log_clear() or the end. Threads: all
 * functions from any thread with no lock of rank LOCK_STORE or above held. Time is base/clock's, also a fake
 * one: clock_fake_advance() brings delays and patience to their end.
 */
#ifndef TESTS_SUPPORT_MEMORY_STORE_H
#define TESTS_SUPPORT_MEMORY_STORE_H

#include "s3/store.h"

struct memory_store;

struct memory_store_config {
    bool manual;             /* no thread: calls end in memory_store_step() only */
    uint64_t part_bytes_min; /* of all parts but the last; 0: 5 MiB */
    int page_max;            /* most keys of a listing's page; 0: STORE_LIST_MAX */
    bool list_meta;          /* listings carry user metadata */
    bool ignore_conditions;  /* PUT and COMPLETE as on an endpoint that knows no If-Match */
    bool ignore_delete_conditions;
    bool no_delete_many; /* the fallback to single deletes (it shows in abilities only) */
    bool no_part_copy;   /* STORE_PART_COPY: -EOPNOTSUPP */
    bool equal_parts;    /* COMPLETE refuses parts of several sizes, but for a smaller last one (R2) */
    bool unprobed;       /* abilities are unknown until store_probe() */
};

/* config NULL: all defaults. */
struct memory_store *memory_store_new(const struct memory_store_config *config);
/* The store of it; store_free() on it frees all. */
struct store *memory_store_door(struct memory_store *memory);

/* ---- The script of faults. ----
 *
 * Each call meets the first fault that matches it and has times left; FAULT_DELAY and FAULT_MEANWHILE let it
 * meet the next one too. */
enum fault_kind {
    FAULT_FAIL = 1,   /* nothing happens; the call ends with rc, status, code: "503 after all retries" */
    FAULT_LOSE_REPLY, /* it happens; the call ends with rc and, where it changes the bucket, `unknown` */
    FAULT_CUT,  /* GET: the first `bytes` land, then rc. Others: as FAULT_FAIL, after `bytes` were sent */
    FAULT_HANG, /* nothing happens until memory_store_unhang(), cancel or the call's patience */
    FAULT_HANG_REPLY, /* it happens in its turn; the answer comes at memory_store_unhang(), or never as above
                       */
    FAULT_STALE_LIST, /* LIST: the bucket as it was before its last `changes` changes (at most
                         MEMORY_STORE_HISTORY) */
    FAULT_SLOW,       /* it happens; the call says that the server had asked for patience */
    FAULT_DELAY,      /* delay_ms later */
    FAULT_MEANWHILE,  /* just before it happens `meanwhile` runs (no lock held): a foreign write in between */
};

#define MEMORY_STORE_HISTORY 256

struct fault {
    enum fault_kind kind;
    /* Which calls. */
    enum store_op op; /* 0: any */
    const char *key;  /* the call's key (prefix of a LIST, first key of DELETE_MANY); NULL: any */
    uint64_t skip;    /* so many matching calls pass first */
    uint64_t times;   /* 0: for ever */
    /* What. */
    int rc;           /* 0: -EIO */
    int http_status;  /* FAIL, CUT; 0: 503 */
    const char *code; /* NULL: "SlowDown" */
    bool unknown; /* FAIL: the call says so although nothing happened (the request was lost, not the reply) */
    bool at_once; /* FAIL: done() is called within store_start(), which the door allows */
    uint64_t bytes;
    unsigned changes;
    int64_t delay_ms;
    void (*meanwhile)(struct memory_store *memory, const struct store_call *call, void *context);
    void *context;
};

/* The strings are copied. Returns a number that names the fault below. */
int memory_store_fault(struct memory_store *memory, const struct fault *fault);
/* How many calls it struck so far. */
uint64_t memory_store_fault_struck(struct memory_store *memory, int fault);
void memory_store_fault_end(struct memory_store *memory, int fault);
void memory_store_faults_end(struct memory_store *memory); /* all; what hangs goes on hanging */
/* What hangs, of this op and key (0 and NULL: any), goes on as if nothing had been. */
void memory_store_unhang(struct memory_store *memory, enum store_op op, const char *key);

/* The ladder: the Nth call from now (1: the next) fails with rc, once. The rung that struck nothing ends the
 * climb:
 *
 *      for (uint64_t n = 1;; n++) {
 *          int rung = memory_store_fail_nth(memory, n, -EIO);
 *          ... the scenario and its checks ...
 *          if (!memory_store_fault_struck(memory, rung)) break;
 *          memory_store_fault_end(memory, rung);
 *      }
 */
int memory_store_fail_nth(struct memory_store *memory, uint64_t n, int rc);

/* ---- Time and order. ---- */

/* Manual mode: the oldest waiting call of this op and key (0 and NULL: any) that neither hangs nor is delayed
 * happens, and its done() runs in this thread. False: there is none. Canceled ones are delivered like others.
 */
bool memory_store_step(struct memory_store *memory, enum store_op op, const char *key);
/* Steps until nothing is left to do; returns how many were delivered. */
size_t memory_store_run(struct memory_store *memory);
/* Calls of this op and key (0 and NULL: any) that were started and not delivered, hanging ones too. */
size_t memory_store_waiting(struct memory_store *memory, enum store_op op, const char *key);
/* Waits up to 10 s of real time until so many of them wait, or (settle) until none but hanging and delayed
 * ones are left. False: it did not come to pass. Both also serve manual mode with other threads. */
bool memory_store_await(struct memory_store *memory, enum store_op op, const char *key, size_t count);
bool memory_store_settle(struct memory_store *memory);

/* ---- The bucket, as another client sees and changes it: no faults, no log. ---- */

/* Any pointer but key may be NULL. */
void memory_store_put(struct memory_store *memory, const char *key, const void *bytes, size_t length,
                      const struct store_fields *meta, const struct store_fields *headers);
void memory_store_put_text(struct memory_store *memory, const char *key, const char *text);
/* PutObjectTagging: the object's tags, "a=1&b=2", and nothing else of it, are others. */
void memory_store_tag(struct memory_store *memory, const char *key, const char *tags);
/* Appends them in that form; nothing where there are none, or there is no object. */
void memory_store_tags(struct memory_store *memory, const char *key, struct buf *out);
bool memory_store_remove(struct memory_store *memory, const char *key);
/* False: no such key. Both may be NULL; ret_object is to be released, bytes are appended. */
bool memory_store_peek(struct memory_store *memory, const char *key, struct store_object *ret_object,
                       struct buf *bytes);
bool memory_store_has(struct memory_store *memory, const char *key);
size_t memory_store_object_count(struct memory_store *memory);
/* All keys in order, each followed by '\n'. */
void memory_store_keys(struct memory_store *memory, struct buf *out);
size_t memory_store_upload_count(struct memory_store *memory);
/* The server lost its unfinished uploads: NoSuchUpload from now on. */
void memory_store_forget_uploads(struct memory_store *memory);

/* ---- What was sent. ---- */

struct memory_store_entry {
    enum store_op op;
    char *key;        /* or prefix, or first of many */
    char *source_key; /* NULL: none; also if_match, source_if_match, upload_id */
    char *if_match;
    char *source_if_match;
    char *upload_id;
    bool if_absent;
    bool replace_meta;
    int part_number;
    uint64_t offset, length; /* of ranges; length of bodies */
    size_t count;            /* keys of DELETE_MANY, parts of COMPLETE */
    struct store_fields meta, headers;
    int64_t started_ms;
    bool ended;
    int rc; /* when it ended */
};

size_t memory_store_log_count(struct memory_store *memory);
/* In the order of starting. */
const struct memory_store_entry *memory_store_log(struct memory_store *memory, size_t index);
/* One line a call, "PUT a/b 5", "PART a/b #2 5242880", "COPY a -> b", "DELETE_MANY a (3)"; for comparing
 * whole histories. */
void memory_store_log_print(struct memory_store *memory, struct buf *out);
void memory_store_log_clear(struct memory_store *memory);
/* Calls of this op and key (NULL: any) in the log. */
size_t memory_store_logged(struct memory_store *memory, enum store_op op, const char *key);

#endif
