/* Roles: what a profile's role_arn says, with the keys of another profile or of the machine; and web identities (IRSA). */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/secret.h"
#include "s3/source.h"
#include "s3/store.h"

#define DEPTH_MAX 5 /* profiles that lead to one another */

static void name_session(const struct source_view *view, const char *profile, struct store_fields *fields)
{
    const char *said = source_setting(view, profile, "role_session_name");
    STRING_SCOPED *made = xprintf("skyvol-%lld", (long long)(clock_wall_ns() / 1000000000));
    store_fields_set(fields, "RoleSessionName", said ? said : made);
}

/* ---- Web identities. ---- */

static int assume_by_token(const struct source_view *view, const char *profile, const char *role,
                           const char *path, const char *session, struct found *ret_found, struct buf *why)
{
    struct store_fields fields = {0};
    BUF_SCOPED token = BUF_INIT;
    free(ret_found->source);
    ret_found->source = xprintf("web identity of %s for role %s", path, role);
    int rc = source_read(path, &token, why);
    if (rc == 0) {
        name_session(view, profile, &fields);
        if (session)
            store_fields_set(&fields, "RoleSessionName", session);
        store_fields_set(&fields, "RoleArn", role);
        store_fields_set(&fields, "WebIdentityToken", token.bytes);
        rc = sts_assume("AssumeRoleWithWebIdentity", view->region, NULL, &fields, ret_found, why);
    }
    secret_wipe(token.bytes, token.length);
    store_fields_release(&fields);
    return rc;
}

int source_web_identity(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *path = view->named ? NULL : source_environment("AWS_WEB_IDENTITY_TOKEN_FILE");
    const char *role = source_environment("AWS_ROLE_ARN");
    const char *session = source_environment("AWS_ROLE_SESSION_NAME");
    if (!path) {
        path = source_setting(view, view->profile, "web_identity_token_file");
        role = source_setting(view, view->profile, "role_arn");
        session = NULL;
    }
    if (!path) {
        buf_add_string(why, view->named ? "web identity: the profile names none"
                                        : "web identity: AWS_WEB_IDENTITY_TOKEN_FILE is not set");
        return 0;
    }
    if (!role) {
        buf_printf(why, "web identity: %s is named, but no role: set AWS_ROLE_ARN", path);
        return -ENOKEY;
    }
    return assume_by_token(view, view->profile, role, path, session, ret_found, why);
}

/* ---- Roles of profiles. ---- */

static int find_of_profile(const struct source_view *view, const char *profile, int depth,
                           struct found *ret_found, struct buf *why);

/* credential_source: Environment, Ec2InstanceMetadata or EcsContainer. */
static int find_of_machine(const struct source_view *view, const char *name, struct found *ret_found,
                           struct buf *why)
{
    if (strcmp(name, "Ec2InstanceMetadata") == 0)
        return source_instance(view, ret_found, why);
    if (strcmp(name, "EcsContainer") == 0)
        return source_container(view, ret_found, why);
    if (strcmp(name, "Environment") != 0) {
        buf_printf(why, "credential_source = %s is none of Environment, Ec2InstanceMetadata, EcsContainer",
                   name);
        return -EINVAL;
    }
    const char *token = source_environment("AWS_SESSION_TOKEN");
    ret_found->source = xstrdup("environment AWS_ACCESS_KEY_ID");
    return source_keys(source_environment("AWS_ACCESS_KEY_ID"), source_environment("AWS_SECRET_ACCESS_KEY"),
                       token ? token : source_environment("AWS_SECURITY_TOKEN"), INT64_MAX, ret_found, why);
}

/* The keys of a profile that has no role. */
static int find_plain(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    int rc = source_static(view, view->profile, ret_found, why);
    if (rc == 0)
        rc = source_sso(view, ret_found, why);
    return rc == 0 ? source_process(view, ret_found, why) : rc;
}

