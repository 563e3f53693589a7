"""What the strict little S3 demands of a request: signature, headers, checksums. No state, no sockets."""

import base64
import functools
import hashlib
import hmac
import re
import urllib.parse

SKEW_MAX_S = 15 * 60
META_BYTES_MAX = 2048
KEY_BYTES_MAX = 1024
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()


class Refusal(Exception):
    """An error answer of S3."""

    def __init__(self, status, code, message, headers=None, extra=None):
        super().__init__(f"{status} {code}: {message}")
        self.status, self.code, self.message = status, code, message
        self.headers = headers or {}
        self.extra = extra or {}  # further elements of the document


# ---- CRCs. ----
#
# Pure Python, yet about 100 MB/s: the message is one big integer, and its first half is folded onto the second one by
# A(x) * x^n = A(x) * (x^n mod P), a product with a constant of 32 or 64 bits: a few shifts of big integers. Only
# the last bytes go through a table. Both CRCs are reflected: bit 0 is the highest power.


class Crc:
    def __init__(self, width, reflected_polynomial):
        self.width, self.ones = width, (1 << width) - 1
        self.polynomial = int(f"{reflected_polynomial:0{width}b}"[::-1], 2)  # plain order, without the top bit
        self.table = []
        for byte in range(256):
            for _ in range(8):
                byte = byte >> 1 ^ (reflected_polynomial if byte & 1 else 0)
            self.table.append(byte)
        self.power = functools.lru_cache(None)(self._power)

    def _times(self, a, b):
        product = 0
        for i in range(self.width - 1, -1, -1):
            product <<= 1
            if product >> self.width:
                product ^= 1 << self.width | self.polynomial
            if b >> i & 1:
                product ^= a
        return product

    def _power(self, exponent):
        """x^exponent mod P."""
        result, base = 1, 2
        while exponent:
            if exponent & 1:
                result = self._times(result, base)
            base = self._times(base, base)
            exponent >>= 1
        return result

    def of(self, data):
        length = len(data)
        if length * 8 < self.width:
            return self._by_table(data, self.ones) ^ self.ones
        number = int.from_bytes(data, "little") ^ self.ones
        bits = length * 8
        while bits > 4096:
            first = (bits - self.width) // 16 * 8
            rest = bits - first
            head = number & ((1 << first) - 1)
            number >>= first
            constant = self.power(rest)
            folded = 0
            for j in range(self.width):
                if constant >> j & 1:
                    folded ^= head << (self.width - 1 - j)
            number ^= folded << (rest - first - self.width + 1)
            bits = rest
        return self._by_table(number.to_bytes(bits // 8, "little"), 0) ^ self.ones

    def _by_table(self, data, crc):
        for byte in data:
            crc = crc >> 8 ^ self.table[(crc ^ byte) & 0xFF]
        return crc

    def digest(self, data):
        return self.of(data).to_bytes(self.width // 8, "big")


CRC32C = Crc(32, 0x82F63B78)
CRC64NVME = Crc(64, 0x9A6C9329AC4BC9B5)
CRC32 = Crc(32, 0xEDB88320)

CHECKSUMS = {
    "x-amz-checksum-crc32c": CRC32C.digest,
    "x-amz-checksum-crc64nvme": CRC64NVME.digest,
    "x-amz-checksum-crc32": CRC32.digest,
    "x-amz-checksum-sha256": lambda data: hashlib.sha256(data).digest(),
    "x-amz-checksum-sha1": lambda data: hashlib.sha1(data).digest(),
}


def check_body(request, checksums_allowed):
    """Every digest that came with the body must be its own. Returns the names of those that were checked."""
    checked = []
    given = request.headers.get("content-md5")
    if given is not None:
        if len(decode_digest("content-md5", given, "InvalidDigest")) != 16:
            raise Refusal(400, "InvalidDigest", "The Content-MD5 you specified was invalid.")
        if base64.b64encode(hashlib.md5(request.body).digest()).decode() != given:
            raise Refusal(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
        checked.append("content-md5")
    for name, digest in CHECKSUMS.items():
        given = request.headers.get(name)
        if given is None:
            continue
        if not checksums_allowed:
            raise Refusal(400, "InvalidArgument", f"Unsupported header '{name}' received for this API call.")
        if base64.b64encode(digest(request.body)).decode() != given:
            decode_digest(name, given, "InvalidRequest")
            raise Refusal(400, "BadDigest", f"The {name[15:].upper()} you specified did not match.")
        checked.append(name)
    sha256 = request.headers.get("x-amz-content-sha256")
    if sha256 and sha256 != "UNSIGNED-PAYLOAD":
        if hashlib.sha256(request.body).hexdigest() != sha256:
            raise Refusal(400, "XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match.")
        checked.append("x-amz-content-sha256")
    return checked


def decode_digest(name, text, code):
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise Refusal(400, code, f"Value for {name} header is invalid.") from None


# ---- Encoding. ----


def encode(data, safe=""):
    """Percent-encodes as SigV4 wants."""
    return urllib.parse.quote(data, safe="-._~" + safe)


def decode(text):
    """Percent-decodes to bytes; a plus is a plus."""
    return urllib.parse.unquote_to_bytes(text)


def parse_query(raw):
    """[(name, value)] as text with surrogates for bytes that are not UTF-8."""
    pairs = []
    for piece in raw.split("&") if raw else []:
        name, _, value = piece.partition("=")
        pairs.append((decode(name).decode("utf-8", "surrogateescape"), decode(value).decode("utf-8", "surrogateescape")))
    return pairs


def canonical_query(raw):
    pairs = [piece.partition("=") for piece in raw.split("&") if piece] if raw else []
    return "&".join(f"{name}={value}" for name, value in
                    sorted((encode(decode(name)), encode(decode(value))) for name, _, value in pairs))


# ---- Signature Version 4. ----

AUTHORIZATION = re.compile(r"AWS4-HMAC-SHA256 Credential=([^/,\s]+)/(\d{8})/([^/,\s]+)/([^/,\s]+)/aws4_request,\s*"
                           r"SignedHeaders=([a-z0-9;.\-_]+),\s*Signature=([0-9a-f]{64})$")


def sign(secret, date, region, text):
    key = ("AWS4" + secret).encode()
    for piece in (date, region, "s3", "aws4_request"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def canonical_request(request, signed):
    headers = "".join(f"{name}:{' '.join(request.headers[name].split())}\n" for name in signed)
    return "\n".join([request.method, request.raw_path or "/", canonical_query(request.raw_query), headers,
                      ";".join(signed), request.headers["x-amz-content-sha256"]])


def wrong_region(region, redirect):
    headers = {"x-amz-bucket-region": region}
    if redirect:
        return Refusal(301, "PermanentRedirect", "The bucket must be addressed using the specified endpoint.", headers,
                       {"Endpoint": f"s3.{region}.invalid"})
    return Refusal(400, "AuthorizationHeaderMalformed",
                   f"The authorization header is malformed; the region is wrong; expecting '{region}'", headers,
                   {"Region": region})


def check_signature(request, keys, region, redirect, now_s):
    """`keys`: {"access_key", "secret_key", "session_token"}. Raises the Refusal that S3 would answer."""
    headers = request.headers
    given = headers.get("authorization")
    if given is None:
        raise Refusal(403, "AccessDenied", "Access Denied", {"x-amz-bucket-region": region})
    match = AUTHORIZATION.match(given)
    if not match:
        raise Refusal(400, "AuthorizationHeaderMalformed", "The authorization header is malformed.")
    access_key, date, scope_region, service, signed, signature = match.groups()
    if service != "s3":
        raise Refusal(400, "AuthorizationHeaderMalformed", "The service must be s3.")
    check_keys(headers, access_key, keys)
    if scope_region != region:
        raise wrong_region(region, redirect)
    check_date(headers.get("x-amz-date", ""), date, now_s)
    payload = headers.get("x-amz-content-sha256")
    if payload is None:
        raise Refusal(400, "InvalidRequest", "Missing required header for this request: x-amz-content-sha256")
    if payload != "UNSIGNED-PAYLOAD" and not re.fullmatch("[0-9a-f]{64}", payload):
        raise Refusal(501, "NotImplemented", f"x-amz-content-sha256 {payload} is not implemented")
    signed = signed.split(";")
    check_signed_headers(headers, signed)
    canonical = canonical_request(request, signed)
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], f"{date}/{region}/s3/aws4_request",
                      hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()])
    if not hmac.compare_digest(sign(keys["secret_key"], date, region, text), signature):
        raise Refusal(403, "SignatureDoesNotMatch",
                      "The request signature we calculated does not match the signature you provided.", None,
                      {"CanonicalRequest": canonical})


def check_keys(headers, access_key, keys):
    if access_key != keys["access_key"]:
        raise Refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    if keys.get("expired"):
        raise Refusal(400, "ExpiredToken", "The provided token has expired.")
    token = headers.get("x-amz-security-token")
    if keys.get("session_token") and token is None:
        raise Refusal(403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records.")
    if token != keys.get("session_token"):
        raise Refusal(400, "InvalidToken", "The provided token is malformed or otherwise invalid.")


def check_date(amz_date, scope_date, now_s):
    import calendar
    import time
    try:
        sent_s = calendar.timegm(time.strptime(amz_date, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise Refusal(403, "AccessDenied", "AWS authentication requires a valid Date or x-amz-date header") from None
    if amz_date[:8] != scope_date:
        raise Refusal(400, "AuthorizationHeaderMalformed", "The date of the scope is not that of the request.")
    if abs(sent_s - now_s) > SKEW_MAX_S:
        raise Refusal(403, "RequestTimeTooSkewed",
                      "The difference between the request time and the current time is too large.")


def check_signed_headers(headers, signed):
    if signed != sorted(set(signed)):
        raise Refusal(400, "AuthorizationHeaderMalformed", "SignedHeaders must be sorted.")
    for name in signed:
        if name not in headers:
            raise Refusal(403, "SignatureDoesNotMatch", f"The signed header {name} did not come.")
    for name in headers:
        if (name.startswith("x-amz-") or name == "host") and name not in signed:
            raise Refusal(403, "AccessDenied", f"There were headers present in the request which were not signed: {name}")


# ---- Headers. ----

PLAIN_HEADERS = {
    "host", "date", "user-agent", "accept", "accept-encoding", "connection", "expect", "content-length",
    "content-md5", "authorization", "range", "if-match", "if-none-match", "content-type", "cache-control",
    "content-disposition", "content-encoding", "content-language", "expires",
}
AMZ_HEADERS = {
    "x-amz-date", "x-amz-content-sha256", "x-amz-security-token", "x-amz-copy-source", "x-amz-copy-source-range",
    "x-amz-copy-source-if-match", "x-amz-copy-source-if-none-match", "x-amz-metadata-directive",
    "x-amz-storage-class", "x-amz-checksum-algorithm", "x-amz-checksum-type", "x-amz-checksum-mode",
    "x-amz-mp-object-size", "x-amz-tagging", "x-amz-tagging-directive", "x-amz-server-side-encryption",
} | set(CHECKSUMS)
KEPT_HEADERS = ("content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires",
                "x-amz-storage-class", "x-amz-server-side-encryption")


def find_oddities(request):
    """What a good client does not do, although S3 may let it pass."""
    odd = []
    for name, value in request.headers.items():
        if name.startswith("x-amz-meta-"):
            if not re.fullmatch(r"x-amz-meta-[a-z0-9!#$%&'*+.^_`|~-]+", name):
                odd.append(f"metadata name {name!r}")
        elif name not in PLAIN_HEADERS and name not in AMZ_HEADERS:
            odd.append(f"unknown header {name}")
        if not value.isascii() or any(ord(c) < 32 or ord(c) == 127 for c in value):
            odd.append(f"header {name} holds bytes that are not printable ASCII")
    if request.headers.get("accept-encoding", "identity") != "identity":
        odd.append("accept-encoding asks for encoded bodies")
    if request.headers.get("content-type") == "application/x-www-form-urlencoded":
        odd.append("content-type is that of a form")
    for name in ("if-match", "if-none-match", "x-amz-copy-source-if-match"):
        value = request.headers.get(name, "*")
        if value != "*" and not re.fullmatch(r'"[^"]+"', value):
            odd.append(f"{name} without quotes: {value}")
    if request.raw_path != encode(decode(request.raw_path), "/"):
        odd.append(f"path is not encoded as it is signed: {request.raw_path}")
    pairs = [piece.partition("=") for piece in request.raw_query.split("&") if piece]
    for name, _, value in pairs:
        if name != encode(decode(name)) or value != encode(decode(value)):
            odd.append(f"query is not encoded as it is signed: {name}={value}")
    if request.method in ("GET", "HEAD", "DELETE") and request.body:
        odd.append(f"{request.method} with a body")
    return odd


def user_meta(headers):
    meta = {name[11:]: value for name, value in headers.items() if name.startswith("x-amz-meta-")}
    if sum(len(name) + len(value) for name, value in meta.items()) > META_BYTES_MAX:
        raise Refusal(400, "MetadataTooLarge", "Your metadata headers exceed the maximum allowed metadata size")
    return meta


TAGS_MAX = 10
TAG_CHARACTERS = re.compile(r"[\w +\-=.:/@]*")


def check_tags(pairs):
    """{name: value} of [(name, value)]."""
    tags = dict(pairs)
    if len(pairs) > TAGS_MAX:
        raise Refusal(400, "BadRequest", "Object tags cannot be greater than 10")
    if len(tags) < len(pairs):
        raise Refusal(400, "InvalidTag", "Cannot provide multiple Tags with the same key")
    for name, value in pairs:
        if not 1 <= len(name) <= 128 or not TAG_CHARACTERS.fullmatch(name):
            raise Refusal(400, "InvalidTag", "The TagKey you have provided is invalid")
        if len(value) > 256 or not TAG_CHARACTERS.fullmatch(value):
            raise Refusal(400, "InvalidTag", "The TagValue you have provided is invalid")
    return tags


def header_tags(headers):
    """Those of x-amz-tagging: a query in which a plus is a space, as Java and Go read it; so a good client writes %20."""
    text = headers.get("x-amz-tagging", "")
    try:
        pairs = urllib.parse.parse_qsl(text, keep_blank_values=True, strict_parsing=True, errors="strict") if text else []
    except ValueError:
        raise Refusal(400, "InvalidArgument", "The header 'x-amz-tagging' shall be encoded as UTF-8 then URLEncoded URL "
                                              "query parameters without tag name duplicates.") from None
    return check_tags(pairs)


def kept_headers(headers):
    return {name: headers[name] for name in KEPT_HEADERS if name in headers}
