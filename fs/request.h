/* request: one question of the kernel, from its arrival to its one reply.
 *
 *      NEW --answered inline------------------------------------------------> REPLIED
 *       |--request_start, -EAGAIN--> QUEUED --a thread of the pool--> RUNNING --> REPLIED
 *       |                               '--INTERRUPT: withdrawn, EINTR------------> REPLIED
 *       '--request_wait_for (read, flush, fsync)--> ASYNC --done() or INTERRUPT---> REPLIED
 *
 * An operation is a function that is run with waiter NULL first. It replies and returns 0; or it returns -errno
 * and the request replies that; -EAGAIN without a waiter means: once more, on a thread that may block.
 *
 * INTERRUPT: libfuse calls back while it holds locks under which nothing may be answered. The callback only takes a reference
 * into a variable of its thread; requests_interrupted() acts on it when libfuse has let go. Whoever processes messages calls
 * it after each one.
 *
 * Use: request_init() on the stack -> request_start(). Or request_async_new() -> start the asynchronous work -> request_started().
 * Owns: references to inodes. Names and bytes are libfuse's while NEW and inline; they are copied when the request waits.
 * Threads: as the drawing says; each request ends by exactly one request_error() or request_reply_*(), which is asserted.
 */
#ifndef FS_REQUEST_H
#define FS_REQUEST_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/pool.h"
#include "base/waiter.h"
#include "cache/cache.h"
#include "fs/libfuse.h"

#define REQUESTS_THREADS    40
#define REQUESTS_GROWING    24
#define REQUESTS_QUEUE_MAX  4096
#define REQUESTS_BYTES_SOFT ((size_t)16 << 20) /* bytes of waiting writes above which the log says so */

struct fs;
struct implied;
struct request;

struct requests {
    struct fs *fs;
    struct pool *pool;
    struct pool
        *growing; /* of operations that may wait until less is unsent: the others find threads all the same */
    struct lock lock;
    struct list waiting; /* all requests that are not on a stack; under lock */
    size_t count;        /* of them; under lock */
    size_t bytes;        /* of writes among them; under lock */
    struct gate turn;    /* opened when count falls to 0 and, once closed, when a request was started */
    bool closed;         /* nothing may begin to wait any more; under lock */
    atomic_uint_fast64_t queued, async, interrupted, refused; /* so many so far, for status */
};

struct operation {
    const char *name;
    int (*run)(struct request *request, struct waiter *waiter);
    bool grows; /* it may make more unsent, and has to wait for that */
};

enum request_state { REQUEST_NEW, REQUEST_QUEUED, REQUEST_RUNNING, REQUEST_ASYNC, REQUEST_REPLIED };
enum request_wait { WAIT_NONE, WAIT_POOL, WAIT_READ, WAIT_SYNC };

struct request {
    /* Set at birth. */
    struct requests *requests;
    struct fs *fs;
    const struct operation *operation;

    /* The question; set by the operation. */
    struct inode *inode;    /* a reference: the node, or the directory of `name` */
    struct inode *to_inode; /* a reference: the directory of `to_name` */
    const char *name;
    const char *to_name; /* or a symlink's target */
    const void *bytes;
    size_t size;
    uint64_t offset;
    struct fuse_file_info file;
    bool has_file;
    struct implied *implied;       /* a use of it: what is read with fh 0 (implied.h) */
    bool listed_all;               /* ... whose end has been given */
    uint64_t from_fh, from_offset; /* of what is copied into `file` */
    unsigned flags; /* of rename, setxattr; attribute mask of setattr; mode of fallocate; whence of lseek */
    struct attributes attributes;
    bool clears_setid; /* of a write or an open (compat.h) */
    struct maker maker;

    /* The state. On a stack: that thread only. Else under requests->lock. */
    enum request_state state;
    fuse_req_t fuse;
    bool started; /* the work knows of it and can be interrupted */
    bool hooked;  /* libfuse knows whom to call at INTERRUPT */

    /* Only of requests that wait. */
    enum request_wait wait; /* set before others can see it */
    atomic_uint refs;
    atomic_bool interrupted; /* acted on once */
    struct list link;        /* in requests->waiting */
    struct waiter waiter;    /* WAIT_POOL */
    struct job job;          /* WAIT_POOL */
    union {
        struct cache_read read; /* WAIT_READ */
        struct cache_sync sync; /* WAIT_SYNC */
    };
};

int requests_init(struct requests *requests, struct fs *fs);
/* From now on what would have to wait is refused (ENOTCONN). */
void requests_close(struct requests *requests);
/* Interrupts all that wait; returns when none is left. After requests_close(). */
void requests_drain(struct requests *requests);
/* After requests_drain(). */
void requests_release(struct requests *requests);
/* Acts on the interrupt that this thread has just heard of, if any. */
void requests_interrupted(void);

void request_init(struct request *request, struct fs *fs, fuse_req_t fuse, const struct operation *operation);
/* Runs the operation inline or, where that cannot be, moves it to the pool. The stack's request is over. */
void request_start(struct request *request);
/* Answers instead of request_start(). */
void request_refuse(struct request *request, int rc);
/* An asynchronous request on the heap: one reference is the caller's, to be given to request_started(), one belongs to the
 * work that ends with the reply (request_async_unref there). NULL: refused and answered. */
struct request *request_async_new(struct fs *fs, fuse_req_t fuse, const struct operation *operation,
                                  enum request_wait wait);
/* Answers instead of any work: both references are given. */
void request_async_refuse(struct request *request, int rc);
/* The work was started (and may have ended): from now on it can be interrupted. */
void request_started(struct request *request);
/* The last one ends the pins of a read (cache_read_release) and the request. */
void request_async_unref(struct request *request);

/* The replies: this is the one place that answers the kernel. 0, or -errno when the kernel refused the reply (-ENOENT: it has
 * given up the request; the connection ended): then lookups and handles that the reply would have given are not given. */
int request_error(struct request *request, int rc); /* rc 0 or -errno */
int request_reply_entry(struct request *request, const struct fuse_entry_param *entry);
int request_reply_create(struct request *request, const struct fuse_entry_param *entry);
int request_reply_open(struct request *request);
int request_reply_attributes(struct request *request, const struct stat *stat, double valid_s);
int request_reply_link(struct request *request, const char *target);
int request_reply_written(struct request *request, size_t size);
int request_reply_offset(struct request *request, uint64_t offset);
int request_reply_bytes(struct request *request, const void *bytes, size_t size);
int request_reply_pieces(struct request *request, const struct iovec *pieces, size_t count);
int request_reply_needed(struct request *request,
                         size_t size); /* of a value that was asked for without room */
int request_reply_space(struct request *request, const struct statvfs *space);
void request_reply_none(struct request *request);

#endif
