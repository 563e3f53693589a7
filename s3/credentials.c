#include "s3/credentials.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/lock.h"
#include "base/log.h"
#include "base/waiter.h"
#include "s3/source.h"

/* Keys with an end are read again when so little is left, behind where somebody has to be asked; botocore's advisory window. */
#define REFRESH_BEFORE_NS (15ll * 60 * 1000000000)
/* ... and then are waited for: requests that run on would be refused. */
#define LAST_NS (30ll * 1000000000)
/* ... but not more often than that, when the sources go on giving the same. */
#define REFRESH_EVERY_MS 30000
/* ... and after a refusal not more often than that: behind it may stand many calls at once, and a right that is missing. */
#define REFUSED_EVERY_MS 5000

/* ---- Keys. ---- */

static struct secret *make_secret(const char *text)
{
    return text && *text ? secret_new(text, strlen(text)) : NULL;
}

struct keys *keys_new(const char *access_key, const char *secret_key, const char *session_token,
                      int64_t expires_ns)
{
    struct keys *keys = xcalloc(1, sizeof(*keys));
    keys->access_key = xstrdup(access_key);
    keys->secret_key = secret_new(secret_key, strlen(secret_key));
    keys->session_token = make_secret(session_token);
    keys->expires_ns = expires_ns;
    keys->references = 1;
    return keys;
}

struct keys *keys_ref(struct keys *keys)
{
    if (keys)
        __atomic_add_fetch(&keys->references, 1, __ATOMIC_RELAXED);
    return keys;
}

void keys_unref(struct keys *keys)
{
    if (!keys || __atomic_sub_fetch(&keys->references, 1, __ATOMIC_ACQ_REL))
        return;
    free(keys->access_key);
    secret_unref(keys->secret_key);
    secret_unref(keys->session_token);
    free(keys);
}

static bool secrets_are_equal(const struct secret *a, const struct secret *b)
{
    if (!a || !b)
        return a == b;
    return secret_length(a) == secret_length(b) &&
           !memcmp(secret_reveal(a), secret_reveal(b), secret_length(a));
}

static bool keys_are_equal(const struct keys *a, const struct keys *b)
{
    return !strcmp(a->access_key, b->access_key) && secrets_are_equal(a->secret_key, b->secret_key) &&
           secrets_are_equal(a->session_token, b->session_token);
}

/* ---- The object. ---- */

struct credentials {
    /* Set at birth. */
    char *profile;  /* the option; NULL: not given */
    char *role_arn; /* the same */
    char *credentials_file;
    char *config_file;
    char *directory; /* where relative paths start; NULL: it has no name */
    struct keys *explicit_keys;
    struct credentials_ask ask; /* keys NULL: nobody */
    int references;             /* atomic */

    struct lock lock;
    /* Under lock. */
    struct keys *keys; /* NULL: not read yet */
    char *source;      /* what `keys` came from, in words */
    char *tried;       /* why what was looked at before had none */
    bool slow;         /* whoever gave them was asked over a network, or is a process */
    bool searching;    /* a thread looks for keys */
    struct gate found; /* it has ended */
    int64_t read_ms;
    int64_t refused_due_ms; /* before it a refusal reads nothing */
    int vain_rc;            /* of the last look, while there are no keys; 0: none was in vain */
    char *vain_words;
    int64_t vain_until_ms; /* before it nobody looks again */
};

static char *copy_string(const char *text)
{
    return text && *text ? xstrdup(text) : NULL;
}

struct credentials *credentials_new(const struct credentials_config *config)
{
    struct credentials *credentials = xcalloc(1, sizeof(*credentials));
    credentials->profile = copy_string(config->profile);
    credentials->role_arn = copy_string(config->role_arn);
    credentials->credentials_file = copy_string(config->credentials_file);
    credentials->config_file = copy_string(config->config_file);
    credentials->explicit_keys = keys_ref(config->explicit_keys);
    if (config->ask) {
        credentials->ask = *config->ask;
        credentials->ask.words = xstrdup(config->ask->words);
    }
    credentials->directory = get_current_dir_name();
    credentials->references = 1;
    lock_init(&credentials->lock, LOCK_LEAF, "credentials");
    gate_init(&credentials->found);
    return credentials;
}

struct credentials *credentials_ref(struct credentials *credentials)
{
    if (credentials)
        __atomic_add_fetch(&credentials->references, 1, __ATOMIC_RELAXED);
    return credentials;
}

