/* Any text, quoted, through sh: it comes back as it was. */
#include <assert.h>
#include <spawn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mount/shell.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void run(char *script, struct buf *ret_out)
{
    char sh[] = "sh", c[] = "-c", *words[] = {sh, c, script, NULL}, *environment[] = {NULL}, room[4096];
    int ends[2], status;
    pid_t child;
    ssize_t length;
    posix_spawn_file_actions_t actions;
    int rc = pipe(ends);
    assert(rc == 0);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    rc = posix_spawn(&child, "/bin/sh", &actions, NULL, words, environment);
    assert(rc == 0);
    close(ends[1]);
    while ((length = read(ends[0], room, sizeof room)) > 0)
        buf_add(ret_out, room, (size_t)length);
    close(ends[0]);
    waitpid(child, &status, 0);
    posix_spawn_file_actions_destroy(&actions);
    assert(status == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 4096 || memchr(data, 0, size))
        return 0;
    BUF_SCOPED script = BUF_INIT, out = BUF_INIT;
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    buf_add_string(&script, "printf '%s.' ");
    shell_quote(&script, text);
    run(script.bytes, &out);
    assert(out.length == size + 1 && memcmp(out.bytes, data, size) == 0);
    free(text);
    return 0;
}
