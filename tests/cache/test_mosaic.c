#include "cache/mosaic.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "s3/store.h"

#define KIB ((uint64_t)1 << 10)
#define MIB ((uint64_t)1 << 20)
#define GIB ((uint64_t)1 << 30)
#define TIB ((uint64_t)1 << 40)

/* A changed file of the tests, and how it is cut: "c" copied to here, "s" sent to here, what follows goes by number. */
struct sample {
    struct extents changed;
    struct part_plan plan;
    uint64_t base_size, size;
    bool cut;
};

static void release(struct sample *sample)
{
    extents_release(&sample->changed);
    part_plan_release(&sample->plan);
}

static void cut(struct sample *sample, uint64_t part_bytes, uint64_t memory)
{
    cr_assert_eq(part_plan(sample->size, part_bytes, memory, false, &sample->plan), 0);
    sample->cut = mosaic_cut(&sample->plan, &sample->changed, sample->base_size, sample->size);
}

/* What the header promises of every cut. Says what is wrong, or NULL. */
static const char *find_fault(const struct sample *sample)
{
    const struct part_plan *plan = &sample->plan;
    size_t count = part_count(plan, sample->size);
    uint64_t before = 0;
    if (sample->cut != (plan->piece_count > 0))
        return "the answer is not what the plan says";
    if (sample->cut && !plan->pieces[plan->piece_count - 1].copied)
        return "the last piece is not copied";
    if (count > (sample->cut ? MOSAIC_PARTS_MAX : STORE_PARTS_MAX))
        return "too many parts";
    for (size_t i = 0; i < count; i++) {
        uint64_t start, end;
        part_range(plan, i, &start, &end);
        bool copied = part_copied(plan, i), last = i + 1 == count;
        if (start != before || end <= start || start >= sample->size)
            return "parts do not join";
        if (copied && (end > sample->base_size || extents_touch(&sample->changed, start, end)))
            return "a copied part holds bytes that changed";
        if (copied && (end - start < PART_BYTES_MIN || end - start > PART_BYTES_MAX))
            return "a copied part has no legal size";
        if (!copied && end - start > plan->bytes_max)
            return "a sent part does not fit into memory";
        if (!last && end - start < PART_BYTES_MIN)
            return "a part is too small";
        before = end;
    }
    if (before < sample->size)
        return "parts do not hold the file";
    return mosaic_holds(plan, &sample->changed, sample->base_size) ? NULL : "it does not hold";
}

static void check(const struct sample *sample, const char *what)
{
    const char *fault = find_fault(sample);
    cr_assert(!fault, "%s: %s", what, fault);
}

/* Bytes of the base that must come here, which goes with what is sent. */
static uint64_t count_fetched(const struct sample *sample)
{
    struct extents here = {0};
    uint64_t fetched = 0;
    mosaic_copied(&sample->plan, &here);
    for (size_t i = 0; i < sample->changed.count; i++)
        extents_add(&here, sample->changed.all[i].start, sample->changed.all[i].end);
    struct extent gap;
    for (uint64_t at = 0; extents_next_gap(&here, at, sample->base_size, &gap); at = gap.end)
        fetched += gap.end - gap.start;
    extents_release(&here);
    return fetched;
}

static void print(const struct sample *sample, char *out, size_t room)
{
    uint64_t before = 0;
    *out = '\0';
    for (size_t i = 0; i < sample->plan.piece_count; i++) {
        const struct part_piece *piece = &sample->plan.pieces[i];
        size_t length = strlen(out);
        snprintf(out + length, room - length, "%s%s%lu", length ? " " : "", piece->copied ? "c" : "s",
                 (unsigned long)((piece->end - before) / KIB));
        before = piece->end;
    }
}

