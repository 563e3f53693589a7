#include "s3/credentials.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"

static char home[64];

/* Each test is a process of its own: the environment and the home are its own, too. */
static void begin(void)
{
    static const char *const variables[] = {
        "AWS_ACCESS_KEY_ID",   "AWS_SECRET_ACCESS_KEY",       "AWS_SESSION_TOKEN",
        "AWS_SECURITY_TOKEN",  "AWS_CREDENTIAL_EXPIRATION",   "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE",
    };
    for (size_t i = 0; i < sizeof(variables) / sizeof(*variables); i++)
        unsetenv(variables[i]);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1); /* of the machine that runs the tests */
    strcpy(home, "/tmp/skyvol-credentials-XXXXXX");
    cr_assert(mkdtemp(home));
    setenv("HOME", home, 1);
    STRING_SCOPED *aws = xprintf("%s/.aws", home);
    cr_assert_eq(mkdir(aws, 0700), 0);
}

static void end(void)
{
    static const char *const names[] = {".aws/credentials", ".aws/config", ".aws/other", ".aws", ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        STRING_SCOPED *path = xprintf("%s/%s", home, names[i]);
        remove(path);
    }
}

TestSuite(credentials, .init = begin, .fini = end);

static char *write_file(const char *name, mode_t mode, const char *text)
{
    char *path = xprintf("%s/.aws/%s", home, name);
    unlink(path);
    FILE *file = fopen(path, "w");
    cr_assert(file);
    fputs(text, file);
    fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
    return path;
}

static void put_file(const char *name, mode_t mode, const char *text)
{
    char *path = write_file(name, mode, text);
    free_string(&path);
}

/* "access secret token" or the words of the refusal. */
static int look(struct credentials_config config, struct buf *out, struct buf *source)
{
    struct credentials *credentials = credentials_new(&config);
    struct keys *keys = NULL;
    int rc = credentials_get(credentials, &keys, out);
    if (!rc)
        buf_printf(out, "%s %s %s", keys->access_key, secret_reveal(keys->secret_key),
                   keys->session_token ? secret_reveal(keys->session_token) : "-");
    if (source)
        credentials_describe(credentials, source);
    keys_unref(keys);
    credentials_unref(credentials);
    return rc;
}

static void expect_keys(struct credentials_config config, const char *want, const char *want_source)
{
    BUF_SCOPED out = BUF_INIT, source = BUF_INIT;
    cr_expect_eq(look(config, &out, &source), 0);
    cr_expect_str_eq(out.bytes, want);
    cr_expect_eq(strncmp(source.bytes, want_source, strlen(want_source)), 0, "%s", source.bytes);
}

static void expect_refusal(struct credentials_config config, int rc, const char *words)
{
    BUF_SCOPED out = BUF_INIT;
    cr_expect_eq(look(config, &out, NULL), rc, "%s", out.bytes);
    cr_expect(strstr(out.bytes, words), "%s", out.bytes);
    cr_expect(!strstr(out.bytes, "SECRET"), "%s", out.bytes);
}

#define NO_CONFIG ((struct credentials_config){0})

static const char two_profiles[] =
    "[default]\naws_access_key_id=D\naws_secret_access_key=SECRETD\n"
    "[dev]\naws_access_key_id=V\naws_secret_access_key=SECRETV\naws_session_token=T\n";

Test(credentials, explicit_keys_come_first)
{
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SECRETE", 1);
    struct keys *keys = keys_new("X", "SECRETX", NULL, INT64_MAX);
    expect_keys((struct credentials_config){.explicit_keys = keys, .profile = "dev"}, "X SECRETX -",
                "given keys");
    keys_unref(keys);
}

Test(credentials, environment_comes_before_files_unless_a_profile_was_chosen)
{
    put_file("credentials", 0600, two_profiles);
    expect_keys(NO_CONFIG, "D SECRETD -", "profile default of ");
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SECRETE", 1);
    setenv("AWS_SESSION_TOKEN", "T1", 1);
    expect_keys(NO_CONFIG, "E SECRETE T1", "environment AWS_ACCESS_KEY_ID");
    setenv("AWS_PROFILE", "dev", 1);
    expect_keys(NO_CONFIG, "E SECRETE T1", "environment");
    expect_keys((struct credentials_config){.profile = "dev"}, "V SECRETV T", "profile dev of ");
    unsetenv("AWS_SESSION_TOKEN");
    setenv("AWS_SECURITY_TOKEN", "T2", 1);
    expect_keys(NO_CONFIG, "E SECRETE T2", "environment");
}

Test(credentials, profiles_are_chosen_by_the_environment)
{
    put_file("credentials", 0600, two_profiles);
    setenv("AWS_DEFAULT_PROFILE", "dev", 1);
    expect_keys(NO_CONFIG, "V SECRETV T", "profile dev of ");
    setenv("AWS_PROFILE", "default", 1);
    expect_keys(NO_CONFIG, "D SECRETD -", "profile default of ");
}

