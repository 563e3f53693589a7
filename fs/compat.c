#include "fs/compat.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"

/* The kernel's ABI, which never changes; own names, because <linux/fuse.h> may be older than the kernel that runs. */
enum { OPCODE_SETATTR = 4, OPCODE_OPEN = 14, OPCODE_WRITE = 16, OPCODE_INIT = 26 };

#define KERNEL_NO_OPEN_SUPPORT     (UINT64_C(1) << 17)
#define KERNEL_PARALLEL_DIROPS     (UINT64_C(1) << 18)
#define KERNEL_HANDLE_KILLPRIV     (UINT64_C(1) << 19)
#define KERNEL_NO_OPENDIR_SUPPORT  (UINT64_C(1) << 24)
#define KERNEL_EXPLICIT_INVAL_DATA (UINT64_C(1) << 25)
#define KERNEL_HANDLE_KILLPRIV_V2  (UINT64_C(1) << 28)
#define KERNEL_INIT_EXT            (UINT64_C(1) << 30)

struct kernel_in_header {
    uint32_t length, opcode;
    uint64_t unique, node;
    uint32_t uid, gid, pid;
    uint32_t more;
};

struct kernel_out_header {
    uint32_t length;
    int32_t error;
    uint64_t unique;
};

struct kernel_init_in {
    uint32_t major, minor, max_readahead, flags, flags2;
};

struct kernel_init_out {
    uint32_t major, minor, max_readahead, flags;
    uint16_t max_background, congestion_threshold;
    uint32_t max_write, time_gran;
    uint16_t max_pages, map_alignment;
    uint32_t flags2;
};

_Static_assert(sizeof(struct kernel_in_header) == 40, "the kernel's ABI");
_Static_assert(sizeof(struct kernel_out_header) == 16, "the kernel's ABI");
_Static_assert(offsetof(struct kernel_init_out, flags2) == 32, "the kernel's ABI");

/* Where each says that setuid and setgid are to go. */
static const struct {
    uint32_t opcode, offset, bit; /* of a u32 in the body */
} setid_marks[] = {
    {OPCODE_WRITE, 20, 1u << 2},   /* write_flags */
    {OPCODE_SETATTR, 0, 1u << 11}, /* valid */
    {OPCODE_OPEN, 4, 1u << 0},     /* open_flags */
};

static _Thread_local bool clears_setid;

static bool is_marked(const char *message, size_t length)
{
    struct kernel_in_header header;
    uint32_t word;
    if (length < sizeof header)
        return false;
    memcpy(&header, message, sizeof header);
    for (size_t i = 0; i < sizeof setid_marks / sizeof setid_marks[0]; i++) {
        size_t at = sizeof header + setid_marks[i].offset;
        if (setid_marks[i].opcode != header.opcode || length < at + sizeof word)
            continue;
        memcpy(&word, message + at, sizeof word);
        return word & setid_marks[i].bit;
    }
    return false;
}

bool compat_clears_setid(void)
{
    return clears_setid;
}

bool compat_leaves_setid(const struct compat *compat)
{
    return compat->taken & KERNEL_HANDLE_KILLPRIV_V2;
}

bool compat_opens(const struct compat *compat)
{
    return compat->offered & KERNEL_NO_OPEN_SUPPORT;
}

bool compat_opens_directories(const struct compat *compat)
{
    return compat->offered & KERNEL_NO_OPENDIR_SUPPORT;
}

static void learn_init(struct compat *compat, const void *message, size_t length)
{
    struct kernel_in_header header;
    struct kernel_init_in init = {0};
    if (length < sizeof header + offsetof(struct kernel_init_in, flags2))
        return;
    memcpy(&header, message, sizeof header);
    if (header.opcode != OPCODE_INIT)
        return;
    size_t rest = length - sizeof header;
    memcpy(&init, (const char *)message + sizeof header, rest < sizeof init ? rest : sizeof init);
    compat->minor = init.minor;
    compat->offered = init.flags;
    if (init.flags & KERNEL_INIT_EXT)
        compat->offered |= (uint64_t)init.flags2 << 32;
    atomic_store(&compat->init_unique, header.unique);
}

int compat_read_error(int error)
{
    return error == ECONNABORTED ? ENODEV : error;
}

static ssize_t compat_read(int fd, void *buffer, size_t size, void *userdata)
{
    struct compat *compat = compat_of(userdata);
    ssize_t length = read(fd, buffer, size);
    if (length > 0 && !atomic_load_explicit(&compat->settled, memory_order_relaxed))
        learn_init(compat, buffer, (size_t)length);
    clears_setid = length > 0 && compat_leaves_setid(compat) && is_marked(buffer, (size_t)length);
    if (length < 0)
        errno = compat_read_error(errno);
    return length;
}

