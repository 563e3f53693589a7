"""skyvol prepare and teardown against strict fakes of each provider: what is made, remembered, found again and deleted; every call failing once."""

import base64
import fcntl
import json
import os
import pathlib
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import unittest
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import fakes  # noqa: E402
import harness  # noqa: E402

DISASTERS = ("kill", "done-kill", "lost", "cut", "500")


class Desk(unittest.TestCase):
    """One directory as home, one configuration, one fake."""

    def setUp(self):
        self.work = pathlib.Path(tempfile.mkdtemp(prefix="skyvol-test."))
        self.addCleanup(shutil.rmtree, self.work, ignore_errors=True)
        self.state = self.work / "state"
        self.environment = harness.clean_environment(keys=False) | {"HOME": str(self.work)}
        for name in ("GOOGLE_APPLICATION_CREDENTIALS", "RUNPOD_API_KEY", "HYPERSTACK_API_KEY", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CONFIG"):
            self.environment.pop(name, None)
        self.text = ""

    def serve(self, fake):
        self.addCleanup(fake.close)
        self.fake = fake
        return fake

    def start(self, command, *words):
        (self.work / "skyward.toml").write_text(self.text)
        return subprocess.Popen([harness.SKYVOL, command, "-c", str(self.work / "skyward.toml"), "--state", str(self.state), *words],
                                env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run_command(self, command, *words):
        process = self.start(command, *words)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def good(self, command, *words):
        done = self.run_command(command, *words)
        self.assertEqual(done.returncode, 0, done.stderr + done.stdout)
        self.assertEqual(self.fake.faults, [])
        return done

    def bad(self, command, *wanted):
        done = self.run_command(command)
        self.assertEqual(done.returncode, 1, done.stdout)
        for word in wanted:
            self.assertIn(word, done.stderr)
        self.assertEqual(self.fake.faults, [])
        return done

    def remembered(self):
        return json.loads(self.state.read_text())["things"]

    def pool(self, provider, volumes, more=""):
        lines = [f'[pool]\nprovider = "{provider}"\n']
        for bucket, mount, writes in volumes:
            lines.append(f'[[pool.volumes]]\nbucket = "{bucket}"\nmount = "{mount}"\nread_only = {"false" if writes else "true"}\n')
        self.text = "\n".join(lines) + more

    def plan(self):
        """The plan as JSON; it says the same when it is asked again, and its script holds no secret."""
        (self.work / "skyward.toml").write_text(self.text)
        told = []
        for _ in range(2):
            done = subprocess.run([harness.SKYVOL, "plan", "-c", str(self.work / "skyward.toml"), "--state", str(self.state)],
                                  env=self.environment, capture_output=True, text=True, timeout=60)
            self.assertEqual(done.returncode, 0, done.stderr)
            told.append(done.stdout)
        self.assertEqual(told[0], told[1])
        plan = json.loads(told[0])
        for secret in plan["secrets"]:
            for line in secret["content"].splitlines():
                if "secret" in line:
                    self.assertNotIn(line.partition("=")[2].strip(), plan["bootstrap"])
        return plan

    def no_secret(self, done, *secrets):
        for secret in secrets:
            self.assertNotIn(secret, done.stdout + done.stderr)

    # ---- The fault ladder: for prepare and for teardown, every call of a run fails once, in every way.

    def ladder(self, make_fake, point):
        """make_fake() and point(fake) give a fresh world each time; after any disaster teardown leaves nothing."""
        for command in ("prepare", "teardown"):
            for kind in DISASTERS:
                number, reached = 0, True
                while reached:
                    number += 1
                    reached = False  # also when it fails: one failure of a kind is enough
                    with self.subTest(command=command, kind=kind, call=number):
                        reached = self.rung(make_fake, point, command, kind, number)
                self.assertGreater(number, 1, f"{command} makes calls")

    def rung(self, make_fake, point, command, kind, number):
        fake = self.fake = make_fake()
        try:
            point(fake)
            self.assertFalse(self.state.exists())
            if command == "teardown":
                self.good("prepare")
                self.assertTrue(fake.left())
            fake.fault = (number, kind)
            victim = self.start(command)
            fake.victim = victim
            victim.communicate(timeout=120)
            reached = fake.fault is None
            fake.fault = None
            fake.seconds += 30  # a list that lags has caught up
            if fake.left():
                self.assertTrue(self.state.exists(), "it is there, and nobody remembers it")
            if self.state.exists():
                self.assertEqual(stat.S_IMODE(self.state.stat().st_mode), 0o600)
            again = self.run_command("teardown")
            self.assertEqual(again.returncode, 0, again.stderr)
            self.assertEqual(fake.left(), [])
            self.assertEqual(fake.faults, [])
            self.assertFalse(self.state.exists())
            self.good("teardown")
            return reached
        finally:
            fake.close()
            self.state.unlink(missing_ok=True)


class FailFast(Desk):
    def test_who_mounts_no_volumes_says_so_and_names_the_buckets(self):
        self.fake = fakes.Fake()
        self.addCleanup(self.fake.close)
        for provider in ("vastai", "verda", "container", "nobody"):
            self.pool(provider, [("my-data", "/data", False), ("my-out", "/out", True)])
            self.bad("prepare", provider, "my-data", "my-out", "storage", "aws, gcp, hyperstack, runpod")
            self.assertFalse(self.state.exists())

    def test_keys_that_end_with_each_use_serve_no_mount(self):
        self.serve(fakes.Hyperstack(["my-data"]))
        self.environment |= {"HYPERSTACK_API_KEY": self.fake.key, "HYPERSTACK_API_URL": self.fake.url + "/v1"}
        self.pool("hyperstack", [("my-data", "/data", False)], '[[pool.volumes]]\nbucket = "my-other"\nmount = "/other"\n'
                  'storage = { preset = "hyperstack" }\n')
        for command in ("prepare", "plan", "check", "up"):
            self.bad(command, "skyward.toml:8", "my-other", "skyvol prepare", "access_key")
        self.assertEqual(self.fake.calls, [])

    def test_with_a_storage_each_anyone_may_run_the_machines(self):
        self.fake = fakes.Fake()
        self.addCleanup(self.fake.close)
        self.text = '[pool]\nprovider = "vastai"\n[[pool.volumes]]\nbucket = "my-data"\nmount = "/data"\n' \
                    'storage = { endpoint = "http://127.0.0.1:1", access_key = "a", secret_key = "b" }\n'
        self.assertIn("Nothing to do", self.good("prepare").stdout)
        self.good("teardown")


class RunPod(Desk):
    volumes = [{"id": "agv6w2qcg7", "name": "my-data", "size": 50, "dataCenterId": "EU-RO-1"},
               {"id": "my-data-2", "name": "other", "size": 50, "dataCenterId": "US-KS-2"}]

    def setUp(self):
        super().setUp()
        self.point(self.serve(fakes.RunPod(self.volumes)))

    def point(self, fake):
        self.environment |= {"RUNPOD_API_KEY": fake.key, "RUNPOD_REST_URL": fake.url + "/v1"}
        self.pool("runpod", [("my-data", "/data", False)])

    def test_nothing_is_made_and_the_volume_is_found(self):
        done = self.good("prepare")
        self.assertIn("agv6w2qcg7", done.stdout)
        self.assertFalse(self.state.exists())
        self.assertEqual(self.fake.calls, ["GET /v1/networkvolumes"])
        self.good("teardown")
        self.assertEqual(len(self.fake.calls), 1)

    def test_the_plan_pins_the_pod_to_its_volume(self):
        plan = self.plan()
        self.assertEqual(plan["deploy_hints"], {"networkVolumeId": "agv6w2qcg7", "volumeMountPath": "/workspace", "cloudType": "SECURE",
                                                "dataCenterId": "EU-RO-1", "dataCenterIds": ["EU-RO-1"]})
        self.assertNotIn("dataCenterIds", plan["deploy_forms"]["graphql"])
        self.assertNotIn("dataCenterId", plan["deploy_forms"]["rest"])
        self.assertIn("mountpoint -q '/workspace'", plan["bootstrap"])
        self.assertEqual((plan["mounts"], plan["secrets"]), ([], []))

    def test_up_and_the_script_link_into_the_volume_and_only_where_it_is_attached(self):
        workspace, places = self.work / "workspace", self.work / "places"
        workspace.mkdir()
        self.text = f'[pool]\nprovider = "runpod"\n[providers.runpod]\nvolume_mount_path = "{workspace}"\n' + "".join(
            f'[[pool.volumes]]\nbucket = "my-data"\nmount = "{places}/{name}"\nprefix = "{name}/x y"\nread_only = {only}\n'
            for name, only in (("in", "true"), ("out", "false")))
        self.bad("up", f"{workspace} is no mount point")
        self.assertEqual((list(workspace.iterdir()), places.exists()), ([], False))
        (self.work / "volume").mkdir()  # as hosts attach it: a bind, and here of the same filesystem
        subprocess.run(["mount", "--bind", self.work / "volume", workspace], check=True)
        self.addCleanup(subprocess.run, ["umount", "-l", workspace], stderr=subprocess.DEVNULL)
        for _ in range(2):
            self.assertIn("read_only cannot be enforced", self.good("up").stdout)
        (places / "out/model").write_text("weights")
        self.assertEqual((workspace / "out/x y/model").read_text(), "weights")
        self.good("down")
        self.assertEqual((places.exists(), (workspace / "out/x y/model").read_text()), (False, "weights"))
        script = self.plan()["bootstrap"]
        for _ in range(2):
            subprocess.run(["dash", "-s"], input=script, text=True, check=True, capture_output=True)
        self.assertEqual((places / "out/model").read_text(), "weights")
        subprocess.run(["umount", workspace], check=True)
        done = subprocess.run(["dash", "-s"], input=script, text=True, capture_output=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("is no mount point", done.stderr)
        self.assertEqual(list(workspace.iterdir()), [])

    def test_check_tells_programs_too_whether_it_exists(self):
        finding, = json.loads(self.good("check", "--json").stdout)["findings"]
        self.assertEqual((finding["grade"], finding["bucket"]), ("ok", None))
        self.assertIn("/workspace", finding["words"])
        self.pool("runpod", [("nothing", "/data", False)])
        done = self.run_command("check", "--json")
        finding, = json.loads(done.stdout)["findings"]
        self.assertEqual((done.returncode, finding["grade"]), (1, "fail"))
        self.assertIn("'nothing'", finding["words"])

    def test_the_key_of_the_command_line_tool_is_found(self):
        del self.environment["RUNPOD_API_KEY"]
        self.bad("prepare", "RUNPOD_API_KEY", ".runpod/config.toml")
        (self.work / ".runpod").mkdir()
        (self.work / ".runpod/config.toml").write_text(f'[default]\napi_key = "{self.fake.key}"\n')
        self.good("prepare")

    def test_a_refused_key_is_not_repeated_in_the_message(self):
        self.environment["RUNPOD_API_KEY"] = "rpa-wrong-secret"
        done = self.bad("prepare", "401", "RUNPOD_API_KEY")
        self.no_secret(done, "rpa-wrong-secret")

    def test_an_unknown_volume_lists_what_there_is(self):
        self.pool("runpod", [("nothing", "/data", False)])
        self.bad("prepare", "'nothing'", "my-data (id agv6w2qcg7, in EU-RO-1)", "other (id my-data-2, in US-KS-2)")

    def test_several_buckets_and_community_fail_before_any_call(self):
        self.pool("runpod", [("my-data", "/data", False), ("other", "/out", True)], '[providers.runpod]\ncloud_type = "community"\n')
        self.bad("prepare", "my-data", "other", "prefix", "Secure Cloud")
        self.assertEqual(self.fake.calls, [])

    def test_a_bucket_of_another_service_is_refused_before_any_call(self):
        more = '[[pool.volumes]]\nbucket = "my-other"\nmount = "/other"\nstorage = { endpoint = "http://127.0.0.1:1", access_key = "a", ' \
               'secret_key = "b" }\n'
        self.pool("runpod", [("my-data", "/data", False)], more)
        alone = self.text.replace(self.text[self.text.index("[[pool.volumes]]"):self.text.index(more)], "")
        for text in (self.text, alone):
            self.text = text
            for command in ("prepare", "plan", "up"):
                self.bad(command, "my-other", "no FUSE", "skyward.toml:")
        self.assertEqual(self.fake.calls, [])

    def test_a_data_centre_that_is_not_the_volumes_is_refused(self):
        self.pool("runpod", [("my-data", "/data", False)], '[providers.runpod]\ndata_center_ids = ["US-KS-2", "US-GA-1"]\n')
        self.bad("prepare", "EU-RO-1", "US-KS-2, US-GA-1")

    def test_rate_limits_are_waited_out_and_rubbish_is_named(self):
        self.fake.fault = (1, "429")
        self.good("prepare")
        self.assertEqual(len(self.fake.calls), 2)
        self.fake.answer = fakes.Reply(200, b"<html>hello")
        self.bad("prepare", "no JSON")
        self.fake.answer = fakes.Reply(200, {"networkVolumes": []})
        self.bad("prepare", "no list of network volumes")
        self.fake.answer = fakes.Reply(302, b"", headers=[("Location", "http://127.0.0.1:1/")])
        self.bad("prepare", "302")

    def test_an_answer_without_end_and_a_wait_without_end_are_refused(self):
        self.fake.answer = fakes.Reply(503, {"message": "busy"}, headers=[("Retry-After", "3600")])
        self.bad("prepare", "503", "busy", "asks to wait 3600 s")
        self.assertEqual(len(self.fake.calls), 1)
        self.fake.answer = fakes.Reply(200, b"[" + b" " * (5 << 20) + b"]")
        self.bad("prepare", "networkvolumes")
        self.assertEqual(len(self.fake.calls), 2)

    def test_keys_go_to_no_address_without_tls(self):
        self.environment["RUNPOD_REST_URL"] = "http://rest.runpod.io/v1"
        self.bad("prepare", "RUNPOD_REST_URL", "unencrypted")
        del self.environment["RUNPOD_REST_URL"]
        self.pool("runpod", [("my-data", "/data", False)], f'[providers.runpod]\napi_url = "{self.fake.url}/v1"\n')
        self.good("prepare")


class Hyperstack(Desk):
    def setUp(self):
        super().setUp()
        self.point(self.serve(fakes.Hyperstack(["my-data"])))

    def point(self, fake):
        self.environment |= {"HYPERSTACK_API_KEY": fake.key, "HYPERSTACK_API_URL": fake.url + "/v1"}
        self.more = f'[providers.hyperstack]\nobject_storage_endpoint = "{fake.url}"\n'
        self.pool("hyperstack", [("my-data", "/data", False), ("my-out", "/out", True)], self.more)

    def test_a_key_is_made_once_and_deleted(self):
        done = self.good("prepare", "--json")
        made = json.loads(done.stdout)
        self.assertIn({"what": "made", "kind": "bucket", "id": "my-out"}, made["done"])
        self.assertEqual(len(self.fake.left()), 1)
        self.no_secret(done, self.fake.key, self.fake.keys[self.fake.left()[0]]["secret_key"])
        kept = self.good("prepare")
        self.assertIn("kept", kept.stdout)
        self.assertEqual(len(self.fake.left()), 1)
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])
        self.assertFalse(self.state.exists())
        self.assertEqual(self.fake.buckets, {"my-data": "ours", "my-out": "made"})
        self.good("teardown")

    def test_no_key_is_deleted_while_the_pool_is_up_here(self):
        self.good("prepare")
        up = self.work / "state.up"
        up.write_text(json.dumps({"version": 1, "program": "skyvol", "provider": "up", "pool": "pool", "things": [
            {"kind": "mount", "made": True, "id": "mount", "facts": {"path": "/mnt/skyvol/my-data", "target": "my-data", "options": "ro"}}]}))
        up.chmod(0o600)
        self.bad("teardown", "is up on this host", "skyvol down")
        up.chmod(0o644)
        self.bad("teardown", "cannot be told", "open to others")
        self.assertEqual(len(self.fake.left()), 1)
        up.unlink()
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_the_plan_has_the_key_apart(self):
        self.good("prepare")
        key = self.fake.keys[self.fake.left()[0]]
        plan = self.plan()
        self.assertEqual({mount["endpoint"] for mount in plan["mounts"]}, {self.fake.url})
        self.assertTrue(any(key["access_key"] in secret["content"] and key["secret_key"] in secret["content"] for secret in plan["secrets"]))
        self.assertNotIn(key["secret_key"], plan["bootstrap"])
        self.good("teardown")

    def test_a_missing_bucket_that_is_only_read_is_not_made(self):
        self.pool("hyperstack", [("my-missing", "/data", False)], self.more)
        self.bad("prepare", "my-missing", "read_only")
        self.assertNotIn("my-missing", self.fake.buckets)
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_an_endpoint_that_takes_no_keys_is_refused_before_one_is_made(self):
        for endpoint in ("http://objects.example.com", "objects.example.com", "https://me:you@objects.example.com"):
            self.pool("hyperstack", [("my-data", "/data", False)], f'[providers.hyperstack]\nobject_storage_endpoint = "{endpoint}"\n')
            self.bad("prepare", "skyward.toml:9", "object storage" if "http:" not in endpoint else "unencrypted")
        self.assertEqual(self.fake.calls, [])

    def test_a_bucket_that_is_refused_is_not_made(self):
        self.fake.buckets["my-out"] = "theirs"
        self.bad("prepare", "my-out", "403")
        self.assertFalse([call for call in self.fake.calls if call.startswith("PUT")])
        self.good("teardown")

    def test_a_new_key_that_is_not_known_yet_is_waited_for(self):
        self.fake.refusals = 2
        self.good("prepare")
        self.good("teardown")

    def test_a_key_that_somebody_deleted_is_made_again(self):
        self.good("prepare")
        self.fake.keys.pop(self.fake.left()[0])
        self.good("prepare")
        self.assertEqual(len(self.fake.left()), 1)
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_another_account_deletes_nothing(self):
        self.good("prepare")
        self.environment["HYPERSTACK_API_KEY"] = "another"
        self.bad("teardown", "another API key")
        self.environment["HYPERSTACK_API_KEY"] = self.fake.key
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_of_two_keys_that_may_be_ours_none_is_deleted(self):
        self.fake.fault = (3, "done-kill")  # behind two pages of a list
        self.fake.victim = self.start("prepare")
        self.fake.victim.communicate(timeout=60)
        self.assertEqual([call.split()[0] for call in self.fake.calls], ["GET", "GET", "POST"])
        other = self.fake.make()
        self.fake.seconds += 30
        self.bad("teardown", "cannot be told", str(other))
        self.assertEqual(len(self.fake.left()), 2)
        del self.fake.keys[other]
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_a_key_that_was_made_later_is_nobody_elses_to_delete(self):
        self.fake.fault = (3, "kill")
        self.fake.victim = self.start("prepare")
        self.fake.victim.communicate(timeout=60)
        self.fake.seconds += 3600
        later = self.fake.make()
        self.good("teardown")
        self.assertEqual(self.fake.left(), [later])

    def test_what_could_not_be_deleted_is_said_and_stays_remembered(self):
        self.good("prepare")
        self.fake.handle, handle = lambda request: fakes.Reply(403, {"status": False, "message": "no"}) if request.method == "DELETE" \
            else handle(request), self.fake.handle
        self.bad("teardown", "was not deleted", "403", str(self.state))
        self.assertTrue(self.state.exists())
        del self.fake.handle
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_ctrl_c_ends_it_soon_and_what_was_made_is_found(self):
        self.fake.hang = "POST"
        process = self.start("prepare")
        harness.wait_until(lambda: any(call.startswith("POST") for call in self.fake.calls), what="the request for a key")
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=10)[1]
        self.assertEqual(process.returncode, 1)
        self.assertIn("interrupted", err)
        self.assertIn("skyvol teardown", err)
        self.fake.hang = None
        self.fake.released.set()
        harness.wait_until(self.fake.left, what="the key that nobody heard of")
        self.fake.seconds += 30
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_every_call_fails_once(self):
        self.ladder(lambda: fakes.Hyperstack(["my-data"]), self.point)


