#include "base/signals.h"

#include <stddef.h>

void signals_of_others(sigset_t *ret_set)
{
    static const int faults[] = {SIGBUS, SIGSEGV, SIGABRT, SIGILL, SIGFPE};

    sigfillset(ret_set);
    for (size_t i = 0; i < sizeof faults / sizeof faults[0]; i++)
        sigdelset(ret_set, faults[i]);
}
