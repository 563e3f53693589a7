/* names: what a program pays for names alone: one kind of call on many of them, as fast as the calls return.
 *
 *      names [-n COUNT] [-w WORKERS] STEP DIR        STEP: create, lookup, open, unlink, or list
 *
 * The names are 000000, 000001, ... in DIR. create: O_EXCL, closed at once, empty; lookup: stat of a name (forget those that the
 * kernel knows before, or it answers); open: for reading, closed at once; list: readdir of all, by one worker, without -n.
 * Workers are threads of one process. One line of JSON: start and end are CLOCK_MONOTONIC, count is what was done or listed,
 * p50_us and p99_us are of one call (open and close together).
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define WORKERS_MAX 256

struct job {
    /* Set at birth. */
    const struct step *step;
    int directory;
    size_t count, workers;
    float *took_us; /* of each name */

    atomic_size_t next;
};

struct step {
    const char *name;
    int (*call)(int directory, const char *name); /* of one name: 0, or -1 and errno */
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what, const char *name)
{
    fprintf(stderr, "names: %s of %s: %s\n", what, name, strerror(errno));
    exit(1);
}

static int open_and_close(int directory, const char *name, int flags)
{
    int fd = openat(directory, name, flags | O_CLOEXEC, 0644);
    return fd < 0 ? -1 : close(fd);
}

static int create(int directory, const char *name)
{
    return open_and_close(directory, name, O_WRONLY | O_CREAT | O_EXCL);
}

static int look_up(int directory, const char *name)
{
    struct stat facts;
    return fstatat(directory, name, &facts, AT_SYMLINK_NOFOLLOW);
}

static int open_to_read(int directory, const char *name)
{
    return open_and_close(directory, name, O_RDONLY);
}

static int unlink_it(int directory, const char *name)
{
    return unlinkat(directory, name, 0);
}

static const struct step steps[] = {
    {"create", create}, {"lookup", look_up}, {"open", open_to_read}, {"unlink", unlink_it}, {"list", NULL}};

static const struct step *find_step(const char *name)
{
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (strcmp(steps[i].name, name) == 0)
            return &steps[i];
    return NULL;
}

static void *work_on(void *context)
{
    struct job *job = context;
    char name[32];
    size_t index;

    while ((index = atomic_fetch_add(&job->next, 1)) < job->count) {
        snprintf(name, sizeof name, "%06zu", index);
        int64_t begun = now_ns();
        if (job->step->call(job->directory, name) < 0)
            fail(job->step->name, name);
        job->took_us[index] = (float)(now_ns() - begun) / 1e3f;
    }
    return NULL;
}

static void call_all(struct job *job)
{
    pthread_t threads[WORKERS_MAX];

    for (size_t i = 0; i < job->workers; i++)
        if (pthread_create(&threads[i], NULL, work_on, job) != 0)
            fail("pthread_create", job->step->name);
    for (size_t i = 0; i < job->workers; i++)
        pthread_join(threads[i], NULL);
}

static size_t list_all(int directory)
{
    DIR *stream = fdopendir(dup(directory));
    size_t count = 0;

    if (!stream)
        fail("opendir", "the directory");
    errno = 0;
    for (const struct dirent *entry; (entry = readdir(stream));)
        count += entry->d_name[0] != '.';
    if (errno)
        fail("readdir", "the directory");
    closedir(stream);
    return count;
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void run(struct job *job)
{
    int64_t start = now_ns();
    if (job->step->call)
        call_all(job);
    else
        job->count = list_all(job->directory);
    double end = (double)now_ns() / 1e9;
    printf("{\"start\": %.6f, \"end\": %.6f, \"count\": %zu", (double)start / 1e9, end, job->count);
    if (job->step->call) {
        qsort(job->took_us, job->count, sizeof job->took_us[0], compare);
        printf(", \"p50_us\": %.1f, \"p99_us\": %.1f", (double)job->took_us[job->count / 2],
               (double)job->took_us[job->count - 1 - job->count / 100]);
    }
    printf("}\n");
}

int main(int count, char **words)
{
    struct job job = {.count = 1, .workers = 1};
    for (int option; (option = getopt(count, words, "n:w:")) != -1;)
        *(option == 'n' ? &job.count : &job.workers) = option == '?' ? 0 : strtoull(optarg, NULL, 10);
    job.step = count - optind == 2 ? find_step(words[optind]) : NULL;
    if (!job.step || !job.count || !job.workers || job.workers > WORKERS_MAX) {
        fprintf(stderr, "usage: names [-n COUNT] [-w WORKERS] create|lookup|open|unlink|list DIR\n");
        return 2;
    }
    job.directory = open(words[optind + 1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    job.took_us = calloc(job.count, sizeof job.took_us[0]);
    if (job.directory < 0 || !job.took_us)
        fail("open", words[optind + 1]);
    run(&job);
    free(job.took_us);
    return 0;
}
