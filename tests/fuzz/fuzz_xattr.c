/* Any bytes as the field of extended attributes: a set, in order, that is the same again after it was written and read. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/xattr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    STRING_SCOPED *text = xstrndup((const char *)data, size);
    XATTRS_SCOPED xattrs;
    XATTRS_SCOPED again;
    xattrs_read(text, &xattrs);
    STRING_SCOPED *field = xattrs_field(&xattrs);
    if (strlen(field) > XATTR_FIELD_MAX) /* percents make it longer than it came */
        return 0;
    xattrs_read(field, &again);
    assert(again.count == xattrs.count);
    for (size_t i = 0; i < xattrs.count; i++) {
        assert(i == 0 || strcmp(xattrs.all[i - 1].name, xattrs.all[i].name) < 0);
        assert(!xattr_is_virtual(xattrs.all[i].name));
        assert(strcmp(again.all[i].name, xattrs.all[i].name) == 0);
        assert(again.all[i].length == xattrs.all[i].length);
        assert(memcmp(again.all[i].value, xattrs.all[i].value, xattrs.all[i].length) == 0);
    }
    return 0;
}