class Operations(Desk):
    """A storage operation with the hyperstack preset: a key for each, deleted at its end."""

    def setUp(self):
        super().setUp()
        fake = self.serve(fakes.Hyperstack(["my-data"]))
        self.environment |= {"HYPERSTACK_API_KEY": fake.key, "HYPERSTACK_API_URL": fake.url + "/v1", "XDG_STATE_HOME": str(self.work / "state-home")}
        self.keys = pathlib.Path("/var/lib/skyvol/keys") if os.geteuid() == 0 else self.work / "state-home/skyvol/keys"
        self.before = set(self.files())

    def files(self):
        return [path for path in self.keys.glob("*") if path.name.startswith("hyperstack-")] if self.keys.exists() else []

    def left_files(self):
        return set(self.files()) - self.before

    def start_ls(self):
        return subprocess.Popen([harness.SKYVOL, "ls", "my-data", "--preset", "hyperstack", "--endpoint", self.fake.url], env=self.environment,
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def test_its_key_lives_as_long_as_it_does(self):
        process = self.start_ls()
        out, err = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out, err), (0, "", ""))
        self.assertEqual((self.fake.left(), self.fake.faults, self.left_files()), ([], [], set()))
        self.assertTrue(any(call.startswith("DELETE") for call in self.fake.calls))

    def test_ctrl_c_deletes_it_too(self):
        self.fake.hang = "GET"
        self.fake.hang_path = "/my-data"
        process = self.start_ls()
        harness.wait_until(lambda: any("/my-data" in call for call in self.fake.calls), what="the first listing")
        self.assertEqual(len(self.fake.left()), 1)
        process.send_signal(signal.SIGINT)
        self.fake.hang = None
        self.fake.released.set()
        process.communicate(timeout=60)
        self.assertEqual((self.fake.left(), self.left_files()), ([], set()))

    def test_the_next_one_deletes_what_a_killed_one_left(self):
        for number in range(1, 9):
            self.fake.fault, self.fake.victim = (number, "done-kill"), self.start_ls()
            self.fake.victim.communicate(timeout=60)
            self.fake.seconds += 300
        self.fake.fault = None
        process = self.start_ls()
        self.assertEqual((process.communicate(timeout=60)[1], process.returncode), ("", 0))
        self.assertEqual((self.fake.left(), self.fake.faults, self.left_files()), ([], [], set()))


