/* credentials: the door to keys: who we are for the endpoint, from where, and what to do when refused.
 *
 *      chain: what the caller gives -> the order of source.h
 *
 * A struct keys is immutable and counted; a signer holds the one that it signed with, so that "refused" can say which.
 * While there are none, a look in vain that took long is not begun again for as long as it took (30 s at most).
 * Threads: any; a refresh is done by one thread at a time, ahead of the end of the keys, while others go on with those that they have. Where
 * somebody has to be asked for them it has a thread of its own.
 */
#ifndef S3_CREDENTIALS_H
#define S3_CREDENTIALS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/secret.h"

struct credentials;

struct keys {
    char *access_key;
    struct secret *secret_key;
    struct secret *session_token; /* NULL: none */
    int64_t expires_ns;           /* wall; INT64_MAX: never */
    int references;               /* atomic; keys_ref, keys_unref */
};

struct keys *keys_new(const char *access_key, const char *secret_key, const char *session_token,
                      int64_t expires_ns);
struct keys *keys_ref(struct keys *keys);
void keys_unref(struct keys *keys);

/* 0 with keys, or -errno with one line of why. May block; one thread asks at a time. `release` ends the context, with the credentials. */
struct credentials_ask {
    int (*keys)(void *context, struct keys **ret_keys, struct buf *why);
    void (*release)(void *context);
    void *context;
    const char *words; /* of the source, for people; copied */
};

struct credentials_config {
    const char *profile; /* option profile=; NULL: AWS_PROFILE, AWS_DEFAULT_PROFILE, "default" */
    const char *
        role_arn; /* a role that is asked for with the keys found; before the profile's. NULL: the profile's, if any */
    const char *credentials_file; /* NULL: AWS_SHARED_CREDENTIALS_FILE, ~/.aws/credentials */
    const char *config_file;      /* NULL: AWS_CONFIG_FILE, ~/.aws/config */
    struct keys *explicit_keys;   /* NULL: none; a reference is taken */
    /* NULL: none. The source before all others: asked when keys are first needed, and again when they were refused. */
    const struct credentials_ask *ask;
};

/* Reads nothing yet. Relative paths, also of the environment, start where the process stands at this moment. */
struct credentials *credentials_new(const struct credentials_config *config);
struct credentials *credentials_ref(struct credentials *credentials);
void credentials_unref(struct credentials *credentials);
/* A reference to the keys in force. -ENOKEY: no source had any, `why` names every source tried and why not. -EPERM: a
 * file with keys is not ours or open to others (named). -EBADMSG: a file cannot be read as INI (file and line named). */
int credentials_get(struct credentials *credentials, struct keys **ret_keys, struct buf *why);
/* The server refused these keys: the sources are read again, at most every 5 s. 1: there are other keys now; 0: the same. */
int credentials_refused(struct credentials *credentials, const struct keys *refused);
/* Why each source before that one had no keys, "; " between them. */
void credentials_tried(struct credentials *credentials, struct buf *out);
/* "environment AWS_ACCESS_KEY_ID", "profile default of /home/u/.aws/credentials". */
void credentials_describe(struct credentials *credentials, struct buf *out);
/* Asks STS (of the region in force) whose keys these are: account and ARN, malloc'ed. -EACCES: it refuses them. One request, which blocks. */
int credentials_verify(struct credentials *credentials, const struct keys *keys, char **ret_account,
                       char **ret_arn, struct buf *why);
/* region, endpoint_url and the like of the chosen profile; NULL when not set. Malloc'ed. */
char *credentials_setting(struct credentials *credentials, const char *name);

#endif
