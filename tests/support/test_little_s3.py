#!/usr/bin/env python3
"""The strict little S3 refuses what S3 refuses, notes what a good client does not do, and misbehaves on command."""

import base64
import hashlib
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import unittest
import zlib

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import little_s3_rules as rules  # noqa: E402
from little import ACCESS_KEY, BUCKET, SECRET_KEY, Little  # noqa: E402
from s3 import S3, S3Error  # noqa: E402

MIB = 1 << 20
COMPLETE = ('<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{}'
            "</CompleteMultipartUpload>")


def part_list(parts):
    return COMPLETE.format("".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{e}</ETag></Part>" for n, e in parts)).encode()


class Crcs(unittest.TestCase):
    def test_check_values(self):
        self.assertEqual(rules.CRC32C.of(b"123456789"), 0xE3069283)
        self.assertEqual(rules.CRC64NVME.of(b"123456789"), 0xAE8B14860A799888)
        self.assertEqual(base64.b64encode(rules.CRC32C.digest(b"hello world")), b"yZRlqg==")
        self.assertEqual(base64.b64encode(rules.CRC64NVME.digest(b"hello world")), b"jSnVw/bqjr4=")

    def test_folding_is_the_table(self):
        for length in (0, 1, 3, 4, 7, 8, 9, 511, 512, 513, 514, 520, 1000, 65537, 200003):
            data = os.urandom(length)
            self.assertEqual(rules.CRC32.of(data), zlib.crc32(data), length)
            for crc in (rules.CRC32C, rules.CRC64NVME):
                self.assertEqual(crc.of(data), crc._by_table(data, crc.ones) ^ crc.ones, length)


class PublishedSignatures(unittest.TestCase):
    """Vectors of the AWS documentation."""

    KEYS = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}
    NOW_S = 1369353600  # 20130524T000000Z

    class Asked:
        body = b""

        def __init__(self, method, path, query, headers):
            self.method, self.raw_path, self.raw_query = method, path, query
            self.headers = {"host": "examplebucket.s3.amazonaws.com", "x-amz-date": "20130524T000000Z",
                            "x-amz-content-sha256": rules.EMPTY_SHA256, **headers}

    def check(self, method, path, query, headers, signature):
        asked = self.Asked(method, path, query, headers)
        names = ";".join(sorted(asked.headers))
        asked.headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.KEYS['access_key']}/20130524/us-east-1/s3/"
                                          f"aws4_request,SignedHeaders={names},Signature={signature}")
        rules.check_signature(asked, self.KEYS, "us-east-1", False, self.NOW_S)

    def test_they_pass(self):
        self.check("GET", "/test.txt", "", {"range": "bytes=0-9"},
                   "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
        self.check("PUT", "/test%24file.text", "",
                   {"date": "Fri, 24 May 2013 00:00:00 GMT", "x-amz-storage-class": "REDUCED_REDUNDANCY",
                    "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072"},
                   "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd")
        self.check("GET", "/", "lifecycle", {}, "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543")
        self.check("GET", "/", "max-keys=2&prefix=J", {},
                   "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7")

    def test_another_path_does_not(self):
        with self.assertRaises(rules.Refusal) as caught:
            self.check("GET", "/test.txu", "", {"range": "bytes=0-9"},
                       "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41")
        self.assertEqual(caught.exception.code, "SignatureDoesNotMatch")


class Workshop(unittest.TestCase):
    options = {}

    def setUp(self):
        self.little = Little(**self.options)
        self.addCleanup(self.little.stop)
        self.s3 = self.little.s3

    def refused(self, code, *words, **named):
        with self.assertRaises(S3Error) as caught:
            self.s3.request(*words, **named)
        self.assertEqual(caught.exception.code, code)
        return caught.exception


class Strictness(Workshop):
    def test_wrong_keys_are_refused(self):
        for keys, code in ((("other", SECRET_KEY), "InvalidAccessKeyId"), ((ACCESS_KEY, "x"), "SignatureDoesNotMatch")):
            with self.assertRaises(S3Error) as caught:
                S3(self.little.endpoint, *keys).put(BUCKET, "a", b"x")
            self.assertEqual(caught.exception.code, code)
        self.assertEqual(self.little.ask("objects"), {})

    def test_unsigned_requests_are_refused(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.little.port)
        connection.request("HEAD", f"/{BUCKET}")
        answer = connection.getresponse()
        self.assertEqual((answer.status, answer.getheader("x-amz-bucket-region")), (403, "us-east-1"))
        connection.close()

    def test_wrong_checksums_are_refused(self):
        right = {"content-md5": hashlib.md5(b"body").digest(), "x-amz-checksum-crc32c": rules.CRC32C.digest(b"body"),
                 "x-amz-checksum-crc64nvme": rules.CRC64NVME.digest(b"body"),
                 "x-amz-checksum-sha256": hashlib.sha256(b"body").digest()}
        for name, digest in right.items():
            self.s3.put(BUCKET, "right", b"body", {name: base64.b64encode(digest).decode()})
            wrong = bytes([digest[0] ^ 1]) + digest[1:]
            self.refused("BadDigest", "PUT", BUCKET, "wrong", body=b"body",
                         headers={name: base64.b64encode(wrong).decode()})
        self.assertEqual(list(self.little.ask("objects")), ["right"])

    def test_unknown_headers_and_parameters_are_refused(self):
        self.refused("NotImplemented", "PUT", BUCKET, "a", headers={"x-amz-acl": "private"})
        self.refused("NotImplemented", "GET", BUCKET, "a", query={"torrent": ""})
        self.assertIn("unknown header x-amz-acl", [v["violation"] for v in self.little.violations()])

    def test_conditions(self):
        etag = self.s3.put(BUCKET, "a", b"1")
        self.refused("PreconditionFailed", "PUT", BUCKET, "a", headers={"if-none-match": "*"})
        self.refused("PreconditionFailed", "PUT", BUCKET, "a", headers={"if-match": '"other"'})
        self.refused("NoSuchKey", "PUT", BUCKET, "gone", headers={"if-match": etag})
        self.refused("PreconditionFailed", "GET", BUCKET, "a", headers={"if-match": '"other"'})
        self.refused("PreconditionFailed", "DELETE", BUCKET, "a", headers={"if-match": '"other"'})
        self.s3.request("PUT", BUCKET, "a", headers={"if-match": etag}, body=b"2")
        self.assertEqual(self.s3.get(BUCKET, "a"), b"2")

    def test_tags(self):
        self.s3.put(BUCKET, "a", b"1", {"x-amz-tagging": "a%20b=c%2Bd&e="})
        self.assertEqual(self.s3.tags(BUCKET, "a"), {"a b": "c+d", "e": ""})
        self.assertEqual(self.s3.head(BUCKET, "a")["x-amz-tagging-count"], "2")
        etag = self.s3.head(BUCKET, "a")["etag"]
        self.s3.tag(BUCKET, "a", {"f": "ö"})
        self.assertEqual((self.s3.tags(BUCKET, "a"), self.s3.head(BUCKET, "a")["etag"]), ({"f": "ö"}, etag))
        self.s3.request("PUT", BUCKET, "b", headers={"x-amz-copy-source": f"/{BUCKET}/a"})
        self.assertEqual(self.s3.tags(BUCKET, "b"), {"f": "ö"})
        self.s3.put(BUCKET, "a", b"2")
        self.assertEqual(self.s3.tags(BUCKET, "a"), {})
        self.assertNotIn("x-amz-tagging-count", self.s3.head(BUCKET, "a"))
        for text in ("a=1&a=2", "=1", "a=%3C", "&".join(f"{n}=" for n in range(11)), "a=%FF", "a" * 129 + "="):
            with self.assertRaises(S3Error, msg=text):
                self.s3.put(BUCKET, "c", b"", {"x-amz-tagging": text})
        self.assertEqual(self.little.violations(), [])
        self.s3.put(BUCKET, "a", b"3", {"x-amz-tagging": "a=1+2"})
        self.assertIn("a plus in x-amz-tagging", [v["violation"] for v in self.little.violations()])
        self.little.control("abilities", read_tags=False, set_tags=False)
        self.refused("AccessDenied", "GET", BUCKET, "a", query={"tagging": ""})
        self.refused("AccessDenied", "PUT", BUCKET, "a", headers={"x-amz-tagging": "a=1"})

    def test_sloppiness_is_noted(self):
        self.s3.put(BUCKET, "a", b"x", {"content-type": "application/x-www-form-urlencoded"})
        self.s3.request("GET", BUCKET, query={"list-type": "2"})
        noted = " / ".join(v["violation"] for v in self.little.violations())
        self.assertIn("form", noted)
        self.assertIn("encoding-type=url", noted)

    def test_a_body_without_checksum_is_noted(self):
        original = self.s3.sign
        self.s3.sign = lambda method, path, query, headers, _: original(
            method, path, query, headers, "UNSIGNED-PAYLOAD")
        self.s3.put(BUCKET, "a", b"x")
        self.assertEqual([v["violation"] for v in self.little.violations()], ["a body without any checksum"])

    def test_good_clients_are_not_noted(self):
        self.s3.put(BUCKET, "a b+c%/ü", b"x", {"x-amz-meta-mode": "33188"})
        self.assertEqual(self.s3.list(BUCKET), [("a b+c%/ü", 1, hashlib.md5(b"x").hexdigest())])
        self.assertEqual(self.little.violations(), [])

    def test_secrets_are_not_logged(self):
        self.s3.put(BUCKET, "a", b"x")
        entry = self.little.log("PutObject")[0]
        self.assertEqual(entry["headers"]["authorization"], "(hidden)")
        self.assertEqual((entry["key"], entry["bytes"], entry["status"]), ("a", 1, 200))

    def test_chunked_bodies_end_the_connection(self):
        with socket.create_connection(("127.0.0.1", self.little.port)) as plain:
            plain.sendall(f"PUT /{BUCKET}/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".encode())
            self.assertEqual(plain.recv(1), b"")


class Keys(Workshop):
    def test_any_bytes_are_a_key(self):
        for key in ("a", "a/b", "a//b", "./x", "a/../b", "..", "/lead", "end/", "\udcff\udcfe", "new\nline", "\x01"):
            raw = key.encode("utf-8", "surrogateescape")
            self.s3.request("PUT", BUCKET, raw.decode("utf-8", "surrogateescape"), body=raw) if key.isascii() else \
                self.little.control("put", key=key, base64=base64.b64encode(raw).decode())
        _, _, body = self.s3.request("GET", BUCKET, query={"list-type": "2", "encoding-type": "url"})
        for encoded in (b"<Key>%FF%FE</Key>", b"<Key>a//b</Key>", b"<Key>a/../b</Key>", b"<Key>new%0Aline</Key>"):
            self.assertIn(encoded, body)
        self.assertEqual(self.s3.get(BUCKET, "a/../b"), b"a/../b")

    def test_virtual_host(self):
        self.s3.put(BUCKET, "a", b"by path")
        by_host = S3(f"http://{BUCKET}.localhost:{self.little.port}", ACCESS_KEY, SECRET_KEY)
        connection = http.client.HTTPConnection("127.0.0.1", self.little.port)
        headers = by_host.sign("GET", "/a", "", {}, rules.EMPTY_SHA256)
        connection.request("GET", "/a", headers=headers)
        self.assertEqual(connection.getresponse().read(), b"by path")
        connection.close()

    def test_pages(self):
        for number in range(7):
            self.s3.put(BUCKET, f"k{number}/x y", b"")
        found, token = [], None
        while True:
            query = {"list-type": "2", "encoding-type": "url", "max-keys": "2", "delimiter": "/"}
            if token:
                query["continuation-token"] = token
            body = self.s3.request("GET", BUCKET, query=query)[2].decode()
            found += [piece.split("<")[0] for piece in body.split("<CommonPrefixes><Prefix>")[1:]]
            if "<IsTruncated>true" not in body:
                break
            token = body.split("<NextContinuationToken>")[1].split("<")[0]
        self.assertEqual(found, [f"k{number}/" for number in range(7)])

    def test_a_bucket_is_filled_with_keys_of_one_object(self):
        self.s3.put(BUCKET, "d/between", b"own")
        etag = self.little.control("fill", prefix="d/a", count=1500, text="all", meta={"mode": "33188"})["etag"]
        found = self.s3.list(BUCKET, "d/")
        self.assertEqual([key for key, _, _ in found], [f"d/a{number:08}" for number in range(1500)] + ["d/between"])
        self.assertEqual({(size, tag) for _, size, tag in found[:-1]}, {(3, etag.strip('"'))})
        self.assertEqual(self.s3.head(BUCKET, "d/a00001499")["x-amz-meta-mode"], "33188")
        self.assertEqual(self.s3.get(BUCKET, "d/a00000007"), b"all")


class Multipart(Workshop):
    def create(self, key):
        body = self.s3.request("POST", BUCKET, key, query={"uploads": ""})[2].decode()
        return body.split("<UploadId>")[1].split("<")[0]

    def part(self, key, upload, number, body):
        return self.s3.request("PUT", BUCKET, key, query={"partNumber": number, "uploadId": upload}, body=body)[1]["etag"]

    def test_round_trip(self):
        upload = self.create("k")
        first, second = os.urandom(5 * MIB), b"tail"
        parts = [(1, self.part("k", upload, 1, first)), (2, self.part("k", upload, 2, second))]
        body = self.s3.request("POST", BUCKET, "k", query={"uploadId": upload}, body=part_list(parts))[2]
        digest = hashlib.md5(hashlib.md5(first).digest() + hashlib.md5(second).digest()).hexdigest()
        self.assertIn(f"{digest}-2".encode(), body)
        self.assertEqual(self.s3.get(BUCKET, "k"), first + second)

    def test_rules(self):
        upload = self.create("k")
        one, two = self.part("k", upload, 1, b"small"), self.part("k", upload, 2, b"last")
        for parts, code in (([(1, one), (2, two)], "EntityTooSmall"), ([(2, two), (1, one)], "InvalidPartOrder"),
                            ([(1, two)], "InvalidPart"), ([(9, one)], "InvalidPart"), ([], "MalformedXML")):
            self.refused(code, "POST", BUCKET, "k", query={"uploadId": upload}, body=part_list(parts))
        self.little.control("forget_uploads")
        self.refused("NoSuchUpload", "POST", BUCKET, "k", query={"uploadId": upload}, body=part_list([(1, one)]))


class Misbehaviour(Workshop):
    def fault(self, **script):
        return self.little.control("fault", **script)["id"]

    def test_lost_reply_has_happened(self):
        self.fault(op="PutObject", action="lose_reply", times=1)
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.s3.put(BUCKET, "a", b"x")
        self.assertEqual(self.s3.get(BUCKET, "a"), b"x")

    def test_closed_before_has_not(self):
        self.fault(op="PutObject", action="close", times=1)
        with self.assertRaises((http.client.HTTPException, OSError)):
            self.s3.put(BUCKET, "a", b"x")
        self.assertEqual(self.little.ask("objects"), {})

    def test_cut_and_falsified_bodies(self):
        self.s3.put(BUCKET, "a", b"0123456789")
        self.fault(op="GetObject", action="cut", bytes=4, times=1)
        with self.assertRaises(http.client.IncompleteRead) as caught:
            self.s3.get(BUCKET, "a")
        self.assertEqual(caught.exception.partial, b"0123")
        self.fault(op="GetObject", action="falsify", bytes=3, times=1)
        self.assertEqual(self.s3.get(BUCKET, "a"), b"012#456789")
        self.assertEqual(self.s3.get(BUCKET, "a"), b"0123456789")

    def test_falsified_request_is_noticed(self):
        self.fault(op="PutObject", action="falsify_request", bytes=1, times=1)
        self.refused("XAmzContentSHA256Mismatch", "PUT", BUCKET, "a", body=b"body")

    def test_any_answer(self):
        number = self.fault(op="GetObject", key="a", action="answer", status=503, code="SlowDown", skip=1, times=2)
        self.s3.put(BUCKET, "a", b"x")
        self.s3.put(BUCKET, "b", b"x")
        codes = []
        for _ in range(4):
            try:
                codes.append(self.s3.get(BUCKET, "a"))
            except S3Error as error:
                codes.append(error.code)
            self.s3.get(BUCKET, "b")
        self.assertEqual(codes, [b"x", "SlowDown", "SlowDown", b"x"])
        self.assertEqual([f["struck"] for f in self.little.ask("faults") if f["id"] == number], [2])

    def test_error_under_status_200(self):
        self.fault(op="PutObject", action="answer", status=200, code="InternalError", times=1)
        self.assertIn(b"<Code>InternalError</Code>", self.s3.request("PUT", BUCKET, "a", body=b"x")[2])
        self.assertEqual(self.little.ask("objects"), {})

    def test_hanging_until_released(self):
        for action, happened in (("hang", {}), ("hang_reply", {"a"})):
            number = self.fault(op="PutObject", action=action, times=1)
            thread = threading.Thread(target=self.s3.put, args=(BUCKET, "a", b"x"))
            thread.start()
            deadline = time.monotonic() + 20
            while not [f for f in self.little.ask("faults") if f["id"] == number and f["struck"]] \
                    or (happened and not self.little.ask("objects")):
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            self.assertTrue(thread.is_alive())
            self.assertEqual(set(self.little.ask("objects")), set(happened))
            self.little.control("release", id=number)
            thread.join(20)
            self.assertFalse(thread.is_alive())
            self.assertEqual(self.s3.get(BUCKET, "a"), b"x")
            self.s3.delete(BUCKET, "a")

    def test_abilities_can_be_taken(self):
        self.little.control("abilities", checksums=False, conditions=False, delete_many=False)
        etag = base64.b64encode(rules.CRC32C.digest(b"x")).decode()
        self.refused("InvalidArgument", "PUT", BUCKET, "a", body=b"x", headers={"x-amz-checksum-crc32c": etag})
        self.s3.put(BUCKET, "a", b"x")
        self.s3.put(BUCKET, "a", b"y", {"if-none-match": "*"})
        self.refused("NotImplemented", "POST", BUCKET, query={"delete": ""}, body=b"<Delete/>")
        with self.assertRaises(ValueError):
            self.little.control("abilities", flying=True)

    def test_unknown_faults_are_refused(self):
        with self.assertRaises(ValueError):
            self.fault(op="PutObject", action="explode")
        with self.assertRaises(ValueError):
            self.fault(operation="PutObject", action="close")


class Region(Workshop):
    options = {"region": "eu-west-1"}

    def test_another_region_is_refused(self):
        other = S3(self.little.endpoint, ACCESS_KEY, SECRET_KEY, "us-east-1")
        with self.assertRaises(S3Error) as caught:
            other.list(BUCKET)
        self.assertEqual((caught.exception.status, caught.exception.code), (400, "AuthorizationHeaderMalformed"))
        self.assertIn(b"<Region>eu-west-1</Region>", caught.exception.body)
        self.assertEqual(self.s3.list(BUCKET), [])


class Token(Workshop):
    options = {"session_token": "TOKEN/+=="}

    def test_the_token_is_asked_for(self):
        self.s3.put(BUCKET, "a", b"x")
        for token, code in ((None, "InvalidAccessKeyId"), ("other", "InvalidToken")):
            with self.assertRaises(S3Error) as caught:
                S3(self.little.endpoint, ACCESS_KEY, SECRET_KEY, token=token).list(BUCKET)
            self.assertEqual(caught.exception.code, code)
        self.little.control("keys", expired=True)
        self.refused("ExpiredToken", "GET", BUCKET, "a")


class Clock(Workshop):
    options = {"skew": 3600}

    def test_skewed_requests_are_refused(self):
        self.refused("RequestTimeTooSkewed", "GET", BUCKET, "a")
        self.little.control("skew", seconds=0)
        self.refused("NoSuchKey", "GET", BUCKET, "a")


class Ending(unittest.TestCase):
    def test_it_ends_with_its_parent(self):
        program = ("import sys, time; sys.path.insert(0, %r); from little import Little; little = Little(); "
                   "print(little.port, flush=True); time.sleep(60)" % os.path.dirname(os.path.abspath(__file__)))
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
            port = int(parent.stdout.readline())
            socket.create_connection(("127.0.0.1", port)).close()
            parent.kill()
            deadline = time.monotonic() + 20
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                except ConnectionRefusedError:
                    break
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.02)


if __name__ == "__main__":
    unittest.main()
