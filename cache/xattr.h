/* xattr: extended attributes in user metadata, as s3fs writes them: one field, x-amz-meta-xattr (bare here). Pure.
 *
 *      field   %7B%22user.a%22%3A%22aGVsbG8%3D%22%7D      percent-encoded
 *              {"user.a":"aGVsbG8="}                      a JSON object, each value in base64
 *      set     {user.a: 5 bytes}                          sorted by name
 *
 * Hostile metadata is data: a field that is no such object is an empty set; a member whose value is no base64, or whose name no
 * attribute can have, is not in the set. A name of another class ("system.posix_acl_access", which s3fs writes) is in it and
 * stays, but is not one of ours: xattr_is_shown(). Nobody's field says what is virtual (user.skyvol.*): such members are left out.
 */
#ifndef CACHE_XATTR_H
#define CACHE_XATTR_H

#include "s3/store.h"

#define XATTR_FIELD     "xattr"
#define XATTR_USER      "user."
#define XATTR_VIRTUAL   "user.skyvol."
#define XATTR_FIELD_MAX ((size_t)64 << 10) /* a longer one is not read */
#define XATTR_META_MAX  2048               /* S3: of all user metadata, names as they are sent and values */

struct xattr {
    char *name;
    char *value; /* any bytes */
    size_t length;
};

struct xattrs {
    struct xattr *all; /* by name */
    size_t count;
};

/* `field` NULL, or none that can be read: the empty set. */
void xattrs_read(const char *field, struct xattrs *ret_xattrs);
/* The field; "" for the empty set. */
char *xattrs_field(const struct xattrs *xattrs);
void xattrs_release(struct xattrs *xattrs);
#define XATTRS_SCOPED __attribute__((cleanup(xattrs_release))) struct xattrs

/* NULL: there is none. */
const struct xattr *xattrs_find(const struct xattrs *xattrs, const char *name);
/* `flags` of setxattr: XATTR_CREATE: -EEXIST where there is one, XATTR_REPLACE: -ENODATA where there is none. -EILSEQ: the name
 * is not UTF-8, which JSON cannot hold. */
int xattrs_set(struct xattrs *xattrs, const char *name, const void *value, size_t length, int flags);
int xattrs_remove(struct xattrs *xattrs, const char *name); /* -ENODATA */

bool xattr_is_virtual(const char *name);
/* One of user.*, and not virtual: users see it and may change it. */
bool xattr_is_shown(const char *name);

/* The field is what `meta` says from here on. NULL: nothing changes; "": there is none. */
void xattr_to_meta(const char *field, struct store_fields *meta);
/* Whether S3 takes an object of this metadata with that field, and our own attributes as long as they may become. */
bool xattr_fits(const struct store_fields *meta, const char *field);

#endif
