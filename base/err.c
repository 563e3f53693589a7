#include "base/err.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Numbers without a name are rare (a foreign library's): the text lives until this thread asks 4 more times. */
static const char *name_unknown(const char *prefix, int error)
{
    static _Thread_local char texts[4][32];
    static _Thread_local unsigned turn;
    char *text = texts[turn++ % 4];
    snprintf(text, sizeof(texts[0]), "%s%d", prefix, error);
    return text;
}

static int positive(int error)
{
    return error < 0 && error != INT_MIN ? -error : error;
}

const char *err_name(int error)
{
    const char *name = error ? strerrorname_np(positive(error)) : "0";
    return name ? name : name_unknown("E", positive(error));
}

const char *err_text(int error)
{
    const char *text = strerrordesc_np(positive(error));
    return text ? text : name_unknown("Unknown error ", positive(error));
}
