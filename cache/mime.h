/* mime: the Content-Type of an object that had none: by the end of its name, as browsers and the consoles of buckets expect it. Pure.
 *
 *      a type that the object has       kept: somebody said so
 *      ... which its old name gave it   by its new name
 *      none                             by its name; a directory's marker: application/x-directory, as s3fs has it; else octets
 *
 * What a name gives is not kept in the inode: it follows from the name.
 */
#ifndef CACHE_MIME_H
#define CACHE_MIME_H

#include "s3/store.h"

/* Of a key, or its last part. Never NULL; static. */
const char *mime_type(const char *key);
/* The headers of a request that makes the object `key`, of what stood under base_key (NULL: of nothing): a copy with the type in it. */
void mime_headers(const struct store_fields *headers, const char *base_key, const char *key,
                  struct store_fields *ret_headers);

#endif
