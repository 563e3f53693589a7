#include "s3/answer.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NS "xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\""

static int list(const char *xml, struct store_call *call)
{
    struct answer_error error;
    call->op = STORE_LIST;
    return answer_list(xml, strlen(xml), call, &error);
}

/* ---- Listings. ---- */

Test(answer, a_page_of_aws_becomes_objects_and_prefixes)
{
    static const char page[] =
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult " NS
        "><Name>b</Name><Prefix>photos/</Prefix><Delimiter>/</Delimiter>"
        "<EncodingType>url</EncodingType><KeyCount>2</KeyCount><MaxKeys>1000</MaxKeys><IsTruncated>true</"
        "IsTruncated>"
        "<ContinuationToken>in</ContinuationToken><NextContinuationToken>o+u%74==</NextContinuationToken>"
        "<Contents><Key>photos/a%20b+c%2Bd.jpg</Key><LastModified>2009-10-12T17:50:30.123Z</LastModified>"
        "<ETag>&quot;fba9dede5f27731c9771645a39863328&quot;</ETag><ChecksumAlgorithm>CRC64NVME</"
        "ChecksumAlgorithm>"
        "<Size>434234</Size><StorageClass>STANDARD</StorageClass></Contents>"
        "<Contents><Key>photos/</Key><LastModified>2009-10-12T17:50:31Z</LastModified><ETag></ETag><Size>0</"
        "Size></Contents>"
        "<CommonPrefixes><Prefix>photos/%01/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>photos/2006/</"
        "Prefix>"
        "</CommonPrefixes></ListBucketResult>";
    struct store_call call = {.prefix = "photos/", .token = "in"};
    cr_assert_eq(list(page, &call), 0);
    cr_assert_eq(call.object_count, 2u);
    cr_expect_str_eq(call.objects[0].key, "photos/a b c+d.jpg");
    cr_expect_eq(call.objects[0].size, 434234u);
    cr_expect_eq(call.objects[0].modified_ns, 1255369830123000000ll);
    cr_expect_str_eq(call.objects[0].etag, "\"fba9dede5f27731c9771645a39863328\"");
    cr_expect(!call.objects[0].meta_known);
    cr_expect_str_eq(call.objects[1].key, "photos/");
    cr_expect_str_eq(call.objects[1].etag, "");
    cr_assert_eq(call.prefix_count, 2u);
    cr_expect_str_eq(call.prefixes[0], "photos/\x01/");
    cr_expect_str_eq(call.prefixes[1], "photos/2006/");
    cr_expect_str_eq(call.next_token, "o+u%74==", "tokens are never decoded");
    store_call_release(&call);
}

Test(answer, keys_are_decoded_only_where_the_answer_says_so)
{
    struct store_call call = {0};
    cr_assert_eq(
        list("<ListBucketResult><IsTruncated>false</IsTruncated><Contents><Key>a%20b+c</Key><LastModified>"
             "2009-10-12T17:50:30Z</LastModified><ETag>x</ETag><Size>1</Size></Contents></ListBucketResult>",
             &call),
        0);
    cr_expect_str_eq(call.objects[0].key, "a%20b+c");
    cr_expect_str_eq(call.objects[0].etag, "\"x\"", "quotes are added where a clone leaves them out");
    cr_expect_null(call.next_token);
    store_call_release(&call);
}

