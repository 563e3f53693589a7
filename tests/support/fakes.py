"""Strict fakes of the providers' APIs, over HTTP on loopback. Each keeps an inventory of what was made, checks path, method, headers, signature
and body of every request, answers with the documented shapes, and counts what it did not expect as a fault of the test.

    fake.fault = (3, "lost")        the third call from now on is carried out, and its reply never comes
                 (3, "cut")         it is not carried out, and its reply never comes
                 (3, "500")         it is not carried out, and answered 500
                 (3, "done-kill")   it is carried out, and fake.victim is killed before it hears of it
                 (3, "kill")        fake.victim is killed before it is carried out
                 (3, "429")         it is not carried out: 429 with Retry-After: 1
"""

import base64
import datetime
import hashlib
import hmac
import http.server
import json
import os
import re
import secrets
import signal
import socket
import sys
import threading
import urllib.parse
from email.utils import formatdate

XML = "application/xml"


class Unexpected(Exception):
    pass


class Request:
    def __init__(self, handler, body):
        self.method, self.target, self.body = handler.command, handler.path, body
        parts = urllib.parse.urlsplit(handler.path)
        self.path = parts.path
        self.raw_query = parts.query
        self.query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        self.headers = {name.lower(): value for name, value in handler.headers.items()}

    def form(self):
        if not self.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            raise Unexpected("a form without its content type")
        return {name: value for name, value in urllib.parse.parse_qsl(self.body.decode(), keep_blank_values=True, strict_parsing=True)}

    def one(self, name):
        values = self.query.get(name, [])
        if len(values) > 1:
            raise Unexpected(f"{name} is said twice")
        return values[0] if values else None


class Reply:
    def __init__(self, status, body=b"", kind="application/json", headers=()):
        self.status, self.kind, self.headers = status, kind, list(headers)
        self.body = json.dumps(body).encode() if isinstance(body, (dict, list)) else body.encode() if isinstance(body, str) else body


class Cut(Exception):
    pass


