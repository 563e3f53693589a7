#include "cache/part.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/memory.h"
#include "s3/store.h"

#define STEP_PARTS ((size_t)1000) /* parts of one size before the size doubles */

static uint64_t round_to_pages(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t part_bytes(const struct part_plan *plan, size_t index)
{
    uint64_t step = index / STEP_PARTS;
    if (plan->equal || step > 16)
        return plan->equal ? plan->bytes : plan->bytes_max;
    return smaller(plan->bytes << step, plan->bytes_max);
}

void part_plan_copy(struct part_plan *to, const struct part_plan *from)
{
    *to = *from;
    if (!from->piece_count)
        return;
    to->pieces = xcalloc(from->piece_count, sizeof to->pieces[0]);
    memcpy(to->pieces, from->pieces, from->piece_count * sizeof to->pieces[0]);
}

void part_plan_release(struct part_plan *plan)
{
    free(plan->pieces);
    plan->pieces = NULL;
    plan->piece_count = 0;
}

bool part_copied(const struct part_plan *plan, size_t index)
{
    return index < plan->piece_count && plan->pieces[index].copied;
}

int part_plan(uint64_t size, uint64_t bytes, uint64_t memory_limit, bool equal, struct part_plan *ret_plan)
{
    struct part_plan plan = {.bytes = round_to_pages(bytes ? bytes : (uint64_t)8 << 20), .equal = equal};
    plan.bytes_max = memory_limit / 4 / PAGE_BYTES * PAGE_BYTES;
    if (plan.bytes_max < PART_BYTES_MIN)
        plan.bytes_max = PART_BYTES_MIN;
    plan.bytes_max = smaller(plan.bytes_max, PART_BYTES_MAX);
    plan.bytes = smaller(plan.bytes, plan.bytes_max);
    if (equal && size > plan.bytes * STORE_PARTS_MAX)
        plan.bytes = round_to_pages(size / STORE_PARTS_MAX + 1);
    if (plan.bytes > plan.bytes_max || size > OBJECT_BYTES_MAX || part_count(&plan, size) > STORE_PARTS_MAX)
        return -EFBIG;
    *ret_plan = plan;
    return 0;
}

/* Where the pieces end, and the parts by number begin. */
static uint64_t tail_start(const struct part_plan *plan)
{
    return plan->piece_count ? plan->pieces[plan->piece_count - 1].end : 0;
}

void part_range(const struct part_plan *plan, size_t index, uint64_t *ret_start, uint64_t *ret_end)
{
    if (index < plan->piece_count) {
        *ret_start = index ? plan->pieces[index - 1].end : 0;
        *ret_end = plan->pieces[index].end;
        return;
    }
    uint64_t start = tail_start(plan);
    size_t at = plan->piece_count;
    for (size_t next; index / STEP_PARTS > at / STEP_PARTS; at = next) {
        next = (at / STEP_PARTS + 1) * STEP_PARTS;
        start += (next - at) * part_bytes(plan, at);
    }
    *ret_start = start + (index - at) * part_bytes(plan, index);
    *ret_end = *ret_start + part_bytes(plan, index);
}

size_t part_count(const struct part_plan *plan, uint64_t size)
{
    uint64_t left = tail_start(plan);
    size_t at = plan->piece_count;
    if (size <= left) {
        while (at > 0 && (at > 1 ? plan->pieces[at - 2].end : 0) >= size)
            at--;
        return size ? at : 0;
    }
    left = size - left;
    for (size_t next; at <= STORE_PARTS_MAX; at = next) {
        uint64_t bytes = part_bytes(plan, at);
        next = (at / STEP_PARTS + 1) * STEP_PARTS;
        if (left <= (next - at) * bytes)
            return at + (left + bytes - 1) / bytes;
        left -= (next - at) * bytes;
    }
    return STORE_PARTS_MAX + 1;
}
