#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mount/storage.h"
#include "s3/credentials.h"

/* "field=value field=value": credentials as literals. */
static int make(const char *words, struct storage *ret_storage, struct buf *why)
{
    char *text = xstrdup(words), *rest = text;
    int rc = 0;
    *ret_storage = (struct storage){.where = xstrdup("line 1")};
    for (char *word; rc == 0 && (word = strsep(&rest, " "));) {
        char *equals = strchr(word, '=');
        if (!equals)
            continue;
        *equals = 0;
        if (storage_is_credential(word)) {
            struct deferred literal = {.kind = DEFERRED_LITERAL,
                                       .literal = secret_new(equals + 1, strlen(equals + 1))};
            rc = storage_set_credential(ret_storage, word, &literal, why);
            deferred_release(&literal);
        } else {
            rc = storage_set(ret_storage, word, equals + 1, "line 1", why);
        }
    }
    free(text);
    return rc < 0 ? rc : storage_finish(ret_storage, why);
}

#define KEYS " access_key=A secret_key=B"

Test(storage, presets_know_their_endpoint_region_and_style)
{
    static const char *const rows[][2] = {
        {"preset=s3", "https://s3.us-east-1.amazonaws.com us-east-1 no"},
        {"preset=s3 region=eu-west-1" KEYS, "https://s3.eu-west-1.amazonaws.com eu-west-1 no"},
        {"preset=gcs" KEYS, "https://storage.googleapis.com auto no"},
        {"preset=r2 account_id=abc" KEYS, "https://abc.r2.cloudflarestorage.com auto no"},
        {"preset=wasabi" KEYS, "https://s3.us-east-1.wasabisys.com us-east-1 no"},
        {"preset=backblaze region=us-west-004 key_id=A app_key=B",
         "https://s3.us-west-004.backblazeb2.com us-west-004 no"},
        {"preset=hyperstack api_key=K", "https://ca1.obj.nexgencloud.io us-east-1 path"},
        {"preset=minio endpoint=http://h:9000" KEYS, "http://h:9000 us-east-1 path"},
        {"endpoint=https://s3.example.com path_style=true" KEYS, "https://s3.example.com - path"},
        {"preset=minio endpoint=http://h path_style=false" KEYS, "http://h us-east-1 no"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct storage storage;
        BUF_SCOPED why = BUF_INIT;
        cr_expect_eq(make(rows[i][0], &storage, &why), 0, "%s: %s", rows[i][0], why.bytes);
        STRING_SCOPED *told = xprintf("%s %s %s", storage.endpoint, storage.region ? storage.region : "-",
                                      storage.path_style ? "path" : "no");
        cr_expect_str_eq(told, rows[i][1]);
        cr_expect_eq(storage_makes_keys(&storage), strstr(rows[i][0], "hyperstack") != NULL);
        storage_release(&storage);
    }
}

Test(storage, what_is_missing_or_contradicts_is_named)
{
    static const char *const rows[][2] = {
        {"", "needs endpoint, or a preset"},
        {"preset=minio", "needs endpoint"},
        {"preset=r2" KEYS, "needs account_id"},
        {"preset=r2 account_id=a.b/c" KEYS, "account_id has a character"},
        {"preset=backblaze key_id=A app_key=B", "needs region"},
        {"preset=gcs", "needs access_key and secret_key"},
        {"preset=s3 access_key=A", "without secret_key"},
        {"preset=s3 secret_key=A", "without access_key"},
        {"preset=s3 session_token=A", "without access_key"},
        {"preset=s3 profile=p" KEYS, "access_key and profile"},
        {"preset=s3 account_id=x", "account_id belongs to preset r2"},
        {"preset=s3 api_key=x", "api_key belongs to preset hyperstack"},
        {"preset=s3 region=eu.evil.com", "region has a character"},
        {"preset=s4", "there is no preset 's4'"},
        {"preset=s3 regoin=x", "did you mean 'region'"},
        {"preset=s3 path_style=maybe", "true or false"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct storage storage;
        BUF_SCOPED why = BUF_INIT;
        cr_expect_eq(make(rows[i][0], &storage, &why), -EINVAL, "%s", rows[i][0]);
        cr_expect_not_null(strstr(why.bytes, rows[i][1]), "%s: %s", rows[i][0], why.bytes);
        cr_expect_not_null(strstr(why.bytes, "line 1: "), "%s", why.bytes);
        storage_release(&storage);
    }
}

Test(storage, keys_are_no_plain_text_and_plain_text_is_no_key)
{
    struct storage storage = {0};
    BUF_SCOPED why = BUF_INIT;
    cr_expect_eq(storage_set(&storage, "secret_key", "SECRET", NULL, &why), -EINVAL);
    cr_expect_not_null(strstr(why.bytes, "env"), "%s", why.bytes);
    cr_expect_null(strstr(why.bytes, "SECRET"));
    struct deferred literal = {.kind = DEFERRED_LITERAL, .literal = secret_new("x", 1)};
    cr_expect_eq(storage_set_credential(&storage, "region", &literal, &why), -EINVAL);
    deferred_release(&literal);
    storage_release(&storage);
}

/* Each run of such a command makes other keys: parts of two sets open nothing. */
Test(storage, a_command_that_prints_a_set_of_keys_runs_once)
{
    char file[] = "/tmp/skyvol-storage-XXXXXX", sh[] = "sh", flag[] = "-c";
    struct storage storage = {.endpoint = NULL};
    struct keys *keys = NULL;
    BUF_SCOPED why = BUF_INIT;
    int fd = mkstemp(file);
    cr_assert_geq(fd, 0);
    close(fd);
    STRING_SCOPED *script =
        xprintf("echo >> %s; n=$(wc -l < %s); echo '{\"Version\": 1, \"AccessKeyId\": \"A'$n'\", "
                "\"SecretAccessKey\": \"S'$n'\", \"SessionToken\": \"T'$n'\"}'",
                file, file);
    char *words[] = {sh, flag, script, NULL};
    struct deferred command = {.kind = DEFERRED_COMMAND, .words = words};
    deferred_copy(&storage.access_key, &command);
    deferred_copy(&storage.secret_key, &command);
    for (int round = 1; round <= 2; round++) { /* when they were refused, others are asked for */
        char wanted[3][8];
        for (int i = 0; i < 3; i++)
            snprintf(wanted[i], sizeof wanted[i], "%c%d", "AST"[i], round);
        cr_assert_eq(storage_keys(&storage, &keys, &why), 0, "%s", why.bytes);
        cr_expect_str_eq(keys->access_key, wanted[0]);
        cr_expect_str_eq(secret_reveal(keys->secret_key), wanted[1]);
        cr_assert_not_null(keys->session_token);
        cr_expect_str_eq(secret_reveal(keys->session_token), wanted[2]);
        keys_unref(keys);
    }
    storage_release(&storage);
    unlink(file);
}

Test(storage, both_keys_that_cannot_be_found_are_named)
{
    char absent[] = "SKYVOL_TEST_ABSENT", missing[] = "/does/not/exist", program[] = "false";
    char *words[] = {program, NULL};
    struct keys *keys = NULL;
    BUF_SCOPED why = BUF_INIT;
    struct storage storage = {.access_key = {.kind = DEFERRED_ENV, .name = absent},
                              .secret_key = {.kind = DEFERRED_FILE, .name = missing}};
    cr_expect_eq(storage_keys(&storage, &keys, &why), -ENOKEY);
    cr_expect(strstr(why.bytes, absent) && strstr(why.bytes, missing), "%s", why.bytes);
    struct deferred command = {.kind = DEFERRED_COMMAND, .words = words};
    struct storage same = {.access_key = command, .secret_key = command};
    buf_reset(&why);
    cr_expect_eq(storage_keys(&same, &keys, &why), -EIO);
    cr_expect(!strchr(why.bytes, '\n'), "%s", why.bytes);
}

Test(storage, equal_ones_share_a_mount)
{
    static const char *const rows[] = {"preset=s3",
                                       "preset=s3 region=eu-west-1",
                                       "preset=s3 access_key=A secret_key=B",
                                       "preset=s3 access_key=A secret_key=C",
                                       "preset=s3 profile=p",
                                       "preset=s3 no_sign_request=true"};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (size_t j = 0; j < sizeof rows / sizeof *rows; j++) {
            struct storage a, b;
            BUF_SCOPED why = BUF_INIT;
            cr_assert_eq(make(rows[i], &a, &why), 0, "%s", why.bytes);
            cr_assert_eq(make(rows[j], &b, &why), 0, "%s", why.bytes);
            cr_expect_eq(storage_equal(&a, &b), i == j, "%s, %s", rows[i], rows[j]);
            storage_release(&a);
            storage_release(&b);
        }
}
