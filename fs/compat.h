/* compat: the one file that knows what libfuse does not say to the kernel, or what an older header cannot name.
 *
 * libfuse hands us every message (fuse_session_custom_io). From INIT we learn what the kernel really offers; in the reply to it
 * we set what libfuse <= 3.16 never sends:
 *
 *      kernel --INIT: flags, flags2--> compat_read (remembers) --> libfuse --> compat_init: wants, by libfuse's own names
 *      kernel <--INIT reply, patched-- compat_writev <------------ libfuse
 *
 *      bit                    where set     why
 *      PARALLEL_DIROPS        patch         without it all LOOKUPs of one directory stand in one uninterruptible line;
 *                                           libfuse <= 3.16 wants it and never sends it
 *      HANDLE_KILLPRIV_V2     patch         who writes, truncates or changes the owner takes setuid and setgid from the file:
 *                                           we do that (compat_clears_setid). Else the kernel asks for security.capability
 *                                           at each write, which costs as much as the write itself
 *      HANDLE_KILLPRIV        patch: off    the older form of it, which says less
 *      INIT_EXT, flags2       patch         kept consistent with what else is set
 *      NO_OPEN_SUPPORT,       looked at  ENOSYS to OPEN, OPENDIR has the kernel open by itself (implied.h)
 *      NO_OPENDIR_SUPPORT
 *      splice                 not offered   1 MiB and a header do not fit in a pipe without privileges; no gain measured
 *
 * Threads: compat_read and compat_writev from any; the fields are written before INIT is answered, once.
 */
#ifndef FS_COMPAT_H
#define FS_COMPAT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/json.h"
#include "fs/libfuse.h"

#define COMPAT_MAX_WRITE      ((uint32_t)1 << 20)
#define COMPAT_MAX_BACKGROUND 128

struct compat {
    atomic_uint_fast64_t init_unique; /* of the INIT that is not answered yet; 0: none */
    atomic_bool settled;              /* INIT is over: messages need no look any more */
    uint32_t minor;                   /* of the kernel's protocol 7.x */
    uint64_t offered;                 /* by the kernel: flags | flags2 << 32 */
    uint64_t taken;                   /* by our reply */
    uint32_t max_write, max_readahead, max_background;
    void (*answered)(void *context); /* INIT's reply has been taken by the kernel */
    void *context;
};

/* Makes libfuse speak through us over fd (which the session owns from then on). userdata of the session must be what
 * compat_of() finds the compat by. 0 or -errno. */
int compat_attach(struct fuse_session *session, int fd);
struct compat *compat_of(void *userdata); /* session.c */
/* In libfuse's init(): wants what the kernel offers and we can use. `opens`: OPEN will be answered ENOSYS. Then nobody is told of
 * FOPEN_DIRECT_IO, and O_DIRECT would become asynchronous requests, for which the kernel waits deaf to signals: not so without ASYNC_DIO. */
void compat_init(struct compat *compat, struct fuse_conn_info *info, bool opens);
/* The kernel can open files, directories without us. */
bool compat_opens(const struct compat *compat);
bool compat_opens_directories(const struct compat *compat);
/* Of the message that this thread received last: who writes, truncates or opens with O_TRUNC has no right to keep setuid and setgid
 * bits, which libfuse <= 3.16 does not tell. Within its ask_*(): whoever takes the request to another thread remembers it. */
bool compat_clears_setid(void);
/* The kernel leaves it to us: also where the owner changes. */
bool compat_leaves_setid(const struct compat *compat);
/* The reply to INIT: sets and clears in flags (64 bits) what the table above says. */
uint64_t compat_patch(uint64_t offered, uint64_t flags);
/* What libfuse is told when a read of the device fails. A request that comes just as the connection ends is ECONNABORTED: the same end as
 * ENODEV, and no failure (FUSE_ABORT_ERROR, by which it would mean more, is not asked for). */
int compat_read_error(int error);
void compat_report(const struct compat *compat, struct json *object);

#endif
