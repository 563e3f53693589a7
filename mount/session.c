#include "mount/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/memory.h"
#include "cache/cache.h"
#include "fs/fs.h"
#include "mount/claim.h"
#include "mount/control.h"
#include "mount/diagnosis.h"
#include "mount/home.h"
#include "mount/place.h"
#include "mount/words.h"
#include "s3/credentials.h"
#include "s3/store.h"

/* First contact must end, with a message, within 10 seconds. */
#define FIRST_CONTACT_MS 8000

struct session {
    struct settings *settings;
    struct daemon *daemon;
    struct claim claim;
    struct credentials *credentials;
    struct store *store;
    struct home home;
    struct memory *memory;
    struct cache *cache;
    struct fs *fs;
    struct control *control;
    pthread_t signals;
    bool signals_running;
    atomic_bool stopping;        /* by a signal */
    atomic_bool over;            /* SIGUSR1 ends the thread of signals */
    _Atomic(struct fs *) served; /* once there is something to stop */
    struct waiter waiter;        /* of the first contact, and of the sending at the end */
    int64_t started_ns;
    struct buf warnings;
};

static int start_log(const struct settings *settings, struct buf *why)
{
    log_set_level((enum log_level)settings->log_level);
    const char *target = settings->log_target;
    int rc = 0;
    if (!target && settings->foreground)
        return 0;
    if (!target) {
        if (log_open(LOG_TO_JOURNAL, NULL) < 0)
            log_open(LOG_TO_SYSLOG, NULL);
        return 0;
    }
    if (strcmp(target, "stderr") == 0)
        rc = log_open(LOG_TO_STDERR, NULL);
    else if (strcmp(target, "syslog") == 0)
        rc = log_open(LOG_TO_SYSLOG, NULL);
    else if (strcmp(target, "journal") == 0)
        rc = log_open(LOG_TO_JOURNAL, NULL);
    else
        rc = log_open(LOG_TO_FILE, target);
    if (rc < 0)
        buf_printf(why, "log=%s: %s", target, err_text(rc));
    return rc;
}

static int build_store(struct session *session, struct buf *why)
{
    struct settings *settings = session->settings;
    if (!settings->no_sign_request) {
        struct credentials_config source = {.profile = settings->profile};
        session->credentials = credentials_new(&source);
        struct keys *keys = NULL;
        int rc = credentials_get(session->credentials, &keys, why);
        if (rc < 0)
            return rc;
        keys_unref(keys);
        if (!settings->endpoint)
            settings->endpoint = credentials_setting(session->credentials, "endpoint_url");
        if (!settings->region)
            settings->region = credentials_setting(session->credentials, "region");
    }
    struct store_config config = {
        .endpoint = settings->endpoint,
        .bucket = settings->bucket,
        .region = settings->region,
        .style = (enum store_style)settings->style,
        .checksum = (enum store_checksum)settings->checksum,
        .credentials = session->credentials,
        .ca_bundle = settings->ca_bundle,
        .proxy = settings->proxy,
        .allow_http = settings->allow_http,
        .loops = (int)settings->loops,
        .connections_max = (int)settings->connections,
    };
    return store_s3_new(&config, &session->store, why);
}

/* Keys scoped to a prefix may do no more than list below it: that is what is asked. */
static int prove_access(struct session *session, struct buf *why)
{
    struct store_call call = {.op = STORE_LIST,
                              .prefix = session->settings->prefix,
                              .max_keys = 1,
                              .patience_ms = FIRST_CONTACT_MS};
    int rc = store_wait(session->store, &call, &session->waiter);
    if (rc == -EINTR)
        buf_add_string(why, "stopped by a signal before anything was mounted");
    else if (rc < 0)
        diagnosis_access(session->settings, rc, &call.error, why);
    store_call_release(&call);
    return rc;
}

static struct json *report_status(void *context);

