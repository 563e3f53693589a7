#include "mount/diagnosis.h"

#include <errno.h>
#include <string.h>

/* What S3's code means at mount time; %1 is not used: each line is followed by the server's own words. */
static const struct {
    const char *code;
    const char *meaning;
    const char *remedy;
} meanings[] = {
    {"NoSuchBucket", "there is no such bucket", "check its name and the endpoint, or make it"},
    {"InvalidBucketName", "the server does not take this bucket name", "check its name"},
    {"InvalidAccessKeyId", "the server does not know this access key",
     "check AWS_ACCESS_KEY_ID or the profile in ~/.aws/credentials, and that they belong to this endpoint"},
    {"SignatureDoesNotMatch", "the secret key is wrong",
     "check AWS_SECRET_ACCESS_KEY or the profile in ~/.aws/credentials"},
    {"InvalidToken", "the session token is wrong", "get new temporary credentials"},
    {"ExpiredToken", "the credentials have expired", "get new temporary credentials"},
    {"TokenRefreshRequired", "the credentials have expired", "get new temporary credentials"},
    {"RequestTimeTooSkewed", "this host's clock is wrong", "set it (timedatectl set-ntp true, or date -s)"},
    {"AuthorizationHeaderMalformed", "the bucket is in another region",
     "give its region with -o region=REGION"},
    {"PermanentRedirect", "the bucket is in another region or behind another endpoint",
     "give -o region=REGION, or the bucket's own endpoint"},
    {"IllegalLocationConstraintException", "the bucket is in another region",
     "give its region with -o region=REGION"},
    {"AccessDenied", "these credentials may not list here",
     "allow s3:ListBucket on the bucket (for this prefix), or mount the prefix that they may list: "
     "bucket:prefix"},
    {"AllAccessDisabled", "access to this bucket is switched off", "ask the bucket's owner"},
    {"AccountProblem", "the account has a problem", "ask the provider"},
};

static void add_words(const struct store_error *error, struct buf *why)
{
    if (error->message[0])
        buf_printf(why, " (%s)", error->message);
}

static bool explain_code(const char *code, const struct store_error *error, struct buf *why)
{
    for (size_t i = 0; i < sizeof(meanings) / sizeof(meanings[0]); i++) {
        if (strcmp(meanings[i].code, code) != 0)
            continue;
        buf_add_string(why, meanings[i].meaning);
        add_words(error, why);
        buf_printf(why, "; %s", meanings[i].remedy);
        return true;
    }
    return false;
}

static void explain_silence(int rc, const struct store_error *error, struct buf *why)
{
    if (strstr(error->message, "ertificate") || strstr(error->message, "SSL") ||
        strstr(error->message, "TLS"))
        buf_printf(why, "the server's certificate is not trusted (%s); give its CA with -o ca_bundle=FILE",
                   error->message);
    else if (rc == -ENOKEY || strcmp(error->code, "NoCredentials") == 0)
        buf_printf(why,
                   "no credentials were found (%s); set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or "
                   "~/.aws/credentials",
                   error->message);
    else {
        /* The time ran out over and over in vain: the last words tell whether anybody was there at all. */
        bool met =
            rc == -ETIMEDOUT && !strstr(error->message, "onnect to") && !strstr(error->message, "resolve");
        buf_add_string(why, met ? "the endpoint does not answer" : "the endpoint cannot be reached");
        add_words(error, why);
        buf_add_string(why, "; check the endpoint, the network and the proxy");
    }
}

void diagnosis_access(const struct settings *settings, int rc, const struct store_error *error,
                      struct buf *why)
{
    buf_printf(why, "%s at %s: ", settings->source, settings->endpoint ? settings->endpoint : "AWS");
    size_t start = why->length;
    if (!explain_code(error->code, error, why)) {
        if (error->http_status == 0)
            explain_silence(rc, error, why);
        else if (error->http_status == 403)
            explain_code("AccessDenied", error, why);
        else if (error->http_status == 404)
            explain_code("NoSuchBucket", error, why);
        else if (error->http_status == 301 || error->http_status == 307)
            explain_code("PermanentRedirect", error, why);
        else if (!error->code[0])
            buf_printf(why, "what answers there is not S3 (HTTP status %d); check the endpoint",
                       error->http_status);
    }
    if (why->length == start) {
        store_error_print(error, rc, why);
        buf_add_string(why, "; check the endpoint and the bucket");
    }
}
