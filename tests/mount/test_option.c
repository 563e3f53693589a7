#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"
#include "mount/option.h"
#include "s3/store.h"

static struct settings settings;
static struct buf why = BUF_INIT;

static void begin(void)
{
    option_defaults(&settings);
}

static void end(void)
{
    settings_release(&settings);
    buf_release(&why);
}

TestSuite(option, .init = begin, .fini = end);

Test(option, defaults_are_those_of_the_table)
{
    cr_assert_eq(settings.attr_ttl, 1000);
    cr_assert_eq(settings.io_timeout, 60000);
    cr_assert_eq(settings.file_mode, 0644);
    cr_assert_eq(settings.style, STYLE_AUTO);
    cr_assert_eq(settings.part_size, 8 << 20);
    cr_assert_not(settings.read_only);
}

Test(option, a_list_sets_every_kind)
{
    cr_assert_eq(option_parse_list(&settings,
                                   "ro,endpoint=http://127.0.0.1:9000,memory=64M,attr_ttl=500ms,uid=7,"
                                   "file_mode=0600,style=path,allow_other=no",
                                   &why),
                 0, "%s", why.bytes);
    cr_assert(settings.read_only);
    cr_assert_str_eq(settings.endpoint, "http://127.0.0.1:9000");
    cr_assert_eq(settings.memory, 64 << 20);
    cr_assert_eq(settings.attr_ttl, 500);
    cr_assert_eq(settings.uid, 7);
    cr_assert_eq(settings.file_mode, 0600);
    cr_assert_eq(settings.style, STYLE_PATH);
    cr_assert_not(settings.allow_other);
}

Test(option, a_backslash_keeps_a_comma)
{
    cr_assert_eq(option_parse_list(&settings, "cache_dir=/a\\,b,ro", &why), 0);
    cr_assert_str_eq(settings.cache_dir, "/a,b");
    cr_assert(settings.read_only);
}

Test(option, rw_takes_ro_back)
{
    cr_assert_eq(option_parse_list(&settings, "ro,rw", &why), 0);
    cr_assert_not(settings.read_only);
}

Test(option, words_of_mount_and_systemd_are_passed_over)
{
    cr_assert_eq(option_parse_list(&settings, "_netdev,nofail,x-systemd.automount,noauto,user,nosuid", &why),
                 0, "%s", why.bytes);
}

Test(option, every_word_that_mount_may_hand_over_is_known_and_exec_takes_noexec_back)
{
    cr_assert_eq(
        option_parse_list(&settings,
                          "noexec,users,nouser,owner,group,atime,norelatime,strictatime,nolazytime,loud,"
                          "iversion,uhelper=x,comment=y,X-mount.mkdir,X-mount.mode=0700,exec",
                          &why),
        0, "%s", why.bytes);
    cr_assert_not(settings.no_exec);
    cr_assert_eq(option_parse_list(&settings, "exec,noexec", &why), 0);
    cr_assert(settings.no_exec);
}

Test(option, an_unknown_name_is_refused_with_the_nearest_one)
{
    static const char *const pairs[][2] = {{"endpiont=x", "did you mean 'endpoint'"},
                                           {"memroy=1G", "did you mean 'memory'"},
                                           {"atr_ttl=1s", "did you mean 'attr_ttl'"},
                                           {"frobnicate", "--help"},
                                           {"sync", "durability=sync"},
                                           {"suid", "always nosuid"}};
    for (size_t i = 0; i < 6; i++) {
        buf_reset(&why);
        cr_assert_eq(option_parse_list(&settings, pairs[i][0], &why), -EINVAL);
        cr_assert_not_null(strstr(why.bytes, pairs[i][1]), "%s", why.bytes);
    }
}

Test(option, all_problems_are_named_at_once)
{
    cr_assert_eq(option_parse_list(&settings, "memory=lots,uid=-1,style=sideways,bogus", &why), -EINVAL);
    static const char *const words[] = {"memory=lots", "uid=-1", "style=sideways", "auto path virtual",
                                        "'bogus'"};
    size_t lines = 1;
    for (const char *c = why.bytes; *c; c++)
        lines += *c == '\n';
    cr_assert_eq(lines, 4, "each has its own line: %s", why.bytes);
    for (size_t i = 0; i < 5; i++)
        cr_assert_not_null(strstr(why.bytes, words[i]), "'%s' is not in: %s", words[i], why.bytes);
}

Test(option, a_secret_is_refused_with_the_remedy)
{
    cr_assert_eq(option_parse_list(&settings, "secret_key=hunter2", &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "AWS_SECRET_ACCESS_KEY"));
    cr_assert_null(strstr(why.bytes, "hunter2"));
}

Test(option, numbers_outside_their_range_are_refused)
{
    static const char *const lists[] = {
        "memory=1M",      "memory=99999999T", "part_size=1M", "file_mode=0999",          "file_mode=07777",
        "loops=3",        "umask=01000",      "umask=-1",     "negative_ttl=-1s",        "uid=4294967295",
        "io_timeout=1ms", "attr_ttl=",        "memory=1.5G",  "uid=99999999999999999999"};
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
        cr_assert_eq(option_parse_list(&settings, lists[i], &why), -EINVAL, "%s was taken", lists[i]);
}

