#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "s3/credentials.h"
#include "tests/support/script.h"

/* The request machine by what it sends to a server that answers from a script: repeats, repairs, refusals, cancels. */

#define ECHO     "x-amz-checksum-crc32c: yZRlqg==\r\n" /* of put_bytes, as AWS and MinIO answer */
#define OK_EMPTY "HTTP/1.1 200 OK\r\nETag: \"e\"\r\n" ECHO "Content-Length: 0\r\n\r\n"

TestSuite(request, .init = script_set_up, .fini = script_tear_down);

static char put_bytes[] = "hello world";
static struct iovec put_body = {put_bytes, sizeof(put_bytes) - 1};

static struct store_call make_put(const char *key)
{
    return (struct store_call){
        .op = STORE_PUT, .key = key, .from = &put_body, .from_count = 1, .patience_ms = 20000};
}

/* ---- Repeats. ---- */

static int slowed_count;

static void count_slowed(struct store_call *call)
{
    (void)call;
    slowed_count++;
}

Test(request, repeats_what_a_busy_server_refused)
{
    script.answers[0] = ERROR("503", "SlowDown", "");
    script.answers[1] = OK_EMPTY;
    script_open(NULL);
    struct store_call call = make_put("a");
    call.slowed = count_slowed;
    expect_rc(&call, 0);
    cr_expect_eq(call.error.attempts, 2);
    cr_expect_eq(slowed_count, 1);
    cr_expect_str_eq(call.object.etag, "\"e\"");
    expect_ask(0, "PUT /bucket/a HTTP/1.1");
    expect_ask(0, "x-amz-checksum-crc32c: yZRlqg==");
    expect_ask(0, "x-amz-content-sha256: UNSIGNED-PAYLOAD");
    expect_ask(0, "Authorization: AWS4-HMAC-SHA256 Credential=KEY/");
    cr_expect_str_eq(script.bodies[1], "hello world");
    store_call_release(&call);
}

Test(request, a_lost_reply_leaves_the_outcome_unknown)
{
    script.answers[0] = LOST;
    script_open(NULL);
    struct store_call call = make_put("a");
    call.patience_ms = 300;
    expect_rc(&call, -ETIMEDOUT);
    cr_expect(call.unknown);
    store_call_release(&call);
}

Test(request, what_was_never_sent_is_not_unknown)
{
    script.answers[0] = OK_EMPTY;
    script_open(NULL);
    wire_free(script.wire);
    script.wire = NULL;
    struct store_call call = make_put("a");
    call.patience_ms = 300;
    expect_rc(&call, -ETIMEDOUT);
    cr_expect_not(call.unknown);
    cr_expect_gt(call.error.attempts, 1);
    store_call_release(&call);
}

Test(request, an_exclusive_create_that_meets_itself_is_unknown)
{
    script.answers[0] = LOST;
    script.answers[1] = ERROR("412", "PreconditionFailed", "");
    script_open(NULL);
    struct store_call call = make_put("a");
    call.if_absent = true;
    expect_rc(&call, -EEXIST);
    cr_expect(call.unknown);
    expect_ask(1, "If-None-Match: *");
    store_call_release(&call);
}

Test(request, a_refusal_is_known_and_not_repeated)
{
    script.answers[0] = ERROR("403", "AccessDenied", "x-amz-request-id: R1\r\n");
    script_open(NULL);
    struct store_call call = make_put("a");
    expect_rc(&call, -EACCES);
    cr_expect_not(call.unknown);
    cr_expect_eq(call.error.http_status, 403);
    cr_expect_str_eq(call.error.code, "AccessDenied");
    cr_expect_str_eq(call.error.request_id, "R1");
    cr_expect_eq(script_asked(), 1);
    store_call_release(&call);
}

Test(request, patience_ends_a_call_that_nobody_answers)
{
    script.answers[0] = HANG;
    script_open(NULL);
    struct store_call call = {.op = STORE_HEAD, .key = "a", .patience_ms = 300};
    expect_rc(&call, -ETIMEDOUT);
    store_call_release(&call);
}

