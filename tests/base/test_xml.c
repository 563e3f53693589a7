#include "base/xml.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

#include "base/buf.h"

static struct xml *parse(const char *text)
{
    struct xml *xml = NULL;
    cr_assert_eq(xml_parse(text, strlen(text), &xml), 0, "%.60s", text);
    return xml;
}

static int refuse(const char *text)
{
    struct xml *xml = NULL;
    int rc = xml_parse(text, strlen(text), &xml);
    xml_free(xml);
    return rc;
}

Test(xml, reads_a_listing)
{
    struct xml *xml = parse("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
                            "<ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">"
                            "<Name>b</Name><Contents><Key>a%20b</Key><Size>5</Size></Contents>\n"
                            "<Contents><Key>c</Key></Contents></ListBucketResult>");
    const struct xml_node *root = xml_root(xml);
    cr_assert_str_eq(xml_name(root), "ListBucketResult");
    cr_assert_str_eq(xml_child_text(xml, root, "Name"), "b");
    cr_assert_str_eq(xml_child_text(xml, root, "Missing"), "");
    cr_assert_null(xml_child(root, "Missing"));
    const char *keys[] = {"a%20b", "c"};
    int count = 0;
    for (const struct xml_node *at = xml_first(root); at; at = xml_next(at))
        if (strcmp(xml_name(at), "Contents") == 0)
            cr_assert_str_eq(xml_child_text(xml, at, "Key"), keys[count++]);
    cr_assert_eq(count, 2);
    xml_free(xml);
}

Test(xml, names_count_without_their_prefix)
{
    struct xml *xml = parse("<x:a xmlns:x='urn:x'><x:b>t</x:b></x:a>");
    cr_assert_str_eq(xml_name(xml_root(xml)), "a");
    cr_assert_str_eq(xml_child_text(xml, xml_root(xml), "b"), "t");
    xml_free(xml);
}

