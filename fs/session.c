#include "fs/session.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "base/signals.h"

#define THREADS_DEFAULT        4
#define READ_AHEAD_KIB_DEFAULT 4096
#define KICK_MS                20

struct compat *compat_of(void *userdata)
{
    return &((struct fs *)userdata)->compat;
}

bool session_leaves_open(const struct fs *fs)
{
    return fs->immutable && compat_opens(&fs->compat);
}

bool session_leaves_opendir(const struct fs *fs)
{
    return fs->immutable && compat_opens_directories(&fs->compat);
}

/* ---- Birth. ---- */

static void __attribute__((format(printf, 2, 0)))
forward_log(enum fuse_log_level level, const char *format, va_list list)
{
    BUF_SCOPED line = BUF_INIT;
    buf_vprintf(&line, format, list);
    while (line.length > 0 && line.bytes[line.length - 1] == '\n')
        line.bytes[--line.length] = '\0';
    enum log_level ours = level <= FUSE_LOG_ERR       ? LOG_LEVEL_ERROR
                          : level == FUSE_LOG_WARNING ? LOG_LEVEL_WARN
                          : level <= FUSE_LOG_INFO    ? LOG_LEVEL_INFO
                                                      : LOG_LEVEL_DEBUG;
    log_line(ours, "%s", line.bytes);
}

static struct fuse_session *new_fuse_session(const struct fs_config *config, struct fs *fs)
{
    struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
    struct fuse_session *session = NULL;
    fuse_set_log_func(forward_log);
    if (fuse_opt_add_arg(&args, "skyvol") == 0 &&
        (!config->allow_root || fuse_opt_add_arg(&args, "-oallow_root") == 0) &&
        (!config->debug || fuse_opt_add_arg(&args, "-odebug") == 0))
        session = fuse_session_new(&args, &session_operations, sizeof session_operations, fs);
    fuse_opt_free_args(&args);
    return session;
}

static void hear_answer(void *context)
{
    struct fs *fs = context;
    LOCK_SCOPED(&fs->lock);
    fs->answered = true;
    gate_open(&fs->changed);
}

int session_new(const struct fs_config *config, int fd, struct mountpoint **mountpoint, struct fs **ret_fs)
{
    struct fs *fs = xcalloc(1, sizeof *fs);
    fs->thread_count = config->threads ? config->threads : THREADS_DEFAULT;
    if (fs->thread_count > FS_THREADS_MAX)
        fs->thread_count = FS_THREADS_MAX;
    fs->read_ahead_kib = config->read_ahead_kib ? config->read_ahead_kib : READ_AHEAD_KIB_DEFAULT;
    fs->immutable = config->immutable && config->read_only;
    fs->mountpoint = *mountpoint;
    *mountpoint = NULL;
    lock_init(&fs->lock, LOCK_LEAF, "fs");
    gate_init(&fs->changed);
    nodes_init(&fs->nodes);
    files_init(&fs->files);
    implied_init(&fs->implied);
    fs->invalidator = invalidator_new(fs);
    fs->compat.answered = hear_answer;
    fs->compat.context = fs;
    int rc = requests_init(&fs->requests, fs);
    fs->session = new_fuse_session(config, fs);
    if (rc == 0)
        rc = fs->session ? compat_attach(fs->session, fd) : -ENOMEM;
    if (rc < 0) {
        close(fd); /* libfuse did not take it */
        fs_free(fs);
        return rc;
    }
    *ret_fs = fs;
    return 0;
}

int fs_new(const struct fs_config *config, struct fs **ret_fs, struct buf *why)
{
    struct mountpoint *mountpoint = NULL;
    int fd;
    int rc = mountpoint_mount(config, &mountpoint, &fd, why);
    if (rc < 0)
        return rc;
    rc = session_new(config, fd, &mountpoint, ret_fs);
    if (rc < 0)
        buf_printf(why, "libfuse refused the session: %s", err_text(rc));
    return rc;
}

static void notify_inode(void *context, uint64_t id)
{
    invalidator_inode(((struct fs *)context)->invalidator, id);
}

