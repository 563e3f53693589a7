/* handover: a new mount takes over from a daemon that was unmounted and still uploads, or from a flush of the cache directory.
 *
 *      new mount: claim or home is held --"yield"--> lingering daemon: stops uploading, keeps all in its journal, lets go
 *
 * All ways to it are tried: the mount point (claim), and the cache directory (home), which may have been mounted elsewhere, or is
 * open without a mount. A daemon that serves its mount does not yield. The one that yields needs less than two seconds, whatever its server does.
 */
#ifndef MOUNT_HANDOVER_H
#define MOUNT_HANDOVER_H

#include "mount/claim.h"
#include "mount/rooms.h"

struct handover {
    int64_t deadline_ms;
    bool heard; /* the one who lingered at the mount point lets go */
    char *cache_dir, *source;
    int64_t files, bytes;
};

#define HANDOVER_NONE ((struct handover){.heard = false})

/* claim_take(), asking whoever lingers there. */
int handover_claim(struct handover *handover, const char *mount_point, struct claim *ret_claim,
                   struct buf *why);
/* rooms_open_home(), asking whoever lingers with it. What the first one leaves in another cache directory is a warning. */
int handover_home(struct handover *handover, struct rooms *rooms, struct buf *why);
/* The new mount has failed, and nobody uploads any more what the old daemon had left: adds a line. */
void handover_tell_stopped(const struct handover *handover, struct buf *why);
void handover_release(struct handover *handover);

#endif