void credentials_unref(struct credentials *credentials)
{
    if (!credentials || __atomic_sub_fetch(&credentials->references, 1, __ATOMIC_ACQ_REL))
        return;
    free(credentials->profile);
    free(credentials->role_arn);
    free(credentials->credentials_file);
    free(credentials->config_file);
    free(credentials->directory);
    keys_unref(credentials->explicit_keys);
    if (credentials->ask.release)
        credentials->ask.release(credentials->ask.context);
    free((char *)credentials->ask.words);
    keys_unref(credentials->keys);
    free(credentials->source);
    free(credentials->tried);
    free(credentials->vain_words);
    gate_release(&credentials->found);
    lock_release(&credentials->lock);
    free(credentials);
}

/* ---- Names of things. ---- */

static const char *name_profile(const struct credentials *credentials)
{
    const char *name = credentials->profile;
    if (!name)
        name = source_environment("AWS_PROFILE");
    if (!name)
        name = source_environment("AWS_DEFAULT_PROFILE");
    return name ? name : "default";
}

static bool profile_was_chosen(const struct credentials *credentials)
{
    return credentials->profile || source_environment("AWS_PROFILE") ||
           source_environment("AWS_DEFAULT_PROFILE");
}

/* The option, the variable, or the file below ~/.aws; "~/" is the home. */
static char *name_file(const struct credentials *credentials, const char *option, const char *variable,
                       const char *usual, bool *ret_named)
{
    const char *path = option ? option : source_environment(variable);
    *ret_named = path != NULL;
    if (path && strncmp(path, "~/", 2))
        return *path == '/' || !credentials->directory ? xstrdup(path)
                                                       : xprintf("%s/%s", credentials->directory, path);
    STRING_SCOPED *home = source_home();
    return path ? xprintf("%s/%s", home, path + 2) : xprintf("%s/.aws/%s", home, usual);
}

/* ---- Files. ---- */

struct file {
    char *path;
    bool named;      /* the user gave the path: it has to be there */
    bool private;    /* ours, and nobody else may read or write it */
    struct ini *ini; /* NULL: there is no such file */
};

static void release_file(struct file *file)
{
    free(file->path);
    ini_free(file->ini);
}

static int refuse_file(const char *path, const char *what, const char *remedy, struct buf *why)
{
    buf_printf(why, "%s %s; %s", path, what, remedy);
    return -EPERM;
}

/* A file with keys is ours alone (DESIGN, section 8); one with settings may be read by all but written by us or root only,
 * because it names the endpoint that the data goes to. */
static int check_owner(const struct file *file, const struct stat *status, bool with_keys, struct buf *why)
{
    STRING_SCOPED *chmod = xprintf("run: chmod %s %s", with_keys ? "600" : "go-w", file->path);
    if (status->st_uid != geteuid() && (with_keys || status->st_uid != 0))
        return refuse_file(file->path, "belongs to another user", "use a file of your own", why);
    if (with_keys && (status->st_mode & 077))
        return refuse_file(file->path, "holds keys and is open to others", chmod, why);
    if (status->st_mode & 022)
        return refuse_file(file->path, "can be written by others", chmod, why);
    return 0;
}

/* In one piece of memory, so that no copy is left behind by growing. */
static int read_whole(int fd, char *bytes, size_t size, size_t *ret_length)
{
    size_t length = 0;
    while (length < size) {
        ssize_t got = read(fd, bytes + length, size - length);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return -errno;
        if (!got)
            break;
        length += (size_t)got;
    }
    *ret_length = length;
    return 0;
}

static int parse_file(struct file *file, int fd, size_t size, struct buf *why)
{
    char *bytes = xmalloc(size + 1);
    size_t length = 0;
    int rc = read_whole(fd, bytes, size, &length);
    if (rc < 0)
        buf_printf(why, "%s cannot be read: %s", file->path, err_text(rc));
    else
        rc = ini_parse(bytes, length, file->path, &file->ini, why);
    secret_wipe(bytes, size);
    free(bytes);
    return rc;
}