Test(request, patience_ends_a_complete_that_nobody_answers_and_its_outcome_is_unknown)
{
    struct store_part part = {.number = 1, .size = 5, .etag = "\"p\""};
    struct store_call complete = {.op = STORE_COMPLETE,
                                  .key = "a",
                                  .upload_id = "u",
                                  .parts = &part,
                                  .part_count = 1,
                                  .patience_ms = 300};
    struct store_call copy = {.op = STORE_COPY, .key = "a", .source_key = "b", .patience_ms = 300};
    int64_t begun_ms = clock_ms();
    script.answers[0] = HANG;
    script_open(NULL);
    expect_rc(&complete, -ETIMEDOUT);
    cr_expect(complete.unknown);
    expect_rc(&copy, -ETIMEDOUT);
    cr_expect(copy.unknown);
    cr_expect_lt(clock_ms() - begun_ms, 20000);
    store_call_release(&complete);
    store_call_release(&copy);
}

static void serve_white_space(struct wire_connection *connection)
{
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED body = BUF_INIT;
    wire_read(connection, &head, &body);
    wire_write(connection, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
    for (int i = 0; i < 8; i++) {
        usleep(100000);
        wire_write(connection, " ");
    }
    wire_write(connection, "<CopyObjectResult><ETag>&quot;e&quot;</ETag></CopyObjectResult>");
}

Test(request, white_space_on_the_way_keeps_a_copy_waiting)
{
    script.serve = serve_white_space;
    script_open(NULL);
    struct store_call copy = {.op = STORE_COPY, .key = "a", .source_key = "b", .patience_ms = 500};
    expect_rc(&copy, 0);
    cr_expect_eq(copy.error.attempts, 1);
    store_call_release(&copy);
}

Test(request, what_ends_a_call_is_told_by_the_last_attempt_that_had_time)
{
    script.answers[0] = ERROR("503", "SlowDown", "x-amz-retry-after: 700\r\nx-amz-request-id: R1\r\n");
    script.answers[1] = HANG;
    script_open(NULL);
    struct store_call call = {.op = STORE_HEAD, .key = "a", .patience_ms = 1000};
    struct store_call longer = {.op = STORE_HEAD, .key = "a", .patience_ms = 1000};
    expect_rc(&call, -ETIMEDOUT);
    cr_expect_eq(call.error.http_status, 503);
    cr_expect_str_eq(call.error.request_id, "R1");
    expect_rc(&longer, -ETIMEDOUT);
    cr_expect_eq(longer.error.http_status, 0);
    cr_expect_str_eq(longer.error.request_id, "");
    store_call_release(&call);
    store_call_release(&longer);
}

Test(request, headers_that_only_tell_are_not_set_again)
{
    static const char *const told[] = {"x-amz-version-id", "x-amz-tagging-count", "x-amz-missing-meta",
                                       "x-amz-expiration", "x-amz-object-lock-mode"};
    struct store_fields headers = {0};
    store_fields_add(&headers, "content-type", "text/plain");
    for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++)
        store_fields_add(&headers, told[i], "1");
    script.answers[0] = OK_EMPTY;
    script_open(NULL);
    struct store_call call = make_put("a");
    call.headers = &headers;
    expect_rc(&call, 0);
    expect_ask(0, "content-type: text/plain");
    for (size_t i = 0; i < sizeof(told) / sizeof(*told); i++)
        expect_no_ask(0, told[i]);
    store_call_release(&call);
    store_fields_release(&headers);
}

Test(request, tags_go_as_a_query_in_which_nothing_needs_guessing)
{
    struct store_fields tags = {0};
    store_fields_add(&tags, "a key", "1+1=2 & more");
    store_fields_add(&tags, "\xc3\xa4", "");
    script.answers[0] = OK_EMPTY;
    script.answers[1] = OK_EMPTY;
    script_open(NULL);
    struct store_call call = make_put("a");
    call.tags = &tags;
    expect_rc(&call, 0);
    expect_ask(0, "x-amz-tagging: a%20key=1%2B1%3D2%20%26%20more&%C3%A4=");
    store_call_release(&call);
    tags.count = 0;
    expect_rc(&call, 0);
    expect_no_ask(1, "x-amz-tagging");
    tags.count = 2;
    store_call_release(&call);
    store_fields_release(&tags);
}

/* ---- Repairs. ---- */

