/* upload, download, ls, exists, rm: words, and one courier. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "base/clock.h"
#include "base/json.h"
#include "mount/command.h"
#include "mount/courier.h"
#include "mount/option.h"
#include "mount/pool_words.h"
#include "mount/words.h"

#define PLAIN_MAX 1000

struct words {
    struct storage_words service;
    const char *plain[PLAIN_MAX]; /* BUCKET and what follows */
    size_t count;
    const char *key, *prefix, *older_than;
    bool json, recursive, dry_run, longer, uploads;
};

/* The flags that a command has beside those of the service. */
enum {
    WITH_KEY = 1,
    WITH_PREFIX = 2,
    WITH_RECURSIVE = 4,
    WITH_DRY_RUN = 8,
    WITH_LONG = 16,
    WITH_UPLOADS = 32
};

static bool take_switch(struct words *said, const char *word, int flags)
{
    const struct {
        const char *word;
        int flag;
        bool *place;
    } switches[] = {{"--json", 0, &said->json},
                    {"--recursive", WITH_RECURSIVE, &said->recursive},
                    {"-r", WITH_RECURSIVE, &said->recursive},
                    {"--dry-run", WITH_DRY_RUN, &said->dry_run},
                    {"-l", WITH_LONG, &said->longer},
                    {"--uploads", WITH_UPLOADS, &said->uploads}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (strcmp(word, switches[i].word) == 0 && (!switches[i].flag || (flags & switches[i].flag)))
            return *switches[i].place = true;
    return false;
}

static int take_value(struct words *said, const char *command, int flags, int count, char **words, int *at)
{
    const struct {
        const char *word;
        int flag;
        const char **place;
    } values[] = {{"--key", WITH_KEY, &said->key},
                  {"--prefix", WITH_PREFIX, &said->prefix},
                  {"--older-than", WITH_UPLOADS, &said->older_than}};
    int status = 0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        const char *value =
            flags & values[i].flag ? words_value(command, values[i].word, count, words, at, &status) : NULL;
        if (value)
            *values[i].place = value;
        if (value || status)
            return status ? 2 : 1;
    }
    return 0;
}

/* `least` and `most` words beside the flags. 0, or the exit status. */
static int read_words(struct words *said, const char *command, int flags, size_t least, size_t most,
                      int count, char **words)
{
    bool plain = false;
    for (int i = 1; i < count; i++) {
        int taken = 0;
        if (!plain && strcmp(words[i], "--") == 0) {
            plain = true;
            continue;
        }
        if (!plain && words[i][0] == '-' && words[i][1]) {
            taken =
                take_switch(said, words[i], flags) ? 1 : take_value(said, command, flags, count, words, &i);
            if (!taken)
                taken = storage_words_take(&said->service, command, count, words, &i);
            if (taken == 2)
                return 2;
            if (!taken)
                return command_usage(command, "there is no flag '%s'", words[i]);
            continue;
        }
        if (said->count == most)
            return command_usage(command, "'%s' is one word too many", words[i]);
        said->plain[said->count++] = words[i];
    }
    if (said->count < least)
        return command_usage(command, said->count ? "a word is missing" : "the bucket is missing");
    return storage_words_finish(&said->service);
}

/* Runs `act` within a session with the bucket. */
static int run(const char *command, struct words *said,
               void (*act)(struct courier *courier, struct words *said))
{
    struct courier courier;
    int status = courier_begin(&courier, command, &said->service.storage, said->plain[0], said->json);
    if (status)
        return status;
    act(&courier, said);
    return courier_end(&courier);
}

static int read_and_run(const char *command, int flags, size_t least, size_t most, int count, char **words,
                        void (*act)(struct courier *courier, struct words *said))
{
    struct words said = {0};
    int status = read_words(&said, command, flags, least, most, count, words);
    if (status == 0)
        status = run(command, &said, act);
    storage_words_release(&said.service);
    return status;
}

/* ---- upload, download. ---- */

