/* replay: how fast a journal is read back: RECORDS records of FILES files, appended, then opened again.
 *
 *      replay DIRECTORY [RECORDS [FILES [BYTES]]]          BYTES of contents ride in each write (0: none)
 *
 * One line each: records/s appended, records/s replayed (twice the file is read: looked at, then applied), and how long opening
 * took as a whole, which is what a mount waits for. The directory is made, and must be empty.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "cache/journal.h"
#include "cache/replay.h"

static double now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static int append_birth(struct journal *journal, uint64_t id)
{
    char name[32];
    snprintf(name, sizeof name, "checkpoint-%08" PRIu64, id);
    struct record record = {.type = RECORD_BIRTH,
                            .id = id,
                            .name = name,
                            .kind = S_IFREG,
                            .attributes = {.mode = S_IFREG | 0644, .uid = 1000, .gid = 1000},
                            .attribute_version = 1,
                            .content_version = 1};
    return journal_append(journal, &record, NULL);
}

static int append_write(struct journal *journal, uint64_t id, uint64_t version, size_t ride)
{
    static const char bytes[RECORD_RIDE_MAX];
    uint64_t length = ride ? ride : 4096, start = ride ? 0 : version * 4096;
    struct record record = {.type = RECORD_WRITE,
                            .id = id,
                            .start = start,
                            .end = start + length,
                            .size = start + length,
                            .content_version = version,
                            .local = "0000000000000001",
                            .bytes = ride ? bytes : NULL};
    return journal_append(journal, &record, NULL);
}

static int append_all(struct journal *journal, uint64_t records, uint64_t files, size_t ride)
{
    int rc = 0;
    for (uint64_t i = 0; i < records && rc == 0; i++)
        rc = i < files ? append_birth(journal, i + 1)
                       : append_write(journal, i % files + 1, i / files + 1, ride);
    return rc;
}

static int replay_once(struct disk *disk)
{
    struct replay replay;
    struct ledger ledger;
    BUF_SCOPED why = BUF_INIT;
    ledger_init(&ledger);
    double start = now();
    int rc = replay_run(&replay, disk, NULL, "", &ledger, &why);
    double took = now() - start;
    if (rc == 0)
        printf("replayed  %10" PRIu64 " records  %6.2f s  %10.0f records/s  %" PRIu64 " MiB\n",
               replay.sequence, took, (double)replay.sequence / took, replay.end >> 20);
    replay_release(&replay);
    ledger_release(&ledger);
    return rc;
}

static int open_journal(struct disk *disk, struct journal **ret_journal)
{
    struct journal_config config = {
        .disk = disk, .source = "bench", .boot = "", .commit_ms = 100, .checkpoint_bytes = UINT64_MAX};
    BUF_SCOPED why = BUF_INIT;
    int rc = journal_open(&config, ret_journal, &why);
    if (rc < 0)
        fprintf(stderr, "replay: %s\n", why.bytes);
    return rc;
}

static int run(struct disk *disk, uint64_t records, uint64_t files, size_t ride)
{
    struct journal *journal;
    int rc = open_journal(disk, &journal);
    if (rc < 0)
        return rc;
    double start = now();
    rc = append_all(journal, records, files, ride);
    double took = now() - start;
    printf("appended  %10" PRIu64 " records  %6.2f s  %10.0f records/s\n", records, took,
           (double)records / took);
    journal_free(journal);
    for (int i = 0; i < 3 && rc == 0; i++)
        rc = replay_once(disk);
    start = now();
    if (rc == 0)
        rc = open_journal(disk, &journal);
    if (rc < 0)
        return rc;
    printf("opened    %10" PRIu64 " files    %6.2f s\n", files, now() - start);
    start = now();
    journal_free(journal);
    printf("closed                         %6.2f s\n", now() - start);
    return 0;
}

int main(int count, char **words)
{
    struct disk *disk;
    uint64_t records = count > 2 ? strtoull(words[2], NULL, 10) : 1000000;
    uint64_t files = count > 3 ? strtoull(words[3], NULL, 10) : 10000;
    size_t ride = count > 4 ? strtoull(words[4], NULL, 10) : 0;
    if (count < 2 || files == 0 || ride > RECORD_RIDE_MAX) {
        fprintf(stderr, "usage: replay DIRECTORY [RECORDS [FILES [BYTES]]]\n");
        return 2;
    }
    int rc = disk_open_directory(words[1], &disk);
    if (rc == 0) {
        rc = run(disk, records, files, ride);
        disk_free(disk);
    }
    if (rc < 0)
        fprintf(stderr, "replay: %s\n", err_text(rc));
    return rc < 0;
}
