/* Any bytes as a state file: refused with words, or read; and then it can be written and read again as it was. */
#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "mount/state.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *choose_path(void)
{
    static char directory[] = "/tmp/skyvol-fuzz.XXXXXX", path[64];
    if (*path)
        return path;
    assert(mkdtemp(directory));
    snprintf(path, sizeof(path), "%s/state", directory);
    return path;
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert(fd >= 0);
    ssize_t put = write(fd, data, size);
    assert(put == (ssize_t)size);
    close(fd);
}

static void check_same(const struct state *a, const struct state *b)
{
    assert(state_count(a) == state_count(b));
    for (size_t i = 0; i < state_count(a); i++) {
        const struct state_thing *one = state_at(a, i), *two = state_at(b, i);
        assert(strcmp(one->kind, two->kind) == 0 && one->made == two->made && !one->id == !two->id);
        assert(!one->id || strcmp(one->id, two->id) == 0);
        assert(!one->secret == !two->secret);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct state *state = NULL, *again = NULL;
    const char *path = choose_path();
    BUF_SCOPED why = BUF_INIT;
    write_file(path, data, size);
    int rc = state_open(path, "gcp", "p", &state, &why);
    assert((rc == 0) == !why.length);
    if (rc < 0)
        return 0;
    rc = state_save(state, &why);
    assert(rc == 0);
    rc = state_look(path, "gcp", &again, &why);
    assert(rc == 0 || (rc == -ENOENT && !state_count(state)));
    if (rc == 0)
        check_same(state, again);
    state_close(again);
    state_close(state);
    return 0;
}
