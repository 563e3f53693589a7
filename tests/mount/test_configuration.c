#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mount/configuration.h"

#define KEYS "access_key = { env = \"A\" }, secret_key = { file = \"/s\" }"

static char directory[] = "/tmp/skyvol-configuration.XXXXXX";

static void enter(void)
{
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(chdir(directory), 0);
    setenv("HOME", directory, 1);
}

static void leave(void)
{
    static const char *const names[] = {"skyward.toml", "one.toml", ".skyward/defaults.toml"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        unlink(names[i]);
    rmdir(".skyward");
    cr_assert_eq(chdir("/"), 0);
    rmdir(directory);
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    cr_assert_not_null(file);
    fputs(text, file);
    fclose(file);
    cr_assert_eq(chmod(path, mode), 0);
}

static int read_text(const char *text, struct configuration *configuration, struct buf *why)
{
    write_file("one.toml", text, 0600);
    struct configuration_request request = {.file = "one.toml", .state = "/nowhere"};
    return configuration_read(&request, configuration, why);
}

TestSuite(configuration, .init = enter, .fini = leave);

Test(configuration, the_pages_example_with_a_storage_beside_is_read_as_printed)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_text(
        "[pool]\nprovider = \"aws\"\nnodes = 2\n\n"
        "[[pool.volumes]]\nbucket = \"my-datasets\"\nmount = \"/data\"\nprefix = \"imagenet/\"\n"
        "read_only = true\n\n"
        "[[pool.volumes]]\nbucket = \"my-experiments\"\nmount = \"/checkpoints\"\nread_only = false\n"
        "[[pool.volumes]]\nbucket = \"my-r2-data\"\nmount = \"/r2\"\n"
        "storage = { preset = \"r2\", account_id = \"acc\", " KEYS " }\n",
        &all, &why);
    cr_assert_eq(rc, 0, "%s", why.bytes);
    cr_assert_eq(all.volume_count, 3);
    cr_expect_str_eq(all.provider->name, "aws");
    cr_expect_str_eq(all.volumes[0].prefix, "imagenet/");
    cr_expect(all.volumes[0].read_only && !all.volumes[1].read_only && all.volumes[2].read_only);
    cr_expect_str_eq(all.volumes[2].storage->endpoint, "https://acc.r2.cloudflarestorage.com");
    size_t count;
    const struct volume **provided = configuration_provided(&all, &count);
    cr_expect_eq(count, 2);
    free(provided);
    configuration_release(&all);
}

Test(configuration, a_credential_is_taken_in_each_of_its_forms)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc =
        read_text("[pool]\n[[pool.volumes]]\nbucket = \"bucket\"\nmount = \"/data\"\nstorage = \"s\"\n"
                  "[storage.s]\nendpoint = \"https://s3.example.com\"\naccess_key = { env = \"A\" }\n"
                  "secret_key = { command = [\"prog\", \"an arg\"] }\nsession_token = { file = \"token\" }\n",
                  &all, &why);
    cr_assert_eq(rc, 0, "%s", why.bytes);
    const struct storage *storage = all.volumes[0].storage;
    cr_expect_eq(storage->access_key.kind, DEFERRED_ENV);
    cr_expect_eq(storage->secret_key.kind, DEFERRED_COMMAND);
    cr_expect_str_eq(storage->secret_key.words[1], "an arg");
    cr_expect_eq(storage->session_token.kind, DEFERRED_FILE);
    cr_expect_str_eq(storage->access_key.where, "one.toml:8");
    cr_expect_eq(all.warnings.length, 0);
    configuration_release(&all);
}

Test(configuration, a_literal_in_a_file_that_others_read_draws_a_warning_that_does_not_hold_it)
{
    static const struct {
        mode_t mode;
        bool warns;
    } rows[] = {{0600, false}, {0640, true}, {0604, true}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct configuration all;
        BUF_SCOPED why = BUF_INIT;
        struct configuration_request request = {.file = "one.toml", .state = "/nowhere"};
        write_file("one.toml",
                   "[pool]\n[[pool.volumes]]\nbucket = \"bucket\"\nmount = \"/data\"\n"
                   "storage = { endpoint = \"https://s3.example.com\", access_key = \"AK\", secret_key = "
                   "\"hush\" }\n",
                   rows[i].mode);
        cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
        cr_expect_eq(all.warnings.length > 0, rows[i].warns);
        cr_expect(!rows[i].warns || strstr(all.warnings.bytes, "one.toml:5"));
        cr_expect(!rows[i].warns || !strstr(all.warnings.bytes, "hush"));
        configuration_release(&all);
    }
}

