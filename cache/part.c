#include "cache/part.h"

#include <errno.h>

#include "base/memory.h"
#include "s3/store.h"

#define STEP_PARTS ((uint64_t)1000) /* parts of one size before the size doubles */

static uint64_t round_to_pages(uint64_t bytes)
{
    return (bytes + PAGE_BYTES - 1) / PAGE_BYTES * PAGE_BYTES;
}

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t step_bytes(const struct part_plan *plan, uint64_t step)
{
    if (plan->equal || step > 16)
        return plan->equal ? plan->bytes : plan->bytes_max;
    return smaller(plan->bytes << step, plan->bytes_max);
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

void part_range(const struct part_plan *plan, size_t index, uint64_t *ret_start, uint64_t *ret_end)
{
    uint64_t start = 0, step = 0, left = index;
    for (; left >= STEP_PARTS; left -= STEP_PARTS)
        start += STEP_PARTS * step_bytes(plan, step++);
    *ret_start = start + left * step_bytes(plan, step);
    *ret_end = *ret_start + step_bytes(plan, step);
}

size_t part_count(const struct part_plan *plan, uint64_t size)
{
    uint64_t count = 0, step = 0;
    for (; count <= STORE_PARTS_MAX; step++, count += STEP_PARTS) {
        uint64_t bytes = step_bytes(plan, step);
        if (size <= STEP_PARTS * bytes)
            return (size_t)(count + (size + bytes - 1) / bytes);
        size -= STEP_PARTS * bytes;
    }
    return STORE_PARTS_MAX + 1;
}
