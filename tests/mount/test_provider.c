#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mount/adapter.h"

static char directory[] = "/tmp/skyvol-provider.XXXXXX";
static char path[64];

static void begin(void)
{
    static const char *const names[] = {"AWS_REGION",         "AWS_DEFAULT_REGION",    "AWS_ENDPOINT_URL_S3",
                                        "RUNPOD_REST_URL",    "STORAGE_EMULATOR_HOST", "HYPERSTACK_API_URL",
                                        "HYPERSTACK_API_KEY", "RUNPOD_API_KEY"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        unsetenv(names[i]);
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/state", directory);
}

static void end(void)
{
    STRING_SCOPED *command = xprintf("rm -r %s", directory);
    cr_assert_eq(system(command), 0);
}

TestSuite(provider, .init = begin, .fini = end);

/* A pool of up to four volumes and four settings, as a configuration gives it. */
struct stage {
    struct volume volumes[4];
    const struct volume *list[4];
    struct provider_setting all[4];
    struct provider_settings settings;
    struct provider_job job;
    struct waiter waiter;
};

static char *text_of(const char *text)
{
    return (char *)(uintptr_t)text;
}

static void set_stage(struct stage *stage, const char *provider, const char *const *buckets)
{
    *stage = (struct stage){0};
    waiter_init(&stage->waiter);
    stage->settings.all = stage->all;
    stage->job = (struct provider_job){.provider = provider_find(provider),
                                       .settings = &stage->settings,
                                       .volumes = stage->list,
                                       .pool = "train",
                                       .state_path = path,
                                       .waiter = &stage->waiter};
    for (; *buckets; buckets++) {
        struct volume *volume = &stage->volumes[stage->job.volume_count];
        volume->bucket = text_of(*buckets + (**buckets == '!'));
        volume->read_only = **buckets != '!';
        volume->mount = text_of("/data");
        volume->prefix = text_of("");
        volume->where = text_of("skyward.toml:7");
        stage->list[stage->job.volume_count++] = volume;
    }
}

static void set(struct stage *stage, const char *name, const char *value)
{
    stage->all[stage->settings.count++] = (struct provider_setting){
        .name = text_of(name), .value = text_of(value), .where = text_of("skyward.toml:3")};
}

static void remember(const char *provider, const char *kind, const char *id, const char *const *facts)
{
    struct state *state = NULL;
    struct state_thing *thing = NULL;
    struct json *json = json_object_new();
    BUF_SCOPED why = BUF_INIT;
    for (; *facts; facts += 2)
        json_set_string(json, facts[0], facts[1]);
    cr_assert_eq(state_open(path, provider, "train", &state, &why), 0, "%s", why.bytes);
    cr_assert_eq(state_intend(state, kind, &json, &thing, &why), 0, "%s", why.bytes);
    cr_assert_eq(state_made(state, thing, id, "secret-key", &why), 0, "%s", why.bytes);
    state_close(state);
}

/* Each row: what is set, and a word of the one line that tells what is wrong ("": it is right). */
Test(provider, what_is_wrong_is_said_without_any_call)
{
    static const struct {
        const char *provider, *buckets[3], *name, *value, *word;
    } rows[] = {
        {"runpod", {"data", NULL}, NULL, NULL, ""},
        {"runpod", {"data", "data"}, NULL, NULL, ""},
        {"runpod", {"data", "other"}, NULL, NULL, "prefix"},
        {"runpod", {"", NULL}, NULL, NULL, "bucket is empty"},
        {"runpod", {"data", NULL}, "cloud_type", "SECURE", ""},
        {"runpod", {"data", NULL}, "cloud_type", "community", "Secure Cloud"},
        {"runpod", {"data", NULL}, "cloud_type", "all", "Secure Cloud"},
        {"runpod", {"data", NULL}, "volume_mount_path", "workspace", "absolute"},
        {"runpod", {"data", NULL}, "volume_mount_path", "/w/../etc", "absolute"},
        {"runpod", {"data", NULL}, "volume_mount_path", "/w/..", "absolute"},
        {"runpod", {"data", NULL}, "volume_mount_path", "/data", "where the volume itself stands"},
        {"runpod", {"data", NULL}, "volume_mount_path", "/data/within", "where the volume itself stands"},
        {"aws", {"my-data", NULL}, NULL, NULL, ""},
        {"aws", {"my-data", NULL}, "instance_profile_arn", "auto", ""},
        {"aws",
         {"my-data", NULL},
         "instance_profile_arn",
         "arn:aws-cn:iam::123456789012:instance-profile/a/b",
         ""},
        {"aws",
         {"my-data", NULL},
         "instance_profile_arn",
         "arn:aws:iam::123456789012:instance-profile/",
         "instance_profile_arn"},
        {"aws",
         {"my-data", NULL},
         "instance_profile_arn",
         "arn:aws:iam::12345678901:instance-profile/a",
         "instance_profile_arn"},
        {"aws", {"my-data", NULL}, "instance_profile_arn", "mine", "instance_profile_arn"},
        {"aws", {"My_Data", NULL}, NULL, NULL, "no name of a bucket"},
        {"aws", {"a", NULL}, NULL, NULL, "no name of a bucket"},
        {"aws", {"a/b", NULL}, NULL, NULL, "no name of a bucket"},
        {"aws", {"my..data", NULL}, NULL, NULL, "no name of a bucket"},
        {"gcp", {"my_data", NULL}, NULL, NULL, ""},
        {"gcp", {"-data", NULL}, NULL, NULL, "no name of a bucket"},
        {"hyperstack", {"my_data", NULL}, NULL, NULL, "no name of a bucket"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct stage stage;
        BUF_SCOPED why = BUF_INIT;
        set_stage(&stage, rows[i].provider, rows[i].buckets);
        if (rows[i].name)
            set(&stage, rows[i].name, rows[i].value);
        int rc = stage.job.provider->check(&stage.job, &why);
        cr_assert_eq(rc, *rows[i].word ? -EINVAL : 0, "row %zu: %s", i, why.bytes);
        cr_assert_not_null(strstr(why.bytes, rows[i].word), "row %zu: %s", i, why.bytes);
        cr_assert_eq(why.length > 0, *rows[i].word != '\0');
        cr_assert_null(strchr(why.bytes, '\n'));
        waiter_release(&stage.waiter);
    }
}

Test(provider, who_mounts_nothing_names_all_buckets)
{
    static const char *const buckets[] = {"my-data", "my-out", NULL};
    static const char *const names[] = {"vastai", "verda", "container", "nobody", NULL};
    struct stage stage;
    set_stage(&stage, "aws", buckets);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        const struct provider *provider = NULL;
        BUF_SCOPED why = BUF_INIT;
        cr_assert_eq(provider_require(names[i], stage.list, 2, &provider, &why), -EINVAL);
        cr_assert_not_null(strstr(why.bytes, "my-data (skyward.toml:7), my-out (skyward.toml:7)"), "%s",
                           why.bytes);
        cr_assert_not_null(strstr(why.bytes, "aws, gcp, hyperstack, runpod"));
        buf_reset(&why);
        cr_assert_eq(provider_require(names[i], NULL, 0, &provider, &why), 0);
        cr_assert_null(provider);
    }
    waiter_release(&stage.waiter);
}

Test(provider, keys_that_were_prepared_are_supplied_without_a_call)
{
    static const char *const buckets[] = {"my-data", "!my-out", NULL};
    static const char *const facts[] = {"account", "x", "access_key", "AK1", NULL};
    struct stage stage;
    struct provision provision;
    BUF_SCOPED why = BUF_INIT;
    set_stage(&stage, "hyperstack", buckets);
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), -ENOKEY);
    cr_assert_not_null(strstr(why.bytes, "skyvol prepare"));
    remember("hyperstack", "access-key", "101", facts);
    buf_reset(&why);
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), 0, "%s", why.bytes);
    cr_assert_eq(provision.supply_count, 2);
    cr_assert_str_eq(provision.supplies[1].endpoint, "https://ca1.obj.nexgencloud.io");
    cr_assert_str_eq(provision.supplies[1].region, "us-east-1");
    cr_assert(provision.supplies[1].path_style);
    cr_assert_str_eq(provision.supplies[1].access_key, "AK1");
    cr_assert_str_eq(provision.supplies[0].identity, provision.supplies[1].identity);
    cr_assert_str_eq(secret_reveal(provision.supplies[0].secret_key), "secret-key");
    provision_release(&provision);
    waiter_release(&stage.waiter);
}

