/* extent: a set of byte ranges [start, end), sorted, never touching or overlapping. Pure.
 *
 *      0        4K        8K             64K      128K
 *      |--------|=========|---------------|========|----       {[4K,8K), [64K,128K)}
 *
 * Maximum: EXTENTS_MAX ranges; extents_add beyond it is -ENOSPC and changes nothing (the caller makes the file whole).
 */
#ifndef CACHE_EXTENT_H
#define CACHE_EXTENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define EXTENTS_MAX 65536

struct extent {
    uint64_t start, end;
};

struct extents {
    struct extent *all;
    size_t count, room;
};

int extents_add(struct extents *extents, uint64_t start, uint64_t end);
void extents_remove(struct extents *extents, uint64_t start, uint64_t end);
bool extents_cover(const struct extents *extents, uint64_t start, uint64_t end);
bool extents_touch(const struct extents *extents, uint64_t start, uint64_t end);
/* The first range at or after `from` that is in the set (or, with gaps, that is not), cut to `limit`; false: none. */
bool extents_next(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *ret_extent);
bool extents_next_gap(const struct extents *extents, uint64_t from, uint64_t limit, struct extent *ret_gap);
uint64_t extents_bytes(const struct extents *extents);
/* `to` holds the same ranges. */
void extents_copy(struct extents *to, const struct extents *from);
void extents_clear(struct extents *extents);
void extents_release(struct extents *extents);

#endif
