#include <unistd.h>

#include "cache/attr.h"
#include "cache/mime.h"

void cache_describe(const struct attributes *attributes, const char *key, struct store_fields *meta,
                    struct store_fields *headers)
{
    attr_to_meta(attributes, true, meta);
    store_fields_add(headers, "content-type", mime_type(key));
}

void cache_attributes_of(const struct store_object *object, struct attributes *ret_attributes)
{
    const struct attr_defaults defaults = {
        .uid = geteuid(), .gid = getegid(), .file_mode = 0644, .dir_mode = 0755};
    attr_from_object(object, &defaults, ret_attributes);
}
