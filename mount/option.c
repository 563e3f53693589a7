#include "mount/option.h"

#include <ctype.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/log.h"
#include "base/memory.h"
#include "cache/cache.h"
#include "fs/fs.h"
#include "mount/document.h"
#include "mount/words.h"
#include "s3/store.h"

enum kind { TEXT, PATH, SWITCH, SIZE, TIME, NUMBER, OCTAL, USER, GROUP, CHOICE };

struct choice {
    const char *word;
    int64_t value;
};

struct option {
    const char *name;
    enum kind kind;
    size_t at; /* offset in struct settings */
    const char *fallback;
    int64_t low, high; /* of numbers, sizes, times */
    const struct choice *choices;
    bool inverse; /* a switch that clears its field */
    const char *help;
};

static const struct choice styles[] = {
    {"auto", STYLE_AUTO}, {"path", STYLE_PATH}, {"virtual", STYLE_VIRTUAL}, {0}};
static const struct choice checksums[] = {{"auto", CHECKSUM_AUTO},           {"crc32c", CHECKSUM_CRC32C},
                                          {"crc64nvme", CHECKSUM_CRC64NVME}, {"md5", CHECKSUM_MD5},
                                          {"sha256", CHECKSUM_SHA256},       {0}};
static const struct choice encryptions[] = {
    {"default", SSE_DEFAULT}, {"AES256", SSE_S3}, {"aws:kms", SSE_KMS}, {"aws:kms:dsse", SSE_KMS_DSSE}, {0}};
static const struct choice attributes[] = {{"all", 0}, {"listing", 1}, {0}};
static const struct choice durabilities[] = {
    {"writeback", DURABILITY_WRITEBACK}, {"sync", DURABILITY_SYNC}, {"local", DURABILITY_LOCAL}, {0}};
static const struct choice conflicts[] = {{"keep-both", CONFLICT_KEEP_BOTH},
                                          {"remote-wins", CONFLICT_REMOTE_WINS},
                                          {"local-wins", CONFLICT_LOCAL_WINS},
                                          {0}};
/* Of PATH: words that are no paths. */
static const struct choice logs[] = {{"stderr", 0}, {"syslog", 0}, {"journal", 0}, {0}};
static const struct choice levels[] = {{"error", LOG_LEVEL_ERROR}, {"warn", LOG_LEVEL_WARN},
                                       {"info", LOG_LEVEL_INFO},   {"debug", LOG_LEVEL_DEBUG},
                                       {"trace", LOG_LEVEL_TRACE}, {0}};

#define PREFIX "SKYVOL_" /* of the environment */

#define KIB       ((int64_t)1 << 10)
#define MIB       ((int64_t)1 << 20)
#define GIB       ((int64_t)1 << 30)
#define AT(field) offsetof(struct settings, field)

/* Below this a part in flight, a stream and the names would not fit side by side. */
#define MEMORY_MIN (48 * MIB)

#define TTL_MAX_MS (365 * 86400000LL) /* of what never changes, too */

