#!/usr/bin/env python3
"""A strict little S3 over HTTP, for tests: it checks what it is sent, keeps keys that MinIO refuses, and misbehaves on command.

It knows what a filesystem needs of S3: GET HEAD PUT COPY DELETE of objects, their tags, DeleteObjects, ListObjectsV2, multipart
uploads; path style and virtual host; one bucket in memory. It verifies SigV4 signatures, checksums and conditions as AWS
does, and refuses what it does not know with S3's error documents. What S3 lets pass and a good client does not do
(a body without any checksum, a listing without encoding-type=url, ...) it answers, and notes in `violations`.

Checksums are verified in pure Python at about 100 MB/s, for bodies of any size.

Control: JSON under /_control/ on the same port, without signature (GET .../NAME, or POST .../NAME with an object):
  GET  log, counters, violations, faults, objects      POST clear {"what": ["log", "violations", "faults"]}
  POST fault {...} -> {"id": n}       which requests:  op ("GetObject"), method, key, key_prefix, skip, times (0: for
        ever), probability;  what: action and its arguments:
        answer         status, code, message, headers: nothing happens (status 200 gives 200 with an <Error> document)
        close          nothing happens, the connection is closed
        lose_reply     it happens, the connection is closed
        cut            it happens, the body of the answer ends after `bytes`
        cut_request    the connection is closed after `bytes` of the request's body
        falsify        one bit of the answer's body is wrong, at `bytes`
        falsify_request  one bit of the request's body is wrong on the way, at `bytes`
        delay          `ms` later
        hang           nothing happens until POST release {"id": n} (all without id)
        hang_reply     it happens, the answer comes at release
  POST unfault {"id": n}      POST forget_uploads      POST begin_uploads {"prefix", "count", "age_s"}
  POST put {"key", "text" or "base64", "meta", "headers", "sums"}: a foreign write
  POST fill {"prefix", "count", "text", "meta"}: so many keys, prefix00000000 and on, all of one object
  POST delete {"key"}         POST skew {"seconds"}    POST keys {"access_key", "secret_key", "session_token", "expired"}
  POST abilities {name: false}: checksums (400), delete_many (501), part_copy (501), conditions and
        delete_conditions (false: not honoured), list_metadata, unequal_parts, list (403: keys without ListBucket),
        read_tags, set_tags (403: keys without the right to)
"""

import argparse
import base64
import ctypes
import email.utils
import itertools
import json
import os
import random
import re
import signal
import socket
import socketserver
import ssl
import sys
import threading
import time
import xml.etree.ElementTree
from xml.sax.saxutils import escape

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import little_s3_rules as rules  # noqa: E402
from little_s3_bucket import COPY_BYTES_MAX, Bucket  # noqa: E402
from little_s3_rules import Refusal, decode, encode  # noqa: E402

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
LINE_BYTES_MAX = 16 << 10
LOG_MAX = 200000
LIST_MAX = 1000
REASONS = {200: "OK", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently", 304: "Not Modified"}
SUBRESOURCES = {"uploads", "uploadId", "delete", "location", "partNumber", "tagging"}


class Closed(Exception):
    """The connection ends here, without or in the middle of an answer."""


class Request:
    """One request as it came: method, raw_path, raw_query, headers (lower case), body."""

    def __init__(self):
        self.method = self.raw_path = self.raw_query = self.version = ""
        self.headers, self.body = {}, b""
        self.bucket, self.key, self.op = "", b"", "?"
        self.query = {}


class Answer:
    def __init__(self, status=200, body=b"", headers=None):
        self.status, self.body, self.headers = status, body, headers or {}


def xml_document(root, content):
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{root} xmlns="{NAMESPACE}">{content}</{root}>'.encode()


def element(name, text):
    return f"<{name}>{escape(str(text), {chr(34): '&quot;', chr(13): '&#13;', chr(10): '&#10;'})}</{name}>"


def iso_time(seconds):
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds * 1000) % 1000:03d}Z"


def form_encode(data):
    """As AWS answers under encoding-type=url: a space is a plus."""
    return encode(data, "/").replace("%20", "+")


# ---- Faults. ----


class Fault:
    ACTIONS = ("answer", "close", "lose_reply", "cut", "cut_request", "falsify", "falsify_request", "delay", "hang",
               "hang_reply")
    FIELDS = {"op", "method", "key", "key_prefix", "skip", "times", "probability", "action", "status", "code",
              "message", "headers", "bytes", "ms"}

    def __init__(self, number, script):
        if script.get("action") not in self.ACTIONS:
            raise ValueError(f"action must be one of {', '.join(self.ACTIONS)}")
        if set(script) - self.FIELDS:
            raise ValueError(f"unknown fields: {set(script) - self.FIELDS}")
        self.id, self.script, self.action = number, script, script["action"]
        self.met = self.struck = 0
        self.released = threading.Event()

    def strikes(self, request):
        script = self.script
        key = request.key.decode("utf-8", "surrogateescape")
        if script.get("op", request.op) != request.op or script.get("method", request.method) != request.method:
            return False
        if script.get("key", key) != key or not key.startswith(script.get("key_prefix", "")):
            return False
        if script.get("times", 0) and self.struck >= script["times"]:
            return False
        self.met += 1
        if self.met <= script.get("skip", 0) or random.random() >= script.get("probability", 1):
            return False
        self.struck += 1
        return True

    def number(self, name, default=0):
        return int(self.script.get(name, default))


