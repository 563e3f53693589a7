#include "mount/rooms.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "mount/diagnosis.h"
#include "mount/words.h"

/* First contact must end, with a message, within 10 seconds. */
#define FIRST_CONTACT_MS    8000
#define FIRST_CONTACT_BG_MS 3000 /* at boot others wait for it */

void rooms_init(struct rooms *rooms, struct settings *settings)
{
    *rooms = (struct rooms){.settings = settings, .home = {.lock = -1}, .warnings = BUF_INIT};
}

/* ---- The store. ---- */

/* It is said, and no error. */
static void mount_all_the_same(struct rooms *rooms, struct buf *why)
{
    words_next(&rooms->warnings);
    buf_printf(&rooms->warnings,
               "%s; mounted all the same (bg): what is known and unsent is here, and it is tried again",
               why->bytes);
    buf_reset(why);
    rooms->unreached = true;
}

/* At boot the file, the network or the machine's role may not be there yet; what is wrong with a file or refused does not mend itself. */
static bool may_come(int rc)
{
    return rc == -ENOKEY || rc == -EHOSTUNREACH || rc == -ETIMEDOUT || rc == -EIO;
}

static int find_credentials(struct rooms *rooms, struct buf *why)
{
    struct settings *settings = rooms->settings;
    struct credentials_config source = {.profile = settings->profile,
                                        .role_arn = settings->role_arn,
                                        .credentials_file = settings->credentials_file};
    rooms->credentials = credentials_new(&source);
    struct keys *keys = NULL;
    int rc = credentials_get(rooms->credentials, &keys, why);
    if (rc < 0 && settings->background && may_come(rc)) {
        mount_all_the_same(rooms, why);
        rc = 0;
    }
    if (rc < 0)
        return rc;
    keys_unref(keys);
    if (!settings->endpoint)
        settings->endpoint = credentials_setting(rooms->credentials, "endpoint_url");
    if (!settings->region)
        settings->region = credentials_setting(rooms->credentials, "region");
    return 0;
}

struct store_config rooms_store_config(const struct settings *settings, struct credentials *credentials)
{
    return (struct store_config){
        .endpoint = settings->endpoint,
        .bucket = settings->bucket,
        .region = settings->region,
        .style = (enum store_style)settings->style,
        .checksum = (enum store_checksum)settings->checksum,
        .sse = (enum store_sse)settings->sse,
        .sse_kms_key_id = settings->sse_kms_key_id,
        .storage_class = settings->storage_class,
        .requester_pays = settings->requester_pays,
        .credentials = credentials,
        .ca_bundle = settings->ca_bundle,
        .proxy = settings->proxy,
        .allow_http = settings->allow_http,
        .loops = (int)settings->loops,
        .connections_max = (int)settings->connections,
    };
}

int rooms_open_store(struct rooms *rooms, struct buf *why)
{
    struct settings *settings = rooms->settings;
    int rc = settings->no_sign_request ? 0 : find_credentials(rooms, why);
    if (rc < 0)
        return rc;
    struct store_config config = rooms_store_config(settings, rooms->credentials);
    return store_s3_new(&config, &rooms->store, why);
}

/* Keys scoped to a prefix may do no more than list below it: that is what is asked. */
int rooms_prove_access(struct rooms *rooms, struct waiter *waiter, struct buf *why)
{
    if (rooms->unreached) /* there are no keys to ask with */
        return 0;
    struct store_call call = {.op = STORE_LIST,
                              .prefix = rooms->settings->prefix,
                              .max_keys = 1,
                              .patience_ms =
                                  rooms->settings->background ? FIRST_CONTACT_BG_MS : FIRST_CONTACT_MS};
    int rc = store_wait(rooms->store, &call, waiter);
    bool silent = call.error.http_status == 0 || call.error.http_status >= 500;
    if (rc == -EINTR)
        buf_add_string(why, "stopped by a signal before anything was mounted");
    else if (rc < 0)
        diagnosis_access(rooms->settings, rc, &call.error, why);
    if (rc < 0 && rc != -EINTR && silent && rooms->settings->background) {
        mount_all_the_same(rooms, why);
        rc = 0;
    }
    store_call_release(&call);
    return rc;
}

/* ---- The home. ---- */

static void warn(struct rooms *rooms, const char *words)
{
    words_next(&rooms->warnings);
    buf_add_string(&rooms->warnings, words);
}

int rooms_open_home(struct rooms *rooms, struct buf *why)
{
    int rc = home_open(rooms->settings, &rooms->home, why, &rooms->warnings);
    if (rc < 0)
        return rc;
    if (disk_is_tmpfs(rooms->home.disk)) {
        STRING_SCOPED *words =
            xprintf("%s is in memory (tmpfs): unsent data there is lost at a power cut", rooms->home.path);
        warn(rooms, words);
    }
    if (rooms->settings->durability == DURABILITY_LOCAL)
        warn(rooms, "durability=local: close and fsync wait for this host's disk only, not for S3");
    return 0;
}

/* ---- The cache. ---- */

/* The kernel's word for "since this host was started". */
static void read_boot(char *boot, size_t size)
{
    int file = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t got = file >= 0 ? read(file, boot, size - 1) : 0;
    boot[got > 0 ? got : 0] = '\0';
    boot[strcspn(boot, "\n")] = '\0';
    if (file >= 0)
        close(file);
}

static void count_waiting(void *context, const struct cache_unsent *unsent)
{
    size_t *count = context;
    (void)unsent;
    ++*count;
}

static void tell_waiting(struct rooms *rooms)
{
    size_t count = 0;
    cache_unsent(rooms->cache, count_waiting, &count);
    if (!count)
        return;
    words_next(&rooms->warnings);
    buf_printf(
        &rooms->warnings,
        "%zu unsent files of an earlier mount wait here until it is mounted for writing; or, unmounted: "
        "skyvol flush %s",
        count, rooms->home.path);
}

