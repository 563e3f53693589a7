#include "cache/mime.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define FIELD  "content-type"
#define OCTETS "application/octet-stream"

/* The IANA registry's, where it has one. Sorted by `end`. */
static const struct mime {
    const char *end, *type;
} mimes[] = {
    {"7z", "application/x-7z-compressed"},
    {"avif", "image/avif"},
    {"bmp", "image/bmp"},
    {"bz2", "application/x-bzip2"},
    {"c", "text/x-c"},
    {"css", "text/css"},
    {"csv", "text/csv"},
    {"flac", "audio/flac"},
    {"gif", "image/gif"},
    {"gz", "application/gzip"},
    {"h", "text/x-c"},
    {"h5", "application/x-hdf5"},
    {"htm", "text/html"},
    {"html", "text/html"},
    {"ico", "image/vnd.microsoft.icon"},
    {"ipynb", "application/x-ipynb+json"},
    {"jpeg", "image/jpeg"},
    {"jpg", "image/jpeg"},
    {"js", "text/javascript"},
    {"json", "application/json"},
    {"jsonl", "application/jsonl"},
    {"log", "text/plain"},
    {"m4a", "audio/mp4"},
    {"md", "text/markdown"},
    {"mjs", "text/javascript"},
    {"mkv", "video/matroska"},
    {"mov", "video/quicktime"},
    {"mp3", "audio/mpeg"},
    {"mp4", "video/mp4"},
    {"ogg", "audio/ogg"},
    {"parquet", "application/vnd.apache.parquet"},
    {"pdf", "application/pdf"},
    {"png", "image/png"},
    {"py", "text/x-python"},
    {"rtf", "application/rtf"},
    {"sh", "application/x-sh"},
    {"sql", "application/sql"},
    {"sqlite", "application/vnd.sqlite3"},
    {"svg", "image/svg+xml"},
    {"tar", "application/x-tar"},
    {"tgz", "application/gzip"},
    {"tif", "image/tiff"},
    {"tiff", "image/tiff"},
    {"toml", "application/toml"},
    {"tsv", "text/tab-separated-values"},
    {"txt", "text/plain"},
    {"wasm", "application/wasm"},
    {"wav", "audio/x-wav"},
    {"webm", "video/webm"},
    {"webp", "image/webp"},
    {"xml", "application/xml"},
    {"xz", "application/x-xz"},
    {"yaml", "application/yaml"},
    {"yml", "application/yaml"},
    {"zip", "application/zip"},
    {"zst", "application/zstd"},
};

static int compare(const void *end, const void *mime)
{
    return strcasecmp(end, ((const struct mime *)mime)->end);
}

const char *mime_type(const char *key)
{
    size_t length = strlen(key);
    const char *slash = strrchr(key, '/'), *name = slash ? slash + 1 : key, *dot = strrchr(name, '.');

    if (length && key[length - 1] == '/')
        return "application/x-directory";
    const struct mime *mime =
        dot && dot > name ? bsearch(dot + 1, mimes, sizeof mimes / sizeof mimes[0], sizeof mimes[0], compare)
                          : NULL;
    return mime ? mime->type : OCTETS;
}

void mime_headers(const struct store_fields *headers, const char *base_key, const char *key,
                  struct store_fields *ret_headers)
{
    *ret_headers = (struct store_fields){0};
    if (headers)
        store_fields_copy(ret_headers, headers);
    const char *type = store_fields_get(ret_headers, FIELD);
    if (!type || (base_key && strcmp(type, mime_type(base_key)) == 0))
        store_fields_set(ret_headers, FIELD, mime_type(key));
}