/* Where the mount is, the socket is: whoever sees the one can reach the other. */
static int mount_now(struct session *session, const struct fs_config *mounting, struct buf *why)
{
    struct control_config controlling = {
        .socket_path = session->claim.socket_path,
        .stop_timeout_ms = session->settings->stop_timeout,
        .status = report_status,
        .context = session,
    };
    int rc = control_new(&controlling, &session->control, why);
    if (rc == 0)
        rc = place_check_free(mounting->mount_point, why);
    if (rc == 0 && atomic_load(&session->stopping)) {
        buf_add_string(why, "stopped by a signal before anything was mounted");
        rc = -EINTR;
    }
    return rc < 0 ? rc : fs_new(mounting, &session->fs, why);
}

static int build_rooms(struct session *session, struct buf *why)
{
    const struct settings *settings = session->settings;
    int rc = home_open(settings, &session->home, why, &session->warnings);
    if (rc < 0)
        return rc;
    if (disk_is_tmpfs(session->home.disk)) {
        words_next(&session->warnings);
        buf_printf(&session->warnings, "%s is in memory (tmpfs): unsent data there is lost at a power cut",
                   session->home.path);
    }
    session->memory = memory_new((size_t)settings->memory);
    struct fs_config mounting = {
        .mount_point = settings->mount_point,
        .source = settings->source,
        .read_only = settings->read_only,
        .allow_other = settings->allow_other,
        .allow_root = settings->allow_root,
        .threads = (uint32_t)settings->threads,
        .debug = settings->debug_fuse,
    };
    rc = mount_now(session, &mounting, why);
    if (rc < 0)
        return rc;
    struct cache_config caching = {
        .store = session->store,
        .memory = session->memory,
        .disk = session->home.disk,
        .prefix = settings->prefix,
        .read_only = settings->read_only,
        .list_attributes_only = settings->attributes == 1,
        .attr_ttl_ms = settings->attr_ttl,
        .io_timeout_ms = settings->io_timeout,
        .uid = (uint32_t)settings->uid,
        .gid = (uint32_t)settings->gid,
        .file_mode = (uint32_t)settings->file_mode,
        .dir_mode = (uint32_t)settings->dir_mode,
        .read_ahead_max = (uint64_t)settings->read_ahead,
        .uploads_max = (uint32_t)settings->uploads,
        .part_bytes = (uint64_t)settings->part_size,
        .notify = fs_notify(session->fs),
    };
    rc = cache_new(&caching, &session->cache);
    if (rc < 0)
        buf_printf(why, "the cache cannot be set up: %s", err_text(rc));
    if (rc < 0)
        return rc;
    fs_attach(session->fs, session->cache);
    return control_serve(session->control);
}

static const char *ability_word(enum store_ability ability)
{
    static const char *const words[] = {"unknown", "yes", "no"};
    return words[ability];
}

static void report_store(struct session *session, struct json *object)
{
    BUF_SCOPED text = BUF_INIT;
    store_describe(session->store, &text);
    json_set_string(object, "server", text.bytes);
    struct store_counters counters;
    store_counters(session->store, &counters);
    struct json *requests = json_object_new();
    for (int op = STORE_GET; op <= STORE_LIST_UPLOADS; op++)
        if (counters.calls[op])
            json_set_integer(requests, store_op_name((enum store_op)op), (int64_t)counters.calls[op]);
    json_set(object, "requests", &requests);
    json_set_integer(object, "retries", (int64_t)counters.retries);
    json_set_integer(object, "failures", (int64_t)counters.failures);
    json_set_integer(object, "bytes_in", (int64_t)counters.bytes_in);
    json_set_integer(object, "bytes_out", (int64_t)counters.bytes_out);
    struct store_abilities can;
    store_abilities(session->store, &can);
    struct json *abilities = json_object_new();
    json_set_string(abilities, "list_metadata", ability_word(can.list_meta));
    json_set_string(abilities, "conditional_put", ability_word(can.conditional_put));
    json_set_string(abilities, "conditional_delete", ability_word(can.conditional_delete));
    json_set_string(abilities, "checksum", ability_word(can.checksum));
    json_set_string(abilities, "delete_many", ability_word(can.delete_many));
    json_set(object, "abilities", &abilities);
}

static void add_unsent(void *context, const char *key, const char *path, uint64_t bytes, const char *why)
{
    struct json *file = json_object_new();
    json_set_string(file, "key", key);
    json_set_string(file, "path", path);
    json_set_integer(file, "bytes", (int64_t)bytes);
    json_set_string(file, "why", why);
    json_append(context, &file);
}

