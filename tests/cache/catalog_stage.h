/* catalog_stage: a catalog in a directory of its own, and hands for its tests. Included by criterion programs. */
#ifndef TESTS_CACHE_CATALOG_STAGE_H
#define TESTS_CACHE_CATALOG_STAGE_H

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cache/catalog.h"
#include "cache/facts.h"

#define UNUSED __attribute__((unused))

/* ---- A place of its own. ---- */

struct stage {
    char root[64], path[80];
    struct catalog_config config;
    struct catalog *catalog;
};

static struct stage stage;

static UNUSED void begin(void)
{
    strcpy(stage.root, "/tmp/skyvol-catalog.XXXXXX");
    cr_assert_not_null(mkdtemp(stage.root));
    snprintf(stage.path, sizeof stage.path, "%s/catalog", stage.root);
    stage.config =
        (struct catalog_config){.path = stage.path, .source = "http://host/bucket/p", .boot = "boot"};
}

static UNUSED void end(void)
{
    char *command;

    catalog_free(stage.catalog);
    command = xprintf("rm -rf %s", stage.root);
    cr_assert_eq(system(command), 0);
    free(command);
}

static UNUSED void open_it(void)
{
    BUF_SCOPED why = BUF_INIT;

    stage.catalog = catalog_new(&stage.config, &why);
    cr_assert_not_null(stage.catalog, "%s", why.bytes);
}

static UNUSED void close_it(void)
{
    catalog_free(stage.catalog);
    stage.catalog = NULL;
}

static UNUSED void open_again(void)
{
    close_it();
    open_it();
}

static UNUSED void put(uint64_t directory, const char *name, const char *text)
{
    catalog_put(stage.catalog, directory, name, text, strlen(text));
}

/* "facts"; "ENOENT", "ENODATA". */
static UNUSED void assert_find(uint64_t directory, const char *name, const char *expected)
{
    BUF_SCOPED facts = BUF_INIT;
    int rc = catalog_find(stage.catalog, directory, name, &facts);
    const char *found = rc == -ENOENT ? "ENOENT" : rc == -ENODATA ? "ENODATA" : facts.bytes;

    cr_assert_str_eq(found, expected, "%s", name);
}

static UNUSED bool add_name(void *context, const char *name, const void *facts, size_t length)
{
    buf_printf(context, "%s=%.*s ", name, (int)length, (const char *)facts);
    return true;
}

/* "ENODATA": it is not listed whole, whatever is known. */
static UNUSED void assert_walk(uint64_t directory, const char *expected)
{
    BUF_SCOPED all = BUF_INIT;
    int rc = catalog_walk(stage.catalog, directory, add_name, &all);

    if (rc == -ENODATA || !catalog_listed(stage.catalog, directory)) {
        buf_reset(&all);
        buf_add_string(&all, "ENODATA");
    }
    cr_assert_str_eq(all.bytes, expected);
}

/* ---- Its files. ---- */

static UNUSED char *make_path(const char *what)
{
    return xprintf("%s%s", stage.path, what);
}

static UNUSED bool exists(const char *what)
{
    STRING_SCOPED *path = make_path(what);
    return access(path, F_OK) == 0;
}

static UNUSED void overwrite(const char *what, off_t offset, const void *bytes, size_t length)
{
    STRING_SCOPED *path = make_path(what);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    cr_assert_geq(fd, 0);
    cr_assert_eq(pwrite(fd, bytes, length, offset), (ssize_t)length);
    close(fd);
}

static UNUSED off_t size_of(const char *what)
{
    STRING_SCOPED *path = make_path(what);
    struct stat st;
    return stat(path, &st) < 0 ? -1 : st.st_size;
}

static UNUSED void cut(const char *what, off_t length)
{
    STRING_SCOPED *path = make_path(what);
    cr_assert_eq(truncate(path, length), 0);
}

/* ---- What it reports. ---- */

static UNUSED bool is_reported_bypassed(void)
{
    struct json *json = json_object_new();
    bool bypassed = false;

    catalog_report(stage.catalog, json);
    cr_assert(json_get_bool(json, "bypassed", &bypassed));
    json_free(json);
    return bypassed;
}

static UNUSED int64_t report(const char *name)
{
    struct json *json = json_object_new();
    int64_t value = -1;

    catalog_report(stage.catalog, json);
    cr_assert(json_get_integer(json, name, &value));
    json_free(json);
    return value;
}

/* ---- Much. ---- */

static UNUSED void put_directory(uint64_t directory, const char *name, uint64_t id)
{
    struct facts facts = {.type = S_IFDIR, .directory = id};
    BUF_SCOPED bytes = BUF_INIT;

    cr_assert_eq(facts_write(&facts, directory, name, &bytes), 0);
    catalog_put(stage.catalog, directory, name, bytes.bytes, bytes.length);
}

static UNUSED bool count_name(void *context, const char *name, const void *facts, size_t length)
{
    (void)name, (void)facts, (void)length;
    ++*(int *)context;
    return true;
}

static UNUSED uint64_t put_like_ours(uint64_t directory, int count)
{
    WAITER_SCOPED(waiter);
    struct facts facts = {.type = S_IFREG, .attributes_known = true, .exists = true};
    char name[64];

    facts.seen.meta_known = true;
    facts.seen.modified_ns = INT64_C(1790000000123000000);
    store_fields_add(&facts.seen.meta, "mode", "33188");
    store_fields_add(&facts.seen.meta, "uid", "1000");
    store_fields_add(&facts.seen.meta, "gid", "1000");
    store_fields_add(&facts.seen.meta, "mtime", "1790000000.123456789");
    store_fields_add(&facts.seen.meta, "ctime", "1790000000.987654321");
    store_fields_add(&facts.seen.meta, "skyvol-id", "0123456789abcdef0123456789abcdef");
    for (int i = 0; i < count; i++) {
        BUF_SCOPED bytes = BUF_INIT;
        snprintf(name, sizeof name, "model-%08d-of-%08d.safetensors", i, count);
        snprintf(facts.seen.etag, STORE_ETAG_MAX, "\"%032x\"", (unsigned)rand());
        facts.seen.size = (uint64_t)rand();
        cr_assert_eq(facts_write(&facts, directory, name, &bytes), 0);
        catalog_put(stage.catalog, directory, name, bytes.bytes, bytes.length);
        if (i % 100 == 0)
            cr_assert_eq(catalog_wait_room(stage.catalog, &waiter), 0);
    }
    facts_release(&facts);
    return (uint64_t)count;
}

#endif
