/* Any bytes as an XML answer: refused, or a tree that can be walked, whose texts escape and read back as they were. */
#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/xml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_escape(const char *text)
{
    BUF_SCOPED out = BUF_INIT;
    buf_add_string(&out, "<r>");
    int rc = xml_escape(&out, text, strlen(text));
    assert(rc == 0); /* what a document held can be written into one */
    buf_add_string(&out, "</r>");
    struct xml *again;
    rc = xml_parse(out.bytes, out.length, &again);
    assert(rc == 0);
    assert(strcmp(xml_text(again, xml_root(again)), text) == 0);
    xml_free(again);
}

/* Returns how many elements there are. */
static size_t walk(struct xml *xml, const struct xml_node *node, size_t depth)
{
    assert(depth < XML_DEPTH_MAX);
    assert(*xml_name(node));
    check_escape(xml_text(xml, node));
    size_t count = 1;
    for (const struct xml_node *child = xml_first(node); child; child = xml_next(child)) {
        assert(xml_child(node, xml_name(child)));
        count += walk(xml, child, depth + 1);
    }
    return count;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct xml *xml;
    if (xml_parse((const char *)data, size, &xml) < 0)
        return 0;
    size_t count = walk(xml, xml_root(xml), 0);
    assert(count <= XML_ELEMENTS_MAX);
    xml_free(xml);
    return 0;
}
