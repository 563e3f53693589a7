#include <errno.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/secret.h"
#include "base/xml.h"
#include "s3/exchange.h"
#include "s3/http.h"
#include "s3/signed.h"
#include "s3/source.h"

#define STS_VERSION "2011-06-15"
#define FORM        "application/x-www-form-urlencoded"

/* AWS_ENDPOINT_URL_STS, else the region's own; without a region, or where it is asked for, the global one. *region is what signs: the
 * global one knows us-east-1 only. */
static char *name_address(const char **region)
{
    const char *said = source_environment("AWS_ENDPOINT_URL_STS");
    const char *ignored = source_environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    const char *legacy = source_environment("AWS_STS_REGIONAL_ENDPOINTS");
    bool china = *region && strncmp(*region, "cn-", 3) == 0;
    if (said && !(ignored && strcasecmp(ignored, "true") == 0)) {
        *region = *region ? *region : "us-east-1";
        return xstrdup(said);
    }
    if (*region && (china || !legacy || strcmp(legacy, "legacy") != 0))
        return xprintf("https://sts.%s.amazonaws.com%s", *region, china ? ".cn" : "");
    *region = "us-east-1";
    return xstrdup("https://sts.amazonaws.com");
}

static int explain(struct xml *xml, const char *action, int status, struct buf *why)
{
    const struct xml_node *root = xml ? xml_root(xml) : NULL, *error = root ? xml_child(root, "Error") : NULL;
    const char *code = error ? xml_child_text(xml, error, "Code") : "";
    const char *words = error ? xml_child_text(xml, error, "Message") : "";
    buf_printf(why, "STS answers %d %s to %s%s%.300s", status, *code ? code : "without a code", action,
               *words ? ": " : "", words);
    return -EACCES;
}

/* ACTIONResult of a good answer; free the xml. */
static int find_result(const struct exchange *exchange, const char *action, struct xml **ret_xml,
                       const struct xml_node **ret_result, struct buf *why)
{
    STRING_SCOPED *wanted = xprintf("%sResult", action);
    int rc = xml_parse(exchange->text.bytes, exchange->text.length, ret_xml);
    if (exchange->status / 100 != 2)
        return explain(*ret_xml, action, exchange->status, why);
    *ret_result = rc == 0 ? xml_child(xml_root(*ret_xml), wanted) : NULL;
    if (!*ret_result)
        buf_printf(why, "STS answers to %s with what holds no %s", action, wanted);
    return *ret_result ? 0 : -EBADMSG;
}

static bool may_be_asked(const char *url)
{
    return strncmp(url, "https://", 8) == 0 || (strncmp(url, "http://", 7) == 0 && http_url_is_loopback(url));
}

static int ask(const char *action, const char *region, const struct keys *keys, struct store_fields *fields,
               struct xml **ret_xml, const struct xml_node **ret_result, struct buf *why)
{
    STRING_SCOPED *url = name_address(&region);
    BUF_SCOPED body = BUF_INIT;
    if (!may_be_asked(url)) {
        STRING_SCOPED *place = http_url_place(url);
        buf_printf(why, "AWS_ENDPOINT_URL_STS: %s: keys are asked for over https:// only", place);
        return -EINVAL;
    }
    const char *host = strstr(url, "://") + 3;
    STRING_SCOPED *name = xstrndup(host, strcspn(host, "/"));
    store_fields_set(fields, "Action", action);
    store_fields_set(fields, "Version", STS_VERSION);
    signed_query(fields, &body);
    struct signed_input input = {.method = "POST",
                                 .host = name,
                                 .path = "/",
                                 .body = body.bytes,
                                 .content_type = FORM,
                                 .service = "sts",
                                 .region = region,
                                 .keys = keys,
                                 .wall_ns = clock_wall_ns()};
    char **lines = signed_lines(&input);
    struct exchange exchange = {.method = "POST",
                                .url = url,
                                .headers = (const char *const *)lines,
                                .body = body.bytes,
                                .timeout_ms = SOURCE_MS,
                                .attempts = 3,
                                .whole_ms = SOURCE_MS};
    int rc = exchange_run(&exchange, why);
    if (rc == 0)
        rc = find_result(&exchange, action, ret_xml, ret_result, why);
    exchange_release(&exchange);
    signed_release(lines);
    secret_wipe(body.bytes, body.length);
    return rc;
}

static int read_keys(struct xml *xml, const struct xml_node *result, struct found *ret_found, struct buf *why)
{
    const struct xml_node *keys = xml_child(result, "Credentials");
    int64_t expires_ns = INT64_MAX;
    if (!keys || clock_parse_iso(xml_child_text(xml, keys, "Expiration"), &expires_ns) < 0) {
        buf_add_string(why, "STS answers with what holds no credentials");
        return -EBADMSG;
    }
    STRING_SCOPED *access = xstrdup(xml_child_text(xml, keys, "AccessKeyId"));
    STRING_SCOPED *secret = xstrdup(xml_child_text(xml, keys, "SecretAccessKey"));
    int rc = source_keys(*access ? access : NULL, *secret ? secret : NULL,
                         xml_child_text(xml, keys, "SessionToken"), expires_ns, ret_found, why);
    secret_wipe(secret, strlen(secret));
    return rc;
}

int sts_assume(const char *action, const char *region, const struct keys *keys, struct store_fields *fields,
               struct found *ret_found, struct buf *why)
{
    struct xml *xml = NULL;
    const struct xml_node *result = NULL;
    int rc = ask(action, region, keys, fields, &xml, &result, why);
    ret_found->slow = true;
    if (rc == 0)
        rc = read_keys(xml, result, ret_found, why);
    xml_free(xml);
    return rc;
}

int sts_identify(const char *region, const struct keys *keys, char **ret_account, char **ret_arn,
                 struct buf *why)
{
    struct xml *xml = NULL;
    struct store_fields fields = {0};
    const struct xml_node *result = NULL;
    int rc = ask("GetCallerIdentity", region, keys, &fields, &xml, &result, why);
    if (rc == 0) {
        *ret_account = xstrdup(xml_child_text(xml, result, "Account"));
        *ret_arn = xstrdup(xml_child_text(xml, result, "Arn"));
    }
    xml_free(xml);
    store_fields_release(&fields);
    return rc;
}