Test(option, sizes_and_times)
{
    int64_t value;
    cr_assert_eq(option_parse_size("3", &value), 0);
    cr_assert_eq(value, 3);
    cr_assert_eq(option_parse_size("2GiB", &value), 0);
    cr_assert_eq(value, 2LL << 30);
    cr_assert_eq(option_parse_size("M", &value), -EINVAL);
    cr_assert_eq(option_parse_size("9223372036854775807T", &value), -ERANGE);
    cr_assert_eq(option_parse_time("90", &value), 0);
    cr_assert_eq(value, 90000);
    cr_assert_eq(option_parse_time("2m", &value), 0);
    cr_assert_eq(value, 120000);
    cr_assert_eq(option_parse_time("-1s", &value), -EINVAL);
}

Test(option, the_environment_means_the_same)
{
    setenv("SKYVOL_MEMORY", "128M", 1);
    setenv("SKYVOL_RO", "yes", 1);
    cr_assert_eq(option_from_environment(&settings, &why), 0);
    cr_assert_eq(settings.memory, 128 << 20);
    cr_assert(settings.read_only);
    setenv("SKYVOL_MEMORY", "much", 1);
    cr_assert_eq(option_from_environment(&settings, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "SKYVOL_MEMORY"));
}

Test(option, an_empty_variable_is_none)
{
    setenv("SKYVOL_RO", "", 1);
    setenv("SKYVOL_MEMORY", "", 1);
    cr_assert_eq(option_from_environment(&settings, &why), 0, "%s", why.bytes);
    cr_assert_not(settings.read_only);
}

Test(option, a_mistyped_variable_is_refused_and_a_foreign_one_left_alone)
{
    setenv("SKYVOL_MINIO", "/usr/bin/minio", 1);
    setenv("SKYVOL_SOURCE", "/src", 1);
    setenv("SKYVOL_CEILING", "x", 1);
    cr_assert_eq(option_from_environment(&settings, &why), 0, "%s", why.bytes);
    setenv("SKYVOL_ENDPIONT", "http://h", 1);
    cr_assert_eq(option_from_environment(&settings, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "SKYVOL_ENDPIONT"));
    cr_assert_not_null(strstr(why.bytes, "did you mean 'endpoint'"));
}

Test(option, paths_are_made_absolute)
{
    cr_assert_eq(chdir("/usr"), 0);
    cr_assert_eq(option_parse_list(&settings, "ca_bundle=ca.pem,cache_dir=../c,log=l,config=/x", &why), 0);
    cr_assert_str_eq(settings.ca_bundle, "/usr/ca.pem");
    cr_assert_str_eq(settings.cache_dir, "/usr/../c");
    cr_assert_str_eq(settings.log_target, "/usr/l");
    cr_assert_str_eq(settings.config, "/x");
    cr_assert_eq(option_parse_list(&settings, "log=syslog", &why), 0);
    cr_assert_str_eq(settings.log_target, "syslog");
    cr_assert_eq(option_parse_list(&settings, "cache_dir=~/c", &why), -EINVAL);
}

Test(option, threads_are_what_fs_can_start)
{
    cr_assert_eq(option_parse_list(&settings, "threads=16", &why), 0);
    cr_assert_eq(option_parse_list(&settings, "threads=17", &why), -EINVAL);
}

Test(option, what_contradicts_itself_is_refused)
{
    cr_assert_eq(option_parse_list(&settings, "allow_other,allow_root", &why), 0);
    cr_assert_eq(option_check(&settings, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "allow_root"));
}

Test(option, encryption_class_and_payer_are_checked)
{
    static const char *const rows[][2] = {
        {"sse=aws:kms,sse_kms_key_id=arn:aws:kms:eu-west-1:1:key/a-b", NULL},
        {"sse=aws:kms:dsse,sse_kms_key_id=alias/mine", NULL},
        {"sse=AES256,storage_class=STANDARD_IA,requester_pays", NULL},
        {"sse_kms_key_id=k", "needs sse=aws:kms"},
        {"sse=AES256,sse_kms_key_id=k", "needs sse=aws:kms"},
        {"sse=aws:kms,sse_kms_key_id=a b", "alias of a key"},
        {"storage_class=standard", "in capitals"},
        {"storage_class=DEEP_ARCHIVE", "restored"},
        {"requester_pays,no_sign_request", "who pays"},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct settings said = {0};
        buf_reset(&why);
        option_defaults(&said);
        cr_assert_eq(option_parse_list(&said, rows[i][0], &why), 0, "%s", why.bytes);
        cr_expect_eq(option_check(&said, &why), rows[i][1] ? -EINVAL : 0, "%s: %s", rows[i][0], why.bytes);
        cr_expect(!rows[i][1] || strstr(why.bytes, rows[i][1]), "%s: %s", rows[i][0], why.bytes);
        settings_release(&said);
    }
    cr_expect_eq(option_parse_list(&settings, "sse=kms", &why), -EINVAL);
}

