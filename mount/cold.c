#include "mount/cold.h"

#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "mount/interrupt.h"
#include "mount/mute_store.h"

#define CLAIM_MS 2000 /* for one who has let the home go and not yet its claim */

bool cold_interrupted(void)
{
    return interrupt_seen();
}

/* ---- Who else wants it. ---- */

static bool is_mounted(struct service *service)
{
    (void)service;
    return false;
}

static bool yield(struct service *service)
{
    struct cold *cold = container_of(service, struct cold, service);
    atomic_store(&cold->yielded, true);
    waiter_interrupt(&cold->waiter);
    return true;
}

/* Where that cannot be had it goes on without: what is unsent matters more than who else may ask. */
static void open_door(struct cold *cold)
{
    STRING_SCOPED *door = home_door(cold->rooms.home.path);
    struct control_config config;
    BUF_SCOPED why = BUF_INIT;
    cold->service = (struct service){
        .rooms = &cold->rooms, .started_ns = clock_wall_ns(), .mounted = is_mounted, .yield = yield};
    if (claim_take(door, CLAIM_MS, &cold->claim, &why) == 0) {
        service_configure(&cold->service, cold->claim.socket_path, &config);
        control_new(&config, &cold->control, &why);
    }
    if (!cold->control)
        log_warn("nobody can ask this flush how far it is: %s", why.bytes);
}

/* ---- Its life. ---- */

int cold_open(const char *cache_dir, enum cold_kind kind, struct cold *cold, struct buf *why)
{
    *cold = (struct cold){.claim = CLAIM_NONE};
    waiter_init(&cold->waiter);
    rooms_init(&cold->rooms, &cold->settings);
    int rc = home_recall(cache_dir, &cold->settings, why);
    if (rc < 0)
        return rc;
    log_set_level(LOG_LEVEL_ERROR); /* what is parked is named by the command */
    cold->settings.read_only = false;
    interrupt_watch(&cold->waiter);
    rc = rooms_open_store(&cold->rooms, why);
    if (rc == 0 && kind == COLD_SENDS)
        rc = rooms_prove_access(&cold->rooms, &cold->waiter, why);
    if (rc == 0 && kind == COLD_MUTE)
        cold->rooms.store = mute_store_new(&cold->rooms.store);
    if (rc == 0)
        rc = rooms_open_home(&cold->rooms, why);
    if (rc == 0 && kind == COLD_SENDS)
        open_door(cold);
    if (rc == 0)
        rc = rooms_open_cache(&cold->rooms, NULL, why);
    return rc == 0 && cold->control ? control_serve(cold->control) : rc;
}

/* As the end of a mount: the claim goes after the home, the connections of those who wait last of all. */
void cold_close(struct cold *cold)
{
    interrupt_watch(NULL);
    control_finish(cold->control, NULL);
    rooms_close(&cold->rooms);
    claim_release(&cold->claim);
    control_free(cold->control);
    settings_release(&cold->settings);
    waiter_release(&cold->waiter);
}