class Google(Desk):
    def setUp(self):
        super().setUp()
        self.point(self.serve(fakes.Google(["my-data"])))

    def point(self, fake):
        host = fake.url.removeprefix("http://")
        self.environment |= {"STORAGE_EMULATOR_HOST": host, "GCE_METADATA_HOST": host, "GOOGLE_OAUTH_TOKEN_URL": fake.url + "/token"}
        self.pool("gcp", [("my-data", "/data", False)])

    def test_a_key_is_made_once_made_inactive_and_deleted(self):
        done = self.good("prepare")
        access = self.fake.left()[0]
        self.assertIn(access, done.stdout)
        self.no_secret(done, self.fake.keys[access]["secret"], "ya29.")
        self.assertEqual([thing["id"] for thing in self.remembered()], [access])
        self.good("prepare")
        self.assertEqual(self.fake.left(), [access])
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])
        self.assertEqual(self.fake.keys[access]["state"], "DELETED")
        self.assertTrue(all(self.fake.keys[key]["state"] == "ACTIVE" for key in self.fake.foreign))

    def test_a_service_accounts_file_signs_its_request_for_a_token(self):
        key, public = self.work / "key.pem", self.work / "public.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out", key], check=True, capture_output=True)
        subprocess.run(["openssl", "pkey", "-in", key, "-pubout", "-out", public], check=True, capture_output=True)
        token_uri = "https://oauth2.googleapis.com/token"

        def check(assertion):
            head, claims, signature = (base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)) for part in assertion.split("."))
            (self.work / "signed").write_text(assertion.rpartition(".")[0])
            (self.work / "signature").write_bytes(signature)
            done = subprocess.run(["openssl", "dgst", "-sha256", "-verify", public, "-signature", self.work / "signature", self.work / "signed"],
                                  capture_output=True)
            said = json.loads(claims)
            self.assertEqual(json.loads(head), {"alg": "RS256", "typ": "JWT", "kid": "key-1"})
            self.assertEqual((said["iss"], said["aud"], said["exp"] - said["iat"]), (self.fake.email, token_uri, 3600))
            return done.returncode == 0

        self.fake.public_check = check
        account = {"type": "service_account", "project_id": self.fake.project, "private_key_id": "key-1", "private_key": key.read_text(),
                   "client_email": self.fake.email, "token_uri": token_uri}
        file = self.work / "account.json"
        file.write_text(json.dumps(account))
        self.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(file)
        del self.environment["GCE_METADATA_HOST"]
        self.good("prepare")
        self.assertEqual(self.fake.calls[0], "POST /token")
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])
        file.write_text(json.dumps(account | {"private_key": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"}))
        self.no_secret(self.bad("prepare", "account.json", "private key"), "AAAA")
        file.write_text(json.dumps({"type": "external_account"}))
        self.bad("prepare", "service_account and authorized_user")
        self.environment["GOOGLE_APPLICATION_CREDENTIALS"] = str(self.work / "nothing.json")
        self.bad("prepare", "nothing.json", "GOOGLE_APPLICATION_CREDENTIALS")

    def test_a_users_credentials_need_the_account_named(self):
        gcloud = self.work / ".config/gcloud"
        gcloud.mkdir(parents=True)
        file = gcloud / "application_default_credentials.json"
        file.write_text(json.dumps({"type": "authorized_user", **self.fake.refresh}))
        self.bad("prepare", "service_account", "project")
        self.pool("gcp", [("my-data", "/data", False)],
                  f'[providers.gcp]\nservice_account = "{self.fake.email}"\nproject = "{self.fake.project}"\n')
        self.good("prepare")
        self.good("teardown")
        file.write_text(json.dumps({"type": "authorized_user", **self.fake.refresh, "refresh_token": "wrong-secret"}))
        self.no_secret(self.bad("prepare", "invalid_grant", "gcloud auth application-default login"), "wrong-secret", "client-secret")

    def test_gcloud_is_the_last_that_is_asked(self):
        tools = self.work / "bin"
        tools.mkdir()
        (tools / "gcloud").write_text(f'#!/bin/sh\ncase "$*" in\n"auth print-access-token") echo {self.fake.tokens["metadata"]};;\n'
                                      f'"config get-value account") echo {self.fake.email};;\n"config get-value project") echo {self.fake.project};;\n'
                                      "*) exit 9;;\nesac\n")
        (tools / "gcloud").chmod(0o755)
        self.environment["GCE_METADATA_HOST"] = "127.0.0.1:1"
        self.environment["PATH"] = f"{tools}:{self.environment['PATH']}"
        self.good("prepare")
        self.good("teardown")
        (tools / "gcloud").unlink()
        self.environment["PATH"] = str(tools)
        self.bad("prepare", "gcloud auth application-default login")

    def test_another_server_is_not_taken_for_the_metadata_server(self):
        other = fakes.Fake()
        self.addCleanup(other.close)
        other.handle = lambda request: fakes.Reply(200, {"access_token": "x", "token_type": "Bearer"})
        self.environment["GCE_METADATA_HOST"] = other.url.removeprefix("http://")
        self.bad("prepare", "Metadata-Flavor")
        other.handle = lambda request: fakes.Reply(200, {"access_token": "x", "token_type": "Bearer"}, headers=[("Metadata-Flavor", "Other")])
        self.bad("prepare", "Metadata-Flavor")
        self.environment["GCE_METADATA_HOST"] = "metadata.example.com"
        self.bad("prepare", "GCE_METADATA_HOST", "unencrypted")

    def test_the_delay_of_a_new_key_is_waited_out(self):
        self.fake.refusals = 3
        self.good("prepare")
        self.good("teardown")

    def test_the_limit_of_keys_is_explained(self):
        self.fake.limit = 10
        while len(self.fake.keys) < 10:
            self.fake.foreign.append(self.fake.make("2026-01-01T00:00:00.000Z"))
        self.bad("prepare", "limit", "10", "gcloud storage hmac list")
        self.assertFalse(self.state.exists())
        self.assertEqual(self.fake.left(), [])

    def test_a_bucket_that_may_not_be_listed_names_the_role_that_is_missing(self):
        self.fake.buckets["my-data"] = "theirs"
        self.bad("prepare", "my-data", "roles/storage.objectViewer", self.fake.email)
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_every_call_fails_once(self):
        self.ladder(lambda: fakes.Google(["my-data"]), self.point)


class Aws(Desk):
    buckets = {"my-data": "eu-west-1", "my-out": "us-west-2", "my-third": "ap-south-1"}

    def setUp(self):
        super().setUp()
        self.point(self.serve(fakes.Aws(dict(self.buckets), lag=1)))

    def point(self, fake):
        self.environment |= {"AWS_ENDPOINT_URL_IAM": fake.url, "AWS_ENDPOINT_URL_STS": fake.url, "AWS_ENDPOINT_URL_S3": fake.url,
                             "AWS_ACCESS_KEY_ID": fake.access, "AWS_SECRET_ACCESS_KEY": fake.secret, "AWS_EC2_METADATA_DISABLED": "true"}
        self.more = '[providers.aws]\ninstance_profile_arn = "auto"\n'
        self.pool("aws", [("my-data", "/data", False), ("my-out", "/out", True)], self.more)

    def test_role_policy_and_profile_are_made_once_and_deleted(self):
        done = self.good("prepare")
        name, = self.fake.roles
        self.assertEqual(self.fake.profiles, {name: [name]})
        self.assertIn(f"arn:aws:iam::{self.fake.account}:instance-profile/{name}", done.stdout)
        self.no_secret(done, self.fake.secret)
        document = self.fake.roles[name]["skyvol-volumes"]
        allowed = {(action, resource) for row in document["Statement"] for action in row["Action"] for resource in row["Resource"]}
        self.assertIn(("s3:GetObject", "arn:aws:s3:::my-data/*"), allowed)
        self.assertIn(("s3:PutObject", "arn:aws:s3:::my-out/*"), allowed)
        self.assertFalse([pair for pair in allowed if "my-data" in pair[1] and ("Put" in pair[0] or "Delete" in pair[0])])
        facts = next(thing for thing in self.remembered() if thing["kind"] == "role")["facts"]
        self.assertEqual((facts["region.my-data"], facts["region.my-out"]), ("eu-west-1", "us-west-2"))
        self.good("prepare")
        self.assertEqual(list(self.fake.roles), [name])
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])
        self.assertFalse(self.state.exists())
        self.good("teardown")

    def test_the_plan_knows_the_regions_and_no_key(self):
        self.good("prepare")
        calls = len(self.fake.calls)
        plan = self.plan()
        self.assertEqual(len(self.fake.calls), calls)
        self.assertEqual({mount["bucket"]: mount["region"] for mount in plan["mounts"]}, {"my-data": "eu-west-1", "my-out": "us-west-2"})
        self.assertEqual(plan["secrets"], [])
        self.assertTrue(any("instance-profile/skyvol-" in note for note in plan["notes"]))
        self.good("teardown")

    def test_where_head_tells_no_region_the_location_is_asked_for(self):
        self.fake.silent, self.fake.buckets["my-home"] = True, "us-east-1"
        names = ("my-data", "my-out", "my-third", "my-home")
        self.pool("aws", [(name, f"/{name}", False) for name in names])
        self.assertEqual({mount["bucket"]: mount["region"] for mount in self.plan()["mounts"]}, {name: self.fake.buckets[name] for name in names})
        self.assertEqual(self.fake.faults, [])
        self.environment["AWS_SECRET_ACCESS_KEY"] = "another-secret"
        self.assertEqual({mount["region"] for mount in self.plan()["mounts"]}, {"us-east-1"}, "a guess, which the mount mends when it is wrong")
        for name in ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"):
            del self.environment[name]
        self.assertEqual({mount["region"] for mount in self.plan()["mounts"]}, {"us-east-1"})

    def test_an_instance_profile_that_is_given_is_used_as_it_is(self):
        arn = "arn:aws:iam::123456789012:instance-profile/mine"
        self.pool("aws", [("my-data", "/data", False)], f'[providers.aws]\ninstance_profile_arn = "{arn}"\n')
        self.assertIn(arn, self.good("prepare").stdout)
        self.assertEqual(self.fake.calls, ["HEAD /my-data"])
        self.pool("aws", [("my-data", "/data", False)], '[providers.aws]\ninstance_profile_arn = "arn:aws:iam::123456789012:role/mine"\n')
        self.bad("prepare", "instance_profile_arn", "role")

    def test_throttling_is_waited_out_and_keys_that_are_not_known_are_said(self):
        self.fake.throttled = 2
        self.good("prepare")
        self.good("teardown")
        self.environment["AWS_SECRET_ACCESS_KEY"] = "another-secret"
        self.no_secret(self.bad("prepare", "InvalidClientTokenId"), "another-secret")
        self.assertFalse(self.state.exists())

    def test_a_bucket_that_is_not_there_stops_before_anything_is_made(self):
        self.pool("aws", [("my-nothing", "/data", False)], self.more)
        self.bad("prepare", "my-nothing")
        self.assertEqual(self.fake.left(), [])
        self.assertFalse(self.state.exists())

    def test_another_account_deletes_nothing(self):
        self.good("prepare")
        self.fake.account = "999999999999"
        self.bad("teardown", "123456789012", "999999999999")
        self.fake.account = "123456789012"
        self.good("teardown")

    def test_a_policy_that_somebody_hung_on_the_role_is_said(self):
        self.good("prepare")
        name, = self.fake.roles
        self.fake.roles[name]["theirs"] = {"Statement": []}
        self.bad("teardown", name, "DeleteConflict")
        self.assertEqual([thing["kind"] for thing in self.remembered()], ["role"])
        del self.fake.roles[name]["theirs"]
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])

    def test_every_call_fails_once(self):
        self.ladder(lambda: fakes.Aws(dict(self.buckets)), self.point)