Test(answer, metadata_of_minio_has_the_names_of_head)
{
    struct store_call call = {0};
    cr_assert_eq(
        list("<ListBucketResult " NS "><IsTruncated>false</IsTruncated><Contents><Key>k</Key><LastModified>"
             "2009-10-12T17:50:30.000Z</LastModified><ETag>&#34;x&#34;</ETag><Size>1</Size><UserMetadata>"
             "<X-Amz-Meta-Mode>33188</X-Amz-Meta-Mode><content-type>text/plain</content-type>"
             "<x-amz-meta-skyvol-id>4&amp;2</x-amz-meta-skyvol-id><X-Amz-Meta-></X-Amz-Meta->"
             "<X-Amz-Meta-Name>=?UTF-8?B?w6Q=?=</X-Amz-Meta-Name><expires>never</expires></UserMetadata></"
             "Contents>"
             "<Contents><Key>l</Key><LastModified>2009-10-12T17:50:30.000Z</LastModified><ETag>\"x\"</ETag>"
             "<Size>1</Size><UserMetadata></UserMetadata></Contents></ListBucketResult>",
             &call),
        0);
    const struct store_object *object = &call.objects[0];
    cr_expect(object->meta_known && call.objects[1].meta_known);
    cr_expect_eq(object->meta.count, 3u);
    cr_expect_str_eq(store_fields_get(&object->meta, "mode"), "33188");
    cr_expect_str_eq(store_fields_get(&object->meta, "skyvol-id"), "4&2");
    cr_expect_str_eq(store_fields_get(&object->meta, "name"), "ä");
    cr_expect_eq(object->headers.count, 0u, "headers come with HEAD and GET only");
    cr_expect_eq(call.objects[1].meta.count, 0u);
    store_call_release(&call);
}

Test(answer, keys_with_a_nul_are_left_out)
{
    struct store_call call = {0};
    cr_assert_eq(
        list("<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated>"
             "<Contents><Key>a%00b</Key></Contents><CommonPrefixes><Prefix>%00/</Prefix></CommonPrefixes>"
             "<CommonPrefixes><Prefix>c/</Prefix></CommonPrefixes></ListBucketResult>",
             &call),
        0);
    cr_expect_eq(call.object_count, 0u);
    cr_expect_eq(call.prefix_count, 1u);
    store_call_release(&call);
}

#define CONTENTS(key, time, etag, size)                                                                      \
    "<ListBucketResult><EncodingType>url</EncodingType><IsTruncated>false</IsTruncated><Contents><Key>" key  \
    "</Key><LastModified>" time "</LastModified><ETag>" etag "</ETag><Size>" size                            \
    "</Size></Contents></ListBucketResult>"
#define TIME "2009-10-12T17:50:30Z"

Test(answer, hostile_listings_are_refused)
{
    static const char *const pages[] = {
        "",
        " ",
        "<html><body>503</body></html>",
        "<ListBucketResult>",
        "<ListBucketResult/>",
        "<ListBucketResult><IsTruncated>perhaps</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
        "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>tok</NextContinuationToken>"
        "</ListBucketResult>", /* the page itself */
        "<!DOCTYPE x [<!ENTITY e "
        "\"p/\">]><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
        CONTENTS("", TIME, "x", "1"),
        CONTENTS("q/a", TIME, "x", "1"),
        CONTENTS("p", TIME, "x", "1"),
        CONTENTS("p/%4", TIME, "x", "1"),
        CONTENTS("p/%zz", TIME, "x", "1"),
        CONTENTS("p/a", "yesterday", "x", "1"),
        CONTENTS("p/a", TIME, "a\"b", "1"),
        CONTENTS("p/a", TIME, "a&#10;b", "1"),
        CONTENTS("p/a", TIME, "&#228;", "1"),
        CONTENTS("p/a", TIME, "x", ""),
        CONTENTS("p/a", TIME, "x", "-1"),
        CONTENTS("p/a", TIME, "x", "1.5"),
        CONTENTS("p/a", TIME, "x", "9223372036854775808"),
        CONTENTS("p/a", TIME, "x", "99999999999999999999999"),
        CONTENTS("p/a", TIME, "x", " 1"),
        "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>q/</Prefix></"
        "CommonPrefixes>"
        "</ListBucketResult>",
        "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>p/</Prefix></"
        "CommonPrefixes>"
        "</ListBucketResult>", /* a directory in itself */
        "<ListBucketResult><IsTruncated>false</IsTruncated><CommonPrefixes></CommonPrefixes></"
        "ListBucketResult>",
    };
    for (size_t i = 0; i < sizeof(pages) / sizeof(*pages); i++) {
        struct store_call call = {.prefix = "p/", .token = "tok"};
        cr_expect_eq(list(pages[i], &call), -EBADMSG, "%zu %s", i, pages[i]);
        cr_expect(call.object_count == 0 && call.prefix_count == 0, "nothing of a bad page stays");
        store_call_release(&call);
    }
    struct store_call call = {.prefix = "p/"};
    cr_expect_eq(list(CONTENTS("p/a", TIME, "x", "9223372036854775807"), &call), 0);
    store_call_release(&call);
}