def falsify(body, place):
    if not body:
        return body
    changed = bytearray(body)
    changed[min(place, len(body) - 1)] ^= 0x10
    return bytes(changed)


# ---- The service: one bucket, its keys and abilities, what it was asked. ----


class Service:
    def __init__(self, options):
        self.options = options
        self.name = options.bucket
        self.lock = threading.RLock()
        self.skew = options.skew
        self.clock = lambda: time.time() + self.skew
        self.bucket = Bucket(options.part_min, self.clock)
        self.keys = {"access_key": options.access_key, "secret_key": options.secret_key,
                     "session_token": options.session_token}
        self.abilities = {"checksums": True, "delete_many": True, "part_copy": True, "conditions": True,
                          "delete_conditions": True, "list_metadata": options.list_metadata,
                          "unequal_parts": True, "list": True, "read_tags": True, "set_tags": True}
        self.faults, self.fault_numbers = [], itertools.count(1)
        self.log, self.violations, self.counters = [], [], {}
        self.request_numbers = itertools.count(1)

    # -- What came. --

    def violate(self, request, text):
        with self.lock:
            self.violations.append({"n": request.number, "op": request.op, "path": request.raw_path,
                                    "query": request.raw_query, "violation": text})

    def find_faults(self, request):
        """At most one fault ends it; delays add up."""
        with self.lock:
            struck = []
            for fault in self.faults:
                if fault.strikes(request):
                    struck.append(fault)
                    if fault.action != "delay":
                        break
            return struck

    def locate(self, request):
        """Bucket and key by virtual host or path; the operation's name."""
        host = request.headers["host"].rsplit(":", 1)[0]
        path = request.raw_path
        if host.startswith(self.name + "."):
            request.bucket, rest = self.name, path[1:]
        else:
            bucket, slash, rest = path[1:].partition("/")
            request.bucket = decode(bucket).decode("utf-8", "surrogateescape")
        request.key = decode(rest)
        pairs = rules.parse_query(request.raw_query)
        request.query = dict(pairs)
        if len(request.query) != len(pairs):
            raise Refusal(400, "InvalidArgument", "A query parameter came twice")
        request.op = self.name_operation(request)

    @staticmethod
    def name_operation(request):
        query, method = request.query, request.method
        copy = "x-amz-copy-source" in request.headers
        sub = SUBRESOURCES & set(query)
        if not request.key:
            names = {("HEAD", ()): "HeadBucket", ("GET", ("uploads",)): "ListMultipartUploads",
                     ("GET", ("location",)): "GetBucketLocation", ("POST", ("delete",)): "DeleteObjects",
                     ("PUT", ()): "CreateBucket", ("GET", ()): "ListObjectsV2"}
        else:
            names = {("GET", ()): "GetObject", ("HEAD", ()): "HeadObject", ("DELETE", ()): "DeleteObject",
                     ("PUT", ()): "CopyObject" if copy else "PutObject",
                     ("POST", ("uploads",)): "CreateMultipartUpload",
                     ("PUT", ("partNumber", "uploadId")): "UploadPartCopy" if copy else "UploadPart",
                     ("POST", ("uploadId",)): "CompleteMultipartUpload",
                     ("DELETE", ("uploadId",)): "AbortMultipartUpload", ("GET", ("uploadId",)): "ListParts",
                     ("GET", ("tagging",)): "GetObjectTagging", ("PUT", ("tagging",)): "PutObjectTagging"}
        return names.get((method, tuple(sorted(sub))), f"{method} {','.join(sorted(sub))}".strip())

    # -- The way of a request. --

    def check(self, request):
        if request.bucket == "" and request.op != "HeadBucket":
            raise Refusal(501, "NotImplemented", "ListBuckets is not implemented")
        rules.check_signature(request, self.keys, self.options.region, self.options.redirect, self.clock())
        if request.bucket != self.name:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        for text in rules.find_oddities(request):
            self.violate(request, text)
        for name in request.headers:
            if name.startswith("x-amz-") and not name.startswith("x-amz-meta-") and name not in rules.AMZ_HEADERS:
                raise Refusal(501, "NotImplemented", f"A header you provided implies functionality that is not "
                                                     f"implemented: {name}")
        checked = rules.check_body(request, self.abilities["checksums"])
        if request.body and not checked:
            self.violate(request, "a body without any checksum")
        if len(request.key) > rules.KEY_BYTES_MAX:
            raise Refusal(400, "KeyTooLongError", "Your key is too long")

    def perform(self, request):
        handler = getattr(self, "do_" + request.op, None)
        if handler is None:
            raise Refusal(405 if " " not in request.op else 501, "NotImplemented", f"{request.op} is not implemented")
        allowed, _ = OPERATIONS[request.op]
        for name in set(request.query) - allowed:
            raise Refusal(501, "NotImplemented", f"The query parameter {name} of {request.op} is not implemented")
        with self.lock:
            return handler(request)

    def conditions(self, request):
        if not self.abilities["conditions"]:
            return None, None
        return request.headers.get("if-match"), request.headers.get("if-none-match")

    def number(self, request, name, default, most):
        text = request.query.get(name)
        if text is None:
            return default
        if not text.isascii() or not text.isdigit():
            raise Refusal(400, "InvalidArgument", f"{name} is not a number")
        return min(int(text), most)

    # -- Bucket operations. --

    def do_HeadBucket(self, request):
        return Answer(200, b"", {"x-amz-bucket-region": self.options.region})

    def do_GetBucketLocation(self, request):
        region = "" if self.options.region == "us-east-1" else self.options.region
        return Answer(200, xml_document("LocationConstraint", escape(region)))

    def do_CreateBucket(self, request):
        raise Refusal(409, "BucketAlreadyOwnedByYou", "Your previous request to create the named bucket succeeded")

    def do_ListObjectsV2(self, request):
        query = {name: value.encode("utf-8", "surrogateescape") for name, value in request.query.items()}
        if query.get("list-type") != b"2":
            raise Refusal(501, "NotImplemented", "Only list-type=2 is implemented")
        if not self.abilities["list"]:
            raise Refusal(403, "AccessDenied", "Access Denied")
        encoding = query.get("encoding-type")
        if encoding is None:
            self.violate(request, "a listing without encoding-type=url")
        elif encoding != b"url":
            raise Refusal(400, "InvalidArgument", "Invalid Encoding Method specified in Request")
        most = self.number(request, "max-keys", LIST_MAX, LIST_MAX)
        after, folder = query.get("start-after", b""), False
        if "continuation-token" in query:
            after, folder = self.read_token(query["continuation-token"])
        prefix, delimiter = query.get("prefix", b""), query.get("delimiter", b"")
        found, more = self.bucket.list(prefix, delimiter, after, folder, most) if most else ([], None)
        show = form_encode if encoding else lambda data: data.decode("utf-8", "replace")
        parts = [element("Name", self.name), element("Prefix", show(prefix)), element("KeyCount", len(found)),
                 element("MaxKeys", most), element("IsTruncated", "true" if more else "false")]
        if delimiter:
            parts.append(element("Delimiter", show(delimiter)))
        if encoding:
            parts.append(element("EncodingType", "url"))
        if "start-after" in query:
            parts.append(element("StartAfter", show(query["start-after"])))
        if "continuation-token" in query:
            parts.append(element("ContinuationToken", request.query["continuation-token"]))
        if more:
            parts.append(element("NextContinuationToken", self.write_token(*more)))
        with_meta = self.abilities["list_metadata"] and query.get("metadata") == b"true"
        for name, obj in found:
            if obj is not None:
                parts.append(self.list_entry(show(name), obj, with_meta))
        for name, obj in found:
            if obj is None:
                parts.append(f"<CommonPrefixes>{element('Prefix', show(name))}</CommonPrefixes>")
        return Answer(200, xml_document("ListBucketResult", "".join(parts)))

    def list_entry(self, name, obj, with_meta):
        if with_meta not in obj.listed:
            obj.listed[with_meta] = self.describe(obj, with_meta)
        return f"<Contents>{element('Key', name)}{obj.listed[with_meta]}</Contents>"

    @staticmethod
    def describe(obj, with_meta):
        text = (element("LastModified", iso_time(obj.modified_s)) + element("ETag", obj.etag) +
                element("Size", len(obj.body)) + element("StorageClass", "STANDARD"))
        if with_meta:
            meta = "".join(element("X-Amz-Meta-" + key.title(), value) for key, value in obj.meta.items())
            meta += element("content-type", obj.headers.get("content-type", "binary/octet-stream"))
            text += f"<UserMetadata>{meta}</UserMetadata>"
        return text

    @staticmethod
    def write_token(name, folder):
        return "+" + base64.b64encode((b"P" if folder else b"K") + name).decode() + "/="

    @staticmethod
    def read_token(token):
        try:
            raw = base64.b64decode(token[1:-2], validate=True)
        except ValueError:
            raw = b""
        if token[:1] != b"+" or raw[:1] not in (b"P", b"K"):
            raise Refusal(400, "InvalidArgument", "The continuation token provided is incorrect")
        return raw[1:], raw[:1] == b"P"

    def do_DeleteObjects(self, request):
        if not self.abilities["delete_many"]:
            raise Refusal(501, "NotImplemented", "DeleteObjects is not implemented")
        if not {"content-md5", *rules.CHECKSUMS} & set(request.headers):
            raise Refusal(400, "InvalidRequest", "Missing required header for this request: Content-MD5")
        root = self.read_xml(request, "Delete")
        keys = [child.findtext(f"{{{NAMESPACE}}}Key") for child in root if child.tag == f"{{{NAMESPACE}}}Object"]
        if not 1 <= len(keys) <= LIST_MAX or any(not key for key in keys):
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed")
        quiet = root.findtext(f"{{{NAMESPACE}}}Quiet") == "true"
        parts = []
        for key in keys:
            raw = key.encode()
            if len(raw) > rules.KEY_BYTES_MAX:
                parts.append(f"<Error>{element('Key', key)}{element('Code', 'KeyTooLongError')}</Error>")
                continue
            self.bucket.delete(raw)
            if not quiet:
                parts.append(f"<Deleted>{element('Key', key)}</Deleted>")
        return Answer(200, xml_document("DeleteResult", "".join(parts)))

    def read_xml(self, request, name):
        try:
            root = xml.etree.ElementTree.fromstring(request.body)
        except xml.etree.ElementTree.ParseError:
            root = None
        if root is None or root.tag != f"{{{NAMESPACE}}}{name}":
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed or did not validate")
        return root

    # -- Objects. --

    def do_GetObject(self, request):
        obj = self.bucket.get(request.key)
        self.bucket.check_read(obj, request.headers.get("if-match"), request.headers.get("if-none-match"))
        headers = {"ETag": obj.etag, "Last-Modified": email.utils.formatdate(obj.modified_s, usegmt=True),
                   "Accept-Ranges": "bytes", "Content-Type": "binary/octet-stream", **self.tell_headers(obj)}
        if request.headers.get("x-amz-checksum-mode") == "ENABLED":
            if not self.abilities["checksums"]:
                raise Refusal(400, "InvalidArgument", "Unsupported header 'x-amz-checksum-mode' received for this API call.")
            headers |= obj.sums
        wanted = request.headers.get("range")
        if wanted is None:
            return Answer(200, obj.body, headers)
        size = len(obj.body)
        match = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted)
        if not match or match.groups() == ("", ""):
            self.violate(request, f"range {wanted}")
            return Answer(200, obj.body, headers)
        first, last = match.groups()
        begin = int(first) if first else max(size - int(last), 0)
        end = min(int(last), size - 1) if first and last else size - 1
        if begin >= size or (first and last and int(last) < begin):
            raise Refusal(416, "InvalidRange", "The requested range is not satisfiable",
                          {"Content-Range": f"bytes */{size}"}, {"ActualObjectSize": str(size)})
        headers["Content-Range"] = f"bytes {begin}-{end}/{size}"
        headers = {name: value for name, value in headers.items() if name not in obj.sums}  # as MinIO
        return Answer(206, obj.body[begin:end + 1], headers)

    do_HeadObject = do_GetObject  # the front sends no body

    @staticmethod
    def tell_headers(obj):
        count = {"x-amz-tagging-count": str(len(obj.tags))} if obj.tags else {}
        return {**obj.headers, **count, **{"x-amz-meta-" + name: value for name, value in obj.meta.items()}}

    def do_GetObjectTagging(self, request):
        if not self.abilities["read_tags"]:
            raise Refusal(403, "AccessDenied", "Access Denied")
        tags = "".join(f"<Tag>{element('Key', name)}{element('Value', value)}</Tag>"
                       for name, value in self.bucket.get(request.key).tags.items())
        return Answer(200, xml_document("Tagging", f"<TagSet>{tags}</TagSet>"))

    def do_PutObjectTagging(self, request):
        obj, space = self.bucket.get(request.key), f"{{{NAMESPACE}}}"
        tags = self.read_xml(request, "Tagging").findall(f"{space}TagSet/{space}Tag")
        obj.tags = rules.check_tags([(tag.findtext(f"{space}Key", ""), tag.findtext(f"{space}Value", "")) for tag in tags])
        return Answer(200)

    def take_tags(self, request):
        if "x-amz-tagging" in request.headers and not self.abilities["set_tags"]:
            raise Refusal(403, "AccessDenied", "Access Denied")
        if "+" in request.headers.get("x-amz-tagging", ""):
            self.violate(request, "a plus in x-amz-tagging")
        return rules.header_tags(request.headers)

    def do_PutObject(self, request):
        self.bucket.check_write(request.key, *self.conditions(request))
        tags = self.take_tags(request)
        obj = self.bucket.put(request.key, request.body, rules.user_meta(request.headers),
                              rules.kept_headers(request.headers))
        obj.tags, obj.sums = tags, self.tell_checksums(request)
        return Answer(200, b"", {"ETag": obj.etag, **obj.sums})

    @staticmethod
    def tell_checksums(request):
        return {name: request.headers[name] for name in rules.CHECKSUMS if name in request.headers}

    def find_source(self, request):
        text = request.headers["x-amz-copy-source"]
        if "+" in text or not text.isascii() or encode(decode(text), "/") != text:
            self.violate(request, f"x-amz-copy-source is not encoded: {text}")
        bucket, _, key = decode(text.removeprefix("/")).partition(b"/")
        if bucket.decode("utf-8", "replace") != self.name:
            raise Refusal(404, "NoSuchBucket", "The specified bucket does not exist")
        if request.body:
            raise Refusal(400, "InvalidRequest", "A copy has no body")
        obj = self.bucket.get(key)
        self.bucket.check_read(obj, request.headers.get("x-amz-copy-source-if-match"),
                               request.headers.get("x-amz-copy-source-if-none-match"), "x-amz-copy-source-")
        return key, obj

    def do_CopyObject(self, request):
        key, source = self.find_source(request)
        self.bucket.check_write(request.key, *self.conditions(request))
        directive = request.headers.get("x-amz-metadata-directive", "COPY")
        if directive not in ("COPY", "REPLACE"):
            raise Refusal(400, "InvalidArgument", "Unknown metadata directive.")
        if len(source.body) > COPY_BYTES_MAX:
            raise Refusal(400, "InvalidRequest", "The specified copy source is larger than the maximum allowable size")
        meta, headers = rules.user_meta(request.headers), rules.kept_headers(request.headers)
        if directive == "COPY":
            if meta or "content-type" in headers:
                self.violate(request, "metadata that the directive COPY ignores")
            if key == request.key:
                raise Refusal(400, "InvalidRequest", "This copy request is illegal because it is trying to copy an "
                                                     "object to itself without changing the object's metadata")
            meta, headers = source.meta, source.headers
        if "x-amz-tagging" in request.headers or "x-amz-tagging-directive" in request.headers:
            raise Refusal(501, "NotImplemented", "A copy has the tags of its source here")
        obj = self.bucket.put(request.key, source.body, meta, headers)
        obj.tags = source.tags
        return Answer(200, xml_document("CopyObjectResult", element("ETag", obj.etag) +
                                        element("LastModified", iso_time(obj.modified_s))))

    def do_DeleteObject(self, request):
        obj = self.bucket.objects.get(request.key)
        if obj and self.abilities["delete_conditions"]:
            self.bucket.check_read(obj, request.headers.get("if-match"), None)
        self.bucket.delete(request.key)
        return Answer(204)

    # -- Multipart. --

    def do_CreateMultipartUpload(self, request):
        if request.body:
            self.violate(request, "CreateMultipartUpload with a body")
        tags = self.take_tags(request)
        upload_id = self.bucket.create(request.key, rules.user_meta(request.headers), rules.kept_headers(request.headers))
        self.bucket.uploads[upload_id].tags = tags
        return Answer(200, xml_document("InitiateMultipartUploadResult", element("Bucket", self.name) +
                                        element("Key", request.key.decode("utf-8", "replace")) +
                                        element("UploadId", upload_id)))

    def do_UploadPart(self, request):
        upload = self.bucket.upload(request.key, request.query["uploadId"])
        if any(name.startswith("x-amz-meta-") for name in request.headers):
            self.violate(request, "metadata on a part")
        part = self.bucket.part(upload, self.number(request, "partNumber", 0, 1 << 30), request.body)
        return Answer(200, b"", {"ETag": part.etag, **self.tell_checksums(request)})

    def do_UploadPartCopy(self, request):
        if not self.abilities["part_copy"]:
            raise Refusal(501, "NotImplemented", "UploadPartCopy is not implemented")
        upload = self.bucket.upload(request.key, request.query["uploadId"])
        _, source = self.find_source(request)
        body = source.body
        wanted = request.headers.get("x-amz-copy-source-range")
        if wanted is not None:
            match = re.fullmatch(r"bytes=(\d+)-(\d+)", wanted)
            if not match or int(match[1]) > int(match[2]) or int(match[2]) >= len(body):
                raise Refusal(400, "InvalidArgument", "Range specified is not valid for source object of size: "
                                                      f"{len(body)}")
            body = body[int(match[1]):int(match[2]) + 1]
        part = self.bucket.part(upload, self.number(request, "partNumber", 0, 1 << 30), body)
        return Answer(200, xml_document("CopyPartResult", element("LastModified", iso_time(part.modified_s)) +
                                        element("ETag", part.etag)))

    def do_ListParts(self, request):
        upload = self.bucket.upload(request.key, request.query["uploadId"])
        most = self.number(request, "max-parts", LIST_MAX, LIST_MAX)
        after = self.number(request, "part-number-marker", 0, 1 << 30)
        numbers = sorted(number for number in upload.parts if number > after)
        page = numbers[:most]
        parts = [element("Bucket", self.name), element("Key", upload.key.decode("utf-8", "replace")),
                 element("UploadId", upload.id), element("PartNumberMarker", after), element("MaxParts", most),
                 element("IsTruncated", "true" if len(numbers) > most else "false")]
        if len(numbers) > most:
            parts.append(element("NextPartNumberMarker", page[-1]))
        for number in page:
            part = upload.parts[number]
            parts.append("<Part>" + element("PartNumber", number) + element("LastModified", iso_time(part.modified_s)) +
                         element("ETag", part.etag) + element("Size", len(part.body)) + "</Part>")
        return Answer(200, xml_document("ListPartsResult", "".join(parts)))

    def do_CompleteMultipartUpload(self, request):
        upload = self.bucket.upload(request.key, request.query["uploadId"])
        wanted = []
        for child in self.read_xml(request, "CompleteMultipartUpload"):
            number, etag = child.findtext(f"{{{NAMESPACE}}}PartNumber"), child.findtext(f"{{{NAMESPACE}}}ETag")
            if child.tag != f"{{{NAMESPACE}}}Part" or not number or not number.isdigit() or not etag:
                raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed or did not validate")
            wanted.append((int(number), etag))
        self.bucket.check_write(request.key, *self.conditions(request))
        size = request.headers.get("x-amz-mp-object-size")
        if size is not None and int(size) != sum(len(upload.parts[n].body) for n, _ in wanted if n in upload.parts):
            raise Refusal(400, "InvalidRequest", "The provided 'x-amz-mp-object-size' header does not match")
        obj = self.bucket.complete(upload, wanted, not self.abilities["unequal_parts"])
        return Answer(200, xml_document("CompleteMultipartUploadResult", element("Location", "http://little.invalid/") +
                                        element("Bucket", self.name) +
                                        element("Key", request.key.decode("utf-8", "replace")) +
                                        element("ETag", obj.etag)))

    def do_AbortMultipartUpload(self, request):
        self.bucket.upload(request.key, request.query["uploadId"])
        del self.bucket.uploads[request.query["uploadId"]]
        return Answer(204)

    def do_ListMultipartUploads(self, request):
        query = request.query
        most = self.number(request, "max-uploads", LIST_MAX, LIST_MAX)
        show = form_encode if query.get("encoding-type") == "url" else lambda data: data.decode("utf-8", "replace")
        prefix = query.get("prefix", "").encode("utf-8", "surrogateescape")
        after = (query.get("key-marker", "").encode("utf-8", "surrogateescape"), query.get("upload-id-marker"))
        uploads = sorted((u.key, u.id) for u in self.bucket.uploads.values() if u.key.startswith(prefix))
        if self.options.one_page_of_uploads:
            most, after = len(uploads), (b"", None)
        uploads = [u for u in uploads if u > (after[0], after[1] or "\U0010ffff")] if after[0] else uploads
        page = uploads[:most]
        parts = [element("Bucket", self.name), element("MaxUploads", most),
                 element("IsTruncated", "true" if len(uploads) > most else "false")]
        if query.get("encoding-type") == "url":
            parts.append(element("EncodingType", "url"))
        if len(uploads) > most:
            parts.append(element("NextKeyMarker", show(page[-1][0])) + element("NextUploadIdMarker", page[-1][1]))
        for key, upload_id in page:
            upload = self.bucket.uploads[upload_id]
            parts.append("<Upload>" + element("Key", show(key)) + element("UploadId", upload_id) +
                         element("Initiated", iso_time(upload.initiated_s)) + "</Upload>")
        return Answer(200, xml_document("ListMultipartUploadsResult", "".join(parts)))

    # -- Control. --

    def control(self, request):
        name = request.raw_path.removeprefix("/_control/")
        with self.lock:
            if request.method == "GET":
                views = {"log": lambda: self.log, "counters": lambda: self.counters,
                         "violations": lambda: self.violations, "abilities": lambda: self.abilities,
                         "faults": lambda: [{"id": f.id, "struck": f.struck, **f.script} for f in self.faults],
                         "objects": lambda: {encode(key, "/"): {"size": len(o.body), "etag": o.etag, "meta": o.meta,
                                                                "headers": o.headers, "tags": o.tags}
                                             for key, o in sorted(self.bucket.objects.items())},
                         "uploads": lambda: {u.id: encode(u.key, "/") for u in self.bucket.uploads.values()}}
                if name not in views:
                    raise ValueError(f"GET one of {', '.join(views)}")
                return views[name]()
            command = getattr(self, "control_" + name, None)
            if command is None:
                raise ValueError(f"unknown command {name}")
            return command(json.loads(request.body or b"{}"))

    def control_fault(self, script):
        self.faults.append(Fault(next(self.fault_numbers), script))
        return {"id": self.faults[-1].id}

    def control_unfault(self, which):
        self.faults = [f for f in self.faults if "id" in which and f.id != which["id"]]

    def control_release(self, which):
        for fault in self.faults:
            if which.get("id", fault.id) == fault.id:
                fault.released.set()
                fault.script = {**fault.script, "times": fault.struck or 1, "skip": 0}

    def control_clear(self, which):
        for what in which.get("what", ["log", "violations", "faults"]):
            {"log": self.log, "violations": self.violations, "faults": self.faults}[what].clear()
            if what == "log":
                self.counters.clear()

    def control_abilities(self, wanted):
        if set(wanted) - set(self.abilities):
            raise ValueError(f"abilities are {', '.join(self.abilities)}")
        self.abilities.update(wanted)

    def control_skew(self, wanted):
        self.skew = float(wanted["seconds"])

    def control_keys(self, wanted):
        self.keys = {**self.keys, **wanted}

    def control_forget_uploads(self, _):
        self.bucket.uploads.clear()

    def control_begin_uploads(self, wanted):
        for number in range(wanted["count"]):
            upload_id = self.bucket.create(f"{wanted['prefix']}{number:08}".encode(), {}, {})
            self.bucket.uploads[upload_id].initiated_s -= wanted.get("age_s", 0)

    def control_put(self, wanted):
        body = base64.b64decode(wanted["base64"]) if "base64" in wanted else wanted.get("text", "").encode()
        obj = self.bucket.put(wanted["key"].encode("utf-8", "surrogateescape"), body, wanted.get("meta", {}),
                              wanted.get("headers", {}))
        obj.sums = wanted.get("sums", {})
        return {"etag": obj.etag}

    def control_fill(self, wanted):
        return {"etag": self.bucket.fill([f"{wanted['prefix']}{number:08}".encode() for number in range(wanted["count"])],
                                         wanted.get("text", "").encode(), wanted.get("meta", {})).etag}

    def control_delete(self, wanted):
        self.bucket.delete(wanted["key"].encode("utf-8", "surrogateescape"))