static int read_and_parse(struct file *file, int fd, bool with_keys, struct buf *why)
{
    struct stat status;
    if (fstat(fd, &status) < 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return refuse_file(file->path, "is no regular file", "name another one", why);
    int rc = check_owner(file, &status, with_keys, why);
    if (rc < 0)
        return rc;
    file->private = status.st_uid == geteuid() && !(status.st_mode & 077);
    /* One byte over the limit is enough for ini_parse() to refuse it. */
    size_t size = (uint64_t)status.st_size > INI_BYTES_MAX ? INI_BYTES_MAX + 1 : (size_t)status.st_size;
    return parse_file(file, fd, size, why);
}

static int open_file(struct file *file, bool with_keys, struct buf *why)
{
    int fd = open(file->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (with_keys ? O_NOFOLLOW : 0));
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR) && !file->named)
        return 0;
    if (fd < 0 && errno == ELOOP)
        return refuse_file(file->path, "is a symbolic link", "name the file itself", why);
    if (fd < 0) {
        int rc = errno == EACCES ? -EPERM : -ENOKEY;
        buf_printf(why, "%s cannot be opened: %s", file->path, err_text(errno));
        return rc;
    }
    int rc = read_and_parse(file, fd, with_keys, why);
    close(fd);
    return rc;
}

/* A file that is not there gives 0 and no ini, unless the user named it. */
static int read_credentials_file(const struct credentials *credentials, struct file *ret_file,
                                 struct buf *why)
{
    *ret_file = (struct file){0};
    ret_file->path = name_file(credentials, credentials->credentials_file, "AWS_SHARED_CREDENTIALS_FILE",
                               "credentials", &ret_file->named);
    return open_file(ret_file, true, why);
}

static int read_config_file(const struct credentials *credentials, struct file *ret_file, struct buf *why)
{
    *ret_file = (struct file){0};
    ret_file->path =
        name_file(credentials, credentials->config_file, "AWS_CONFIG_FILE", "config", &ret_file->named);
    return open_file(ret_file, false, why);
}

/* ---- The sources. ---- */

/* Half a pair stops the search: another identity must not be taken in silence. */
static int look_into_environment(const struct credentials *credentials, struct found *ret_found,
                                 struct buf *why)
{
    if (credentials->profile || credentials->credentials_file) {
        buf_printf(why, "environment: not asked, because %s %s was chosen",
                   credentials->profile ? "profile" : "the file",
                   credentials->profile ? credentials->profile : credentials->credentials_file);
        return 0;
    }
    if (credentials->role_arn) {
        buf_add_string(why, "environment: its keys are not used themselves, because role_arn was given");
        return 0;
    }
    const char *access_key = source_environment("AWS_ACCESS_KEY_ID");
    const char *secret_key = source_environment("AWS_SECRET_ACCESS_KEY");
    const char *token = source_environment("AWS_SESSION_TOKEN");
    const char *expiration = source_environment("AWS_CREDENTIAL_EXPIRATION");
    if (!access_key && !secret_key) {
        buf_add_string(why, "environment: AWS_ACCESS_KEY_ID is not set");
        return 0;
    }
    ret_found->source = xstrdup("environment AWS_ACCESS_KEY_ID");
    int64_t expires_ns = INT64_MAX;
    if (expiration && clock_parse_iso(expiration, &expires_ns) < 0) {
        buf_add_string(why, "environment: AWS_CREDENTIAL_EXPIRATION is no ISO 8601 time");
        return -ENOKEY;
    }
    return source_keys(access_key, secret_key, token ? token : source_environment("AWS_SECURITY_TOKEN"),
                       expires_ns, ret_found, why);
}

static int look_into_section(const struct file *file, const char *section, const char *profile,
                             struct found *ret_found, struct buf *why)
{
    if (!ini_has_section(file->ini, section)) {
        buf_printf(why, "%s: %s [%s]", file->path, file->ini ? "has no section" : "is not there, so no",
                   section);
        return 0;
    }
    const char *access_key = ini_get(file->ini, section, "aws_access_key_id");
    const char *secret_key = ini_get(file->ini, section, "aws_secret_access_key");
    if (!access_key && !secret_key) {
        buf_printf(why, "%s: [%s] has no aws_access_key_id", file->path, section);
        return 0;
    }
    ret_found->source = xprintf("profile %s of %s", profile, file->path);
    if (!file->private)
        return refuse_file(file->path, "holds keys and is open to others",
                           "move them to ~/.aws/credentials, or run chmod 600 on it", why);
    return source_keys(access_key, secret_key, ini_get(file->ini, section, "aws_session_token"), INT64_MAX,
                       ret_found, why);
}

static int look_into_credentials_file(const struct credentials *credentials, struct found *ret_found,
                                      struct buf *why)
{
    struct file file;
    const char *profile = name_profile(credentials);
    int rc = read_credentials_file(credentials, &file, why);
    if (!rc)
        rc = look_into_section(&file, profile, profile, ret_found, why);
    release_file(&file);
    return rc;
}

