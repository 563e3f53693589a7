/* uploader: the inside of the way up; for the files that are it, and those that read its state. Others stay with upload.h.
 *
 *      poked inodes, errands that ended --mailbox--> the thread --> upload_step(upload, event, errand)
 *                                                        |
 *      urgent, begins: tries that wait for their turn (UPLOADS_BUSY_MAX at once); somebody waits for those in urgent
 *      ready:  tries that have bytes to send (as many requests as window.h allows, uploads_max at most; half of the memory limit)
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
#include "cache/journal.h"
#include "cache/part.h"
#include "cache/window.h"

#define UPLOADS_BUSY_MAX 64
/* While files are made by the hundred no more tries begin, for they share the processors: when so many wait, until so long after
 * the last file was made, but none waits longer than that. */
#define UPLOADS_DEFER_COUNT 32
#define UPLOADS_DEFER_MS    20
#define UPLOADS_DEFER_MAX   2000
#define UPLOAD_JOBS         8 /* threads */

enum upload_event { EVENT_GO, EVENT_HALT, EVENT_GRANTED, EVENT_ENDED };
enum errand_kind { ERRAND_CALL, ERRAND_FILL, ERRAND_PROBE, ERRAND_CONFLICT, ERRAND_KEEP };

struct errand {
    /* Set at birth. */
    enum errand_kind kind;
    struct uploader *uploader;
    struct upload *upload; /* NULL: an abort that nobody waits for */
    struct list link;      /* in upload->errands or uploader->aborts */

    /* Under the uploader's lock. */
    struct list arrived;
    bool running;    /* its end will arrive */
    uint64_t ticket; /* of the window */
    bool slowed;

    /* A network thread's while the call runs. */
    uint64_t taken; /* of its bytes, as counted in inode->taken_bytes */

    /* The thread's. */
    int64_t started_ms;
    struct store_call call;
    char *key, *upload_id;       /* of an abort */
    struct inode *aborted;       /* whose upload that was; a reference */
    struct store_part *complete; /* of a COMPLETE */
    size_t part;
    bool asked_memory, granted, canceled;
    bool flushing; /* the disk has to hear of something first: the call has not begun */
    struct journal_wait flush;
    bool told;  /* who waits for it has heard that it takes too long */
    bool slot;  /* one of the window's */
    bool early; /* ... and of early_max */
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
    uint64_t size;            /* of the bytes that were read */
    uint64_t content_version; /* ... when they were */
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
    int64_t begun_ms;   /* when it was last asked for */
    bool forced;        /* ... also in the middle of somebody's writing */
    uint64_t asked_version;
    int attempts;  /* failures in a row */
    bool untagged; /* the last try was refused since it gave tags along: this one does not */
    bool halting, busy;
    bool queued; /* in uploader->urgent, or begins */
    bool urgent;
    int halt_rc; /* why it halts: 0 a hold or an orphan, else an error */

    /* One try. */
    char *key;
    char id[UPLOAD_ID_MAX];
    uint64_t id_content_version, id_attribute_version; /* that a PUT of this id carries */
    bool copying;                                      /* attributes alone differ, or the place */
    bool displaced;                                    /* what it is made from stands under another key */
    bool moves; /* nobody asked for it: its object follows its name, whatever else differs stays */
    bool multipart;
    bool conditional; /* a patch of an object that others may have replaced */
    bool asked;       /* headers and metadata that a rewrite keeps are known */
    bool kept;        /* what is open and overwritten by it has been kept */
    bool exclusive;   /* it overwrites nothing but what is, or was, this file's own */
    bool at_birth;    /* the file has another name by now: completed where its parts are, copied after that */
    bool guarded;     /* HEAD told that the base stands, where the endpoint knows no If-Match */
    bool unsettled;   /* a PUT, COPY or COMPLETE of `id` may have happened */
    int unsettled_rc;
    bool inherited; /* ... in an earlier process */
    bool by_parts;  /* a copy that the endpoint does not make at once */
    char *base_key; /* what it is made from; NULL: nothing */
    struct identity base;
    struct store_fields base_meta, headers, meta;
    struct store_fields tags; /* of the base, for a PUT or a Create */
    bool tags_known;
    struct store_fields typed; /* headers, with the type that the name gives (mime.h): what is sent */
    char *xattrs;              /* wanted of the attribute version that goes up; NULL: as base_meta has them */
    bool versioned;            /* the three below are what goes up */
    uint64_t content_version, attribute_version, size;
    struct part_plan plan;
    struct extents copied;   /* ranges of the base that go up by copies (mosaic.h): not filled in */
    uint64_t fitted_version; /* contents that the pieces of the plan were seen to fit */
    int recuts;              /* cuts in a row that a writer spoiled */
    bool foreign;            /* a copy met another version: a conflict, when all errands have ended */
    char *upload_id;
    bool unlisted; /* of an earlier process: the server is asked for its parts first */
    bool lost; /* the server does not know upload_id any more; parts that are on their way still name it */
    bool mtime_sent; /* at Create */
    int64_t mtime_ns;
    struct part *parts;
    size_t part_count, next_part;
    size_t parts_out; /* asking or sending */
    size_t parts_asking;
    int round;
    /* The file is still written, and nobody asked for it: only parts that its writer has left behind go. */
    bool early;
    uint64_t early_end; /* ... as far as this was seen */
    bool frozen;        /* this upload holds the writers */
};