/* Those that would serve if no role had been asked for. */
static int find_without_role(const struct source_view *view, struct found *ret_base, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    int rc = 0;
    if (!view->named && source_environment("AWS_ACCESS_KEY_ID"))
        rc = find_of_machine(view, "Environment", ret_base, &words);
    if (rc == 0)
        rc = source_web_identity(view, ret_base, &words);
    if (rc == 0)
        rc = find_plain(view, ret_base, &words);
    if (rc == 0 && !view->file_named)
        rc = source_container(view, ret_base, &words);
    if (rc == 0 && !view->file_named)
        rc = source_instance(view, ret_base, &words);
    if (rc <= 0)
        buf_printf(why, "role %s: there are no keys to ask for it with: %s", view->role, words.bytes);
    return rc == 0 ? -ENOKEY : rc;
}

/* The keys that ask for the role. */
static int find_base(const struct source_view *view, const char *profile, int depth, struct found *ret_base,
                     struct buf *why)
{
    const char *from = source_setting(view, profile, "source_profile");
    const char *machine = source_setting(view, profile, "credential_source");
    if (view->role && depth == 0 && !from && !machine)
        return find_without_role(view, ret_base, why);
    if (!from == !machine) {
        buf_printf(why, "profile %s: role_arn needs one of source_profile and credential_source, %s", profile,
                   from ? "not both" : "and has neither");
        return -EINVAL;
    }
    BUF_SCOPED words = BUF_INIT;
    int rc;
    if (machine)
        rc = find_of_machine(view, machine, ret_base, &words);
    else if (strcmp(from, profile) == 0) /* its own static keys, the one circle that is allowed */
        rc = source_static(view, from, ret_base, &words);
    else
        rc = find_of_profile(view, from, depth + 1, ret_base, &words);
    if (rc <= 0)
        buf_printf(why, "profile %s: the keys that ask for its role (%s) were not found%s%s", profile,
                   from ? from : machine, words.length ? ": " : "", words.bytes);
    return rc == 0 ? -ENOKEY : rc;
}

static int assume(const struct source_view *view, const char *profile, const char *role, int depth,
                  struct found *ret_found, struct buf *why)
{
    static const char *const passed[][2] = {{"external_id", "ExternalId"},
                                            {"duration_seconds", "DurationSeconds"}};
    struct found base = {0};
    struct store_fields fields = {0};
    if (source_setting(view, profile, "mfa_serial")) {
        buf_printf(why,
                   "profile %s asks for a code of a second factor (mfa_serial), which a mount cannot type; "
                   "use a profile "
                   "without it, or aws sts get-session-token",
                   profile);
        return -ENOKEY;
    }
    int rc = find_base(view, profile, depth, &base, why);
    if (rc > 0) {
        free(ret_found->source);
        ret_found->source = xprintf("role %s by profile %s, asked for by %s", role, profile, base.source);
        name_session(view, profile, &fields);
        store_fields_set(&fields, "RoleArn", role);
        for (size_t i = 0; i < sizeof passed / sizeof *passed; i++)
            if (source_setting(view, profile, passed[i][0]))
                store_fields_set(&fields, passed[i][1], source_setting(view, profile, passed[i][0]));
        rc = sts_assume("AssumeRole", view->region, base.keys, &fields, ret_found, why);
    }
    keys_unref(base.keys);
    free(base.source);
    store_fields_release(&fields);
    return rc;
}

static int find_of_profile(const struct source_view *view, const char *profile, int depth,
                           struct found *ret_found, struct buf *why)
{
    struct source_view inner = *view;
    inner.profile = profile;
    const char *role = source_setting(view, profile, "role_arn");
    const char *token = source_setting(view, profile, "web_identity_token_file");
    if (depth > DEPTH_MAX) {
        buf_printf(why, "source_profile leads in a circle, or through more than %d profiles, at %s",
                   DEPTH_MAX, profile);
        return -EINVAL;
    }
    if (!source_has_profile(view, profile)) {
        buf_printf(why, "there is no profile %s", profile);
        return -ENOKEY;
    }
    if (role && token)
        return assume_by_token(view, profile, role, token, NULL, ret_found, why);
    if (role)
        return assume(view, profile, role, depth, ret_found, why);
    return find_plain(&inner, ret_found, why);
}

int source_role(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *role = view->role ? view->role : source_setting(view, view->profile, "role_arn");
    if (!role || (!view->role && source_setting(view, view->profile, "web_identity_token_file"))) {
        buf_printf(why, "role: profile %s has no role_arn", view->profile);
        return 0;
    }
    return assume(view, view->profile, role, 0, ret_found, why);
}