Test(request, a_refused_checksum_becomes_content_md5_for_good)
{
    script.answers[0] = "HTTP/1.1 400 No\r\nConnection: close\r\n\r\n<Error><Code>InvalidArgument</Code>"
                        "<Message>Unsupported header 'x-amz-checksum-crc32c'</Message></Error>";
    script.answers[1] = OK_EMPTY;
    struct store_abilities abilities;
    script_open(NULL);
    for (int i = 0; i < 2; i++) {
        struct store_call call = make_put("a");
        expect_rc(&call, 0);
        store_call_release(&call);
    }
    cr_expect_eq(script_asked(), 3);
    expect_ask(0, "x-amz-checksum-crc32c");
    for (int i = 1; i < 3; i++) {
        expect_ask(i, "Content-MD5: XrY7u+Ae7tCTyyK7j1rNww==");
        expect_no_ask(i, "x-amz-checksum");
    }
    store_abilities(script.store, &abilities);
    cr_expect_eq(abilities.checksum, ABILITY_NO);
}

#define MD5_ETAG "\"5eb63bbbe01eeed093cb22bb8f5acdc3\""

static enum store_ability checksum_ability(void)
{
    struct store_abilities abilities;
    store_abilities(script.store, &abilities);
    return abilities.checksum;
}

Test(request, a_checksum_that_is_not_answered_was_perhaps_not_looked_at)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";
    script_open(NULL);
    for (int i = 0; i < 2; i++) {
        struct store_call call = make_put("a");
        expect_rc(&call, 0);
        store_call_release(&call);
    }
    cr_expect_eq(script_asked(), 3);
    for (int i = 1; i < 3; i++) {
        expect_ask(i, "Content-MD5: XrY7u+Ae7tCTyyK7j1rNww==");
        expect_no_ask(i, "x-amz-checksum");
    }
    cr_expect_eq(checksum_ability(), ABILITY_NO);
}

Test(request, an_etag_that_is_the_md5_proves_what_no_checksum_does)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: " MD5_ETAG "\r\nContent-Length: 0\r\n\r\n";
    script_open(NULL);
    struct store_call call = make_put("a");
    call.if_absent = true;
    expect_rc(&call, 0);
    cr_expect_eq(script_asked(), 1);
    cr_expect_eq(checksum_ability(), ABILITY_NO);
    store_call_release(&call);
}

Test(request, a_conditional_put_that_nothing_proves_is_unknown)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nContent-Length: 0\r\n\r\n";
    script_open(NULL);
    struct store_call call = make_put("a");
    call.if_absent = true;
    expect_rc(&call, -EIO);
    cr_expect(call.unknown);
    cr_expect_eq(script_asked(), 1);
    store_call_release(&call);
}

Test(request, another_checksum_in_the_answer_is_damage)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-checksum-crc32c: AAAAAA==\r\n"
                        "Content-Length: 0\r\n\r\n";
    script.answers[1] = OK_EMPTY;
    script_open(NULL);
    struct store_call call = make_put("a");
    expect_rc(&call, 0);
    expect_ask(1, "x-amz-checksum-crc32c");
    cr_expect_eq(script_asked(), 2);
    cr_expect_eq(checksum_ability(), ABILITY_YES);
    store_call_release(&call);
}

Test(request, sha256_signs_the_payload)
{
    struct store_config config = {.checksum = CHECKSUM_SHA256};
    script.answers[0] = OK_EMPTY;
    script_open(&config);
    struct store_call call = make_put("a");
    expect_rc(&call, 0);
    expect_ask(0, "x-amz-content-sha256: b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9");
    expect_no_ask(0, "x-amz-checksum");
    store_call_release(&call);
}

Test(request, another_region_is_signed_for_and_remembered)
{
    script.answers[0] =
        "HTTP/1.1 400 No\r\nConnection: close\r\n\r\n<Error><Code>AuthorizationHeaderMalformed</Code>"
        "<Message>expecting</Message><Region>eu-west-1</Region></Error>";
    script.answers[1] = OK_EMPTY;
    script_open(NULL);
    for (int i = 0; i < 2; i++) {
        struct store_call call = make_put("a");
        expect_rc(&call, 0);
        store_call_release(&call);
    }
    cr_expect_eq(script_asked(), 3);
    expect_ask(0, "/us-east-1/s3/aws4_request");
    expect_ask(1, "/eu-west-1/s3/aws4_request");
    expect_ask(2, "/eu-west-1/s3/aws4_request");
}

