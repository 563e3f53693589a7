#include "s3/code.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* Sorted by what can be done. A row `may` tells that a change may have been made although this was answered: servers
 * say 500, 502, 504 also when only the answer was lost inside. */
static const struct code codes[] = {
    /* Final. */
    {"NoSuchKey", 0, -ENOENT, CODE_FINAL, false},
    {"NoSuchVersion", 0, -ENOENT, CODE_FINAL, false},
    {"NoSuchBucket", 0, -EIO, CODE_FINAL, false}, /* says nothing of a key: no file is missing */
    {"NoSuchUpload", 0, -ENOENT, CODE_FINAL, false},
    {"AccessDenied", 0, -EACCES, CODE_FINAL, false},
    {"AllAccessDisabled", 0, -EACCES, CODE_FINAL, false},
    {"AccountProblem", 0, -EACCES, CODE_FINAL, false},
    {"InvalidPayer", 0, -EACCES, CODE_FINAL, false},
    {"NotSignedUp", 0, -EACCES, CODE_FINAL, false},
    {"NotEntitled", 0, -EACCES, CODE_FINAL, false},
    {"InvalidObjectState", 0, -EACCES, CODE_FINAL, false}, /* archived; EIO would look like trouble */
    {"InvalidRange", 0, -ERANGE, CODE_FINAL, false},       /* a GET makes it the object's end */
    {"PreconditionFailed", 0, -ESTALE, CODE_FINAL, false},
    {"NotModified", 0, -EALREADY, CODE_FINAL, false},
    {"EntityTooLarge", 0, -EFBIG, CODE_FINAL, false},
    {"EntityTooSmall", 0, -EIO, CODE_FINAL, false},
    {"TooManyParts", 0, -EFBIG, CODE_FINAL, false},
    {"InvalidPart", 0, -EIO, CODE_FINAL, false},
    {"InvalidPartOrder", 0, -EIO, CODE_FINAL, false},
    {"KeyTooLongError", 0, -ENAMETOOLONG, CODE_FINAL, false},
    {"KeyTooLong", 0, -ENAMETOOLONG, CODE_FINAL, false},
    {"MetadataTooLarge", 0, -E2BIG, CODE_FINAL, false},
    {"RequestHeaderSectionTooLarge", 0, -E2BIG, CODE_FINAL, false},
    {"MalformedXML", 0, -EIO, CODE_FINAL, false},
    {"InvalidArgument", 0, -EIO, CODE_FINAL, false},
    {"InvalidRequest", 0, -EIO, CODE_FINAL, false},
    {"InvalidURI", 0, -EIO, CODE_FINAL, false},
    {"InvalidBucketName", 0, -EIO, CODE_FINAL, false},
    {"InvalidDigest", 0, -EIO, CODE_FINAL, false},
    {"MissingContentLength", 0, -EIO, CODE_FINAL, false},
    {"QuotaExceeded", 0, -ENOSPC, CODE_FINAL, false},
    {"XMinioAdminBucketQuotaExceeded", 0, -ENOSPC, CODE_FINAL, false},
    {"XMinioStorageFull", 0, -ENOSPC, CODE_FINAL, false},
    {"XMinioInvalidObjectName", 0, -EILSEQ, CODE_FINAL, false},
    {"XMinioInvalidResourceName", 0, -EILSEQ, CODE_FINAL, false}, /* `.`, `..`, `//`: refused by its router */
    {"XMinioObjectExistsAsDirectory", 0, -EISDIR, CODE_FINAL, false},
    {"XMinioParentIsObject", 0, -ENOTDIR, CODE_FINAL, false},
    {"MethodNotAllowed", 0, -EOPNOTSUPP, CODE_FINAL, false},
    /* The endpoint cannot. */
    {"NotImplemented", 0, -EOPNOTSUPP, CODE_FEATURE, false},
    {"AccessControlListNotSupported", 0, -EOPNOTSUPP, CODE_FEATURE, false},
    {"XNotImplemented", 0, -EOPNOTSUPP, CODE_FEATURE, false},
    /* The keys. */
    {"InvalidAccessKeyId", 0, -EACCES, CODE_REFRESH, false},
    {"SignatureDoesNotMatch", 0, -EACCES, CODE_REFRESH, false},
    {"InvalidSecurity", 0, -EACCES, CODE_REFRESH, false},
    {"ExpiredToken", 0, -EACCES, CODE_REFRESH, false},
    {"TokenRefreshRequired", 0, -EACCES, CODE_REFRESH, false},
    {"InvalidToken", 0, -EACCES, CODE_REFRESH, false},
    {"InvalidTokenId", 0, -EACCES, CODE_REFRESH, false},
    {"Unauthorized", 0, -EACCES, CODE_REFRESH, false}, /* R2 */
    /* The region. */
    {"AuthorizationHeaderMalformed", 0, -EIO, CODE_REGION, false},
    {"PermanentRedirect", 0, -EIO, CODE_REGION, false},
    {"TemporaryRedirect", 0, -EIO, CODE_REGION, false},
    {"Redirect", 0, -EIO, CODE_REGION, false},
    {"IllegalLocationConstraintException", 0, -EIO, CODE_REGION, false},
    {"IncorrectEndpoint", 0, -EIO, CODE_REGION, false},
    {"InvalidRegion", 0, -EIO, CODE_REGION, false},
    /* The clock. */
    {"RequestTimeTooSkewed", 0, -EACCES, CODE_CLOCK, false},
    {"RequestExpired", 0, -EACCES, CODE_CLOCK, false},
    {"ExpiredRequest", 0, -EACCES, CODE_CLOCK, false}, /* R2 */
    /* Too fast. */
    {"SlowDown", 0, -EIO, CODE_THROTTLE, false},
    {"503 SlowDown", 0, -EIO, CODE_THROTTLE, false},
    {"SlowDownRead", 0, -EIO, CODE_THROTTLE, false},
    {"SlowDownWrite", 0, -EIO, CODE_THROTTLE, false},
    {"TooManyRequests", 0, -EIO, CODE_THROTTLE, false},
    {"TooManyRequestsException", 0, -EIO, CODE_THROTTLE, false},
    {"Throttling", 0, -EIO, CODE_THROTTLE, false},
    {"ThrottlingException", 0, -EIO, CODE_THROTTLE, false},
    {"ThrottledException", 0, -EIO, CODE_THROTTLE, false},
    {"RequestThrottled", 0, -EIO, CODE_THROTTLE, false},
    {"RequestThrottledException", 0, -EIO, CODE_THROTTLE, false},
    {"RequestLimitExceeded", 0, -EIO, CODE_THROTTLE, false},
    {"BandwidthLimitExceeded", 0, -EIO, CODE_THROTTLE, false},
    {"LimitExceededException", 0, -EIO, CODE_THROTTLE, false},
    {"ServerBusy", 0, -EIO, CODE_THROTTLE, false},
    {"PriorRequestNotComplete", 0, -EIO, CODE_THROTTLE, false},
    {"ServiceUnavailable", 0, -EIO, CODE_THROTTLE, true},
    /* The server's or the line's trouble. */
    {"InternalError", 0, -EIO, CODE_RETRY, true},
    {"RequestTimeout", 0, -EIO, CODE_RETRY, true},
    {"RequestTimeoutException", 0, -EIO, CODE_RETRY, true},
    {"ClientDisconnected", 0, -EIO, CODE_RETRY,
     true}, /* MinIO that is being stopped: the client is still there */
    {"XMinioServerNotInitialized", 0, -EIO, CODE_RETRY, false},
    {"XMinioReadQuorum", 0, -EIO, CODE_RETRY, true},
    {"XMinioWriteQuorum", 0, -EIO, CODE_RETRY, true},
    /* A few times. */
    {"BadDigest", 0, -EIO, CODE_FEW, false},
    {"IncompleteBody", 0, -EIO, CODE_FEW, false},
    {"XAmzContentSHA256Mismatch", 0, -EIO, CODE_FEW, false},
    {"XAmzContentChecksumMismatch", 0, -EIO, CODE_FEW, false},
    {"ConditionalRequestConflict", 0, -EIO, CODE_FEW, false},
    {"OperationAborted", 0, -EIO, CODE_FEW, false},

    /* By status, where S3 said nothing that we know. */
    {NULL, 301, -EIO, CODE_REGION, false},
    {NULL, 302, -EIO, CODE_REGION, false},
    {NULL, 304, -EALREADY, CODE_FINAL, false},
    {NULL, 307, -EIO, CODE_REGION, false},
    {NULL, 308, -EIO, CODE_REGION, false},
    {NULL, 400, -EIO, CODE_FINAL, false},
    {NULL, 401, -EACCES, CODE_REFRESH, false},
    {NULL, 403, -EACCES, CODE_FINAL, false},
    {NULL, 404, -ENOENT, CODE_FINAL, false},
    {NULL, 405, -EOPNOTSUPP, CODE_FINAL, false},
    {NULL, 407, -EACCES, CODE_FINAL, false}, /* the proxy wants a password */
    {NULL, 408, -EIO, CODE_RETRY, true},
    {NULL, 409, -EIO, CODE_FEW, false},
    {NULL, 411, -EIO, CODE_FINAL, false},
    {NULL, 412, -ESTALE, CODE_FINAL, false},
    {NULL, 413, -EFBIG, CODE_FINAL, false},
    {NULL, 414, -ENAMETOOLONG, CODE_FINAL, false},
    {NULL, 416, -ERANGE, CODE_FINAL, false},
    {NULL, 425, -EIO, CODE_RETRY, false},
    {NULL, 429, -EIO, CODE_THROTTLE, false},
    {NULL, 431, -E2BIG, CODE_FINAL, false},
    {NULL, 499, -EIO, CODE_RETRY, true}, /* proxies: who waited for them went */
    {NULL, 500, -EIO, CODE_RETRY, true},
    {NULL, 501, -EOPNOTSUPP, CODE_FEATURE, false},
    {NULL, 502, -EIO, CODE_RETRY, true},
    {NULL, 503, -EIO, CODE_THROTTLE, true},
    {NULL, 504, -EIO, CODE_RETRY, true},
    {NULL, 507, -ENOSPC, CODE_FINAL, false},
};

