#include "fs/operations.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BLOCK_BYTES 4096 /* st_blksize */

static void ask_init(void *userdata, struct fuse_conn_info *info)
{
    struct fs *fs = userdata;
    compat_init(&fs->compat, info, session_leaves_open(fs));
}

/* Missing ones are answered with ENOSYS by libfuse, and the kernel remembers: locks are then the kernel's own. */
const struct fuse_lowlevel_ops session_operations = {
    .init = ask_init,
    .lookup = ask_lookup,
    .forget = ask_forget,
    .forget_multi = ask_forget_multi,
    .getattr = ask_getattr,
    .setattr = ask_setattr,
    .readlink = ask_readlink,
    .mknod = ask_mknod,
    .mkdir = ask_mkdir,
    .unlink = ask_unlink,
    .rmdir = ask_rmdir,
    .symlink = ask_symlink,
    .rename = ask_rename,
    .link = ask_link,
    .open = ask_open,
    .create = ask_create,
    .read = ask_read,
    .write = ask_write,
    .fallocate = ask_fallocate,
    .lseek = ask_lseek,
    .copy_file_range = ask_copy_range,
    .flush = ask_flush,
    .fsync = ask_fsync,
    .release = ask_release,
    .opendir = ask_opendir,
    .readdir = ask_readdir,
    .readdirplus = ask_readdirplus,
    .releasedir = ask_releasedir,
    .fsyncdir = ask_fsyncdir,
    .statfs = ask_statfs,
    .getxattr = ask_getxattr,
    .listxattr = ask_listxattr,
    .setxattr = ask_setxattr,
    .removexattr = ask_removexattr,
    .access = ask_access,
};

struct fs *fs_of(fuse_req_t fuse)
{
    return fuse_req_userdata(fuse);
}

bool ask_begin(struct request *request, fuse_req_t fuse, fuse_ino_t id, const struct operation *operation)
{
    struct fs *fs = fs_of(fuse);
    request_init(request, fs, fuse, operation);
    request->inode = nodes_find(&fs->nodes, id);
    if (!request->inode)
        request_error(request, -ESTALE);
    return request->inode != NULL;
}

static int take_implied(struct request *request, fuse_ino_t id)
{
    struct fs *fs = request->fs;
    struct inode *inode = nodes_find(&fs->nodes, id);
    if (!inode)
        return -ESTALE;
    int rc = implied_take(&fs->implied, id, inode, &request->implied);
    inode_unref(inode);
    return rc;
}

int ask_implied(struct request *request, fuse_ino_t id, bool directory)
{
    if (request->file.fh)
        return 0;
    request->implied = implied_find(&request->fs->implied, id);
    int rc = request->implied ? 0 : take_implied(request, id);
    if (rc == 0 && directory != (implied_listing(request->implied) != NULL))
        rc = directory ? -ENOTDIR : -EISDIR;
    return rc;
}

struct handle *handle_of(const struct request *request)
{
    return request->implied ? implied_handle(request->implied) : file_of(request->file.fh)->handle;
}

struct listing *listing_of(const struct request *request)
{
    return request->implied ? implied_listing(request->implied) : file_of(request->file.fh)->listing;
}

static void timespec_from_ns(int64_t ns, struct timespec *ret_time)
{
    int64_t seconds = ns / 1000000000, rest = ns % 1000000000;
    if (rest < 0) {
        rest += 1000000000;
        seconds--;
    }
    ret_time->tv_sec = seconds;
    ret_time->tv_nsec = rest;
}

void stat_from_attributes(const struct attributes *attributes, struct stat *ret_stat)
{
    *ret_stat = (struct stat){
        .st_ino = attributes->number,
        .st_mode = attributes->mode,
        .st_nlink = attributes->nlink,
        .st_uid = attributes->uid,
        .st_gid = attributes->gid,
        .st_size = (off_t)attributes->size,
        .st_blocks = (blkcnt_t)attributes->blocks,
        .st_blksize = BLOCK_BYTES,
        .st_rdev = (dev_t)attributes->device,
    };
    timespec_from_ns(attributes->atime_ns, &ret_stat->st_atim);
    timespec_from_ns(attributes->mtime_ns, &ret_stat->st_mtim);
    timespec_from_ns(attributes->ctime_ns, &ret_stat->st_ctim);
}

double seconds_from_ms(int64_t ms)
{
    return ms > 0 ? (double)ms / 1000.0 : 0.0;
}

/* 0: it cannot be known (hidepid, or gone meanwhile). */
static pid_t read_thread_group(pid_t thread)
{
    char path[48], text[4096];
    snprintf(path, sizeof path, "/proc/%d/status", (int)thread);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t length = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[length] = '\0';
    const char *line = strstr(text, "\nTgid:");
    return line ? (pid_t)strtol(line + 6, NULL, 10) : 0;
}

/* tgkill of signal 0 asks, for the price of one system call, whether a thread leads its group; most do. */
pid_t process_of(fuse_req_t fuse)
{
    const struct fs *fs = fuse_req_userdata(fuse);
    pid_t thread = fuse_req_ctx(fuse)->pid;
    if (thread <= 0 || !cache_close_waits(fs->cache)) /* of another pid namespace, or nobody asks */
        return 0;
    if (tgkill(thread, thread, 0) == 0 || errno == EPERM)
        return thread;
    return read_thread_group(thread);
}

void maker_from(fuse_req_t fuse, mode_t mode, struct maker *ret_maker)
{
    const struct fuse_ctx *context = fuse_req_ctx(fuse);
    *ret_maker = (struct maker){
        .uid = context->uid,
        .gid = context->gid,
        .mode = mode & 07777, /* the kernel applied the umask: DONT_MASK is never asked for */
        .process = process_of(fuse),
    };
}

void entry_to_kernel(const struct entry *entry, struct fuse_entry_param *ret_param)
{
    double valid_s = seconds_from_ms(entry->valid_ms);
    /* Node ids are never used twice, so that one generation is enough. */
    *ret_param =
        (struct fuse_entry_param){.ino = entry->id, .attr_timeout = valid_s, .entry_timeout = valid_s};
    stat_from_attributes(&entry->attributes, &ret_param->attr);
}

void reply_entry(struct request *request, struct entry *entry)
{
    struct fuse_entry_param param;
    uint64_t id = entry->id;
    struct nodes *nodes = &request->fs->nodes;
    entry_to_kernel(entry, &param);
    nodes_add(nodes, entry);
    if (request_reply_entry(request, &param) < 0)
        nodes_forget(nodes, id, 1);
}
