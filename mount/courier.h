/* courier: objects and files moved side by side, for the storage operations: one open session with a bucket, a crew of threads that work
 * through numbered tasks, what has gone wrong, and how far it is.
 *
 *      courier_begin -> { courier_each(tasks) ... } -> courier_end: the exit status
 *
 * Memory: COURIER_CREW tasks at once, each with one buffer of courier_part() bytes; 256 MiB at most in all (names are not counted).
 * Ctrl-C: SIGINT and SIGTERM interrupt all waiters; tasks end with -EINTR and clear up what is their own. A second one, later, ends the
 * process where it stands.
 * Threads: courier_fail() and the counters from any task; the rest by the command's.
 */
#ifndef MOUNT_COURIER_H
#define MOUNT_COURIER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/lock.h"
#include "base/waiter.h"
#include "mount/progress.h"
#include "mount/storage_words.h"
#include "s3/store.h"

#define COURIER_CREW        16
#define COURIER_PART        ((uint64_t)8 << 20) /* ranges and parts; larger ones where 10 000 would not do */
#define COURIER_WHOLE_MAX   ((uint64_t)8 << 20) /* one PUT */
#define COURIER_PATIENCE_MS 60000

struct courier {
    const char *command, *bucket;
    struct store *store;
    struct ephemeral *ephemeral; /* NULL: the storage has keys of its own */
    struct lock lock;            /* of what is printed */
    struct waiter waiters[COURIER_CREW];
    struct courier_room { /* one for each of the crew, kept: fresh memory costs more than the copy into it */
        char *bytes;
        size_t size;
    } rooms[COURIER_CREW];
    atomic_uint_fast64_t files, bytes, files_done, bytes_done;
    atomic_bool stopped; /* by a signal */
    atomic_uint failures;
    bool json;
    struct progress progress; /* under lock */
    struct buf done;          /* under lock; of JSON: what was moved, objects between commas */
};

/* Opens the session; 0, or the exit status, and it has been said why. */
int courier_begin(struct courier *courier, const char *command, const struct storage *storage,
                  const char *bucket, bool json);
/* Prints the JSON, closes. 0: all was done; 1: something failed; 130: stopped. */
int courier_end(struct courier *courier);

typedef void courier_act(struct courier *courier, struct waiter *waiter, void *context, size_t index);
/* A signal has come: nothing new is begun. For work outside of tasks. */
bool courier_stopped(struct courier *courier);
/* All tasks are done, or the courier was stopped. `crew`: at most so many at once (0: COURIER_CREW). */
void courier_each(struct courier *courier, size_t count, size_t crew, courier_act *act, void *context);
/* One line on stderr: the name, what failed, why, what to do. */
void courier_fail(struct courier *courier, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* The same of a call that ended badly. */
void courier_fail_call(struct courier *courier, const char *name, const char *what,
                       const struct store_call *call, int rc);
/* One file is through: a line, or a member of the JSON. */
void courier_tell(struct courier *courier, const char *what, const char *from, const char *to, uint64_t size);
/* One object (or upload) is gone, or would be: "removed", "would remove"; its key. */
void courier_tell_gone(struct courier *courier, const char *what, const char *key);
/* At least `length` bytes for the task whose waiter that is, until it asks again or ends. */
char *courier_room(struct courier *courier, const struct waiter *waiter, size_t length);
/* store_wait() with patience; -EINTR when stopped. */
int courier_call(struct courier *courier, struct store_call *call, struct waiter *waiter);
/* The size of ranges and parts of so large an object. */
uint64_t courier_part(uint64_t size);
size_t courier_crew(uint64_t part);
/* Of `count` objects, those up to this size are moved one by each of the crew; larger ones one after another by all of it. */
uint64_t courier_alone(size_t count);
/* Each object below the prefix, page by page, all of them. each: false ends it. 0, or the exit status. */
int courier_list(struct courier *courier, const char *prefix,
                 bool (*each)(void *context, const struct store_object *object), void *context);

/* courier_up.c. A file or a directory; key NULL: its own name. */
void courier_up(struct courier *courier, const char *local, const char *key);
/* courier_down.c. One object to a file; all below a prefix into a directory. */
void courier_down(struct courier *courier, const char *key, const char *local);
void courier_down_all(struct courier *courier, const char *prefix, const char *directory);

#endif