static void notify_name(void *context, uint64_t parent_id, const char *name)
{
    invalidator_name(((struct fs *)context)->invalidator, parent_id, name);
}

struct cache_notify fs_notify(struct fs *fs)
{
    return (struct cache_notify){.inode_changed = notify_inode, .name_changed = notify_name, .context = fs};
}

void fs_attach(struct fs *fs, struct cache *cache)
{
    assert(!fs->cache);
    fs->cache = fs->implied.cache = cache;
    struct inode *root = cache_root(cache);
    nodes_set_root(&fs->nodes, &root);
}

/* ---- Threads. ---- */

static void ignore_kick(int number)
{
    (void)number;
}

/* Ends a read of /dev/fuse with EINTR, nothing else: no SA_RESTART. */
static int kick_signal(void)
{
    return SIGRTMIN + 4;
}

static void install_kick(void)
{
    struct sigaction action = {.sa_handler = ignore_kick};
    sigemptyset(&action.sa_mask);
    sigaction(kick_signal(), &action, NULL);
}

/* Signals are for others, but for the kick. */
static void mask_signals(void)
{
    sigset_t set;
    signals_of_others(&set);
    sigdelset(&set, kick_signal());
    pthread_sigmask(SIG_SETMASK, &set, NULL);
}

static void *run_thread(void *context)
{
    struct fs *fs = context;
    struct fuse_buf buffer = {0};
    int rc = 0;
    pthread_setname_np(pthread_self(), "fs");
    mask_signals();
    while (!fuse_session_exited(fs->session)) {
        rc = fuse_session_receive_buf(fs->session, &buffer);
        if (rc == -EINTR || rc == -EAGAIN)
            continue;
        if (rc <= 0)
            break;
        fuse_session_process_buf(fs->session, &buffer);
        requests_interrupted();
    }
    free(buffer.mem);
    LOCK_SCOPED(&fs->lock);
    if (rc < 0 && rc != -EINTR && rc != -EAGAIN && fs->broken == 0)
        fs->broken = rc;
    fs->running--;
    gate_open(&fs->changed);
    return NULL;
}

static uint32_t start_threads(struct fs *fs, pthread_t *threads)
{
    install_kick();
    uint32_t count = 0;
    for (; count < fs->thread_count; count++) {
        lock_take(&fs->lock);
        fs->running++;
        lock_drop(&fs->lock);
        int rc = pthread_create(&threads[count], NULL, run_thread, fs);
        if (rc == 0)
            continue;
        lock_take(&fs->lock);
        fs->running--;
        lock_drop(&fs->lock);
        log_error("thread %u of %u: %s", count + 1, fs->thread_count, err_name(rc));
        break;
    }
    return count;
}

/* Threads that sleep in a read are kicked until they are gone: one kick may come just before the read begins. */
static void end_threads(struct fs *fs, pthread_t *threads, uint32_t count)
{
    WAITER_SCOPED(waiter);
    fuse_session_exit(fs->session);
    lock_take(&fs->lock);
    while (fs->running > 0) {
        for (uint32_t i = 0; i < count; i++)
            pthread_kill(threads[i],
                         kick_signal()); /* not joined yet: the id is good, also of an ended one */
        gate_wait_locked(&fs->changed, &fs->lock, &waiter, clock_ms() + KICK_MS);
    }
    lock_drop(&fs->lock);
    for (uint32_t i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
}

/* ---- Running. ---- */

static bool ended_locked(struct fs *fs)
{
    return fs->stop_asked || fs->running < fs->thread_count || fuse_session_exited(fs->session);
}

/* True: INIT has been answered. False: it is over before it began. */
static bool await_answer(struct fs *fs)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&fs->lock);
    while (!fs->answered && !ended_locked(fs))
        gate_wait_locked(&fs->changed, &fs->lock, &waiter, CLOCK_NEVER);
    return fs->answered;
}

static void await_end(struct fs *fs)
{
    WAITER_SCOPED(waiter);
    LOCK_SCOPED(&fs->lock);
    while (!ended_locked(fs))
        gate_wait_locked(&fs->changed, &fs->lock, &waiter, CLOCK_NEVER);
}

