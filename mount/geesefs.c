#include "mount/geesefs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/err.h"
#include "mount/control.h"
#include "mount/option.h"
#include "mount/place.h"
#include "mount/source.h"
#include "mount/words.h"
#include "s3/credentials.h"
#include "s3/http.h"

/* ---- The table. ---- */

enum meaning {
    OPTION,   /* the value of an option of ours */
    WORDS,    /* options of ours, as they stand in `option`; takes no value */
    MEGABYTE, /* a size in MB */
    DURATION, /* as Go writes it */
    MODE,     /* a number as Go reads it: octal begins with 0 */
    COUNT,    /* of requests: what is beyond our range is its border */
    KEYS_FILE,
    LOG_FILE,
    OPTIONS, /* -o */
    TUNES,   /* a switch without a meaning here */
    TUNES_BY /* the same with a value */
};

struct flag {
    const char *name;
    enum meaning meaning;
    const char *option;
};

static const struct flag flags[] = {
    {"endpoint", OPTION, "endpoint"},
    {"region", OPTION, "region"},
    {"profile", OPTION, "profile"},
    {"shared-config", KEYS_FILE, NULL},
    {"subdomain", WORDS, "style=virtual"},
    {"stat-cache-ttl", DURATION, "attr_ttl"},
    {"memory-limit", MEGABYTE, "memory"},
    {"cache", OPTION, "cache_dir"},
    {"file-mode", MODE, "file_mode"},
    {"dir-mode", MODE, "dir_mode"},
    {"uid", OPTION, "uid"},
    {"gid", OPTION, "gid"},
    {"log-file", LOG_FILE, NULL},
    {"debug", WORDS, "log_level=debug"},
    {"debug_main", WORDS, "log_level=debug"},
    {"debug_s3", WORDS, "log_level=debug"},
    {"debug_fuse", WORDS, "debug_fuse"},
    {"fsync-on-close", WORDS, "durability=sync"},
    {"max-flushers", COUNT, "uploads"},
    {"o", OPTIONS, NULL},
    /* The default chain, IMDSv2 in it; never v1. */
    {"iam", TUNES, NULL},
    {"iam-flavor", TUNES_BY, NULL},
    {"iam-header", TUNES_BY, NULL},
    {"iam-url", TUNES_BY, NULL},
    /* Always so here. */
    {"enable-perms", TUNES, NULL},
    {"enable-mtime", TUNES, NULL},
    {"enable-specials", TUNES, NULL},
    {"use-content-type", TUNES, NULL},
    {"no-checksum", TUNES, NULL},
    {"ignore-fsync", TUNES, NULL},
    {"list-type", TUNES_BY, NULL},
    {"http-timeout", TUNES_BY, NULL},
    {"retry-interval", TUNES_BY, NULL},
    {"read-retry-interval", TUNES_BY, NULL},
    {"read-retry-mul", TUNES_BY, NULL},
    {"read-retry-max-interval", TUNES_BY, NULL},
    {"read-retry-attempts", TUNES_BY, NULL},
    {"max-parallel-parts", TUNES_BY, NULL},
    {"max-parallel-copy", TUNES_BY, NULL},
    {"part-sizes", TUNES_BY, NULL},
    {"max-merge-copy", TUNES_BY, NULL},
    {"single-part", TUNES_BY, NULL},
    {"read-ahead", TUNES_BY, NULL},
    {"read-ahead-small", TUNES_BY, NULL},
    {"read-ahead-large", TUNES_BY, NULL},
    {"read-ahead-parallel", TUNES_BY, NULL},
    {"small-read-count", TUNES_BY, NULL},
    {"small-read-cutoff", TUNES_BY, NULL},
    {"large-read-cutoff", TUNES_BY, NULL},
    {"read-merge", TUNES_BY, NULL},
    {"max-disk-cache-fd", TUNES_BY, NULL},
    {"cache-popular-threshold", TUNES_BY, NULL},
    {"cache-max-hits", TUNES_BY, NULL},
    {"cache-age-interval", TUNES_BY, NULL},
    {"cache-age-decrement", TUNES_BY, NULL},
    {"cache-to-disk-hits", TUNES_BY, NULL},
    {"gc-interval", TUNES_BY, NULL},
    {"entry-limit", TUNES_BY, NULL},
    {"cheap", TUNES, NULL},
    {"no-implicit-dir", TUNES, NULL},
    {"no-dir-object", TUNES, NULL},
    {"no-preload-dir", TUNES, NULL},
    {"drop-patch-conflicts", TUNES, NULL},
    {"no-specials", TUNES, NULL},
    {"use-enomem", TUNES, NULL},
    {"print-stats", TUNES_BY, NULL},
    {"statfs-cache-ttl", TUNES_BY, NULL},
    {"symlink-attr", TUNES_BY, NULL},
    {"mtime-attr", TUNES_BY, NULL},
    {"uid-attr", TUNES_BY, NULL},
    {"gid-attr", TUNES_BY, NULL},
    {"mode-attr", TUNES_BY, NULL},
    {"rdev-attr", TUNES_BY, NULL},
    {"refresh-attr", TUNES_BY, NULL},
    {"refresh-filename", TUNES_BY, NULL},
    {"flush-filename", TUNES_BY, NULL},
    {"multipart-age", TUNES_BY, NULL},
    {"multipart-copy-threshold", TUNES_BY, NULL},
    {"fuse-read-ahead-kb", TUNES_BY, NULL},
    {"pprof", TUNES_BY, NULL},
};

