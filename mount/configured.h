/* configured: what nodes of a document say, as storages, volumes and settings of a provider. configuration.c's own.
 *
 * Errors: -EINVAL, with a line for each problem in `why`; what was right is there all the same.
 */
#ifndef MOUNT_CONFIGURED_H
#define MOUNT_CONFIGURED_H

#include "mount/configuration.h"
#include "mount/document.h"

/* The fields of a storage's table; literal keys in a file that others can read go to `warnings`. storage_finish() is the caller's. */
int configured_storage(const struct node *table, struct storage *storage, struct buf *warnings,
                       struct buf *why);
/* One [[volumes]]; `root` for named storages, which join the configuration. */
int configured_volume(const struct node *table, const struct node *root, struct configuration *configuration,
                      struct buf *why);
/* One --volume: fields of a volume and of a storage. */
int configured_words(const char *text, size_t number, const struct node *root,
                     struct configuration *configuration, struct buf *why);
int configured_settings(const struct node *table, struct provider_settings *settings, struct buf *why);
/* { env = "NAME" } and its like. */
int configured_credential(const struct node *node, struct deferred *ret_credential, struct buf *why);

#endif