Test(option, a_proxy_with_a_password_is_refused_and_not_repeated)
{
    cr_assert_eq(option_parse_list(&settings, "proxy=http://me:hunter2@proxy:3128", &why), 0);
    cr_assert_eq(option_check(&settings, &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "HTTPS_PROXY"));
    cr_assert_null(strstr(why.bytes, "hunter2"));
}

Test(option, debug_fuse_brings_the_level_that_shows_it)
{
    cr_assert_eq(option_parse_list(&settings, "debug_fuse,log_level=warn", &why), 0);
    cr_assert_eq(option_check(&settings, &why), 0);
    cr_assert_eq(settings.log_level, LOG_LEVEL_DEBUG);
    cr_assert_eq(option_parse_list(&settings, "log_level=trace", &why), 0);
    cr_assert_eq(option_check(&settings, &why), 0);
    cr_assert_eq(settings.log_level, LOG_LEVEL_TRACE);
}

static char *write_file(const char *text)
{
    char *path = xstrdup("/tmp/skyvol-option.XXXXXX");
    int file = mkstemp(path);
    cr_assert_eq(write(file, text, strlen(text)), (ssize_t)strlen(text));
    close(file);
    return path;
}

Test(option, a_toml_file_means_the_same)
{
    STRING_SCOPED *path =
        write_file("[mount]\nendpoint = \"https://h\"\nro = true\nuploads = 3\n[other]\nx = 1\n");
    cr_assert_eq(option_from_file(&settings, path, &why), 0, "%s", why.bytes);
    cr_assert_str_eq(settings.endpoint, "https://h");
    cr_assert(settings.read_only);
    cr_assert_eq(settings.uploads, 3);
    unlink(path);
}

Test(option, a_bad_toml_file_is_named_with_its_line)
{
    static const char *const texts[] = {"[mount]\n\nendpiont = \"x\"\n", "[mount]\nmemory = [1]\n",
                                        "[mount]\n=\n", "mount = 3\n"};
    static const char *const lines[] = {":3", ":2", ":2", ":1"};
    for (size_t i = 0; i < 4; i++) {
        STRING_SCOPED *path = write_file(texts[i]);
        buf_reset(&why);
        cr_assert_eq(option_from_file(&settings, path, &why), -EINVAL);
        STRING_SCOPED *where = xprintf("%s%s", path, lines[i]);
        cr_assert_not_null(strstr(why.bytes, where), "%s", why.bytes);
        unlink(path);
    }
    cr_assert_eq(option_from_file(&settings, "/nonexistent/x.toml", &why), -EINVAL);
    cr_assert_eq(option_from_file(&settings, "/tmp", &why), -EINVAL, "a directory is no empty file");
}

Test(option, owners_have_numbers_or_names)
{
    cr_assert_eq(option_parse_list(&settings, "uid=root,gid=root", &why), 0, "%s", why.bytes);
    cr_assert_eq(settings.uid, 0);
    cr_assert_eq(settings.gid, 0);
    cr_assert_eq(option_parse_list(&settings, "uid=12,gid=13", &why), 0);
    cr_assert_eq(settings.uid, 12);
    cr_assert_eq(settings.gid, 13);
    cr_assert_eq(option_parse_list(&settings, "uid=no-such-user,gid=no-such-group,uid=1x", &why), -EINVAL);
    cr_assert_not_null(strstr(why.bytes, "uid=no-such-user: must be a number or the name of a user"));
    cr_assert_not_null(strstr(why.bytes, "gid=no-such-group: must be a number or the name of a group"));
    cr_assert_not_null(strstr(why.bytes, "uid=1x"));
}

Test(option, what_is_not_there_is_believed_as_long_as_what_is_unless_said)
{
    cr_assert_eq(option_parse_list(&settings, "attr_ttl=7s", &why), 0);
    cr_assert_eq(option_check(&settings, &why), 0);
    cr_assert_eq(settings.negative_ttl, 7000);
    cr_assert_eq(option_parse_list(&settings, "negative_ttl=0", &why), 0);
    cr_assert_eq(option_check(&settings, &why), 0);
    cr_assert_eq(settings.negative_ttl, 0);
    cr_assert_eq(settings.attr_ttl, 7000);
}

Test(option, what_never_changes_is_read_only_and_believed_for_ever)
{
    cr_assert_eq(option_parse_list(&settings, "immutable,attr_ttl=1s", &why), 0);
    cr_assert_eq(option_check(&settings, &why), 0);
    cr_assert(settings.read_only);
    cr_assert_geq(settings.attr_ttl, 365 * 86400000LL);
    cr_assert_eq(settings.negative_ttl, settings.attr_ttl);
}

Test(option, help_names_every_option_once)
{
    BUF_SCOPED help = BUF_INIT;
    option_help(&help);
    const char *first = strstr(help.bytes, "  endpoint=");
    cr_assert_not_null(first);
    cr_assert_null(strstr(first + 1, "  endpoint="));
    cr_assert_not_null(strstr(help.bytes, "style=auto|path|virtual"));
    cr_assert_not_null(strstr(help.bytes, "log=PATH|stderr|syslog|journal"));
}
