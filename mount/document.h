/* document: a TOML file as a tree that C code can walk. Each node knows where it was said, also after two were merged.
 *
 *      TABLE --name--> TABLE | ARRAY | TEXT | NUMBER | SWITCH | OTHER          ARRAY --> likewise, without names
 *
 * Owns: the root owns all below it. Threads: as any struct.
 */
#ifndef MOUNT_DOCUMENT_H
#define MOUNT_DOCUMENT_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

struct buf;

enum node_kind { NODE_TABLE, NODE_ARRAY, NODE_TEXT, NODE_NUMBER, NODE_SWITCH, NODE_OTHER };

struct node {
    enum node_kind kind;
    char *name; /* NULL: of an array, or the root */
    char *text; /* of TEXT and NUMBER; of SWITCH "true" or "false" */
    char *file;
    int line;
    struct node **children; /* in the order of the file, but for tables: in the order of names */
    size_t count;
};

struct node *node_new(enum node_kind kind, const char *name, const char *text, const char *file, int line);
void node_free(struct node *node);
/* Takes the child. */
void node_add(struct node *node, struct node *child);
/* NULL: it has none of that name, or is no table. */
const struct node *node_get(const struct node *table, const char *name);
/* "skyward.toml:12"; malloc'ed. */
char *node_where(const struct node *node);
/* All of `over` stands in `under` afterwards: tables merge, everything else is replaced. Takes `over`. */
void node_merge(struct node *under, struct node **over);

#define DOCUMENT_BYTES_MAX (4 << 20) /* also of a pipe, or of a device that has no end */
#define DOCUMENT_DOTS_MAX  1000      /* in a line: a.b.c is a table within a table */

/* toml.cc. -ENOENT and other -errno of reading the file, without words; -EFBIG; -EBADMSG with "FILE:LINE: what" in `why`. */
int document_read(const char *path, struct node **ret_root, struct buf *why);

/* Each plain value (a text, a number, or a switch as "true" or "false") of one top-level table of a file, in the order of lines; each() returns
 * 0 to go on. A value of another kind is -EBADMSG; a missing table is 0; else as document_read(). */
int document_each(const char *path, const char *table,
                  int (*each)(void *context, const char *name, const char *value, int line), void *context,
                  struct buf *why);

#ifdef __cplusplus
}
#endif

#endif
