/* mute_store: a store that may be read and is not written: each call that would change the bucket fails at once with -EIO, which
 * its caller takes for a try that is to be made again, so that nothing that the journal knows of it changes.
 *
 * For commands that open a cache directory and must not upload what else it holds.
 */
#ifndef MOUNT_MUTE_STORE_H
#define MOUNT_MUTE_STORE_H

#include "s3/store.h"

/* Takes the store below it; store_free() of what is returned frees both. */
struct store *mute_store_new(struct store **below);

#endif
