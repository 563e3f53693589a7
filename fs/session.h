/* session: struct fs itself: the connection to the kernel and all that hangs on it.
 *
 *      session_new: fd, libfuse's session -> fs_attach -> fs_run:
 *          threads read /dev/fuse | INIT answered -> bdi, ready() | until exit (umount, abort) or fs_stop
 *          -> requests refused and drained, while the threads still read
 *          -> notifications end -> threads end -> unmounted, connection closed -> fs_free: handles, nodes
 */
#ifndef FS_SESSION_H
#define FS_SESSION_H

#include "fs/compat.h"
#include "fs/file.h"
#include "fs/fs.h"
#include "fs/implied.h"
#include "fs/invalidate.h"
#include "fs/libfuse.h"
#include "fs/mountpoint.h"
#include "fs/node.h"
#include "fs/request.h"

struct fs {
    /* Set at birth, or by fs_attach. */
    uint32_t thread_count;
    uint32_t read_ahead_kib;
    bool immutable;
    struct mountpoint *mountpoint; /* NULL: unmounted, or the descriptor came from elsewhere (tests) */
    struct fuse_session *session;
    struct cache *cache;
    struct compat compat;
    struct requests requests;
    struct nodes nodes;
    struct files files;
    struct implied_set implied;
    struct invalidator *invalidator;

    struct lock lock;
    /* Under lock. */
    struct gate changed;
    bool answered;               /* INIT */
    bool stop_asked;             /* fs_stop */
    uint32_t running;            /* FUSE threads that did not end */
    int broken;                  /* -errno that ended a thread */
    uint32_t read_ahead_now_kib; /* the bdi's, 0: unknown */
};

/* fs_new without the mount: serves `fd`, which it takes also on failure; a socket of whole messages in tests. */
int session_new(const struct fs_config *config, int fd, struct mountpoint **mountpoint, struct fs **ret_fs);

/* The kernel opens files, directories by itself once it was answered ENOSYS: where nothing changes, and it can. */
bool session_leaves_open(const struct fs *fs);
bool session_leaves_opendir(const struct fs *fs);

/* operations.c: what libfuse calls. */
extern const struct fuse_lowlevel_ops session_operations;

#endif