static const struct option options[] = {
    {"endpoint", TEXT, AT(endpoint), NULL, 0, 0, NULL, false, "URL of the S3 service (AWS when not given)"},
    {"region", TEXT, AT(region), NULL, 0, 0, NULL, false, "signing region (discovered when not given)"},
    {"profile", TEXT, AT(profile), NULL, 0, 0, NULL, false,
     "profile of ~/.aws/credentials and ~/.aws/config"},
    {"role_arn", TEXT, AT(role_arn), NULL, 0, 0, NULL, false,
     "role that is asked for with the keys found (that of the profile when not given)"},
    {"credentials_file", PATH, AT(credentials_file), NULL, 0, 0, NULL, false,
     "file with keys in the form of ~/.aws/credentials, 0600 (that one when not given)"},
    {"no_sign_request", SWITCH, AT(no_sign_request), "no", 0, 0, NULL, false,
     "anonymous access to a public bucket"},
    {"sse", CHOICE, AT(sse), "default", 0, 0, encryptions, false,
     "encryption that is asked for with what is written (default: the bucket's)"},
    {"sse_kms_key_id", TEXT, AT(sse_kms_key_id), NULL, 0, 0, NULL, false,
     "key of sse=aws:kms and aws:kms:dsse (the account's own when not given)"},
    {"storage_class", TEXT, AT(storage_class), NULL, 0, 0, NULL, false,
     "class of new objects, like STANDARD_IA; what is rewritten keeps its own"},
    {"requester_pays", SWITCH, AT(requester_pays), "no", 0, 0, NULL, false,
     "who mounts pays for the requests, not the bucket's owner"},
    {"style", CHOICE, AT(style), "auto", 0, 0, styles, false, "bucket in the path or in the host name"},
    {"ro", SWITCH, AT(read_only), "no", 0, 0, NULL, false, "read-only"},
    {"rw", SWITCH, AT(read_only), NULL, 0, 0, NULL, true, "writable (the default)"},
    {"durability", CHOICE, AT(durability), "writeback", 0, 0, durabilities, false,
     "what close waits for: writeback nothing, sync S3, local the disk (fsync too)"},
    {"commit", TIME, AT(commit), "100ms", 0, 60000, NULL, false,
     "how soon what was acknowledged is flushed to the disk (0: close and names wait for it)"},
    {"unflushed_max", SIZE, AT(unflushed_max), "256M", MIB, 1024 * GIB, NULL, false,
     "the most that is not flushed; writers wait"},
    {"dirty_max", SIZE, AT(dirty_max), "0", 0, 1024 * 1024 * GIB, NULL, false,
     "the most that is unsent; writers wait (0: what the disk allows less a reserve)"},
    {"conflict", CHOICE, AT(conflict), "keep-both", 0, 0, conflicts, false,
     "where another client replaced what was patched here: ours beside it, theirs only, or ours only"},
    {"publish_after", TIME, AT(publish_after), "60s", 0, 365 * 86400000LL, NULL, false,
     "a file that stays open goes up when it was quiet for so long (0: only when closed or asked for)"},
    {"memory", SIZE, AT(memory), NULL, MEMORY_MIN, 1024 * GIB, NULL, false,
     "hard limit of all buffers (256M, less on small machines)"},
    {"cache_dir", PATH, AT(cache_dir), NULL, 0, 0, NULL, false,
     "where unsent data is kept (below /var/lib/skyvol or $XDG_STATE_HOME/skyvol)"},
    {"meta_max", SIZE, AT(meta_max), "1G", 0, 1024 * GIB, NULL, false,
     "disk for names and attributes that are remembered over mounts (0: none are)"},
    {"attr_ttl", TIME, AT(attr_ttl), "1s", 0, TTL_MAX_MS, NULL, false,
     "how long names and attributes are believed before the server is asked again"},
    {"negative_ttl", TIME, AT(negative_ttl), NULL, 0, TTL_MAX_MS, NULL, false,
     "how long it is believed that a name is not there (attr_ttl when not given)"},
    {"immutable", SWITCH, AT(immutable), "no", 0, 0, NULL, false,
     "what is in the bucket never changes: nothing is asked twice, also not over mounts (brings ro)"},
    {"attributes", CHOICE, AT(attributes), "all", 0, 0, attributes, false,
     "listing: take attributes from listings alone, never ask per object"},
    {"io_timeout", TIME, AT(io_timeout), "60s", 1000, 86400000LL, NULL, false,
     "no progress for this long ends a read, close or fsync with EIO"},
    {"stop_timeout", TIME, AT(stop_timeout), "30s", 0, 86400000LL, NULL, false,
     "how long the end of a mount may send what is unsent"},
    {"uid", USER, AT(uid), NULL, 0, UINT32_MAX - 1, NULL, false,
     "owner of objects that do not say theirs (who mounts when not given)"},
    {"gid", GROUP, AT(gid), NULL, 0, UINT32_MAX - 1, NULL, false,
     "group of objects that do not say theirs (that of who mounts when not given)"},
    {"file_mode", OCTAL, AT(file_mode), "0644", 0, 0777, NULL, false, "mode of files that do not say theirs"},
    {"dir_mode", OCTAL, AT(dir_mode), "0755", 0, 0777, NULL, false,
     "mode of directories that do not say theirs"},
    {"umask", OCTAL, AT(umask), "0000", 0, 0777, NULL, false, "bits that file_mode and dir_mode lose"},
    {"allow_other", SWITCH, AT(allow_other), "no", 0, 0, NULL, false, "other users may use the mount"},
    {"allow_root", SWITCH, AT(allow_root), "no", 0, 0, NULL, false, "root may use the mount of a user"},
    {"noexec", SWITCH, AT(no_exec), "no", 0, 0, NULL, false, "no program runs from the mount"},
    {"exec", SWITCH, AT(no_exec), NULL, 0, 0, NULL, true, "programs run from the mount (the default)"},
    {"bg", SWITCH, AT(background), "no", 0, 0, NULL, false,
     "mount also where the server cannot be reached yet, from what is known and unsent"},
    {"nonempty", SWITCH, AT(nonempty), "no", 0, 0, NULL, false, "mount over a directory that is not empty"},
    {"ca_bundle", PATH, AT(ca_bundle), NULL, 0, 0, NULL, false,
     "file of CA certificates (the system's when not given)"},
    {"proxy", TEXT, AT(proxy), NULL, 0, 0, NULL, false,
     "proxy URL (HTTPS_PROXY and NO_PROXY when not given)"},
    {"allow_http", SWITCH, AT(allow_http), "no", 0, 0, NULL, false, "http:// to other hosts than this one"},
    {"checksum", CHOICE, AT(checksum), "auto", 0, 0, checksums, false, "how the server checks what we send"},
    {"read_ahead", SIZE, AT(read_ahead), "0", 0, 4 * GIB, NULL, false,
     "the most read ahead for one stream (0: by memory)"},
    {"part_size", SIZE, AT(part_size), "8M", 5 * MIB, 5 * GIB, NULL, false,
     "smallest part of a multipart upload"},
    {"uploads", NUMBER, AT(uploads), "16", 1, 256, NULL, false,
     "requests in flight that carry data up, at most: fewer while the server asks for patience"},
    {"connections", NUMBER, AT(connections), "64", 4, 1024, NULL, false, "connections to the server"},
    {"loops", NUMBER, AT(loops), "0", 0, 2, NULL, false, "network threads (0: by the number of processors)"},
    {"threads", NUMBER, AT(threads), "4", 1, FS_THREADS_MAX, NULL, false, "FUSE threads"},
    {"config", PATH, AT(config), NULL, 0, 0, NULL, false, "TOML file whose [mount] table holds options"},
    {"log", PATH, AT(log_target), NULL, 0, 0, logs, false,
     "where the log goes (in the background journal, else syslog)"},
    {"log_level", CHOICE, AT(log_level), "info", 0, 0, levels, false, "how much is logged"},
    {"debug_fuse", SWITCH, AT(debug_fuse), "no", 0, 0, NULL, false,
     "every FUSE request in the log (brings log_level=debug)"},
};