#define FLAG_COUNT (sizeof flags / sizeof *flags)

static const struct flag *find_flag(const char *name)
{
    for (size_t i = 0; i < FLAG_COUNT; i++)
        if (strcmp(flags[i].name, name) == 0)
            return &flags[i];
    return NULL;
}

/* ---- The words. ---- */

void geesefs_words_release(struct geesefs_words *said)
{
    if (said->mount.options.bytes)
        buf_release(&said->mount.options);
    if (said->tuning.bytes)
        buf_release(&said->tuning);
}

static void add_option(struct buf *options, const char *name, const char *value)
{
    buf_printf(options, "%s%s=", options->length ? "," : "", name);
    for (; *value; value++) {
        if (*value == ',' || *value == '\\')
            buf_add_char(options, '\\');
        buf_add_char(options, *value);
    }
}

/* Below 48 MB nothing of ours would run: then that. */
static int add_megabytes(struct buf *options, const char *name, const char *value, struct buf *why)
{
    char *end;
    long megabytes = strtol(value, &end, 10);
    if (*end || end == value || megabytes < 0 || megabytes > 1 << 20) {
        buf_printf(why, "--memory-limit: '%s' is no number of MB", value);
        return -EINVAL;
    }
    STRING_SCOPED *size = xprintf("%ldM", megabytes < 48 ? 48 : megabytes);
    add_option(options, name, size);
    return 0;
}

static int refuse_value(const struct flag *flag, const char *value, const char *wants, struct buf *why)
{
    buf_printf(why, "--%s: '%s' is no %s", flag->name, value, wants);
    return -EINVAL;
}

/* "1m30s", "1.5s", "300ms", "0". */
static int add_duration(struct buf *options, const struct flag *flag, const char *value, struct buf *why)
{
    static const struct {
        const char *word;
        double ms;
    } units[] = {{"ms", 1}, {"us", 1e-3}, {"ns", 1e-6}, {"h", 3600e3}, {"m", 60e3}, {"s", 1e3}};
    double ms = 0;
    const char *at = value;
    while (*at && strcmp(value, "0") != 0) {
        char *end;
        double number = *at >= '0' && *at <= '9' ? strtod(at, &end) : -1;
        size_t unit = 0;
        while (number >= 0 && unit < sizeof units / sizeof *units &&
               strncmp(end, units[unit].word, strlen(units[unit].word)) != 0)
            unit++;
        if (number < 0 || unit == sizeof units / sizeof *units)
            return refuse_value(flag, value, "time like 1s or 1m30s", why);
        ms += number * units[unit].ms;
        at = end + strlen(units[unit].word);
    }
    if (!*value || !(ms < 1e15))
        return refuse_value(flag, value, "time like 1s or 1m30s", why);
    STRING_SCOPED *time = xprintf("%.0fms", ms);
    add_option(options, flag->option, time);
    return 0;
}