Test(request, aws_is_asked_for_the_region_when_a_refusal_does_not_tell_it)
{
    struct store_config config = {.endpoint = "http://s3.us-west-2.amazonaws.com", .allow_http = true};
    script.answers[0] = "HTTP/1.1 301 No\r\nContent-Length: 0\r\n\r\n";
    script.answers[1] = "HTTP/1.1 403 No\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n";
    script.answers[2] = OK_EMPTY;
    script_open(&config);
    struct store_call call = {.op = STORE_HEAD, .key = "a", .patience_ms = 20000};
    expect_rc(&call, 0);
    expect_ask(0, "HEAD http://bucket.s3.us-west-2.amazonaws.com/a ");
    expect_ask(1, "HEAD http://bucket.s3.us-west-2.amazonaws.com/ ");
    expect_no_ask(1, "Authorization");
    expect_ask(2, "HEAD http://bucket.s3.eu-west-1.amazonaws.com/a ");
    expect_ask(2, "/eu-west-1/s3/aws4_request");
    store_call_release(&call);
}

Test(request, a_failed_question_for_the_region_is_repeated_with_its_attempt)
{
    struct store_config config = {.endpoint = "http://s3.us-west-2.amazonaws.com", .allow_http = true};
    script.answers[0] = ERROR("301", "PermanentRedirect", "");
    script.answers[1] = LOST;
    script.answers[2] = script.answers[0];
    script.answers[3] = "HTTP/1.1 403 No\r\nx-amz-bucket-region: eu-west-1\r\nContent-Length: 0\r\n\r\n";
    script.answers[4] = ERROR("403", "AccessDenied", "");
    script_open(&config);
    struct store_call call = make_put("a");
    expect_rc(&call, -EACCES);
    cr_expect_not(call.unknown, "a HEAD was lost");
    expect_ask(4, "PUT http://bucket.s3.eu-west-1.amazonaws.com/a ");
    store_call_release(&call);
}

Test(request, a_region_that_is_none_is_not_taken)
{
    script.answers[0] = "HTTP/1.1 301 No\r\nConnection: close\r\nx-amz-bucket-region: evil.com/x\r\n"
                        "Location: http://127.0.0.1:1/\r\n\r\n<Error><Code>PermanentRedirect</Code></Error>";
    script_open(NULL);
    struct store_call call = make_put("a");
    expect_rc(&call, -EIO);
    cr_expect_eq(script_asked(), 1);
    store_call_release(&call);
}

Test(request, the_servers_clock_is_taken)
{
    script.answers[0] = ERROR("403", "RequestTimeTooSkewed", "Date: Fri, 24 May 2013 00:00:00 GMT\r\n");
    script.answers[1] = OK_EMPTY;
    script_open(NULL);
    for (int i = 0; i < 2; i++) {
        struct store_call call = make_put("a");
        expect_rc(&call, 0);
        store_call_release(&call);
    }
    cr_expect_eq(script_asked(), 3);
    expect_no_ask(0, "x-amz-date: 20130524T");
    expect_ask(1, "x-amz-date: 20130524T0000");
    expect_ask(2, "x-amz-date: 20130524T0000");
}

Test(request, a_wait_until_a_date_is_read_by_the_servers_clock)
{
    script.answers[0] = ERROR("403", "RequestTimeTooSkewed", "Date: Fri, 24 May 2013 00:00:00 GMT\r\n");
    script.answers[1] = ERROR("503", "SlowDown", "Retry-After: Fri, 24 May 2013 00:00:03 GMT\r\n");
    script.answers[2] = OK_EMPTY;
    script_open(NULL);
    struct store_call call = make_put("a");
    expect_rc(&call, 0);
    cr_expect_geq(call.error.took_ms, 2000);
    store_call_release(&call);
}

static char key_file[64];

static void write_keys(const char *name)
{
    FILE *file = fopen(key_file, "w");
    fprintf(file, "[default]\naws_access_key_id = %s\naws_secret_access_key = s\n", name);
    fclose(file);
    chmod(key_file, 0600);
}

static void change_keys(int number)
{
    if (number == 0)
        write_keys("NEWKEY");
}

Test(request, refused_keys_are_read_again)
{
    struct credentials_config who = {.credentials_file = key_file, .config_file = "/dev/null"};
    struct store_config config = {0};

    unsetenv("AWS_ACCESS_KEY_ID");
    snprintf(key_file, sizeof(key_file), "/tmp/skyvol-test-keys-%d", (int)getpid());
    write_keys("OLDKEY");
    script.on_ask = change_keys;
    script.answers[0] = ERROR("403", "InvalidAccessKeyId", "");
    script.answers[1] = OK_EMPTY;
    config.credentials = credentials_new(&who);
    script_open(&config);
    credentials_unref(config.credentials);
    struct store_call call = make_put("a");
    expect_rc(&call, 0);
    expect_ask(0, "Credential=OLDKEY/");
    expect_ask(1, "Credential=NEWKEY/");
    store_call_release(&call);
    unlink(key_file);
}