def sign(secret, date, region, service, text):
    key = ("AWS4" + secret).encode()
    for part in (date[:8], region, service, "aws4_request"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def check_signature(request, secret_of, service):
    """The access key that signed it; Unexpected when it is malformed, None when the key is not known or the signature is wrong."""
    found = re.fullmatch(r"AWS4-HMAC-SHA256 Credential=([^/]+)/(\d{8})/([^/]+)/([^/]+)/aws4_request, ?SignedHeaders=([^,]+), ?Signature=([0-9a-f]{64})",
                         request.headers.get("authorization", ""))
    if not found:
        raise Unexpected(f"no signature: {request.headers.get('authorization')!r}")
    access, day, region, said, names, signature = found.groups()
    date = request.headers["x-amz-date"]
    if said != service or not date.startswith(day):
        raise Unexpected(f"signed for {said}, not {service}")
    if request.headers["x-amz-content-sha256"] != hashlib.sha256(request.body).hexdigest():
        raise Unexpected("x-amz-content-sha256 is not the body's")
    quoted = lambda text: urllib.parse.quote(text, safe="-_.~")
    pairs = urllib.parse.parse_qsl(request.raw_query, keep_blank_values=True)
    query = "&".join(f"{quoted(name)}={quoted(value)}" for name, value in sorted(pairs))
    lines = "".join(f"{name}:{request.headers[name].strip()}\n" for name in names.split(";"))
    if "host" not in names.split(";"):
        raise Unexpected("host is not signed")
    canonical = "\n".join([request.method, request.path, query, lines, names, request.headers["x-amz-content-sha256"]])
    text = "\n".join(["AWS4-HMAC-SHA256", date, f"{day}/{region}/{service}/aws4_request", hashlib.sha256(canonical.encode()).hexdigest()])
    secret = secret_of(access)
    return access if secret and sign(secret, date, region, service, text) == signature else None


class Fake:
    host = "127.0.0.1"

    def __init__(self):
        self.lock = threading.Lock()
        self.calls, self.faults = [], []
        self.fault = None  # (calls from now on, what)
        self.victim = None
        self.hang, self.hang_path, self.released = None, "", threading.Event()  # requests of this method wait until it is set, and are then carried out
        self.seconds = 0  # its clock, ahead of ours
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                request = Request(self, body)
                if fake.hang == request.method and request.path.startswith(fake.hang_path):
                    fake.calls.append(f"{request.method} {request.target}")
                    fake.released.wait(60)
                try:
                    with fake.lock:
                        reply = fake.serve(request)
                except Cut:
                    self.close_connection = True
                    self.connection.shutdown(socket.SHUT_RDWR)
                    return
                self.send_response_only(reply.status)
                self.send_header("Date", formatdate(fake.now().timestamp(), usegmt=True))
                for name, value in reply.headers:
                    self.send_header(name, value)
                if reply.body:
                    self.send_header("Content-Type", reply.kind)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_HEAD = answer

        class Server(http.server.ThreadingHTTPServer):
            def handle_error(self, request, client_address):
                if not isinstance(sys.exc_info()[1], ConnectionError):  # who asked has gone
                    super().handle_error(request, client_address)

        self.server = Server((self.host, 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.url = f"http://{self.host}:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def now(self):
        return datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=self.seconds)

    def stamp(self):
        return self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def kill(self):
        os.kill(self.victim.pid, signal.SIGKILL)
        self.victim.wait()
        raise Cut

    def serve(self, request):
        self.calls.append(f"{request.method} {request.target}")
        what = None
        if self.fault:
            left, kind = self.fault
            self.fault = (left - 1, kind) if left > 1 else None
            what = kind if left == 1 else None
        if what == "kill":
            self.kill()
        if what == "cut":
            raise Cut
        if what == "500":
            return Reply(500, {"error": {"message": "backend error"}, "message": "backend error"})
        if what == "429":
            return Reply(429, {"message": "slow down"}, headers=[("Retry-After", "1")])
        try:
            reply = self.handle(request)
        except Unexpected as fault:
            self.faults.append(f"{request.method} {request.target}: {fault}")
            return Reply(599, {"message": str(fault)})
        if what == "done-kill":
            self.kill()
        if what == "lost":
            raise Cut
        return reply

    def handle(self, request):
        raise Unexpected("nobody expects it")


def expect(condition, words):
    if not condition:
        raise Unexpected(words)


def expect_query(request, *names):
    expect(set(request.query) <= set(names), f"query {request.raw_query!r}")


class RunPod(Fake):
    def __init__(self, volumes, key="rpa-secret-key"):
        self.volumes, self.key, self.answer = volumes, key, None
        super().__init__()

    def handle(self, request):
        expect(request.method == "GET" and request.target == "/v1/networkvolumes" and not request.body, "only the list is asked for")
        if request.headers.get("authorization") != f"Bearer {self.key}":
            return Reply(401, {"message": f"Unauthorized: {request.headers.get('authorization')}"})
        return self.answer or Reply(200, self.volumes)


class S3Part:
    """What a provider's S3 does with a bucket itself, for keys that the fake made."""

    def init_s3(self, buckets):
        self.buckets = {name: "ours" for name in buckets}
        self.refusals = 0  # so many requests do not know a key yet

    def s3_secret(self, access):
        raise NotImplementedError

    def handle_s3(self, request):
        bucket = request.path.strip("/")
        expect("/" not in bucket and bucket, "one bucket, and no object")
        access = check_signature(request, self.s3_secret, "s3")
        if not access or self.refusals:
            self.refusals = max(0, self.refusals - 1)
            return Reply(403, f"<Error><Code>InvalidAccessKeyId</Code><Message>{access}</Message></Error>", XML)
        if request.method == "PUT":
            expect(not request.raw_query and not request.body, "a bucket is made without a word more")
            if bucket in self.buckets:
                return Reply(409, "<Error><Code>BucketAlreadyOwnedByYou</Code></Error>", XML)
            self.buckets[bucket] = "made"
            return Reply(200)
        expect(request.method == "GET" and request.one("list-type") == "2", "it is listed")
        owner = self.buckets.get(bucket)
        if owner is None:
            return Reply(404, "<Error><Code>NoSuchBucket</Code><Message>The specified bucket does not exist</Message></Error>", XML)
        if owner == "theirs":
            return Reply(403, "<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>", XML)
        return Reply(200, f"<ListBucketResult><Name>{bucket}</Name><Prefix></Prefix><KeyCount>0</KeyCount><MaxKeys>1</MaxKeys>"
                          "<EncodingType>url</EncodingType><IsTruncated>false</IsTruncated></ListBucketResult>", XML)


class Hyperstack(S3Part, Fake):
    page_size = 2  # small, so that there are pages

    def __init__(self, buckets=(), key="hyper-secret-key"):
        self.key, self.keys, self.next_id = key, {}, 100
        self.init_s3(buckets)
        self.foreign = [self.make("foreign") for _ in range(3)]
        self.seconds_of_foreign = 0
        super().__init__()
        for key_id in self.foreign:
            self.keys[key_id]["created_at"] = "2026-01-01T04:56:07.000+00:00"

    def make(self, _why=""):
        self.next_id += 1
        when = "" if not hasattr(self, "seconds") else self.now().isoformat(timespec="milliseconds")
        self.keys[self.next_id] = {"id": self.next_id, "access_key": f"AK{self.next_id}", "secret_key": secrets.token_hex(20), "region": "CANADA-1",
                                   "user_id": 6, "created_at": when}
        return self.next_id

    def left(self):
        return sorted(set(self.keys) - set(self.foreign))

    def s3_secret(self, access):
        return next((key["secret_key"] for key in self.keys.values() if key["access_key"] == access), None)

    def handle(self, request):
        if "api_key" not in request.headers:
            return self.handle_s3(request)
        if request.headers["api_key"] != self.key:
            return Reply(401, {"status": False, "error_reason": "unauthorized", "message": "Invalid API key"})
        expect("authorization" not in request.headers, "the key has one header")
        if request.path == "/v1/object-storage/access-keys":
            return self.handle_keys(request)
        found = re.fullmatch(r"/v1/object-storage/access-keys/(\d+)", request.path)
        expect(found and request.method == "DELETE" and not request.body and not request.raw_query, "not in the documentation")
        if self.keys.pop(int(found[1]), None) is None:
            return Reply(404, {"status": False, "error_reason": "not_found", "message": "Access key not found"})
        return Reply(200, {"message": "Access key deleted"})

    def handle_keys(self, request):
        if request.method == "POST":
            expect(request.headers.get("content-type") == "application/json", "JSON has its content type")
            expect(json.loads(request.body) == {"region": "CANADA-1"}, f"body {request.body!r}")
            return Reply(201, self.keys[self.make()])
        expect(request.method == "GET" and not request.body, "a list is a GET")
        expect_query(request, "page", "page_size", "search")
        page = int(request.one("page") or 1)
        rows = [{name: key[name] for name in key if name != "secret_key"} for _, key in sorted(self.keys.items())]
        pages = max(1, -(-len(rows) // self.page_size))
        rows = rows[(page - 1) * self.page_size:page * self.page_size]
        return Reply(201, {"access_keys": rows, "meta": {"count": len(self.keys), "current_page": page, "total_pages": pages}})


class Google(S3Part, Fake):
    page_size = 2

    def __init__(self, buckets=(), project="my-project", email="train@my-project.iam.gserviceaccount.com"):
        self.project, self.email = project, email
        self.tokens, self.keys, self.limit = {"metadata": "ya29.metadata"}, {}, 10
        self.public_check = None  # of a JWT
        self.refresh = {"client_id": "id", "client_secret": "client-secret", "refresh_token": "refresh-secret"}
        self.init_s3(buckets)
        self.foreign = []
        super().__init__()
        self.foreign = [self.make("2026-01-01T00:00:00.000Z") for _ in range(3)]

    def make(self, when=None):
        access = "GOOG1E" + secrets.token_hex(28)[:55].upper()
        self.keys[access] = {"state": "ACTIVE", "secret": base64.b64encode(secrets.token_bytes(30)).decode(), "timeCreated": when or self.stamp()}
        return access

    def left(self):
        return sorted(access for access, key in self.keys.items() if key["state"] != "DELETED" and access not in self.foreign)

    def s3_secret(self, access):
        key = self.keys.get(access)
        return key["secret"] if key and key["state"] == "ACTIVE" else None

    def metadata_of(self, access):
        key = self.keys[access]
        return {"kind": "storage#hmacKeyMetadata", "accessId": access, "id": f"{self.project}/{access}", "project": self.project,
                "state": key["state"], "serviceAccountEmail": self.email, "timeCreated": key["timeCreated"], "updated": key["timeCreated"], "etag": "e"}

    def handle(self, request):
        if request.path == "/token":
            return self.handle_token(request)
        if request.path.startswith("/computeMetadata/"):
            return self.handle_metadata(request)
        if not request.path.startswith("/storage/v1/"):
            return self.handle_s3(request)
        token = request.headers.get("authorization", "")
        if token.removeprefix("Bearer ") not in self.tokens.values():
            return Reply(401, {"error": {"code": 401, "message": "Invalid Credentials", "errors": [{"reason": "authError"}]}})
        base = f"/storage/v1/projects/{self.project}/hmacKeys"
        if request.path == base:
            return self.handle_keys(request)
        expect(request.path.startswith(base + "/"), "not in the documentation")
        return self.handle_key(request, request.path[len(base) + 1:])

    def handle_keys(self, request):
        expect(request.one("serviceAccountEmail") == self.email, "whose keys")
        if request.method == "POST":
            expect_query(request, "serviceAccountEmail")
            expect(not request.body, "an empty body")
            if sum(key["state"] != "DELETED" for key in self.keys.values()) >= self.limit:
                return Reply(400, {"error": {"code": 400, "message": "Access keys limit reached."}})
            access = self.make()
            return Reply(200, {"kind": "storage#hmacKey", "secret": self.keys[access]["secret"], "metadata": self.metadata_of(access)})
        expect(request.method == "GET", "a list is a GET")
        expect_query(request, "serviceAccountEmail", "pageToken")
        names = sorted(access for access, key in self.keys.items() if key["state"] != "DELETED")
        start = int((request.one("pageToken") or "p+/0").removeprefix("p+/"))
        answer = {"kind": "storage#hmacKeysMetadata", "items": [self.metadata_of(name) for name in names[start:start + self.page_size]]}
        if start + self.page_size < len(names):
            answer["nextPageToken"] = f"p+/{start + self.page_size}"
        if not answer["items"]:
            del answer["items"]
        return Reply(200, answer)

    def handle_key(self, request, access):
        expect(not request.raw_query, "no query")
        key = self.keys.get(access)
        if key is None or key["state"] == "DELETED":
            return Reply(404, {"error": {"code": 404, "message": "Access ID not found in project"}})
        if request.method == "PUT":
            expect(request.headers.get("content-type") == "application/json" and json.loads(request.body) == {"state": "INACTIVE"}, "the new state")
            key["state"] = "INACTIVE"
            return Reply(200, self.metadata_of(access))
        expect(request.method == "DELETE" and not request.body, "PUT or DELETE")
        if key["state"] != "INACTIVE":
            return Reply(400, {"error": {"code": 400, "message": "Cannot delete keys in ACTIVE state."}})
        key["state"] = "DELETED"
        return Reply(204)

    def handle_token(self, request):
        expect(request.method == "POST" and "authorization" not in request.headers, "a form without a token")
        form = request.form()
        if form.get("grant_type") == "refresh_token":
            expect(set(form) == {"grant_type", *self.refresh}, f"fields {sorted(form)}")
            if any(form[name] != self.refresh[name] for name in self.refresh):
                return Reply(400, {"error": "invalid_grant", "error_description": f"bad {form['refresh_token']}"})
        else:
            expect(form.get("grant_type") == "urn:ietf:params:oauth:grant-type:jwt-bearer" and set(form) == {"grant_type", "assertion"}, "the grant")
            if not self.public_check(form["assertion"]):
                return Reply(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."})
        self.tokens["oauth"] = "ya29." + secrets.token_hex(8)
        return Reply(200, {"access_token": self.tokens["oauth"], "expires_in": 3599, "token_type": "Bearer"})

    def handle_metadata(self, request):
        expect(request.method == "GET" and request.headers.get("metadata-flavor") == "Google", "Metadata-Flavor: Google")
        flavor = [("Metadata-Flavor", "Google")]
        base = "/computeMetadata/v1/"
        texts = {"instance/service-accounts/default/email": self.email, "project/project-id": self.project}
        if request.path == base + "instance/service-accounts/default/token":
            return Reply(200, {"access_token": self.tokens["metadata"], "expires_in": 3599, "token_type": "Bearer"}, headers=flavor)
        expect(request.path.removeprefix(base) in texts, "not in the documentation")
        return Reply(200, texts[request.path.removeprefix(base)], "application/text", flavor)


class Aws(Fake):
    """IAM and STS by their Query API, and HEAD of buckets. `lag`: so many looks at what was just made say NoSuchEntity."""

    access, secret, account = "AKIAFAKEFAKEFAKEFAKE", "aws/secret+key", "123456789012"

    def __init__(self, buckets=None, lag=0):
        self.buckets = buckets if buckets is not None else {"my-data": "eu-west-1"}
        self.roles, self.profiles, self.lag, self.unseen, self.throttled = {}, {}, lag, {}, 0
        super().__init__()

    def left(self):
        return sorted(self.roles) + sorted(self.profiles)

    def error(self, status, code, words):
        return Reply(status, f'<ErrorResponse xmlns="https://iam.amazonaws.com/doc/2010-05-08/"><Error><Type>Sender</Type><Code>{code}</Code>'
                             f"<Message>{words}</Message></Error><RequestId>r-1</RequestId></ErrorResponse>", "text/xml")

    def result(self, action, body=""):
        inner = f"<{action}Result>{body}</{action}Result>" if body else ""
        return Reply(200, f'<{action}Response xmlns="https://iam.amazonaws.com/doc/2010-05-08/">{inner}<ResponseMetadata><RequestId>r</RequestId>'
                          f"</ResponseMetadata></{action}Response>", "text/xml")

    def handle(self, request):
        if request.method == "HEAD":
            return self.handle_head(request)
        if request.method == "GET":
            return self.handle_location(request)
        expect(request.method == "POST" and request.target == "/", "the Query API is POST /")
        form = request.form()
        service = "sts" if form.get("Version") == "2011-06-15" else "iam"
        if not check_signature(request, lambda access: self.secret if access == self.access else None, service):
            return self.error(403, "InvalidClientTokenId", "The security token included in the request is invalid")
        expect(form.pop("Version") in ("2010-05-08", "2011-06-15"), "the version")
        if self.throttled > 0:
            self.throttled -= 1
            return self.error(400, "Throttling", "Rate exceeded")
        handler = getattr(self, "do_" + form["Action"], None)
        expect(handler, f"action {form['Action']}")
        return handler(form.pop("Action"), form)

    def handle_head(self, request):
        expect("authorization" not in request.headers and not request.raw_query, "an unsigned HEAD")
        region = self.buckets.get(request.path.strip("/"))
        if not region:
            return Reply(404)
        told = [] if getattr(self, "silent", False) else [("x-amz-bucket-region", region)]
        return Reply(403 if region.startswith("eu") else 301 if region.startswith("us-west") else 200, headers=told)

    def handle_location(self, request):
        expect(getattr(self, "silent", False), "nobody asks for a location that HEAD tells")
        expect(request.raw_query == "location=", "GetBucketLocation")
        if not check_signature(request, lambda access: self.secret if access == self.access else None, "s3"):
            return self.error(403, "InvalidAccessKeyId", "no")
        region = {"us-east-1": "", "eu-west-1": "EU"}.get(self.buckets[request.path.strip("/")], self.buckets[request.path.strip("/")])
        return Reply(200, f'<?xml version="1.0" encoding="UTF-8"?>\n<LocationConstraint xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{region}'
                          "</LocationConstraint>", "application/xml")

    def hide(self, name):
        self.unseen[name] = self.lag

    def sees(self, store, name):
        if self.unseen.get(name, 0) > 0:
            self.unseen[name] -= 1
            return False
        return name in store

    def missing(self, name):
        return self.error(404, "NoSuchEntity", f"The {name} cannot be found.")

    def fields(self, form, *names):
        expect(set(form) == set(names), f"fields {sorted(form)}, not {sorted(names)}")
        return [form[name] for name in names]

    def do_GetCallerIdentity(self, action, form):
        self.fields(form)
        return self.result(action, f"<Arn>arn:aws:iam::{self.account}:user/u</Arn><UserId>U</UserId><Account>{self.account}</Account>")

    def do_CreateRole(self, action, form):
        name, trust, _, key, _ = self.fields(form, "RoleName", "AssumeRolePolicyDocument", "Description", "Tags.member.1.Key", "Tags.member.1.Value")
        expect(re.fullmatch(r"skyvol-[A-Za-z0-9-]{1,50}", name) and key == "skyvol-pool", f"name {name}")
        statement = json.loads(trust)["Statement"]
        expect(statement == [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}], trust)
        if name in self.roles:
            return self.error(409, "EntityAlreadyExists", f"Role with name {name} already exists.")
        self.roles[name] = {}
        self.hide(name)
        return self.result(action, f"<Role><RoleName>{name}</RoleName><Arn>arn:aws:iam::{self.account}:role/{name}</Arn></Role>")

    def do_GetRole(self, action, form):
        name, = self.fields(form, "RoleName")
        return self.result(action, f"<Role><RoleName>{name}</RoleName></Role>") if self.sees(self.roles, name) else self.missing(name)

    def do_PutRolePolicy(self, action, form):
        name, policy, document = self.fields(form, "RoleName", "PolicyName", "PolicyDocument")
        if not self.sees(self.roles, name):
            return self.missing(name)
        self.roles[name][policy] = json.loads(document)
        return self.result(action)

    def do_DeleteRolePolicy(self, action, form):
        name, policy = self.fields(form, "RoleName", "PolicyName")
        if not self.roles.get(name, {}).pop(policy, None):
            return self.missing(policy)
        return self.result(action)

    def do_DeleteRole(self, action, form):
        name, = self.fields(form, "RoleName")
        if name not in self.roles:
            return self.missing(name)
        if self.roles[name] or any(name in roles for roles in self.profiles.values()):
            return self.error(409, "DeleteConflict", "Cannot delete entity, must delete policies first.")
        del self.roles[name]
        return self.result(action)

    def do_CreateInstanceProfile(self, action, form):
        name, = self.fields(form, "InstanceProfileName")
        if name in self.profiles:
            return self.error(409, "EntityAlreadyExists", f"Instance Profile {name} already exists.")
        self.profiles[name] = []
        return self.result(action, f"<InstanceProfile><InstanceProfileName>{name}</InstanceProfileName></InstanceProfile>")

    def do_GetInstanceProfile(self, action, form):
        name, = self.fields(form, "InstanceProfileName")
        if not self.sees(self.profiles, name):
            return self.missing(name)
        roles = "".join(f"<member><RoleName>{role}</RoleName></member>" for role in self.profiles[name])
        return self.result(action, f"<InstanceProfile><InstanceProfileName>{name}</InstanceProfileName><Roles>{roles}</Roles></InstanceProfile>")

    def do_AddRoleToInstanceProfile(self, action, form):
        name, role = self.fields(form, "InstanceProfileName", "RoleName")
        if name not in self.profiles or role not in self.roles:
            return self.missing(name)
        if self.profiles[name]:
            return self.error(409, "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
        self.profiles[name].append(role)
        self.hide(name)
        return self.result(action)

    def do_RemoveRoleFromInstanceProfile(self, action, form):
        name, role = self.fields(form, "InstanceProfileName", "RoleName")
        if role not in self.profiles.get(name, []):
            return self.missing(name)
        self.profiles[name].remove(role)
        return self.result(action)

    def do_DeleteInstanceProfile(self, action, form):
        name, = self.fields(form, "InstanceProfileName")
        if name not in self.profiles:
            return self.missing(name)
        if self.profiles[name]:
            return self.error(409, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
        del self.profiles[name]
        return self.result(action)
