#include "mount/source.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int source_check_bucket(const char *bucket, struct buf *why)
{
    size_t length = strlen(bucket);
    if (length < 3 || length > 255) {
        buf_printf(why, "bucket name '%s' must have 3 to 63 characters", bucket);
        return -EINVAL;
    }
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyz0123456789.-_ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t good = strspn(bucket, allowed);
    if (good != length) {
        buf_printf(why, "bucket name '%s' has a character that no bucket can have, at position %zu", bucket,
                   good + 1);
        return -EINVAL;
    }
    return 0;
}

static int add_component(struct buf *prefix, const char *start, size_t length, struct buf *why)
{
    if (length == 0)
        return 0;
    if ((length == 1 && start[0] == '.') || (length == 2 && start[0] == '.' && start[1] == '.')) {
        buf_printf(why, "the prefix must not have '.' or '..' as a component");
        return -EINVAL;
    }
    for (size_t i = 0; i < length; i++) {
        if ((unsigned char)start[i] < 0x20 || start[i] == 0x7f) {
            buf_printf(why, "the prefix has a control character (0x%02x)", (unsigned char)start[i]);
            return -EINVAL;
        }
    }
    buf_add(prefix, start, length);
    buf_add_char(prefix, '/');
    return 0;
}

int source_parse_prefix(const char *text, char **ret_prefix, struct buf *why)
{
    BUF_SCOPED prefix = BUF_INIT;
    while (*text) {
        size_t length = strcspn(text, "/");
        int rc = add_component(&prefix, text, length, why);
        if (rc < 0)
            return rc;
        text += length + (text[length] == '/');
    }
    /* A key has at most 1024 bytes, and something must fit behind the prefix. */
    if (prefix.length > 1000) {
        buf_printf(why, "the prefix is too long: %zu bytes, a whole key has at most 1024", prefix.length);
        return -EINVAL;
    }
    *ret_prefix = xstrdup(prefix.bytes);
    return 0;
}

int source_parse(const char *text, char **ret_bucket, char **ret_prefix, struct buf *why)
{
    bool url = strncmp(text, "s3://", 5) == 0;
    const char *start = url ? text + 5 : text;
    size_t length = strcspn(start, url ? "/" : ":/");
    if (!url && start[length] == '/') {
        buf_printf(why, "'%s' is not a source: say bucket, bucket:prefix or s3://bucket/prefix", text);
        return -EINVAL;
    }
    STRING_SCOPED *bucket = xstrndup(start, length);
    int rc = source_check_bucket(bucket, why);
    if (rc < 0)
        return rc;
    rc = source_parse_prefix(start[length] ? start + length + 1 : "", ret_prefix, why);
    if (rc < 0)
        return rc;
    *ret_bucket = bucket;
    bucket = NULL;
    return 0;
}