/* ---- Answers that lie in a 200, listings, many deletes. ---- */

Test(request, an_error_inside_a_200_is_an_error)
{
    struct store_part part = {.number = 1, .size = 5, .etag = "\"p\""};
    script.answers[0] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n   \n <?xml "
                        "version=\"1.0\"?><Error><Code>InternalError</Code>"
                        "<Message>again</Message></Error>";
    script.answers[1] = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n   \n<?xml "
                        "version=\"1.0\"?><CompleteMultipartUploadResult>"
                        "<ETag>&quot;done-1&quot;</ETag></CompleteMultipartUploadResult>";
    script_open(NULL);
    struct store_call call = {.op = STORE_COMPLETE,
                              .key = "a",
                              .upload_id = "u",
                              .parts = &part,
                              .part_count = 1,
                              .patience_ms = 20000};
    expect_rc(&call, 0);
    cr_expect_str_eq(call.object.etag, "\"done-1\"");
    expect_ask(0, "POST /bucket/a?uploadId=u HTTP/1.1");
    expect_ask(0, "Content-Type: application/xml");
    store_call_release(&call);
}

#define EMPTY_LIST                                                                                           \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<ListBucketResult><IsTruncated>false</IsTruncated>"         \
    "<Contents><Key>a</Key><LastModified>2020-01-01T00:00:00.000Z</LastModified><ETag>\"e\"</ETag>"          \
    "<Size>1</Size></Contents></ListBucketResult>"

Test(request, metadata_of_listings_is_asked_for_until_the_server_does_not_know_it)
{
    script.answers[0] = ERROR("400", "InvalidArgument", "");
    script.answers[1] = EMPTY_LIST;
    struct store_abilities abilities;
    script_open(NULL);
    struct store_call call = {.op = STORE_LIST, .prefix = ""};
    expect_rc(&call, 0);
    cr_expect_eq(call.object_count, 1);
    expect_ask(0, "metadata=true");
    expect_ask(0, "encoding-type=url");
    expect_no_ask(1, "metadata=true");
    store_abilities(script.store, &abilities);
    cr_expect_eq(abilities.list_meta, ABILITY_NO);
    store_call_release(&call);
}

Test(request, only_listings_may_be_long)
{
    STRING_SCOPED *space = xcalloc(2 << 20, 1);
    memset(space, ' ', (2 << 20) - 1);
    STRING_SCOPED *list = xprintf("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s"
                                  "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>",
                                  space);
    STRING_SCOPED *copy = xprintf("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s"
                                  "<CopyObjectResult><ETag>e</ETag></CopyObjectResult>",
                                  space);
    struct store_call listing = {.op = STORE_LIST, .prefix = "", .patience_ms = 20000};
    struct store_call copying = {.op = STORE_COPY, .key = "a", .source_key = "b", .patience_ms = 20000};
    script.answers[0] = list;
    script_open(NULL);
    expect_rc(&listing, 0);
    script.answers[0] = copy;
    expect_rc(&copying, -EIO);
    store_call_release(&listing);
    store_call_release(&copying);
}

Test(request, a_listing_that_was_refused_for_its_region_keeps_its_metadata)
{
    script.answers[0] =
        "HTTP/1.1 400 No\r\nConnection: close\r\n\r\n<Error><Code>AuthorizationHeaderMalformed</Code>"
        "<Message>expecting</Message><Region>eu-west-1</Region></Error>";
    script.answers[1] = ERROR("400", "RequestTimeout", "");
    script.answers[2] = "HTTP/1.1 200 OK\r\nServer: MinIO\r\nConnection: close\r\n\r\n"
                        "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>";
    struct store_abilities abilities;
    script_open(NULL);
    struct store_call call = {.op = STORE_LIST, .prefix = ""};
    expect_rc(&call, 0);
    expect_ask(1, "metadata=true");
    expect_ask(2, "metadata=true");
    store_abilities(script.store, &abilities);
    cr_expect_eq(abilities.list_meta, ABILITY_YES);
    store_call_release(&call);
}

