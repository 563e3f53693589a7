#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "mount/geesefs.h"

#define WORDS_MAX 16

static struct geesefs_words said;
static struct buf why = BUF_INIT;
static char line[512];

static void end(void)
{
    buf_release(&why);
}

TestSuite(geesefs, .fini = end);

/* The words of a line, parted by spaces. */
static int take(const char *text)
{
    char *words[WORDS_MAX] = {(char[]){"geesefs"}};
    int count = 1;
    char *rest = line;
    buf_reset(&why);
    snprintf(line, sizeof line, "%s", text);
    for (char *word; (word = strsep(&rest, " "));)
        words[count++] = word;
    return geesefs_read(count, words, &said, &why);
}

Test(geesefs, flags_mean_options)
{
    static const struct {
        char flags[96], options[96], tuning[48];
    } rows[] = {
        {"", "style=path", ""},
        {"--endpoint=http://h:1 ", "style=path,endpoint=http://h:1", ""},
        {"--endpoint http://h:1 ", "style=path,endpoint=http://h:1", ""},
        {"-endpoint http://h:1 ", "style=path,endpoint=http://h:1", ""},
        {"--subdomain ", "style=path,style=virtual", ""},
        {"--subdomain=false ", "style=path", ""},
        {"--region r --profile p ", "style=path,region=r,profile=p", ""},
        {"--shared-config=/k,x ", "style=path,credentials_file=/k\\,x", ""},
        {"--iam --iam-flavor=imdsv1 ", "style=path", "--iam, --iam-flavor"},
        {"--stat-cache-ttl=1s ", "style=path,attr_ttl=1000ms", ""},
        {"--stat-cache-ttl 1m30s ", "style=path,attr_ttl=90000ms", ""},
        {"--stat-cache-ttl 1h0m0.5s ", "style=path,attr_ttl=3600500ms", ""},
        {"--stat-cache-ttl 0 ", "style=path,attr_ttl=0ms", ""},
        {"--file-mode=420 --dir-mode 0o755 ", "style=path,file_mode=0644,dir_mode=0755", ""},
        {"--max-flushers 1000 ", "style=path,uploads=256", ""},
        {"--memory-limit 100 ", "style=path,memory=100M", ""},
        {"--memory-limit 1 ", "style=path,memory=48M", ""},
        {"--cache /c ", "style=path,cache_dir=/c", ""},
        {"--file-mode=0640 --dir-mode 0750 ", "style=path,file_mode=0640,dir_mode=0750", ""},
        {"--uid 1 --gid 2 ", "style=path,uid=1,gid=2", ""},
        {"--log-file=/l ", "style=path,log=/l", ""},
        {"--debug_s3 --debug_fuse ", "style=path,log_level=debug,debug_fuse", ""},
        {"--fsync-on-close ", "style=path,durability=sync", ""},
        {"-o allow_other,ro -o noexec ", "style=path,allow_other,ro,noexec", ""},
        {"--ignore-fsync --list-type 2 --no-checksum ", "style=path",
         "--ignore-fsync, --list-type, --no-checksum"},
        {"--max-flushers 4 ", "style=path,uploads=4", ""},
        {"--part-sizes 5:1000,25:1000 --read-ahead 5 ", "style=path", "--part-sizes, --read-ahead"},
        {"--enable-perms --enable-mtime ", "style=path", "--enable-perms, --enable-mtime"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        STRING_SCOPED *text = xprintf("%sbucket:p /mnt/b", rows[i].flags);
        cr_expect_eq(take(text), 0, "%s: %s", text, why.bytes);
        cr_expect_str_eq(said.mount.options.bytes, rows[i].options);
        cr_expect_str_eq(said.tuning.bytes, rows[i].tuning);
        cr_expect_str_eq(said.mount.source, "bucket:p");
        cr_expect_str_eq(said.mount.directory, "/mnt/b");
        cr_expect_not(said.mount.foreground);
        geesefs_words_release(&said);
    }
}

Test(geesefs, what_is_wrong_is_said)
{
    static const struct {
        char line[48], words[48];
    } rows[] = {
        {"bucket", "the directory is missing"},
        {"--region r", "the bucket is missing"},
        {"a b c", "one word too many"},
        {"--endpiont=x a b", "did you mean '--endpoint'"},
        {"--max-flushrs 3 a b", "did you mean '--max-flushers'"},
        {"--frobnicate a b", "'--frobnicate'"},
        {"a b --region", "needs a value"},
        {"--memory-limit=lots a b", "no number of MB"},
        {"--stat-cache-ttl=1x a b", "no time like 1s"},
        {"--stat-cache-ttl=-1s a b", "no time like 1s"},
        {"--stat-cache-ttl=1sx a b", "no time like 1s"},
        {"--stat-cache-ttl= a b", "no time like 1s"},
        {"--file-mode=644 a b", "mode like 0644"},
        {"--max-flushers=many a b", "no number"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        cr_expect_eq(take(rows[i].line), -EINVAL, "%s", rows[i].line);
        cr_expect_not_null(strstr(why.bytes, rows[i].words), "%s: %s", rows[i].line, why.bytes);
        geesefs_words_release(&said);
    }
}

Test(geesefs, words_may_stand_before_flags_and_f_stays_in_the_foreground)
{
    cr_assert_eq(take("bucket -f /mnt/b --help"), 0);
    cr_assert(said.mount.foreground);
    cr_assert(said.help);
    geesefs_words_release(&said);
    cr_assert_eq(take("--iam -- bucket -d"), 0);
    cr_expect_str_eq(said.mount.directory, "-d");
    geesefs_words_release(&said);
}

/* What fails is written there, too. */
Test(geesefs, a_log_that_is_no_file_is_no_file_to_write_to)
{
    cr_assert_eq(take("--log-file=/l b /d"), 0);
    cr_expect_str_eq(said.log_file, "/l");
    geesefs_words_release(&said);
    cr_assert_eq(take("--log-file=syslog b /d"), 0);
    cr_expect_null(said.log_file);
    geesefs_words_release(&said);
}
