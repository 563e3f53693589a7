/* uploader: the inside of the way up, for upload.c, errand.c and uploader.c only.
 *
 *      poked inodes, errands that ended --mailbox--> the thread --> upload_step(upload, event, errand)
 *                                                        |
 *      begins: tries that wait for their turn (UPLOADS_BUSY_MAX at once)
 *      ready:  tries that have bytes to send (uploads_max requests, half of the memory limit)
 *      parked: tries that come again at due_ms
 *
 * An errand is one thing that an upload waits for, a store call or a job that blocks, and what it holds: memory, pages,
 * a place among the uploads_max. It ends exactly once, in the mailbox. An upload that shall rest (a hold, an error, an
 * orphan) starts no new errands, cancels what may be canceled and rests when its last one has ended.
 */
#ifndef CACHE_UPLOADER_H
#define CACHE_UPLOADER_H

#include <pthread.h>

#include "base/pool.h"
#include "cache/core.h"
#include "cache/part.h"

#define UPLOADS_BUSY_MAX   64
#define UPLOAD_JOBS        8 /* threads */
#define UPLOAD_BACKOFF_MS  1000
#define UPLOAD_BACKOFF_MAX 60000

enum upload_event { EVENT_GO, EVENT_HALT, EVENT_GRANTED, EVENT_ENDED };
enum errand_kind { ERRAND_CALL, ERRAND_FILL, ERRAND_PROBE };

struct errand {
    /* Set at birth. */
    enum errand_kind kind;
    struct uploader *uploader;
    struct upload *upload; /* NULL: an abort that nobody waits for */
    struct list link;      /* in upload->errands or uploader->aborts */

    /* Under the uploader's lock. */
    struct list arrived;
    bool running; /* its end will arrive */

    /* The thread's. */
    int64_t started_ms;
    struct store_call call;
    char *key, *upload_id;       /* of an abort */
    struct store_part *complete; /* of a COMPLETE */
    size_t part;
    bool asked_memory, granted, canceled;
    bool told; /* who waits for it has heard that it takes too long */
    bool slot; /* one of the uploads_max */
    struct memory_request request;
    void **pages;
    struct iovec *pieces;
    size_t page_count;
    uint64_t bytes; /* in the body */

    /* Of jobs: written on the pool's thread before it ends. */
    struct job job;
    struct waiter waiter;
    atomic_bool begun; /* it has left the pool's queue */
    int rc;
};

/* asking: it waits for memory, its bytes are not read yet */
enum part_state { PART_UNSENT, PART_ASKING, PART_SENDING, PART_LANDED };

struct part {
    enum part_state state;
    uint64_t size; /* of the bytes that were read */
    char etag[STORE_ETAG_MAX];
};

struct upload {
    /* Set at birth. */
    struct uploader *uploader;
    struct inode *inode; /* a reference */

    /* The thread's. */
    enum upload_state state;
    struct list link; /* in uploader->uploads */
    struct list turn; /* in uploader->begins, ready or parked */
    struct list errands;
    int64_t due_ms;
    int64_t waiting_ms; /* since when it waits for its turn or for memory */
    int attempts;       /* failures in a row */
    bool halting, busy;
    bool queued; /* in uploader->begins */
    int halt_rc; /* why it halts: 0 a hold or an orphan, else an error */

    /* One try. */
    char *key;
    char id[UPLOAD_ID_MAX];
    bool copying; /* attributes alone differ */
    bool multipart;
    bool conditional; /* a patch of an object that others may have replaced */
    bool asked;       /* headers and metadata that a rewrite keeps are known */
    bool guarded;     /* HEAD told that the base stands, where the endpoint knows no If-Match */
    bool unsettled;   /* a PUT, COPY or COMPLETE of `id` may have happened */
    int unsettled_rc;
    char base_key[STORE_KEY_MAX + 1];
    struct identity base;
    struct store_fields base_meta, headers, meta;
    bool versioned; /* the three below are what goes up */
    uint64_t content_version, attribute_version, size;
    struct part_plan plan;
    char *upload_id;
    bool lost; /* the server does not know upload_id any more; parts that are on their way still name it */
    bool mtime_sent; /* at Create */
    int64_t mtime_ns;
    struct part *parts;
    size_t part_count, next_part;
    size_t parts_out; /* asking or sending */
    size_t parts_asking;
    int round;
    bool frozen; /* this upload holds the writers */
};

struct uploader {
    /* Set at birth. */
    struct cache *cache;
    size_t memory_max; /* bytes that bodies may take at once, but for a single larger one */
    struct pool
        *jobs; /* of errands that block; its own, because a rename waits for them and others for the rename */

