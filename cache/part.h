/* part: how a file is cut for a multipart upload. Pure.
 *
 * A cut depends on the number of a part only, so that a file that grows while it goes up keeps the parts that landed:
 *
 *      parts 1 ... 1000 of `bytes`, the next 1000 of twice that, and so on; never above `bytes_max`
 *
 * 8 MiB: 7.8 GiB in the first thousand, 5 TiB below part 10 000. Equal cuts (Cloudflare R2 wants all parts but the last
 * of one size) depend on the size at the start instead; a file that outgrows them starts again.
 *
 * Where much of a file is unchanged, its first parts are `pieces` instead, some copied from the object that it was made from
 * (mosaic.h), and the parts by number follow behind the last of them.
 */
#ifndef CACHE_PART_H
#define CACHE_PART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PART_BYTES_MIN   ((uint64_t)5 << 20) /* S3's least size of any part but the last */
#define PART_BYTES_MAX   ((uint64_t)5 << 30)
#define OBJECT_BYTES_MAX ((uint64_t)5 << 40)

struct part_piece { /* begins where the one before it ends */
    uint64_t end;
    bool copied;
};

struct part_plan {
    uint64_t bytes;     /* of the first parts; a file up to this size goes up in one PUT */
    uint64_t bytes_max; /* no part is larger: it must fit into memory as a whole */
    bool equal;
    struct part_piece *pieces; /* NULL: none */
    size_t piece_count;
};

/* The plan for a file of `size`: bytes 0 is the default of 8 MiB. Parts never need more than a quarter of the memory
 * limit, or 5 MiB where that is more. 0, or -EFBIG: 10 000 such parts, or S3's 5 TiB, do not hold it. */
int part_plan(uint64_t size, uint64_t bytes, uint64_t memory_limit, bool equal, struct part_plan *ret_plan);
void part_plan_copy(struct part_plan *to, const struct part_plan *from);
/* No pieces any more. */
void part_plan_release(struct part_plan *plan);
/* Bytes of the part `index`, were there no pieces before it. */
uint64_t part_bytes(const struct part_plan *plan, size_t index);
bool part_copied(const struct part_plan *plan, size_t index);
/* Where part `index` (from 0) starts and ends, whatever the size of the file. */
void part_range(const struct part_plan *plan, size_t index, uint64_t *ret_start, uint64_t *ret_end);
/* How many parts `size` bytes take; more than STORE_PARTS_MAX: the plan does not hold it. */
size_t part_count(const struct part_plan *plan, uint64_t size);

#endif
