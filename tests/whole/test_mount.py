"""Mounting and unmounting: every way it can go wrong has its line, its remedy and its exit status."""

import errno
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402


class TestMount(harness.Workshop):
    def try_mount(self, source=None, place=None, environment=None, words=(), **options):
        place = place or self.work / "mnt"
        place.mkdir(exist_ok=True) if not place.exists() and place.parent.exists() and place.name == "mnt" else None
        options = {"endpoint": self.minio.endpoint, "cache_dir": self.work / "cache", **options}
        text = ",".join(n if v is True else f"{n}={v}" for n, v in options.items() if v is not None)
        started = time.monotonic()
        done = subprocess.run([harness.SKYVOL, "mount", source or self.bucket, str(place), "-o", text, *words],
                              env=environment or harness.clean_environment(), capture_output=True, text=True, timeout=60)
        self.assertLess(time.monotonic() - started, 11, "a message must come within 10 seconds")
        return done

    def assert_refused(self, done, *words, status=1):
        self.assertEqual(done.returncode, status, done.stderr)
        lines = done.stderr.strip().splitlines()
        self.assertEqual(len(lines), 1, f"one line: {done.stderr}")
        for word in words:
            self.assertIn(word, lines[0])
        self.assertIsNone(harness.mounted_at(self.work / "mnt"))

    def test_wrong_bucket(self):
        self.assert_refused(self.try_mount("nowhere"), "nowhere", "no such bucket", "check its name")

    def test_wrong_keys(self):
        keys = harness.clean_environment()
        self.assert_refused(self.try_mount(environment=keys | {"AWS_ACCESS_KEY_ID": "other"}), "access key",
                            "AWS_ACCESS_KEY_ID")
        self.assert_refused(self.try_mount(environment=keys | {"AWS_SECRET_ACCESS_KEY": "wrong"}), "secret key",
                            "AWS_SECRET_ACCESS_KEY")

    def test_no_keys_at_all(self):
        environment = harness.clean_environment(keys=False) | {"HOME": str(self.work)}
        done = self.try_mount(environment=environment)
        self.assertEqual(done.returncode, 1)
        self.assertIn("AWS_ACCESS_KEY_ID", done.stderr)
        self.assertIn(".aws/credentials", done.stderr)

    def test_nobody_listens(self):
        self.assert_refused(self.try_mount(endpoint="http://127.0.0.1:9"), "cannot be reached", "check the endpoint")

    def test_no_such_host(self):
        self.assert_refused(self.try_mount(endpoint="https://no-such-host.invalid"), "no-such-host.invalid",
                            "check the endpoint")

    def test_a_silent_endpoint(self):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            self.assert_refused(self.try_mount(endpoint=f"http://127.0.0.1:{listener.getsockname()[1]}"),
                                "does not answer", "check the endpoint")

    def test_an_endpoint_that_is_not_s3(self):
        import http.server
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
        server.RequestHandlerClass.log_message = lambda *_: None
        self.addCleanup(server.server_close)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.shutdown)
        self.assertEqual(self.try_mount(endpoint=f"http://127.0.0.1:{server.server_port}").returncode, 1)

    def test_http_to_other_hosts_needs_to_be_allowed(self):
        self.assert_refused(self.try_mount(endpoint="http://198.51.100.1:9000"), "allow_http")

    def test_mount_points_that_cannot_be(self):
        self.assert_refused(self.try_mount(place=self.work / "missing"), "does not exist", "mkdir -p")
        (self.work / "file").write_text("")
        self.assert_refused(self.try_mount(place=self.work / "file"), "not a directory")
        full = self.work / "full"
        full.mkdir()
        (full / "x").write_text("")
        self.assert_refused(self.try_mount(place=full), "not empty", "nonempty")

    def test_a_busy_mount_point(self):
        mount = self.mount(name="mnt")
        done = self.try_mount(place=mount.place)
        self.assertEqual(done.returncode, 1)
        self.assertIn("busy", done.stderr)
        self.assertIn("skyvol umount", done.stderr)

    def test_our_own_dead_mount_is_replaced(self):
        mount = self.mount(name="mnt")
        (mount.place / "f").write_text("x")
        mount.kill()
        with self.assertRaisesRegex(OSError, "not connected|connection abort"):
            os.listdir(mount.place)
        again = self.mount(name="mnt")
        self.assertEqual(os.listdir(again.place), ["f"])

    def test_a_dead_mount_is_unmounted(self):
        mount = self.mount(name="mnt")
        mount.kill()
        self.assertEqual(mount.umount().returncode, 0)
        self.assertIsNone(harness.mounted_at(mount.place))

    def test_unknown_options_and_words(self):
        done = self.try_mount(endpiont="x", memory="lots")
        self.assertEqual(done.returncode, 1)
        self.assertIn("did you mean 'endpoint'", done.stderr)
        self.assertIn("memory=lots", done.stderr)
        done = subprocess.run([harness.SKYVOL, "mout"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("did you mean 'mount'", done.stderr)
        done = subprocess.run([harness.SKYVOL, "mount", "only-a-source"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn("--help", done.stderr)

    def test_the_environment_names_the_config_file_and_dot_is_where_the_command_was_typed(self):
        (self.work / "here.toml").write_text('[mount]\nro = true\nlog = "here.log"\n')
        place = self.work / "mnt"
        place.mkdir()
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        done = subprocess.run([harness.SKYVOL, "mount", self.bucket, "mnt", "-o",
                               f"endpoint={self.minio.endpoint},cache_dir=cache"], cwd=self.work, capture_output=True,
                              text=True, env=harness.clean_environment() | {"SKYVOL_CONFIG": "here.toml", "SKYVOL_RW": ""})
        self.assertEqual(done.returncode, 0, done.stderr)
        with self.assertRaises(OSError):
            (place / "f").write_text("x")
        self.assertIn("is mounted", (self.work / "here.log").read_text())
        self.assertTrue((self.work / "cache/lock").exists())
        subprocess.run([harness.SKYVOL, "umount", str(place)], check=True)

    def test_a_secret_option_is_refused(self):
        done = self.try_mount(secret_key="hunter2")
        self.assertEqual(done.returncode, 1)
        self.assertNotIn("hunter2", done.stderr)

    def test_help_and_version(self):
        for words in (["--help"], ["mount", "--help"], ["umount", "--help"], ["status", "--help"], ["--version"]):
            done = subprocess.run([harness.SKYVOL, *words], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stderr), (0, ""), words)
            self.assertIn("skyvol", done.stdout)

    def scoped_keys(self):
        """The environment of keys that reach nothing but the prefix of this test."""
        return harness.clean_environment(keys=False) | self.s3.assume_role({"Version": "2012-10-17", "Statement": [
            {"Effect": "Allow", "Action": "s3:ListBucket", "Resource": f"arn:aws:s3:::{self.bucket}",
             "Condition": {"StringLike": {"s3:prefix": [f"{self.prefix}/*"]}}},
            {"Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"],
             "Resource": f"arn:aws:s3:::{self.bucket}/{self.prefix}/*"}]})

    def test_keys_that_reach_a_prefix_only_are_enough(self):
        keys = self.scoped_keys()
        mount = self.mount(environment=keys)
        (mount.place / "d").mkdir()
        (mount.place / "d/f").write_text("mine")
        self.assertEqual((mount.place / "d/f").read_text(), "mine")
        self.assertEqual(os.listdir(mount.place), ["d"])
        (mount.place / "d/f").unlink()
        self.assert_refused(self.try_mount(environment=keys), "may not list", "s3:ListBucket", "bucket:prefix")
        self.assert_refused(self.try_mount(f"{self.bucket}:elsewhere", environment=keys), "may not list")

    def test_the_region_is_found_out_where_the_server_tells_it(self):
        for redirect in (False, True):
            little = self.little(region="eu-west-7", **({"redirect": True} if redirect else {}))
            mount = self.mount(source="test", server=little)
            (mount.place / "f").write_text("x")
            self.assertEqual(little.s3.get("test", "f"), b"x")
            self.assertEqual(mount.umount().returncode, 0)

    def test_a_wrong_region_that_was_given_is_put_right(self):
        little = self.little(region="eu-west-7")
        mount = self.mount(source="test", server=little, region="us-east-1")
        self.assertRegex(mount.log.read_text(), "eu-west-7")
        self.assertEqual(mount.umount().returncode, 0)

    def test_a_clock_that_is_a_day_behind_is_allowed_for_and_said(self):
        little = self.little(skew=86400)
        mount = self.mount(source="test", server=little)
        (mount.place / "f").write_text("x")
        self.assertRegex(mount.log.read_text(), "clock is 86[34][0-9][0-9] s off")
        self.assertEqual(mount.umount().returncode, 0)
        little.control("skew", seconds=0)
        self.assertEqual(little.s3.get("test", "f"), b"x")

    def test_what_cannot_be_put_right_is_named_with_its_remedy(self):
        for status, code, *words in ((400, "AuthorizationHeaderMalformed", "another region", "region="),
                                     (301, "PermanentRedirect", "another region", "endpoint"),
                                     (403, "RequestTimeTooSkewed", "clock is wrong", "timedatectl")):
            little = self.little()
            little.control("fault", action="answer", status=status, code=code, times=0)
            done = self.try_mount("test", environment=harness.clean_environment(keys=False) | little.environment,
                                  endpoint=little.endpoint)
            self.assert_refused(done, *words)

    def test_root_that_may_not_mount_hears_what_the_container_lacks(self):
        words = [harness.SKYVOL, "mount", self.bucket, str(self.work / "mnt"), "-o",
                 f"endpoint={self.minio.endpoint},cache_dir={self.work}/cache"]
        (self.work / "mnt").mkdir()
        hide = "mount -t tmpfs none /dev && mknod -m 666 /dev/null c 1 3 && mknod -m 666 /dev/urandom c 1 9"
        for before, remedy in ((["setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"], "CAP_SYS_ADMIN"),
                               (["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh"], "modprobe fuse")):
            done = subprocess.run([*before, *words], env=harness.clean_environment(), capture_output=True, text=True)
            self.assert_refused(done, remedy, "--device /dev/fuse", "--cap-add SYS_ADMIN")

    def test_the_shells_soft_limit_of_open_files_does_not_limit_the_daemon(self):
        mount = self.mount()
        soft, hard = re.search(r"Max open files\s+(\d+)\s+(\d+)", pathlib.Path(f"/proc/{mount.pid}/limits").read_text()).groups()
        self.assertEqual(soft, hard)

    def test_a_bucket_that_is_gone_is_an_error_not_an_empty_directory(self):
        little = self.little()
        mount = self.mount(source="test", server=little, io_timeout="2s")
        (mount.place / "f").write_text("x")
        little.control("fault", action="answer", status=404, code="NoSuchBucket", times=0)
        time.sleep(1.2)
        with self.assertRaises(OSError) as listing:
            os.listdir(mount.place)
        self.assertEqual(listing.exception.errno, errno.EIO)
        with self.assertRaises(OSError) as lookup:
            os.stat(mount.place / "other")
        self.assertEqual(lookup.exception.errno, errno.EIO)
        little.control("clear", what=["faults"])

    def test_memory_as_cache_directory_is_warned_of_and_a_disk_is_not(self):
        self.assertEqual(self.mount().words, "")
        memory = tempfile.mkdtemp(dir="/dev/shm")
        self.addCleanup(shutil.rmtree, memory, ignore_errors=True)
        self.assertIn("in memory (tmpfs)", self.mount(cache_dir=memory).words)

    def test_a_warning_is_said_once_in_the_foreground(self):
        place = self.work / "mnt"
        place.mkdir()
        child = subprocess.Popen([harness.SKYVOL, "mount", self.bucket, str(place), "-f", "-o",
                                  f"endpoint={self.minio.endpoint},cache_dir={self.work}/cache,durability=local"],
                                 env=harness.clean_environment(), stderr=subprocess.PIPE, text=True)
        harness.wait_until(lambda: harness.mounted_at(place), what="the mount")
        os.listdir(place)
        child.send_signal(signal.SIGINT)
        words = child.communicate(timeout=20)[1]
        self.assertEqual(words.count("durability=local"), 1, words)

    def test_what_a_killed_run_left_goes_up_at_the_next_mount(self):
        mount = self.mount(name="mnt")
        file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x" * (1 << 20))
        mount.kill()
        with self.assertRaises(OSError):
            os.close(file)
        again = self.mount(name="mnt")
        self.assertIn("1 unsent files (1048576 bytes) of an earlier mount go on", again.words)
        self.assertEqual(again.words[-1], "\n")
        harness.wait_until(lambda: self.keys() == ["f"], what="the object")
        self.assertEqual(self.object("f"), b"x" * (1 << 20))

    def test_a_cache_directory_with_unsent_changes_takes_no_other_source(self):
        mount = self.mount(name="first")
        file = os.open(mount.place / "f", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"x")
        mount.kill()
        with self.assertRaises(OSError):
            os.close(file)
        done = self.try_mount(source=f"{self.bucket}:below", cache_dir=self.work / "first.cache")
        self.assert_refused(done, "1 unsent changes of another source", "skyvol flush")
        again = self.mount(name="first")
        harness.wait_until(lambda: self.keys() == ["f"], what="the object")
        self.assertEqual(again.umount().returncode, 0)
        self.mount(name="first", source=f"{self.bucket}:below")

    def test_a_hostile_name_does_not_command_the_terminal(self):
        little = self.little()
        mount = self.mount(source="test", server=little, io_timeout="1s", stop_timeout="0s")
        little.control("fault", op="PutObject", action="hang", times=0)
        with self.assertRaises(OSError):
            (mount.place / "a\x1b[2J\nb").write_text("x")
        done = mount.run("status", str(mount.place))
        self.assertIn(r"a\x1b[2J\x0ab", done.stdout)
        self.assertIn("; kept in /", done.stdout)
        self.assertNotIn("\x1b", done.stdout)
        done = mount.umount_and_give_up()
        self.assertEqual(done.returncode, 1)
        self.assertIn(r"a\x1b[2J\x0ab", done.stderr)
        self.assertNotIn("\x1b", done.stderr)

    def test_signals_end_cleanly(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            mount = self.mount(name=f"s{number}")
            (mount.place / "f").write_text("x")
            os.kill(mount.pid, number)
            harness.wait_until(lambda: not mount.alive(), 20, "the end of the daemon")
            self.assertIsNone(harness.mounted_at(mount.place))

    def test_sigterm_publishes_a_file_that_is_still_open(self):
        mount = self.mount()
        file = os.open(mount.place / "open", os.O_CREAT | os.O_WRONLY)
        os.write(file, b"not closed yet")
        os.kill(mount.pid, signal.SIGTERM)
        harness.wait_until(lambda: not mount.alive(), 20, "the end of the daemon")
        self.assertEqual(self.object("open"), b"not closed yet")
        try:
            os.close(file)
        except OSError:
            pass

    def test_foreground_ends_at_ctrl_c_with_zero(self):
        place = self.work / "mnt"
        place.mkdir()
        child = subprocess.Popen([harness.SKYVOL, "mount", self.bucket, str(place), "-f", "-o",
                                  f"endpoint={self.minio.endpoint},cache_dir={self.work}/cache"],
                                 env=harness.clean_environment(), stderr=subprocess.DEVNULL)
        harness.wait_until(lambda: harness.mounted_at(place), what="the mount")
        harness.wait_until(lambda: os.listdir(place) is not None, what="the listing")
        child.send_signal(signal.SIGINT)
        self.assertEqual(child.wait(20), 0)
        self.assertIsNone(harness.mounted_at(place))

    def test_umount_by_the_system(self):
        mount = self.mount()
        (mount.place / "f").write_text("x")
        subprocess.run(["umount", str(mount.place)], check=True)
        harness.wait_until(lambda: not mount.alive(), 20, "the end of the daemon")

    def test_umount_of_a_busy_mount_says_so(self):
        mount = self.mount()
        (mount.place / "f").write_text("x")
        with open(mount.place / "f"):
            done = mount.umount()
            self.assertEqual(done.returncode, 1)
            self.assertIn("in use", done.stderr)
        self.assertEqual(mount.umount().returncode, 0)
        harness.wait_until(lambda: not mount.alive(), 20, "the end of the daemon")

    def test_status_of_nothing(self):
        done = subprocess.run([harness.SKYVOL, "status", str(self.work)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1)
        self.assertIn("not mounted", done.stderr)

    def test_status_tells_the_facts(self):
        mount = self.mount()
        status = mount.status()
        self.assertEqual(status["pid"], mount.pid)
        self.assertEqual(status["mount_point"], str(mount.place))
        self.assertEqual(status["unsent"], [])
        self.assertNotIn(harness.SECRET_KEY, str(status))
        words = mount.run("status", str(mount.place))
        self.assertEqual(words.returncode, 0)
        self.assertIn("unsent      nothing", words.stdout)

    def test_no_secret_is_in_the_log(self):
        mount = self.mount(log_level="trace")
        (mount.place / "f").write_text("x")
        (mount.place / "f").read_text()
        self.assertEqual(mount.umount().returncode, 0)
        self.assertNotIn(harness.SECRET_KEY, mount.log.read_text())

    def test_mounts_are_nosuid_and_nodev(self):
        mount = self.mount()
        line = next(line for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
                    if f" {mount.place} " in line)
        self.assertIn("nosuid", line)
        self.assertIn("nodev", line)
        self.assertIn("default_permissions", line)
        self.assertIn("fuse.skyvol", line)

    def test_one_cache_directory_has_one_holder(self):
        self.mount(name="one", cache_dir=self.work / "shared-cache")
        done = self.try_mount(cache_dir=self.work / "shared-cache")
        self.assertEqual(done.returncode, 1)
        self.assertIn("in use", done.stderr)
        self.assertIn("cache_dir", done.stderr)

    def test_a_user_mounts_by_fusermount(self):
        import pwd
        import shutil
        nobody = pwd.getpwnam("nobody")
        home = self.work / "home"
        place = home / "mnt"
        place.mkdir(parents=True)
        binary = home / "program"  # the build may lie where nobody may look
        shutil.copy(harness.SKYVOL, binary)
        self.work.chmod(0o755)
        for path in (home, place, binary):
            os.chown(path, nobody.pw_uid, nobody.pw_gid)
        self.addCleanup(os.chmod, "/dev/fuse", os.stat("/dev/fuse").st_mode & 0o777)
        os.chmod("/dev/fuse", 0o666)
        environment = harness.clean_environment() | {"HOME": str(home), "XDG_RUNTIME_DIR": str(home)}

        def as_nobody(*words, ignore_children=False, **more):
            return subprocess.run([str(binary), *words], env=environment | more, capture_output=True, text=True, timeout=60,
                                  user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[], cwd="/",
                                  preexec_fn=lambda: ignore_children and signal.signal(signal.SIGCHLD, signal.SIG_IGN))

        done = as_nobody("mount", f"{self.bucket}:{self.prefix}", str(place), "-o", f"endpoint={self.minio.endpoint}")
        self.addCleanup(subprocess.run, ["umount", "-l", str(place)], stderr=subprocess.DEVNULL)
        self.assertEqual(done.returncode, 0, done.stderr)
        write = subprocess.run(["sh", "-c", f"echo mine > {place}/f && cat {place}/f"], capture_output=True, text=True,
                               user=nobody.pw_uid, group=nobody.pw_gid, extra_groups=[])
        self.assertEqual(write.stdout, "mine\n", write.stderr)
        self.assertEqual(self.object("f"), b"mine\n")
        # Where its socket is depends on no environment, and root finds it by the owner of the mount.
        done = as_nobody("status", str(place), XDG_RUNTIME_DIR="/nowhere")
        self.assertEqual(done.returncode, 0, done.stderr)
        done = subprocess.run([harness.SKYVOL, "status", str(place)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        # A caller that ignores its children's ends hands that down.
        done = as_nobody("umount", str(place), ignore_children=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIsNone(harness.mounted_at(place))

        # Dead, it is seen as such by root, whom the kernel does not let in.
        done = as_nobody("mount", f"{self.bucket}:{self.prefix}", str(place), "-o", f"endpoint={self.minio.endpoint}")
        self.assertEqual(done.returncode, 0, done.stderr)
        status = json.loads(as_nobody("status", "--json", str(place)).stdout)
        pid = status["pid"]
        os.kill(status["monitor"], signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        harness.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), what="the end of the daemon")
        done = subprocess.run([harness.SKYVOL, "umount", str(place)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("had died", done.stderr)
        self.assertIsNone(harness.mounted_at(place))


if __name__ == "__main__":
    harness.main()