/* What an earlier mount left goes on by itself; it is said once. */
static void tell_resumed(struct rooms *rooms)
{
    struct cache_backlog backlog;
    if (rooms->settings->read_only) {
        tell_waiting(rooms);
        return;
    }
    cache_backlog(rooms->cache, &backlog);
    if (!backlog.files)
        return;
    words_next(&rooms->warnings);
    buf_printf(&rooms->warnings, "%llu unsent files (%llu bytes) of an earlier mount go on being uploaded",
               (unsigned long long)backlog.files, (unsigned long long)backlog.bytes);
}

int rooms_open_cache(struct rooms *rooms, const struct cache_notify *notify, struct buf *why)
{
    const struct settings *settings = rooms->settings;
    rooms->memory = memory_new((size_t)settings->memory);
    read_boot(rooms->boot, sizeof rooms->boot);
    STRING_SCOPED *catalog = xprintf("%s/catalog", rooms->home.path);
    struct cache_config caching = {
        .store = rooms->store,
        .memory = rooms->memory,
        .disk = rooms->home.disk,
        .source = rooms->home.source,
        .boot = rooms->boot,
        .catalog = settings->meta_max ? catalog : NULL,
        .catalog_bytes = (uint64_t)settings->meta_max,
        .durability = (enum durability)settings->durability,
        .commit_ms = settings->commit,
        .unflushed_max = (uint64_t)settings->unflushed_max,
        .dirty_max = (uint64_t)settings->dirty_max,
        .publish_after_ms = settings->publish_after,
        .conflict = (enum conflict_rule)settings->conflict,
        .prefix = settings->prefix,
        .read_only = settings->read_only,
        .immutable = settings->immutable,
        .unreached = rooms->unreached,
        .list_attributes_only = settings->attributes == 1,
        .attr_ttl_ms = settings->attr_ttl,
        .negative_ttl_ms = settings->negative_ttl,
        .io_timeout_ms = settings->io_timeout,
        .uid = (uint32_t)settings->uid,
        .gid = (uint32_t)settings->gid,
        .file_mode = (uint32_t)(settings->file_mode & ~settings->umask),
        .dir_mode = (uint32_t)(settings->dir_mode & ~settings->umask),
        .read_ahead_max = (uint64_t)settings->read_ahead,
        .uploads_max = (uint32_t)settings->uploads,
        .part_bytes = (uint64_t)settings->part_size,
        .early_bytes = 2 * (uint64_t)settings->part_size,
    };
    if (notify)
        caching.notify = *notify;
    int rc = cache_new(&caching, &rooms->cache, why);
    if (rc == 0)
        tell_resumed(rooms);
    return rc;
}

/* Then it need not be looked for when nobody has it open. */
static bool is_clean(struct rooms *rooms)
{
    size_t count = 0;
    cache_unsent(rooms->cache, count_waiting, &count);
    return count == 0;
}

/* The home is let go before the store: who wants to take over waits for it, and for no server. */
void rooms_close(struct rooms *rooms)
{
    rooms->home.clean = rooms->cache && rooms->home.noted && is_clean(rooms);
    cache_free(rooms->cache);
    memory_free(rooms->memory);
    home_close(&rooms->home);
    store_free(rooms->store);
    credentials_unref(rooms->credentials);
    buf_release(&rooms->warnings);
    *rooms = (struct rooms){.home = {.lock = -1}, .warnings = BUF_INIT};
}

/* ---- What they say. ---- */

static const char *ability_word(enum store_ability ability)
{
    static const char *const words[] = {"unknown", "yes", "no"};
    return words[ability];
}

static void report_abilities(struct store *store, struct json *object)
{
    struct store_abilities can;
    store_abilities(store, &can);
    struct json *abilities = json_object_new();
    json_set_string(abilities, "list_metadata", ability_word(can.list_meta));
    json_set_string(abilities, "conditional_put", ability_word(can.conditional_put));
    json_set_string(abilities, "conditional_delete", ability_word(can.conditional_delete));
    json_set_string(abilities, "checksum", ability_word(can.checksum));
    json_set_string(abilities, "delete_many", ability_word(can.delete_many));
    json_set(object, "abilities", &abilities);
}

static void report_store(struct store *store, struct json *object)
{
    BUF_SCOPED text = BUF_INIT;
    store_describe(store, &text);
    json_set_string(object, "server", text.bytes);
    struct store_counters counters;
    store_counters(store, &counters);
    struct json *requests = json_object_new();
    for (int op = STORE_GET; op <= STORE_LIST_UPLOADS; op++)
        if (counters.calls[op])
            json_set_integer(requests, store_op_name((enum store_op)op), (int64_t)counters.calls[op]);
    json_set(object, "server_requests", &requests);
    json_set_integer(object, "retries", (int64_t)counters.retries);
    json_set_integer(object, "failures", (int64_t)counters.failures);
    json_set_integer(object, "bytes_in", (int64_t)counters.bytes_in);
    json_set_integer(object, "bytes_out", (int64_t)counters.bytes_out);
    report_abilities(store, object);
}

void rooms_report(struct rooms *rooms, struct json *object)
{
    json_set_string(object, "cache_dir", rooms->home.path);
    report_store(rooms->store, object);
    struct memory_report memory;
    memory_report(rooms->memory, &memory);
    json_set_integer(object, "memory_limit", (int64_t)memory.limit);
    json_set_integer(object, "memory_used", (int64_t)memory.used);
    json_set_integer(object, "memory_idle", (int64_t)memory.idle);
    cache_report(rooms->cache, object);
}
