#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "mount/command.h"

/* A caller may have closed them: the next file would be opened in their place, and messages would be written into it. */
static int open_standard_files(void)
{
    int file;
    do
        file = open("/dev/null", O_RDWR);
    while (file >= 0 && file <= STDERR_FILENO);
    return file < 0 ? -1 : close(file);
}

/* A hundred threads, few of which run at once: what one gives back shall serve the others, and not stay in a heap of its own. */
#define HEAPS 2

int main(int count, char **words)
{
    mallopt(M_ARENA_MAX, HEAPS);
    if (open_standard_files() < 0)
        return 1;
    signal(SIGCHLD, SIG_DFL); /* inherited as ignored, no child's end could be awaited */
    return command_main(count, words);
}