static int look_into_config_file(const struct credentials *credentials, struct found *ret_found,
                                 struct buf *why)
{
    struct file file;
    const char *profile = name_profile(credentials);
    int rc = read_config_file(credentials, &file, why);
    if (!rc) {
        STRING_SCOPED *section = source_section(file.ini, profile);
        rc = look_into_section(&file, section, profile, ret_found, why);
    }
    release_file(&file);
    return rc;
}

static int look_into_explicit(const struct credentials *credentials, struct found *ret_found, struct buf *why)
{
    if (credentials->ask.keys) {
        int rc = credentials->ask.keys(credentials->ask.context, &ret_found->keys, why);
        ret_found->slow = true;
        if (rc == 0)
            ret_found->source = xstrdup(credentials->ask.words);
        return rc < 0 ? rc : 1;
    }
    if (!credentials->explicit_keys)
        return 0;
    ret_found->keys = keys_ref(credentials->explicit_keys);
    ret_found->source = xstrdup("given keys");
    return 1;
}

/* ---- The chain. ---- */

/* One that looks into our own files and variables, or one that asks somebody (source.h). */
struct row {
    int (*quick)(const struct credentials *credentials, struct found *ret_found, struct buf *why);
    source_look *slow;
};

/* The order of botocore. */
static const struct row rows[] = {
    {look_into_explicit, NULL}, {look_into_environment, NULL},
    {NULL, source_role},        {NULL, source_web_identity},
    {NULL, source_sso},         {look_into_credentials_file, NULL},
    {NULL, source_process},     {look_into_config_file, NULL},
    {NULL, source_container},   {NULL, source_instance},
};

struct looking {
    struct file keys, config;
    struct source_view view;
    bool ready;
};

/* The files are read when the first source wants them: what is wrong with them is said by the sources that need keys from them. */
static const struct source_view *look_at_files(const struct credentials *credentials, struct looking *looking)
{
    BUF_SCOPED why = BUF_INIT;
    if (looking->ready)
        return &looking->view;
    looking->ready = true;
    read_credentials_file(credentials, &looking->keys, &why);
    read_config_file(credentials, &looking->config, &why);
    looking->view = (struct source_view){.profile = name_profile(credentials),
                                         .chosen = profile_was_chosen(credentials),
                                         .named = credentials->profile || credentials->credentials_file,
                                         .file_named = credentials->credentials_file,
                                         .keys = looking->keys.ini,
                                         .config = looking->config.ini,
                                         .config_private = looking->config.private,
                                         .role = credentials->role_arn};
    const char *region = source_environment("AWS_REGION");
    region = region ? region : source_environment("AWS_DEFAULT_REGION");
    looking->view.region = region ? region : source_setting(&looking->view, looking->view.profile, "region");
    return &looking->view;
}

static bool is_missing(const struct source_view *view)
{
    return view->chosen && !source_has_profile(view, view->profile);
}

static int look(const struct credentials *credentials, const struct row *row, struct looking *looking,
                struct found *ret_found, struct buf *why)
{
    /* A file that was named is who we are, and so is a profile: nobody else is asked where it is not there. */
    bool of_machine = row->slow == source_container || row->slow == source_instance;
    if (of_machine && credentials->credentials_file)
        return 0;
    if ((of_machine || row->slow == source_web_identity) && is_missing(look_at_files(credentials, looking)))
        return 0;
    return row->quick ? row->quick(credentials, ret_found, why)
                      : row->slow(look_at_files(credentials, looking), ret_found, why);
}

static void add_tried(struct buf *tried, const struct buf *words)
{
    if (words->length)
        buf_printf(tried, "%s%s", tried->length ? "; " : "", words->bytes);
}

/* `tried`: why each source before the one that had keys had none. */
static int find_keys(const struct credentials *credentials, struct found *ret_found, struct buf *tried,
                     struct buf *why)
{
    struct looking looking = {0};
    int rc = 0;
    *ret_found = (struct found){0};
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows) && rc == 0; i++) {
        BUF_SCOPED words = BUF_INIT;
        rc = look(credentials, &rows[i], &looking, ret_found, &words);
        add_tried(rc < 0 ? why : tried, &words);
    }
    release_file(&looking.keys);
    release_file(&looking.config);
    if (rc > 0)
        return 0;
    free(ret_found->source);
    ret_found->source = NULL;
    if (rc == 0)
        buf_printf(why, "no keys%s%s: %s", profile_was_chosen(credentials) ? " for profile " : "",
                   profile_was_chosen(credentials) ? name_profile(credentials) : "", tried->bytes);
    return rc < 0 ? rc : -ENOKEY;
}