    /* Under `lock`. */
    struct lock lock;
    struct gate wake, drained;
    struct list poked;   /* inodes; each holds a reference */
    struct list arrived; /* errands */
    struct list unsent;  /* inodes; each holds a reference */
    size_t unsent_count;
    bool stopping;
    uint64_t sent_files, sent_bytes, sent_again_bytes;
    size_t busy_shown, parked_shown;

    /* The thread's. */
    pthread_t thread;
    struct waiter waiter;
    struct list uploads, begins, ready, parked, aborts;
    size_t busy_count, parked_count;
    size_t slots_used;
    uint64_t bytes_used;
    int64_t progress_ms; /* when an errand last ended well */
    bool probed;
    bool stops; /* it has seen `stopping` */
    bool ended;
};

/* errand.c */
struct errand *errand_new(struct upload *upload, enum errand_kind kind);
/* A call about the object of the upload; slot: it carries data. */
struct errand *errand_new_call(struct upload *upload, enum store_op op, bool slot);
/* The call's inputs are filled in; its end arrives. */
void errand_start(struct errand *errand);
/* Memory for `bytes` of body, then EVENT_GRANTED. -EFBIG: the budget never has that much. */
int errand_ask(struct errand *errand, uint64_t bytes);
/* Once granted: the pages. */
void errand_claim(struct errand *errand);
/* Cuts the pieces to `length` and makes them the call's body. */
void errand_set_body(struct errand *errand, uint64_t length);
/* Its end comes soon; a PUT, COPY or COMPLETE is left alone unless `all`. */
void errand_cancel(struct errand *errand, bool all);
/* It has ended: pages and memory go back. */
void errand_free(struct errand *errand);
void errand_abort_multipart(struct uploader *uploader, char **key, char **upload_id);

/* upload.c */
struct upload *upload_new(struct uploader *uploader, struct inode *inode);
void upload_step(struct upload *upload, enum upload_event event, struct errand *errand);
/* Bytes that its next errand will ask for. */
uint64_t upload_next_bytes(const struct upload *upload);
/* It has no errand and rests: its parts in the bucket are aborted, the struct goes. */
void upload_free(struct upload *upload);
const char *upload_state_name(enum upload_state state);

/* upload.c, for sending.c */
void upload_set_state(struct upload *upload, enum upload_state state);
/* Writers wait, and go on. */
void upload_freeze_locked(struct upload *upload);
void upload_thaw_locked(struct upload *upload);
void upload_thaw(struct upload *upload);
/* It has bytes to send. */
void upload_wait_for_turn(struct upload *upload);
/* The try is over without a word: nothing of it runs any more. */
void upload_rest(struct upload *upload);
/* The try is over: who waits hears it now; errands that still run end first, then it is parked. */
void upload_fail(struct upload *upload, int rc, const char *words);
void upload_fail_call(struct upload *upload, int rc, const struct store_error *error);
/* True when the upload is to rest, and does if nothing runs any more: no new errand then. */
bool upload_halts(struct upload *upload);
/* The parts in the bucket, if any, are aborted. */
void upload_drop_multipart(struct upload *upload);
void upload_build_meta(struct upload *upload, const struct attributes *attributes, bool with_mtime);
/* What is to go up is of one version: the one that stands now. */
void upload_take_version_locked(struct upload *upload, bool with_attributes,
                                struct attributes *ret_attributes);
enum store_ability upload_conditions_honoured(struct upload *upload);
void upload_ask_head(struct upload *upload);

/* sending.c: what carries bytes, one PUT or parts. */
void sending_start_whole(struct upload *upload);
void sending_whole(struct upload *upload, struct errand *errand); /* its memory is there */
void sending_create(struct upload *upload);
void sending_heard_create(struct upload *upload, struct errand *errand);
/* The upload exists in the bucket: its parts go, those that landed before do not. */
void sending_start(struct upload *upload);
void sending_next_part(struct upload *upload);
void sending_granted_part(struct upload *upload, struct errand *errand);
void sending_heard_part(struct upload *upload, struct errand *errand);
void sending_complete(struct upload *upload);

/* uploader.c, for upload.c */
/* Answers who waits for what remote holds by now; with rc < 0 also all the others. */
void uploader_answer(struct inode *inode, int rc);
/* Attributes were wished for an object that is not there any more: who wished hears -ESTALE, looks again, and sets them on
 * what stands there. */
void uploader_forgo_attributes(struct inode *inode);
void uploader_count_sent(struct uploader *uploader, uint64_t files, uint64_t bytes, uint64_t again);

#endif
