/* plan: what has to be mounted and linked on a worker so that the volumes of a configuration appear. Pure: same input, same bytes.
 *
 *      volumes --group by (endpoint, bucket, credentials)--> mounts at BASE/BUCKET --links--> mount -> dir/prefix
 *
 * Two buckets of one name: the later one stands at BASE/BUCKET@HOST, and with a number behind it if that is taken too. A mount is read-write
 * if any of its volumes is; a read-only volume on it is bound read-only where the host can. What was coerced is said in `notes`.
 * Writable mounts have durability=sync unless a volume says otherwise; volumes of one mount that say different things are refused.
 *
 * JSON: volumes.md, section 3. Secrets stand in `secrets` alone; the bootstrap never holds one (plan_script() without, plan_script_whole() with).
 */
#ifndef MOUNT_PLAN_H
#define MOUNT_PLAN_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"
#include "mount/configuration.h"
#include "mount/provider.h"

struct plan_mount {
    char *bucket, *endpoint, *region, *dir; /* region NULL: discovered */
    bool path_style, read_only;
    char *options;                 /* as -o takes them, all that it needs */
    const struct storage *storage; /* what it was made from: this, or */
    const struct supply *supply;
    char *credentials; /* "role" and "chain": the worker's own; "none"; else the path of its secret */
};

struct plan_link {
    char *mount, *target;
    char *bind;         /* where the target is bound read-only for it; NULL: it is not */
    const char *prefix; /* of the volume */
    size_t mount_index; /* of the mount behind it; SIZE_MAX: native */
    bool read_only;
};

struct plan_secret {
    char *path;
    struct secret *content; /* an AWS credentials file, of keys or (here) of the command that prints them */
};

struct plan_package {
    const char *source; /* a path on the worker, or an https:// URL; NULL: skyvol has to be there */
    const char *sha256; /* in hex; never NULL with a source */
};

struct plan_request {
    const struct configuration *configuration;
    const struct provision *provision; /* NULL, or empty: every volume has a storage */
    const char *keys;                  /* the directory of secrets on the worker */
    bool shared;                       /* allow_other: root mounts for whoever works there */
    bool here; /* for this host: commands that print keys can be asked again by the mounts */
};

struct plan {
    const char *provider; /* of the configuration, also one that mounts nothing; "none" without one */
    const char *base;
    char *native_base; /* NULL: FUSE */
    struct plan_mount *mounts;
    size_t mount_count;
    struct plan_link *links;
    size_t link_count;
    struct plan_secret *secrets;
    size_t secret_count;
    char **notes;                                   /* NULL at the end */
    const struct json *deploy_hints, *deploy_forms; /* the provision's */
};

#define PLAN_KEYS "/etc/skyvol/keys"

/* -EINVAL, or what resolving a credential gave, with a line for each problem. Borrows all of the request until plan_release(). */
int plan_make(const struct plan_request *request, struct plan *ret_plan, struct buf *why);
void plan_release(struct plan *plan);
/* An object, as it is printed. */
struct json *plan_json(const struct plan *plan, const struct plan_package *package);

/* plan_script.c: POSIX sh. The first expects the secrets in place, the second brings them under umask 077. */
void plan_script(const struct plan *plan, const struct plan_package *package, struct buf *out);
void plan_script_whole(const struct plan *plan, const struct plan_package *package, struct buf *out);

#endif