static struct json *list_unsent(struct session *session)
{
    struct json *files = json_array_new();
    cache_unsent(session->cache, add_unsent, files);
    return files;
}

static struct json *report_status(void *context)
{
    struct session *session = context;
    const struct settings *settings = session->settings;
    struct json *object = json_object_new();
    json_set_integer(object, "pid", getpid());
    json_set_string(object, "version", SKYVOL_VERSION);
    json_set_string(object, "source", settings->source);
    json_set_string(object, "mount_point", settings->mount_point);
    json_set_bool(object, "read_only", settings->read_only);
    json_set_string(object, "durability", "sync");
    json_set_string(object, "cache_dir", session->home.path);
    json_set_integer(object, "uptime_s", (clock_wall_ns() - session->started_ns) / 1000000000);
    report_store(session, object);
    struct memory_report memory;
    memory_report(session->memory, &memory);
    json_set_integer(object, "memory_limit", (int64_t)memory.limit);
    json_set_integer(object, "memory_used", (int64_t)memory.used);
    json_set_integer(object, "memory_idle", (int64_t)memory.idle);
    cache_report(session->cache, object);
    fs_report(session->fs, object);
    struct json *unsent = list_unsent(session);
    json_set(object, "unsent", &unsent);
    return object;
}

/* ---- Signals. ---- */

static void fill_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
}

/* The first signal ends the mount, or the first contact; the second ends the sending. What blocks before there is a mount
 * (a name that is looked up) holds nothing that could be lost: there the second one ends the process. */
static void stop_by_signal(struct session *session, int number)
{
    bool again = atomic_exchange(&session->stopping, true);
    struct fs *fs = atomic_load(&session->served);
    log_info("signal %s: stopping", strsignal(number));
    if (fs && !again)
        fs_stop(fs);
    else if (!fs && again)
        _exit(1);
    else
        waiter_interrupt(&session->waiter);
}

static void toggle_log_level(struct session *session)
{
    enum log_level usual = (enum log_level)session->settings->log_level;
    bool back = log_level() != usual;
    log_set_level(LOG_LEVEL_DEBUG);
    log_info("signal SIGUSR2: log_level=%s from here on", back ? "as configured" : "debug");
    if (back)
        log_set_level(usual);
}

static void *wait_for_signals(void *context)
{
    struct session *session = context;
    sigset_t set;
    fill_signals(&set);
    for (int number; sigwait(&set, &number) == 0;) {
        if (number == SIGUSR2)
            toggle_log_level(session);
        else if (number != SIGUSR1)
            stop_by_signal(session, number);
        else if (atomic_load(&session->over))
            return NULL;
    }
    return NULL;
}

/* Before any other thread, so that all of them leave the signals to this one. */
static int start_signals(struct session *session)
{
    sigset_t set;
    fill_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    int rc = -pthread_create(&session->signals, NULL, wait_for_signals, session);
    session->signals_running = rc == 0;
    return rc;
}

static void end_signals(struct session *session)
{
    atomic_store(&session->over, true);
    if (session->signals_running) {
        pthread_kill(session->signals, SIGUSR1);
        pthread_join(session->signals, NULL);
    }
    session->signals_running = false;
}

/* ---- The beginning. ---- */

static void say_ready(void *context)
{
    struct session *session = context;
    const struct settings *settings = session->settings;
    log_info("%s is mounted at %s", settings->source, settings->mount_point);
    BUF_SCOPED words = BUF_INIT;
    for (const char *line = session->warnings.bytes; *line;) {
        int length = (int)strcspn(line, "\n");
        words_next(&words);
        buf_printf(&words, "warning: %.*s", length, line);
        log_warn("%.*s", length, line);
        line += length + (line[length] == '\n');
    }
    /* In the foreground the log is seen already, unless it goes elsewhere. */
    bool seen =
        settings->foreground && (!settings->log_target || strcmp(settings->log_target, "stderr") == 0);
    if (daemon_ready(session->daemon, seen ? "" : words.bytes) < 0) {
        log_warn("the command that asked for the mount has been ended: unmounting");
        fs_stop(session->fs);
    }
}

