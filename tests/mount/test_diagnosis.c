#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>

#include "mount/diagnosis.h"

static char source[] = "data:p", endpoint[] = "http://127.0.0.1:9";
static struct settings settings = {.source = source, .endpoint = endpoint};

static void expect(int rc, int status, const char *code, const char *message, const char *fact,
                   const char *remedy)
{
    struct store_error error = {.http_status = status};
    snprintf(error.code, sizeof(error.code), "%s", code);
    snprintf(error.message, sizeof(error.message), "%s", message);
    BUF_SCOPED why = BUF_INIT;
    diagnosis_access(&settings, rc, &error, &why);
    cr_assert_not_null(strstr(why.bytes, fact), "'%s' does not say '%s'", why.bytes, fact);
    cr_assert_not_null(strstr(why.bytes, remedy), "'%s' does not say '%s'", why.bytes, remedy);
    cr_assert_not_null(strstr(why.bytes, "data:p at http://127.0.0.1:9"));
    cr_assert_null(strchr(why.bytes, '\n'), "one line: '%s'", why.bytes);
}

Test(diagnosis, each_first_failure_has_its_line_and_its_remedy)
{
    expect(-ENOENT, 404, "NoSuchBucket", "", "no such bucket", "check its name");
    expect(-EACCES, 403, "InvalidAccessKeyId", "unknown", "does not know this access key",
           "AWS_ACCESS_KEY_ID");
    expect(-EACCES, 403, "SignatureDoesNotMatch", "", "secret key is wrong", "AWS_SECRET_ACCESS_KEY");
    expect(-EACCES, 403, "AccessDenied", "", "may not list", "s3:ListBucket");
    expect(-EACCES, 403, "", "", "may not list", "s3:ListBucket");
    expect(-EIO, 403, "RequestTimeTooSkewed", "", "clock is wrong", "timedatectl");
    expect(-EIO, 400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'", "another region", "region=");
    expect(-EIO, 301, "PermanentRedirect", "", "another region", "region=");
    expect(-EACCES, 400, "ExpiredToken", "", "expired", "temporary credentials");
    expect(-EIO, 0, "", "Connection refused", "cannot be reached (Connection refused)", "check the endpoint");
    expect(-ETIMEDOUT, 0, "", "Failed to connect to h port 9", "cannot be reached (Failed",
           "check the endpoint");
    expect(-ETIMEDOUT, 0, "", "Could not resolve host: h", "cannot be reached", "check the endpoint");
    expect(-ETIMEDOUT, 0, "", "", "does not answer", "check the endpoint");
    expect(-EIO, 0, "", "SSL certificate problem: self-signed", "not trusted", "ca_bundle");
    expect(-EIO, 418, "", "", "not S3", "check the endpoint");
    expect(-EIO, 500, "InternalError", "boom", "InternalError", "check");
}