Test(provider, googles_key_is_its_own_name)
{
    static const char *const buckets[] = {"my_data", NULL}, *const facts[] = {"project", "p", "email", "a@b",
                                                                              NULL};
    struct stage stage;
    struct provision provision;
    BUF_SCOPED why = BUF_INIT;
    set_stage(&stage, "gcp", buckets);
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), -ENOENT);
    cr_assert_not_null(strstr(why.bytes, "skyvol prepare"));
    remember("gcp", "hmac-key", "GOOG1E", facts);
    buf_reset(&why);
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), 0, "%s", why.bytes);
    cr_assert_str_eq(provision.supplies[0].endpoint, "https://storage.googleapis.com");
    cr_assert_str_eq(provision.supplies[0].region, "auto");
    cr_assert_str_eq(provision.supplies[0].access_key, "GOOG1E");
    cr_assert_eq(provision.supplies[0].credentials, SUPPLY_KEYS);
    provision_release(&provision);
    waiter_release(&stage.waiter);
}

#define OR_LOCATION " (and GET ?location, where the answer tells no region)"

Test(provider, regions_that_were_found_are_not_asked_for_again)
{
    static const char *const buckets[] = {"my-data", "my-data", "my-cn", NULL};
    static const char *const facts[] = {"account",        "123456789012",   "name",
                                        "skyvol-train-1", "region.my-data", "eu-west-1",
                                        "region.my-cn",   "cn-north-1",     NULL};
    struct stage stage;
    struct provision provision;
    BUF_SCOPED why = BUF_INIT;
    set_stage(&stage, "aws", buckets);
    set(&stage, "instance_profile_arn", "auto");
    stage.job.explain = true;
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), 0);
    cr_assert_str_eq(provision.calls[0], "HEAD https://s3.us-east-1.amazonaws.com/my-data (and GET "
                                         "?location, where the answer tells no region)");
    cr_assert_str_eq(provision.calls[1], "HEAD https://s3.us-east-1.amazonaws.com/my-cn" OR_LOCATION);
    cr_assert_null(provision.calls[2]);
    provision_release(&provision);
    remember("aws", "role", "skyvol-train-1", facts);
    stage.job.explain = false;
    cr_assert_eq(stage.job.provider->supply(&stage.job, &provision, &why), 0, "%s", why.bytes);
    cr_assert_null(provision.calls);
    cr_assert_str_eq(provision.supplies[0].endpoint, "https://s3.eu-west-1.amazonaws.com");
    cr_assert_str_eq(provision.supplies[2].endpoint, "https://s3.cn-north-1.amazonaws.com.cn");
    cr_assert_eq(provision.supplies[0].credentials, SUPPLY_ROLE);
    cr_assert_null(provision.supplies[0].secret_key);
    cr_assert_not_null(
        strstr(provision.notes[0], "arn:aws:iam::123456789012:instance-profile/skyvol-train-1"));
    provision_release(&provision);
    waiter_release(&stage.waiter);
}

Test(provider, an_address_is_of_the_environment_then_of_the_settings)
{
    static const char *const buckets[] = {"data", NULL};
    struct stage stage;
    const char *where;
    set_stage(&stage, "runpod", buckets);
    cr_assert_str_eq(adapter_address(&stage.job, "RUNPOD_REST_URL", "https://usual", &where),
                     "https://usual");
    set(&stage, "api_url", "https://settings");
    cr_assert_str_eq(adapter_address(&stage.job, "RUNPOD_REST_URL", "https://usual", &where),
                     "https://settings");
    cr_assert_str_eq(where, "skyward.toml:3");
    setenv("RUNPOD_REST_URL", "https://environment", 1);
    cr_assert_str_eq(adapter_address(&stage.job, "RUNPOD_REST_URL", "https://usual", &where),
                     "https://environment");
    cr_assert_str_eq(where, "RUNPOD_REST_URL");
    waiter_release(&stage.waiter);
}
