/* signals: which of them a thread of ours leaves to the thread that waits for them. */
#ifndef BASE_SIGNALS_H
#define BASE_SIGNALS_H

#include <signal.h>

/* All but those that a thread's own fault raises: blocked, the kernel would end the process without its handler. */
void signals_of_others(sigset_t *ret_set);

#endif