Test(answer, an_etag_that_is_too_long_is_refused)
{
    char etag[STORE_ETAG_MAX + 2], to[STORE_ETAG_MAX];
    memset(etag, 'a', sizeof(etag));
    etag[STORE_ETAG_MAX - 3] = '\0'; /* and two quotes and the NUL */
    cr_expect_eq(answer_copy_etag(to, etag), 0);
    cr_expect_eq(strlen(to), STORE_ETAG_MAX - 1u);
    etag[STORE_ETAG_MAX - 3] = 'a';
    etag[STORE_ETAG_MAX - 2] = '\0';
    cr_expect_eq(answer_copy_etag(to, etag), -EBADMSG);
    static const char *const bad[] = {"",     "\"",  "\"a",     "a\"",       "W/",
                                      "W/\"", "W/a", "\"a b\"", "\"a\x01\"", "\"\"\""};
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++)
        cr_expect_eq(answer_copy_etag(to, bad[i]), -EBADMSG, "%s", bad[i]);
    cr_expect_eq(answer_copy_etag(to, "W/\"a\""), 0);
    cr_expect_str_eq(to, "W/\"a\"");
}

/* ---- Errors. ---- */

Test(answer, errors_are_told_in_printable_words)
{
    static const char xml[] = "<?xml "
                              "version=\"1.0\"?><Error><Code>AuthorizationHeaderMalformed</"
                              "Code><Message>bad\n\xc3\xa4region\x7f</Message>"
                              "<Region>eu-west-1</Region><Endpoint>b.s3.amazonaws.com</"
                              "Endpoint><RequestId>R1</RequestId><HostId/></Error>";
    struct answer_error error;
    cr_assert_eq(answer_error(xml, strlen(xml), &error), 0);
    cr_expect_str_eq(error.code, "AuthorizationHeaderMalformed");
    cr_expect_str_eq(error.message, "bad???region?");
    cr_expect_str_eq(error.region, "eu-west-1");
    cr_expect_str_eq(error.endpoint, "b.s3.amazonaws.com");
    struct store_error told = {.http_status = 400, .attempts = 2};
    answer_error_to_store(&error, &told);
    cr_expect_str_eq(told.request_id, "R1");
    cr_expect_eq(told.attempts, 2);
    BUF_SCOPED line = BUF_INIT;
    told.took_ms = 12;
    store_error_print(&told, -EIO, &line);
    cr_expect_str_eq(line.bytes,
                     "AuthorizationHeaderMalformed (400), request R1, 2 attempts in 12 ms: bad???region?");
    static const char wrapped[] = "<ErrorResponse><Error><Code>X</Code></Error></ErrorResponse>";
    cr_assert_eq(answer_error(wrapped, strlen(wrapped), &error), 0);
    cr_expect_str_eq(error.code, "X");
    static const char *const none[] = {"", "<html/>", "<ErrorResponse/>", "Bad Gateway", "<Error>"};
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        cr_expect_eq(answer_error(none[i], strlen(none[i]), &error), -EBADMSG, "%s", none[i]);
}

Test(answer, long_words_are_cut)
{
    BUF_SCOPED xml = BUF_INIT;
    buf_add_string(&xml, "<Error><Code>");
    for (int i = 0; i < 1000; i++)
        buf_add_char(&xml, 'c');
    buf_add_string(&xml, "</Code></Error>");
    struct answer_error error;
    cr_assert_eq(answer_error(xml.bytes, xml.length, &error), 0);
    cr_expect_eq(strlen(error.code), sizeof(error.code) - 1);
}

