#include "mount/document.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/secret.h"

static char *copy(const char *text)
{
    return text ? xstrdup(text) : NULL;
}

struct node *node_new(enum node_kind kind, const char *name, const char *text, const char *file, int line)
{
    struct node *node = xcalloc(1, sizeof *node);
    node->kind = kind;
    node->name = copy(name);
    node->text = copy(text);
    node->file = copy(file);
    node->line = line;
    return node;
}

void node_free(struct node *node)
{
    if (!node)
        return;
    for (size_t i = 0; i < node->count; i++)
        node_free(node->children[i]);
    if (node->text)
        secret_wipe(node->text, strlen(node->text)); /* it may be a key */
    free(node->children);
    free(node->name);
    free(node->text);
    free(node->file);
    free(node);
}

void node_add(struct node *node, struct node *child)
{
    node->children = xrealloc(node->children, (node->count + 1) * sizeof(struct node *));
    node->children[node->count++] = child;
}

static size_t find(const struct node *table, const char *name)
{
    size_t i = 0;
    while (i < table->count && strcmp(table->children[i]->name, name) != 0)
        i++;
    return i;
}

const struct node *node_get(const struct node *table, const char *name)
{
    if (!table || table->kind != NODE_TABLE)
        return NULL;
    size_t i = find(table, name);
    return i < table->count ? table->children[i] : NULL;
}

char *node_where(const struct node *node)
{
    return xprintf("%s:%d", node->file, node->line);
}

void node_merge(struct node *under, struct node **over)
{
    for (size_t i = 0; i < (*over)->count; i++) {
        struct node *child = (*over)->children[i];
        size_t at = find(under, child->name);
        (*over)->children[i] = NULL;
        if (at == under->count) {
            node_add(under, child);
        } else if (under->children[at]->kind == NODE_TABLE && child->kind == NODE_TABLE) {
            node_merge(under->children[at], &child);
        } else {
            node_free(under->children[at]);
            under->children[at] = child;
        }
    }
    node_free(*over);
    *over = NULL;
}

static int by_line(const void *a, const void *b)
{
    const struct node *const *x = a, *const *y = b;
    return (*x)->line - (*y)->line;
}

static int check_plain(const struct node *table, const char *name, struct buf *why)
{
    if (table->kind != NODE_TABLE) {
        buf_printf(why, "%s:%d: '%s' must be a table", table->file, table->line, name);
        return -EBADMSG;
    }
    for (size_t i = 0; i < table->count; i++) {
        const struct node *child = table->children[i];
        if (!child->text) {
            buf_printf(why, "%s:%d: '%s' must be a string, a number or a boolean", child->file, child->line,
                       child->name);
            return -EBADMSG;
        }
    }
    return 0;
}

int document_each(const char *path, const char *table,
                  int (*each)(void *context, const char *name, const char *value, int line), void *context,
                  struct buf *why)
{
    struct node *root = NULL;
    int rc = document_read(path, &root, why);
    const struct node *found = rc == 0 ? node_get(root, table) : NULL;
    if (found)
        rc = check_plain(found, table, why);
    if (found && rc == 0 && found->count)
        qsort(found->children, found->count, sizeof(struct node *), by_line);
    for (size_t i = 0; found && rc == 0 && i < found->count; i++) {
        const struct node *value = found->children[i];
        rc = each(context, value->name, value->text, value->line);
    }
    node_free(root);
    return rc;
}
