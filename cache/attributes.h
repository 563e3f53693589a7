/* attributes: one change of what is wanted of an inode's attributes: recorded, then sent, now or behind.
 *
 *      attributes_try --> once: on top of what stands there now --> attributes_change --> apply, record, send
 *            '<---- -ESTALE: another client replaced it in between: once more
 *
 * For attributes.c (modes, owners, times) and xattrs.c. Threads: any that may block, where a waiter is given.
 */
#ifndef CACHE_ATTRIBUTES_H
#define CACHE_ATTRIBUTES_H

#include "cache/core.h"

typedef int attributes_once(void *context, struct inode *inode, struct waiter *waiter);
/* Runs `once` when it is known what stands there. 0, or its error, or that of looking. */
int attributes_try(struct inode *inode, struct waiter *waiter, attributes_once *once, void *context);

/* With the inode's lock held: makes of *next, which is a copy of what is wanted, what it shall be. -errno: nothing changes. */
typedef int attributes_apply(void *context, const struct inode *inode, struct wanted *next);
/* On what is no root of a mount without a key: durable as the mount has it (cache_set_attributes). After a failure all is as it
 * was. */
int attributes_change(struct inode *inode, struct waiter *waiter, attributes_apply *apply, void *context);
/* A change of `mask` would have to wait for the server or the disk. */
bool attributes_must_wait(struct inode *inode, unsigned mask, const struct handle *handle);

#endif
