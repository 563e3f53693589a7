#include "s3/body.h"

#include <criterion/criterion.h>
#include <errno.h>

Test(body, delete_escapes_keys)
{
    static const char *const keys[] = {"a", "b&c", "x\r\n<y>"};
    BUF_SCOPED body = BUF_INIT;
    cr_assert_eq(body_delete(keys, 3, &body), 0);
    cr_expect_str_eq(body.bytes,
                     "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                     "<Delete xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Quiet>true</Quiet>"
                     "<Object><Key>a</Key></Object><Object><Key>b&amp;c</Key></Object>"
                     "<Object><Key>x&#13;&#10;&lt;y&gt;</Key></Object></Delete>");
}

Test(body, keys_that_xml_cannot_hold_are_told)
{
    cr_expect(body_holds_key("a\tb"));
    cr_expect(body_holds_key("ä/\xf0\x9f\x98\x80"));
    cr_expect(!body_holds_key("a\x01"));
    cr_expect(!body_holds_key("\xff"));
    cr_expect(!body_holds_key("\xef\xbf\xbf")); /* U+FFFF */
    static const char *const keys[] = {"a", "\x01"};
    BUF_SCOPED body = BUF_INIT;
    cr_expect_eq(body_delete(keys, 2, &body), -EILSEQ);
    cr_expect_eq(body.length, 0u, "and nothing is half written");
}

Test(body, complete_lists_parts_and_etags)
{
    static const struct store_part parts[] = {{1, 5, "\"a\""}, {10000, 1, "\"b\""}};
    BUF_SCOPED body = BUF_INIT;
    body_complete(parts, 2, &body);
    cr_expect_str_eq(
        body.bytes,
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
        "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
        "<Part><PartNumber>1</PartNumber><ETag>&quot;a&quot;</ETag></Part>"
        "<Part><PartNumber>10000</PartNumber><ETag>&quot;b&quot;</ETag></Part></CompleteMultipartUpload>");
}