static int add_mode(struct buf *options, const struct flag *flag, const char *value, struct buf *why)
{
    char *end;
    bool octal = value[0] == '0' && (value[1] == 'o' || value[1] == 'O');
    unsigned long mode = strtoul(octal ? value + 2 : value, &end, octal ? 8 : 0);
    if (*end || end == value || value[0] == '-' || mode > 0777)
        return refuse_value(flag, value,
                            "mode like 0644 (without the 0 it is a decimal number, as for geesefs)", why);
    STRING_SCOPED *text = xprintf("0%lo", mode);
    add_option(options, flag->option, text);
    return 0;
}

static int add_count(struct buf *options, const struct flag *flag, const char *value, struct buf *why)
{
    char *end;
    long count = strtol(value, &end, 10);
    if (*end || end == value || count < 0)
        return refuse_value(flag, value, "number", why);
    STRING_SCOPED *text = xprintf("%ld", count < 1 ? 1 : count > 256 ? 256 : count);
    add_option(options, flag->option, text);
    return 0;
}

static bool is_file(const char *log)
{
    return strcmp(log, "stderr") != 0 && strcmp(log, "syslog") != 0;
}

static int apply(struct geesefs_words *said, const struct flag *flag, const char *value, struct buf *why)
{
    switch (flag->meaning) {
    case OPTION:
        add_option(&said->mount.options, flag->option, value);
        return 0;
    case WORDS:
        mount_words_join(&said->mount, flag->option);
        return 0;
    case MEGABYTE:
        return add_megabytes(&said->mount.options, flag->option, value, why);
    case DURATION:
        return add_duration(&said->mount.options, flag, value, why);
    case MODE:
        return add_mode(&said->mount.options, flag, value, why);
    case COUNT:
        return add_count(&said->mount.options, flag, value, why);
    case KEYS_FILE:
        said->keys_file = value;
        add_option(&said->mount.options, "credentials_file", value);
        return 0;
    case LOG_FILE:
        said->log_file = is_file(value) ? value : NULL;
        add_option(&said->mount.options, "log", value);
        return 0;
    case OPTIONS:
        mount_words_join(&said->mount, value);
        return 0;
    default:
        buf_printf(&said->tuning, "%s--%s", said->tuning.length ? ", " : "", flag->name);
        return 0;
    }
}

static bool takes_value(const struct flag *flag)
{
    return flag->meaning != WORDS && flag->meaning != TUNES;
}

static int refuse_flag(const char *word, const char *name, struct buf *why)
{
    const char *names[FLAG_COUNT];
    for (size_t i = 0; i < FLAG_COUNT; i++)
        names[i] = flags[i].name;
    const char *nearest = option_nearest(name, names, FLAG_COUNT);
    buf_printf(why, "the flag '%s' of geesefs has no meaning here%s%s%s", word,
               nearest ? "; did you mean '--" : "", nearest ? nearest : "", nearest ? "'?" : "");
    return -EINVAL;
}

/* "--name value", "--name=value", and the same with one dash, as Go's readers of flags take them. */
static int take_flag(struct geesefs_words *said, int count, char **words, int *at, struct buf *why)
{
    const char *word = words[*at], *from = word + strspn(word, "-"), *equals = strchr(from, '=');
    STRING_SCOPED *name = equals ? xstrndup(from, (size_t)(equals - from)) : xstrdup(from);
    if (strcmp(name, "f") == 0) {
        said->mount.foreground = true;
        return 0;
    }
    if (strcmp(name, "h") == 0 || strcmp(name, "help") == 0 || strcmp(name, "v") == 0 ||
        strcmp(name, "version") == 0) {
        said->help = name[0] == 'h';
        said->version = name[0] == 'v';
        return 0;
    }
    const struct flag *flag = find_flag(name);
    if (!flag)
        return refuse_flag(word, name, why);
    if (!takes_value(flag)) {
        bool off = equals && strcmp(equals + 1, "false") == 0;
        return off ? 0 : apply(said, flag, NULL, why);
    }
    if (!equals && ++*at == count) {
        buf_printf(why, "%s needs a value after it", word);
        return -EINVAL;
    }
    return apply(said, flag, equals ? equals + 1 : words[*at], why);
}

