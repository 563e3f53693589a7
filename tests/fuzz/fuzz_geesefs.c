/* Any words as a command line of geesefs: understood, or refused with a reason; what is understood is a list of options. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/geesefs.h"
#include "mount/option.h"

#define WORDS_MAX 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char name[] = "geesefs";
    char *words[WORDS_MAX + 1] = {name};
    int count = 1;
    STRING_SCOPED *line = xstrndup((const char *)data, size);
    char *rest = line;
    for (char *word; count < WORDS_MAX && (word = strsep(&rest, " \n"));)
        words[count++] = word;
    struct geesefs_words said;
    struct settings settings = {0};
    BUF_SCOPED why = BUF_INIT;
    if (geesefs_read(count, words, &said, &why) < 0) {
        assert(why.length > 0);
    } else {
        assert(said.help || said.version || (said.mount.source && said.mount.directory));
        option_defaults(&settings);
        if (option_parse_list(&settings, said.mount.options.bytes, &why) < 0)
            assert(why.length > 0);
        settings_release(&settings);
    }
    geesefs_words_release(&said);
    return 0;
}