struct uploader {
    /* Set at birth. */
    struct cache *cache;
    size_t memory_max; /* bytes that bodies may take at once, but for a single larger one */
    /* Parts in flight of files that are still written. A writer waits for a thread of ours to wake up at each write, which takes
     * milliseconds while all processors are busy: so half of them, and two parts at least, are for what goes up early (with one, they idle while the
     * writer waits for the disk). */
    size_t early_max;
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
    bool dozes; /* all tries are put off for a moment: who asks for one more in good time does not wake it */
    uint64_t sent_files, sent_bytes, sent_again_bytes, copied_bytes;
    size_t busy_shown, parked_shown;
    struct window window;
    bool room_grew; /* others may go instead of one that waits */

    /* The thread's. */
    pthread_t thread;
    struct waiter waiter;
    struct list uploads, urgent, begins, ready, parked, aborts;
    size_t busy_count, parked_count, queued_count;
    size_t slots_used, early_used;
    uint64_t bytes_used;
    int64_t waiting_ms;  /* when those that wait are looked at again */
    int64_t publish_ms;  /* when open files are looked at again (publishing.h) */
    int64_t progress_ms; /* when an errand last ended well */
    bool probed;
    bool copies_refused; /* the endpoint copies no parts, whatever it said of itself */
    bool stops;          /* it has seen `stopping` */
    bool ended;
};

/* errand.c */
struct errand *errand_new(struct upload *upload, enum errand_kind kind);
/* A call about the object of the upload; slot: it carries data. */
struct errand *errand_new_call(struct upload *upload, enum store_op op, bool slot);
/* The call's inputs are filled in; its end arrives. */
void errand_start(struct errand *errand);
/* The same, when so much of the journal is on the disk. */
void errand_start_flushed(struct errand *errand, uint64_t appended);
/* The uploader's thread, when it is. True: the call has begun; else it is over, with call.rc. */
bool errand_heard_flush(struct errand *errand);
/* Memory for `bytes` of body, then EVENT_GRANTED. -EFBIG: the budget never has that much. */
int errand_ask(struct errand *errand, uint64_t bytes);
/* Once granted: the pages. */
void errand_claim(struct errand *errand);
/* Cuts the pieces to `length` and makes them the call's body. */
void errand_set_body(struct errand *errand, uint64_t length);
/* Its end comes soon; a PUT, COPY or COMPLETE is left alone unless `all`. */
void errand_cancel(struct errand *errand, bool all);
/* The server may be at work on it for minutes without a word. */
bool errand_thinks(const struct errand *errand);
/* It has ended: pages and memory go back. */
void errand_free(struct errand *errand);
/* Behind; the journal hears when it is done. */
void errand_abort_multipart(struct upload *upload, char **key, char **upload_id);

