/* source: one place where keys may come from. credentials.c holds the order of them; one file each for those that ask somebody.
 *
 *      environment -> role of a profile -> web identity -> sso -> credentials file -> credential_process -> config file -> container -> instance
 *
 * Each gives 1: found; 0: it has none, `why` says so in a few words; -errno: stop here, `why` says what is wrong and the remedy (what is
 * configured and does not work must not be passed over in silence for another identity).
 * Threads: any; they block, at most SOURCE_MS for each thing that is asked.
 */
#ifndef S3_SOURCE_H
#define S3_SOURCE_H

#include "base/buf.h"
#include "s3/credentials.h"
#include "s3/ini.h"

#define SOURCE_MS 5000

/* What the files say; the strings are the caller's. */
struct source_view {
    const char *profile;
    bool chosen;     /* by an option or the environment */
    bool named;      /* by an option, or the file with keys: variables that name an identity are not asked */
    bool file_named; /* the file with keys, by an option: nobody else is asked */
    const struct ini *keys, *config; /* NULL: there is no such file */
    bool config_private;             /* nobody else may read it: keys in it are taken */
    const char *region;              /* NULL: not told */
    const char *role;                /* asked for by an option, before the profile's; NULL: not */
};

struct found {
    struct keys *keys;
    char *source;
    bool slow; /* it was asked over a network, or by a process */
};

typedef int source_look(const struct source_view *view, struct found *ret_found, struct buf *why);

source_look source_role, source_web_identity, source_sso, source_process, source_container, source_instance;

/* ---- What they share. ---- */

/* found->source is set: -ENOKEY when a key is missing or cannot stand in a header. */
int source_keys(const char *access_key, const char *secret_key, const char *token, int64_t expires_ns,
                struct found *ret_found, struct buf *why);
/* The JSON of containers, instances and processes: AccessKeyId, SecretAccessKey, `token_name`, Expiration. */
int source_json(const char *text, size_t length, const char *token_name, struct found *ret_found,
                struct buf *why);
/* The variable, NULL when it is not set or empty. */
const char *source_environment(const char *name);
/* The section of a profile in the config file; malloc'ed. */
char *source_section(const struct ini *config, const char *profile);
/* A setting of a profile: the credentials file's, else the config file's. */
const char *source_setting(const struct source_view *view, const char *profile, const char *name);
bool source_has_profile(const struct source_view *view, const char *profile);
/* The static keys of a profile. 1, 0 or -ENOKEY. */
int source_static(const struct source_view *view, const char *profile, struct found *ret_found,
                  struct buf *why);
/* Where ~ is: HOME, else what the user database says. Malloc'ed. */
char *source_home(void);
/* A whole small file, at most 64 KiB, without the space at its end; secret_wipe() it. -errno with words. */
int source_read(const char *path, struct buf *ret_text, struct buf *why);

/* sts.c: ACTION of STS: signed with `keys`, or unsigned (NULL). `fields` are its parameters, form-encoded by it. */
struct store_fields;
int sts_assume(const char *action, const char *region, const struct keys *keys, struct store_fields *fields,
               struct found *ret_found, struct buf *why);
int sts_identify(const char *region, const struct keys *keys, char **ret_account, char **ret_arn,
                 struct buf *why);

#endif
