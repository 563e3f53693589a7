#include "s3/endpoint.h"

#include <arpa/inet.h>
#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REGION_MAX   63
#define REGION_GUESS "us-east-1"

/* ---- Providers. ---- */

/* What is known by the name of a host (s3-and-providers, sections 7 to 15). In `pattern` {region} is one label of the
 * characters of a region, {any} is anything. `rebuilt`: the host for another region, {suffix} is the partition's. */
struct endpoint_preset {
    const char *pattern;
    const char *rebuilt; /* NULL: the host stays as it is in another region */
    const char *region;  /* of hosts without {region} in the pattern; NULL: unknown */
    bool region_guessed; /* ... and only a guess */
    bool region_upper;   /* the host has it in lower case, signatures want it in upper case */
    bool virtual_host;
    bool tells_region;
    struct store_abilities abilities;
};

#define Y ABILITY_YES
#define N ABILITY_NO
#define U ABILITY_UNKNOWN
/* list_meta, conditional_put, conditional_delete, checksum, delete_many, part_copy, equal_parts */
#define AWS_ABILITIES                                                                                        \
    {                                                                                                        \
        N, Y, Y, Y, Y, Y, false                                                                              \
    }

static const struct endpoint_preset presets[] = {
    /* AWS. */
    {"s3.{region}.amazonaws.com", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"s3.amazonaws.com", "s3.{region}.{suffix}", REGION_GUESS, true, false, true, true, AWS_ABILITIES},
    {"s3.dualstack.{region}.amazonaws.com", "s3.dualstack.{region}.{suffix}", NULL, false, false, true, true,
     AWS_ABILITIES},
    {"s3-fips.{region}.amazonaws.com", "s3-fips.{region}.{suffix}", NULL, false, false, true, true,
     AWS_ABILITIES},
    {"s3-{region}.amazonaws.com", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"s3.{region}.amazonaws.com.cn", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"s3.{region}.amazonaws.eu", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"s3.{region}.c2s.ic.gov", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"s3.{region}.sc2s.sgov.gov", "s3.{region}.{suffix}", NULL, false, false, true, true, AWS_ABILITIES},
    {"{any}.s3.{region}.vpce.amazonaws.com", NULL, NULL, false, false, false, true, AWS_ABILITIES},
    /* Google Cloud Storage. If-Match on a PUT is ignored there; UploadPartCopy is unknown; checksums are answered 400. */
    {"storage.googleapis.com", NULL, "auto", false, false, false, false, {N, N, N, N, U, N, false}},
    /* Cloudflare R2. All parts but the last of one size; checksums only in part. */
    {"{any}.r2.cloudflarestorage.com", NULL, "auto", false, false, false, false, {N, Y, N, N, Y, Y, true}},
    /* Wasabi. */
    {"s3.{region}.wasabisys.com",
     "s3.{region}.wasabisys.com",
     NULL,
     false,
     false,
     true,
     false,
     {N, U, U, U, U, U, false}},
    {"s3.wasabisys.com",
     "s3.{region}.wasabisys.com",
     REGION_GUESS,
     true,
     false,
     true,
     false,
     {N, U, U, U, U, U, false}},
    /* Backblaze B2. Any x-amz-checksum-* is answered 400. */
    {"s3.{region}.backblazeb2.com", NULL, NULL, false, false, true, false, {N, N, N, N, U, U, false}},
    /* Hyperstack. */
    {"ca1.obj.nexgencloud.io", NULL, "us-east-1", false, false, false, false, {U, U, U, U, U, U, false}},
    /* RunPod. */
    {"s3api-{region}.runpod.io", NULL, NULL, false, true, false, false, {N, U, N, U, N, N, false}},
};

#undef Y
#undef N
#undef U

static bool is_region_char(char c)
{
    return isalnum((unsigned char)c) || c == '-';
}

/* True: the whole of `host` is the pattern; *ret_region (malloc'ed, or NULL) is what stood for {region}. */
static bool match_pattern(const char *host, const char *pattern, char **ret_region)
{
    bool region = !strncmp(pattern, "{region}", 8), any = !strncmp(pattern, "{any}", 5);
    if (!region && !any) {
        if (*host != *pattern)
            return false;
        return !*host || match_pattern(host + 1, pattern + 1, ret_region);
    }
    const char *rest = pattern + (region ? 8 : 5);
    for (size_t length = 1; host[length - 1] && (any || is_region_char(host[length - 1])); length++) {
        if (!match_pattern(host + length, rest, ret_region))
            continue;
        if (region)
            *ret_region = xstrndup(host, length);
        return true;
    }
    return false;
}

