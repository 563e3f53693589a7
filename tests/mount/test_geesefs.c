#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "mount/geesefs.h"

/* "source directory options", or the words. */
static int read_line(const char *line, struct buf *out)
{
    char *text = xprintf("geesefs %s", line), *rest = text, *words[64];
    int count = 0;
    struct geesefs_words said;
    for (char *word; (word = strsep(&rest, " "));)
        if (*word)
            words[count++] = word;
    int rc = geesefs_read(count, words, &said, out);
    if (rc == 0)
        buf_printf(out, "%s %s %s%s", said.mount.source, said.mount.directory, said.mount.options.bytes,
                   said.tuning.length ? " +" : "");
    geesefs_words_release(&said);
    free(text);
    return rc;
}

Test(geesefs, lines_of_today)
{
    static const char *const rows[][2] = {
        {"b /mnt", "b /mnt style=path"},
        {"--endpoint=http://h:1 --subdomain b:p /mnt",
         "b:p /mnt style=path,endpoint=http://h:1,style=virtual"},
        {"--endpoint http://h:1 -o allow_other,ro b /mnt",
         "b /mnt style=path,endpoint=http://h:1,allow_other,ro"},
        {"--shared-config=/k --stat-cache-ttl=1s --log-file=/l b /mnt",
         "b /mnt style=path,credentials_file=/k,attr_ttl=1s,log=/l"},
        {"--iam --iam-flavor=imdsv1 b /mnt", "b /mnt style=path +"},
        {"-o ro b /mnt --memory-limit 1", "b /mnt style=path,ro,memory=48M"},
        {"--memory-limit=1000 b /mnt", "b /mnt style=path,memory=1000M"},
        {"-debug_s3 -file-mode 0640 b /mnt", "b /mnt style=path,log_level=debug,file_mode=0640"},
        {"--enable-perms=false --no-checksum b /mnt", "b /mnt style=path +"},
        {"--endpoint=http://h/,x b /mnt", "b /mnt style=path,endpoint=http://h/\\,x"},
    };
    static const char *const wrong[][2] = {{"", "bucket is missing"},
                                           {"b", "directory is missing"},
                                           {"b /mnt more", "one word too many"},
                                           {"--endpiont=x b /mnt", "did you mean '--endpoint'"},
                                           {"b /mnt --endpoint", "needs a value"},
                                           {"--sse b /mnt", "has no meaning here"},
                                           {"--memory-limit=much b /mnt", "no number of MB"}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(read_line(rows[i][0], &out), 0, "%s", out.bytes);
        cr_expect_str_eq(out.bytes, rows[i][1]);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        BUF_SCOPED out = BUF_INIT;
        cr_expect_eq(read_line(wrong[i][0], &out), -EINVAL, "%s", out.bytes);
        cr_expect_not_null(strstr(out.bytes, wrong[i][1]), "%s", out.bytes);
    }
}
