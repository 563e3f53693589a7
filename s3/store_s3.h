/* store_s3: inside the S3 implementation of store.h: calls in flight, and what is more than one request.
 *
 *      store_start --> request (request.h) --> done()
 *                  \-> deletion: many keys one by one, 16 at a time, where DeleteObjects cannot serve
 */
#ifndef S3_STORE_S3_H
#define S3_STORE_S3_H

#include "s3/operation.h"

struct store_s3 {
    struct store store;
    struct bucket bucket; /* has its own lock */

    /* Under lock: also call->running and request->deletion of all calls in `calls`. */
    struct lock lock;
    struct gate idle; /* opened when the last call has ended */
    struct list calls;
    size_t in_flight; /* calls that are not done */
    size_t owed;      /* calls whose done() has not returned */
    bool closing;
};

void store_s3_start(struct store *store, struct store_call *call);
void store_s3_cancel(struct store *store, struct store_call *call);
void store_s3_cancel_locked(struct store_call *call);
/* The end of a call whose rc is set. Frees nothing of the request. */
void store_s3_end(struct store_s3 *s3, struct store_call *call);

/* store_delete.c: deletes call->keys one by one, then ends the call. The request stays until then. */
void deletion_begin(struct store_s3 *s3, struct request *request);
void deletion_cancel_locked(struct deletion *deletion);

/* store_probe.c */
int store_s3_probe(struct store *store, const char *prefix, struct waiter *waiter);

#endif
