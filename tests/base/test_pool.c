#include "base/pool.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

struct task {
    struct job job;
    int number;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
/* Under mutex: */
static int order[256], done, running, running_most;
static bool held_back; /* jobs wait until it falls */

static void run_task(struct job *job)
{
    struct task *task = container_of(job, struct task, job);
    pthread_mutex_lock(&mutex);
    running++;
    running_most = running > running_most ? running : running_most;
    pthread_cond_broadcast(&changed);
    while (held_back)
        pthread_cond_wait(&changed, &mutex);
    order[done++] = task->number;
    running--;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void set_held_back(bool held)
{
    pthread_mutex_lock(&mutex);
    held_back = held;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

static void wait_for_running(int count)
{
    pthread_mutex_lock(&mutex);
    while (running < count)
        pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

static struct task *make_tasks(int count)
{
    struct task *tasks = calloc((size_t)count, sizeof(*tasks));
    for (int i = 0; i < count; i++)
        tasks[i] = (struct task){.job = {.run = run_task}, .number = i};
    return tasks;
}

Test(pool, one_thread_runs_jobs_in_the_order_posted)
{
    struct pool *pool = pool_new("test", 1, 100);
    struct task *tasks = make_tasks(100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(pool_post(pool, &tasks[i].job), 0);
    pool_free(pool);
    cr_assert_eq(done, 100);
    for (int i = 0; i < 100; i++)
        cr_assert_eq(order[i], i);
    free(tasks);
}

Test(pool, never_more_than_its_threads_run_and_all_of_them_do)
{
    struct pool *pool = pool_new("test", 3, 100);
    struct task *tasks = make_tasks(50);
    set_held_back(true);
    for (int i = 0; i < 50; i++)
        cr_assert_eq(pool_post(pool, &tasks[i].job), 0);
    wait_for_running(3);
    set_held_back(false);
    pool_free(pool);
    cr_assert_eq(done, 50);
    cr_assert_eq(running_most, 3);
    free(tasks);
}

Test(pool, a_full_queue_refuses)
{
    struct pool *pool = pool_new("test", 2, 3);
    struct task *tasks = make_tasks(7);
    set_held_back(true);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(pool_post(pool, &tasks[i].job), 0, "2 run or will, 3 wait");
    cr_assert_eq(pool_post(pool, &tasks[5].job), -EAGAIN);
    wait_for_running(2);
    cr_assert_eq(pool_post(pool, &tasks[5].job), -EAGAIN);
    set_held_back(false);
    pool_free(pool);
    cr_assert_eq(done, 5);
    free(tasks);
}

Test(pool, a_withdrawn_job_does_not_run)
{
    struct pool *pool = pool_new("test", 1, 10);
    struct task *tasks = make_tasks(3);
    set_held_back(true);
    pool_post(pool, &tasks[0].job);
    wait_for_running(1);
    pool_post(pool, &tasks[1].job);
    pool_post(pool, &tasks[2].job);
    cr_assert(pool_withdraw(pool, &tasks[1].job));
    cr_assert_not(pool_withdraw(pool, &tasks[1].job));
    cr_assert_not(pool_withdraw(pool, &tasks[0].job), "it runs");
    set_held_back(false);
    pool_free(pool);
    cr_assert_eq(done, 2);
    cr_assert_eq(order[1], 2);
    free(tasks);
}

static atomic_int freed;

static void free_itself(struct job *job)
{
    free(container_of(job, struct task, job));
    atomic_fetch_add(&freed, 1);
}

Test(pool, a_job_may_free_itself)
{
    struct pool *pool = pool_new("test", 4, 1000);
    for (int i = 0; i < 500; i++) {
        struct task *task = calloc(1, sizeof(*task));
        task->job.run = free_itself;
        cr_assert_eq(pool_post(pool, &task->job), 0);
    }
    pool_free(pool);
    cr_assert_eq(freed, 500);
}

static sigset_t mask_seen;
static size_t stack_seen;

static void look_around(struct job *job)
{
    (void)job;
    pthread_sigmask(SIG_SETMASK, NULL, &mask_seen);
    pthread_attr_t attr;
    pthread_getattr_np(pthread_self(), &attr);
    pthread_attr_getstacksize(&attr, &stack_seen);
    pthread_attr_destroy(&attr);
}

Test(pool, threads_are_small_and_take_no_signals)
{
    struct pool *pool = pool_new("a name that is much too long", 1, 1);
    struct job job = {.run = look_around};
    pool_post(pool, &job);
    pool_free(pool);
    cr_assert(sigismember(&mask_seen, SIGTERM) && sigismember(&mask_seen, SIGINT));
    cr_assert_leq(stack_seen, (size_t)2 << 20);
    sigset_t ours;
    pthread_sigmask(SIG_SETMASK, NULL, &ours);
    cr_assert_not(sigismember(&ours, SIGTERM));
}

Test(pool, null_and_an_unused_one_are_freed)
{
    pool_free(NULL);
    pool_free(pool_new("test", 8, 8));
}