#define OPTION_COUNT (sizeof(options) / sizeof(options[0]))

/* Known to mount(8), systemd and fstab, without meaning for us; and those that every mount of ours has
 * anyway. */
static const char *const passed_over[] = {
    "defaults", "_netdev",    "nofail",   "auto",       "noauto",      "user",
    "users",    "nouser",     "nousers",  "owner",      "noowner",     "group",
    "nogroup",  "nosuid",     "nodev",    "async",      "atime",       "noatime",
    "relatime", "norelatime", "diratime", "nodiratime", "strictatime", "nostrictatime",
    "lazytime", "nolazytime", "silent",   "loud",       "mand",        "nomand",
    "iversion", "noiversion", "comment",  "helper",     "uhelper",     "default_permissions"};

/* Known to mount(8) too, but to pass over them would promise what is not so. */
static const struct {
    const char *name, *words;
} not_so[] = {{"sync", "say durability=sync: close waits for S3"},
              {"dirsync", "say durability=sync: new names wait for S3 with their file"},
              {"suid", "a mount is always nosuid"},
              {"dev", "a mount is always nodev"}};

static const char *const secrets[] = {"access_key",
                                      "secret_key",
                                      "session_token",
                                      "aws_access_key_id",
                                      "aws_secret_access_key",
                                      "aws_session_token",
                                      "passwd",
                                      "password",
                                      "token"};

