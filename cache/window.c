#include "cache/window.h"

#include <assert.h>

void window_init(struct window *window, uint32_t most)
{
    *window = (struct window){.most = most, .size = most};
}

uint64_t window_begin(struct window *window)
{
    return ++window->begun;
}

bool window_slowed(struct window *window, uint64_t ticket)
{
    window->taken = 0;
    if (ticket <= window->cut_at)
        return false;
    window->cut_at = window->begun;
    if (window->size == 1)
        return false;
    window->size /= 2;
    return true;
}

void window_taken(struct window *window)
{
    if (window->size == window->most || ++window->taken < window->size)
        return;
    window->taken = 0;
    window->size++;
}

uint32_t window_room(const struct window *window)
{
    uint32_t room = window->size + window->waiting;
    return room < window->most ? room : window->most;
}

void window_wait(struct window *window)
{
    window->waiting++;
}

void window_wait_end(struct window *window)
{
    assert(window->waiting > 0);
    window->waiting--;
}
