/* slab: the contents of many small files in few local ones: a disk that passes everything on to the one below, but for names of slots.
 *
 *      "4k-0000000000000007"        | slot 0 | slot 1 | ... | slot 3ff |      a slab: a file of the disk below
 *      "4k-0000000000000007.001"              '-- 4 KiB                       a slot: what its owner takes for a file
 *      "32k-0000000000000008.3ff"   likewise, of 32 KiB
 *
 *      slot:  free --claim, open--> used --remove--> free        slab:  its first slot is claimed: made;  its last one is free: removed
 *
 * What creating, flushing and removing a local file costs is shared by all that stand in one slab: a flush of one slot is the
 * flush of the slab, and answers for each slot that was written before. Slots begin at pages: what a power cut does to one is
 * not seen in the next.
 *
 * Use: slabs_claim() for a new one, with the name under which it is found again; then as any file of a disk, up to slab_room().
 *      What was never written reads as what stood there before, or short at the end of the slab. A slab of an earlier process
 *      is opened slot by slot, by name, and gives out no other: all that are needed are opened before the first is removed.
 * Owns: the slabs. The disk below is the caller's. Files must be closed before slabs_free(), which removes nothing.
 * Threads: any. Small disk calls are made under a lock of its own (a slab is made), a flush is not.
 * Errors: of the disk below; -EFBIG: it does not fit. Once a flush of a slab has failed all later ones do: pages may be lost.
 */
#ifndef CACHE_SLAB_H
#define CACHE_SLAB_H

#include "base/disk.h"

#define SLAB_NAME_MAX 32 /* with NUL, of a slot or a slab */
#define SLAB_SLOTS    1024
#define SLAB_SLOT_MAX ((uint64_t)32 << 10)

struct slabs;

struct slabs *slabs_new(struct disk *below);
void slabs_free(struct slabs *slabs);
/* Slots and all names of the disk below. */
struct disk *slabs_disk(struct slabs *slabs);

/* A slot for `bytes`; -EFBIG: they need a file of their own. */
int slabs_claim(struct slabs *slabs, uint64_t bytes, struct disk_file **ret_file,
                char ret_name[SLAB_NAME_MAX]);
/* Bytes for which there is room; UINT64_MAX: it is no slot. */
uint64_t slab_room(const struct slabs *slabs, const struct disk_file *file);

/* "4k-0000000000000007", also from the name of a slot. False: neither. */
bool slab_parse(const char *name, char ret_slab[SLAB_NAME_MAX]);
/* Where the bytes of a local file of this name stand, for people: the path of the file, malloc'ed; of a slot that of its slab, and the
 * offset in it. */
char *slab_path(struct disk *disk, const char *name, uint64_t *ret_offset);

#endif