static const struct code other_server_trouble = {NULL, 500, -EIO, CODE_RETRY, true};
static const struct code other = {NULL, 0, -EIO, CODE_FINAL, false};

static const struct code *find_name(const char *name)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i].name && !strcmp(codes[i].name, name))
            return &codes[i];
    return NULL;
}

static const struct code *find_status(int status)
{
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        if (codes[i].status && codes[i].status == status)
            return &codes[i];
    if (status >= 500 || (status >= 200 && status < 300))
        return &other_server_trouble;
    return &other;
}

const struct code *code_find(int http_status, const char *code)
{
    const struct code *found = code && *code ? find_name(code) : NULL;
    return found ? found : find_status(http_status);
}

bool code_refuses_checksum(int http_status, const char *code, const char *message)
{
    if (http_status != 400 && http_status != 501)
        return false;
    if (code_find(http_status, code)->class == CODE_FEW) /* it was looked at, and the body did not fit it */
        return false;
    if (code && !strcmp(code, "ExcessHeaderValues"))
        return true;
    return message && (strcasestr(message, "x-amz-checksum") || strcasestr(message, "x-amz-sdk-checksum"));
}

bool code_refuses_source_size(const char *code, const char *message)
{
    return code && !strcmp(code, "InvalidRequest") && message &&
           strcasestr(message, "larger than the maximum allowable size");
}