/* upload.c */
/* With the lock of the inode held. It goes on with what an earlier process began (resuming.h). */
struct upload *upload_new_locked(struct uploader *uploader, struct inode *inode);
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
/* It does now what somebody asked for. */
void upload_take_order_locked(struct upload *upload);
/* What was asked for is asked for again. */
void upload_order_again_locked(struct upload *upload);
/* A writer has opened it since, and is in the middle: it waits for his close. */
bool upload_gives_way_locked(const struct upload *upload);
/* The try is over without a word: nothing of it runs any more. */
void upload_rest(struct upload *upload);
/* ... and another one begins, from the plan. */
void upload_start_over(struct upload *upload);
/* What was begun earlier can go on: its base, and the rest to be sent, are what they were. */
bool upload_fits_locked(const struct upload *upload);
/* The try is over: who waits hears it now; errands that still run end first, then it is parked. */
void upload_fail(struct upload *upload, int rc, const char *words);
/* The same where its bytes cannot be read here. */
void upload_fail_local(struct upload *upload, int rc);
/* The same with the words of the store, and whether that was a refusal. */
void upload_fail_call(struct upload *upload, int rc, const struct store_error *error);
/* True when the upload is to rest, and does if nothing runs any more: no new errand then. */
bool upload_halts(struct upload *upload);
/* The parts in the bucket, if any, are aborted. */
void upload_drop_multipart(struct upload *upload);
/* The attributes as they stand now are what goes up. */
void upload_take_attributes_locked(struct upload *upload, struct attributes *ret_attributes);
void upload_build_meta(struct upload *upload, const struct attributes *attributes, bool with_mtime);
/* What is to go up is of one version: the one that stands now. */
void upload_take_version_locked(struct upload *upload, bool with_attributes,
                                struct attributes *ret_attributes);
enum store_ability upload_conditions_honoured(struct upload *upload);
void upload_ask_head(struct upload *upload);
/* Starts a PUT, COPY or COMPLETE, which the journal hears of before. */
void upload_try(struct upload *upload, struct errand *errand);

/* upload.c, for tagging.c */
/* The next thing that is missing before the object itself can be sent. */
void upload_advance(struct upload *upload);

/* upload.c, for outcome.c */
/* It did not happen, and nobody is to blame: once more, and only if that goes on does anybody hear of it. */
void upload_fail_quietly(struct upload *upload, const char *words);
/* What it was made from was replaced or removed by another client. */
void upload_meet_conflict(struct upload *upload);
/* What stands under the key is what this was made from. */
bool upload_is_base(const struct upload *upload, const struct store_object *seen);
/* What a rewrite keeps. */
void upload_take_fields(struct upload *upload, const struct store_fields *meta,
                        const struct store_fields *headers);

/* outcome.c: what became of a PUT, COPY or COMPLETE: confirmed, refused, or in doubt until a HEAD tells. */
/* One of this key was never answered, also to an earlier process: it is to be settled first. */
bool outcome_is_open(struct upload *upload);
/* Asks what stands there. */
void outcome_settle(struct upload *upload);
void outcome_heard(struct upload *upload, struct errand *errand);
void outcome_heard_settling(struct upload *upload, struct errand *errand);

/* sending.c: what carries bytes, one PUT or parts. */
void sending_start_whole(struct upload *upload);
void sending_whole(struct upload *upload, struct errand *errand); /* its memory is there */
void sending_create(struct upload *upload);
/* A copy that is too large for one call. */
void sending_copy_by_parts(struct upload *upload);
void sending_heard_create(struct upload *upload, struct errand *errand);
/* The upload exists in the bucket: its parts go, those that landed before do not. */
void sending_start(struct upload *upload);
void sending_next_part(struct upload *upload);
void sending_granted_part(struct upload *upload, struct errand *errand);
void sending_heard_part(struct upload *upload, struct errand *errand);
void sending_complete(struct upload *upload);

/* Ranges of a large file that did not change may be copied where they are. */
bool uploader_copies_parts(const struct uploader *uploader);

/* uploader.c, for upload.c */
/* Answers who waits for what remote holds by now; with rc < 0 also all the others. */
void uploader_answer(struct inode *inode, int rc);
/* Attributes were wished for an object that is not there any more: who wished hears -ESTALE, looks again, and sets them on
 * what stands there. */
void uploader_forgo_attributes(struct inode *inode);
void uploader_count_sent(struct uploader *uploader, uint64_t files, uint64_t bytes, uint64_t again);
void uploader_count_copied(struct uploader *uploader, uint64_t bytes);

#endif
