#include "mount/session.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "fs/fs.h"
#include "mount/claim.h"
#include "mount/handover.h"
#include "mount/logging.h"
#include "mount/place.h"
#include "mount/rooms.h"
#include "mount/service.h"
#include "mount/unsent.h"
#include "mount/words.h"

#define GRACE_MS       300  /* little files go up so soon that nobody needs to hear of them */
#define SAME_SIGNAL_MS 1000 /* several of them within it are one: a group's, and what its monitor passes on */

struct session {
    struct settings *settings;
    struct daemon *daemon;
    struct handover handover;
    struct claim claim;
    struct rooms rooms;
    struct fs *fs;
    struct service service;
    struct control *control;
    pthread_t signals;
    bool signals_running;
    int64_t stopped_ms;          /* the thread of signals' own: when the first one came */
    atomic_bool stopping;        /* by a signal */
    atomic_bool yielding;        /* to a new mount */
    atomic_bool unmounted;       /* what is left to do is to send */
    atomic_bool over;            /* SIGUSR1 ends the thread of signals */
    _Atomic(struct fs *) served; /* once there is something to stop */
    struct waiter waiter;        /* of the first contact, and of the sending when there is a time for it */
    struct waiter lingering;     /* of the sending that takes as long as it takes */
};

/* ---- What it is asked (service.h). ---- */

static struct session *session_of(struct service *service)
{
    return container_of(service, struct session, service);
}

static bool is_mounted(struct service *service)
{
    return !atomic_load(&session_of(service)->unmounted);
}

static void report(struct service *service, struct json *object)
{
    struct session *session = session_of(service);
    json_set_integer(object, "monitor", daemon_monitor(session->daemon));
    fs_report(session->fs, object);
}

/* NULL: nothing is on its way. */
static struct json *describe_lingering(struct session *session)
{
    struct unsent unsent;
    unsent_init(&unsent, "");
    cache_unsent(session->rooms.cache, unsent_add, &unsent);
    struct json *object = NULL;
    if (unsent.files > unsent.lasting) {
        object = json_object_new();
        json_set_bool(object, "lingering", true);
        unsent_print(&unsent, object);
    }
    unsent_release(&unsent);
    return object;
}

static struct json *answer_umount(struct service *service)
{
    struct session *session = session_of(service);
    struct json *answer = is_mounted(service) ? NULL : describe_lingering(session);
    if (!answer)
        answer = json_object_new();
    json_set_integer(answer, "stop_timeout_ms", session->settings->stop_timeout);
    return answer;
}