Test(answer, an_error_under_status_200_is_an_error)
{
    static const char xml[] = "\n  <?xml version=\"1.0\"?><Error><Code>InternalError</Code></Error>";
    static const enum store_op ops[] = {STORE_COPY, STORE_PART_COPY, STORE_COMPLETE};
    for (size_t i = 0; i < 3; i++) {
        struct store_call call = {.op = ops[i]};
        struct answer_error error;
        cr_expect_eq(answer_etag(xml, strlen(xml), &call, &error), 1);
        cr_expect_str_eq(error.code, "InternalError");
        store_call_release(&call);
    }
}

/* ---- Uploads. ---- */

static int etag(enum store_op op, const char *xml, struct store_call *call)
{
    struct answer_error error;
    *call = (struct store_call){.op = op};
    return answer_etag(xml, strlen(xml), call, &error);
}

Test(answer, copies_and_completions_tell_their_etag)
{
    struct store_call call;
    cr_assert_eq(etag(STORE_COPY,
                      "<CopyObjectResult><LastModified>" TIME
                      "</LastModified><ETag>\"e\"</ETag></CopyObjectResult>",
                      &call),
                 0);
    cr_expect_str_eq(call.object.etag, "\"e\"");
    cr_expect_eq(call.object.modified_ns, 1255369830000000000ll);
    cr_assert_eq(etag(STORE_PART_COPY, "<CopyPartResult><ETag>\"p\"</ETag></CopyPartResult>", &call), 0);
    cr_assert_eq(etag(STORE_COMPLETE,
                      "   \n<CompleteMultipartUploadResult " NS "><Location>x</Location><ETag>\"m-2\"</ETag>"
                      "</CompleteMultipartUploadResult>",
                      &call),
                 0, "the white space that keeps the connection open is skipped");
    cr_expect_str_eq(call.object.etag, "\"m-2\"");
    cr_expect_eq(etag(STORE_COMPLETE, "<CompleteMultipartUploadResult/>", &call), -EBADMSG);
    cr_expect_eq(etag(STORE_COMPLETE, "<CopyObjectResult><ETag>x</ETag></CopyObjectResult>", &call),
                 -EBADMSG);
    cr_expect_eq(etag(STORE_COMPLETE, "<CompleteMultipartUploadResult><ETag>x</ETag>", &call), -EBADMSG);
    cr_expect_eq(etag(STORE_COPY, "", &call), -EBADMSG);
}

Test(answer, a_created_upload_has_an_id)
{
    static const char xml[] =
        "<InitiateMultipartUploadResult " NS "><UploadId>a/b==</UploadId></InitiateMultipartUploadResult>";
    static const char none[] = "<InitiateMultipartUploadResult><UploadId/></InitiateMultipartUploadResult>";
    struct store_call call = {.op = STORE_CREATE};
    struct answer_error error;
    cr_expect_eq(answer_create(none, strlen(none), &call, &error), -EBADMSG);
    cr_assert_eq(answer_create(xml, strlen(xml), &call, &error), 0);
    cr_expect_str_eq(call.new_upload_id, "a/b==");
    store_call_release(&call);
}

static int parts(const char *inside, struct store_call *call, int *marker)
{
    struct answer_error error;
    STRING_SCOPED *xml = xprintf("<ListPartsResult>%s</ListPartsResult>", inside);
    return answer_parts(xml, strlen(xml), call, marker, &error);
}

#define PART(number) "<Part><PartNumber>" number "</PartNumber><ETag>\"e\"</ETag><Size>5</Size></Part>"

Test(answer, parts_are_gathered_over_pages)
{
    struct store_call call = {.op = STORE_LIST_PARTS};
    int marker = 0;
    cr_assert_eq(parts("<IsTruncated>true</IsTruncated><NextPartNumberMarker>3</NextPartNumberMarker>" PART(
                           "1") PART("3"),
                       &call, &marker),
                 0);
    cr_expect_eq(marker, 3);
    cr_assert_eq(
        parts("<IsTruncated>false</IsTruncated><NextPartNumberMarker>0</NextPartNumberMarker>" PART("10000"),
              &call, &marker),
        0);
    cr_expect_eq(marker, 0);
    cr_assert_eq(call.found_part_count, 3u);
    cr_expect_eq(call.found_parts[2].number, 10000);
    cr_expect_eq(call.found_parts[2].size, 5u);
    store_call_release(&call);
}

