#include "mount/cold.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#include "base/log.h"
#include "mount/mute_store.h"

/* The process's own, as signals are. */
static atomic_bool interrupted;
static struct waiter waiter;

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
        waiter_interrupt(&waiter);
    }
    return NULL;
}

/* Before the rooms' threads, so that all of them leave the signals to this one. */
static void watch_signals(void)
{
    sigset_t set;
    pthread_t thread;
    waiter_init(&waiter);
    fill_signals(&set);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (pthread_create(&thread, NULL, wait_for_signals, NULL) == 0)
        pthread_detach(thread);
    else
        pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

struct waiter *cold_waiter(void)
{
    return &waiter;
}

bool cold_interrupted(void)
{
    return atomic_load(&interrupted);
}

int cold_open(const char *cache_dir, enum cold_kind kind, struct cold *cold, struct buf *why)
{
    rooms_init(&cold->rooms, &cold->settings);
    int rc = home_recall(cache_dir, &cold->settings, why);
    if (rc < 0)
        return rc;
    log_set_level(LOG_LEVEL_ERROR); /* what is parked is named by the command */
    cold->settings.read_only = false;
    watch_signals();
    rc = rooms_open_store(&cold->rooms, why);
    if (rc == 0 && kind == COLD_SENDS)
        rc = rooms_prove_access(&cold->rooms, &waiter, why);
    if (rc == 0 && kind == COLD_MUTE)
        cold->rooms.store = mute_store_new(&cold->rooms.store);
    if (rc == 0)
        rc = rooms_open_home(&cold->rooms, why);
    return rc < 0 ? rc : rooms_open_cache(&cold->rooms, NULL, why);
}

void cold_close(struct cold *cold)
{
    rooms_close(&cold->rooms);
    settings_release(&cold->settings);
}
