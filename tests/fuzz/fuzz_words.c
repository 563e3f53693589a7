/* Any text as options of a mount or of fstab, as --volume, as geesefs's command line: taken, or refused with words. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/geesefs.h"
#include "mount/helper.h"
#include "mount/option.h"
#include "mount/volume.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void as_options(const char *text)
{
    struct settings settings = {0};
    BUF_SCOPED why = BUF_INIT, options = BUF_INIT, dropped = BUF_INIT;
    option_defaults(&settings);
    int rc = option_parse_list(&settings, text, &why);
    assert(rc == 0 || why.length);
    helper_options(text, true, &options, &dropped);
    settings_release(&settings);
    /* What the helper hands on reads as what came, but for what it takes out. */
    BUF_SCOPED again = BUF_INIT, none = BUF_INIT;
    helper_options(options.bytes, true, &again, &none);
    assert(strcmp(again.bytes, options.bytes) == 0);
}

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

static void as_command_line(char *text)
{
    char *words[32] = {text};
    int count = 1;
    struct geesefs_words said;
    BUF_SCOPED why = BUF_INIT;
    for (char *word; count < 32 && (word = strsep(&text, " "));)
        words[count++] = word;
    int rc = geesefs_read(count, words, &said, &why);
    assert(rc == 0 || why.length);
    geesefs_words_release(&said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    memcpy(text, data, size);
    text[size] = 0;
    as_options(text);
    as_volume(text);
    as_command_line(text);
    free(text);
    return 0;
}
