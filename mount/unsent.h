/* unsent: what must still go up, counted and listed, as `status` and the last words of a mount tell it.
 *
 *      unsent_init(path) -> cache_unsent() or cache_look() with unsent_add -> unsent_print -> unsent_release
 *
 * Counts are of all; listed are so many that an answer stays readable, those that failed first.
 */
#ifndef MOUNT_UNSENT_H
#define MOUNT_UNSENT_H

#include "base/json.h"
#include "cache/cache.h"

#define UNSENT_LISTED 1000 /* of those that were tried and failed, and of the others */

struct unsent {
    const char *path; /* the caller's: only what is at or below it counts; "": all */
    uint64_t files, bytes;
    uint64_t taken;   /* of the bytes: in requests on their way, and beyond the network */
    uint64_t parked;  /* of files: the last try failed */
    uint64_t refused; /* of these: waiting alone mends nothing */
    uint64_t lasting; /* of these: no further try is made */
    uint64_t conflicts;
    struct json *stuck, *others;
};

/* `path` is `above` or below it: "a/b" is below "a", not below "a/bc"; all is below "". */
bool unsent_is_below(const char *path, const char *above);
void unsent_init(struct unsent *unsent, const char *path);
void unsent_release(struct unsent *unsent);
/* For cache_unsent() and cache_look(); context is the struct. */
void unsent_add(void *context, const struct cache_unsent *file);
/* What somebody can do about a file that is refused; a sentence without its end. */
const char *unsent_remedy(int rc);
/* Adds unsent_files, unsent_bytes, taken_bytes, parked, refused, lasting, conflicts and the list "unsent"; takes the list out. */
void unsent_print(struct unsent *unsent, struct json *object);

/* All of it at or below `path`, with the cache's own sent_files, sent_bytes, oldest_unsent_ms, unflushed_bytes and
 * oldest_unflushed_ms. */
void unsent_report(struct cache *cache, const char *path, struct json *object);

#endif