Test(request, keys_are_deleted_one_by_one_where_many_cannot_be)
{
    const char *keys[40];
    char names[40][16];
    for (int i = 0; i < 40; i++) {
        snprintf(names[i], sizeof(names[i]), "k%d", i);
        keys[i] = names[i];
    }
    script.answers[0] = ERROR("501", "NotImplemented", "");
    script.answers[1] = ERROR("403", "AccessDenied", "");
    script.answers[2] = "HTTP/1.1 204 Gone\r\n\r\n";
    script_open(NULL);
    struct store_call call = {.op = STORE_DELETE_MANY, .keys = keys, .key_count = 40, .patience_ms = 20000};
    expect_rc(&call, 0);
    cr_expect_eq(script_asked(), 41);
    expect_ask(0, "POST /bucket?delete HTTP/1.1");
    expect_ask(0, "Content-MD5");
    expect_ask(1, "DELETE /bucket/k");
    cr_expect_eq(call.failure_count, 1);
    cr_expect_eq(call.failures[0].rc, -EACCES);
    store_call_release(&call);
}

#define DELETED(failures)                                                                                    \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<DeleteResult>" failures "</DeleteResult>"
#define FAILED(key, code) "<Error><Key>" key "</Key><Code>" code "</Code></Error>"

static struct store_call make_deletes(int64_t patience_ms)
{
    static const char *const keys[] = {"a", "b", "c"};
    return (struct store_call){
        .op = STORE_DELETE_MANY, .keys = keys, .key_count = 3, .patience_ms = patience_ms};
}

Test(request, keys_that_could_not_be_deleted_for_now_are_asked_for_again)
{
    script.answers[0] =
        DELETED(FAILED("a", "AccessDenied") FAILED("b", "InternalError") FAILED("c", "SlowDown"));
    script.answers[1] = DELETED(FAILED("c", "SlowDown"));
    script.answers[2] = DELETED("");
    script_open(NULL);
    struct store_call call = make_deletes(20000);
    expect_rc(&call, 0);
    cr_expect_eq(script_asked(), 3);
    cr_expect(!strstr(script.bodies[1], "<Key>a<") && strstr(script.bodies[1], "<Key>b<") &&
              strstr(script.bodies[1], "<Key>c<"));
    cr_expect(!strstr(script.bodies[2], "<Key>b<") && strstr(script.bodies[2], "<Key>c<"));
    cr_assert_eq(call.failure_count, 1);
    cr_expect_str_eq(call.failures[0].key, "a");
    cr_expect_eq(call.failures[0].rc, -EACCES);
    store_call_release(&call);
}

Test(request, keys_that_are_refused_for_too_long_are_failures)
{
    static const char *const answers[] = {
        DELETED(FAILED("a", "AccessDenied") FAILED("b", "SlowDown")),         /* until patience ends */
        DELETED(FAILED("a", "AccessDenied") FAILED("b", "OperationAborted")), /* a few times */
        DELETED(FAILED("a", "AccessDenied") FAILED("b", "NeverHeardOf")),     /* once */
    };
    script_open(NULL);
    for (int i = 0; i < 3; i++) {
        script.answers[0] = answers[i];
        struct store_call call = make_deletes(i == 0 ? 500 : 20000);
        expect_rc(&call, 0);
        cr_assert_eq(call.failure_count, 2);
        cr_expect_str_eq(call.failures[1].key, "b");
        cr_expect_eq(call.failures[1].rc, -EIO);
        store_call_release(&call);
    }
}

/* ---- Cancels. ---- */

struct pending {
    struct store_call call;
    struct lock lock;
    struct gate gate;
    int ends;
};

static void end_pending(struct store_call *call)
{
    struct pending *pending = call->owner;
    LOCK_SCOPED(&pending->lock);
    pending->ends++;
    gate_open(&pending->gate);
}

static void pending_start(struct pending *pending, struct store_call call)
{
    *pending = (struct pending){.call = call};
    pending->call.owner = pending;
    pending->call.done = end_pending;
    lock_init(&pending->lock, LOCK_LEAF, "pending");
    gate_init(&pending->gate);
    store_start(script.store, &pending->call);
}