int geesefs_read(int count, char **words, struct geesefs_words *ret_said, struct buf *why)
{
    *ret_said = (struct geesefs_words){.mount = {.options = BUF_INIT}, .tuning = BUF_INIT};
    mount_words_join(&ret_said->mount, "style=path");
    bool plain = false;
    for (int i = 1; i < count; i++) {
        int rc = 0;
        if (!plain && strcmp(words[i], "--") == 0)
            plain = true;
        else if (!plain && words[i][0] == '-' && words[i][1])
            rc = take_flag(ret_said, count, words, &i, why);
        else if (!ret_said->mount.source)
            ret_said->mount.source = words[i];
        else if (!ret_said->mount.directory)
            ret_said->mount.directory = words[i];
        else {
            buf_printf(why, "'%s' is one word too many: geesefs [flags] BUCKET[:PREFIX] DIR", words[i]);
            rc = -EINVAL;
        }
        if (rc < 0)
            return rc;
    }
    if (ret_said->mount.directory || ret_said->help || ret_said->version)
        return 0;
    buf_add_string(why, ret_said->mount.source
                            ? "the directory is missing: geesefs [flags] BUCKET[:PREFIX] DIR"
                            : "the bucket is missing: geesefs [flags] BUCKET[:PREFIX] DIR");
    return -EINVAL;
}

/* ---- The mount. ---- */

/* The same bucket and prefix, however they are written. */
static bool is_same_source(const char *a, const char *b)
{
    char *buckets[2] = {0}, *prefixes[2] = {0};
    BUF_SCOPED why = BUF_INIT;
    bool same = source_parse(a, &buckets[0], &prefixes[0], &why) == 0 &&
                source_parse(b, &buckets[1], &prefixes[1], &why) == 0 &&
                strcmp(buckets[0], buckets[1]) == 0 && strcmp(prefixes[0], prefixes[1]) == 0;
    for (int i = 0; i < 2; i++) {
        free(buckets[i]);
        free(prefixes[i]);
    }
    return same;
}

/* Where this line would mount from; NULL: AWS, by the region. */
static int find_endpoint(const struct geesefs_words *said, char **ret_endpoint, struct buf *why)
{
    struct settings settings = {0};
    int rc = mount_words_settings(&said->mount, &settings, why);
    if (rc == 0 && !settings.endpoint && !settings.no_sign_request) {
        struct credentials_config config = {.profile = settings.profile,
                                            .role_arn = settings.role_arn,
                                            .credentials_file = settings.credentials_file};
        struct credentials *credentials = credentials_new(&config);
        settings.endpoint = credentials_setting(credentials, "endpoint_url");
        credentials_unref(credentials);
    }
    if (rc == 0)
        *ret_endpoint = settings.endpoint ? http_url_place(settings.endpoint) : NULL;
    settings_release(&settings);
    return rc;
}

static int compare_endpoint(const struct geesefs_words *said, const struct json *options, struct buf *why)
{
    const char *told = json_get_string(options, "endpoint");
    STRING_SCOPED *there = told ? http_url_place(told) : NULL, *wanted = NULL;
    int rc = find_endpoint(said, &wanted, why);
    if (rc < 0 || (!there && !wanted) || (there && wanted && strcasecmp(there, wanted) == 0))
        return rc;
    buf_printf(why, "%s is mounted from another endpoint: %s, not %s; unmount it with skyvol umount %s",
               said->mount.directory, there ? there : "AWS", wanted ? wanted : "AWS", said->mount.directory);
    return -EBUSY;
}

/* Of the daemon that serves `place`: the mount table knows no endpoint. */
static int check_endpoint(const struct geesefs_words *said, const char *place, uid_t owner, struct buf *why)
{
    struct json *status = NULL;
    BUF_SCOPED error = BUF_INIT;
    int rc = control_ask(place, owner, "status", NULL, CONTROL_TIMEOUT_MS, &status, &error);
    const struct json *options = rc == 0 ? json_get(status, "options") : NULL;
    if (options)
        rc = compare_endpoint(said, options, why);
    else
        buf_printf(why,
                   "%s is mounted already, but its daemon does not tell from which endpoint (%s); see skyvol "
                   "status %s",
                   said->mount.directory,
                   error.length ? error.bytes
                   : rc < 0     ? err_text(rc)
                                : "another version of skyvol",
                   said->mount.directory);
    json_free(status);
    return options ? rc : -EBUSY;
}

