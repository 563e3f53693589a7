"""The objects and uploads of the strict little S3, and S3's rules over them. Keys are bytes. The caller holds the lock."""

import base64
import bisect
import hashlib
import itertools

from little_s3_rules import KEY_BYTES_MAX, Refusal

PART_NUMBER_MAX = 10000
COPY_BYTES_MAX = 5 << 30


class Object:
    def __init__(self, body, meta, headers, modified_s, etag=None):
        self.body, self.meta, self.headers, self.modified_s = body, meta, headers, modified_s
        self.tags, self.sums = {}, {}  # sums: of the whole, as headers
        self.etag = etag or f'"{hashlib.md5(body).hexdigest()}"'
        self.listed = {}  # with metadata or without -> what a listing says of it


class Upload:
    def __init__(self, key, upload_id, meta, headers, initiated_s):
        self.key, self.id, self.meta, self.headers, self.initiated_s = key, upload_id, meta, headers, initiated_s
        self.tags = {}
        self.parts = {}  # number -> Object


def no_such_key():
    return Refusal(404, "NoSuchKey", "The specified key does not exist.")


def precondition_failed(condition):
    return Refusal(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold",
                   None, {"Condition": condition})


class Bucket:
    def __init__(self, part_bytes_min, clock):
        self.part_bytes_min, self.clock = part_bytes_min, clock
        self.objects, self.keys = {}, []  # keys: sorted
        self.uploads = {}
        self.upload_numbers = itertools.count(1)

    # ---- Objects. ----

    def get(self, key):
        if key not in self.objects:
            raise no_such_key()
        return self.objects[key]

    def set(self, key, obj):
        if not key or len(key) > KEY_BYTES_MAX:
            raise Refusal(400, "KeyTooLongError", "Your key is too long")
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.objects[key] = obj
        return obj

    def put(self, key, body, meta, headers, etag=None, modified_s=None):
        return self.set(key, Object(body, meta, headers, self.clock() if modified_s is None else modified_s, etag))

    def fill(self, keys, body, meta):
        """Many keys of one object, at once."""
        obj = Object(body, meta, {}, self.clock())
        self.objects |= dict.fromkeys(keys, obj)
        self.keys = sorted(self.objects)
        return obj

    def delete(self, key):
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]

    def check_read(self, obj, if_match, if_none_match, prefix=""):
        if if_match is not None and if_match not in ("*", obj.etag):
            raise precondition_failed(prefix + "If-Match")
        if if_none_match is not None and if_none_match in ("*", obj.etag):
            if prefix:
                raise precondition_failed(prefix + "If-None-Match")
            raise Refusal(304, "NotModified", "Not Modified", {"ETag": obj.etag})

    def check_write(self, key, if_match, if_none_match):
        """A key that is gone is 404, not 412."""
        if if_none_match is not None:
            if if_none_match != "*":
                raise Refusal(501, "NotImplemented", "If-None-Match of a write takes * only")
            if key in self.objects:
                raise precondition_failed("If-None-Match")
        if if_match is not None:
            if self.get(key).etag != if_match and if_match != "*":
                raise precondition_failed("If-Match")

    # ---- Listings. ----

    def list(self, prefix, delimiter, after, after_folder, most):
        """[(key or common prefix, Object or None)], and the token's matter when there is more."""
        found, folder_done = [], after if after_folder else None
        place = bisect.bisect_left(self.keys, max(prefix, after))
        while place < len(self.keys) and self.keys[place].startswith(prefix):
            key = self.keys[place]
            place += 1
            cut = key.find(delimiter, len(prefix)) if delimiter else -1
            name = key if cut < 0 else key[:cut + len(delimiter)]
            # A common prefix at or before start-after is dropped, whatever lies below it.
            if name <= after or (folder_done is not None and key.startswith(folder_done)):
                continue
            if len(found) == most:
                last, obj = found[-1]
                return found, (last, obj is None)
            found.append((name, self.objects[key] if cut < 0 else None))
            if cut >= 0:
                folder_done = name
        return found, None

    # ---- Uploads. ----

    def create(self, key, meta, headers):
        if not key or len(key) > KEY_BYTES_MAX:
            raise Refusal(400, "KeyTooLongError", "Your key is too long")
        number = next(self.upload_numbers)
        # The id holds what must be escaped in a URL.
        upload_id = f"up+{base64.b64encode(b'?>' + str(number).encode()).decode()}/{number}=="
        self.uploads[upload_id] = Upload(key, upload_id, meta, headers, self.clock())
        return upload_id

    def upload(self, key, upload_id):
        upload = self.uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise Refusal(404, "NoSuchUpload", "The specified upload does not exist.")
        return upload

    def part(self, upload, number, body):
        if not 1 <= number <= PART_NUMBER_MAX:
            raise Refusal(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
        upload.parts[number] = Object(body, {}, {}, self.clock())
        return upload.parts[number]

    def complete(self, upload, wanted, equal_parts=False):
        """wanted: [(number, etag)]."""
        if not wanted:
            raise Refusal(400, "MalformedXML", "The XML you provided was not well-formed")
        numbers = [number for number, _ in wanted]
        if numbers != sorted(set(numbers)):
            raise Refusal(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        parts = []
        for number, etag in wanted:
            part = upload.parts.get(number)
            if part is None or part.etag.strip('"') != etag.strip('"'):
                raise Refusal(400, "InvalidPart", "One or more of the specified parts could not be found.", None,
                              {"PartNumber": str(number)})
            parts.append(part)
        if any(len(part.body) < self.part_bytes_min for part in parts[:-1]):
            raise Refusal(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        if equal_parts and len({len(part.body) for part in parts[:-1]}) > 1:
            raise Refusal(400, "InvalidPart", "All non-trailing parts must have the same length.")
        digest = hashlib.md5(b"".join(bytes.fromhex(part.etag.strip('"')) for part in parts)).hexdigest()
        # LastModified is the time of Create, as on AWS.
        obj = self.put(upload.key, b"".join(part.body for part in parts), upload.meta, upload.headers,
                       f'"{digest}-{len(parts)}"', upload.initiated_s)
        obj.tags = upload.tags
        del self.uploads[upload.id]
        return obj