static void raise_read_ahead(struct fs *fs)
{
    if (!fs->mountpoint)
        return;
    uint32_t now = bdi_set_read_ahead(mountpoint_device(fs->mountpoint), fs->read_ahead_kib);
    LOCK_SCOPED(&fs->lock);
    fs->read_ahead_now_kib = now;
}

/* The connection ends here; the kernel answers all that comes later with ENOTCONN. Whatever is mounted there after that is
 * somebody else's. */
static void disconnect(struct fs *fs)
{
    if (fs->mountpoint)
        mountpoint_unmount(fs->mountpoint);
    mountpoint_free(fs->mountpoint);
    fs->mountpoint = NULL;
    if (fs->session)
        fuse_session_destroy(fs->session);
    fs->session = NULL;
}

int fs_run(struct fs *fs, void (*ready)(void *context), void *context)
{
    assert(fs->cache && fs->session);
    pthread_t threads[FS_THREADS_MAX];
    int rc = invalidator_start(fs->invalidator);
    uint32_t count = rc == 0 ? start_threads(fs, threads) : 0;
    if (rc == 0 && count < fs->thread_count)
        rc = -EAGAIN;
    if (rc == 0 && await_answer(fs)) {
        raise_read_ahead(fs);
        if (ready)
            ready(context);
        await_end(fs);
    }
    /* The order matters: the kernel may hold a notification until a request is answered, and that needs our threads. */
    requests_close(&fs->requests);
    requests_drain(&fs->requests);
    invalidator_stop(fs->invalidator);
    end_threads(fs, threads, count);
    disconnect(fs);
    implied_end_all(&fs->implied);
    files_close_all(&fs->files, fs->cache); /* a last close publishes, or deletes what was unlinked */
    LOCK_SCOPED(&fs->lock);
    return rc < 0 ? rc : fs->stop_asked ? 0 : fs->broken;
}

void fs_stop(struct fs *fs)
{
    LOCK_SCOPED(&fs->lock);
    fs->stop_asked = true;
    gate_open(&fs->changed);
}

void fs_free(struct fs *fs)
{
    if (!fs)
        return;
    disconnect(fs);
    requests_release(&fs->requests);
    files_release(&fs->files);
    implied_release(&fs->implied);
    nodes_release(&fs->nodes);
    invalidator_free(fs->invalidator);
    gate_release(&fs->changed);
    lock_release(&fs->lock);
    free(fs);
}

static void report_requests(struct fs *fs, struct json *object)
{
    struct requests *requests = &fs->requests;
    struct json *report = json_object_new();
    lock_take(&requests->lock);
    json_set_integer(report, "waiting", (int64_t)requests->count);
    json_set_integer(report, "waiting_bytes", (int64_t)requests->bytes);
    lock_drop(&requests->lock);
    json_set_integer(report, "queued", (int64_t)atomic_load(&requests->queued));
    json_set_integer(report, "asynchronous", (int64_t)atomic_load(&requests->async));
    json_set_integer(report, "interrupted", (int64_t)atomic_load(&requests->interrupted));
    json_set_integer(report, "refused", (int64_t)atomic_load(&requests->refused));
    json_set(object, "requests", &report);
}

void fs_report(struct fs *fs, struct json *object)
{
    struct json *kernel = json_object_new();
    compat_report(&fs->compat, kernel);
    lock_take(&fs->lock);
    json_set_integer(kernel, "read_ahead_kib", fs->read_ahead_now_kib);
    lock_drop(&fs->lock);
    json_set(object, "kernel", &kernel);
    struct json *notes = json_object_new();
    invalidator_report(fs->invalidator, notes);
    json_set(object, "invalidations", &notes);
    report_requests(fs, object);
    json_set_integer(object, "nodes", (int64_t)nodes_count(&fs->nodes));
    json_set_integer(object, "open", (int64_t)files_count(&fs->files));
    json_set_integer(object, "implied", (int64_t)implied_count(&fs->implied));
}