static const struct endpoint_preset *find_preset(const char *host, char **ret_region)
{
    *ret_region = NULL;
    for (size_t i = 0; i < sizeof(presets) / sizeof(*presets); i++)
        if (match_pattern(host, presets[i].pattern, ret_region))
            return &presets[i];
    return NULL;
}

static const char *find_suffix(const char *region)
{
    static const struct {
        const char *region, *suffix;
    } partitions[] = {
        {"cn-", "amazonaws.com.cn"},    {"eusc-", "amazonaws.eu"},      {"us-isob-", "sc2s.sgov.gov"},
        {"us-isof-", "csp.hci.ic.gov"}, {"eu-isoe-", "cloud.adc-e.uk"}, {"us-iso-", "c2s.ic.gov"},
    };
    for (size_t i = 0; i < sizeof(partitions) / sizeof(*partitions); i++)
        if (!strncmp(region, partitions[i].region, strlen(partitions[i].region)))
            return partitions[i].suffix;
    return "amazonaws.com";
}

static char *build_host(const char *rebuilt, const char *region)
{
    struct buf host = BUF_INIT;
    while (*rebuilt) {
        if (!strncmp(rebuilt, "{region}", 8)) {
            buf_add_string(&host, region);
            rebuilt += 8;
        } else if (!strncmp(rebuilt, "{suffix}", 8)) {
            buf_add_string(&host, find_suffix(region));
            rebuilt += 8;
        } else {
            buf_add_char(&host, *rebuilt++);
        }
    }
    return buf_take(&host);
}

/* ---- Checks. ---- */

bool endpoint_region_valid(const char *region)
{
    size_t length = strlen(region);
    if (!length || length > REGION_MAX || region[0] == '-' || region[length - 1] == '-')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!is_region_char(region[i]))
            return false;
    return true;
}

static bool host_is_address(const char *host)
{
    struct in6_addr address;
    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

bool endpoint_host_is_loopback(const char *host)
{
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    size_t length = strlen(host), suffix = strlen(".localhost");
    return !strcasecmp(host, "localhost") ||
           (length > suffix && !strcasecmp(host + length - suffix, ".localhost"));
}

/* It goes into URLs and host names, so it is checked before all else. */
static int check_bucket(const char *bucket, struct buf *why)
{
    size_t length = bucket ? strlen(bucket) : 0;
    bool good = length && length <= 255 && isalnum((unsigned char)bucket[0]) && !strstr(bucket, "..");
    for (size_t i = 0; good && i < length; i++)
        good = isalnum((unsigned char)bucket[i]) || strchr("-._", bucket[i]);
    if (!good) {
        buf_printf(why, "\"%s\" is no name of a bucket: letters, digits, '-', '.' and '_' only",
                   length ? bucket : "");
        return -EINVAL;
    }
    if (length > 6 && !strcmp(bucket + length - 6, "--x-s3")) {
        buf_add_string(why, "directory buckets (S3 Express) are not supported; use a general purpose bucket");
        return -EINVAL;
    }
    return 0;
}

/* One label of a host name. */
static bool bucket_is_label(const char *bucket)
{
    size_t length = strlen(bucket);
    if (length < 3 || length > 63 || bucket[0] == '-' || bucket[length - 1] == '-')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!islower((unsigned char)bucket[i]) && !isdigit((unsigned char)bucket[i]) && bucket[i] != '-')
            return false;
    return true;
}

/* ---- Reading the endpoint's URL. ---- */

static int refuse_url(const char *url, const char *what, struct buf *why)
{
    buf_printf(why, "endpoint %s %s; write https://HOST or https://HOST:PORT", url, what);
    return -EINVAL;
}

static int read_port(struct endpoint *endpoint, const char *url, const char *text, size_t length,
                     struct buf *why)
{
    int port = 0;
    if (!length || length > 5)
        return refuse_url(url, "has no port behind ':'", why);
    for (size_t i = 0; i < length; i++) {
        if (!isdigit((unsigned char)text[i]))
            return refuse_url(url, "has a port that is no number", why);
        port = port * 10 + (text[i] - '0');
    }
    if (!port || port > 65535)
        return refuse_url(url, "has a port out of range", why);
    endpoint->port = port == (endpoint->https ? 443 : 80) ? 0 : port;
    return 0;
}

static int read_host(struct endpoint *endpoint, const char *url, const char *text, size_t length,
                     struct buf *why)
{
    bool six = length > 2 && text[0] == '[' && text[length - 1] == ']';
    endpoint->host = six ? xstrndup(text + 1, length - 2) : xstrndup(text, length);
    struct in6_addr address;
    if (six)
        return inet_pton(AF_INET6, endpoint->host, &address) == 1
                   ? 0
                   : refuse_url(url, "has a bad IPv6 address", why);
    if (!length || length > 253 || text[0] == '.' || text[0] == '-')
        return refuse_url(url, "has no host name", why);
    for (char *at = endpoint->host; *at; at++) {
        *at = (char)tolower((unsigned char)*at);
        if (!isalnum((unsigned char)*at) && !strchr("-._", *at))
            return refuse_url(url, "has a character that no host name has", why);
    }
    return 0;
}

