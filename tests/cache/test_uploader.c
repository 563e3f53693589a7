#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "cache/content.h"
#include "cache/core.h"
#include "tests/support/room.h"

#define MIB ((uint64_t)1 << 20)

/* ---- What close and fsync promise. ---- */

Test(uploader, close_of_a_small_file_returns_when_it_is_whole_in_the_bucket)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    struct store_object object;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 1000, 1), 0);
    cr_assert_eq(room_flush(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 1000);
    cr_assert(room_object_holds(&room, "p/a", 0, 1000, 1));
    cr_assert(memory_store_peek(room.bucket, "p/a", &object, NULL));
    cr_assert_not_null(store_fields_get(&object.meta, "mode"));
    cr_assert_not_null(store_fields_get(&object.meta, "mtime"));
    cr_assert_not_null(store_fields_get(&object.meta, "skyvol-id"));
    store_object_release(&object);
    cr_assert(room_clean(handle));
    cache_release(room.cache, handle);
}

Test(uploader, an_empty_file_is_an_object_too)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 0);
}

Test(uploader, a_big_file_goes_up_in_parts_and_appears_at_once)
{
    ROOM_SCOPED(room, NULL);
    struct handle *handle;
    cr_assert_eq(room_create(&room, "a", &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 20 * MIB + 7, 3), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PART, "p/a"), 3);
    cr_assert_eq(memory_store_logged(room.bucket, STORE_PUT, "p/a"), 0);
    cr_assert_eq(room_object_size(&room, "p/a"), 20 * MIB + 7);
    cr_assert(room_object_holds(&room, "p/a", 0, 20 * MIB + 7, 3));
    cr_assert_eq(memory_store_upload_count(room.bucket), 0);
}