static void log_unsent(void *context, const char *key, const char *path, uint64_t bytes, const char *why)
{
    (void)context;
    log_error("unsent: %s (%llu bytes) is kept in %s: %s", key, (unsigned long long)bytes, path, why);
}

/* Beside the local files, so that whoever finds them knows what they are. */
static void write_unsent_list(struct session *session, const struct json *unsent)
{
    BUF_SCOPED text = BUF_INIT;
    json_print(unsent, &text, true);
    struct disk_file *file = NULL;
    int rc = disk_open(session->home.disk, "unsent.json", DISK_CREATE, &file);
    if (rc == 0)
        rc = disk_write(file, text.bytes, text.length, 0);
    if (rc == 0)
        rc = disk_flush(file);
    disk_close(file);
    if (rc < 0)
        log_error("the list of unsent files cannot be written: %s", err_name(rc));
}

/* Sends what is unsent as long as stop_timeout allows. The exit status. */
static int finish(struct session *session)
{
    size_t left = 0;
    int64_t deadline = clock_ms() + session->settings->stop_timeout;
    int rc = cache_drain(session->cache, &session->waiter, deadline, &left);
    struct json *unsent = list_unsent(session);
    if (left) {
        log_error("%zu files could not be sent (%s) and stay in %s/%s", left, err_name(rc),
                  session->home.path, session->home.session);
        cache_unsent(session->cache, log_unsent, NULL);
        write_unsent_list(session, unsent);
    }
    struct json *last = json_object_new();
    json_set_bool(last, "ended", true);
    json_set_string(last, "kept_in", left ? session->home.path : NULL);
    json_set(last, "unsent", &unsent);
    control_finish(session->control, last);
    json_free(last);
    return left ? 1 : 0;
}

/* The claim goes last, and after it only the connections of those who wait until they may mount here again. */
static void release_session(struct session *session)
{
    end_signals(session);
    control_finish(session->control, NULL);
    fs_free(session->fs);
    cache_free(session->cache);
    memory_free(session->memory);
    home_close(&session->home);
    store_free(session->store);
    credentials_unref(session->credentials);
    claim_release(&session->claim);
    control_free(session->control);
    waiter_release(&session->waiter);
    buf_release(&session->warnings);
}

static int start(struct session *session, struct buf *why)
{
    int rc = start_log(session->settings, why);
    if (rc == 0)
        rc = start_signals(session);
    if (rc == 0)
        rc = claim_take(session->settings->mount_point, &session->claim, why);
    if (rc == 0)
        rc = build_store(session, why);
    if (rc == 0)
        rc = prove_access(session, why);
    if (rc == 0)
        rc = build_rooms(session, why);
    return rc;
}

/* Whoever comes first, a signal or this, sees the other. */
static void let_signals_stop(struct session *session)
{
    atomic_store(&session->served, session->fs);
    if (atomic_load(&session->stopping))
        fs_stop(session->fs);
}

/* Each file that is open for writing takes a descriptor; the shell's soft limit is meant for programs that use select(). */
static void raise_descriptors(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur == limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) < 0)
        log_warn("the limit of open files stays low: %s", err_name(errno));
}

int session_run(struct settings *settings, struct daemon *daemon)
{
    struct session session = {.settings = settings,
                              .daemon = daemon,
                              .claim = CLAIM_NONE,
                              .home = {.lock = -1},
                              .started_ns = clock_wall_ns(),
                              .warnings = BUF_INIT};
    waiter_init(&session.waiter);
    raise_descriptors();
    BUF_SCOPED why = BUF_INIT;
    int status = 1;
    int rc = start(&session, &why);
    if (rc < 0) {
        daemon_failed(daemon, why.length ? why.bytes : err_text(rc));
        release_session(&session);
        return 1;
    }
    let_signals_stop(&session);
    rc = fs_run(session.fs, say_ready, &session);
    if (rc < 0)
        log_error("the FUSE session broke: %s", err_name(rc));
    status = finish(&session);
    log_info("%s is unmounted", settings->mount_point);
    release_session(&session);
    return rc < 0 ? 1 : status;
}
