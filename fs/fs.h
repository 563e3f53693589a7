/* fs: the door to the kernel: node ids, lookup counts, handles; each FUSE operation replies exactly once.
 *
 *      mounted (fs_new: whoever enters waits) -> fs_attach -> running (fs_run: INIT is answered, ready(), requests)
 *          -> stopping (fs_stop, umount, connection aborted) -> unmounted (fs_run returns) -> fs_free
 *
 * Threads: `threads` identical FUSE threads never touch the network. An operation is tried inline with waiter NULL; on
 * -EAGAIN it moves to a pool of at most 64 small-stack threads (two pools) behind bounded queues and runs again with its waiter.
 * Reads, flush and fsync are asynchronous and hold no thread. INTERRUPT reaches queued, blocked and asynchronous ones alike.
 */
#ifndef FS_FS_H
#define FS_FS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "cache/cache.h"

#define FS_THREADS_MAX 16

struct fs;

struct fs_config {
    const char *mount_point; /* absolute; what is seen there is not looked at: that is the caller's */
    const char *source;      /* "bucket:prefix", for /proc/mounts */
    bool read_only, no_exec;
    bool allow_other; /* brings default_permissions, which is always set */
    bool allow_root;
    bool immutable;          /* ... and nothing changes, ever: the kernel opens by itself (implied.h) */
    uint32_t threads;        /* at most FS_THREADS_MAX; 0: 4 */
    uint32_t read_ahead_kib; /* of the mount's bdi, where allowed; 0: 4096 */
    bool debug;
};

/* Mounts (mount(2) when root, else fusermount3). Errors with the remedy in `why`: -ENOENT, -ENOTDIR, -EPERM (fusermount3
 * missing, user_allow_other not set, no CAP_SYS_ADMIN), -ENODEV (no /dev/fuse). */
int fs_new(const struct fs_config *config, struct fs **ret_fs, struct buf *why);
/* The notifications that the cache needs; may be called before fs_attach. */
struct cache_notify fs_notify(struct fs *fs);
/* Hands the cache over; then fs_run serves until stopped. ready(context) is called once, when INIT has been answered. */
void fs_attach(struct fs *fs, struct cache *cache);
/* Blocks. 0: unmounted by somebody or stopped; -errno: the session broke. */
int fs_run(struct fs *fs, void (*ready)(void *context), void *context);
/* From any thread or a signal's thread: fs_run returns soon; operations that wait are interrupted. */
void fs_stop(struct fs *fs);
/* Unmounts (lazily if busy) what fs_run never did, drops all references into the cache. */
void fs_free(struct fs *fs);
void fs_report(struct fs *fs, struct json *object);

#endif