class Moto(Desk):
    """The same on moto, somebody else's reading of IAM and STS: the server of its own, whose state other tools see."""

    def setUp(self):
        super().setUp()
        self.fake = fakes.Fake()  # HEAD of buckets only
        self.addCleanup(self.fake.close)
        self.fake.handle = lambda request: fakes.Aws.handle_head(self.fake, request)
        self.fake.buckets = {"my-data": "eu-west-1", "my-out": "us-west-2"}
        port = harness.free_port()
        self.url = f"http://127.0.0.1:{port}"
        log = open(self.work / "moto.log", "wb")
        self.addCleanup(log.close)
        self.moto = subprocess.Popen([harness.find_python(), "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)], stdout=log, stderr=log,
                                     stdin=subprocess.DEVNULL, preexec_fn=harness.die_with_parent)
        self.addCleanup(self.moto.wait)
        self.addCleanup(self.moto.kill)
        harness.wait_until(self.answers, seconds=60, what="moto")
        self.environment |= {"AWS_ENDPOINT_URL_IAM": self.url, "AWS_ENDPOINT_URL_STS": self.url, "AWS_ENDPOINT_URL_S3": self.fake.url,
                             "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
        self.pool("aws", [("my-data", "/data", False), ("my-out", "/out", True)], '[providers.aws]\ninstance_profile_arn = "auto"\n')

    def answers(self):
        try:
            urllib.request.urlopen(self.url + "/moto-api/data.json", timeout=1).close()
            return True
        except OSError:
            return False

    def look(self):
        """All that its IAM holds of ours: roles, their policies, profiles with their roles."""
        script = "import boto3, json; iam = boto3.client('iam', region_name='us-east-1', endpoint_url='%s');" % self.url + \
            "roles = [r['RoleName'] for r in iam.list_roles()['Roles'] if r['RoleName'].startswith('skyvol')];" \
            "print(json.dumps({'roles': {r: {p: iam.get_role_policy(RoleName=r, PolicyName=p)['PolicyDocument'] for p in " \
            "iam.list_role_policies(RoleName=r)['PolicyNames']} for r in roles}, 'profiles': {p['InstanceProfileName']: " \
            "[r['RoleName'] for r in p['Roles']] for p in iam.list_instance_profiles()['InstanceProfiles']}}))"
        environment = self.environment | {"AWS_EC2_METADATA_DISABLED": "true"}
        done = subprocess.run([harness.find_python(), "-c", script], env=environment, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def test_what_is_made_is_what_boto3_sees_and_teardown_leaves_nothing(self):
        self.good("prepare")
        held = self.look()
        name, = held["roles"]
        self.assertEqual(held["profiles"], {name: [name]})
        document = held["roles"][name]["skyvol-volumes"]
        self.assertIn("arn:aws:s3:::my-out/*", [resource for row in document["Statement"] for resource in row["Resource"]])
        self.good("prepare")
        self.assertEqual(self.look(), held)
        self.good("teardown")
        self.assertEqual(self.look(), {"roles": {}, "profiles": {}})
        self.assertFalse(self.state.exists())


class StateFile(Desk):
    """Hostile or broken state files are refused by name, and nothing is sent."""

    def setUp(self):
        super().setUp()
        fake = self.serve(fakes.Hyperstack(["my-data"]))
        self.environment |= {"HYPERSTACK_API_KEY": fake.key, "HYPERSTACK_API_URL": fake.url + "/v1"}
        self.pool("hyperstack", [("my-data", "/data", False)], f'[providers.hyperstack]\nobject_storage_endpoint = "{fake.url}"\n')

    def test_broken_files_are_refused(self):
        good = {"version": 1, "program": "skyvol", "provider": "hyperstack", "pool": "p", "things": []}
        thing = {"kind": "access-key", "made": True, "id": "1", "secret": "s", "facts": {"account": "x"}}
        for text, word in [("", "state file"), ("{", "line 1"), (json.dumps(good | {"version": 2}), "newer skyvol"),
                           (json.dumps(good | {"program": "other"}), "program"), (json.dumps(good | {"provider": "gcp"}), "gcp"),
                           (json.dumps(good | {"things": {}}), "things"), (json.dumps(good | {"things": [thing | {"id": "a b"}]}), "things[0].id"),
                           (json.dumps(good | {"things": [thing | {"id": "../x\n"}]}), "things[0].id"),
                           (json.dumps(good | {"things": [thing, thing | {"facts": "x"}]}), "things[1].facts"), ("[" * 5000, "nested"),
                           (" " * (2 << 20), "longer")]:
            self.state.write_text(text)
            self.state.chmod(0o600)
            for command in ("prepare", "teardown"):
                done = self.run_command(command)
                self.assertEqual(done.returncode, 1, text[:80])
                self.assertIn(word, done.stderr)
                self.assertIn(str(self.state), done.stderr)
            self.assertEqual(self.state.read_text(), text)
        self.assertEqual(self.fake.calls, [])

    def test_links_other_modes_and_odd_files_are_refused(self):
        target = self.work / "target"
        target.write_text("x")
        self.state.symlink_to(target)
        self.bad("prepare", "symlink")
        self.assertEqual(target.read_text(), "x")
        self.state.unlink()
        self.state.write_text("{}")
        self.state.chmod(0o640)
        self.bad("prepare", "open to others")
        self.state.unlink()
        os.mkfifo(self.state, 0o600)
        self.bad("prepare", "no regular file")
        self.assertEqual(self.fake.calls, [])

    def test_two_do_not_run_at_once(self):
        self.fake.lock.acquire()
        held = self.start("prepare")
        try:
            harness.wait_until(self.is_locked, what="the lock")
            done = self.run_command("prepare")
        finally:
            self.fake.lock.release()
        self.assertEqual((held.communicate(timeout=60)[1], held.returncode), ("", 0))
        self.assertEqual(done.returncode, 1)
        self.assertIn("another skyvol", done.stderr)
        self.good("teardown")
        self.assertEqual(self.fake.left(), [])
        self.assertFalse((self.work / "state.lock").exists())

    def is_locked(self):
        try:
            with open(self.work / "state.lock") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return False
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True


if __name__ == "__main__":
    unittest.main()