Test(credentials, config_is_asked_after_credentials)
{
    put_file("config", 0600,
             "[default]\naws_access_key_id=C\naws_secret_access_key=SECRETC\n"
             "[profile dev]\naws_access_key_id=CV\naws_secret_access_key=SECRETCV\n");
    expect_keys(NO_CONFIG, "C SECRETC -", "profile default of ");
    expect_keys((struct credentials_config){.profile = "dev"}, "CV SECRETCV -", "profile dev of ");
    put_file("credentials", 0600, two_profiles);
    expect_keys((struct credentials_config){.profile = "dev"}, "V SECRETV T", "profile dev of ");
}

Test(credentials, every_source_that_was_tried_is_named)
{
    expect_refusal(NO_CONFIG, -ENOKEY, "AWS_ACCESS_KEY_ID is not set");
    expect_refusal(NO_CONFIG, -ENOKEY, "/.aws/credentials: is not there");
    expect_refusal(NO_CONFIG, -ENOKEY, "/.aws/config: is not there");
    put_file("credentials", 0600, two_profiles);
    expect_refusal((struct credentials_config){.profile = "prod"}, -ENOKEY, "no keys for profile prod");
    expect_refusal((struct credentials_config){.profile = "prod"}, -ENOKEY, "has no section [prod]");
    expect_refusal((struct credentials_config){.profile = "prod"}, -ENOKEY,
                   "because profile prod was chosen");
    put_file("config", 0600, "[profile prod]\nrole_arn = arn:x\n");
    expect_refusal((struct credentials_config){.profile = "prod"}, -EINVAL, "role_arn");
}

Test(credentials, half_a_pair_stops_the_search)
{
    put_file("credentials", 0600, two_profiles);
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    expect_refusal(NO_CONFIG, -ENOKEY, "the secret key is missing");
    unsetenv("AWS_ACCESS_KEY_ID");
    put_file("credentials", 0600, "[default]\naws_secret_access_key=SECRETD\n");
    expect_refusal(NO_CONFIG, -ENOKEY, "the access key is missing");
}

Test(credentials, keys_cannot_break_out_of_their_header)
{
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SECRET", 1);
    setenv("AWS_SESSION_TOKEN", "SECRET\r\nx-amz-acl: public-read", 1);
    expect_refusal(NO_CONFIG, -ENOKEY, "control characters");
}

Test(credentials, a_file_with_keys_that_is_open_to_others_is_refused_with_the_remedy)
{
    static const mode_t modes[] = {0640, 0604, 0660, 0602, 0610};
    for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++) {
        STRING_SCOPED *path = write_file("credentials", modes[i], two_profiles);
        STRING_SCOPED *remedy = xprintf("run: chmod 600 %s", path);
        expect_refusal(NO_CONFIG, -EPERM, remedy);
    }
    put_file("credentials", 0400, two_profiles);
    expect_keys(NO_CONFIG, "D SECRETD -", "profile default");
}

Test(credentials, a_symlink_and_a_directory_are_refused)
{
    STRING_SCOPED *other = write_file("other", 0600, two_profiles);
    STRING_SCOPED *path = xprintf("%s/.aws/credentials", home);
    cr_assert_eq(symlink(other, path), 0);
    expect_refusal(NO_CONFIG, -EPERM, "is a symbolic link");
    unlink(path);
    cr_assert_eq(mkdir(path, 0700), 0);
    expect_refusal(NO_CONFIG, -EPERM, "is no regular file");
    rmdir(path);
}

Test(credentials, config_may_be_read_by_all_but_not_with_keys_in_it)
{
    put_file("config", 0644, "[default]\nregion = eu-west-1\n");
    put_file("credentials", 0600, two_profiles);
    expect_keys(NO_CONFIG, "D SECRETD -", "profile default");
    put_file("config", 0644, "[profile c]\naws_access_key_id=C\naws_secret_access_key=SECRETC\n");
    expect_refusal((struct credentials_config){.profile = "c"}, -EPERM, "open to others");
    put_file("config", 0622, "[profile c]\nregion=x\n");
    expect_refusal((struct credentials_config){.profile = "c"}, -EPERM, "chmod go-w");
}

Test(credentials, a_broken_file_is_named_with_its_line)
{
    put_file("credentials", 0600, "[default]\naws_access_key_id=A\nSECRET\n");
    expect_refusal(NO_CONFIG, -EBADMSG, "/.aws/credentials:3: ");
}

Test(credentials, a_file_that_was_named_has_to_be_there)
{
    STRING_SCOPED *other = write_file("other", 0600, two_profiles);
    expect_keys((struct credentials_config){.credentials_file = other}, "D SECRETD -", "profile default of ");
    expect_keys((struct credentials_config){.credentials_file = "~/.aws/other"}, "D SECRETD -",
                "profile default of ");
    setenv("AWS_SHARED_CREDENTIALS_FILE", other, 1);
    expect_keys(NO_CONFIG, "D SECRETD -", "profile default of ");
    expect_refusal((struct credentials_config){.credentials_file = "/no/such"}, -ENOKEY,
                   "/no/such cannot be opened");
}