static bool stands_in(const char *word, const char *const *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(word, list[i]) == 0)
            return true;
    return false;
}

static const struct option *find_option(const char *name)
{
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (strcmp(options[i].name, name) == 0)
            return &options[i];
    return NULL;
}

static size_t count_edits(const char *a, const char *b)
{
    size_t columns = strlen(b);
    size_t row[64];
    if (columns >= 64 || strlen(a) >= 64)
        return 99;
    for (size_t j = 0; j <= columns; j++)
        row[j] = j;
    for (size_t i = 1; a[i - 1]; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= columns; j++) {
            size_t above = row[j];
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            if (above + 1 < best)
                best = above + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            diagonal = above;
            row[j] = best;
        }
    }
    return row[columns];
}

const char *option_nearest(const char *word, const char *const *known, size_t count)
{
    const char *nearest = NULL;
    size_t best = 4;
    for (size_t i = 0; i < count; i++) {
        size_t edits = count_edits(word, known[i]);
        if (edits < best && edits * 2 < strlen(word) + 1) {
            best = edits;
            nearest = known[i];
        }
    }
    return nearest;
}

static int parse_suffixed(const char *text, const struct choice *suffixes, const char *bare,
                          int64_t *ret_value)
{
    if (!isdigit((unsigned char)text[0]))
        return -EINVAL;
    errno = 0;
    char *end;
    long long number = strtoll(text, &end, 10);
    if (errno)
        return -ERANGE;
    const char *suffix = *end ? end : bare;
    for (const struct choice *s = suffixes; s->word; s++) {
        if (strcasecmp(s->word, suffix) == 0) {
            if (__builtin_mul_overflow(number, s->value, ret_value))
                return -ERANGE;
            return 0;
        }
    }
    return -EINVAL;
}

int option_parse_size(const char *text, int64_t *ret_bytes)
{
    static const struct choice suffixes[] = {
        {"B", 1},   {"K", KIB},   {"KiB", KIB},      {"M", MIB},          {"MiB", MIB},
        {"G", GIB}, {"GiB", GIB}, {"T", 1024 * GIB}, {"TiB", 1024 * GIB}, {0}};
    return parse_suffixed(text, suffixes, "B", ret_bytes);
}

int option_parse_time(const char *text, int64_t *ret_ms)
{
    static const struct choice suffixes[] = {{"ms", 1},      {"s", 1000},     {"m", 60000}, {"min", 60000},
                                             {"h", 3600000}, {"d", 86400000}, {0}};
    return parse_suffixed(text, suffixes, "s", ret_ms);
}

static void *field_of(struct settings *settings, const struct option *option)
{
    return (char *)settings + option->at;
}

static int refuse(struct buf *why, const char *where, const char *name, const char *value, const char *wants)
{
    words_next(why);
    buf_printf(why, "%s: %s=%s: %s", where, name, value, wants);
    return -EINVAL;
}

static int set_choice(struct settings *settings, const struct option *option, const char *value,
                      const char *where, struct buf *why)
{
    BUF_SCOPED wants = BUF_INIT;
    buf_add_string(&wants, "must be one of:");
    for (const struct choice *choice = option->choices; choice->word; choice++) {
        if (strcmp(choice->word, value) == 0) {
            *(int64_t *)field_of(settings, option) = choice->value;
            return 0;
        }
        buf_printf(&wants, " %s", choice->word);
    }
    return refuse(why, where, option->name, value, wants.bytes);
}

static int set_switch(struct settings *settings, const struct option *option, const char *value,
                      const char *where, struct buf *why)
{
    static const char *const yes[] = {"yes", "true", "1", "on", ""};
    static const char *const no[] = {"no", "false", "0", "off"};
    bool on = stands_in(value, yes, 5);
    if (!on && !stands_in(value, no, 4))
        return refuse(why, where, option->name, value, "must be yes or no");
    *(bool *)field_of(settings, option) = on != option->inverse;
    return 0;
}

