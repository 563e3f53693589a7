#include <fcntl.h>
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

int main(int count, char **words)
{
    if (open_standard_files() < 0)
        return 1;
    signal(SIGCHLD, SIG_DFL); /* inherited as ignored, no child's end could be awaited */
    return command_main(count, words);
}