Test(configuration, what_is_unknown_inside_is_said_with_its_line_and_all_at_once)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_text(
        "[pool]\naccelerator = \"A100\"\n[pool.image]\npython = \"3.12\"\n"
        "[[pool.volumes]]\nbucket = \"bucket\"\nmount = \"/data\"\nstorage = \"s\"\ncolour = \"red\"\n"
        "[[pool.volumes]]\nbucket = \"bucket\"\nmount = \"data\"\nstorage = \"absent\"\n"
        "[storage.s]\nendpoint = \"https://s3.example.com\"\nendpiont = \"x\"\n",
        &all, &why);
    cr_assert_eq(rc, -EINVAL);
    static const char *const words[] = {"one.toml:9: a volume has no 'colour'", "got 'data'",
                                        "[storage.absent]", "one.toml:16", "endpiont"};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        cr_expect(strstr(why.bytes, words[i]), "%s is not in:\n%s", words[i], why.bytes);
    cr_expect(!strstr(why.bytes, "accelerator") && !strstr(why.bytes, "python"));
}

Test(configuration, a_provider_may_have_a_name_of_ones_own)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_text(
        "[pools.a]\nprovider = \"mine\"\n[[pools.a.volumes]]\nbucket = \"bucket\"\nmount = \"/data\"\n"
        "[providers.mine]\ntype = \"aws\"\nregion = \"eu-west-1\"\n",
        &all, &why);
    cr_assert_eq(rc, 0, "%s", why.bytes);
    cr_expect_str_eq(all.provider->name, "aws");
    cr_expect_str_eq(all.provider_name, "mine");
    cr_expect_str_eq(all.provider_type, "aws");
    cr_expect_str_eq(all.pool, "a");
    cr_expect_str_eq(provider_setting(&all.settings, "region")->value, "eu-west-1");
    configuration_release(&all);
}

#define AWS_POOL                                                                                             \
    "[pool]\nprovider = \"aws\"\n[[pool.volumes]]\nbucket = \"bucket\"\nmount = "                            \
    "\"/data\"\n[providers.aws]\n"

/* What was said and refused is not also missing, nor is another word taken for it. */
Test(configuration, each_fault_is_said_once_and_those_of_the_provider_with_the_others)
{
    static const struct {
        const char *text, *words;
    } rows[] = {
        {"bucket = 1\nmount = true\nread_only = \"x\"",
         "one.toml:4: bucket: must be a text\none.toml:5: mount: must be a text\none.toml:6: read_only: must "
         "be true or "
         "false"},
        {"bucket = \"buc\\u0000ket\"\nmount = \"/d\\u0007\"",
         "one.toml:4: bucket has a control character\none.toml:5: mount has a control character"},
        {"bucket = \"B_u\"\nmount = \"/tmp\"",
         "one.toml:3: mount cannot be a system path: '/tmp'\none.toml:3: 'B_u' is no name of a bucket at "
         "aws: 3 to 63 of a-z, "
         "0-9, '-', '.'"},
        {"bucket = \"bucket\"\nmount = \"/data\"\n[providers]\naws = 3",
         "one.toml:7: providers.aws must be a table"},
        {"bucket = \"bucket\"\nmount = \"/data\"\n\"colour\\u0000\" = 3",
         "one.toml:6: a volume has no 'colour\001'"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct configuration all;
        BUF_SCOPED why = BUF_INIT;
        STRING_SCOPED *text = xprintf("[pool]\nprovider = \"aws\"\n[[pool.volumes]]\n%s\n", rows[i].text);
        cr_expect_eq(read_text(text, &all, &why), -EINVAL);
        cr_expect_str_eq(why.bytes, rows[i].words);
    }
}

Test(configuration, a_setting_of_the_wrong_kind_is_not_passed_over)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    static const char *const words[] = {"one.toml:7: api_url must be a text",
                                        "one.toml:8: region must be a text",
                                        "one.toml:9: profile has a control character"};
    int rc = read_text(AWS_POOL "api_url = [\"https://x\"]\nregion = { env = \"R\" }\nprofile = \"a\\nb\"\n"
                                "ami = [1]\nports = { a = 1 }\n",
                       &all, &why);
    cr_assert_eq(rc, -EINVAL);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        cr_expect(strstr(why.bytes, words[i]), "%s is not in:\n%s", words[i], why.bytes);
    cr_expect(!strstr(why.bytes, "ami") && !strstr(why.bytes, "ports"));
}

