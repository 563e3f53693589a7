/* account: what the journal's records add up to for one file, directory, symlink or special file: all of it that must
 * survive. Pure.
 *
 *      wanted   place, attributes, size, versions             by NODE, BIRTH, ATTRIBUTES, WRITE, SIZE, EXCLUSIVE, XATTRS
 *      remote   key, identity, metadata, versions             by REMOTE, RESTATED
 *      dirty    ranges of the local file that the bucket has not got     by WRITE, cut by SIZE, set by REMOTE, RESTATED
 *      upload   id, plan, parts                               by UPLOAD, PART, until UPLOAD_END
 *      trying   skyvol-id of an outcome that nobody knows     by TRYING, ended by REMOTE or a TRYING without one
 *
 *      NODE --> opened --any other record but ATTRIBUTES--> told
 *
 * Opened only: who opened it died, or the power went, before anything had changed: what the bucket has is right, and nothing is
 * to be sent of it. (A directory that is a place only stays so.)
 *
 * An account without a name (unlinked, renamed over) holds no unsent bytes, whatever a record says: what is left to do is to
 * delete its object and to abort its upload.
 *
 * Owns: all its texts and sets. Not here: the table of all, and places (ledger.h).
 */
#ifndef CACHE_ACCOUNT_H
#define CACHE_ACCOUNT_H

#include <uthash.h>

#include "base/list.h"
#include "cache/account_upload.h"

#define ACCOUNT_LOCAL_MAX 32 /* with NUL, as inode->local_name */

struct account_trying {
    char skyvol_id[ACCOUNT_SKYVOL_MAX];
    char *key;
    uint64_t size, content_version, attribute_version; /* of what was sent */
};

struct account {
    /* The ledger's. */
    uint64_t id;
    UT_hash_handle by_id;
    struct account *parent;  /* NULL: the root, or no name */
    char *name;              /* NULL: no name; points into `place` */
    char *place;             /* {parent's id, name}: the key of by_place */
    UT_hash_handle by_place; /* of those with a name */
    size_t children;         /* accounts whose parent this is */
    bool forgotten;          /* kept for its children only: nothing below is set */
    struct list turn;
    uint64_t round;
    size_t bytes; /* of its records, roughly */

    /* Set at birth. */
    uint32_t kind;
    char *
        target; /* of a symlink, or a device's numbers; NULL: only the bucket knows. It counts while contents are unsent */

    struct attributes attributes; /* with the size; mode 0: not known */
    bool told;                    /* see above */
    uint64_t content_version, attribute_version;
    bool mtime_explicit, whole_replacement;
    char *xattrs;   /* as wanted.xattrs: NULL where attribute_version is in the bucket */
    bool exclusive; /* nothing of it was sent, and it overwrites nothing */
    uint64_t base_size;
    char local[ACCOUNT_LOCAL_MAX]; /* "" none */
    struct extents dirty;

    char *key; /* NULL: no object is known */
    struct identity identity;
    struct store_fields meta, headers;
    bool headers_known;
    size_t meta_bytes; /* of both */
    uint64_t remote_content_version, remote_attribute_version;

    struct account_upload *upload; /* NULL: none */
    struct account_trying *trying; /* NULL: nothing */
};

/* Regular file, directory, symlink, fifo, socket, device. */
bool account_kind_known(uint32_t kind);
/* A text for `target` of this kind, short enough for a link or the numbers of a device. */
bool account_target_fits(uint32_t kind, const char *target);
/* st_rdev as it is known here; 0: of no device, or not known. */
uint64_t account_device(const struct account *account);

struct account *account_new(uint64_t id, uint32_t kind, const char *target);
void account_free(struct account *account);
/* All but identity and place is as new. */
void account_clear(struct account *account);
/* It has lost its name: its unsent bytes are given up. */
void account_give_up(struct account *account);

/* The record speaks of this account and fits it: everything but its place is as the record says. */
void account_apply(struct account *account, const struct record *record);
/* 0, or why the record does not fit: -E2BIG (one dirty range too many), -EBADMSG with words. */
int account_admits(const struct account *account, const struct record *record, struct buf *why);
/* The account as records, without a HEADING: NODE first. */
void account_dump(const struct account *account, void (*each)(void *context, const struct record *record),
                  void *context);
/* Roughly the bytes of these records. */
size_t account_bytes(const struct account *account);

/* "a/b/c" below the mount is appended; false: it has no name. (Who has none has nothing below.) */
bool account_path(const struct account *account, struct buf *out);
/* Not what the bucket holds: something must go up, move, be deleted, aborted or found out. `prefix` as cache_config's; NULL: not
 * known, any key will do. */
bool account_unsent(const struct account *account, const char *prefix);
/* Aborts on a bug: the drawing above. */
void account_check(const struct account *account);

#endif
