/* ephemeral: a store whose keys are made for this invocation and deleted at its end, where the storage says so (preset hyperstack); any
 * other storage is opened as it is.
 *
 *      ephemeral_open -> what earlier invocations left is deleted, a key is made, remembered and waited for -> store ... ephemeral_end
 *
 * Its state files stand in HOME_BASE/keys, one for each invocation. Ctrl-C: the caller hears it, and ends as always.
 */
#ifndef MOUNT_EPHEMERAL_H
#define MOUNT_EPHEMERAL_H

#include "mount/storage.h"

struct ephemeral;
struct waiter;

/* *ret_ephemeral: NULL where no key was made; to be ended after a failure, too. Errors as storage_open() and api.h. */
int ephemeral_open(const struct storage *storage, const char *bucket, struct waiter *waiter,
                   struct ephemeral **ret_ephemeral, struct store **ret_store, struct buf *why);
/* After the store is free. -errno with words: the key is still there, and remembered. */
int ephemeral_end(struct ephemeral *ephemeral, struct buf *why);

#endif
