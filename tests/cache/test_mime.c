#include "cache/mime.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>

#include "cache/inode.h"
#include "tests/support/room.h"

Test(mime, the_end_of_the_name_says_what_it_is)
{
    static const char *const pairs[][2] = {
        {"p/a.json", "application/json"},        {"a.JPG", "image/jpeg"},
        {"a/b.c/d", "application/octet-stream"}, {"p/a.tar.gz", "application/gzip"},
        {"p/d/", "application/x-directory"},     {"p/d.json/", "application/x-directory"},
        {".json", "application/octet-stream"},   {"p/.json", "application/octet-stream"},
        {"json", "application/octet-stream"},    {"a.", "application/octet-stream"},
        {"", "application/octet-stream"},        {"a.7z", "application/x-7z-compressed"},
        {"a.zst", "application/zstd"},           {"a.zzz", "application/octet-stream"},
    };
    for (size_t i = 0; i < sizeof pairs / sizeof pairs[0]; i++)
        cr_assert_str_eq(mime_type(pairs[i][0]), pairs[i][1], "%s is %s", pairs[i][0],
                         mime_type(pairs[i][0]));
}

/* Or a search would miss some. */
Test(mime, every_kind_is_found)
{
    static const char *const ends[] = {
        "avif",  "bmp",  "bz2", "css",   "csv", "flac",   "gif",  "gz",  "h",   "h5",   "html", "ico",
        "ipynb", "jpeg", "js",  "jsonl", "log", "md",     "mjs",  "mov", "mp3", "mp4",  "ogg",  "parquet",
        "pdf",   "png",  "py",  "sh",    "sql", "sqlite", "svg",  "tar", "tgz", "tiff", "toml", "tsv",
        "txt",   "wasm", "wav", "webp",  "xml", "xz",     "yaml", "yml", "zip", "c",    "htm",  "tif"};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        char key[32];
        snprintf(key, sizeof key, "a.%s", ends[i]);
        cr_assert_str_neq(mime_type(key), "application/octet-stream", "%s", key);
    }
}

static const char *type_of(struct room *room, const char *key, char ret_type[64])
{
    struct store_call head = {.op = STORE_HEAD, .key = key};
    cr_assert_eq(store_wait(room->store, &head, &room->waiter), 0, "%s", key);
    const char *type = store_fields_get(&head.object.headers, "content-type");
    snprintf(ret_type, 64, "%s", type ? type : "");
    store_call_release(&head);
    return ret_type;
}

static void write_file(struct room *room, const char *name, size_t size)
{
    struct handle *handle;
    cr_assert_eq(room_create(room, name, &handle), 0);
    cr_assert_eq(room_write(room, handle, 0, size, 1), 0);
    cr_assert_eq(room_close(room, handle), 0);
}

static int rename_file(struct room *room, const char *from, const char *to)
{
    return cache_rename(room->cache, &room->waiter, room->root, from, room->root, to, 0);
}

Test(mime, what_goes_up_has_the_type_of_its_name_also_by_parts_and_after_a_rename)
{
    static const enum durability durabilities[] = {DURABILITY_SYNC, DURABILITY_WRITEBACK};
    for (int i = 0; i < 2; i++) {
        struct room_config config = {
            .durability = durabilities[i], .part_bytes = 1 << 20, .bucket = {.part_bytes_min = 1}};
        ROOM_SCOPED(room, &config);
        char type[64];
        write_file(&room, "a.json", 100);
        write_file(&room, "b.parquet", 3 << 20);
        write_file(&room, "c.tmp", 100);
        assert_drained(&room);
        cr_assert_str_eq(type_of(&room, "p/a.json", type), "application/json");
        cr_assert_str_eq(type_of(&room, "p/b.parquet", type), "application/vnd.apache.parquet");
        cr_assert_str_eq(type_of(&room, "p/c.tmp", type), "application/octet-stream");
        cr_assert_eq(rename_file(&room, "a.json", "a.txt"), 0);
        assert_drained(&room);
        write_file(&room, "a.txt", 50);
        assert_drained(&room);
        cr_assert_str_eq(type_of(&room, "p/a.txt", type), "text/plain");
    }
}

Test(mime, the_type_that_somebody_gave_is_kept)
{
    struct room_config config = {.durability = DURABILITY_WRITEBACK};
    ROOM_SCOPED(room, &config);
    struct store_fields headers = {0};
    struct handle *handle;
    char type[64];
    store_fields_set(&headers, "content-type", "model/own");
    struct iovec piece = {(char[]){"12345678"}, 8};
    struct store_call put = {
        .op = STORE_PUT, .key = "p/a.json", .from = &piece, .from_count = 1, .headers = &headers};
    cr_assert_eq(store_wait(room.store, &put, &room.waiter), 0);
    store_call_release(&put);
    store_fields_release(&headers);
    cr_assert_eq(room_open(&room, "a.json", O_RDWR, &handle), 0);
    cr_assert_eq(room_write(&room, handle, 0, 4, 1), 0);
    cr_assert_eq(room_close(&room, handle), 0);
    assert_drained(&room);
    cr_assert_str_eq(type_of(&room, "p/a.json", type), "model/own");
    cr_assert_eq(rename_file(&room, "a.json", "b.txt"), 0);
    assert_drained(&room);
    cr_assert_str_eq(type_of(&room, "p/b.txt", type), "model/own");
}

Test(mime, a_marker_says_that_it_is_a_directory_and_a_link_is_no_text)
{
    static const enum durability durabilities[] = {DURABILITY_SYNC, DURABILITY_WRITEBACK};
    for (int i = 0; i < 2; i++) {
        struct room_config config = {.durability = durabilities[i]};
        ROOM_SCOPED(room, &config);
        struct maker maker = {.mode = 0755, .process = ROOM_PROCESS};
        struct entry entry;
        char type[64];
        cr_assert_eq(cache_mkdir(room.cache, &room.waiter, room.root, "d", &maker, &entry), 0);
        inode_unref(entry.inode);
        cr_assert_eq(cache_symlink(room.cache, &room.waiter, room.root, "l.txt", "d", &maker, &entry), 0);
        inode_unref(entry.inode);
        assert_drained(&room);
        cr_assert_str_eq(type_of(&room, "p/d/", type), "application/x-directory");
        cr_assert_str_eq(type_of(&room, "p/l.txt", type), "application/octet-stream");
    }
}
