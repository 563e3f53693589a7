#include <criterion/criterion.h>
#include <string.h>

#include "tests/support/script.h"

/* What a bucket's owner asks for with each request: encryption, storage class, who pays. */

#define STORED                                                                                               \
    "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nx-amz-checksum-crc32c: yZRlqg==\r\nContent-Length: 0\r\n\r\n"
#define COPIED                                                                                               \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<CopyObjectResult><ETag>\"e\"</ETag></CopyObjectResult>"
#define CREATED                                                                                              \
    "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n<InitiateMultipartUploadResult><UploadId>u</UploadId>"      \
    "</InitiateMultipartUploadResult>"
#define FOUND(more)                                                                                          \
    "HTTP/1.1 200 OK\r\nETag: \"e\"\r\nLast-Modified: Fri, 24 May 2013 00:00:00 GMT\r\n" more                \
    "Content-Length: 11\r\n\r\n"

TestSuite(policy, .init = script_set_up, .fini = script_tear_down);

static char bytes[] = "hello world";
static struct iovec body = {bytes, sizeof(bytes) - 1};

static void run(struct store_call call)
{
    call.key = "a";
    call.patience_ms = 20000;
    expect_rc(&call, 0);
    store_call_release(&call);
}

static void put(const struct store_fields *headers)
{
    run((struct store_call){.op = STORE_PUT, .from = &body, .from_count = 1, .headers = headers});
}

static void make_three(const struct store_config *config)
{
    script.answers[0] = STORED;
    script.answers[1] = COPIED;
    script.answers[2] = CREATED;
    script_open(config);
    put(NULL);
    run((struct store_call){.op = STORE_COPY, .source_key = "b"});
    run((struct store_call){.op = STORE_CREATE});
}

Test(policy, nothing_is_asked_for_by_default)
{
    make_three(NULL);
    for (int i = 0; i < 3; i++) {
        expect_no_ask(i, "x-amz-server-side-encryption");
        expect_no_ask(i, "x-amz-storage-class");
        expect_no_ask(i, "x-amz-request-payer");
    }
}

Test(policy, put_copy_and_create_ask_for_it_and_sign_it)
{
    make_three(&(struct store_config){.sse = SSE_KMS,
                                      .sse_kms_key_id = "arn:aws:kms:eu-west-1:1:key/k",
                                      .storage_class = "STANDARD_IA",
                                      .requester_pays = true});
    for (int i = 0; i < 3; i++) {
        expect_ask(i, "x-amz-server-side-encryption: aws:kms\r\n");
        expect_ask(i, "x-amz-server-side-encryption-aws-kms-key-id: arn:aws:kms:eu-west-1:1:key/k\r\n");
        expect_ask(i, "x-amz-storage-class: STANDARD_IA\r\n");
        expect_ask(i, "x-amz-request-payer: requester\r\n");
        expect_ask(i, ";x-amz-request-payer;x-amz-server-side-encryption;"
                      "x-amz-server-side-encryption-aws-kms-key-id;x-amz-storage-class,");
    }
}

Test(policy, dual_layer_encryption_has_a_word_of_its_own)
{
    script.answers[0] = STORED;
    script_open(&(struct store_config){.sse = SSE_KMS_DSSE});
    put(NULL);
    expect_ask(0, "x-amz-server-side-encryption: aws:kms:dsse\r\n");
    expect_no_ask(0, "kms-key-id");
}

Test(policy, who_pays_is_said_with_every_request_and_the_rest_is_not)
{
    script.answers[0] = FOUND("");
    script.answers[1] = "HTTP/1.1 204 No\r\n\r\n";
    script.answers[2] = STORED;
    script_open(
        &(struct store_config){.sse = SSE_KMS, .storage_class = "STANDARD_IA", .requester_pays = true});
    run((struct store_call){.op = STORE_HEAD});
    run((struct store_call){.op = STORE_DELETE});
    run((struct store_call){
        .op = STORE_PART, .upload_id = "u", .part_number = 1, .from = &body, .from_count = 1});
    for (int i = 0; i < 3; i++) {
        expect_ask(i, "x-amz-request-payer: requester\r\n");
        expect_no_ask(i, "x-amz-server-side-encryption");
        expect_no_ask(i, "x-amz-storage-class");
    }
}

/* A HEAD's headers are what a rewrite sends again. */
static void rewrite(const char *found)
{
    struct store_call head = {.op = STORE_HEAD, .key = "a", .patience_ms = 20000};
    script.answers[0] = found;
    script.answers[1] = STORED;
    script_open(&(struct store_config){.sse = SSE_S3, .storage_class = "STANDARD_IA"});
    expect_rc(&head, 0);
    put(&head.object.headers);
    store_call_release(&head);
}

Test(policy, a_rewrite_keeps_the_class_that_is_named)
{
    rewrite(FOUND("x-amz-storage-class: INTELLIGENT_TIERING\r\n"));
    expect_ask(1, "x-amz-storage-class: INTELLIGENT_TIERING\r\n");
}

Test(policy, a_rewrite_keeps_the_class_that_s3_does_not_name)
{
    rewrite(FOUND(""));
    expect_ask(1, "x-amz-storage-class: STANDARD\r\n");
}

Test(policy, a_rewrite_is_encrypted_as_is_asked_for_with_no_key_of_before)
{
    rewrite(FOUND("x-amz-server-side-encryption: aws:kms\r\n"
                  "x-amz-server-side-encryption-aws-kms-key-id: old\r\n"
                  "x-amz-server-side-encryption-bucket-key-enabled: true\r\n"));
    expect_ask(1, "x-amz-server-side-encryption: AES256\r\n");
    expect_no_ask(1, "kms-key-id");
    expect_no_ask(1, "bucket-key-enabled");
}

Test(policy, an_etag_that_is_no_md5_proves_nothing_and_denies_nothing)
{
    script.answers[0] = "HTTP/1.1 200 OK\r\nETag: \"0123456789abcdef0123456789abcdef\"\r\n"
                        "x-amz-server-side-encryption: aws:kms\r\nContent-Length: 0\r\n\r\n";
    script_open(&(struct store_config){.sse = SSE_KMS});
    put(NULL);
    cr_expect_eq(script_asked(), 2, "the body goes again with a check that no server may pass over");
    expect_ask(1, "Content-MD5: XrY7u+Ae7tCTyyK7j1rNww==");
}
