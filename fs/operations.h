/* operations: what the kernel may ask, one file a noun: names, attributes, xattrs, files, directories.
 *
 * Each operation is three small parts: ask_*() is called by libfuse and fills a struct request; run_*() does it through the
 * cache's door, inline or on the pool; the reply is request.h's.
 */
#ifndef FS_OPERATIONS_H
#define FS_OPERATIONS_H

#include "fs/session.h"

struct fs *fs_of(fuse_req_t fuse);
/* Fills what every operation on a node has: its inode. False: the kernel has forgotten it; answered with ESTALE. */
bool ask_begin(struct request *request, fuse_req_t fuse, fuse_ino_t id, const struct operation *operation);

/* Of what is read with fh 0 (implied.h): request->implied is of the node, in use until the request ends. Of another fh: nothing. */
int ask_implied(struct request *request, fuse_ino_t id, bool directory);
/* The request's: that of its fh, or the implied one. */
struct handle *handle_of(const struct request *request);
struct listing *listing_of(const struct request *request);

void stat_from_attributes(const struct attributes *attributes, struct stat *ret_stat);
double seconds_from_ms(int64_t ms);
/* The thread group of the thread that asks (FUSE names threads); 0 when it cannot be known. */
pid_t process_of(fuse_req_t fuse);
void maker_from(fuse_req_t fuse, mode_t mode, struct maker *ret_maker);

/* Replies with an entry that the kernel counts: counted before, taken back if the kernel refuses it. */
void reply_entry(struct request *request, struct entry *entry);
void entry_to_kernel(const struct entry *entry, struct fuse_entry_param *ret_param);

/* operations_names.c */
void ask_lookup(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void ask_forget(fuse_req_t fuse, fuse_ino_t id, uint64_t lookups);
void ask_forget_multi(fuse_req_t fuse, size_t count, struct fuse_forget_data *forgets);
void ask_mkdir(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode);
void ask_mknod(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode, dev_t device);
void ask_symlink(fuse_req_t fuse, const char *target, fuse_ino_t parent, const char *name);
void ask_readlink(fuse_req_t fuse, fuse_ino_t id);
void ask_unlink(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void ask_rmdir(fuse_req_t fuse, fuse_ino_t parent, const char *name);
void ask_rename(fuse_req_t fuse, fuse_ino_t parent, const char *name, fuse_ino_t to_parent,
                const char *to_name, unsigned flags);
void ask_link(fuse_req_t fuse, fuse_ino_t id, fuse_ino_t parent, const char *name);

/* operations_attributes.c */
void ask_getattr(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);
void ask_setattr(fuse_req_t fuse, fuse_ino_t id, struct stat *stat, int to_set, struct fuse_file_info *file);
void ask_access(fuse_req_t fuse, fuse_ino_t id, int mask);
void ask_statfs(fuse_req_t fuse, fuse_ino_t id);

/* operations_xattrs.c */
void ask_getxattr(fuse_req_t fuse, fuse_ino_t id, const char *name, size_t size);
void ask_listxattr(fuse_req_t fuse, fuse_ino_t id, size_t size);
void ask_setxattr(fuse_req_t fuse, fuse_ino_t id, const char *name, const char *value, size_t size,
                  int flags);
void ask_removexattr(fuse_req_t fuse, fuse_ino_t id, const char *name);

/* operations_files.c */
void ask_open(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);
void ask_create(fuse_req_t fuse, fuse_ino_t parent, const char *name, mode_t mode,
                struct fuse_file_info *file);
void ask_read(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file);
void ask_write(fuse_req_t fuse, fuse_ino_t id, const char *bytes, size_t size, off_t offset,
               struct fuse_file_info *file);
void ask_fallocate(fuse_req_t fuse, fuse_ino_t id, int mode, off_t offset, off_t length,
                   struct fuse_file_info *file);
void ask_copy_range(fuse_req_t fuse, fuse_ino_t from, off_t from_offset, struct fuse_file_info *from_file,
                    fuse_ino_t to, off_t to_offset, struct fuse_file_info *to_file, size_t length, int flags);
void ask_lseek(fuse_req_t fuse, fuse_ino_t id, off_t offset, int whence, struct fuse_file_info *file);
void ask_flush(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);
void ask_fsync(fuse_req_t fuse, fuse_ino_t id, int data_only, struct fuse_file_info *file);
void ask_release(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);

/* operations_directories.c */
void ask_opendir(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);
void ask_readdir(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file);
void ask_readdirplus(fuse_req_t fuse, fuse_ino_t id, size_t size, off_t offset, struct fuse_file_info *file);
void ask_releasedir(fuse_req_t fuse, fuse_ino_t id, struct fuse_file_info *file);
void ask_fsyncdir(fuse_req_t fuse, fuse_ino_t id, int data_only, struct fuse_file_info *file);

#endif
