/* condition: what a PUT or a Complete may overwrite.
 *
 *      patched      the object that it was made from: If-Match
 *      exclusive    nothing (If-None-Match), or what this file's name left there itself (If-Match): O_EXCL
 *      at birth     the same (birth.h)
 *      else         whatever stands there: the last writer wins
 *
 * Where the endpoint honours no conditions a HEAD before asks the same question (upload.c); nobody completes at birth there.
 * Threads: the uploader's; takes names, inode.
 */
#ifndef CACHE_CONDITION_H
#define CACHE_CONDITION_H

#include "cache/uploader.h"

void condition_set(struct upload *upload, struct store_call *call);
/* An exclusive one may overwrite this. */
bool condition_allows(struct upload *upload, const struct store_object *seen);

#endif
