/* Any text as --volume: taken, or refused with words. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_volume(const char *text)
{
    struct volume volume;
    BUF_SCOPED why = BUF_INIT;
    volume_init(&volume, "--volume 1");
    int rc = volume_parse(&volume, text, &why);
    assert(rc == 0 || why.length);
    rc = volumes_check(&volume, 1, "/mnt/skyvol", &why);
    assert(rc < 0 ||
           (volume.mount[0] == '/' && !strstr(volume.mount, "/../") && !strstr(volume.mount, "//")));
    volume_release(&volume);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    as_volume(text);
    free(text);
    return 0;
}
