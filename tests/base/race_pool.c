/* Several posters that also withdraw: each job is run or withdrawn or refused, exactly once. */
#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/pool.h"

#define POSTERS 4
#define STEPS   2000

static struct pool *pool;
static atomic_int ran, withdrawn, refused;

struct counted {
    struct job job;
    atomic_int ends; /* 1 at the end: it ran, was withdrawn or refused */
};

static void run_job(struct job *job)
{
    atomic_fetch_add(&ran, 1);
    atomic_fetch_add(&container_of(job, struct counted, job)->ends, 1);
}

static void *run_poster(void *argument)
{
    struct counted *all = argument;
    for (int i = 0; i < STEPS; i++) {
        all[i].job.run = run_job;
        if (pool_post(pool, &all[i].job) < 0) {
            atomic_fetch_add(&refused, 1);
            atomic_fetch_add(&all[i].ends, 1);
            usleep(20);
        } else if (i % 3 == 0 && pool_withdraw(pool, &all[i].job)) {
            atomic_fetch_add(&withdrawn, 1);
            atomic_fetch_add(&all[i].ends, 1);
        }
    }
    return NULL;
}

int main(void)
{
    for (int round = 0; round < 5; round++) {
        pthread_t posters[POSTERS];
        struct counted *all = calloc(POSTERS * STEPS, sizeof(*all));
        pool = pool_new("race", 3, 16);
        for (int i = 0; i < POSTERS; i++)
            pthread_create(&posters[i], NULL, run_poster, all + (size_t)i * STEPS);
        for (int i = 0; i < POSTERS; i++)
            pthread_join(posters[i], NULL);
        pool_free(pool);
        for (int i = 0; i < POSTERS * STEPS; i++)
            assert(all[i].ends == 1);
        free(all);
    }
    printf("%d ran, %d withdrawn, %d refused\n", ran, withdrawn, refused);
    return 0;
}