Test(answer, pages_of_parts_must_move_on)
{
    static const char *const bad[] = {
        "<IsTruncated>true</IsTruncated><NextPartNumberMarker>2</NextPartNumberMarker>",
        "<IsTruncated>true</IsTruncated><NextPartNumberMarker>4</NextPartNumberMarker>" PART("5"),
        "<IsTruncated>true</IsTruncated>" PART("5"),
        "<IsTruncated>false</IsTruncated>" PART("2"),
        "<IsTruncated>false</IsTruncated>" PART("5") PART("5"),
        "<IsTruncated>false</IsTruncated>" PART("10001"),
        "<IsTruncated>false</IsTruncated>" PART("x"),
        PART("5"),
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct store_call call = {.op = STORE_LIST_PARTS};
        int marker = 2;
        cr_expect_eq(parts(bad[i], &call, &marker), -EBADMSG, "%s", bad[i]);
        store_call_release(&call);
    }
}

static int uploads(const char *inside, struct store_call *call, char **key, char **id)
{
    struct answer_error error;
    STRING_SCOPED *xml =
        xprintf("<ListMultipartUploadsResult><EncodingType>url</EncodingType>%s</ListMultipartUploadsResult>",
                inside);
    return answer_uploads(xml, strlen(xml), call, key, id, &error);
}

Test(answer, uploads_are_gathered_over_pages_that_move_on)
{
    static const char page[] =
        "<IsTruncated>true</IsTruncated><NextKeyMarker>p/a%20b</NextKeyMarker><NextUploadIdMarker>U"
        "</NextUploadIdMarker><Upload><Key>p/a%20b</Key><UploadId>U</UploadId><Initiated>" TIME
        "</Initiated></Upload>";
    struct store_call call = {.op = STORE_LIST_UPLOADS, .prefix = "p/"};
    char *key = NULL, *id = NULL;
    cr_assert_eq(uploads(page, &call, &key, &id), 0);
    cr_expect_str_eq(key, "p/a b");
    cr_expect_str_eq(id, "U");
    cr_expect_str_eq(call.uploads[0].key, "p/a b");
    cr_expect_eq(uploads(page, &call, &key, &id), -EBADMSG, "the same markers again");
    cr_assert_eq(uploads("<IsTruncated>false</IsTruncated>", &call, &key, &id), 0);
    cr_expect(!key && !id);
    cr_expect_eq(
        uploads("<IsTruncated>false</IsTruncated><Upload><Key>q/a</Key><UploadId>U</UploadId><Initiated>" TIME
                "</Initiated></Upload>",
                &call, &key, &id),
        -EBADMSG, "not under the prefix");
    store_call_release(&call);
}

/* ---- Tags. ---- */

static int read_tags(const char *set, struct store_call *call)
{
    STRING_SCOPED *text = xprintf("<Tagging " NS ">%s</Tagging>", set);
    struct answer_error error;
    call->op = STORE_GET_TAGS;
    return answer_tags(text, strlen(text), call, &error);
}

#define TAG(name, value) "<Tag><Key>" name "</Key><Value>" value "</Value></Tag>"

Test(answer, tags_are_read_as_they_are)
{
    struct store_call call = {0};
    cr_assert_eq(read_tags("<TagSet>\n  " TAG("a b&amp;c", " x=1 ") TAG("gr\xc3\xb6\xc3\x9f"
                                                                        "e",
                                                                        "") "</TagSet>",
                           &call),
                 0);
    cr_assert_eq(call.found_tags.count, 2u);
    cr_expect_str_eq(store_fields_get(&call.found_tags, "a b&c"), " x=1 ");
    cr_expect_str_eq(store_fields_get(&call.found_tags, "gr\xc3\xb6\xc3\x9f"
                                                        "e"),
                     "");
    store_call_release(&call);
    cr_assert_eq(call.found_tags.count, 0u);
    cr_assert_eq(read_tags("<TagSet/>", &call), 0);
    cr_assert_eq(call.found_tags.count, 0u);
}

