/* write_files: creates, writes and closes files with some writers, and says when: what a program sees of a filesystem.
 *
 *      write_files [-n FILES] [-w WRITERS] [-s BYTES] [-b BLOCK] SOURCE DIR
 *
 * Writers are threads of one process. The bytes are those of SOURCE, mapped and touched before the clock starts, so that reading
 * costs nothing; file I begins I * BYTES into it, around. One line of JSON: times are CLOCK_MONOTONIC (Python's
 * time.monotonic), create, write and close are sums over all writers, in seconds. `buffered`: the kernel kept pages of what
 * was written, so the filesystem did not ask for direct I/O (null: an old kernel does not say).
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WRITERS_MAX 256

enum step { CREATE, WRITE, CLOSE, STEPS };

struct job {
    /* Set at birth. */
    const char *source;
    size_t source_size;
    int directory;
    size_t files, writers, size, block;
    float *took_ms; /* of each file */

    atomic_size_t next;
    atomic_int buffered; /* of the last file that was looked at: -1 not known */
};

struct writer {
    struct job *job;
    pthread_t thread;
    int64_t ns[STEPS];
};

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void fail(const char *what, size_t index)
{
    fprintf(stderr, "write_files: %s of file %zu: %s\n", what, index, strerror(errno));
    exit(1);
}

/* Pages of it in the kernel, without opening it again: an open may drop them. */
static int look_for_pages(int fd)
{
#ifndef SYS_cachestat
#define SYS_cachestat 451
#endif
    struct {
        uint64_t offset, length;
    } range = {0, 0};
    struct {
        uint64_t cached, dirty, writeback, evicted, recently_evicted;
    } found = {0};
    return syscall(SYS_cachestat, fd, &range, &found, 0) == 0 ? found.cached > 0 : -1;
}

static void write_all(const struct job *job, int fd, size_t index)
{
    size_t from = index * job->size % job->source_size;
    for (size_t done = 0; done < job->size;) {
        size_t at = (from + done) % job->source_size, length = job->block;
        if (length > job->size - done)
            length = job->size - done;
        if (length > job->source_size - at)
            length = job->source_size - at;
        ssize_t rc = write(fd, job->source + at, length);
        if (rc <= 0)
            fail("write", index);
        done += (size_t)rc;
    }
}

static void make_file(struct writer *writer, size_t index)
{
    struct job *job = writer->job;
    char name[32];
    snprintf(name, sizeof name, "%06zu", index);
    int64_t begun = now_ns();
    int fd = openat(job->directory, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0)
        fail("create", index);
    int64_t created = now_ns();
    write_all(job, fd, index);
    int64_t written = now_ns();
    if (index + 1 == job->files)
        atomic_store(&job->buffered, look_for_pages(fd));
    if (close(fd) < 0)
        fail("close", index);
    int64_t closed = now_ns();
    writer->ns[CREATE] += created - begun;
    writer->ns[WRITE] += written - created;
    writer->ns[CLOSE] += closed - written;
    job->took_ms[index] = (float)(closed - begun) / 1e6f;
}

static void *write_on(void *context)
{
    struct writer *writer = context;
    size_t index;
    while ((index = atomic_fetch_add(&writer->job->next, 1)) < writer->job->files)
        make_file(writer, index);
    return NULL;
}

static void map_source(struct job *job, const char *path)
{
    struct stat facts;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &facts) < 0 || facts.st_size == 0) {
        fprintf(stderr, "write_files: %s cannot be read, or is empty\n", path);
        exit(1);
    }
    job->source_size = (size_t)facts.st_size;
    job->source = mmap(NULL, job->source_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
    close(fd);
    if (job->source == MAP_FAILED) {
        fprintf(stderr, "write_files: mmap of %s: %s\n", path, strerror(errno));
        exit(1);
    }
}

static int compare(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static void print_report(struct job *job, const struct writer *writers, int64_t start, int64_t end)
{
    static const char *const buffered[] = {"null", "false", "true"};
    int64_t ns[STEPS] = {0};
    for (size_t i = 0; i < job->writers; i++)
        for (int step = 0; step < STEPS; step++)
            ns[step] += writers[i].ns[step];
    qsort(job->took_ms, job->files, sizeof job->took_ms[0], compare);
    printf("{\"start\": %.6f, \"end\": %.6f, \"create_s\": %.4f, \"write_s\": %.4f, \"close_s\": %.4f, "
           "\"p50_ms\": %.3f, \"p99_ms\": %.3f, \"buffered\": %s}\n",
           (double)start / 1e9, (double)end / 1e9, (double)ns[CREATE] / 1e9, (double)ns[WRITE] / 1e9,
           (double)ns[CLOSE] / 1e9, (double)job->took_ms[job->files / 2],
           (double)job->took_ms[job->files - 1 - job->files / 100],
           buffered[atomic_load(&job->buffered) + 1]);
}

static void run(struct job *job)
{
    struct writer writers[WRITERS_MAX] = {0};
    int64_t start = now_ns();
    for (size_t i = 0; i < job->writers; i++) {
        writers[i].job = job;
        if (pthread_create(&writers[i].thread, NULL, write_on, &writers[i]) != 0)
            fail("pthread_create", i);
    }
    for (size_t i = 0; i < job->writers; i++)
        pthread_join(writers[i].thread, NULL);
    print_report(job, writers, start, now_ns());
}

int main(int count, char **words)
{
    struct job job = {.files = 1, .writers = 1, .size = 4096, .block = 1 << 20, .buffered = -1};
    for (int option; (option = getopt(count, words, "n:w:s:b:")) != -1;) {
        size_t number = option == '?' ? 0 : strtoull(optarg, NULL, 10);
        *(option == 'n'   ? &job.files
          : option == 'w' ? &job.writers
          : option == 's' ? &job.size
                          : &job.block) = number;
    }
    if (count - optind != 2 || !job.files || !job.writers || job.writers > WRITERS_MAX || !job.block) {
        fprintf(stderr, "usage: write_files [-n FILES] [-w WRITERS] [-s BYTES] [-b BLOCK] SOURCE DIR\n");
        return 2;
    }
    map_source(&job, words[optind]);
    job.directory = open(words[optind + 1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    job.took_ms = calloc(job.files, sizeof job.took_ms[0]);
    if (job.directory < 0 || !job.took_ms) {
        fprintf(stderr, "write_files: %s: %s\n", words[optind + 1], strerror(errno));
        return 1;
    }
    run(&job);
    free(job.took_ms);
    return 0;
}