static void pending_expect(struct pending *pending, int rc)
{
    int64_t deadline_ms =
        clock_ms() + 20000; /* far below the waits that are canceled, far above what a cancel takes */
    int waited = 0;
    lock_take(&pending->lock);
    while (pending->ends == 0 && waited == 0)
        waited = gate_wait_locked(&pending->gate, &pending->lock, &script.waiter, deadline_ms);
    lock_drop(&pending->lock);
    cr_assert_eq(waited, 0, "it did not end");
    cr_expect_eq(pending->call.rc, rc, "%d", pending->call.rc);
    cr_expect_eq(pending->ends, 1);
    store_call_release(&pending->call);
    gate_release(&pending->gate);
    lock_release(&pending->lock);
}

static void await_asks(int count)
{
    while (script_asked() < count)
        usleep(1000);
}

Test(request, a_cancel_ends_a_call_that_waits_for_an_answer)
{
    struct pending pending;
    script.answers[0] = HANG;
    script_open(NULL);
    pending_start(&pending, (struct store_call){.op = STORE_HEAD, .key = "a"});
    await_asks(1);
    store_cancel(script.store, &pending.call);
    pending_expect(&pending, -ECANCELED);
}

Test(request, what_only_waited_for_a_place_is_not_unknown)
{
    static char bytes[512 * 1024];
    struct iovec place = {bytes, sizeof(bytes)};
    struct pending pending;
    script.answers[0] = HANG;
    script_open(&(struct store_config){.loops = 1, .connections_max = 2}); /* one place for bulk */
    pending_start(&pending,
                  (struct store_call){
                      .op = STORE_GET, .key = "a", .length = sizeof(bytes), .into = &place, .into_count = 1});
    await_asks(1);
    struct store_call call = make_put("b");
    call.from = &place;
    call.patience_ms = 300;
    expect_rc(&call, -ETIMEDOUT);
    cr_expect_not(call.unknown);
    cr_expect_eq(script_asked(), 1);
    store_call_release(&call);
    store_cancel(script.store, &pending.call);
    pending_expect(&pending, -ECANCELED);
}

Test(request, a_cancel_ends_a_call_that_asks_for_the_region)
{
    struct store_config config = {.endpoint = "http://s3.us-west-2.amazonaws.com", .allow_http = true};
    struct pending pending;
    script.answers[0] = ERROR("301", "PermanentRedirect", "");
    script.answers[1] = HANG;
    script_open(&config);
    pending_start(&pending, (struct store_call){.op = STORE_HEAD, .key = "a"});
    await_asks(2);
    store_cancel(script.store, &pending.call);
    pending_expect(&pending, -ECANCELED);
}

Test(request, a_cancel_ends_a_call_that_waits_to_try_again)
{
    struct pending pending;
    script.answers[0] = ERROR("503", "SlowDown", "Retry-After: 50\r\n");
    script_open(NULL);
    pending_start(&pending, (struct store_call){.op = STORE_HEAD, .key = "a"});
    await_asks(1);
    usleep(50000);
    store_cancel(script.store, &pending.call);
    pending_expect(&pending, -ECANCELED);
    cr_expect_eq(script_asked(), 1);
}

Test(request, a_cancel_ends_single_deletes)
{
    const char *keys[] = {"a\x01", "b\x01", "c\x01"}; /* XML cannot hold them */
    struct pending pending;
    script.answers[0] = HANG;
    script_open(NULL);
    pending_start(&pending, (struct store_call){.op = STORE_DELETE_MANY, .keys = keys, .key_count = 3});
    await_asks(3);
    store_cancel(script.store, &pending.call);
    pending_expect(&pending, -ECANCELED);
}

Test(request, free_cancels_and_waits)
{
    struct pending pending[3];
    script.answers[0] = HANG;
    script_open(NULL);
    for (int i = 0; i < 3; i++)
        pending_start(&pending[i], (struct store_call){.op = STORE_HEAD, .key = "a"});
    await_asks(3);
    store_free(script.store);
    script.store = NULL;
    for (int i = 0; i < 3; i++)
        pending_expect(&pending[i], -ECANCELED);
}

Test(request, keys_that_no_endpoint_holds_fail_before_anything_is_sent)
{
    char long_key[STORE_KEY_MAX + 2];
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = 0;
    script_open(NULL);
    struct store_call call = {.op = STORE_HEAD, .key = long_key};
    expect_rc(&call, -ENAMETOOLONG);
    call = (struct store_call){.op = STORE_HEAD, .key = "\xff"};
    expect_rc(&call, -EILSEQ);
    cr_expect_eq(script_asked(), 0);
}
