#include "base/xml.h"

#include <errno.h>
#include <libxml/parser.h>
#include <libxml/parserInternals.h>
#include <libxml/tree.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/utf8.h"

struct xml {
    xmlDocPtr document;
    int error;       /* why the parser was stopped, -errno */
    size_t elements; /* so far */
    char **texts;    /* those that had to be joined; node->_private points at them */
    size_t text_count;
};

/* The handlers of libxml2 that ours stand in front of. */
static xmlSAXHandler plain;

static void stop(xmlParserCtxtPtr parser, int error)
{
    struct xml *xml = parser->_private;
    if (!xml->error)
        xml->error = error;
    xmlStopParser(parser);
}

/* Called at `<!DOCTYPE NAME`, before anything in it was read: no entity can be declared. */
static void refuse_dtd(void *context, const xmlChar *name, const xmlChar *id, const xmlChar *system)
{
    (void)name, (void)id, (void)system;
    stop(context, -EBADMSG);
}

static void start_element(void *context, const xmlChar *name, const xmlChar *prefix, const xmlChar *uri,
                          int namespaces_count, const xmlChar **namespaces, int attributes_count,
                          int defaulted_count, const xmlChar **attributes)
{
    xmlParserCtxtPtr parser = context;
    struct xml *xml = parser->_private;
    if (parser->nodeNr >= XML_DEPTH_MAX) {
        stop(parser, -EBADMSG);
        return;
    }
    if (++xml->elements > XML_ELEMENTS_MAX) {
        stop(parser, -EFBIG);
        return;
    }
    plain.startElementNs(context, name, prefix, uri, namespaces_count, namespaces, attributes_count,
                         defaulted_count, attributes);
}

static void prepare_library(void)
{
    xmlInitParser();
    xmlSAXVersion(&plain, 2);
}

static size_t measure_space(const char *bytes, size_t length)
{
    size_t at = 0;
    while (at < length && strchr(" \t\r\n", bytes[at]) && bytes[at])
        at++;
    return at;
}

/* A tag, perhaps behind a byte order mark; UTF-16 and the like have a NUL here, and libxml2 would guess them. */
static bool starts_as_utf8(const char *bytes, size_t length)
{
    size_t mark = length >= 3 && memcmp(bytes, "\xef\xbb\xbf", 3) == 0 ? 3 : 0;
    return length >= mark + 2 && bytes[mark] == '<' && bytes[mark + 1] != '\0';
}

/* libxml2 compares each attribute of a tag with all before it: a tag of megabytes would take hours. */
static bool tags_are_short(const char *bytes, size_t length)
{
    const char *end = bytes + length;
    const char *tag = bytes;
    while ((tag = memchr(tag, '<', (size_t)(end - tag)))) {
        const char *close = memchr(tag, '>', (size_t)(end - tag));
        if (!close || close - tag > XML_TAG_MAX)
            return false;
        tag = close;
    }
    return true;
}

int xml_parse(const char *bytes, size_t length, struct xml **ret_xml)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare_library);
    if (length > XML_BYTES_MAX)
        return -EFBIG;
    size_t space = measure_space(bytes, length);
    if (!starts_as_utf8(bytes + space, length - space) || !tags_are_short(bytes, length))
        return -EBADMSG;
    struct xml *xml = xcalloc(1, sizeof(*xml));
    xmlParserCtxtPtr parser = xmlNewParserCtxt();
    if (!parser) {
        xml_free(xml);
        return -ENOMEM;
    }
    parser->_private = xml;
    parser->sax->internalSubset = refuse_dtd;
    parser->sax->startElementNs = start_element;
    /* UTF-8 whatever is declared, S3 speaks nothing else: no converter is ever called. (Naming the encoding here instead
     * would do the same, and end every document over 10 MB.) */
    xml->document = xmlCtxtReadMemory(parser, bytes + space, (int)(length - space), NULL, NULL,
                                      XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING |
                                          XML_PARSE_NOCDATA | XML_PARSE_IGNORE_ENC);
    xmlFreeParserCtxt(parser);
    int error = xml->error;
    if (!error && (!xml->document || !xmlDocGetRootElement(xml->document)))
        error = -EBADMSG;
    if (error) {
        xml_free(xml);
        return error;
    }
    *ret_xml = xml;
    return 0;
}

