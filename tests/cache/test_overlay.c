#include "cache/overlay.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "cache/core.h"
#include "tests/support/room.h"

#define MEMORY ((size_t)8 << 20)
#define LIMIT  (MEMORY / 2 / OVERLAY_NAME_BYTES) /* names */

static const struct maker maker = {.mode = 0600, .uid = 1, .gid = 1, .process = ROOM_PROCESS};

static struct room_config small(void)
{
    return (struct room_config){
        .memory_bytes = MEMORY, .durability = DURABILITY_WRITEBACK, .io_timeout_ms = 500};
}

static int make(struct room *room, int number)
{
    char name[16];
    struct handle *handle;
    snprintf(name, sizeof name, "f%05d", number);
    int rc = room_create(room, name, &handle);
    return rc < 0 ? rc : room_close(room, handle);
}

/* Until it fails. */
static int make_all(struct room *room, int from, int *ret_count)
{
    int rc = 0;
    for (*ret_count = from; rc == 0 && *ret_count < 4 * (int)LIMIT; *ret_count += rc == 0)
        rc = make(room, *ret_count);
    return rc;
}

static size_t charge_of(struct room *room)
{
    struct memory_report report;
    memory_report(room->memory, &report);
    return report.shares[SHARE_OVERLAY];
}

Test(overlay, who_makes_more_names_than_fit_is_slowed_down_to_the_way_up)
{
    struct room_config config = small();
    config.io_timeout_ms = 60000;
    ROOM_SCOPED(room, &config);
    for (int i = 0; i < 3 * (int)LIMIT; i++) {
        cr_assert_eq(make(&room, i), 0);
        cr_assert_leq(charge_of(&room), MEMORY / 2);
    }
    assert_drained(&room);
    cr_assert_eq(overlay_room(room.cache->overlay), LIMIT);
    cr_assert_eq(room_object_size(&room, "p/f03071"), 0);
}

Test(overlay, when_nothing_goes_up_the_maker_hears_enospc_and_others_go_on)
{
    struct room_config config = small();
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct entry entry;
    int count, more;
    cr_assert_eq(room_create(&room, "open", &handle), 0);
    room_stop_server(&room);
    cr_assert_eq(make_all(&room, 0, &count), -ENOSPC);
    cr_assert(count > (int)LIMIT * 3 / 4 && count < (int)LIMIT, "%d", count);
    cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, "d", &maker, &entry), -ENOSPC);
    cr_assert_eq(cache_symlink(room.cache, &room.waiter, room.root, "l", "f00000", &maker, &entry), -ENOSPC);
    cr_assert_eq(cache_mknod(room.cache, &room.waiter, room.root, "p", S_IFIFO, 0, &maker, &entry), -ENOSPC);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0, "it is unsent already");
    cr_assert_eq(cache_unlink(room.cache, &room.waiter, room.root, "f00000"), 0);
    room_start_server(&room);
    cr_assert_eq(make_all(&room, count, &more), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_lt(charge_of(&room), MEMORY / 8, "what has gone up costs nothing any more");
    cr_assert(room_object_holds(&room, "p/open", 0, 1000, 1));
    cr_assert_eq(room_object_size(&room, "p/f00000"), UINT64_MAX);
    cr_assert_eq(room_object_size(&room, "p/f00001"), 0);
}

Test(overlay, what_the_bucket_has_waits_before_it_is_changed)
{
    struct room_config config = small();
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct attributes attributes = {.mode = 0400};
    int count;
    cr_assert_eq(make(&room, 99999), 0);
    assert_drained(&room);
    cr_assert_eq(room_open(&room, "f99999", O_WRONLY, &handle), 0);
    room_stop_server(&room);
    cr_assert_eq(make_all(&room, 0, &count), -ENOSPC);
    struct inode *inode = room_inode(handle);
    cr_assert_eq(room_write(&room, handle, 0, 10, 1), -ENOSPC);
    cr_assert_eq(
        cache_set_attributes(room.cache, &room.waiter, inode, NULL, SET_MODE, &attributes, &attributes),
        -ENOSPC);
    cr_assert_eq(cache_xattr_set(room.cache, &room.waiter, inode, "user.a", "b", 1, 0), -ENOSPC);
    cr_assert_eq(cache_rename(room.cache, &room.waiter, room.root, "f99999", room.root, "g", 0), -ENOSPC);
    room_start_server(&room);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
}

/* What is unsent has nothing to do with it: the way up is free, and ENOSPC would send him there. */
Test(overlay, where_others_hold_all_the_memory_the_maker_hears_enomem)
{
    struct room_config config = small();
    ROOM_SCOPED(room, &config);
    struct memory_report report;
    memory_report(room.memory, &report);
    size_t rest = report.limit - report.used;
    cr_assert(memory_try(room.memory, rest, SHARE_UPLOAD));
    int rc = 0;
    for (int i = 0; rc == 0 && i < (int)LIMIT; i++)
        rc = make(&room, i);
    cr_assert_eq(rc, -ENOMEM, "%d", rc);
    memory_give(room.memory, rest, SHARE_UPLOAD);
    cr_assert_eq(make(&room, (int)LIMIT), 0);
    assert_drained(&room);
}

static void *interrupt_soon(void *context)
{
    usleep(100000);
    waiter_interrupt(context);
    return NULL;
}

Test(overlay, who_waits_can_be_interrupted_and_who_may_not_wait_does_nothing)
{
    struct room_config config = small();
    config.io_timeout_ms = 60000;
    ROOM_SCOPED(room, &config);
    struct handle *handle;
    struct entry entry;
    pthread_t thread;
    room_stop_server(&room);
    for (size_t i = 0; overlay_room(room.cache->overlay) > LIMIT / 4; i++)
        cr_assert_eq(make(&room, (int)i), 0);
    for (int i = 0; i < 2 * 64; i++) { /* what is charged already */
        char name[16];
        snprintf(name, sizeof name, "g%d", i);
        int rc = cache_create(room.cache, NULL, room.root, name, O_WRONLY, &maker, &entry, &handle);
        if (rc < 0) {
            cr_assert_eq(rc, -EAGAIN);
            break;
        }
        cr_assert_lt(i, 64);
        cache_release(room.cache, handle);
        inode_unref(entry.inode);
    }
    size_t before = overlay_room(room.cache->overlay);
    pthread_create(&thread, NULL, interrupt_soon, &room.waiter);
    int count;
    cr_assert_eq(make_all(&room, LIMIT, &count), -EINTR);
    pthread_join(thread, NULL);
    cr_assert_leq(overlay_room(room.cache->overlay), before);
}
