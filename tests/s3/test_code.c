#include "s3/code.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

Test(code, the_code_decides_and_the_status_where_there_is_none)
{
    cr_expect_eq(code_find(400, "NoSuchKey")->rc, -ENOENT);
    cr_expect_eq(code_find(404, NULL)->rc, -ENOENT);
    cr_expect_eq(code_find(404, "")->rc, -ENOENT);
    cr_expect_eq(code_find(403, "Whatever")->rc, -EACCES);
    cr_expect_eq(code_find(503, "SlowDown")->class, CODE_THROTTLE);
    cr_expect_eq(code_find(400, "RequestTimeout")->class, CODE_RETRY);
    cr_expect_eq(code_find(503, "RequestTimeout")->class, CODE_RETRY, "MinIO's status for it");
    cr_expect_eq(code_find(200, "InternalError")->class, CODE_RETRY);
    cr_expect_eq(code_find(200, "Whatever")->class, CODE_RETRY, "an unknown error in a 200 is a 500");
}

Test(code, every_status_has_an_errno_and_a_class)
{
    for (int status = 0; status < 1000; status++) {
        const struct code *code = code_find(status, NULL);
        cr_assert(code && code->rc < 0, "%d", status);
        if (status >= 500 && status != 501 && status != 507)
            cr_expect(code->class == CODE_RETRY || code->class == CODE_THROTTLE, "%d", status);
    }
}

Test(code, refused_checksums_are_recognised)
{
    cr_expect(
        code_refuses_checksum(400, "InvalidArgument", "Unsupported header 'X-Amz-Checksum-Crc32c' received"));
    cr_expect(code_refuses_checksum(400, "ExcessHeaderValues", NULL));
    cr_expect(code_refuses_checksum(501, "NotImplemented",
                                    "header x-amz-sdk-checksum-algorithm is not implemented"));
    cr_expect(!code_refuses_checksum(400, "InvalidArgument", "bad part number"));
    cr_expect(!code_refuses_checksum(400, NULL, NULL));
    cr_expect(
        !code_refuses_checksum(400, "XAmzContentChecksumMismatch",
                               "The provided 'x-amz-checksum' header does not match what was computed."),
        "MinIO: damaged in transit");
    cr_expect(!code_refuses_checksum(403, "AccessDenied", "x-amz-checksum-crc32c"));
}