Test(configuration, what_is_nearly_a_setting_draws_a_warning_and_what_is_others_does_not)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_text(AWS_POOL "instance_profile_arm = \"auto\"\nami = \"ami-1\"\nsubnet_id = \"s\"\n", &all,
                       &why);
    cr_assert_eq(rc, 0, "%s", why.bytes);
    cr_expect_str_eq(all.warnings.bytes,
                     "one.toml:7: 'instance_profile_arm' says nothing to skyvol; did you mean "
                     "'instance_profile_arn'?");
    configuration_release(&all);
}

Test(configuration, an_api_key_in_a_file_that_others_read_draws_a_warning_that_does_not_hold_it)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    struct configuration_request request = {.file = "one.toml", .state = "/nowhere"};
    write_file("one.toml",
               "[pool]\nprovider = \"runpod\"\n[[pool.volumes]]\nbucket = \"b\"\nmount = \"/data\"\n"
               "[providers.runpod]\napi_key = \"very-secret\"\n",
               0644);
    cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
    cr_expect(strstr(all.warnings.bytes, "one.toml:7: api_key stands in a file that others can read"));
    cr_expect(!strstr(all.warnings.bytes, "very-secret"));
    configuration_release(&all);
}

Test(configuration, what_is_to_be_taken_away_asks_for_no_volumes)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    struct configuration_request request = {.file = "one.toml", .removes = true};
    STRING_SCOPED *whole = xprintf("%s/one.toml", directory);
    static const char *const texts[] = {"[pool]\nprovider = \"gcp\"\n",
                                        "[pool]\nprovider = \"gcp\"\n[[pool.volumes]]\nmount = \"/tmp\"\n"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        write_file("one.toml", texts[i], 0600);
        cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
        cr_expect_str_eq(all.provider->name, "gcp");
        cr_expect_str_eq(all.origin, whole);
        configuration_release(&all);
    }
    write_file("one.toml", "[pool]\nprovider = \"gcp\"\nvolumes = 3\n[providers.gcp]\nproject = [1]\n", 0600);
    cr_expect_eq(configuration_read(&request, &all, &why), -EINVAL,
                 "a key is deleted by what the table says");
    request.name_only = true;
    cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
    cr_expect_str_eq(all.provider_name, "gcp");
    configuration_release(&all);
}

/* The keys of its mounts are kept beside it. */
Test(configuration, a_state_file_is_absolute_and_a_file)
{
    static const char *const rows[][2] = {{"here/pool", "/here/pool"}, {"", NULL}, {"/x/", NULL}};
    static const char *const volume = "bucket=bucket,mount=/a,endpoint=http://h";
    for (size_t i = 0; i < 3; i++) {
        struct configuration all;
        BUF_SCOPED why = BUF_INIT;
        STRING_SCOPED *whole = xprintf("%s%s", directory, rows[i][1] ? rows[i][1] : "");
        struct configuration_request request = {.volumes = &volume, .volume_count = 1, .state = rows[i][0]};
        int rc = configuration_read(&request, &all, &why);
        cr_expect_eq(rc, rows[i][1] ? 0 : -EINVAL, "%s", why.bytes);
        cr_expect(rc == 0 || strstr(why.bytes, "--state must name a file"), "%s", why.bytes);
        if (rc == 0) {
            cr_expect_str_eq(all.state, whole);
            configuration_release(&all);
        }
    }
}

/* "up --volume A" and "up --volume B" are two pools, whatever else their words say. */
Test(configuration, each_set_of_mounts_on_a_command_line_is_a_pool_of_its_own)
{
    static const char *const rows[][2] = {
        {"bucket=bucket,mount=/a,endpoint=http://h", "bucket=bucket,mount=/b,endpoint=http://h"},
        {"bucket=bucket,mount=/b/,endpoint=http://g", "bucket=bucket,mount=/a,endpoint=http://h,rw"},
        {"bucket=bucket,mount=/a,endpoint=http://h", "bucket=bucket,mount=/c,endpoint=http://h"}};
    char *states[3];
    for (size_t i = 0; i < 3; i++) {
        struct configuration all;
        BUF_SCOPED why = BUF_INIT;
        struct configuration_request request = {.volumes = rows[i], .volume_count = 2};
        cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
        states[i] = xstrdup(all.state);
        cr_expect_null(all.origin);
        configuration_release(&all);
    }
    cr_expect_str_eq(states[0], states[1]);
    cr_expect_str_neq(states[0], states[2]);
    for (size_t i = 0; i < 3; i++)
        free(states[i]);
}

