#include "mount/cold.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "mount/mute_store.h"

#define CLAIM_MS 2000 /* for one who has let the home go and not yet its claim */

/* The process's own, as signals are. */
static atomic_bool interrupted;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *waiting; /* under mutex: of the one that is open; NULL: none */

static void fill_signals(sigset_t *set)
{
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
}

/* Until the end of the process, which ends with the command. */
static void *wait_for_signals(void *context)
{
    sigset_t set;
    int number;
    (void)context;
    fill_signals(&set);
    while (sigwait(&set, &number) == 0) {
        if (atomic_exchange(&interrupted, true))
            _exit(1);
        pthread_mutex_lock(&mutex);
        if (waiting)
            waiter_interrupt(waiting);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

/* Before the rooms' threads, so that all of them leave the signals to this one. */
static void start_signals(void)
{
    sigset_t set;
    pthread_t thread;
    fill_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, wait_for_signals, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void watch_signals(struct waiter *waiter)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_signals);
    pthread_mutex_lock(&mutex);
    waiting = waiter;
    if (waiter && cold_interrupted())
        waiter_interrupt(waiter);
    pthread_mutex_unlock(&mutex);
}

bool cold_interrupted(void)
{
    return atomic_load(&interrupted);
}

/* ---- Who else wants it. ---- */

static bool is_mounted(struct service *service)
{
    (void)service;
    return false;
}

static bool yield(struct service *service)
{
    struct cold *cold = container_of(service, struct cold, service);
    atomic_store(&cold->yielded, true);
    waiter_interrupt(&cold->waiter);
    return true;
}

/* Where that cannot be had it goes on without: what is unsent matters more than who else may ask. */
static void open_door(struct cold *cold)
{
    STRING_SCOPED *door = home_door(cold->rooms.home.path);
    struct control_config config;
    BUF_SCOPED why = BUF_INIT;
    cold->service = (struct service){
        .rooms = &cold->rooms, .started_ns = clock_wall_ns(), .mounted = is_mounted, .yield = yield};
    if (claim_take(door, CLAIM_MS, &cold->claim, &why) == 0) {
        service_configure(&cold->service, cold->claim.socket_path, &config);
        control_new(&config, &cold->control, &why);
    }
    if (!cold->control)
        log_warn("nobody can ask this flush how far it is: %s", why.bytes);
}

/* ---- Its life. ---- */

int cold_open(const char *cache_dir, enum cold_kind kind, struct cold *cold, struct buf *why)
{
    *cold = (struct cold){.claim = CLAIM_NONE};
    waiter_init(&cold->waiter);
    rooms_init(&cold->rooms, &cold->settings);
    int rc = home_recall(cache_dir, &cold->settings, why);
    if (rc < 0)
        return rc;
    log_set_level(LOG_LEVEL_ERROR); /* what is parked is named by the command */
    cold->settings.read_only = false;
    watch_signals(&cold->waiter);
    rc = rooms_open_store(&cold->rooms, why);
    if (rc == 0 && kind == COLD_SENDS)
        rc = rooms_prove_access(&cold->rooms, &cold->waiter, why);
    if (rc == 0 && kind == COLD_MUTE)
        cold->rooms.store = mute_store_new(&cold->rooms.store);
    if (rc == 0)
        rc = rooms_open_home(&cold->rooms, why);
    if (rc == 0 && kind == COLD_SENDS)
        open_door(cold);
    if (rc == 0)
        rc = rooms_open_cache(&cold->rooms, NULL, why);
    return rc == 0 && cold->control ? control_serve(cold->control) : rc;
}

/* As the end of a mount: the claim goes after the home, the connections of those who wait last of all. */
void cold_close(struct cold *cold)
{
    watch_signals(NULL);
    control_finish(cold->control, NULL);
    rooms_close(&cold->rooms);
    claim_release(&cold->claim);
    control_free(cold->control);
    settings_release(&cold->settings);
    waiter_release(&cold->waiter);
}