static bool is_word_of(const struct option *option, const char *value)
{
    for (const struct choice *choice = option->choices; choice && choice->word; choice++)
        if (strcmp(choice->word, value) == 0)
            return true;
    return false;
}

/* The daemon lives in /, and the shell expands no tilde behind '='. */
static int set_path(struct settings *settings, const struct option *option, const char *value,
                    const char *where, struct buf *why)
{
    char **path = field_of(settings, option);
    if (value[0] == '~')
        return refuse(why, where, option->name, value,
                      "'~' means nothing here; write $HOME, or the whole path");
    STRING_SCOPED *here = NULL;
    if (value[0] != '/' && !is_word_of(option, value)) {
        here = getcwd(NULL, 0);
        if (!here)
            return refuse(why, where, option->name, value,
                          "there is no current directory; write the whole path");
    }
    free(*path);
    *path = here ? xprintf("%s/%s", here, value) : xstrdup(value);
    return 0;
}

/* Of a user or a group of this host. */
static int find_name(enum kind kind, const char *name, int64_t *ret_number)
{
    const struct passwd *user = kind == USER ? getpwnam(name) : NULL;
    const struct group *group = kind == GROUP ? getgrnam(name) : NULL;
    if (!user && !group)
        return -EINVAL;
    *ret_number = user ? (int64_t)user->pw_uid : (int64_t)group->gr_gid;
    return 0;
}

static int parse_number(const struct option *option, const char *value, int64_t *ret_number)
{
    if (option->kind == SIZE)
        return option_parse_size(value, ret_number);
    if (option->kind == TIME)
        return option_parse_time(value, ret_number);
    if ((option->kind == USER || option->kind == GROUP) && !isdigit((unsigned char)value[0]))
        return find_name(option->kind, value, ret_number);
    char *end;
    errno = 0;
    *ret_number = strtoll(value, &end, option->kind == OCTAL ? 8 : 10);
    return errno || *end || !isdigit((unsigned char)value[0]) ? -EINVAL : 0;
}

static int set_number(struct settings *settings, const struct option *option, const char *value,
                      const char *where, struct buf *why)
{
    static const char *const forms[] = {[SIZE] = "a size like 256M or 1G",
                                        [TIME] = "a time like 500ms, 10s or 5m",
                                        [NUMBER] = "a number",
                                        [OCTAL] = "an octal mode like 0644",
                                        [USER] = "a number or the name of a user of this host",
                                        [GROUP] = "a number or the name of a group of this host"};
    int64_t number = 0;
    int rc = parse_number(option, value, &number);
    STRING_SCOPED *wants = NULL;
    if (rc < 0)
        wants = xprintf("must be %s", forms[option->kind]);
    else if (number < option->low || number > option->high)
        wants = option->kind == SIZE ? xprintf("must be from %lldM to %lldM", (long long)(option->low / MIB),
                                               (long long)(option->high / MIB))
                                     : xprintf("must be from %lld to %lld%s", (long long)option->low,
                                               (long long)option->high, option->kind == TIME ? " ms" : "");
    if (wants)
        return refuse(why, where, option->name, value, wants);
    *(int64_t *)field_of(settings, option) = number;
    return 0;
}

static int refuse_unknown(const char *name, const char *where, struct buf *why)
{
    const char *names[OPTION_COUNT], *words = NULL;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        names[i] = options[i].name;
    for (size_t i = 0; i < sizeof(not_so) / sizeof(*not_so); i++)
        words = strcmp(not_so[i].name, name) == 0 ? not_so[i].words : words;
    const char *nearest = option_nearest(name, names, OPTION_COUNT);
    words_next(why);
    buf_printf(why, "%s: there is no option '%s'", where, name);
    if (words)
        buf_printf(why, "; %s", words);
    else if (nearest)
        buf_printf(why, "; did you mean '%s'?", nearest);
    else
        buf_printf(why, "; `skyvol mount --help` lists them");
    return -EINVAL;
}