# Each operation's query parameters, and whether it may change the bucket.
OPERATIONS = {
    "HeadBucket": (set(), False),
    "GetBucketLocation": ({"location"}, False),
    "CreateBucket": (set(), True),
    "ListObjectsV2": ({"list-type", "prefix", "delimiter", "max-keys", "continuation-token", "start-after",
                       "encoding-type", "metadata"}, False),
    "DeleteObjects": ({"delete"}, True),
    "GetObject": (set(), False),
    "HeadObject": (set(), False),
    "GetObjectTagging": ({"tagging"}, False),
    "PutObjectTagging": ({"tagging"}, True),
    "PutObject": (set(), True),
    "CopyObject": (set(), True),
    "DeleteObject": (set(), True),
    "CreateMultipartUpload": ({"uploads"}, True),
    "UploadPart": ({"partNumber", "uploadId"}, True),
    "UploadPartCopy": ({"partNumber", "uploadId"}, True),
    "ListParts": ({"uploadId", "max-parts", "part-number-marker"}, False),
    "CompleteMultipartUpload": ({"uploadId"}, True),
    "AbortMultipartUpload": ({"uploadId"}, True),
    "ListMultipartUploads": ({"uploads", "prefix", "delimiter", "key-marker", "upload-id-marker", "max-uploads",
                              "encoding-type"}, False),
}