/* ---- The door. ---- */

/* 1: other keys than before are in force; 0: the same. Takes what was found. */
static int adopt_locked(struct credentials *credentials, struct found *found, struct buf *tried)
{
    free(credentials->source);
    free(credentials->tried);
    credentials->source = found->source;
    credentials->tried = buf_take(tried);
    credentials->slow = found->slow;
    if (credentials->keys && credentials->keys->expires_ns == found->keys->expires_ns &&
        keys_are_equal(credentials->keys, found->keys)) {
        keys_unref(found->keys); /* the old object stays: signing keys are remembered by it */
        return 0;
    }
    keys_unref(credentials->keys);
    credentials->keys = found->keys;
    return 1;
}

/* One thread looks, without the lock; others go on with the keys that they have. -errno: none were found, and the old ones stay. */
static int read_again_locked(struct credentials *credentials, struct buf *why)
{
    struct found found;
    BUF_SCOPED tried = BUF_INIT;
    credentials->searching = true;
    credentials->read_ms = clock_ms();
    lock_drop(&credentials->lock);
    int rc = find_keys(credentials, &found, &tried, why);
    lock_take(&credentials->lock);
    credentials->searching = false;
    gate_open(&credentials->found);
    return rc < 0 ? rc : adopt_locked(credentials, &found, &tried);
}

static bool ends_within_locked(const struct credentials *credentials, int64_t ns)
{
    int64_t expires_ns = credentials->keys->expires_ns;
    return expires_ns != INT64_MAX && clock_wall_ns() > expires_ns - ns;
}

static bool refresh_is_due_locked(const struct credentials *credentials)
{
    if (!credentials->keys)
        return true;
    return ends_within_locked(credentials, REFRESH_BEFORE_NS) &&
           clock_ms() >= credentials->read_ms + REFRESH_EVERY_MS;
}

static void *refresh(void *context)
{
    struct credentials *credentials = context;
    BUF_SCOPED why = BUF_INIT;
    lock_take(&credentials->lock);
    int rc = read_again_locked(credentials, &why);
    lock_drop(&credentials->lock);
    if (rc < 0)
        log_warn("credentials: they end soon and could not be renewed, tried again in %d s: %s",
                 REFRESH_EVERY_MS / 1000, why.bytes);
    credentials_unref(credentials);
    return NULL;
}

/* Requests do not wait for keys that are only due: a thread of its own asks for them. False: there is no thread. */
static bool refresh_behind_locked(struct credentials *credentials)
{
    pthread_t thread;
    credentials->searching = true;
    if (pthread_create(&thread, NULL, refresh, credentials_ref(credentials)) == 0) {
        pthread_detach(thread);
        return true;
    }
    credentials->searching = false;
    credentials_unref(credentials);
    return false;
}

/* There are keys that are still good, or nobody looks for them. */
static void await_good_locked(struct credentials *credentials)
{
    WAITER_SCOPED(waiter);
    while (credentials->searching && (!credentials->keys || ends_within_locked(credentials, 0)))
        gate_wait_locked(&credentials->found, &credentials->lock, &waiter, CLOCK_NEVER);
}

/* What took long and was in vain is not begun anew by each of those who waited for it. */
static void note_vain_locked(struct credentials *credentials, int rc, const struct buf *words)
{
    int64_t now_ms = clock_ms(), took_ms = now_ms - credentials->read_ms;
    free(credentials->vain_words);
    credentials->vain_words = xstrdup(words->bytes);
    credentials->vain_rc = rc;
    credentials->vain_until_ms = now_ms + (took_ms < REFRESH_EVERY_MS ? took_ms : REFRESH_EVERY_MS);
}

static bool is_vain_locked(const struct credentials *credentials)
{
    return !credentials->keys && credentials->vain_rc && clock_ms() < credentials->vain_until_ms;
}