int option_set(struct settings *settings, const char *name, const char *value, const char *where,
               struct buf *why)
{
    if (strncasecmp(name, "x-", 2) == 0 ||
        stands_in(name, passed_over, sizeof(passed_over) / sizeof(*passed_over)))
        return 0;
    if (stands_in(name, secrets, sizeof(secrets) / sizeof(*secrets))) {
        words_next(why);
        buf_printf(
            why,
            "%s: %s must not be an option (options are seen by everybody in /proc); put it into "
            "~/.aws/credentials (chmod 600) or AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN",
            where, name);
        return -EINVAL;
    }
    const struct option *option = find_option(name);
    if (!option)
        return refuse_unknown(name, where, why);
    if (option->kind == SWITCH)
        return set_switch(settings, option, value ? value : "", where, why);
    if (!value || !*value)
        return refuse(why, where, name, "", "needs a value");
    if (option->kind == CHOICE)
        return set_choice(settings, option, value, where, why);
    if (option->kind == PATH)
        return set_path(settings, option, value, where, why);
    if (option->kind != TEXT)
        return set_number(settings, option, value, where, why);
    char **text = field_of(settings, option);
    free(*text);
    *text = xstrdup(value);
    return 0;
}

bool option_is_known(const char *name)
{
    return find_option(name) || strncasecmp(name, "x-", 2) == 0 ||
           stands_in(name, passed_over, sizeof(passed_over) / sizeof(*passed_over)) ||
           stands_in(name, secrets, sizeof(secrets) / sizeof(*secrets));
}

static int set_pair(struct settings *settings, const char *pair, struct buf *why)
{
    const char *equals = strchr(pair, '=');
    STRING_SCOPED *name = equals ? xstrndup(pair, (size_t)(equals - pair)) : xstrdup(pair);
    return option_set(settings, name, equals ? equals + 1 : NULL, "-o", why);
}

int option_parse_list(struct settings *settings, const char *list, struct buf *why)
{
    int rc = 0;
    BUF_SCOPED pair = BUF_INIT;
    for (;; list++) {
        if (*list == '\\' && list[1]) {
            buf_add_char(&pair, *++list);
        } else if (*list == ',' || !*list) {
            if (pair.length && set_pair(settings, pair.bytes, why) < 0)
                rc = -EINVAL;
            buf_reset(&pair);
            if (!*list)
                return rc;
        } else {
            buf_add_char(&pair, *list);
        }
    }
}

/* SKYVOL_ENDPIONT would be passed over in silence. What is near to no option belongs to somebody else. */
static int refuse_mistyped(struct buf *why)
{
    const char *names[OPTION_COUNT];
    int rc = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        names[i] = options[i].name;
    for (char **variable = environ; *variable; variable++) {
        if (strncmp(*variable, PREFIX, strlen(PREFIX)) != 0)
            continue;
        STRING_SCOPED *name = xstrndup(*variable + strlen(PREFIX), strcspn(*variable + strlen(PREFIX), "="));
        for (char *c = name; *c; c++)
            *c = (char)tolower((unsigned char)*c);
        const char *nearest = find_option(name) ? NULL : option_nearest(name, names, OPTION_COUNT);
        if (!nearest)
            continue;
        words_next(why);
        buf_printf(why, "%.*s in the environment is no option; did you mean '%s'?",
                   (int)strcspn(*variable, "="), *variable, nearest);
        rc = -EINVAL;
    }
    return rc;
}

int option_from_environment(struct settings *settings, struct buf *why)
{
    int rc = 0;
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        STRING_SCOPED *name = xprintf(PREFIX "%s", options[i].name);
        for (char *c = name; *c; c++)
            *c = (char)toupper((unsigned char)*c);
        const char *value = getenv(name);
        if (value && *value && option_set(settings, options[i].name, value, name, why) < 0)
            rc = -EINVAL;
    }
    return refuse_mistyped(why) < 0 ? -EINVAL : rc;
}

struct file_reading {
    struct settings *settings;
    const char *path;
    struct buf *why;
    int rc;
};