static void upload(struct courier *courier, struct words *said)
{
    for (size_t i = 1; i < said->count && !atomic_load(&courier->stopped); i++)
        courier_up(courier, said->plain[i], said->key);
}

static bool is_directory(const char *path)
{
    struct stat status;
    return stat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

/* Two files of one name would become one object; the trees of two directories may be meant to. */
static int check_names(const struct words *said)
{
    for (size_t i = 2; i < said->count; i++) {
        const char *slash = strrchr(said->plain[i], '/'), *name = slash ? slash + 1 : said->plain[i];
        for (size_t j = 1; j < i; j++) {
            const char *other_slash = strrchr(said->plain[j], '/');
            if (strcmp(name, other_slash ? other_slash + 1 : said->plain[j]) == 0 && *name &&
                !is_directory(said->plain[i]) && !is_directory(said->plain[j]))
                return command_usage("upload", "%s and %s have one key: upload one of them with --key",
                                     said->plain[j], said->plain[i]);
        }
    }
    return 0;
}

int command_upload(int count, char **words)
{
    struct words said = {0};
    int status = read_words(&said, "upload", WITH_KEY, 2, PLAIN_MAX, count, words);
    if (status == 0 && said.key && said.count > 2)
        status = command_usage("upload",
                               "--key names one object, or the directory of one: give one LOCAL with it");
    if (status == 0 && said.key && !*said.key)
        status = command_usage("upload", "--key is empty");
    if (status == 0)
        status = check_names(&said);
    if (status == 0)
        status = run("upload", &said, upload);
    storage_words_release(&said.service);
    return status;
}

static void download(struct courier *courier, struct words *said)
{
    const char *key = said->plain[1];
    if (!said->recursive) {
        courier_down(courier, key, said->plain[2]);
        return;
    }
    size_t length = strlen(key);
    STRING_SCOPED *prefix = xprintf("%s%s", key, length == 0 || key[length - 1] == '/' ? "" : "/");
    courier_down_all(courier, prefix, said->plain[2]);
}

int command_download(int count, char **words)
{
    struct words said = {0};
    int status = read_words(&said, "download", WITH_RECURSIVE, 3, 3, count, words);
    if (status == 0 && !*said.plain[1] && !said.recursive)
        status = command_usage("download", "the key is empty (all objects: --recursive)");
    if (status == 0 && !*said.plain[2])
        status = command_usage("download", "the file's name is empty");
    if (status == 0)
        status = run("download", &said, download);
    storage_words_release(&said.service);
    return status;
}

/* ---- ls. ---- */

struct look {
    bool longer, json;
};

static void print_time(int64_t wall_ns, char out[32])
{
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm parts;
    out[0] = 0;
    if (gmtime_r(&seconds, &parts))
        strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &parts);
}

static bool print_object(void *context, const struct store_object *object)
{
    const struct look *look = context;
    char time[32];
    print_time(object->modified_ns, time);
    if (look->json) {
        struct json *one = json_object_new();
        BUF_SCOPED line = BUF_INIT;
        json_set_string(one, "key", object->key);
        json_set_integer(one, "size", (int64_t)object->size);
        json_set_string(one, "modified", time);
        json_set_string(one, "etag", object->etag);
        json_print(one, &line, false);
        json_free(one);
        puts(line.bytes);
    } else if (look->longer) {
        words_line(stdout, "%12llu %s %-34s %s", (unsigned long long)object->size, time, object->etag,
                   object->key);
    } else {
        words_line(stdout, "%s", object->key);
    }
    return !ferror(stdout);
}

static void ls(struct courier *courier, struct words *said)
{
    struct look look = {said->longer, said->json};
    courier->json = false; /* a line of JSON for each key, as they come */
    courier_list(courier, said->prefix ? said->prefix : "", print_object, &look);
}

int command_ls(int count, char **words)
{
    return read_and_run("ls", WITH_PREFIX | WITH_LONG, 1, 1, count, words, ls);
}

