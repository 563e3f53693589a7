#include "s3/source.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/json.h"
#include "base/secret.h"

#define FILE_MAX ((size_t)64 << 10)

const char *source_environment(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

char *source_home(void)
{
    const char *home = source_environment("HOME");
    if (home)
        return xstrdup(home);
    char room[4096];
    struct passwd entry, *found = NULL;
    if (getpwuid_r(geteuid(), &entry, room, sizeof(room), &found) || !found)
        return xstrdup("/");
    return xstrdup(entry.pw_dir);
}

/* What goes into headers: graphic ASCII, nothing else. The value itself is never named. */
static bool is_printable(const char *text)
{
    for (; *text; text++)
        if (*text <= ' ' || *text > '~')
            return false;
    return true;
}

int source_keys(const char *access_key, const char *secret_key, const char *token, int64_t expires_ns,
                struct found *ret_found, struct buf *why)
{
    if (!access_key || !secret_key) {
        buf_printf(why, "%s: the %s is missing", ret_found->source, access_key ? "secret key" : "access key");
        return -ENOKEY;
    }
    if (!is_printable(access_key) || !is_printable(secret_key) || (token && !is_printable(token))) {
        buf_printf(why, "%s: a key or token holds spaces or control characters", ret_found->source);
        return -ENOKEY;
    }
    ret_found->keys = keys_new(access_key, secret_key, token && *token ? token : NULL, expires_ns);
    return 1;
}

int source_json(const char *text, size_t length, const char *token_name, struct found *ret_found,
                struct buf *why)
{
    struct json *json = NULL;
    int64_t expires_ns = INT64_MAX;
    if (json_parse(text, length, &json, NULL) < 0) {
        buf_printf(why, "%s: the answer is not JSON", ret_found->source);
        return -EBADMSG;
    }
    const char *ends = json_get_string(json, "Expiration");
    int rc = ends && clock_parse_iso(ends, &expires_ns) < 0 ? -EBADMSG : 0;
    if (rc < 0)
        buf_printf(why, "%s: Expiration is no ISO 8601 time", ret_found->source);
    else
        rc = source_keys(json_get_string(json, "AccessKeyId"), json_get_string(json, "SecretAccessKey"),
                         json_get_string(json, token_name), expires_ns, ret_found, why);
    json_free(json);
    return rc;
}

/* ---- Profiles. ---- */

char *source_section(const struct ini *config, const char *profile)
{
    char *section = xprintf("profile %s", profile);
    if (ini_has_section(config, section) || strcmp(profile, "default") != 0)
        return section;
    free(section);
    return xstrdup("default");
}

const char *source_setting(const struct source_view *view, const char *profile, const char *name)
{
    STRING_SCOPED *section = source_section(view->config, profile);
    const char *value = view->keys ? ini_get(view->keys, profile, name) : NULL;
    if (!value && view->config)
        value = ini_get(view->config, section, name);
    return value && *value ? value : NULL;
}

bool source_has_profile(const struct source_view *view, const char *profile)
{
    STRING_SCOPED *section = source_section(view->config, profile);
    return (view->keys && ini_has_section(view->keys, profile)) ||
           (view->config && ini_has_section(view->config, section));
}

int source_static(const struct source_view *view, const char *profile, struct found *ret_found,
                  struct buf *why)
{
    const char *access_key = source_setting(view, profile, "aws_access_key_id");
    const char *secret_key = source_setting(view, profile, "aws_secret_access_key");
    bool in_config = !view->keys || !ini_get(view->keys, profile, "aws_access_key_id");
    if (!access_key && !secret_key)
        return 0;
    free(ret_found->source);
    ret_found->source = xprintf("profile %s", profile);
    if (in_config && !view->config_private) {
        buf_printf(why,
                   "profile %s: the config file holds its keys and is open to others; run chmod 600 on it, "
                   "or move them to "
                   "~/.aws/credentials",
                   profile);
        return -EPERM;
    }
    return source_keys(access_key, secret_key, source_setting(view, profile, "aws_session_token"), INT64_MAX,
                       ret_found, why);
}

int source_read(const char *path, struct buf *ret_text, struct buf *why)
{
    char room[4096];
    ssize_t length = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (fd < 0) {
        buf_printf(why, "%s cannot be read: %s", path, err_text(-errno));
        return -ENOKEY;
    }
    while ((length = read(fd, room, sizeof room)) > 0 && ret_text->length <= FILE_MAX)
        buf_add(ret_text, room, (size_t)length);
    secret_wipe(room, sizeof room);
    close(fd);
    while (ret_text->length > 0 && strchr(" \t\r\n", ret_text->bytes[ret_text->length - 1]))
        ret_text->bytes[--ret_text->length] = 0;
    if (length >= 0 && ret_text->length > 0 && ret_text->length <= FILE_MAX)
        return 0;
    buf_printf(why, "%s %s", path,
               length < 0         ? "cannot be read"
               : ret_text->length ? "is too large"
                                  : "is empty");
    return -ENOKEY;
}