/* `count` tags, the first of them with a name and a value of so many characters of two bytes. */
static int read_many_tags(size_t count, size_t name, size_t value)
{
    BUF_SCOPED set = BUF_INIT;
    struct store_call call = {0};
    buf_add_string(&set, "<TagSet><Tag><Key>");
    for (size_t i = 0; i < name; i++)
        buf_add_string(&set, "\xc3\xa4");
    buf_add_string(&set, "</Key><Value>");
    for (size_t i = 0; i < value; i++)
        buf_add_string(&set, "\xc3\xa4");
    buf_add_string(&set, "</Value></Tag>");
    for (size_t i = 1; i < count; i++)
        buf_printf(&set, "<Tag><Key>%zu</Key><Value>v</Value></Tag>", i);
    buf_add_string(&set, "</TagSet>");
    int rc = read_tags(set.bytes, &call);
    cr_assert_eq(call.found_tags.count, rc ? 0 : count);
    store_call_release(&call);
    return rc;
}

Test(answer, tags_have_bounds)
{
    cr_expect_eq(read_many_tags(STORE_TAGS_MAX, 128, 256), 0);
    cr_expect_eq(read_many_tags(STORE_TAGS_MAX + 1, 128, 256), -EBADMSG);
    cr_expect_eq(read_many_tags(2, 129, 256), -EBADMSG);
    cr_expect_eq(read_many_tags(2, 128, 257), -EBADMSG);
}

Test(answer, what_are_no_tags_is_refused)
{
    static const char *const sets[] = {"", "<Tags/>", "<TagSet>" TAG("", "v") "</TagSet>",
                                       "<TagSet><Tag><Value>v</Value></Tag></TagSet>",
                                       "<TagSet>" TAG("a", "1") TAG("b", "2") TAG("a", "3") "</TagSet>"};
    struct store_call call = {0};
    struct answer_error error;
    for (size_t i = 0; i < sizeof(sets) / sizeof(*sets); i++)
        cr_expect_eq(read_tags(sets[i], &call), -EBADMSG, "%s", sets[i]);
    cr_expect_eq(read_tags("<TagSet>" TAG("a", "1"), &call), -EBADMSG, "it ends before its end");
    static const char other[] = "<Other><TagSet/></Other>",
                      refusal[] = "<Error><Code>SlowDown</Code></Error>";
    cr_expect_eq(answer_tags(other, strlen(other), &call, &error), -EBADMSG);
    cr_expect_eq(answer_tags(refusal, strlen(refusal), &call, &error), 1);
    cr_expect_str_eq(error.code, "SlowDown");
    cr_expect_eq(call.found_tags.count, 0u);
}

/* ---- Deletes. ---- */

Test(answer, failures_of_a_delete_name_the_keys_of_the_call)
{
    static const char xml[] =
        "<DeleteResult " NS
        "><Deleted><Key>a</Key></Deleted><Error><Key>b&amp;c</Key><Code>AccessDenied</Code></Error>"
        "<Error><Key>gone</Key><Code>NoSuchKey</Code></Error><Error><Key>d</Key><Code>InternalError</Code></"
        "Error>"
        "</DeleteResult>";
    const char *const keys[] = {"a", "b&c", "gone", "d"};
    struct store_call call = {.op = STORE_DELETE_MANY, .keys = keys, .key_count = 4};
    struct answer_error error;
    cr_assert_eq(answer_delete(xml, strlen(xml), &call, &error), 0);
    cr_assert_eq(call.failure_count, 2u);
    cr_expect_eq(call.failures[0].key, keys[1]);
    cr_expect_eq(call.failures[0].rc, -EACCES);
    cr_expect_str_eq(call.failures[0].code, "AccessDenied");
    cr_expect_eq(call.failures[1].key, keys[3]);
    cr_expect_eq(call.failures[1].rc, -EIO);
    call.key_count = 3;
    store_call_release(&call);
    cr_expect_eq(answer_delete(xml, strlen(xml), &call, &error), -EBADMSG, "a key that nobody named");
    store_call_release(&call);
}
