/* observed: what the server said of one name, laid over the tree. The overlay wins: what is unsent here, or open for
 * writing, stays as it is.
 *
 *                        | nothing known   | clean, closed        | clean, open          | unsent, or open for writing
 *      nothing there     | -               | forgotten            | loses its name       | stays
 *      the same version  | -               | confirmed            | confirmed            | stays
 *      another version   | -               | takes it, notice     | orphaned; new inode  | stays (the uploader sees it)
 *      another type      | -               | new inode, notice    | orphaned; new inode  | stays
 *      anything          | new inode       |
 *
 * What somebody has seen and knows stays against what the server was asked for before that (started_ms): pages and swaths may be laid
 * over the tree long after.
 * A name that was listed without metadata has an inode already, so that a whole listing can answer "no such file", but
 * nobody is given it before a HEAD told its type and attributes (attributes_known).
 * A directory's attributes are as old as the last word of its marker (remote.marker_ms), however often its parent is listed. One that was
 * listed without metadata confirms them by its version; of another version, whoever looks next asks.
 * A directory stays while something below it is unsent or somebody works in it; another version of its marker only changes its attributes.
 */
#ifndef CACHE_OBSERVED_H
#define CACHE_OBSERVED_H

#include "cache/aftermath.h"
#include "cache/attr.h"

/* A directory whose marker nobody has seen. */
void observed_default_directory_locked(struct inode *inode);

struct observed {
    uint32_t type; /* 0: there is nothing of this name */
    const struct store_object
        *object;           /* NULL: a directory without a marker, or one that nobody has looked at */
    bool attributes_known; /* the metadata were read, or are not wanted */
    int64_t started_ms;    /* when the server was asked */
    uint64_t number;       /* st_ino of a new inode; 0: its own */
    uint64_t directory;    /* its number in the catalog; 0: not known */
    bool recalled;         /* the catalog said so, as the server did then */
};

/* The file, symlink or special file of an object whose metadata are known. */
struct observed observed_file(struct cache *cache, const struct store_object *object, int64_t started_ms);
/* Returns the inode under the name afterwards (borrowed), NULL when there is none. */
struct inode *observed_apply_locked(struct cache *cache, struct inode *parent, const char *name,
                                    const struct observed *observed, struct aftermath *aftermath);
/* Something below (or the inode itself) is unsent or open for writing. */
bool observed_unsent_below_locked(struct inode *inode);

#endif