/* Some consoles show the endpoint with the bucket as its path. */
static int check_path(const struct endpoint *endpoint, const char *url, const char *path, struct buf *why)
{
    size_t length = strlen(endpoint->bucket);
    if (!strcmp(path, "") || !strcmp(path, "/"))
        return 0;
    if (!strncmp(path + 1, endpoint->bucket, length) &&
        (!path[length + 1] || !strcmp(path + length + 1, "/")))
        return 0;
    return refuse_url(url, "has a path", why);
}

static int read_url(struct endpoint *endpoint, const char *url, struct buf *why)
{
    const char *at = strstr(url, "://");
    endpoint->https = !strncasecmp(url, "https://", 8);
    if (!at || (!endpoint->https && strncasecmp(url, "http://", 7)))
        return refuse_url(url, "does not begin with https:// (or http://)", why);
    at += 3;
    if (strpbrk(at, "@")) { /* perhaps a password: not to be repeated */
        buf_add_string(why, "the endpoint has a user name; keys belong into the credentials file");
        return -EINVAL;
    }
    if (strpbrk(at, "?#"))
        return refuse_url(url, "has a query", why);
    size_t length = strcspn(at, "/"), host = length;
    const char *colon = memrchr(at, ':', length);
    if (colon && !memchr(colon, ']', length - (size_t)(colon - at))) {
        host = (size_t)(colon - at);
        int rc = read_port(endpoint, url, colon + 1, length - host - 1, why);
        if (rc < 0)
            return rc;
    }
    int rc = read_host(endpoint, url, at, host, why);
    return rc < 0 ? rc : check_path(endpoint, url, at + length, why);
}

/* ---- Settling the rest. ---- */

/* The host is known as it is, or behind the bucket's name, which the user put there. */
static void settle_preset(struct endpoint *endpoint, char **ret_region)
{
    endpoint->preset = find_preset(endpoint->host, ret_region);
    size_t length = strlen(endpoint->bucket);
    if (endpoint->preset || strncasecmp(endpoint->host, endpoint->bucket, length) ||
        endpoint->host[length] != '.')
        return;
    endpoint->preset = find_preset(endpoint->host + length + 1, ret_region);
    if (endpoint->preset)
        memmove(endpoint->host, endpoint->host + length + 1, strlen(endpoint->host + length + 1) + 1);
}

static void settle_region(struct endpoint *endpoint, const char *told, char **host_region)
{
    const struct endpoint_preset *preset = endpoint->preset;
    if (told)
        endpoint->region = xstrdup(told);
    else if (*host_region)
        endpoint->region = xstrdup(*host_region);
    else
        endpoint->region = xstrdup(preset && preset->region ? preset->region : REGION_GUESS);
    for (char *at = endpoint->region; !told && *host_region && preset->region_upper && *at; at++)
        *at = (char)toupper((unsigned char)*at);
    if (told && preset && preset->rebuilt && preset->region_guessed) { /* s3.amazonaws.com with region= */
        free(endpoint->host);
        endpoint->host = build_host(preset->rebuilt, told);
        free(*host_region);
        preset = find_preset(endpoint->host, host_region);
        if (preset)
            endpoint->preset = preset;
    }
}

static int settle_style(struct endpoint *endpoint, enum store_style style, struct buf *why)
{
    bool label = bucket_is_label(endpoint->bucket), address = host_is_address(endpoint->host);
    if (style == STYLE_VIRTUAL && address) {
        buf_printf(why, "style=virtual needs a host name, and %s is an address; use style=path",
                   endpoint->host);
        return -EINVAL;
    }
    if (style == STYLE_VIRTUAL && (strpbrk(endpoint->bucket, "_") || strlen(endpoint->bucket) > 63)) {
        buf_printf(why, "bucket %s cannot stand in a host name; use style=path", endpoint->bucket);
        return -EINVAL;
    }
    endpoint->virtual_host = style == STYLE_VIRTUAL;
    if (style == STYLE_AUTO)
        endpoint->virtual_host =
            label && !endpoint->port && endpoint->preset && endpoint->preset->virtual_host;
    return 0;
}

static int check_scheme(const struct endpoint *endpoint, bool allow_http, struct buf *why)
{
    if (endpoint->https || allow_http || endpoint_host_is_loopback(endpoint->host))
        return 0;
    buf_printf(
        why, "http:// to %s would send all data readable for anybody on the way; use https://, or allow_http",
        endpoint->host);
    return -EINVAL;
}

