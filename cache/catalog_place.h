/* catalog_place: the directory of a catalog: what is found there, thrown away or moved aside, and the note of what it is worth.
 *
 *      PATH/data.mdb, lock.mdb     LMDB's
 *      PATH/head                   catalog_head.h
 *      PATH.damaged                the last one that was moved aside
 *      PATH.mark                   somebody died inside LMDB
 */
#ifndef CACHE_CATALOG_PLACE_H
#define CACHE_CATALOG_PLACE_H

#include "cache/catalog.h"
#include "cache/catalog_head.h"

struct catalog_place {
    char *path, *mark;
    struct disk *disk;
    struct catalog_head head;
};

/* Judges what is there, makes it empty where it is worth nothing, and notes that it is in use. -errno, with `why`. */
int catalog_place_open(struct catalog_place *place, const struct catalog_config *config, struct buf *why);
/* The map was refused: it goes aside, and an empty place is noted as in use. */
int catalog_place_move_aside(struct catalog_place *place, const struct catalog_config *config,
                             struct buf *why);
/* Notes the state; closed also the size of the map. */
int catalog_place_note(struct catalog_place *place, enum catalog_state state);
void catalog_place_release(struct catalog_place *place);

#endif