int credentials_get(struct credentials *credentials, struct keys **ret_keys, struct buf *why)
{
    BUF_SCOPED words = BUF_INIT;
    LOCK_SCOPED(&credentials->lock);
    int rc = 0;
    await_good_locked(credentials);
    if (is_vain_locked(credentials)) {
        rc = credentials->vain_rc;
        buf_add_string(&words, credentials->vain_words);
    } else if (!credentials->searching && refresh_is_due_locked(credentials)) {
        bool good = credentials->keys && !ends_within_locked(credentials, LAST_NS);
        if (!credentials->slow || !good || !refresh_behind_locked(credentials))
            rc = read_again_locked(credentials, &words);
        if (rc < 0 && !credentials->keys)
            note_vain_locked(credentials, rc, &words);
    }
    if (rc < 0 && !credentials->keys) {
        if (why)
            buf_add(why, words.bytes, words.length);
        return rc;
    }
    *ret_keys = keys_ref(credentials->keys);
    return 0;
}

int credentials_refused(struct credentials *credentials, const struct keys *refused)
{
    BUF_SCOPED why = BUF_INIT;
    int rc;
    {
        LOCK_SCOPED(&credentials->lock);
        if (credentials->keys && refused && !keys_are_equal(credentials->keys, refused))
            return 1; /* another thread has read them meanwhile */
        if (credentials->searching || clock_ms() < credentials->refused_due_ms)
            return 0;
        credentials->refused_due_ms = clock_ms() + REFUSED_EVERY_MS;
        rc = read_again_locked(credentials, &why);
        if (!rc || (rc > 0 && refused && keys_are_equal(credentials->keys, refused)))
            return 0;
    }
    if (rc < 0)
        log_warn("credentials: refused by the server, and reading them again failed: %s", why.bytes);
    return rc > 0;
}

void credentials_tried(struct credentials *credentials, struct buf *out)
{
    LOCK_SCOPED(&credentials->lock);
    buf_add_string(out, credentials->tried ? credentials->tried : "");
}

void credentials_describe(struct credentials *credentials, struct buf *out)
{
    LOCK_SCOPED(&credentials->lock);
    buf_add_string(out, credentials->source ? credentials->source : "no keys read yet");
}

int credentials_verify(struct credentials *credentials, const struct keys *keys, char **ret_account,
                       char **ret_arn, struct buf *why)
{
    STRING_SCOPED *region = credentials_setting(credentials, "region");
    return sts_identify(region, keys, ret_account, ret_arn, why);
}

/* ---- Settings. ---- */

/* endpoint_url may stand in a [services NAME] block that the profile names; it wins there. */
static const char *find_service_setting(const struct ini *ini, const char *section, const char *name)
{
    const char *services = ini_get(ini, section, "services");
    if (!services)
        return NULL;
    STRING_SCOPED *place = xprintf("services %s", services);
    STRING_SCOPED *key = xprintf("s3.%s", name);
    return ini_get(ini, place, key);
}

static char *find_setting(const struct ini *credentials_ini, const struct ini *config_ini,
                          const char *profile, const char *name)
{
    STRING_SCOPED *section = source_section(config_ini, profile);
    const char *value = find_service_setting(config_ini, section, name);
    if (!value)
        value = ini_get(credentials_ini, profile, name);
    if (!value)
        value = ini_get(config_ini, section, name);
    return value ? xstrdup(value) : NULL;
}

/* The field's variables go before its files. */
static bool addresses_are_ignored(void)
{
    const char *said = source_environment("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS");
    return said && strcasecmp(said, "true") == 0;
}

static const char *find_variable(const char *name)
{
    const char *value = NULL;
    if (strcmp(name, "region") == 0) {
        value = source_environment("AWS_REGION");
        return value ? value : source_environment("AWS_DEFAULT_REGION");
    }
    if (strcmp(name, "endpoint_url") == 0) {
        value = source_environment("AWS_ENDPOINT_URL_S3");
        value = value ? value : source_environment("AWS_ENDPOINT_URL");
    }
    return value;
}

char *credentials_setting(struct credentials *credentials, const char *name)
{
    BUF_SCOPED why = BUF_INIT;
    struct file with_keys, config;
    if (strcmp(name, "endpoint_url") == 0 && addresses_are_ignored()) /* of variables and files alike */
        return NULL;
    const char *said = find_variable(name);
    if (said)
        return xstrdup(said);
    /* What is wrong with a file that holds keys, credentials_get() says; here it only has no settings to give. */
    read_credentials_file(credentials, &with_keys, &why);
    buf_reset(&why);
    if (read_config_file(credentials, &config, &why) < 0)
        log_warn("credentials: no settings are taken: %s", why.bytes);
    char *value = find_setting(with_keys.ini, config.ini, name_profile(credentials), name);
    release_file(&with_keys);
    release_file(&config);
    return value;
}