static int set_from_file(void *context, const char *name, const char *value, int line)
{
    struct file_reading *reading = context;
    STRING_SCOPED *where = xprintf("%s:%d", reading->path, line);
    if (option_set(reading->settings, name, value, where, reading->why) < 0)
        reading->rc = -EINVAL;
    return 0;
}

static int read_file(struct settings *settings, const char *path, bool must_exist, struct buf *why)
{
    struct file_reading reading = {settings, path, why, 0};
    BUF_SCOPED words = BUF_INIT;
    int rc = document_each(path, "mount", set_from_file, &reading, &words);
    if (rc == -ENOENT && !must_exist)
        return 0;
    if (rc == 0)
        return reading.rc;
    words_next(why);
    if (rc == -EBADMSG)
        buf_add_string(why, words.bytes);
    else
        buf_printf(why, "%s: %s", path, err_text(rc));
    return -EINVAL;
}

int option_from_file(struct settings *settings, const char *path, struct buf *why)
{
    if (path)
        return read_file(settings, path, true, why);
    int rc = read_file(settings, "/etc/skyvol.toml", false, why);
    const char *base = getenv("XDG_CONFIG_HOME");
    const char *home = getenv("HOME");
    if (!(base && *base) && !(home && *home))
        return rc;
    STRING_SCOPED *own = base && *base ? xprintf("%s/skyvol/config.toml", base)
                                       : xprintf("%s/.config/skyvol/config.toml", home);
    int own_rc = read_file(settings, own, false, why);
    return rc < 0 ? rc : own_rc;
}

/* They become headers; the value is what the server knows, so only its alphabet is looked at. */
static bool is_made_of(const char *text, const char *alphabet)
{
    return text[strspn(text, alphabet)] == '\0';
}

#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS   "0123456789"

static void check_encryption(const struct settings *settings, struct buf *why)
{
    const char *key = settings->sse_kms_key_id;
    if (key && !is_made_of(key, CAPITALS "abcdefghijklmnopqrstuvwxyz" DIGITS ":/_-.")) {
        words_next(why);
        buf_add_string(why, "sse_kms_key_id must be the id, the ARN or the alias of a key");
    }
    if (key && settings->sse != SSE_KMS && settings->sse != SSE_KMS_DSSE) {
        words_next(why);
        buf_add_string(
            why, "sse_kms_key_id needs sse=aws:kms or sse=aws:kms:dsse: no other encryption has such a key");
    }
}

static void check_class(const struct settings *settings, struct buf *why)
{
    static const char *const frozen[] = {"GLACIER", "DEEP_ARCHIVE"};
    const char *class = settings->storage_class;
    if (class && !is_made_of(class, CAPITALS DIGITS "_")) {
        words_next(why);
        buf_printf(why, "storage_class=%s: must be a class of S3 in capitals, like STANDARD_IA", class);
    } else if (class && stands_in(class, frozen, sizeof(frozen) / sizeof(*frozen))) {
        words_next(why);
        buf_printf(why,
                   "storage_class=%s: what is written could not be read again before it is restored; use "
                   "GLACIER_IR, or a lifecycle rule of the bucket",
                   class);
    }
}

/* What one option says about another. */
int option_check(struct settings *settings, struct buf *why)
{
    size_t before = why->length;
    if (settings->allow_other && settings->allow_root) {
        words_next(why);
        buf_add_string(
            why, "allow_root and allow_other exclude each other: allow_other lets everybody in, root too");
    }
    if (settings->proxy && strchr(settings->proxy, '@')) { /* perhaps a password: not to be repeated */
        words_next(why);
        buf_add_string(
            why, "proxy must not hold a user or a password (options are seen by everybody in /proc); put the "
                 "whole URL into HTTPS_PROXY");
    }
    check_encryption(settings, why);
    check_class(settings, why);
    if (settings->role_arn && settings->no_sign_request) {
        words_next(why);
        buf_add_string(why, "role_arn and no_sign_request contradict each other: one of them");
    }
    if (settings->requester_pays && settings->no_sign_request) {
        words_next(why);
        buf_add_string(why, "requester_pays needs to know who pays: it excludes no_sign_request");
    }
    if (settings->immutable) {
        settings->read_only = true;
        settings->attr_ttl = settings->negative_ttl = TTL_MAX_MS;
    }
    if (settings->negative_ttl < 0)
        settings->negative_ttl = settings->attr_ttl;
    if (settings->debug_fuse && settings->log_level < LOG_LEVEL_DEBUG)
        settings->log_level = LOG_LEVEL_DEBUG;
    return why->length > before ? -EINVAL : 0;
}

