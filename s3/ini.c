#include "s3/ini.h"

#include <ctype.h>
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/secret.h"

struct entry {
    size_t section; /* its index */
    char *key;      /* "region", "s3.addressing_style" */
    char *value;
};

struct ini {
    char **sections;
    size_t section_count;
    struct entry *entries; /* in the order of the file */
    size_t entry_count;
};

struct reading {
    struct ini *ini;
    const char *name;
    int line;
    size_t section; /* the current one; SIZE_MAX before the first */
    char *block;    /* the key without value that lines indented deeper than it belong to, or NULL */
    size_t block_indent;
    struct buf *why;
};

static int refuse(const struct reading *reading, const char *what)
{
    if (reading->why)
        buf_printf(reading->why, "%s:%d: %s", reading->name, reading->line, what);
    return -EBADMSG;
}

static void wipe_string(char *text)
{
    if (text)
        secret_wipe(text, strlen(text));
    free(text);
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text))
        text++;
    size_t length = strlen(text);
    while (length && isspace((unsigned char)text[length - 1]))
        text[--length] = '\0';
    return text;
}

static size_t find_section(const struct ini *ini, const char *name)
{
    for (size_t i = 0; i < ini->section_count; i++)
        if (!strcmp(ini->sections[i], name))
            return i;
    return SIZE_MAX;
}

/* `[profile   dev]` and `[profile "dev"]` are the section "profile dev". */
static char *normalise_section(char *text)
{
    struct buf name = BUF_INIT;
    char *rest = NULL;
    for (char *word = strtok_r(text, " \t", &rest); word; word = strtok_r(NULL, " \t", &rest)) {
        size_t length = strlen(word);
        if (length >= 2 && (word[0] == '"' || word[0] == '\'') && word[length - 1] == word[0]) {
            word[length - 1] = '\0';
            word++;
        }
        buf_printf(&name, "%s%s", name.length ? " " : "", word);
    }
    return buf_take(&name);
}

static int read_section(struct reading *reading, char *line)
{
    char *end = strchr(line, ']');
    if (!end)
        return refuse(reading, "a section begins with '[' but has no ']'");
    *end = '\0';
    char *after = trim(end + 1);
    if (*after && *after != '#' && *after != ';')
        return refuse(reading, "there is text behind the section's ']'");
    char *name = normalise_section(line + 1);
    if (!*name) {
        free(name);
        return refuse(reading, "a section without a name");
    }
    struct ini *ini = reading->ini;
    reading->section = find_section(ini, name);
    if (reading->section != SIZE_MAX) {
        free(name);
        return 0;
    }
    ini->sections = xrealloc(ini->sections, (ini->section_count + 1) * sizeof(*ini->sections));
    reading->section = ini->section_count;
    ini->sections[ini->section_count++] = name;
    return 0;
}

/* A comment begins a line, or stands behind white space: a secret may hold a '#'. */
static void cut_comment(char *value)
{
    for (char *at = value; *at; at++)
        if ((*at == '#' || *at == ';') && (at == value || isspace((unsigned char)at[-1]))) {
            *at = '\0';
            return;
        }
}

static void add_entry(struct reading *reading, const char *block, const char *key, const char *value)
{
    struct ini *ini = reading->ini;
    ini->entries = xrealloc(ini->entries, (ini->entry_count + 1) * sizeof(*ini->entries));
    ini->entries[ini->entry_count++] = (struct entry){
        .section = reading->section,
        .key = block ? xprintf("%s.%s", block, key) : xstrdup(key),
        .value = xstrdup(value),
    };
}

static int read_pair(struct reading *reading, char *line, size_t indent)
{
    bool inside = reading->block && indent > reading->block_indent;
    if (reading->section == SIZE_MAX)
        return refuse(reading, "a setting before the first [section]");
    char *equals = strchr(line, '=');
    if (!equals)
        return refuse(reading, "neither [section] nor key = value");
    *equals = '\0';
    char *key = trim(line);
    if (!*key)
        return refuse(reading, "a value without a key");
    for (char *at = key; *at; at++)
        *at = (char)tolower((unsigned char)*at);
    cut_comment(equals + 1);
    char *value = trim(equals + 1);
    add_entry(reading, inside ? reading->block : NULL, key, value);
    if (!inside) {
        free(reading->block);
        reading->block = *value ? NULL : xstrdup(key);
        reading->block_indent = indent;
    }
    return 0;
}

static int read_line(struct reading *reading, char *line)
{
    char *text = trim(line);
    size_t indent = (size_t)(text - line);
    if (!*text || *text == '#' || *text == ';')
        return 0;
    if (*text == '[' && !indent) {
        free(reading->block);
        reading->block = NULL;
        return read_section(reading, text);
    }
    return read_pair(reading, text, indent);
}

static int read_lines(struct reading *reading, char *text)
{
    int rc = 0;
    while (text && !rc) {
        char *end = strchr(text, '\n');
        if (end)
            *end = '\0';
        reading->line++;
        rc = read_line(reading, text);
        text = end ? end + 1 : NULL;
    }
    return rc;
}

int ini_parse(const char *bytes, size_t length, const char *name, struct ini **ret_ini, struct buf *why)
{
    struct reading reading = {.name = name, .line = 1, .section = SIZE_MAX, .why = why};
    if (length > INI_BYTES_MAX)
        return refuse(&reading, "larger than 1 MiB");
    if (length && memchr(bytes, '\0', length))
        return refuse(&reading, "holds NUL bytes: this is no text file");
    reading.line = 0;
    reading.ini = xcalloc(1, sizeof(*reading.ini));
    char *copy = xstrndup(bytes, length);
    size_t mark = length >= 3 && !memcmp(copy, "\xEF\xBB\xBF", 3) ? 3 : 0; /* editors of Windows write one */
    int rc = read_lines(&reading, copy + mark);
    secret_wipe(copy, length);
    free(copy);
    free(reading.block);
    if (rc < 0)
        ini_free(reading.ini);
    else
        *ret_ini = reading.ini;
    return rc;
}

void ini_free(struct ini *ini)
{
    if (!ini)
        return;
    for (size_t i = 0; i < ini->section_count; i++)
        free(ini->sections[i]);
    for (size_t i = 0; i < ini->entry_count; i++) {
        free(ini->entries[i].key);
        wipe_string(ini->entries[i].value);
    }
    free(ini->sections);
    free(ini->entries);
    free(ini);
}

const char *ini_get(const struct ini *ini, const char *section, const char *key)
{
    size_t place = ini ? find_section(ini, section) : SIZE_MAX;
    const char *value = NULL;
    for (size_t i = 0; place != SIZE_MAX && i < ini->entry_count; i++)
        if (ini->entries[i].section == place && !strcmp(ini->entries[i].key, key))
            value = ini->entries[i].value;
    return value && *value ? value : NULL;
}

bool ini_has_section(const struct ini *ini, const char *section)
{
    return ini && find_section(ini, section) != SIZE_MAX;
}