Test(credentials, relative_paths_start_where_the_process_stood)
{
    struct keys *keys = NULL;
    BUF_SCOPED why = BUF_INIT;
    put_file("other", 0600, two_profiles);
    STRING_SCOPED *aws = xprintf("%s/.aws", home);
    cr_assert_eq(chdir(aws), 0);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "other", 1);
    struct credentials *credentials = credentials_new(&NO_CONFIG);
    cr_assert_eq(chdir("/"), 0);
    cr_assert_eq(credentials_get(credentials, &keys, &why), 0, "%s", why.bytes);
    cr_assert_str_eq(keys->access_key, "D");
    keys_unref(keys);
    credentials_unref(credentials);
}

Test(credentials, refused_keys_are_read_again)
{
    clock_fake_begin(1369353600000000000ll);
    put_file("credentials", 0600, two_profiles);
    struct credentials *credentials = credentials_new(&NO_CONFIG);
    struct keys *old = NULL, *again = NULL, *rotated = NULL, *kept = NULL;
    cr_assert_eq(credentials_get(credentials, &old, NULL), 0);
    cr_expect_eq(credentials_refused(credentials, old), 0, "the same");
    cr_assert_eq(credentials_get(credentials, &again, NULL), 0);
    cr_expect_eq(again, old, "the same keys are the same object");
    put_file("credentials", 0600, "[default]\naws_access_key_id=N\naws_secret_access_key=SECRETN\n");
    cr_expect_eq(credentials_refused(credentials, old), 0, "they were read just now");
    clock_fake_advance(5000);
    cr_expect_eq(credentials_refused(credentials, old), 1);
    cr_expect_eq(credentials_refused(credentials, old), 1, "another call that still held the old ones");
    cr_assert_eq(credentials_get(credentials, &rotated, NULL), 0);
    cr_expect_str_eq(rotated->access_key, "N");
    put_file("credentials", 0644, "[default]\n");
    clock_fake_advance(5000);
    cr_expect_eq(credentials_refused(credentials, rotated), 0);
    cr_assert_eq(credentials_get(credentials, &kept, NULL), 0);
    cr_expect_eq(kept, rotated, "what was read before stays in force");
    cr_expect_str_eq(secret_reveal(old->secret_key), "SECRETD", "a holder keeps what it holds");
    keys_unref(old);
    keys_unref(again);
    keys_unref(rotated);
    keys_unref(kept);
    credentials_unref(credentials);
    clock_fake_end();
}

Test(credentials, keys_that_end_soon_are_read_again)
{
    clock_fake_begin(1369353600000000000ll); /* 2013-05-24T00:00:00Z */
    setenv("AWS_ACCESS_KEY_ID", "E", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "SECRETE", 1);
    setenv("AWS_CREDENTIAL_EXPIRATION", "2013-05-24T01:00:00Z", 1);
    struct credentials *credentials = credentials_new(&NO_CONFIG);
    struct keys *first = NULL, *same = NULL, *next = NULL;
    cr_assert_eq(credentials_get(credentials, &first, NULL), 0);
    setenv("AWS_ACCESS_KEY_ID", "F", 1);
    setenv("AWS_CREDENTIAL_EXPIRATION", "2013-05-24T02:00:00Z", 1);
    clock_fake_advance(44 * 60 * 1000);
    cr_assert_eq(credentials_get(credentials, &same, NULL), 0);
    cr_expect_eq(same, first);
    clock_fake_advance(2 * 60 * 1000);
    cr_assert_eq(credentials_get(credentials, &next, NULL), 0);
    cr_expect_str_eq(next->access_key, "F");
    keys_unref(first);
    keys_unref(same);
    keys_unref(next);
    credentials_unref(credentials);
    clock_fake_end();
}

static void expect_setting(const char *profile, const char *name, const char *want)
{
    struct credentials *credentials = credentials_new(&(struct credentials_config){.profile = profile});
    STRING_SCOPED *value = credentials_setting(credentials, name);
    cr_expect(want ? value && !strcmp(value, want) : !value, "%s: %s", name, value);
    credentials_unref(credentials);
}

Test(credentials, settings_come_from_the_chosen_profile)
{
    put_file("credentials", 0600, "[dev]\nregion = from-credentials\n");
    put_file("config", 0644,
             "[default]\nregion = eu-west-1\n"
             "[profile dev]\nregion = eu-west-2\nendpoint_url = https://plain\nservices = local\ns3 =\n  "
             "addressing_style = path\n"
             "[services local]\ns3 =\n  endpoint_url = https://special\n");
    expect_setting(NULL, "region", "eu-west-1");
    expect_setting(NULL, "endpoint_url", NULL);
    expect_setting("dev", "region", "from-credentials");
    expect_setting("dev", "endpoint_url", "https://special");
    expect_setting("dev", "s3.addressing_style", "path");
    expect_setting("nobody", "region", NULL);
    setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true", 1);
    expect_setting("dev", "endpoint_url", NULL);
    expect_setting("dev", "region", "from-credentials");
    unsetenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
}