void option_defaults(struct settings *settings)
{
    BUF_SCOPED why = BUF_INIT;
    for (size_t i = 0; i < OPTION_COUNT; i++)
        if (options[i].fallback)
            option_set(settings, options[i].name, options[i].fallback, "default", &why);
    settings->memory = (int64_t)memory_default_limit();
    if (settings->memory < MEMORY_MIN)
        settings->memory = MEMORY_MIN;
    settings->uid = getuid();
    settings->gid = getgid();
    settings->negative_ttl = -1; /* not said: option_check() */
}

const char *option_durability(const struct settings *settings)
{
    for (const struct choice *choice = durabilities; choice->word; choice++)
        if (choice->value == settings->durability)
            return choice->word;
    return "unknown";
}

static void print_value(const struct settings *settings, const struct option *option, struct buf *out)
{
    const char *field = (const char *)settings + option->at;
    int64_t number = option->kind == SWITCH ? *(const bool *)field : *(const int64_t *)field;
    if (option->kind == SWITCH)
        buf_add_string(out, (number != 0) != option->inverse ? "yes" : "no");
    else if (option->kind == CHOICE)
        for (const struct choice *choice = option->choices; choice->word; choice++)
            buf_add_string(out, choice->value == number ? choice->word : "");
    else if (option->kind == OCTAL)
        buf_printf(out, "%llo", (unsigned long long)number);
    else
        buf_printf(out, "%lld%s", (long long)number,
                   option->kind == SIZE   ? "B"
                   : option->kind == TIME ? "ms"
                                          : "");
}

void option_each(const struct settings *settings,
                 void (*each)(void *context, const char *name, const char *value), void *context)
{
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options[i];
        const char *text = option->kind == TEXT || option->kind == PATH
                               ? *(char *const *)((const char *)settings + option->at)
                               : NULL;
        BUF_SCOPED value = BUF_INIT;
        if (option->inverse || ((option->kind == TEXT || option->kind == PATH) && !text))
            continue;
        if (text)
            buf_add_string(&value, text);
        else
            print_value(settings, option, &value);
        each(context, option->name, value.bytes);
    }
}

void option_help(struct buf *out)
{
    static const char *const forms[] = {"=TEXT", "=PATH", "",      "=SIZE",  "=TIME",
                                        "=N",    "=MODE", "=USER", "=GROUP", "="};
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        const struct option *option = &options[i];
        BUF_SCOPED left = BUF_INIT;
        buf_printf(&left, "%s%s", option->name, forms[option->kind]);
        for (const struct choice *choice = option->choices; choice && choice->word; choice++)
            buf_printf(&left, "%s%s", choice == option->choices && option->kind == CHOICE ? "" : "|",
                       choice->word);
        buf_printf(out, "  %-34s %s", left.bytes, option->help);
        if (option->fallback && option->kind != SWITCH)
            buf_printf(out, " [%s]", option->fallback);
        buf_add_char(out, '\n');
    }
}

void settings_release(struct settings *settings)
{
    char **strings[] = {
        &settings->bucket,    &settings->prefix,         &settings->source,    &settings->mount_point,
        &settings->endpoint,  &settings->region,         &settings->profile,   &settings->credentials_file,
        &settings->ca_bundle, &settings->proxy,          &settings->cache_dir, &settings->log_target,
        &settings->config,    &settings->sse_kms_key_id, &settings->role_arn,  &settings->storage_class};
    for (size_t i = 0; i < sizeof(strings) / sizeof(strings[0]); i++)
        free_string(strings[i]);
}