Test(configuration, tables_merge_and_arrays_and_values_replace)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    struct configuration_request request = {.state = "/nowhere"};
    cr_assert_eq(mkdir(".skyward", 0700), 0);
    write_file(".skyward/defaults.toml",
               "[pool]\nprovider = \"gcp\"\nvolumes = [{ bucket = \"first\", mount = \"/one\" }, "
               "{ bucket = \"second\", mount = \"/two\" }]\n[storage.s]\npreset = \"minio\"\nendpoint = "
               "\"http://127.0.0.1:1\"\n",
               0600);
    write_file("skyward.toml",
               "[[pool.volumes]]\nbucket = \"third\"\nmount = \"/three\"\nstorage = \"s\"\n"
               "[storage.s]\nendpoint = \"http://127.0.0.1:2\"\n",
               0600);
    cr_assert_eq(configuration_read(&request, &all, &why), 0, "%s", why.bytes);
    cr_assert_eq(all.volume_count, 1);
    cr_expect_str_eq(all.volumes[0].bucket, "third");
    cr_expect_str_eq(all.provider_name, "gcp");
    cr_expect_str_eq(all.volumes[0].storage->endpoint, "http://127.0.0.1:2");
    cr_expect(all.volumes[0].storage->path_style);
    configuration_release(&all);
}

Test(configuration, no_file_at_all_names_the_paths_tried)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    struct configuration_request request = {0};
    cr_assert_eq(configuration_read(&request, &all, &why), -ENOENT);
    cr_expect(strstr(why.bytes, directory) && strstr(why.bytes, ".skyward/defaults.toml"));
    cr_expect(strstr(why.bytes, "./skyward.toml"), "%s", why.bytes);
}

Test(configuration, a_base_is_compared_with_mounts_however_it_is_written)
{
    static const char *const bases[] = {"/srv/b", "/srv/b/", "/srv//b", "/srv/./b/"};
    static const char *const volumes[] = {"bucket=bucket,mount=/srv/b,endpoint=https://s3.example.com"};
    for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
        struct configuration all;
        BUF_SCOPED why = BUF_INIT;
        struct configuration_request request = {
            .base = bases[i], .state = "/nowhere", .volumes = volumes, .volume_count = 1};
        cr_expect_eq(configuration_read(&request, &all, &why), -EINVAL, "%s", bases[i]);
        cr_expect(strstr(why.bytes, "system path"), "%s: %s", bases[i], why.bytes);
    }
}

Test(configuration, a_literal_of_several_lines_is_refused_and_not_repeated)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    int rc = read_text("[pool]\n[[pool.volumes]]\nbucket = \"bucket\"\nmount = \"/data\"\n"
                       "storage = { endpoint = \"https://s3.example.com\", access_key = \"AK\", "
                       "secret_key = \"hush\\n[other]\" }\n",
                       &all, &why);
    cr_assert_eq(rc, -EINVAL);
    cr_expect(strstr(why.bytes, "one.toml:5: secret_key: has a control character"), "%s", why.bytes);
    cr_expect(!strstr(why.bytes, "hush"));
}

/* The library asserts, or takes for granted, what these are not. */
Test(configuration, a_file_without_end_and_tables_without_end_are_refused, .timeout = 20)
{
    struct configuration all;
    BUF_SCOPED why = BUF_INIT;
    struct configuration_request request = {.file = "/dev/zero"};
    cr_expect_eq(configuration_read(&request, &all, &why), -EFBIG, "%s", why.bytes);
    cr_expect(strstr(why.bytes, "/dev/zero"));
    STRING_SCOPED *deep = xcalloc(1, 2000100);
    strcpy(deep, "[pool]\n[a");
    for (size_t i = 0; i < 1000000; i++)
        memcpy(deep + 9 + 2 * i, ".a", 2);
    strcpy(deep + 2000009, "]\n");
    buf_reset(&why);
    cr_expect_eq(read_text(deep, &all, &why), -EINVAL);
    cr_expect(strstr(why.bytes, "one.toml:2: "), "%s", why.bytes);
}

Test(configuration, what_is_no_toml_is_refused_with_the_file)
{
    static const char *const texts[] = {"[\n",          "[",      "[[",       "a.\n", "\xcf\xb9",
                                        "\xc3\xa9 = 1", "a = \"", "a = [1, ", "= 1",  "\xff\xfe"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct configuration configuration;
        BUF_SCOPED why = BUF_INIT;
        cr_expect_lt(read_text(texts[i], &configuration, &why), 0, "%zu", i);
        cr_expect_not_null(strstr(why.bytes, ".toml"), "%s", why.bytes);
    }
}
