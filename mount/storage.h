/* storage: one S3 service with its keys: what `storage = ...` of a volume says, [storage.NAME], or --preset on a command line.
 *
 *      preset      takes                                   endpoint                                           path style
 *      s3          region, keys or the chain               https://s3.{region}.amazonaws.com                  no
 *      gcs         keys                                    https://storage.googleapis.com                     no
 *      r2          account_id, keys                        https://{account_id}.r2.cloudflarestorage.com      no
 *      wasabi      region, keys                            https://s3.{region}.wasabisys.com                  no
 *      backblaze   region, key_id, app_key                 https://s3.{region}.backblazeb2.com                no
 *      hyperstack  api_key or HYPERSTACK_API_KEY, region   https://ca1.obj.nexgencloud.io                     yes
 *      minio       endpoint, keys                          as given                                           yes
 *      (none)      endpoint, keys, path_style, region      as given                                           as given
 *
 * ONE table of presets and ONE of fields (storage.c) say what each takes; TOML, inline tables and command lines are read by it.
 * Owns: everything in it. Threads: immutable after storage_finish().
 */
#ifndef MOUNT_STORAGE_H
#define MOUNT_STORAGE_H

#include <stdbool.h>

#include "base/buf.h"
#include "mount/deferred.h"

struct keys;
struct preset;
struct store;

struct storage {
    char *name;                  /* of [storage.NAME]; NULL: it has none */
    char *where;                 /* "skyward.toml:12", "--preset": where it was said */
    const struct preset *preset; /* NULL: none */
    char *endpoint;              /* after storage_finish(): never NULL */
    char *region;                /* that requests are signed with; NULL: discovered */
    char *account_id, *profile;
    bool path_style, path_style_said;
    bool no_sign_request;
    bool allow_http;                                       /* http:// also to other hosts than this one */
    struct deferred access_key, secret_key, session_token; /* none of all: the default chain */
    struct deferred api_key;                               /* of Hyperstack: keys are made with it */
};

void storage_release(struct storage *storage);
/* One field as text. -EINVAL: an unknown field (the nearest is named), or a value that it does not take; a line in `why`. */
int storage_set(struct storage *storage, const char *field, const char *value, const char *where,
                struct buf *why);
/* One that is a credential; takes it. -EINVAL: the field holds no credential. */
int storage_set_credential(struct storage *storage, const char *field, struct deferred *credential,
                           struct buf *why);
bool storage_is_credential(const char *field);
/* All is said: endpoint, region and style are those of the preset, and all that is missing or contradicts is named, a line each.
 * -EINVAL. */
int storage_finish(struct storage *storage, struct buf *why);
/* The same endpoint, reached with the same credentials: one mount serves volumes of both. */
bool storage_equal(const struct storage *a, const struct storage *b);
/* It has keys of its own, deferred ones too: the default chain is not asked. */
bool storage_has_keys(const struct storage *storage);
/* Resolves them. Errors as deferred_resolve(). Blocks. */
int storage_keys(const struct storage *storage, struct keys **ret_keys, struct buf *why);
/* The same, and where one command printed all of them: the line by which they are asked for again (deferred.h), else nothing. */
int storage_keys_again(const struct storage *storage, struct keys **ret_keys, struct buf *ret_line,
                       struct buf *why);
/* Keys are made for each use (Hyperstack) and deleted after it. */
bool storage_makes_keys(const struct storage *storage);
/* A store of one bucket; credentials are resolved when first needed and again when refused. -EINVAL with the words. */
int storage_open(const struct storage *storage, const char *bucket, struct store **ret_store,
                 struct buf *why);

#endif
