#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "mount/leftover.h"

#define NOON "2026-06-01T12:00:00.000+00:00"

static struct json *remember(const char *id)
{
    struct leftover_keys before = {0};
    struct json *facts = json_object_new();
    int64_t noon;
    cr_assert_eq(clock_parse_iso(NOON, &noon), 0);
    leftover_add(&before, id, "2026-01-01T00:00:00Z");
    leftover_remember(&before, noon, facts);
    leftover_release(&before);
    return facts;
}

/* Names and times in turns, NULL at the end. */
static int find(const char *const *keys, char *ret_id, size_t room, struct buf *why)
{
    struct json *facts = remember("old");
    struct leftover_keys now = {0};
    const char *id = "";
    for (; *keys; keys += 2)
        leftover_add(&now, keys[0], *keys[1] ? keys[1] : NULL);
    int rc = leftover_find(facts, &now, &id, why);
    snprintf(ret_id, room, "%s", id);
    leftover_release(&now);
    json_free(facts);
    return rc;
}

Test(leftover, only_what_is_new_and_of_the_moment_is_ours)
{
    static const struct {
        const char *keys[8], *id;
        int rc;
    } rows[] = {
        {{NULL}, "", 0},
        {{"old", "2026-06-01T12:00:01Z"}, "", 0},
        {{"new", "2026-06-01T12:00:01Z"}, "new", 1},
        {{"old", "2026-01-01T00:00:00Z", "new", "2026-06-01T12:01:59Z"}, "new", 1},
        {{"new", "2026-06-01T11:59:56Z"}, "new", 1},
        {{"other", "2026-06-01T11:59:50Z"}, "", 0},
        {{"other", "2026-06-01T12:02:01Z"}, "", 0},
        {{"other", "2026-07-01T12:02:01Z", "new", "2026-06-01T12:00:01Z"}, "new", 1},
        {{"a", "2026-06-01T12:00:01Z", "b", "2026-06-01T12:00:02Z"}, "", -EEXIST},
        {{"a", ""}, "", -EEXIST},
        {{"a", "yesterday"}, "", -EEXIST},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char id[32];
        BUF_SCOPED why = BUF_INIT;
        int rc = find(rows[i].keys, id, sizeof(id), &why);
        cr_assert_eq(rc, rows[i].rc, "row %zu: %d %s", i, rc, why.bytes);
        if (rc == 1)
            cr_assert_str_eq(id, rows[i].id);
        cr_assert_eq(rc<0, why.length> 0);
    }
}