static int fill_endpoint(struct endpoint *endpoint, const struct store_config *config, struct buf *why)
{
    const char *told = config->region && *config->region ? config->region : NULL;
    STRING_SCOPED *host_region = NULL;
    int rc = check_bucket(config->bucket, why);
    if (rc < 0)
        return rc;
    if (told && !endpoint_region_valid(told)) {
        buf_printf(why, "\"%s\" is no name of a region; write it as eu-west-1", told);
        return -EINVAL;
    }
    endpoint->bucket = xstrdup(config->bucket);
    const char *url = config->endpoint && *config->endpoint ? config->endpoint : "https://s3.amazonaws.com";
    rc = read_url(endpoint, url, why);
    if (!rc)
        rc = check_scheme(endpoint, config->allow_http, why);
    if (rc < 0)
        return rc;
    settle_preset(endpoint, &host_region);
    settle_region(endpoint, told, &host_region);
    return settle_style(endpoint, config->style, why);
}

int endpoint_new(const struct store_config *config, struct endpoint **ret_endpoint, struct buf *why)
{
    struct endpoint *endpoint = xcalloc(1, sizeof(*endpoint));
    endpoint->references = 1;
    int rc = fill_endpoint(endpoint, config, why);
    if (rc < 0)
        endpoint_unref(endpoint);
    else
        *ret_endpoint = endpoint;
    return rc;
}

struct endpoint *endpoint_ref(struct endpoint *endpoint)
{
    if (endpoint)
        __atomic_add_fetch(&endpoint->references, 1, __ATOMIC_RELAXED);
    return endpoint;
}

void endpoint_unref(struct endpoint *endpoint)
{
    if (!endpoint || __atomic_sub_fetch(&endpoint->references, 1, __ATOMIC_ACQ_REL))
        return;
    free(endpoint->host);
    free(endpoint->bucket);
    free(endpoint->region);
    free(endpoint);
}

int endpoint_in_region(const struct endpoint *endpoint, const char *region, struct endpoint **ret_endpoint)
{
    if (!endpoint_region_valid(region) || !strcmp(region, endpoint->region))
        return -EINVAL;
    bool rebuilt = endpoint->preset && endpoint->preset->rebuilt;
    struct endpoint *other = xcalloc(1, sizeof(*other));
    *other = *endpoint;
    other->references = 1;
    other->host = rebuilt ? build_host(endpoint->preset->rebuilt, region) : xstrdup(endpoint->host);
    other->bucket = xstrdup(endpoint->bucket);
    other->region = xstrdup(region);
    *ret_endpoint = other;
    return 0;
}

/* ---- Requests. ---- */

static void add_authority(const struct endpoint *endpoint, bool with_bucket, struct buf *out)
{
    if (with_bucket)
        buf_printf(out, "%s.", endpoint->bucket);
    buf_printf(out, strchr(endpoint->host, ':') ? "[%s]" : "%s", endpoint->host);
    if (endpoint->port)
        buf_printf(out, ":%d", endpoint->port);
}

void endpoint_locate(const struct endpoint *endpoint, const char *key, struct buf *ret_host,
                     struct buf *ret_path)
{
    /* A key named "soap" is an old door of AWS and no object, in virtual host style. */
    bool virtual_host = endpoint->virtual_host && !(key && !strcmp(key, "soap"));
    add_authority(endpoint, virtual_host, ret_host);
    if (!virtual_host)
        buf_printf(ret_path, "/%s", endpoint->bucket);
    if (key || virtual_host)
        buf_add_char(ret_path, '/');
    if (key)
        buf_add_encoded(ret_path, key, strlen(key), true);
}

void endpoint_url(const struct endpoint *endpoint, const char *host, const char *path, const char *query,
                  struct buf *out)
{
    buf_printf(out, "%s://%s%s", endpoint->https ? "https" : "http", host, path);
    if (*query)
        buf_printf(out, "?%s", query);
}

void endpoint_copy_source(const struct endpoint *endpoint, const char *key, struct buf *out)
{
    buf_printf(out, "/%s/", endpoint->bucket);
    buf_add_encoded(out, key, strlen(key), true);
}

void endpoint_abilities(const struct endpoint *endpoint, struct store_abilities *ret_abilities)
{
    *ret_abilities = endpoint->preset ? endpoint->preset->abilities : (struct store_abilities){0};
}

bool endpoint_tells_region(const struct endpoint *endpoint)
{
    return endpoint->preset && endpoint->preset->tells_region;
}

void endpoint_describe(const struct endpoint *endpoint, struct buf *out)
{
    buf_printf(out, "%s://", endpoint->https ? "https" : "http");
    add_authority(endpoint, false, out);
    buf_printf(out, "/%s, region %s", endpoint->bucket, endpoint->region);
}
