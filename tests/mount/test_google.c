#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/rsa.h"
#include "mount/google.h"

/* A new key each time; OpenSSL's own program makes it and checks what we signed. */
static struct secret *make_key(const char *directory, const char *kind)
{
    STRING_SCOPED *command = xprintf(
        "cd %s && openssl genpkey -algorithm %s -out key.pem 2>/dev/null && openssl pkey -in key.pem -pubout "
        "-out public.pem",
        directory, kind);
    STRING_SCOPED *path = xprintf("%s/key.pem", directory);
    char text[8192];
    cr_assert_eq(system(command), 0);
    FILE *file = fopen(path, "r");
    cr_assert_not_null(file);
    size_t length = fread(text, 1, sizeof(text), file);
    fclose(file);
    return secret_new(text, length);
}

static void write_file(const char *directory, const char *name, const void *bytes, size_t length)
{
    STRING_SCOPED *path = xprintf("%s/%s", directory, name);
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    cr_assert_eq(fwrite(bytes, 1, length, file), length);
    fclose(file);
}

static void decode(const char *text, size_t length, struct buf *out)
{
    BUF_SCOPED plain = BUF_INIT;
    for (size_t i = 0; i < length; i++)
        buf_add_char(&plain, text[i] == '-' ? '+' : text[i] == '_' ? '/' : text[i]);
    while (plain.length % 4)
        buf_add_char(&plain, '=');
    cr_assert_eq(buf_add_base64_decoded(out, plain.bytes, plain.length), 0);
}

Test(google, openssl_finds_the_assertion_well_signed)
{
    char directory[] = "/tmp/skyvol-google.XXXXXX";
    cr_assert_not_null(mkdtemp(directory));
    struct secret *key = make_key(directory, "RSA -pkeyopt rsa_keygen_bits:2048");
    BUF_SCOPED out = BUF_INIT;
    BUF_SCOPED why = BUF_INIT;
    BUF_SCOPED head = BUF_INIT;
    BUF_SCOPED claims = BUF_INIT;
    BUF_SCOPED signature = BUF_INIT;
    int rc = google_assertion("a@b.iam.gserviceaccount.com", "k1", key, "https://oauth2.googleapis.com/token",
                              1700000000, &out, &why);
    cr_assert_eq(rc, 0, "%s", why.bytes);
    const char *first = strchr(out.bytes, '.'), *second = strchr(first + 1, '.');
    decode(out.bytes, (size_t)(first - out.bytes), &head);
    decode(first + 1, (size_t)(second - first - 1), &claims);
    decode(second + 1, strlen(second + 1), &signature);
    cr_assert_str_eq(head.bytes, "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"k1\"}");
    cr_assert_str_eq(
        claims.bytes,
        "{\"iss\":\"a@b.iam.gserviceaccount.com\",\"scope\":\"" GOOGLE_SCOPE
        "\",\"aud\":\"https://oauth2.googleapis.com/token\",\"iat\":1700000000,\"exp\":1700003600}");
    write_file(directory, "signed", out.bytes, (size_t)(second - out.bytes));
    write_file(directory, "signature", signature.bytes, signature.length);
    STRING_SCOPED *verify = xprintf(
        "cd %s && openssl dgst -sha256 -verify public.pem -signature signature signed >/dev/null", directory);
    STRING_SCOPED *clear = xprintf("rm -r %s", directory);
    cr_assert_eq(system(verify), 0);
    cr_assert_eq(system(clear), 0);
    secret_unref(key);
}

static void refuse_key(const char *text, const char *word)
{
    struct secret *key = secret_new(text, strlen(text));
    BUF_SCOPED out = BUF_INIT;
    BUF_SCOPED why = BUF_INIT;
    cr_assert_eq(rsa_sign_sha256(key, "x", 1, &out, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, word), "%s", why.bytes);
    cr_assert_eq(out.length, 0);
    secret_unref(key);
}

Test(google, what_is_no_rsa_key_is_refused_without_quoting_it)
{
    char directory[] = "/tmp/skyvol-google.XXXXXX";
    refuse_key("", "PEM");
    refuse_key("-----BEGIN PRIVATE KEY-----\nQUJD\n-----END PRIVATE KEY-----\n", "PEM");
    cr_assert_not_null(mkdtemp(directory));
    struct secret *other = make_key(directory, "ED25519"),
                  *weak = make_key(directory, "RSA -pkeyopt rsa_keygen_bits:1024");
    STRING_SCOPED *clear = xprintf("rm -r %s", directory);
    refuse_key(secret_reveal(other), "no RSA key of 2048");
    refuse_key(secret_reveal(weak), "no RSA key of 2048");
    secret_unref(other);
    secret_unref(weak);
    cr_assert_eq(system(clear), 0);
}

Test(google, base64_of_urls_has_its_own_alphabet_and_no_padding)
{
    static const struct {
        unsigned char bytes[4];
        size_t length;
        char text[8];
    } rows[] = {{"", 0, ""},
                {"\xff", 1, "_w"},
                {"\xfb\xff", 2, "-_8"},
                {"\xfb\xef\xbe", 3, "----"},
                {"\xff\xff\xff\xff", 4, "_____w"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        BUF_SCOPED out = BUF_INIT;
        buf_add_string(&out, "a=+/");
        buf_add_base64_url(&out, rows[i].bytes, rows[i].length);
        cr_assert_str_eq(out.bytes + 4, rows[i].text);
        cr_assert_eq(out.length, 4 + strlen(rows[i].text));
        cr_assert_eq(strncmp(out.bytes, "a=+/", 4), 0);
    }
}
