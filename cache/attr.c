#include "cache/attr.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#define SECOND_NS      INT64_C(1000000000)
#define SECONDS_MAX    (INT64_C(1) << 33) /* 1697 to 2242: what fits int64 nanoseconds with room to reckon */
#define DIRECTORY_SIZE 4096
#define MODE_MAX       0177777u
#define MAJOR_MAX      0xfffu
#define MINOR_MAX      0xfffffu

/* All digits of `base`, at most `max`. */
static int parse_number(const char *text, int base, uint64_t max, uint64_t *ret_value)
{
    uint64_t value = 0;

    if (!text || !*text)
        return -EINVAL;
    for (; *text; text++) {
        if (*text < '0' || *text >= '0' + base)
            return -EINVAL;
        value = value * (uint64_t)base + (uint64_t)(*text - '0');
        if (value > max)
            return -ERANGE;
    }
    *ret_value = value;
    return 0;
}

int attr_parse_time(const char *text, int64_t *ret_ns)
{
    bool negative = *text == '-';
    int64_t seconds = 0, fraction = 0, unit = SECOND_NS;
    const char *at = text + negative;

    if (!isdigit((unsigned char)*at))
        return -EINVAL;
    for (; isdigit((unsigned char)*at); at++) {
        seconds = seconds * 10 + (*at - '0');
        if (seconds > SECONDS_MAX)
            return -EINVAL;
    }
    if (*at == '.')
        for (at++; isdigit((unsigned char)*at); at++)
            if (unit > 1)
                fraction += (*at - '0') * (unit /= 10);
    if (*at)
        return -EINVAL;
    *ret_ns = seconds * SECOND_NS + fraction;
    if (negative)
        *ret_ns = -*ret_ns;
    return 0;
}

int64_t attr_clamp_time(int64_t ns)
{
    const int64_t limit = SECONDS_MAX * SECOND_NS;

    return ns > limit ? limit : ns < -limit ? -limit : ns;
}

void attr_print_time(int64_t ns, char out[32])
{
    uint64_t magnitude = ns < 0 ? -(uint64_t)ns : (uint64_t)ns;
    const char *sign = ns < 0 ? "-" : "";
    uint64_t seconds = magnitude / SECOND_NS, fraction = magnitude % SECOND_NS;

    if (fraction)
        snprintf(out, 32, "%s%" PRIu64 ".%09" PRIu64, sign, seconds, fraction);
    else
        snprintf(out, 32, "%s%" PRIu64, sign, seconds);
}

/* Decimal, as s3fs writes it. A number too large for that is read as octal: "100644" is what rclone writes. */
static int parse_mode(const char *text, uint32_t *ret_mode)
{
    uint64_t mode;
    int rc = parse_number(text, 10, MODE_MAX, &mode);

    if (rc == -ERANGE)
        rc = parse_number(text, 8, MODE_MAX, &mode);
    if (rc == 0)
        *ret_mode = (uint32_t)mode;
    return rc;
}

int attr_parse_device(const char *text, uint64_t *ret_device)
{
    char first[ATTR_DEVICE_MAX];
    const char *colon = text ? strchr(text, ':') : NULL;
    uint64_t major, minor;

    if (!colon || colon - text >= (ptrdiff_t)sizeof(first))
        return -EINVAL;
    snprintf(first, sizeof(first), "%.*s", (int)(colon - text), text);
    if (parse_number(first, 10, MAJOR_MAX, &major) < 0 || parse_number(colon + 1, 10, MINOR_MAX, &minor) < 0)
        return -EINVAL;
    *ret_device = makedev((unsigned)major, (unsigned)minor);
    return 0;
}

void attr_print_device(uint64_t device, char out[ATTR_DEVICE_MAX])
{
    snprintf(out, ATTR_DEVICE_MAX, "%u:%u", major(device) & MAJOR_MAX, minor(device) & MINOR_MAX);
}

bool attr_is_device(uint32_t type)
{
    return type == S_IFCHR || type == S_IFBLK;
}

bool attr_is_special(uint32_t type)
{
    return type == S_IFIFO || type == S_IFSOCK || attr_is_device(type);
}

static uint32_t choose_type(const struct store_object *object, uint32_t mode)
{
    size_t length = object->key ? strlen(object->key) : 0;
    uint32_t type = mode & S_IFMT;

    if (length && object->key[length - 1] == '/')
        return S_IFDIR;
    return type == S_IFLNK || (attr_is_special(type) && object->size == 0) ? type : S_IFREG;
}

/* Who writes the bucket can write any word, a skyvol-id too: no program out of it runs as its owner, also where root copies it to a
 * place that is not nosuid. The bits of a directory run nothing: sticky takes rights away, setgid says whose what is made in it is. */
static uint32_t choose_bits(uint32_t type)
{
    return type == S_IFDIR ? 03777 : 0777;
}

static void take_id(const struct store_fields *meta, const char *name, uint32_t *id)
{
    uint64_t value;
    if (parse_number(store_fields_get(meta, name), 10, UINT32_MAX - 1, &value) == 0)
        *id = (uint32_t)value;
}

static void take_time(const struct store_fields *meta, const char *name, int64_t *ns)
{
    const char *text = store_fields_get(meta, name);
    if (text)
        attr_parse_time(text, ns);
}

void attr_from_object(const struct store_object *object, const struct attr_defaults *defaults,
                      struct attributes *ret_attributes)
{
    uint32_t mode = 0;
    bool told = parse_mode(store_fields_get(&object->meta, "mode"), &mode) == 0;
    uint32_t type = choose_type(object, mode);
    uint32_t usual = type == S_IFDIR ? defaults->dir_mode : type == S_IFLNK ? 0777 : defaults->file_mode;

    *ret_attributes = (struct attributes){
        .mode = type | ((told ? mode : usual) & choose_bits(type)),
        .uid = defaults->uid,
        .gid = defaults->gid,
        .size = type == S_IFDIR ? DIRECTORY_SIZE : object->size,
        .mtime_ns = object->modified_ns,
    };
    take_id(&object->meta, "uid", &ret_attributes->uid);
    take_id(&object->meta, "gid", &ret_attributes->gid);
    take_time(&object->meta, "mtime", &ret_attributes->mtime_ns);
    ret_attributes->ctime_ns = ret_attributes->atime_ns = ret_attributes->mtime_ns;
    take_time(&object->meta, "ctime", &ret_attributes->ctime_ns);
    if (attr_is_device(type))
        attr_parse_device(store_fields_get(&object->meta, "rdev"), &ret_attributes->device);
    ret_attributes->blocks = (ret_attributes->size + 511) / 512;
}

void attr_to_meta(const struct attributes *attributes, bool with_mtime, struct store_fields *meta)
{
    char text[32];

    snprintf(text, sizeof(text), "%" PRIu32, attributes->mode);
    store_fields_set(meta, "mode", text);
    snprintf(text, sizeof(text), "%" PRIu32, attributes->uid);
    store_fields_set(meta, "uid", text);
    snprintf(text, sizeof(text), "%" PRIu32, attributes->gid);
    store_fields_set(meta, "gid", text);
    attr_print_time(attributes->ctime_ns, text);
    store_fields_set(meta, "ctime", text);
    store_fields_remove(meta, "rdev");
    if (attr_is_device(attributes->mode & S_IFMT) && attributes->device) {
        attr_print_device(attributes->device, text);
        store_fields_set(meta, "rdev", text);
    }
    if (with_mtime) {
        attr_print_time(attributes->mtime_ns, text);
        store_fields_set(meta, "mtime", text);
    } else {
        store_fields_remove(meta, "mtime");
    }
}