static bool yield(struct service *service)
{
    struct session *session = session_of(service);
    if (is_mounted(service))
        return false;
    atomic_store(&session->yielding, true);
    waiter_interrupt(&session->lingering);
    waiter_interrupt(&session->waiter);
    return true;
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

/* The first signal ends the mount, or the first contact, and gives the sending a time; the second ends the sending. What blocks
 * before there is a mount (a name that is looked up) holds nothing that could be lost: there the second one ends the process. */
static void stop_by_signal(struct session *session, int number)
{
    bool again = atomic_exchange(&session->stopping, true);
    struct fs *fs = atomic_load(&session->served);
    if (again && clock_ms() < session->stopped_ms + SAME_SIGNAL_MS)
        return;
    if (!again)
        session->stopped_ms = clock_ms();
    log_info("signal %s: stopping", strsignal(number));
    if (!fs && again)
        _exit(1);
    if (fs && !again) {
        waiter_interrupt(&session->lingering);
        fs_stop(fs);
    } else {
        waiter_interrupt(&session->waiter);
    }
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

/* The handler is gone when it runs: what killed us does it once more, by itself or by this. */
static void die(int number)
{
    cache_dying();
    raise(number);
}

/* Sanitizers have handlers of their own, which tell more. */
static void note_deaths(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    static const int deaths[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGFPE};
    struct sigaction action = {.sa_handler = die, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < sizeof deaths / sizeof deaths[0]; i++)
        sigaction(deaths[i], &action, NULL);
#else
    (void)die;
#endif
}

/* Before any other thread, so that all of them leave the signals to this one. */
static int start_signals(struct session *session)
{
    sigset_t set;
    fill_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    note_deaths();
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

/* Also what a remount said to a daemon that has died since. */
static bool find_read_only(const struct session *session)
{
    struct place_mount dead = {0};
    bool was = session->daemon->again && place_find(session->settings->mount_point, &dead) == 0 &&
               dead.found && dead.read_only;
    place_mount_release(&dead);
    return was || session->settings->read_only;
}

/* Where the mount is, the socket is: whoever sees the one can reach the other. */
static int mount_now(struct session *session, struct buf *why)
{
    const struct settings *settings = session->settings;
    struct control_config controlling;
    bool read_only = find_read_only(session);
    struct fs_config mounting = {
        .mount_point = settings->mount_point,
        .source = settings->source,
        .read_only = read_only,
        .no_exec = settings->no_exec,
        .allow_other = settings->allow_other,
        .allow_root = settings->allow_root,
        .immutable = settings->immutable,
        .threads = (uint32_t)settings->threads,
        .debug = settings->debug_fuse,
    };
    atomic_store(&session->service.read_only, read_only);
    service_configure(&session->service, session->claim.socket_path, &controlling);
    int rc = control_new(&controlling, &session->control, why);
    if (rc == 0 && session->daemon->again)
        rc = place_clear_dead(settings->mount_point, why);
    if (rc == 0)
        rc = place_check_free(settings->mount_point, why);
    if (rc == 0 && atomic_load(&session->stopping)) {
        buf_add_string(why, "stopped by a signal before anything was mounted");
        rc = -EINTR;
    }
    return rc < 0 ? rc : fs_new(&mounting, &session->fs, why);
}

static int build_rooms(struct session *session, struct buf *why)
{
    struct rooms *rooms = &session->rooms;
    int rc = rooms_open_store(rooms, why);
    if (rc == 0)
        rc = rooms_prove_access(rooms, &session->waiter, why);
    if (rc == 0)
        rc = handover_home(&session->handover, rooms, why);
    if (rc == 0)
        rc = mount_now(session, why);
    if (rc < 0)
        return rc;
    struct cache_notify notify = fs_notify(session->fs);
    rc = rooms_open_cache(rooms, &notify, why);
    if (rc < 0)
        return rc;
    fs_attach(session->fs, rooms->cache);
    return control_serve(session->control);
}

static void say_ready(void *context)
{
    struct session *session = context;
    const struct settings *settings = session->settings;
    log_info("%s is mounted at %s", settings->source, settings->mount_point);
    BUF_SCOPED words = BUF_INIT;
    for (const char *line = session->rooms.warnings.bytes; *line;) {
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

static void log_unsent(void *context, const struct cache_unsent *unsent)
{
    (void)context;
    log_error("unsent: %s (%llu bytes) is kept in %s: %s", unsent->key, (unsigned long long)unsent->bytes,
              unsent->local, unsent->why);
}

/* False when nothing is on its way: what is left waits for somebody to do something about it. */
static bool begin_to_linger(struct session *session)
{
    struct json *line = describe_lingering(session);
    if (!line)
        return false;
    struct cache_backlog backlog;
    cache_backlog(session->rooms.cache, &backlog);
    log_info("%s is unmounted; %llu files (%llu bytes) are still being uploaded",
             session->settings->mount_point, (unsigned long long)backlog.files,
             (unsigned long long)backlog.bytes);
    control_tell(session->control, line);
    json_free(line);
    return true;
}

/* As long as it takes; once a signal has come, as long as stop_timeout allows; until a new mount takes over. Files left. */
static size_t send_rest(struct session *session)
{
    struct cache *cache = session->rooms.cache;
    size_t left = 0;
    int rc = cache_drain(cache, &session->lingering, clock_ms() + GRACE_MS, &left);
    if (rc == -ETIMEDOUT && begin_to_linger(session))
        rc = cache_drain(cache, &session->lingering, CLOCK_NEVER, &left);
    if (rc == -EINTR && !atomic_load(&session->yielding))
        cache_drain(cache, &session->waiter, clock_ms() + session->settings->stop_timeout, &left);
    return left;
}

static void log_rest(struct session *session, size_t left)
{
    if (atomic_load(&session->yielding)) {
        log_info("a new mount takes over: %zu files in %s are left to it", left, session->rooms.home.path);
    } else if (left) {
        log_error("%zu files could not be sent and stay in %s: the next mount goes on", left,
                  session->rooms.home.path);
        cache_unsent(session->rooms.cache, log_unsent, NULL);
    }
}

/* Sends what is unsent and says the last words. The exit status. */
static int finish(struct session *session)
{
    atomic_store(&session->unmounted, true);
    size_t left = send_rest(session);
    log_rest(session, left);
    struct json *last = json_object_new();
    json_set_bool(last, "ended", true);
    json_set_bool(last, "yielded", atomic_load(&session->yielding));
    json_set_string(last, "kept_in", left ? session->rooms.home.path : NULL);
    unsent_report(session->rooms.cache, "", last);
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
    rooms_close(&session->rooms);
    claim_release(&session->claim);
    control_free(session->control);
    handover_release(&session->handover);
    waiter_release(&session->waiter);
    waiter_release(&session->lingering);
}

static int start(struct session *session, struct buf *why)
{
    int rc = logging_open(session->settings, why);
    if (rc == 0)
        rc = start_signals(session);
    if (rc == 0)
        rc = handover_claim(&session->handover, session->settings->mount_point, &session->claim, why);
    if (rc == 0)
        rc = build_rooms(session, why);
    if (rc < 0)
        handover_tell_stopped(&session->handover, why);
    return rc;
}

/* Whoever comes first, a signal or this, sees the other. */
static void let_signals_stop(struct session *session)
{
    atomic_store(&session->served, session->fs);
    if (atomic_load(&session->stopping)) {
        waiter_interrupt(&session->lingering);
        fs_stop(session->fs);
    }
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
    struct session session = {
        .settings = settings, .daemon = daemon, .handover = HANDOVER_NONE, .claim = CLAIM_NONE};
    session.service = (struct service){.rooms = &session.rooms,
                                       .started_ns = clock_wall_ns(),
                                       .mounted = is_mounted,
                                       .report = report,
                                       .yield = yield,
                                       .umount = answer_umount};
    rooms_init(&session.rooms, settings);
    waiter_init(&session.waiter);
    waiter_init(&session.lingering);
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
