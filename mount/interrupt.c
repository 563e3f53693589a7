#include "mount/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stddef.h>
#include <unistd.h>

/* The process's own, as signals are. */
static atomic_bool seen;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct waiter *waiting; /* under mutex; NULL: none */

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
        if (atomic_exchange(&seen, true))
            _exit(1);
        pthread_mutex_lock(&mutex);
        if (waiting)
            waiter_interrupt(waiting);
        pthread_mutex_unlock(&mutex);
    }
    return NULL;
}

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

void interrupt_watch(struct waiter *waiter)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_signals);
    pthread_mutex_lock(&mutex);
    waiting = waiter;
    if (waiter && interrupt_seen())
        waiter_interrupt(waiter);
    pthread_mutex_unlock(&mutex);
}

bool interrupt_seen(void)
{
    return atomic_load(&seen);
}
