/* settings: everything that the options of a mount can say, filled by the one table in option.c. */
#ifndef MOUNT_SETTINGS_H
#define MOUNT_SETTINGS_H

#include <stdbool.h>
#include <stdint.h>

struct settings {
    /* Where. */
    char *bucket;
    char *prefix; /* "" or with the slash at its end */
    char *source; /* as said: for /proc/mounts */
    char *mount_point;
    /* From the options; strings are NULL when not said, paths absolute. */
    char *endpoint, *region, *profile, *credentials_file, *ca_bundle, *proxy, *cache_dir, *log_target,
        *config;
    char *sse_kms_key_id, *storage_class, *role_arn;
    int64_t style, checksum, sse, attributes, durability, conflict,
        log_level; /* values of enums, by the table's words */
    int64_t memory, read_ahead, part_size, unflushed_max, dirty_max, meta_max;       /* bytes */
    int64_t attr_ttl, negative_ttl, io_timeout, stop_timeout, commit, publish_after; /* milliseconds */
    int64_t uid, gid, file_mode, dir_mode, umask;
    int64_t threads, uploads, connections, loops;
    bool read_only, allow_other, allow_root, allow_http, no_sign_request, requester_pays, nonempty,
        foreground, debug_fuse, immutable, background, no_exec;
};

void settings_release(struct settings *settings);

#endif