Test(mosaic, copies_what_did_not_change_in_few_pieces)
{
    static const struct {
        const char *what;
        uint64_t base_kib, size_kib;
        uint64_t changed_kib[6]; /* start, end ... */
        const char *pieces;      /* lengths in KiB */
        uint64_t fetched_kib;
    } rows[] = {
        {"appended to", 512000, 512001, {512000, 512001}, "c256000 c256000", 0},
        {"appended much to", 102400, 204800, {102400, 204800}, "c102400", 0},
        {"grown by a hole", 102400, 204800, {0}, "c102400", 0},
        {"cut and written on", 51200, 60000, {51200, 60000}, "c51200", 0},
        {"patched in the middle", 102400, 102400, {40960, 40964}, "c40960 s5120 c56320", 5116},
        {"patched by a page at its start", 102400, 102400, {0, 4}, "s5120 c97280", 5116},
        {"patched near its start", 102400, 102400, {5119, 5121}, "s5121 c97279", 5119},
        {"patched one least part from its start", 102400, 102400, {5120, 5121}, "c5120 s5120 c92160", 5119},
        {"patched at its end", 102400, 102400, {102396, 102400}, "c102396", 0},
        {"patched near its end", 102400, 102400, {98304, 98308}, "c98304", 4092},
        {"patched where no copy fits behind", 102400, 102400, {92161, 92165}, "c92161", 10235},
        {"patched where one just fits behind", 102400, 102400, {92160, 92164}, "c92160 s5120 c5120", 5116},
        {"patched twice, near each other",
         102400,
         102400,
         {20480, 20484, 30719, 30723},
         "c20480 s8192 s5120 c68608",
         13304},
        {"patched twice, far enough",
         102400,
         102400,
         {20480, 20484, 30720, 30724},
         "c20480 s5120 c5120 s5120 c66560",
         10232},
        {"rewritten in its first half",
         102400,
         102400,
         {0, 51200},
         "s8192 s8192 s8192 s8192 s8192 s8192 s5120 c48128",
         3072},
        {"rewritten but for a little", 102400, 102400, {0, 50000, 55119, 102400}, "", 5119},
        {"rewritten but for a least part",
         102400,
         102400,
         {0, 49152, 54272, 102400},
         "s8192 s8192 s8192 s8192 s8192 s8192 c5120",
         0},
        {"small", 8192, 8192, {0, 4}, "", 8188},
        {"small, appended to", 8192, 8193, {8192, 8193}, "c8192", 0},
        {"smaller than a part, appended to", 5119, 20000, {5119, 20000}, "", 5119},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct sample sample = {.base_size = rows[i].base_kib * KIB, .size = rows[i].size_kib * KIB};
        char pieces[400];
        for (int at = 0; at < 6 && rows[i].changed_kib[at + 1]; at += 2)
            extents_add(&sample.changed, rows[i].changed_kib[at] * KIB, rows[i].changed_kib[at + 1] * KIB);
        cut(&sample, 0, 256 * MIB);
        check(&sample, rows[i].what);
        print(&sample, pieces, sizeof pieces);
        cr_expect_str_eq(pieces, rows[i].pieces, "%s: %s", rows[i].what, pieces);
        cr_expect_eq(count_fetched(&sample) / KIB, rows[i].fetched_kib, "%s: %lu", rows[i].what,
                     (unsigned long)(count_fetched(&sample) / KIB));
        release(&sample);
    }
}

Test(mosaic, keeps_its_promise_for_a_patch_at_every_alignment)
{
    static const uint64_t near[] = {0, 1, 4096, 5 * MIB, 8 * MIB, 10 * MIB, 13 * MIB, 15 * MIB, 40 * MIB};
    static const uint64_t lengths[] = {1, 4096, 5 * MIB - 1, 5 * MIB, 5 * MIB + 1, 8 * MIB, 13 * MIB - 1};
    const size_t places = sizeof near / sizeof near[0];
    for (size_t i = 0; i < 2 * places; i++)
        for (int off = -1; off <= 1; off++)
            for (size_t k = 0; k < sizeof lengths / sizeof lengths[0]; k++) {
                struct sample sample = {.base_size = 100 * MIB + 77, .size = 100 * MIB + 77};
                uint64_t at = i < places ? near[i] : sample.base_size - near[i - places];
                if ((off < 0 && at == 0) || at + (uint64_t)off + lengths[k] > sample.base_size)
                    continue;
                at += (uint64_t)(int64_t)off;
                extents_add(&sample.changed, at, at + lengths[k]);
                cut(&sample, 0, 256 * MIB);
                check(&sample, "a patch");
                cr_assert(sample.cut);
                cr_assert_leq(count_fetched(&sample), 15 * MIB);
                release(&sample);
            }
}

Test(mosaic, a_copied_part_never_has_more_than_5_gib_and_there_are_few)
{
    uint64_t bases[] = {GIB, 100 * GIB, TIB, OBJECT_BYTES_MAX - 1};
    for (int i = 0; i < 4; i++) {
        struct sample sample = {.base_size = bases[i], .size = bases[i] + 1};
        extents_add(&sample.changed, bases[i], bases[i] + 1);
        cut(&sample, 0, 16 * GIB);
        check(&sample, "appended to");
        cr_assert_leq(sample.plan.piece_count, MOSAIC_COPIES + 1);
        cr_assert_leq(sample.plan.piece_count, bases[i] / MOSAIC_COPY_BYTES + 1);
        release(&sample);
    }
}

Test(mosaic, what_is_scattered_too_widely_is_sent_from_the_shortest_range_on)
{
    struct sample sample = {.base_size = TIB, .size = TIB};
    uint64_t step = 20 * MIB;
    for (uint64_t at = step; at < 600 * GIB; at += step) /* 30 000 patches */
        cr_assert_eq(extents_add(&sample.changed, at, at + 4096), 0);
    cut(&sample, 0, 4 * GIB);
    cr_assert(sample.cut);
    check(&sample, "scattered");
    struct extents copied = {0};
    mosaic_copied(&sample.plan, &copied);
    cr_assert_geq(extents_bytes(&copied), 423 * GIB);
    extents_release(&copied);
    release(&sample);
}

