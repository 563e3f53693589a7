/* Any bytes as the options of a line of fstab: what is left of them is sorted once, and says the same when it is sorted again. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mount/helper.h"
#include "mount/option.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void sort(const char *list, bool sloppy)
{
    BUF_SCOPED options = BUF_INIT;
    BUF_SCOPED again = BUF_INIT;
    BUF_SCOPED dropped = BUF_INIT;
    BUF_SCOPED why = BUF_INIT;
    struct settings settings = {0};
    helper_options(list, sloppy, &options, &dropped);
    buf_reset(&dropped);
    assert(helper_options(options.bytes, sloppy, &again, &dropped) == REMOUNT_NOT);
    assert(strcmp(again.bytes, options.bytes) == 0);
    assert(dropped.length == 0);
    option_defaults(&settings);
    if (option_parse_list(&settings, options.bytes, &why) < 0)
        assert(why.length > 0);
    else
        option_check(&settings, &why);
    settings_release(&settings);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    STRING_SCOPED *list = xstrndup((const char *)data, size);
    sort(list, false);
    sort(list, true);
    return 0;
}
