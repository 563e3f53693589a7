#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "cache/swath.h"

struct stage {
    struct memory *memory;
    struct store_call list;
    struct swath *swath;
};

/* Of "p/a/1 p/a/b/2 ...", in this order. */
static void begin(struct stage *stage, const char *after, const char *keys, bool more)
{
    *stage = (struct stage){.memory = memory_new(1 << 20), .list = {.prefix = "p/", .start_after = after}};
    stage->list.objects = xcalloc(64, sizeof *stage->list.objects);
    stage->list.next_token = more ? xstrdup("more") : NULL;
    for (size_t length; *keys; keys += length + (keys[length] == ' ')) {
        length = strcspn(keys, " ");
        struct store_object *object = &stage->list.objects[stage->list.object_count++];
        object->key = xstrndup(keys, length);
        object->meta_known = true;
        store_fields_add(&object->meta, "mode", "33188");
    }
    stage->swath = swath_new(stage->memory, &stage->list);
}

static void end(struct stage *stage)
{
    swath_unref(stage->swath);
    store_call_release(&stage->list);
    memory_free(stage->memory);
}

static void print_answer(const struct swath *swath, const char *prefix, struct buf *out)
{
    struct store_call call = {.prefix = prefix};

    swath_answer(swath, &call);
    buf_reset(out);
    for (size_t i = 0; i < call.object_count; i++) {
        buf_printf(out, "%s ", call.objects[i].key);
        cr_assert_str_eq(store_fields_get(&call.objects[i].meta, "mode"), "33188");
    }
    buf_add_string(out, "| ");
    for (size_t i = 0; i < call.prefix_count; i++)
        buf_printf(out, "%s ", call.prefixes[i]);
    cr_assert_null(call.next_token);
    store_call_release(&call);
}

#define KEYS "p/a/ p/a/1 p/a/b/2 p/a/b/3 p/a/c p/a/d/e/4 p/b-1/x p/b/y p/c"

Test(swath, it_answers_as_a_LIST_with_delimiter_would)
{
    struct stage stage;
    BUF_SCOPED out = BUF_INIT;
    begin(&stage, "p/a.", KEYS, false);
    print_answer(stage.swath, "p/a/", &out);
    cr_assert_str_eq(out.bytes, "p/a/ p/a/1 p/a/c | p/a/b/ p/a/d/ ");
    print_answer(stage.swath, "p/a/d/", &out);
    cr_assert_str_eq(out.bytes, "| p/a/d/e/ ");
    print_answer(stage.swath, "p/b/", &out);
    cr_assert_str_eq(out.bytes, "p/b/y | ");
    print_answer(stage.swath, "p/bb/", &out);
    cr_assert_str_eq(out.bytes, "| ");
    end(&stage);
}

Test(swath, it_holds_a_directory_whose_keys_all_lie_in_it)
{
    struct stage stage;
    begin(&stage, "p/a.", KEYS, true);
    cr_assert(swath_holds(stage.swath, "p/a/"));
    cr_assert(swath_holds(stage.swath, "p/a/b/"));
    cr_assert(swath_holds(stage.swath, "p/b/"));
    cr_assert(!swath_holds(stage.swath, "p/ab/"), "there are none: its own LIST says so");
    cr_assert(swath_lacks(stage.swath, "p/ab/"));
    cr_assert(!swath_lacks(stage.swath, "p/b/"));
    cr_assert(!swath_lacks(stage.swath, "p/c/"));
    cr_assert(!swath_lacks(stage.swath, "p/a!/"));
    cr_assert(!swath_holds(stage.swath, "p/c/"), "they may follow");
    cr_assert(!swath_holds(stage.swath, "p/"));
    cr_assert(!swath_holds(stage.swath, "p/a!/"), "it lies before");
    cr_assert(!swath_holds(stage.swath, "q/a/"));
    end(&stage);
    begin(&stage, "p/a.", KEYS " p/c/1", true);
    cr_assert(!swath_holds(stage.swath, "p/c/"), "it may go on");
    cr_assert(!swath_holds(stage.swath, "p/d/"));
    cr_assert_not_null(swath_first(stage.swath, "p/c/"));
    end(&stage);
    begin(&stage, "p/a.", KEYS " p/c/1", false);
    cr_assert(swath_holds(stage.swath, "p/c/"));
    cr_assert(!swath_holds(stage.swath, "p/d/"));
    cr_assert(swath_lacks(stage.swath, "p/d/"));
    end(&stage);
}

Test(swath, it_begins_with_the_directory_that_it_was_asked_for_from_on)
{
    struct stage stage;
    begin(&stage, "p/b.", "p/b./0 p/b.1/x p/b/y p/b/z/1 p/c", false);
    cr_assert(swath_holds(stage.swath, "p/b/"));
    cr_assert(swath_holds(stage.swath, "p/b/z/"));
    cr_assert(swath_holds(stage.swath, "p/b./"));
    cr_assert(swath_holds(stage.swath, "p/b.1/"));
    cr_assert(!swath_holds(stage.swath, "p/b-1/"));
    cr_assert(!swath_lacks(stage.swath, "p/b-1/"), "of what lies before it tells nothing");
    cr_assert(!swath_lacks(stage.swath, "p/"));
    cr_assert_null(swath_first(stage.swath, "p/"));
    end(&stage);
}

Test(swath, the_first_object_of_a_directory_is_its_marker_where_it_has_one)
{
    struct stage stage;
    begin(&stage, "p/a.", KEYS, true);
    cr_assert_str_eq(swath_first(stage.swath, "p/a/")->key, "p/a/");
    cr_assert_str_eq(swath_first(stage.swath, "p/b/")->key, "p/b/y");
    cr_assert_null(swath_first(stage.swath, "p/bb/"));
    cr_assert_null(swath_first(stage.swath, "p/c/"));
    cr_assert_null(swath_first(stage.swath, "p/A/"));
    end(&stage);
}

Test(swath, what_comes_in_another_order_or_was_not_asked_for_is_refused_and_left)
{
    static const char *const bad[] = {"p/b p/a", "p/b p/b", "p/0 p/b", "p/b q/c"};
    struct stage stage;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        begin(&stage, "p/a.", bad[i], false);
        cr_assert_null(stage.swath, "%s", bad[i]);
        cr_assert_eq(stage.list.object_count, 2);
        end(&stage);
    }
    begin(&stage, "p/a.", "", true);
    cr_assert_null(stage.swath, "nothing, and more to come");
    end(&stage);
}

Test(swath, directories_are_counted_once_and_the_one_that_may_go_on_is_not)
{
    struct stage stage;
    begin(&stage, "p/a.", KEYS, false);
    cr_assert_eq(stage.swath->whole, 5); /* a, a/b, a/d/e, b-1, b; "p/" itself never begins */
    end(&stage);
    begin(&stage, "p/a.", "p/a/1 p/a/2 p/b/1 p/b/2 p/c/1", true);
    cr_assert_eq(stage.swath->whole, 2);
    end(&stage);
}
