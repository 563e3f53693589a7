/* window: how many uploads may be in flight at once: as many as the server takes. Pure.
 *
 *      size   16 ----.                                 .---- 16, never above `most`
 *                    '-- 8 ----.           .--- 5 ... 15
 *                              '--- 4 -----'
 *                    slowed    slowed      `size` of them in a row were taken: one more
 *
 * One that the server told to slow down, or left without an answer for too long, halves it; but a crowd is one cut: those that
 * went out before the last cut say nothing new. Never below one. One that was slowed is not in flight while it waits to go out
 * again, for half a minute where the server says so: others may go instead, but no more than `most` in all.
 *
 * Threads: the caller's lock.
 */
#ifndef CACHE_WINDOW_H
#define CACHE_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

struct window {
    uint32_t most, size;
    uint32_t waiting;       /* were slowed, and have not ended */
    uint32_t taken;         /* in a row, since it last changed */
    uint64_t begun, cut_at; /* tickets: the last one, and that at the last cut */
};

void window_init(struct window *window, uint32_t most);
/* How many may be under way, those that wait included. */
uint32_t window_room(const struct window *window);
/* One goes out, or will again after it was slowed. Its ticket, for window_slowed(). */
uint64_t window_begin(struct window *window);
/* True: fewer may be in flight from now on. */
bool window_slowed(struct window *window, uint64_t ticket);
/* One ended well, and was never slowed. */
void window_taken(struct window *window);
/* One waits, since it was slowed, and does no more, since it ended. */
void window_wait(struct window *window);
void window_wait_end(struct window *window);

#endif