/* ---- exists. ---- */

struct question {
    const char *key;
    int rc;
};

static void ask(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct question *question = context;
    struct store_call call = {.op = STORE_HEAD, .key = question->key};
    (void)index;
    question->rc = courier_call(courier, &call, waiter);
    /* A bucket that is not there is no answer to whether the key is. */
    if (question->rc == -ENOENT && strcmp(call.error.code, "NoSuchBucket") == 0)
        question->rc = -ENXIO;
    if (question->rc < 0 && question->rc != -ENOENT)
        courier_fail_call(courier, question->key, "it cannot be told", &call, question->rc);
    store_call_release(&call);
}

/* A HEAD has no body to say which of both is missing: the bucket is listed. */
static bool nothing(void *context, const struct store_object *object)
{
    (void)context, (void)object;
    return false;
}

int command_exists(int count, char **words)
{
    struct words said = {0};
    struct courier courier;
    struct question question = {.rc = -EINTR};
    int status = read_words(&said, "exists", 0, 2, 2, count, words);
    if (status == 0)
        status = courier_begin(&courier, "exists", &said.service.storage, said.plain[0], false) ? 2 : 0;
    if (status == 0) {
        question.key = said.plain[1];
        courier_each(&courier, 1, 1, ask, &question);
        if (question.rc == -ENOENT && courier_list(&courier, question.key, nothing, NULL) < 0)
            question.rc = -ENXIO;
        if (said.json && (question.rc == 0 || question.rc == -ENOENT))
            printf("{\"exists\": %s}\n", question.rc == 0 ? "true" : "false");
        courier_end(&courier);
        status = question.rc == 0 ? 0 : question.rc == -ENOENT ? 1 : 2;
    } else {
        status = 2;
    }
    storage_words_release(&said.service);
    return status;
}

/* ---- rm. ---- */

struct removal {
    struct courier *courier;
    char **keys;
    size_t count;
    bool dry_run;
};

static void forget_keys(struct removal *removal)
{
    for (size_t i = 0; i < removal->count; i++)
        free(removal->keys[i]);
    free(removal->keys);
    removal->keys = NULL;
    removal->count = 0;
}

static bool take_key(void *context, const struct store_object *object)
{
    struct removal *removal = context;
    removal->keys = xrealloc(removal->keys, (removal->count + 1) * sizeof *removal->keys);
    removal->keys[removal->count++] = xstrdup(object->key);
    return true;
}

static void remove_batch(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct removal *removal = context;
    size_t first = index * STORE_LIST_MAX;
    size_t count = removal->count - first < STORE_LIST_MAX ? removal->count - first : STORE_LIST_MAX;
    struct store_call call = {
        .op = STORE_DELETE_MANY, .keys = (const char *const *)removal->keys + first, .key_count = count};
    int rc = courier_call(courier, &call, waiter);
    if (rc < 0 && !call.failure_count)
        courier_fail_call(courier, removal->keys[first], "it and those behind it could not be removed", &call,
                          rc);
    for (size_t i = 0; i < call.failure_count; i++)
        courier_fail(courier, call.failures[i].key, "it could not be removed: %s",
                     call.failures[i].code[0] ? call.failures[i].code : "the server refused it");
    for (size_t i = 0; rc == 0 && i < count; i++) {
        bool failed = false;
        for (size_t j = 0; j < call.failure_count && !failed; j++)
            failed = strcmp(call.failures[j].key, removal->keys[first + i]) == 0;
        if (!failed)
            courier_tell_gone(courier, "removed", removal->keys[first + i]);
    }
    store_call_release(&call);
}