Test(mosaic, endpoints_that_want_equal_parts_get_the_old_way)
{
    struct part_plan plan;
    struct extents changed = {0};
    cr_assert_eq(part_plan(100 * MIB, 0, 256 * MIB, true, &plan), 0);
    cr_assert_not(mosaic_cut(&plan, &changed, 100 * MIB, 100 * MIB));
    cr_assert_eq(plan.piece_count, 0);
}

Test(mosaic, does_not_hold_any_more_when_a_copied_byte_changes_or_is_cut_off)
{
    struct sample sample = {.base_size = 100 * MIB, .size = 100 * MIB};
    extents_add(&sample.changed, 40 * MIB, 40 * MIB + 1);
    cut(&sample, 0, 256 * MIB);
    cr_assert(mosaic_holds(&sample.plan, &sample.changed, 100 * MIB));
    extents_add(&sample.changed, 40 * MIB, 45 * MIB); /* within what is sent */
    cr_assert(mosaic_holds(&sample.plan, &sample.changed, 100 * MIB));
    cr_assert_not(mosaic_holds(&sample.plan, &sample.changed, 100 * MIB - 1));
    extents_add(&sample.changed, 45 * MIB, 45 * MIB + 1);
    cr_assert_not(mosaic_holds(&sample.plan, &sample.changed, 100 * MIB));
    release(&sample);
}

static uint64_t choose(unsigned *seed, uint64_t limit)
{
    uint64_t value = 0;
    for (int i = 0; i < 4; i++)
        value = value << 16 ^ (uint64_t)rand_r(seed);
    return value % limit;
}

/* Lengths of all orders, with a taste for the borders. */
static uint64_t choose_length(unsigned *seed, uint64_t limit)
{
    static const uint64_t borders[] = {1, PAGE_BYTES, 5 * MIB, 8 * MIB, 10 * MIB, 16 * MIB, 256 * MIB};
    uint64_t length = borders[choose(seed, 7)];
    if (choose(seed, 2))
        length = 1 + choose(seed, (uint64_t)1 << choose(seed, 33));
    length += choose(seed, 3) - 1;
    return length < limit ? length : limit;
}

/* The plain model of what goes up: for each probed byte, where it comes from. */
static bool is_right(const struct sample *sample, uint64_t at)
{
    struct extents copied = {0};
    mosaic_copied(&sample->plan, &copied);
    bool from_base = extents_touch(&copied, at, at + 1);
    bool same = at < sample->base_size && !extents_touch(&sample->changed, at, at + 1);
    extents_release(&copied);
    return !from_base || same;
}

Test(mosaic, random_changes_are_cut_as_promised)
{
    unsigned begin = (unsigned)(getenv("SEED") ? atoi(getenv("SEED")) : 1);
    for (unsigned n = begin; n < begin + 3000; n++) {
        unsigned seed = n;
        struct sample sample = {.base_size = 1 + choose_length(&seed, 40 * GIB)};
        sample.size = sample.base_size + (choose(&seed, 2) ? choose_length(&seed, 40 * GIB) : 0);
        if (sample.size > sample.base_size && choose(&seed, 4))
            extents_add(&sample.changed, sample.base_size, sample.size);
        for (uint64_t i = choose(&seed, 40); i > 0; i--) {
            uint64_t start = choose(&seed, sample.size), length = choose_length(&seed, sample.size - start);
            extents_add(&sample.changed, start, start + length);
        }
        cut(&sample, choose(&seed, 2) ? 0 : 5 * MIB, choose(&seed, 2) ? 64 * MIB : 1 * GIB);
        const char *fault = find_fault(&sample);
        cr_assert(!fault, "SEED=%u: %s", n, fault);
        for (int i = 0; i < 20; i++) {
            uint64_t at = choose(&seed, sample.size);
            cr_assert(is_right(&sample, at), "SEED=%u: byte %lu", n, (unsigned long)at);
        }
        /* Behind a change 5 MiB may be needed for a whole part, the next 5 are worth a copy. */
        struct extents copied = {0};
        struct extent gap;
        mosaic_copied(&sample.plan, &copied);
        for (uint64_t at = 0;
             sample.size > sample.plan.bytes && extents_next_gap(&sample.changed, at, sample.base_size, &gap);
             at = gap.end)
            cr_assert(gap.end - gap.start < 10 * MIB || extents_touch(&copied, gap.start, gap.end),
                      "SEED=%u: %lu to %lu", n, (unsigned long)gap.start, (unsigned long)gap.end);
        extents_release(&copied);
        release(&sample);
    }
}