void xml_free(struct xml *xml)
{
    if (!xml)
        return;
    for (size_t i = 0; i < xml->text_count; i++)
        free(xml->texts[i]);
    free(xml->texts);
    xmlFreeDoc(xml->document);
    free(xml);
}

/* An opaque xml_node is an xmlNode; nothing in the tree is changed behind the const but the joined text. */
static xmlNodePtr reveal(const struct xml_node *node)
{
    return (xmlNodePtr)(uintptr_t)node;
}

static const struct xml_node *find_element(xmlNodePtr node)
{
    while (node && node->type != XML_ELEMENT_NODE)
        node = node->next;
    return (const struct xml_node *)(const void *)node;
}

const struct xml_node *xml_root(const struct xml *xml)
{
    return (const struct xml_node *)(const void *)xmlDocGetRootElement(xml->document);
}

const char *xml_name(const struct xml_node *node)
{
    return (const char *)reveal(node)->name;
}

const struct xml_node *xml_first(const struct xml_node *node)
{
    return find_element(reveal(node)->children);
}

const struct xml_node *xml_next(const struct xml_node *node)
{
    return find_element(reveal(node)->next);
}

const struct xml_node *xml_child(const struct xml_node *node, const char *name)
{
    const struct xml_node *child = xml_first(node);
    while (child && strcmp(xml_name(child), name) != 0)
        child = xml_next(child);
    return child;
}

static bool is_text(xmlNodePtr node)
{
    return node->type == XML_TEXT_NODE || node->type == XML_CDATA_SECTION_NODE;
}

/* A comment or an element stands within the text: join what is around it, once. */
static const char *join_text(struct xml *xml, xmlNodePtr node)
{
    if (!node->_private) {
        struct buf text = BUF_INIT;
        for (xmlNodePtr child = node->children; child; child = child->next)
            if (is_text(child) && child->content)
                buf_add_string(&text, (const char *)child->content);
        xml->texts = xrealloc(xml->texts, (xml->text_count + 1) * sizeof(*xml->texts));
        node->_private = xml->texts[xml->text_count++] = buf_take(&text);
    }
    return node->_private;
}

const char *xml_text(struct xml *xml, const struct xml_node *node)
{
    xmlNodePtr first = reveal(node)->children;
    if (!first)
        return "";
    if (first->next || !is_text(first))
        return join_text(xml, reveal(node));
    return first->content ? (const char *)first->content : "";
}

const char *xml_child_text(struct xml *xml, const struct xml_node *node, const char *name)
{
    const struct xml_node *child = xml_child(node, name);
    return child ? xml_text(xml, child) : "";
}

/* XML 1.0, 2.2 [2] Char. */
static bool is_char(uint32_t code)
{
    return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code != 0xfffe && code != 0xffff);
}

int xml_escape(struct buf *buf, const char *text, size_t length)
{
    static const struct {
        char letter;
        const char *reference;
    } references[] = {
        {'&', "&amp;"},   {'<', "&lt;"},   {'>', "&gt;"},   {'"', "&quot;"},
        {'\'', "&apos;"}, {'\r', "&#13;"}, {'\n', "&#10;"},
    };
    BUF_SCOPED out = BUF_INIT;
    while (length) {
        uint32_t code = 0;
        size_t size = utf8_decode(text, length, &code);
        if (size == 0 || !is_char(code))
            return -EILSEQ;
        const char *reference = NULL;
        for (size_t i = 0; i < sizeof(references) / sizeof(references[0]); i++)
            if (*text == references[i].letter)
                reference = references[i].reference;
        if (reference)
            buf_add_string(&out, reference);
        else
            buf_add(&out, text, size);
        text += size;
        length -= size;
    }
    buf_add(buf, out.bytes, out.length);
    return 0;
}