/* 1: the mount that is asked for is there; 0: it is not; else what is there in its place is in `why`. */
static int look_for_mount(const struct geesefs_words *said, struct buf *why)
{
    struct place_mount there = {0};
    STRING_SCOPED *place = NULL;
    BUF_SCOPED unresolved = BUF_INIT;
    if (place_resolve(said->mount.directory, &place, &unresolved) < 0)
        return 0;
    bool stands = place_look(place, &there) == PLACE_ALIVE && there.type &&
                  strcmp(there.type, "fuse.skyvol") == 0 && is_same_source(there.source, said->mount.source);
    int rc = stands ? check_endpoint(said, place, there.owner, why) : 0;
    place_mount_release(&there);
    return rc < 0 ? rc : stands;
}

/* Scripts write it as their umask has it; here a file with keys is nobody else's. */
static void close_keys_file(const char *path)
{
    struct stat status;
    if (!path || stat(path, &status) < 0 || status.st_uid != geteuid() || !(status.st_mode & 077))
        return;
    if (chmod(path, status.st_mode & 0700) == 0)
        words_say("%s holds keys and was open to others: it is 0%o from here on", path,
                  (unsigned)(status.st_mode & 0700));
}

static void write_log(const struct geesefs_words *said, const char *bytes, size_t length)
{
    int fd = said->log_file ? open(said->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY, 0644)
                            : -1;
    if (fd < 0)
        return;
    (void)!write(fd, bytes, length);
    close(fd);
}

/* A line each, on stderr and in the log file. */
static void complain(const struct geesefs_words *said, const char *why)
{
    BUF_SCOPED lines = BUF_INIT;
    words_complain(why);
    while (*why) {
        size_t length = strcspn(why, "\n");
        buf_add_string(&lines, "skyvol: ");
        words_escape(&lines, why, length);
        buf_add_char(&lines, '\n');
        why += length + (why[length] == '\n');
    }
    write_log(said, lines.bytes, lines.length);
}

/* What the child says on stderr, there and, when it fails, in the log file as well. */
static int pass_on(const struct geesefs_words *said, int from, pid_t child)
{
    char room[4096];
    int status = 0;
    ssize_t length;
    BUF_SCOPED all = BUF_INIT;
    while ((length = read(from, room, sizeof room)) > 0 || (length < 0 && errno == EINTR)) {
        if (length < 0)
            continue;
        (void)!write(STDERR_FILENO, room, (size_t)length);
        buf_add(&all, room, (size_t)length);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    bool failed = !WIFEXITED(status) || WEXITSTATUS(status) != 0;
    if (failed)
        write_log(said, all.bytes, all.length);
    return failed;
}

static int mount_by_child(const struct geesefs_words *said)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) < 0) {
        words_say("no pipe can be made: %s", err_text(-errno));
        return 1;
    }
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        exit(command_mount_said(&said->mount));
    }
    close(ends[1]);
    if (child < 0)
        words_say("no process can be started: %s", err_text(-errno));
    int status = child < 0 ? 1 : pass_on(said, ends[0], child);
    close(ends[0]);
    return status;
}

static int run(const struct geesefs_words *said)
{
    BUF_SCOPED why = BUF_INIT;
    close_keys_file(said->keys_file); /* first: what is open to others is not read */
    int there = look_for_mount(said, &why);
    if (there < 0) {
        complain(said, why.bytes);
        return 1;
    }
    if (there) {
        words_say("%s is mounted at %s already", said->mount.source, said->mount.directory);
        return 0;
    }
    if (said->tuning.length) {
        BUF_SCOPED line = BUF_INIT;
        buf_printf(&line, "skyvol: flags of geesefs without a counterpart here, passed over: %s\n",
                   said->tuning.bytes);
        write_log(said, line.bytes, line.length);
    }
    return said->mount.foreground ? command_mount_said(&said->mount) : mount_by_child(said);
}

int geesefs_main(int count, char **words)
{
    struct geesefs_words said;
    BUF_SCOPED why = BUF_INIT;
    int status = 2;
    if (geesefs_read(count, words, &said, &why) < 0) {
        words_complain(why.bytes);
    } else if (said.help || said.version) {
        puts(said.version ? "geesefs command line of skyvol " SKYVOL_VERSION
                          : "usage: geesefs [flags] BUCKET[:PREFIX] DIR\n\nThis is skyvol, which takes the "
                            "flags of geesefs.\n"
                            "Its own command line: skyvol mount --help");
        status = 0;
    } else {
        status = run(&said);
    }
    geesefs_words_release(&said);
    return status;
}