static void remove_one(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct removal *removal = context;
    struct store_call look = {.op = STORE_HEAD, .key = removal->keys[index]};
    struct store_call call = {.op = STORE_DELETE, .key = removal->keys[index]};
    int rc = courier_call(courier, &look, waiter);
    if (rc < 0)
        courier_fail_call(courier, removal->keys[index],
                          rc == -ENOENT ? "there is no such object (all below it: --recursive)"
                                        : "it cannot be looked at",
                          &look, rc);
    else if (removal->dry_run)
        courier_tell_gone(courier, "would remove", removal->keys[index]);
    else if ((rc = courier_call(courier, &call, waiter)) < 0)
        courier_fail_call(courier, removal->keys[index], "it could not be removed", &call, rc);
    else
        courier_tell_gone(courier, "removed", removal->keys[index]);
    store_call_release(&look);
    store_call_release(&call);
}

/* All below KEY/, and nothing whose key only begins alike. */
static void remove_below(struct removal *removal, const char *key)
{
    size_t length = strlen(key);
    STRING_SCOPED *prefix = xprintf("%s%s", key, length == 0 || key[length - 1] == '/' ? "" : "/");
    if (courier_list(removal->courier, prefix, take_key, removal) < 0)
        return;
    if (!removal->count)
        courier_fail(removal->courier, key, "there is nothing below it");
    for (size_t i = 0; removal->dry_run && i < removal->count; i++)
        courier_tell_gone(removal->courier, "would remove", removal->keys[i]);
    if (!removal->dry_run)
        courier_each(removal->courier, (removal->count + STORE_LIST_MAX - 1) / STORE_LIST_MAX, 4,
                     remove_batch, removal);
}

/* ---- rm --uploads. ---- */

struct leftovers {
    const char *prefix; /* of those that go */
    const char *listed; /* of the listing */
    int64_t before_ns;
    bool dry_run;
    struct store_call list;
    char *after_key, *after_id; /* the last one of the listing before; NULL: there was none */
    int rc;
};

/* MinIO takes a prefix for a whole key: it knows more than it says. */
static bool may_know_more(const struct leftovers *leftovers)
{
    for (size_t i = 0; i < leftovers->list.upload_count; i++)
        if (strcmp(leftovers->list.uploads[i].key, leftovers->prefix) != 0)
            return false;
    return *leftovers->listed;
}

static void list_uploads(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    struct leftovers *leftovers = context;
    (void)index;
    leftovers->list = (struct store_call){.op = STORE_LIST_UPLOADS,
                                          .prefix = leftovers->listed,
                                          .start_after = leftovers->after_key,
                                          .upload_id = leftovers->after_id};
    leftovers->rc = courier_call(courier, &leftovers->list, waiter);
    if (leftovers->rc == 0 && !leftovers->after_key && may_know_more(leftovers)) {
        store_call_release(&leftovers->list);
        leftovers->listed = "";
        leftovers->list = (struct store_call){.op = STORE_LIST_UPLOADS, .prefix = ""};
        leftovers->rc = courier_call(courier, &leftovers->list, waiter);
    }
    if (leftovers->rc < 0)
        courier_fail_call(courier, courier->bucket, "its uploads cannot be listed", &leftovers->list,
                          leftovers->rc);
}

static void abort_upload(struct courier *courier, struct waiter *waiter, void *context, size_t index)
{
    const struct leftovers *leftovers = context;
    const struct store_upload *upload = &leftovers->list.uploads[index];
    if (upload->initiated_ns > leftovers->before_ns ||
        strncmp(upload->key, leftovers->prefix, strlen(leftovers->prefix)) != 0)
        return;
    if (leftovers->dry_run) {
        courier_tell_gone(courier, "would abort the upload of", upload->key);
        return;
    }
    struct store_call call = {.op = STORE_ABORT, .key = upload->key, .upload_id = upload->upload_id};
    int rc = courier_call(courier, &call, waiter);
    if (rc < 0)
        courier_fail_call(courier, upload->key, "its upload could not be aborted", &call, rc);
    else
        courier_tell_gone(courier, "aborted the upload of", upload->key);
    store_call_release(&call);
}

