"""The fakes are strict: what is not in the documentation is a fault, and nothing is done for it."""

import json
import unittest
import urllib.error
import urllib.request

import fakes


class Strict(unittest.TestCase):
    def ask(self, fake, method, path, body=None, **headers):
        request = urllib.request.Request(fake.url + path, body, {name.replace("_", "-"): value for name, value in headers.items()}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def serve(self, fake):
        self.addCleanup(fake.close)
        return fake

    def test_an_unexpected_request_is_a_fault(self):
        for fake, method, path in [(fakes.RunPod([]), "GET", "/v1/pods"), (fakes.RunPod([]), "DELETE", "/v1/networkvolumes"),
                                   (fakes.Google(), "GET", "/storage/v1/b"), (fakes.Aws(), "GET", "/?Action=GetUser"), (fakes.Fake(), "GET", "/")]:
            self.serve(fake)
            status, _ = self.ask(fake, method, path, Authorization="Bearer ya29.metadata")
            self.assertIn(status, (401, 599))
            self.assertEqual(len(fake.faults), 1 if status == 599 else 0)
            self.assertTrue(status == 599 or isinstance(fake, fakes.Google))

    def test_keys_are_made_by_the_documented_request_only(self):
        fake = self.serve(fakes.Hyperstack())
        good = {"api_key": fake.key, "Content_Type": "application/json"}
        path = "/v1/object-storage/access-keys"
        request = urllib.request.Request(fake.url + path, b'{"region":"CANADA-1","description":"x"}', {"api_key": fake.key, "Content-Type": "application/json"})
        with self.assertRaises(urllib.error.HTTPError):
            urllib.request.urlopen(request, timeout=10)
        self.assertEqual((fake.left(), len(fake.faults)), ([], 1))
        request = urllib.request.Request(fake.url + path, b'{"region":"CANADA-1"}', {"api_key": fake.key, "Content-Type": good["Content_Type"]})
        with urllib.request.urlopen(request, timeout=10) as answer:
            made = json.load(answer)
        self.assertEqual(fake.left(), [made["id"]])

    def test_a_wrong_signature_is_refused(self):
        fake = self.serve(fakes.Aws())
        head = "AWS4-HMAC-SHA256 Credential=%s/20260101/us-east-1/iam/aws4_request, SignedHeaders=host;x-amz-date, Signature=%s" % (fake.access, "0" * 64)
        body = b"Action=GetCallerIdentity&Version=2010-05-08"
        import hashlib
        status, text = self.ask(fake, "POST", "/", body, Authorization=head, x_amz_date="20260101T000000Z",
                                x_amz_content_sha256=hashlib.sha256(body).hexdigest(), Content_Type="application/x-www-form-urlencoded")
        self.assertEqual((status, fake.faults), (403, []))
        self.assertIn(b"InvalidClientTokenId", text)

    def test_googles_keys_are_deleted_only_when_inactive(self):
        fake = self.serve(fakes.Google())
        access = fake.make()
        path = f"/storage/v1/projects/{fake.project}/hmacKeys/{access}"
        self.assertEqual(self.ask(fake, "DELETE", path, Authorization="Bearer ya29.metadata")[0], 400)
        self.assertEqual(fake.left(), [access])


if __name__ == "__main__":
    unittest.main()
