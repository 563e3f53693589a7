"""Another S3 client, in plain Python: what tests and ./try look at the server with, from its own side.

As a module: S3(endpoint, access_key, secret_key). As a program (keys from the AWS_* variables):

    s3.py free-port
    s3.py ENDPOINT wait | make-bucket BUCKET | list BUCKET [PREFIX] | get BUCKET KEY | put BUCKET KEY FILE | head BUCKET KEY
"""

import datetime
import hashlib
import hmac
import http.client
import json
import os
import socket
import sys
import time
import urllib.parse
import xml.etree.ElementTree
from xml.sax.saxutils import escape

EMPTY = hashlib.sha256(b"").hexdigest()
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class S3Error(Exception):
    def __init__(self, status, code, body):
        super().__init__(f"{status} {code}")
        self.status, self.code, self.body = status, code, body


def encode(text, keep="/"):
    return urllib.parse.quote(text, safe=keep + "-._~")


class S3:
    """Path style, one connection per request: slow and simple on purpose."""

    def __init__(self, endpoint, access_key, secret_key, region="us-east-1", token=None):
        self.url = urllib.parse.urlsplit(endpoint)
        self.access_key, self.secret_key, self.region, self.token = access_key, secret_key, region, token

    def sign(self, method, path, query, headers, payload_hash, service="s3"):
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        headers = {name.lower(): str(value).strip() for name, value in headers.items()}
        headers |= {"host": self.url.netloc, "x-amz-date": stamp, "x-amz-content-sha256": payload_hash}
        if self.token:
            headers["x-amz-security-token"] = self.token
        names = ";".join(sorted(headers))
        lines = "".join(f"{name}:{headers[name]}\n" for name in sorted(headers))
        request = "\n".join([method, path, query, lines, names, payload_hash])
        scope = f"{day}/{self.region}/{service}/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()])
        signature = hmac.new(self.signing_key(day, service), text.encode(), "sha256").hexdigest()
        headers["authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope},"
                                    f"SignedHeaders={names},Signature={signature}")
        return headers

    def presign(self, method, bucket, key, query=None, seconds=3600):
        """A URL that carries its own signature, for programs that cannot sign (curl)."""
        now = datetime.datetime.now(datetime.timezone.utc)
        stamp, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
        scope = f"{day}/{self.region}/s3/aws4_request"
        all_pairs = {"X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": f"{self.access_key}/{scope}",
                     "X-Amz-Date": stamp, "X-Amz-Expires": str(seconds), "X-Amz-SignedHeaders": "host", **(query or {})}
        path = encode(f"/{bucket}/{key}")
        text = "&".join(f"{encode(n, '')}={encode(str(v), '')}" for n, v in sorted(all_pairs.items()))
        request = "\n".join([method, path, text, f"host:{self.url.netloc}\n", "host", "UNSIGNED-PAYLOAD"])
        signature = hmac.new(self.signing_key(day), "\n".join([
            "AWS4-HMAC-SHA256", stamp, scope, hashlib.sha256(request.encode()).hexdigest()]).encode(), "sha256")
        return f"{self.url.scheme}://{self.url.netloc}{path}?{text}&X-Amz-Signature={signature.hexdigest()}"

    def signing_key(self, day, service="s3"):
        key = ("AWS4" + self.secret_key).encode()
        for part in (day, self.region, service, "aws4_request"):
            key = hmac.new(key, part.encode(), "sha256").digest()
        return key

    def request(self, method, bucket, key="", query=None, headers=None, body=b"", timeout=60):
        """(status, headers with lower-case names, body); raises S3Error from 300 on."""
        path = encode(f"/{bucket}/{key}" if key else f"/{bucket}")
        pairs = sorted((encode(str(n), ""), encode(str(v), "")) for n, v in (query or {}).items())
        text = "&".join(f"{name}={value}" for name, value in pairs)
        signed = self.sign(method, path, text, headers or {}, hashlib.sha256(body).hexdigest() if body else EMPTY)
        kind = http.client.HTTPSConnection if self.url.scheme == "https" else http.client.HTTPConnection
        connection = kind(self.url.hostname, self.url.port, timeout=timeout)
        try:
            connection.request(method, path + ("?" + text if text else ""), body, signed)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        got = {name.lower(): value for name, value in answer.getheaders()}
        if answer.status >= 300:
            code = ""
            if content.lstrip().startswith(b"<"):
                code = xml.etree.ElementTree.fromstring(content).findtext("Code", "")
            raise S3Error(answer.status, code, content)
        return answer.status, got, content

    def assume_role(self, policy):
        """Temporary keys that may do what `policy` allows, from the STS of MinIO: the variables that hold them."""
        body = urllib.parse.urlencode({"Action": "AssumeRole", "Version": "2011-06-15", "DurationSeconds": "3600",
                                       "Policy": json.dumps(policy)}).encode()
        headers = {"content-type": "application/x-www-form-urlencoded"}
        signed = self.sign("POST", "/", "", headers, hashlib.sha256(body).hexdigest(), service="sts")
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=60)
        try:
            connection.request("POST", "/", body, signed)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status != 200:
            raise S3Error(answer.status, "", content)
        found = {element.tag.rpartition("}")[2]: element.text for element in xml.etree.ElementTree.fromstring(content).iter()}
        return {"AWS_ACCESS_KEY_ID": found["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
                "AWS_SESSION_TOKEN": found["SessionToken"]}

    def make_bucket(self, bucket):
        self.request("PUT", bucket)

    def put(self, bucket, key, body=b"", headers=None):
        return self.request("PUT", bucket, key, headers=headers, body=body)[1].get("etag")

    def get(self, bucket, key, headers=None):
        return self.request("GET", bucket, key, headers=headers)[2]

    def head(self, bucket, key):
        """The headers, or None where there is no such object."""
        try:
            return self.request("HEAD", bucket, key)[1]
        except S3Error as error:
            if error.status == 404:
                return None
            raise

    def tag(self, bucket, key, tags):
        """PutObjectTagging of {name: value}."""
        text = "".join(f"<Tag><Key>{escape(name)}</Key><Value>{escape(value)}</Value></Tag>" for name, value in tags.items())
        self.request("PUT", bucket, key, query={"tagging": ""},
                     body=f'<Tagging xmlns="{NAMESPACE}"><TagSet>{text}</TagSet></Tagging>'.encode())

    def tags(self, bucket, key):
        root = xml.etree.ElementTree.fromstring(self.request("GET", bucket, key, query={"tagging": ""})[2])
        # MinIO answers without a namespace.
        return {tag.findtext("{*}Key"): tag.findtext("{*}Value") or "" for tag in root.iterfind("{*}TagSet/{*}Tag")}

    def delete(self, bucket, key):
        self.request("DELETE", bucket, key)

    def list(self, bucket, prefix=""):
        """[(key, size, etag)] of all pages, in the server's order."""
        return [entry[:3] for entry in self.entries(bucket, prefix)]

    def entries(self, bucket, prefix=""):
        """[(key, size, etag, LastModified as text)], likewise."""
        found, token = [], None
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            root = xml.etree.ElementTree.fromstring(self.request("GET", bucket, query=query)[2])
            space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
            for entry in root.iter(space + "Contents"):
                key = urllib.parse.unquote_plus(entry.findtext(space + "Key"))
                found.append((key, int(entry.findtext(space + "Size")), entry.findtext(space + "ETag").strip('"'),
                              entry.findtext(space + "LastModified")))
            token = root.findtext(space + "NextContinuationToken")
            if root.findtext(space + "IsTruncated") != "true" or not token:
                return found

    def uploads(self, bucket, prefix=""):
        """[(key, upload id)]. MinIO lists only those of the exact key `prefix`."""
        root = xml.etree.ElementTree.fromstring(self.request("GET", bucket, query={"uploads": "", "prefix": prefix})[2])
        space = root.tag.partition("}")[0] + "}" if root.tag.startswith("{") else ""
        return [(u.findtext(space + "Key"), u.findtext(space + "UploadId")) for u in root.iter(space + "Upload")]

    def wait(self, seconds=30):
        """Until the server answers at all."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                self.request("GET", "", timeout=5)
                return
            except S3Error as error:
                if error.status < 500 or time.monotonic() > deadline:
                    return
            except (OSError, http.client.HTTPException):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def main(words):
    if words == ["free-port"]:
        print(free_port())
        return
    if len(words) < 2:
        sys.exit(__doc__)
    s3 = S3(words[0], os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"],
            token=os.environ.get("AWS_SESSION_TOKEN"))
    verb, rest = words[1], words[2:]
    if verb == "wait":
        s3.wait()
    elif verb == "make-bucket":
        s3.make_bucket(*rest)
    elif verb == "list":
        for key, size, etag in s3.list(*rest):
            print(f"{size:>12}  {etag:<36}  {key}")
    elif verb == "get":
        sys.stdout.buffer.write(s3.get(*rest))
    elif verb == "put":
        with open(rest[2], "rb") as file:
            s3.put(rest[0], rest[1], file.read())
    elif verb == "head":
        for name, value in sorted((s3.head(*rest) or sys.exit("there is no such object")).items()):
            print(f"{name}: {value}")
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
