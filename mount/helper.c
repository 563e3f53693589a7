#include "mount/helper.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "mount/command.h"
#include "mount/mount_words.h"
#include "mount/option.h"
#include "mount/words.h"

enum { EXIT_WORDS = 1, EXIT_SYSTEM = 2, EXIT_MOUNT = 32 };

struct helper {
    struct mount_words mount;
    struct buf said; /* all -o, as they came */
    bool sloppy, verbose;
};

/* mount(8) hands over what it read in /proc/self/mountinfo, too. */
static const char *const of_the_kernel[] = {"user_id",  "group_id", "fd",       "rootmode",
                                            "max_read", "blksize",  "seclabel", "subtype"};

static bool is_of_the_kernel(const char *name)
{
    for (size_t i = 0; i < sizeof of_the_kernel / sizeof *of_the_kernel; i++)
        if (strcmp(of_the_kernel[i], name) == 0)
            return true;
    return false;
}

/* "name=value" up to the next comma that no backslash keeps, as it is written. */
static const char *take_pair(const char *list, struct buf *ret_pair)
{
    buf_reset(ret_pair);
    for (; *list && *list != ','; list++) {
        if (*list == '\\' && list[1])
            buf_add_char(ret_pair, *list++);
        buf_add_char(ret_pair, *list);
    }
    return *list ? list + 1 : list;
}

enum remount helper_options(const char *list, bool sloppy, struct buf *ret_options, struct buf *ret_dropped)
{
    bool remount = false;
    int writes = -1;
    BUF_SCOPED pair = BUF_INIT;
    while (*list) {
        list = take_pair(list, &pair);
        STRING_SCOPED *name = xstrndup(pair.bytes, strcspn(pair.bytes, "="));
        if (strcmp(name, "ro") == 0 || strcmp(name, "rw") == 0)
            writes = name[1] == 'w';
        if (strcmp(name, "remount") == 0) {
            remount = true;
        } else if (sloppy && *name && !is_of_the_kernel(name) && !option_is_known(name)) {
            buf_printf(ret_dropped, "%s%s", ret_dropped->length ? ", " : "", name);
        } else if (*name && !is_of_the_kernel(name)) {
            buf_printf(ret_options, "%s%s", ret_options->length ? "," : "", pair.bytes);
        }
    }
    if (!remount)
        return REMOUNT_NOT;
    return writes < 0 ? REMOUNT_AS_IT_IS : writes ? REMOUNT_RW : REMOUNT_RO;
}

/* ---- The words. ---- */

static void print_usage(FILE *out)
{
    fputs("usage: mount.skyvol SOURCE DIR [-fnrsvw] [-o OPTION[=VALUE],...]\n\n"
          "Called by mount(8): mount -t skyvol BUCKET[:PREFIX] DIR, or a line of /etc/fstab:\n"
          "  BUCKET:PREFIX  /data  skyvol  _netdev,nofail,allow_other,endpoint=https://...  0  0\n"
          "The options are those of `skyvol mount --help`.\n",
          out);
}

static void join(struct buf *list, const char *more)
{
    buf_printf(list, "%s%s", list->length ? "," : "", more);
}

static int refuse(const char *format, ...) __attribute__((format(printf, 1, 2)));

static int refuse(const char *format, ...)
{
    BUF_SCOPED text = BUF_INIT;
    va_list list;
    va_start(list, format);
    buf_vprintf(&text, format, list);
    va_end(list);
    words_line(stderr, "mount.skyvol: %s", text.bytes);
    return EXIT_WORDS;
}

/* One word of letters, "-rvo": a letter that takes a value takes the rest of it, or the next word. */
static int take_flags(struct helper *helper, const char *word, const char *next, bool *ret_took_next)
{
    for (const char *flag = word + 1; *flag; flag++) {
        const char *value = flag[1] ? flag + 1 : next;
        switch (*flag) {
        case 'f':
            helper->mount.check_only = true;
            break;
        case 'n':
            break;
        case 'r':
            join(&helper->said, "ro");
            break;
        case 'w':
            join(&helper->said, "rw");
            break;
        case 's':
            helper->sloppy = true;
            break;
        case 'v':
            helper->verbose = true;
            break;
        case 'o':
        case 't':
        case 'N':
            if (!value)
                return refuse("%s needs a value after it", word);
            if (*flag == 'N')
                return refuse("namespaces (-N %s) are not entered here: run it within one (nsenter)", value);
            if (*flag == 'o')
                join(&helper->said, value);
            *ret_took_next = !flag[1];
            return 0;
        default:
            return refuse("there is no flag like one in '%s'; see mount.skyvol -h", word);
        }
    }
    return 0;
}

static int read_words(struct helper *helper, int count, char **words)
{
    for (int i = 1; i < count; i++) {
        bool took_next = false;
        int status = 0;
        if (words[i][0] == '-' && words[i][1])
            status = take_flags(helper, words[i], i + 1 < count ? words[i + 1] : NULL, &took_next);
        else if (!helper->mount.source)
            helper->mount.source = words[i];
        else if (!helper->mount.directory)
            helper->mount.directory = words[i];
        else
            status = refuse("'%s' is one word too many: a source and a directory are wanted", words[i]);
        if (status)
            return status;
        i += took_next;
    }
    if (helper->mount.directory)
        return 0;
    print_usage(stderr);
    return EXIT_WORDS;
}

/* ---- What is asked for. ---- */

static int remount(const struct helper *helper, enum remount asked)
{
    struct remount_words said = {helper->mount.directory, helper->mount.options.bytes, asked,
                                 helper->mount.check_only};
    int rc = remount_run(&said);
    if (rc == 0 && helper->verbose)
        words_line(stdout, "%s is remounted %s; other options stay as they are", said.directory,
                   asked == REMOUNT_RO   ? "ro"
                   : asked == REMOUNT_RW ? "rw"
                                         : "as it was");
    return rc == 0 ? 0 : rc == -EPERM ? EXIT_SYSTEM : EXIT_MOUNT;
}

static int run(struct helper *helper)
{
    BUF_SCOPED dropped = BUF_INIT;
    enum remount asked = helper_options(helper->said.bytes, helper->sloppy, &helper->mount.options, &dropped);
    if (dropped.length)
        words_say("passed over, because nobody knows them (-s): %s", dropped.bytes);
    if (asked != REMOUNT_NOT)
        return remount(helper, asked);
    if (helper->verbose)
        words_line(stdout, "mounting %s at %s with %s", helper->mount.source, helper->mount.directory,
                   helper->mount.options.length ? helper->mount.options.bytes : "no options");
    return command_mount_apart(&helper->mount) == 0 ? 0 : EXIT_MOUNT;
}

int helper_main(int count, char **words)
{
    struct helper helper = {.mount = {.options = BUF_INIT}, .said = BUF_INIT};
    for (int i = 1; i < count; i++) {
        if (strcmp(words[i], "-h") == 0 || strcmp(words[i], "--help") == 0) {
            print_usage(stdout);
            return 0;
        }
    }
    int status = read_words(&helper, count, words);
    if (status == 0)
        status = run(&helper);
    buf_release(&helper.mount.options);
    buf_release(&helper.said);
    return status;
}
