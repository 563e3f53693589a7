/* SSO: a token that `aws sso login` left in its cache is exchanged for the keys of the profile's role. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/secret.h"
#include "s3/exchange.h"
#include "s3/http.h"
#include "s3/sign.h"
#include "s3/source.h"

struct sso {
    const char *account, *role, *region, *start_url,
        *session; /* session NULL: the profile has its own start URL */
};

/* sso_session names a section that holds region and start URL. */
static const char *find(const struct source_view *view, const struct sso *sso, const char *name)
{
    STRING_SCOPED *section = sso->session ? xprintf("sso-session %s", sso->session) : NULL;
    const char *value = section && view->config ? ini_get(view->config, section, name) : NULL;
    return value ? value : source_setting(view, view->profile, name);
}

static int read_profile(const struct source_view *view, struct sso *ret_sso, struct buf *why)
{
    ret_sso->session = source_setting(view, view->profile, "sso_session");
    ret_sso->account = source_setting(view, view->profile, "sso_account_id");
    ret_sso->role = source_setting(view, view->profile, "sso_role_name");
    ret_sso->region = find(view, ret_sso, "sso_region");
    ret_sso->start_url = find(view, ret_sso, "sso_start_url");
    if ((!ret_sso->session && !ret_sso->start_url) || (!ret_sso->account && !ret_sso->role))
        return 0; /* without both it serves logins that are no keys */
    if (ret_sso->account && ret_sso->role && ret_sso->region && ret_sso->start_url)
        return 1;
    buf_printf(why, "sso: profile %s lacks %s", view->profile,
               !ret_sso->account  ? "sso_account_id"
               : !ret_sso->role   ? "sso_role_name"
               : !ret_sso->region ? "sso_region"
                                  : "sso_start_url");
    return -ENOKEY;
}

/* ~/.aws/sso/cache/SHA1.json, of the session's name or the start URL (as the AWS CLI names it; unverified). */
static char *name_cache(const struct sso *sso)
{
    const char *of = sso->session ? sso->session : sso->start_url;
    STRING_SCOPED *home = source_home();
    uint8_t digest[SHA1_BYTES];
    BUF_SCOPED name = BUF_INIT;
    digest_sha1(of, strlen(of), digest);
    for (size_t i = 0; i < sizeof digest; i++)
        buf_printf(&name, "%02x", digest[i]);
    return xprintf("%s/.aws/sso/cache/%s.json", home, name.bytes);
}

static int read_token(const struct source_view *view, const struct sso *sso, struct secret **ret_token,
                      struct buf *why)
{
    STRING_SCOPED *path = name_cache(sso);
    BUF_SCOPED text = BUF_INIT;
    BUF_SCOPED words = BUF_INIT;
    struct json *json = NULL;
    int64_t ends_ns = 0;
    int rc = source_read(path, &text, &words);
    if (rc == 0)
        rc = json_parse(text.bytes, text.length, &json, NULL);
    const char *token = json_get_string(json, "accessToken"), *ends = json_get_string(json, "expiresAt");
    if (rc < 0 || !token || strpbrk(token, "\r\n") || !ends || clock_parse_iso(ends, &ends_ns) < 0 ||
        ends_ns <= clock_wall_ns()) {
        buf_printf(why, "sso: %s holds no token that is still good; run: aws sso login --profile %s", path,
                   view->profile);
        rc = -ENOKEY;
    } else {
        *ret_token = secret_new(token, strlen(token));
    }
    json_free(json);
    secret_wipe(text.bytes, text.length);
    return rc;
}

static int read_answer(const struct exchange *exchange, const struct source_view *view,
                       struct found *ret_found, struct buf *why)
{
    struct json *json = NULL;
    int64_t ends_ms = 0;
    if (exchange->status != 200) {
        buf_printf(why, "sso: the portal answers %d%s", exchange->status,
                   exchange->status == 401 ? "; run: aws sso login --profile " : "");
        buf_add_string(why, exchange->status == 401 ? view->profile : "");
        return -EACCES;
    }
    int rc = json_parse(exchange->text.bytes, exchange->text.length, &json, NULL);
    const struct json *keys = rc == 0 ? json_get(json, "roleCredentials") : NULL;
    bool told = keys && json_get_integer(keys, "expiration", &ends_ms);
    if (!told || ends_ms < 0 || ends_ms > INT64_MAX / 1000000) {
        buf_add_string(why, "sso: the portal answers with what holds no credentials");
        rc = -EBADMSG;
    } else {
        rc = source_keys(json_get_string(keys, "accessKeyId"), json_get_string(keys, "secretAccessKey"),
                         json_get_string(keys, "sessionToken"), ends_ms * 1000000, ret_found, why);
    }
    json_free(json);
    return rc;
}

static int ask(const struct source_view *view, const struct sso *sso, const struct secret *token,
               struct found *ret_found, struct buf *why)
{
    const char *said = source_environment("AWS_ENDPOINT_URL_SSO");
    BUF_SCOPED url = BUF_INIT;
    if (said && (strncmp(said, "https://", 8) == 0 || http_url_is_loopback(said)))
        buf_add_string(&url, said);
    else
        buf_printf(&url, "https://portal.sso.%s.amazonaws.com", sso->region);
    buf_add_string(&url, "/federation/credentials?role_name=");
    buf_add_encoded(&url, sso->role, strlen(sso->role), false);
    buf_add_string(&url, "&account_id=");
    buf_add_encoded(&url, sso->account, strlen(sso->account), false);
    char *line = xprintf("x-amz-sso_bearer_token: %s", secret_reveal(token));
    const char *headers[] = {line, "Accept: application/json", NULL};
    struct exchange exchange = {.method = "GET",
                                .url = url.bytes,
                                .headers = headers,
                                .timeout_ms = SOURCE_MS,
                                .attempts = 3,
                                .whole_ms = SOURCE_MS};
    int rc = exchange_run(&exchange, why);
    if (rc == 0)
        rc = read_answer(&exchange, view, ret_found, why);
    exchange_release(&exchange);
    secret_wipe(line, strlen(line));
    free(line);
    return rc;
}

int source_sso(const struct source_view *view, struct found *ret_found, struct buf *why)
{
    struct sso sso;
    struct secret *token = NULL;
    int rc = read_profile(view, &sso, why);
    if (rc == 0)
        buf_printf(why, "sso: profile %s has no sso_session or sso_start_url with an account and a role",
                   view->profile);
    if (rc <= 0)
        return rc;
    free(ret_found->source);
    ret_found->source =
        xprintf("SSO role %s of account %s (profile %s)", sso.role, sso.account, view->profile);
    ret_found->slow = true;
    rc = read_token(view, &sso, &token, why);
    if (rc == 0)
        rc = ask(view, &sso, token, ret_found, why);
    secret_unref(token);
    return rc;
}
