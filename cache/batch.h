/* batch: many store calls for one request, a few in flight at once; blocking, interruptible.
 *
 * Use: fill the calls as for store_start (their `done` and `owner` are overwritten), run, read each call's rc, release each.
 * Errors: the batch's own are -EAGAIN (waiter NULL, nothing sent) and -EINTR (what ran was canceled, what had not begun
 *         has rc -ECANCELED); else 0, or, with stop_on_error, the first error. All calls have ended when it returns.
 */
#ifndef CACHE_BATCH_H
#define CACHE_BATCH_H

#include "base/waiter.h"
#include "s3/store.h"

#define BATCH_IN_FLIGHT 16

struct batch_options {
    size_t in_flight_max; /* 0: BATCH_IN_FLIGHT */
    bool stop_on_error;   /* an error other than -ENOENT: nothing more begins, what runs is let end */
};

int batch_run(struct store *store, struct store_call *calls, size_t count,
              const struct batch_options *options, struct waiter *waiter);
void batch_release(struct store_call *calls, size_t count);

#endif
