/* provider: the door to whoever runs the machines: what volumes without a storage of their own need from him. One adapter is one file
 * (provider_aws.c ...) and one row of the table in provider.c.
 *
 *      prepare    makes what credentials need; each id is in the state file (state.h) before it is used
 *      supply     what a plan needs of each volume: endpoint and credentials, or a native mount; reads the state, changes nothing
 *      teardown   deletes what the state file tells, in reverse; what could not be deleted is named and stays in it
 *
 *      aws, gcp, hyperstack: FUSE        runpod: native        vastai, verda, container, others: none; fail at once
 *
 * Errors: -EINVAL: the settings or volumes are wrong, before anything was made; -EACCES, -ENOENT, -ETIMEDOUT ... of the API, with its own
 * words. `why` has a line for each problem, with the remedy. All calls block; the waiter's interrupt (Ctrl-C) and deadline end them.
 */
#ifndef MOUNT_PROVIDER_H
#define MOUNT_PROVIDER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/secret.h"
#include "base/waiter.h"
#include "mount/deferred.h"
#include "mount/volume.h"

/* [providers.NAME], as text; credentials may be deferred. */
struct provider_setting {
    char *name;
    char *value; /* NULL: it is a credential, a list, or a table */
    char **list; /* NULL at the end; NULL: no list */
    bool plain;  /* of a list: all of its values are plain */
    bool open;   /* others can read the file that it stands in */
    struct deferred credential;
    char *where;
};

struct provider_settings {
    struct provider_setting *all;
    size_t count;
};

/* What a setting that an adapter reads may be. */
enum provider_kind {
    PROVIDER_TEXT,
    PROVIDER_TEXTS, /* a text, or a list of them */
    PROVIDER_KEY    /* a credential: a text, or deferred */
};

struct provider_name {
    const char *name;
    enum provider_kind kind;
};

const struct provider_setting *provider_setting(const struct provider_settings *settings, const char *name);
void provider_settings_release(struct provider_settings *settings);

/* One use of an adapter: what it is given. All borrowed. */
struct provider_job {
    const struct provider *provider;
    const struct provider_settings *settings;
    const struct volume *const *volumes; /* those without a storage, at least one */
    size_t volume_count;
    const char *pool;
    const char *state_path, *origin; /* NULL origin: any */
    struct waiter *waiter;
    bool explain; /* supply: nothing is asked, only `calls` is filled */
    /* May be NULL: what prepare and teardown do, as they do it: "made", "kept", "deleted", "gone"; "role"; its id or name. */
    void (*tell)(void *context, const char *what, const char *kind, const char *id);
    void *context;
};

enum supply_credentials {
    SUPPLY_ROLE, /* the worker's own: instance metadata; no secret in the plan */
    SUPPLY_KEYS,
};

/* For one volume, in the order of the job's. */
struct supply {
    char *endpoint, *region;
    bool path_style;
    enum supply_credentials credentials;
    char *identity; /* volumes with equal endpoint, bucket and identity share a mount */
    char *access_key;
    struct secret *secret_key, *session_token;
};

/* What the plan gets of it. */
struct provision {
    struct supply *supplies; /* job->volume_count of them; NULL: native */
    size_t supply_count;
    char *native_base;         /* "/workspace": where the host has it mounted already; NULL: FUSE */
    struct json *deploy_hints; /* an object; NULL: none */
    struct json *
        deploy_forms; /* {"rest": {...}, "graphql": {...}}: the hints as the provider's own calls take them; NULL: none */
    char **notes; /* what a reader of the plan has to know, NULL at the end */
    char **calls; /* "GET https://rest.runpod.io/v1/networkvolumes": what supply asks, NULL at the end */
};

void provision_release(struct provision *provision);
/* Appends a line to `notes` or `calls`. */
void provision_add(char ***lines, const char *format, ...) __attribute__((format(printf, 2, 3)));

struct provider {
    const char *name;
    bool native;
    const struct provider_name
        *settings; /* what [providers.X] says beside type and counts here; a NULL name at the end */
    /* The volumes can be served, as far as can be told without any call. */
    int (*check)(const struct provider_job *job, struct buf *why);
    int (*prepare)(const struct provider_job *job, struct buf *why);
    int (*supply)(const struct provider_job *job, struct provision *ret_provision, struct buf *why);
    int (*teardown)(const struct provider_job *job, struct buf *why);
};

/* A setting of this provider is of another kind than it reads: -EINVAL, with a line for each. What is nearly a name of its own, and is passed
 * over because it may be another tool's, is a line of `warnings`, and so is a key in a file that others can read. */
int provider_check_settings(const struct provider *provider, const struct provider_settings *settings,
                            struct buf *warnings, struct buf *why);
/* For volumes without a storage: *ret_provider may stay NULL when there are none. -EINVAL: nobody is named, or one that mounts no volumes;
 * the buckets are named, and the remedy. Asks nothing, makes nothing. */
int provider_require(const char *name, const struct volume *const *volumes, size_t count,
                     const struct provider **ret_provider, struct buf *why);
/* NULL: not one that mounts volumes. */
const struct provider *provider_find(const char *name);
/* The names of all that can, for messages: "aws, gcp, hyperstack, runpod". */
void provider_names(struct buf *out);

#endif
