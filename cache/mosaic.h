/* mosaic: how a file that is mostly what the bucket has already is put together there: unchanged ranges of the old object are
 * copied by the server, the others are sent. Pure.
 *
 *      old object   |AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|
 *      changed                     ==                   =    =             base_size, and what was appended: =====
 *      the file     |---- copied ---|-sent-|- copied -|-- sent --|- copied -|-- parts by number (part.h) ----->
 *
 * A copied piece is as large as it may be, and touches nothing that changed: nobody needs its bytes here. A sent piece
 * has at least S3's least size, so it takes in bytes of the old object that must be here before it goes (content_fill).
 * Pieces end with the last copied one; behind it the file may grow while it goes up.
 *
 * Every piece but the last of a file has PART_BYTES_MIN or more, a copied one also when it is the last, and PART_BYTES_MAX at most;
 * a sent one fits plan->bytes_max. Where so much is scattered that MOSAIC_PARTS_MAX parts do not do, short unchanged
 * ranges are sent as well, from the shortest on.
 *
 * Not for endpoints that want equal parts, or cannot copy parts: their files go up whole.
 */
#ifndef CACHE_MOSAIC_H
#define CACHE_MOSAIC_H

#include "cache/extent.h"
#include "cache/part.h"

#define MOSAIC_COPY_BYTES                                                                                    \
    ((uint64_t)256 << 20) /* of one copied piece: several run at once, one takes seconds */
#define MOSAIC_COPIES                                                                                        \
    2000 /* of larger objects pieces are larger, so that there are no more than about these */
#define MOSAIC_PARTS_MAX 9000 /* of S3's 10 000: the file may grow */

/* Cuts anew: `plan` as part_plan() made it for `size` gets pieces. `changed` are the ranges whose bytes are not those of the old
 * object, of which base_size bytes are still part of the file. False: nothing can be copied, there are no pieces. */
bool mosaic_cut(struct part_plan *plan, const struct extents *changed, uint64_t base_size, uint64_t size);
/* All that is copied still is what the old object has there. */
bool mosaic_holds(const struct part_plan *plan, const struct extents *changed, uint64_t base_size);
/* The ranges that are copied: need not be here. */
void mosaic_copied(const struct part_plan *plan, struct extents *ret_copied);

#endif
