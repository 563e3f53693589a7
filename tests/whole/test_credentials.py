"""Who a mount is: roles of a profile, asked of the STS of MinIO, and what `skyvol whoami` says of it."""

import http.server
import json
import pathlib
import subprocess
import sys
import threading
import unittest
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

ROLE = "arn:aws:iam::123456789012:role/mounts"


class Identify(http.server.BaseHTTPRequestHandler):
    """STS as far as GetCallerIdentity; anything else is a 418."""

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        good = (self.path == "/" and form == {"Action": ["GetCallerIdentity"], "Version": ["2011-06-15"]}
                and f"Credential={harness.ACCESS_KEY}/" in self.headers["Authorization"]
                and "/us-east-1/sts/aws4_request" in self.headers["Authorization"])
        body = (b"<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::12:user/u</Arn><UserId>U</UserId>"
                b"<Account>12</Account></GetCallerIdentityResult></GetCallerIdentityResponse>") if good else b""
        self.send_response(200 if good else 418)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class TestRoles(harness.Workshop):
    def environment_of(self, profiles):
        """No keys but those of the files."""
        home = self.work / "home"
        (home / ".aws").mkdir(parents=True)
        config = home / ".aws/config"
        config.write_text(profiles)
        config.chmod(0o600)
        return harness.clean_environment(keys=False) | {"HOME": str(home), "AWS_ENDPOINT_URL_STS": self.minio.endpoint}

    def whoami(self, environment, *words):
        return subprocess.run([harness.SKYVOL, "whoami", *words], env=environment, capture_output=True, text=True, timeout=60)

    def test_a_role_of_a_profile_mounts_and_no_secret_is_in_the_log(self):
        environment = self.environment_of(
            f"[profile worker]\nrole_arn = {ROLE}\nsource_profile = base\nregion = us-east-1\n"
            f"[profile base]\naws_access_key_id = {harness.ACCESS_KEY}\naws_secret_access_key = {harness.SECRET_KEY}\n")
        mount = self.mount(environment=environment, profile="worker", log_level="trace")
        (mount.place / "f").write_bytes(b"by a role")
        self.assertEqual(self.s3.get(self.bucket, f"{self.prefix}/f"), b"by a role")
        self.assertEqual(mount.umount().returncode, 0)
        log = mount.log.read_text(errors="replace")
        self.assertNotIn(harness.SECRET_KEY, log)
        self.assertNotIn("eyJ", log, "the session token of MinIO is a JWT")

        done = self.whoami(environment, f"{self.bucket}:{self.prefix}", "-o", "profile=worker", "--json")
        self.assertEqual(done.returncode, 0, done.stderr)
        said = json.loads(done.stdout)
        self.assertEqual(said["source"], f"role {ROLE} by profile worker, asked for by profile base")
        self.assertTrue(said["session_token"])
        self.assertRegex(said["access_key"], r"^\.\.\..{4}$")
        self.assertEqual(len(said["tried_before"]), 1)
        self.assertIn("environment", said["tried_before"][0])

    def test_a_role_that_was_given_is_asked_for_with_the_keys_of_the_environment(self):
        environment = self.environment_of("[default]\n") | {
            "AWS_ACCESS_KEY_ID": harness.ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": harness.SECRET_KEY}
        mount = self.mount(environment=environment, role_arn=ROLE)
        (mount.place / "f").write_bytes(b"x")
        self.assertEqual(self.s3.get(self.bucket, f"{self.prefix}/f"), b"x")
        self.assertIn(f"role {ROLE}", self.whoami(environment, "-o", f"role_arn={ROLE}").stdout)

    def test_keys_that_have_ended_are_not_called_good(self):
        environment = self.environment_of("[default]\n") | {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_CREDENTIAL_EXPIRATION": "2001-01-01T00:00:00Z"}
        done = self.whoami(environment)
        self.assertIn("ended       2001-01-01T00:00:00Z", done.stdout)
        self.assertNotIn("good", done.stdout)
        environment["AWS_CREDENTIAL_EXPIRATION"] = "2200-01-01T00:00:00Z"
        self.assertIn("good until  2200-01-01T00:00:00Z", self.whoami(environment).stdout)

    def test_no_password_of_an_endpoint_is_told(self):
        environment = self.environment_of("[default]\n") | {
            "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_ENDPOINT_URL": "https://u:pa%40ss@host.example:9000/x?y=pass"}
        for words in ((), ("--json",)):
            done = self.whoami(environment, *words)
            self.assertIn("https://host.example:9000", done.stdout)
            self.assertNotIn("pa", done.stdout.split("https")[1].split("\n")[0])

    def test_sts_is_asked_only_when_that_is_wanted(self):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Identify)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        environment = harness.clean_environment() | {"HOME": str(self.work), "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:1"}
        done = self.whoami(environment)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("account", done.stdout)
        self.assertEqual(self.whoami(environment, "--verify").returncode, 1)
        environment["AWS_ENDPOINT_URL_STS"] = f"http://127.0.0.1:{server.server_port}"
        done = self.whoami(environment, "--verify")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("12, arn:aws:iam::12:user/u", done.stdout)
        self.assertNotIn(harness.SECRET_KEY, done.stdout + done.stderr)
        self.assertNotIn(harness.ACCESS_KEY, done.stdout)

    def test_words_that_are_wrong_are_said(self):
        environment = harness.clean_environment()
        for words, status, says in ((["a", "b"], 2, "no flag"), (["-x"], 2, "no flag"), (["B"], 1, "bucket"),
                                    (["-o", "sse_kms_key_id=k"], 1, "sse=aws:kms")):
            done = self.whoami(environment, *words)
            self.assertEqual(done.returncode, status, words)
            self.assertIn(says, done.stderr)


class TestPolicy(harness.Workshop):
    def test_the_class_of_new_objects_and_a_rewrite_that_keeps_its_own(self):
        self.s3.put(self.bucket, f"{self.prefix}/old", b"old", {"x-amz-storage-class": "STANDARD"})
        mount = self.mount(storage_class="REDUCED_REDUNDANCY", requester_pays=True)
        (mount.place / "new").write_bytes(b"new")
        with open(mount.place / "old", "ab") as file:
            file.write(b"er")
        found = {key: self.s3.head(self.bucket, f"{self.prefix}/{key}").get("x-amz-storage-class", "STANDARD")
                 for key in ("new", "old")}
        self.assertEqual(found, {"new": "REDUCED_REDUNDANCY", "old": "STANDARD"})
        self.assertEqual(self.s3.get(self.bucket, f"{self.prefix}/old"), b"older")


if __name__ == "__main__":
    unittest.main()
