#include "mount/service.h"

#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/err.h"
#include "base/log.h"
#include "mount/flushing.h"
#include "mount/option.h"
#include "mount/unsent.h"

static struct json *refuse(const char *words)
{
    struct json *answer = json_object_new();
    json_set_string(answer, "error", words);
    return answer;
}

static void add_option(void *context, const char *name, const char *value)
{
    json_set_string(context, name, value);
}

static void report_whole(struct service *service, struct json *object)
{
    const struct settings *settings = service->rooms->settings;
    json_set_string(object, "version", SKYVOL_VERSION);
    json_set_string(object, "source", settings->source);
    json_set_string(object, "mount_point", settings->mount_point);
    json_set_bool(object, "read_only", atomic_load(&service->read_only));
    json_set_string(object, "durability", option_durability(settings));
    struct json *options = json_object_new();
    option_each(settings, add_option, options);
    json_set(object, "options", &options);
    json_set_integer(object, "uptime_s", (clock_wall_ns() - service->started_ns) / 1000000000);
    rooms_report(service->rooms, object);
    if (service->report)
        service->report(service, object);
}

static struct json *answer_status(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    struct json *object = json_object_new();
    (void)waiter;
    json_set_integer(object, "pid", getpid());
    json_set_bool(object, "mounted", service->mounted(service));
    if (!path)
        report_whole(service, object);
    unsent_report(service->rooms->cache, path ? path : "", object);
    return object;
}

static struct json *answer_umount(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    (void)path;
    (void)waiter;
    return service->umount ? service->umount(service) : refuse("it is not mounted");
}

static struct json *answer_yield(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    (void)path;
    (void)waiter;
    if (!service->yield(service))
        return refuse("it serves its mount");
    struct json *answer = json_object_new();
    json_set_bool(answer, "yielding", true);
    json_set_string(answer, "source", service->rooms->settings->source);
    json_set_string(answer, "cache_dir", service->rooms->home.path);
    unsent_report(service->rooms->cache, "", answer);
    return answer;
}

static struct json *answer_flush(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    if (cache_publish(service->rooms->cache, path ? path : "") < 0)
        return refuse(CONTROL_NO_FILE);
    return answer_status(context, path ? path : "", waiter);
}

/* Returns when what was to be flushed is sent; tells what cannot be. */
static struct json *answer_await(void *context, const char *path, struct waiter *waiter)
{
    const struct rooms *rooms = ((struct service *)context)->rooms;
    struct unsent failed;
    unsent_init(&failed, "");
    int rc = flushing_wait(rooms->cache, rooms->settings->durability == DURABILITY_LOCAL, waiter,
                           path ? path : "", &failed);
    struct json *answer = rc < 0 ? refuse(CONTROL_ENDS) : json_object_new();
    if (rc == 0)
        unsent_print(&failed, answer);
    unsent_release(&failed);
    return answer;
}

static struct json *answer_discard(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    BUF_SCOPED why = BUF_INIT;
    if (!path)
        return refuse("which file?");
    int rc = cache_discard(service->rooms->cache, waiter, path, &why);
    if (rc < 0)
        return refuse(why.length ? why.bytes : err_text(rc));
    log_warn("the unsent changes of %s are given up: skyvol discard", path);
    struct json *answer = json_object_new();
    json_set_string(answer, "discarded", path);
    return answer;
}

static struct json *answer_refresh(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    (void)waiter;
    cache_refresh(service->rooms->cache, path ? path : "");
    struct json *answer = json_object_new();
    json_set_string(answer, "refreshed", path ? path : "");
    return answer;
}

static struct json *answer_remount(void *context, const char *path, struct waiter *waiter)
{
    struct service *service = context;
    bool read_only = path && strcmp(path, "ro") == 0;
    (void)waiter;
    if (!read_only && (!path || strcmp(path, "rw") != 0))
        return refuse("ro or rw?");
    if (!read_only && service->rooms->settings->read_only)
        return refuse("it was mounted read-only and stays so: unmount it, and mount it with rw");
    if (read_only)
        cache_publish(service->rooms->cache, "");
    atomic_store(&service->read_only, read_only);
    log_info("remounted %s", path);
    struct json *answer = json_object_new();
    json_set_bool(answer, "read_only", read_only);
    return answer;
}

static const struct control_request requests[] = {
    {"status", CONTROL_INLINE, answer_status}, {"umount", CONTROL_STAYS, answer_umount},
    {"yield", CONTROL_INLINE, answer_yield},   {"flush", CONTROL_INLINE, answer_flush},
    {"await", CONTROL_SLOW, answer_await},     {"discard", CONTROL_SLOW, answer_discard},
    {"refresh", CONTROL_SLOW, answer_refresh}, {"remount", CONTROL_INLINE, answer_remount},
};

void service_configure(struct service *service, const char *socket_path, struct control_config *ret_config)
{
    *ret_config = (struct control_config){
        .socket_path = socket_path,
        .requests = requests,
        .request_count = sizeof requests / sizeof requests[0],
        .context = service,
    };
}
