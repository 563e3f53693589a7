#include "mount/toml.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#define TOML_EXCEPTIONS 1
#include <toml++/toml.h>

extern "C" {
#include "base/buf.h"
#include "mount/document.h"
}

namespace
{
struct value {
    std::string name, text;
    int line;
};

bool plain_text(const toml::node &node, std::string &text)
{
    if (auto string = node.as_string())
        text = string->get();
    else if (auto integer = node.as_integer())
        text = std::to_string(integer->get());
    else if (auto truth = node.as_boolean())
        text = truth->get() ? "yes" : "no";
    else if (auto real = node.as_floating_point()) {
        std::ostringstream out;
        out << real->get();
        text = out.str();
    } else
        return false;
    return true;
}
} // namespace

/* The text of a file. Throws nothing but what the library throws; -errno. */
namespace
{
int read_text(const char *path, std::string &text)
{
    errno = 0;
    if (std::filesystem::is_directory(path))
        return -EISDIR;
    std::ifstream file(path, std::ios::binary);
    if (!file)
        return errno ? -errno : -EIO;
    std::stringstream stream;
    stream << file.rdbuf();
    text = stream.str();
    return 0;
}

enum node_kind name_kind(const toml::node &node)
{
    if (node.is_table())
        return NODE_TABLE;
    if (node.is_array())
        return NODE_ARRAY;
    if (node.is_string())
        return NODE_TEXT;
    if (node.is_boolean())
        return NODE_SWITCH;
    return node.is_number() ? NODE_NUMBER : NODE_OTHER;
}

struct node *convert(const toml::node &from, const char *name, const char *path)
{
    std::string text;
    bool plain = plain_text(from, text);
    if (from.is_boolean())
        text = text == "yes" ? "true" : "false";
    struct node *node =
        node_new(name_kind(from), name, plain ? text.c_str() : nullptr, path, (int)from.source().begin.line);
    if (auto table = from.as_table())
        for (auto &&[key, child] : *table)
            node_add(node, convert(child, std::string(key.str()).c_str(), path));
    if (auto array = from.as_array())
        for (auto &&child : *array)
            node_add(node, convert(child, nullptr, path));
    return node;
}
} // namespace

extern "C" int document_read(const char *path, struct node **ret_root, struct buf *why)
try {
    std::string text;
    int rc = read_text(path, text);
    if (rc < 0)
        return rc;
    toml::table all = toml::parse(text, std::string(path));
    *ret_root = convert(all, nullptr, path);
    return 0;
} catch (const toml::parse_error &error) {
    buf_printf(why, "%s:%u: %s", path, (unsigned)error.source().begin.line, std::string(error.description()).c_str());
    return -EBADMSG;
} catch (const std::exception &error) {
    buf_printf(why, "%s: %s", path, error.what());
    return -EIO;
}

extern "C" int toml_each(const char *path, const char *table,
                         int (*each)(void *context, const char *name, const char *value, int line),
                         void *context, struct buf *why)
try {
    std::string text;
    if (int rc = read_text(path, text))
        return rc;
    toml::table all = toml::parse(text, std::string(path));
    const toml::node *found = all.get(table);
    if (!found)
        return 0;
    const toml::table *wanted = found->as_table();
    if (!wanted) {
        buf_printf(why, "%s:%u: '%s' must be a table", path, (unsigned)found->source().begin.line, table);
        return -EBADMSG;
    }
    std::vector<value> values;
    for (auto &&[key, node] : *wanted) {
        value v{std::string(key.str()), "", (int)node.source().begin.line};
        if (!plain_text(node, v.text)) {
            buf_printf(why, "%s:%d: '%s' must be a string, a number or a boolean", path, v.line, v.name.c_str());
            return -EBADMSG;
        }
        values.push_back(v);
    }
    std::stable_sort(values.begin(), values.end(), [](const value &a, const value &b) { return a.line < b.line; });
    for (const value &v : values)
        if (int rc = each(context, v.name.c_str(), v.text.c_str(), v.line))
            return rc;
    return 0;
} catch (const toml::parse_error &error) {
    buf_printf(why, "%s:%u: %s", path, (unsigned)error.source().begin.line, std::string(error.description()).c_str());
    return -EBADMSG;
} catch (const std::exception &error) {
    buf_printf(why, "%s: %s", path, error.what());
    return -EIO;
}
