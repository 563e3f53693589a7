/* The metadata service of EC2, version 2 only: a token first, then the role's name, then its keys. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/json.h"
#include "s3/exchange.h"
#include "s3/http.h"
#include "s3/source.h"

#define ADDRESS     "http://169.254.169.254"
#define ADDRESS_SIX "http://[fd00:ec2::254]"
#define ROLES       "/latest/meta-data/iam/security-credentials/"
#define TTL         "x-aws-ec2-metadata-token-ttl-seconds: 21600"

static int64_t timeout_ms(void)
{
    const char *said = source_environment("AWS_METADATA_SERVICE_TIMEOUT");
    long seconds = said ? atol(said) : 1;
    return seconds > 0 && seconds <= 30 ? seconds * 1000 : 1000;
}

static int attempts(void)
{
    const char *said = source_environment("AWS_METADATA_SERVICE_NUM_ATTEMPTS");
    int count = said ? atoi(said) : 1;
    return count > 0 && count <= 10 ? count : 1;
}

static char *name_address(void)
{
    const char *said = source_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const char *mode = source_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE");
    if (!said)
        return xstrdup(mode && strcasecmp(mode, "ipv6") == 0 ? ADDRESS_SIX : ADDRESS);
    size_t length = strlen(said);
    while (length > 0 && said[length - 1] == '/')
        length--;
    return xstrndup(said, length);
}

/* Keys over plain HTTP: of the service's own addresses, or of this host. */
static bool may_be_asked(const char *url)
{
    return strncmp(url, "https://", 8) == 0 || strcmp(url, ADDRESS) == 0 || strcmp(url, ADDRESS_SIX) == 0 ||
           (strncmp(url, "http://", 7) == 0 && http_url_is_loopback(url));
}

static int ask(const char *method, const char *address, const char *path, const char *header,
               struct exchange *ret_exchange, struct buf *why)
{
    STRING_SCOPED *url = xprintf("%s%s", address, path);
    const char *headers[] = {header, NULL};
    *ret_exchange = (struct exchange){.method = method,
                                      .url = url,
                                      .headers = headers,
                                      .direct = true,
                                      .timeout_ms = timeout_ms(),
                                      .attempts = attempts()};
    int rc = exchange_run(ret_exchange, why);
    ret_exchange->url = NULL;
    ret_exchange->headers = NULL;
    return rc;
}

/* 1: a token; 0: there is no such service here. */
static int take_token(const char *address, bool known, char **ret_header, struct buf *why)
{
    struct exchange exchange;
    BUF_SCOPED words = BUF_INIT;
    int rc = ask("PUT", address, "/latest/api/token", TTL, &exchange, &words);
    int status = exchange.status;
    if (rc == 0 && status == 200 && exchange.text.length && !strpbrk(exchange.text.bytes, "\r\n")) {
        *ret_header = xprintf("x-aws-ec2-metadata-token: %s", exchange.text.bytes);
        exchange_release(&exchange);
        return 1;
    }
    exchange_release(&exchange);
    if (rc == -ETIMEDOUT || rc == -EHOSTUNREACH)
        buf_printf(why,
                   "instance metadata: %s gives no token (%s); on EC2 within a container the hop limit must "
                   "be 2: aws ec2 "
                   "modify-instance-metadata-options --http-put-response-hop-limit 2",
                   address, rc == -ETIMEDOUT ? "no answer" : "nobody is there");
    else if (rc < 0)
        buf_printf(why, "instance metadata: %s", words.bytes);
    else
        buf_printf(why,
                   "instance metadata: %s answers %d when asked for a token: it speaks version 1 only, or "
                   "refuses; only version 2 is used",
                   address, status);
    return known ? -EACCES : 0;
}

static int take_role(const char *address, const char *token, char **ret_path, struct buf *why)
{
    struct exchange exchange;
    int rc = ask("GET", address, ROLES, token, &exchange, why);
    if (rc == 0 && (exchange.status == 404 || (exchange.status == 200 && !exchange.text.length))) {
        buf_add_string(why, "instance metadata: this machine has no role: attach an instance profile to it");
        rc = -ENOKEY;
    } else if (rc == 0 && exchange.status != 200) {
        buf_printf(why, "instance metadata: it answers %d when asked for the role", exchange.status);
        rc = -EACCES;
    } else if (rc == 0) {
        exchange.text.bytes[strcspn(exchange.text.bytes, "\r\n")] = 0;
        BUF_SCOPED path = BUF_INIT;
        buf_add_string(&path, ROLES);
        buf_add_encoded(&path, exchange.text.bytes, strlen(exchange.text.bytes), false);
        *ret_path = buf_take(&path);
    }
    exchange_release(&exchange);
    return rc;
}

static int take_keys(const char *address, const char *token, const char *path, struct found *ret_found,
                     struct buf *why)
{
    struct exchange exchange;
    struct json *json = NULL;
    int rc = ask("GET", address, path, token, &exchange, why);
    if (rc == 0 && exchange.status != 200) {
        buf_printf(why, "instance metadata: it answers %d when asked for %s", exchange.status,
                   path + strlen(ROLES));
        rc = -EACCES;
    }
    if (rc == 0 && json_parse(exchange.text.bytes, exchange.text.length, &json, NULL) == 0) {
        const char *code = json_get_string(json, "Code");
        if (code && strcmp(code, "Success") != 0) {
            buf_printf(why, "instance metadata: role %s: %.100s", path + strlen(ROLES), code);
            rc = -ENOKEY;
        }
    }
    json_free(json);
    if (rc == 0)
        rc = source_json(exchange.text.bytes, exchange.text.length, "Token", ret_found, why);
    exchange_release(&exchange);
    return rc;
}

int source_instance(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    const char *off = source_environment("AWS_EC2_METADATA_DISABLED");
    STRING_SCOPED *address = name_address();
    STRING_SCOPED *token = NULL;
    STRING_SCOPED *path = NULL;
    (void)view;
    if (off && strcasecmp(off, "true") == 0) {
        buf_add_string(why, "instance metadata: AWS_EC2_METADATA_DISABLED is set");
        return 0;
    }
    if (!may_be_asked(address)) {
        STRING_SCOPED *place = http_url_place(address);
        buf_printf(
            why,
            "AWS_EC2_METADATA_SERVICE_ENDPOINT: %s: keys come over plain HTTP from this host and %s only",
            place, ADDRESS);
        return -EINVAL;
    }
    int rc = take_token(address, source_environment("AWS_EC2_METADATA_SERVICE_ENDPOINT"), &token, why);
    if (rc <= 0)
        return rc;
    rc = take_role(address, token, &path, why);
    if (rc < 0)
        return rc;
    free(ret_found->source);
    ret_found->source = xprintf("instance role %s", path + strlen(ROLES));
    ret_found->slow = true;
    return take_keys(address, token, path, ret_found, why);
}