Test(xml, keeps_text_as_it_was_sent)
{
    static const struct {
        const char *body, *text;
    } rows[] = {{"", ""},
                {"  two spaces ", "  two spaces "},
                {"&amp;&lt;&gt;&quot;&apos;&#65;&#x1F427;", "&<>\"'A\xf0\x9f\x90\xa7"},
                {"<![CDATA[<&>]]>", "<&>"},
                {"a<!-- no -->b", "ab"},
                {"a<![CDATA[b]]>c", "abc"},
                {"a<e>inner</e>b", "ab"},
                {"<e/>", ""},
                {"&#13;&#10;", "\r\n"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        STRING_SCOPED *text = xprintf("<r>%s</r>", rows[i].body);
        struct xml *xml = parse(text);
        cr_assert_str_eq(xml_text(xml, xml_root(xml)), rows[i].text, "row %zu", i);
        cr_assert_str_eq(xml_text(xml, xml_root(xml)), rows[i].text, "again");
        xml_free(xml);
    }
}

/* CompleteMultipartUpload sends white space to keep the connection alive. */
Test(xml, skips_white_space_before_the_declaration)
{
    xml_free(parse(" \n\r\t   <?xml version='1.0'?><r/>"));
}

Test(xml, refuses_what_is_not_well_formed)
{
    static const char *const bad[] = {"",
                                      " ",
                                      "text",
                                      "<a>",
                                      "<a></b>",
                                      "<a/><b/>",
                                      "<a>\x01</a>",
                                      "<a>\xff</a>",
                                      "<a>&#0;</a>",
                                      "<a>&nbsp;</a>",
                                      "<a b='1' b='2'/>",
                                      "<a",
                                      "<?xml version='1.0' encoding='UTF-8'?>"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(refuse(bad[i]), -EBADMSG, "row %zu", i);
    struct xml *xml;
    cr_assert_eq(xml_parse("<a>\0</a>", 8, &xml), -EBADMSG);
}

Test(xml, refuses_any_document_type)
{
    static const char *const bad[] = {
        "<!DOCTYPE a><a/>",
        "<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>",
        "<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY x 'y'>]><a>&x;</a>",
        "<!DOCTYPE a [<!ENTITY a '0123'><!ENTITY b '&a;&a;&a;'><!ENTITY c '&b;&b;&b;'>]><a>&c;</a>",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(refuse(bad[i]), -EBADMSG, "row %zu", i);
}

Test(xml, a_declared_encoding_calls_no_converter)
{
    struct xml *xml = parse("<?xml version='1.0' encoding='UTF-8'?><a>\xc3\xbc</a>");
    cr_assert_str_eq(xml_text(xml, xml_root(xml)), "\xc3\xbc");
    xml_free(xml);
    cr_assert_eq(refuse("<?xml version='1.0' encoding='ISO-8859-1'?><a>\xfc</a>"), -EBADMSG);
    xml_free(parse("\xef\xbb\xbf<a/>"));
    xml_free(parse("<?xml version='1.0' encoding='UTF-16'?><a/>"));
    cr_assert_eq(xml_parse("\xff\xfe<\0a\0/\0>\0", 10, &xml), -EBADMSG);
    cr_assert_eq(xml_parse("<\0a\0/\0>\0", 8, &xml), -EBADMSG);
}

static int parse_nested(int depth)
{
    BUF_SCOPED text = BUF_INIT;
    for (int i = 0; i < depth; i++)
        buf_add_string(&text, "<a>");
    for (int i = 0; i < depth; i++)
        buf_add_string(&text, "</a>");
    return refuse(text.bytes);
}

Test(xml, depth_has_an_end)
{
    cr_assert_eq(parse_nested(XML_DEPTH_MAX), 0);
    cr_assert_eq(parse_nested(XML_DEPTH_MAX + 1), -EBADMSG);
    cr_assert_eq(parse_nested(100000), -EBADMSG);
}

Test(xml, elements_have_an_end)
{
    BUF_SCOPED text = BUF_INIT;
    buf_add_string(&text, "<r>");
    for (size_t i = 1; i < XML_ELEMENTS_MAX; i++)
        buf_add_string(&text, "<a/>");
    size_t whole = text.length;
    buf_add_string(&text, "</r>");
    cr_assert_eq(refuse(text.bytes), 0);
    text.length = whole;
    buf_add_string(&text, "<a/></r>");
    cr_assert_eq(refuse(text.bytes), -EFBIG);
}

/* One text at most 10 MB, which is libxml2's own limit; the whole at most XML_BYTES_MAX. */
static void add_text(struct buf *text, size_t size)
{
    buf_add_string(text, "<a>");
    for (size_t i = 0; i < size; i += 32)
        buf_add(text, "0123456789abcdef0123456789abcdef", 32);
    buf_add_string(text, "</a>");
}

Test(xml, size_has_an_end)
{
    const size_t size = (size_t)9 << 20;
    BUF_SCOPED text = BUF_INIT;
    buf_add_string(&text, "<r>");
    for (int i = 0; i < 3; i++)
        add_text(&text, size);
    buf_add_string(&text, "</r>");
    struct xml *xml = parse(text.bytes);
    cr_assert_eq(strlen(xml_child_text(xml, xml_root(xml), "a")), size);
    xml_free(xml);
    while (text.length <= XML_BYTES_MAX)
        buf_add(&text, "                                ", 32);
    cr_assert_eq(refuse(text.bytes), -EFBIG);
}

Test(xml, tags_have_an_end)
{
    STRING_SCOPED *tag = xprintf("<a b='%*s'/>", XML_TAG_MAX, "");
    cr_assert_eq(refuse(tag), -EBADMSG);
}

Test(xml, what_was_escaped_reads_back_as_it_was)
{
    const char *text = "a&b<c>\"d' \r\n\te\xc3\xbc\xf0\x9f\x90\xa7";
    BUF_SCOPED out = BUF_INIT;
    buf_add_string(&out, "<r>");
    cr_assert_eq(xml_escape(&out, text, strlen(text)), 0);
    buf_add_string(&out, "</r>");
    struct xml *xml = parse(out.bytes);
    cr_assert_str_eq(xml_text(xml, xml_root(xml)), text);
    xml_free(xml);
}

Test(xml, a_character_that_xml_cannot_hold_is_refused_and_appends_nothing)
{
    static const char *const bad[] = {"a\x01",         "a\x0b",         "a\x1f",        "a\xff",
                                      "a\xef\xbf\xbe", "a\xef\xbf\xbf", "a\xed\xa0\x80"};
    BUF_SCOPED out = BUF_INIT;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        cr_assert_eq(xml_escape(&out, bad[i], strlen(bad[i])), -EILSEQ, "row %zu", i);
    cr_assert_eq(xml_escape(&out, "a\0b", 3), -EILSEQ);
    cr_assert_eq(out.length, 0);
}
