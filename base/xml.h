/* xml: a small reading of XML answers. The home of libxml2.
 *
 * Rules (they make hostile answers harmless): no DTD, no entities but the five of XML, no network, UTF-8 only, at most
 * XML_BYTES_MAX of text, XML_ELEMENTS_MAX elements (a full page of S3 has some 40 000), XML_TAG_MAX from `<` to `>`, and
 * XML_DEPTH_MAX of depth. Names are compared without their namespace; leading white space is skipped.
 * Owns: the document owns all text handed out.
 */
#ifndef BASE_XML_H
#define BASE_XML_H

#include <stddef.h>

#define XML_BYTES_MAX    ((size_t)32 << 20)
#define XML_DEPTH_MAX    32
#define XML_TAG_MAX      4096
#define XML_ELEMENTS_MAX ((size_t)256 * 1024)

struct xml;      /* a document */
struct xml_node; /* an element in it */

/* 0; -EBADMSG (not well-formed, DTD, too deep, a tag too long), -EFBIG. */
int xml_parse(const char *bytes, size_t length, struct xml **ret_xml);
void xml_free(struct xml *xml);
const struct xml_node *xml_root(const struct xml *xml);
const char *xml_name(const struct xml_node *node);
/* First child element, next sibling element; NULL at the end. */
const struct xml_node *xml_first(const struct xml_node *node);
const struct xml_node *xml_next(const struct xml_node *node);
/* The child element of that name, or NULL. */
const struct xml_node *xml_child(const struct xml_node *node, const char *name);
/* The text of the node itself (not of its children), or of the named child: "" when there is none. Never NULL. Joins a
 * text that is cut by comments within the document: not from two threads at once. */
const char *xml_text(struct xml *xml, const struct xml_node *node);
const char *xml_child_text(struct xml *xml, const struct xml_node *node, const char *name);

struct buf;
/* Appends text escaped for an element; CR and LF as character references. -EILSEQ: a character that XML 1.0 cannot hold. */
int xml_escape(struct buf *buf, const char *text, size_t length);

#endif