/* True: there may be more behind these. A server that begins anew each time would be asked for ever. */
static bool move_on(struct courier *courier, struct leftovers *leftovers)
{
    bool more = leftovers->rc == 0 && leftovers->list.next_token && leftovers->list.upload_count > 0 &&
                !atomic_load(&courier->stopped);
    if (more) {
        const struct store_upload *last = &leftovers->list.uploads[leftovers->list.upload_count - 1];
        more = !leftovers->after_key || strcmp(leftovers->after_key, last->key) != 0 ||
               strcmp(leftovers->after_id, last->upload_id) != 0;
        if (!more)
            courier_fail(courier, courier->bucket,
                         "the server lists the same uploads again: those behind them are not found");
        free(leftovers->after_key);
        free(leftovers->after_id);
        leftovers->after_key = xstrdup(last->key);
        leftovers->after_id = xstrdup(last->upload_id);
    }
    store_call_release(&leftovers->list);
    return more;
}

static void remove_uploads(struct courier *courier, const struct words *said, int64_t age_ms)
{
    int64_t now_ns = clock_wall_ns();
    /* Without an age all go, also those that a server whose clock is ahead began in the future. */
    struct leftovers leftovers = {.prefix = said->prefix ? said->prefix : "",
                                  .before_ns = !age_ms                     ? INT64_MAX
                                               : age_ms > now_ns / 1000000 ? 0
                                                                           : now_ns - age_ms * 1000000,
                                  .dry_run = said->dry_run,
                                  .rc = -EINTR};
    leftovers.listed = leftovers.prefix;
    do {
        courier_each(courier, 1, 1, list_uploads, &leftovers);
        if (leftovers.rc == 0)
            courier_each(courier, leftovers.list.upload_count, 0, abort_upload, &leftovers);
    } while (move_on(courier, &leftovers));
    free(leftovers.after_key);
    free(leftovers.after_id);
}

static void rm(struct courier *courier, struct words *said)
{
    int64_t age_ms = 0;
    struct removal removal = {.courier = courier, .dry_run = said->dry_run};
    if (said->uploads) {
        if (said->older_than)
            option_parse_time(said->older_than, &age_ms);
        remove_uploads(courier, said, age_ms);
        return;
    }
    if (said->recursive) {
        for (size_t i = 1; i < said->count; i++) {
            remove_below(&removal, said->plain[i]);
            forget_keys(&removal);
        }
    } else {
        for (size_t i = 1; i < said->count; i++)
            take_key(&removal, &(struct store_object){.key = (char *)said->plain[i]});
        courier_each(courier, removal.count, 0, remove_one, &removal);
    }
    forget_keys(&removal);
}

static int check_removal(const struct words *said)
{
    int64_t age_ms;
    if (said->older_than && !said->uploads)
        return command_usage("rm", "--older-than belongs to --uploads");
    if (said->prefix && !said->uploads)
        return command_usage("rm", "--prefix belongs to --uploads; all below a key: KEY --recursive");
    if (said->older_than && option_parse_time(said->older_than, &age_ms) < 0)
        return command_usage("rm", "--older-than is a time like 7d or 12h, not '%s'", said->older_than);
    if (said->uploads && said->count > 1)
        return command_usage("rm", "--uploads removes no objects: '%s' is one word too many (--prefix P)",
                             said->plain[1]);
    if (!said->uploads && said->count < 2)
        return command_usage("rm", "the key is missing");
    for (size_t i = 1; i < said->count; i++)
        if (!*said->plain[i])
            return command_usage("rm", "an empty key would mean the whole bucket: name what is to go");
    return 0;
}

int command_rm(int count, char **words)
{
    struct words said = {0};
    int status = read_words(&said, "rm", WITH_RECURSIVE | WITH_DRY_RUN | WITH_UPLOADS | WITH_PREFIX, 1,
                            PLAIN_MAX, count, words);
    if (status == 0)
        status = check_removal(&said);
    if (status == 0)
        status = run("rm", &said, rm);
    storage_words_release(&said.service);
    return status;
}