# ---- The front: HTTP/1.1 with kept connections. ----


class Connection(socketserver.StreamRequestHandler):
    disable_nagle_algorithm = True
    rbufsize = 1 << 18

    def handle(self):
        self.service = self.server.service
        try:
            while self.serve_one():
                pass
        except (Closed, ConnectionError, ssl.SSLError, TimeoutError):
            pass

    def read_line(self):
        line = self.rfile.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\r\n"):
            raise Closed
        return line[:-2].decode("latin-1")

    def read_head(self):
        request = Request()
        match = re.fullmatch(r"([A-Z]+) (/[^ ?#]*)(?:\?([^ #]*))? HTTP/1\.1", self.read_line())
        if not match:
            self.send(Answer(400, b"", {"Connection": "close"}))
            raise Closed
        request.method, request.raw_path, request.raw_query = match[1], match[2], match[3] or ""
        while line := self.read_line():
            name, colon, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if not colon or not name or name != name.strip():
                raise Closed
            request.headers[name] = f"{request.headers[name]},{value}" if name in request.headers else value
        return request

    def read_body(self, request, fault):
        headers = request.headers
        if "transfer-encoding" in headers:
            raise Closed  # its end is not known here
        length = headers.get("content-length")
        if length is None:
            return
        if not length.isdigit():
            raise Closed
        if headers.get("expect", "").lower() == "100-continue":
            self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if fault and fault.action == "cut_request":
            self.rfile.read(min(fault.number("bytes"), int(length)))
            raise Closed
        request.body = self.rfile.read(int(length))
        if len(request.body) < int(length):
            raise Closed
        if fault and fault.action == "falsify_request":
            request.body = falsify(request.body, fault.number("bytes"))

    def serve_one(self):
        """False: the connection is to end."""
        first = self.rfile.peek(1)
        if not first:
            return False
        request = self.read_head()
        if request.raw_path.startswith("/_control/"):
            return self.serve_control(request)
        started = time.monotonic()
        request.number = next(self.service.request_numbers)
        entry = self.begin_entry(request)
        fault, early = None, None
        try:
            if "host" not in request.headers:
                raise Refusal(400, "InvalidRequest", "Missing Host header")
            self.service.locate(request)
        except Refusal as refusal:
            early = refusal
        entry.update(op=request.op, key=encode(request.key, "/"))
        delays = self.service.find_faults(request)
        if delays and delays[-1].action != "delay":
            fault = delays.pop()
            entry["fault"] = fault.id
        try:
            self.read_body(request, fault)
            entry["bytes"] = len(request.body)
            time.sleep(sum(delay.number("ms") for delay in delays) / 1000)
            answer = self.answer(request, fault, early, entry)
            entry["ms"] = round((time.monotonic() - started) * 1000, 1)
            self.send_answer(request, answer, fault)
        except Closed:
            entry["closed"] = True
            raise
        return request.headers.get("connection", "").lower() != "close"

    def begin_entry(self, request):
        hidden = {"authorization", "x-amz-security-token"}
        entry = {"n": request.number, "method": request.method, "path": request.raw_path, "query": request.raw_query,
                 "headers": {name: "(hidden)" if name in hidden else value for name, value in request.headers.items()},
                 "bytes": 0, "status": 0, "connection": self.client_address[1]}
        with self.service.lock:
            if len(self.service.log) < LOG_MAX:
                self.service.log.append(entry)
        return entry

    def answer(self, request, fault, early, entry):
        service = self.service
        try:
            if early:
                raise early
            if request.method in ("PUT", "POST") and "content-length" not in request.headers:
                raise Refusal(411, "MissingContentLength", "You must provide the Content-Length HTTP header.")
            if fault and fault.action == "close":
                raise Closed
            if fault and fault.action == "hang":
                fault.released.wait()
            if fault and fault.action == "answer":
                script = fault.script
                raise Refusal(script.get("status", 503), script.get("code", "SlowDown"),
                              script.get("message", "as the test wants"), script.get("headers"))
            service.check(request)
            answer = service.perform(request)
        except Refusal as refusal:
            answer = self.refuse(request, refusal)
            entry["code"] = refusal.code
        entry["status"] = answer.status
        with service.lock:
            name = request.op if answer.status < 400 else f"{request.op} {answer.status}"
            service.counters[name] = service.counters.get(name, 0) + 1
        if fault and fault.action == "lose_reply":
            raise Closed
        if fault and fault.action == "hang_reply":
            fault.released.wait()
        return answer

    def refuse(self, request, refusal):
        content = element("Code", refusal.code) + element("Message", refusal.message)
        content += "".join(element(name, text) for name, text in refusal.extra.items())
        content += element("Resource", request.raw_path) + element("RequestId", f"LITTLE{request.number:010d}")
        body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{content}</Error>'.encode()
        return Answer(refusal.status, b"" if refusal.status == 304 else body,
                      {"Content-Type": "application/xml", **refusal.headers})

    def send_answer(self, request, answer, fault):
        answer.headers.setdefault("x-amz-request-id", f"LITTLE{request.number:010d}")
        answer.headers.setdefault("x-amz-id-2", "little")
        if answer.body and "Content-Type" not in answer.headers and "content-type" not in answer.headers:
            answer.headers["Content-Type"] = "application/xml"
        if fault and fault.action == "falsify":
            answer.body = falsify(answer.body, fault.number("bytes"))
        cut = fault.number("bytes") if fault and fault.action == "cut" else None
        self.send(answer, request.method == "HEAD", cut)
        if cut is not None:
            raise Closed

    def send(self, answer, no_body=False, cut=None):
        names = {name.lower(): (name, value) for name, value in answer.headers.items()}
        lines = [f"HTTP/1.1 {answer.status} {REASONS.get(answer.status, 'Error')}"]
        date = email.utils.formatdate(self.server.service.clock(), usegmt=True)
        lines += [f"Date: {date}", "Server: LittleS3"]
        if answer.status not in (204, 304):
            lines.append(f"Content-Length: {len(answer.body)}")
        lines += [f"{name}: {value}" for name, value in names.values()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
        body = b"" if no_body or answer.status in (204, 304) else answer.body
        if cut is not None:
            body = body[:cut]
        if len(body) < 1 << 16:
            self.request.sendall(head + body)
        else:
            self.request.sendall(head)
            self.request.sendall(body)

    def serve_control(self, request):
        self.read_body(request, None)
        try:
            status, result = 200, self.service.control(request)
        except (ValueError, KeyError, TypeError) as error:
            status, result = 400, {"error": f"{type(error).__name__}: {error}"}
        with self.service.lock:
            body = json.dumps(result).encode()
        self.send(Answer(status, body, {"Content-Type": "application/json"}))
        return request.headers.get("connection", "").lower() != "close"

    def finish(self):
        try:
            super().finish()
        except OSError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handle_error(request, client_address)
            with self.service.lock:
                self.service.violations.append({"violation": f"the little S3 itself failed: {error!r}"})


def die_with_parent():
    parent = os.getppid()
    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent has gone")


def parse_options(words):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=0, help="0: any free one; it is printed as READY PORT")
    parser.add_argument("--address", default="127.0.0.1")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--access-key", required=True)
    parser.add_argument("--secret-key", required=True, help="of a test; it can be seen by ps")
    parser.add_argument("--session-token")
    parser.add_argument("--region", default="us-east-1", help="requests signed for another one are refused")
    parser.add_argument("--redirect", action="store_true", help="refuse them by 301 instead of 400")
    parser.add_argument("--skew", type=float, default=0, help="seconds that the server's clock is ahead")
    parser.add_argument("--part-min", type=int, default=5 << 20, help="bytes of the smallest part but the last")
    parser.add_argument("--list-metadata", action="store_true", help="metadata=true adds UserMetadata, as MinIO does")
    parser.add_argument("--one-page-of-uploads", action="store_true", help="all of them, whatever is asked for, as MinIO does")
    parser.add_argument("--certificate", help="PEM file: speak TLS; the key is in it, or in --certificate-key")
    parser.add_argument("--certificate-key")
    return parser.parse_args(words)


def main(words=None):
    options = parse_options(words)
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    server = Server((options.address, options.port), Connection)
    server.service = Service(options)
    if options.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(options.certificate, options.certificate_key)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    print(f"READY {server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