uint64_t compat_patch(uint64_t offered, uint64_t flags)
{
    flags |= offered & (KERNEL_PARALLEL_DIROPS | KERNEL_HANDLE_KILLPRIV_V2);
    flags &= ~KERNEL_HANDLE_KILLPRIV;
    if (flags >> 32)
        flags |= KERNEL_INIT_EXT;
    return flags & (offered | UINT32_MAX);
}

static void patch_init(struct compat *compat, struct iovec *body)
{
    struct kernel_init_out out = {0};
    size_t length = body->iov_len < sizeof out ? body->iov_len : sizeof out;
    if (length < offsetof(struct kernel_init_out, max_pages))
        return; /* a kernel before 4.5: no flags that we set */
    memcpy(&out, body->iov_base, length);
    uint64_t flags = out.flags;
    if (flags & KERNEL_INIT_EXT)
        flags |= (uint64_t)out.flags2 << 32;
    flags = compat_patch(compat->offered, flags);
    out.flags = (uint32_t)flags;
    out.flags2 = (uint32_t)(flags >> 32);
    memcpy(body->iov_base, &out, length);
    compat->taken = flags;
    compat->max_readahead = out.max_readahead;
    compat->max_background = out.max_background;
    compat->max_write = out.max_write;
}

static ssize_t compat_writev(int fd, struct iovec *iov, int count, void *userdata)
{
    struct compat *compat = compat_of(userdata);
    uint64_t init = atomic_load_explicit(&compat->init_unique, memory_order_acquire);
    const struct kernel_out_header *out = iov[0].iov_base;
    bool is_init = init != 0 && out->unique == init && out->error == 0 && count > 1;
    if (is_init)
        patch_init(compat, &iov[1]);
    ssize_t rc = writev(fd, iov, count);
    if (is_init && rc >= 0 && compat->max_write != 0) {
        atomic_store(&compat->init_unique, 0);
        atomic_store(&compat->settled, true);
        compat->answered(compat->context);
    }
    /* The connection is gone: nobody waits for this reply, which is not worth libfuse's line on stderr. */
    if (rc < 0 && errno == ENODEV)
        errno = ENOENT;
    return rc;
}

int compat_attach(struct fuse_session *session, int fd)
{
    static const struct fuse_custom_io io = {.read = compat_read, .writev = compat_writev};
    return fuse_session_custom_io(session, &io, fd) == 0 ? 0 : -EIO;
}

static void want(struct fuse_conn_info *info, unsigned capability, bool on)
{
    if (on)
        info->want |= info->capable & capability;
    else
        info->want &= ~capability;
}

void compat_init(struct compat *compat, struct fuse_conn_info *info, bool opens)
{
    want(info, FUSE_CAP_ASYNC_READ | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_ATOMIC_O_TRUNC, true);
    want(info, FUSE_CAP_ASYNC_DIO, !opens);
    want(info, FUSE_CAP_READDIRPLUS | FUSE_CAP_CACHE_SYMLINKS, true);
    want(info, FUSE_CAP_READDIRPLUS_AUTO, false); /* attributes come with the listing */
    want(info, FUSE_CAP_HANDLE_KILLPRIV, false);
    want(info, FUSE_CAP_WRITEBACK_CACHE, false); /* write() must have reached us when it returns */
    want(info, FUSE_CAP_SPLICE_READ | FUSE_CAP_SPLICE_WRITE | FUSE_CAP_SPLICE_MOVE, false);
    /* The kernel must not drop pages because it saw another mtime: the cache tells it which pages are stale. */
    bool explicit = compat->offered & KERNEL_EXPLICIT_INVAL_DATA;
    want(info, FUSE_CAP_EXPLICIT_INVAL_DATA, explicit);
    want(info, FUSE_CAP_AUTO_INVAL_DATA, !explicit);
    if (info->max_write > COMPAT_MAX_WRITE)
        info->max_write = COMPAT_MAX_WRITE;
    info->max_background = COMPAT_MAX_BACKGROUND;
    info->congestion_threshold = COMPAT_MAX_BACKGROUND * 3 / 4;
    info->time_gran = 1;
}

void compat_report(const struct compat *compat, struct json *object)
{
    json_set_integer(object, "protocol_minor", compat->minor);
    json_set_integer(object, "max_write", compat->max_write);
    json_set_integer(object, "max_readahead", compat->max_readahead);
    json_set_integer(object, "max_background", compat->max_background);
    json_set_bool(object, "parallel_dirops", compat->taken & KERNEL_PARALLEL_DIROPS);
    json_set_bool(object, "explicit_invalidation", compat->taken & KERNEL_EXPLICIT_INVAL_DATA);
}
