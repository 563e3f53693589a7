"""Who a mount is, against botocore: the same files, variables and profile must end in the same keys, or in an error in both.

What differs on purpose: keys of the environment are taken also where AWS_PROFILE names a profile that is not there; a code of a second
factor is never asked for; a comment may stand behind a value; sections of one name are one.
"""

import http.server
import itertools
import json
import pathlib
import subprocess
import sys
import threading
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
import harness  # noqa: E402

BOTOCORE = """
import json, os, sys
import botocore.session
for line in sys.stdin:
    environment, profile = json.loads(line)
    os.environ.clear()
    os.environ.update(environment)
    try:
        keys = botocore.session.Session(profile=profile).get_credentials()
        print(keys.get_frozen_credentials().access_key[-4:] if keys else "error", flush=True)
    except Exception:
        print("error", flush=True)
"""


class Keys(http.server.BaseHTTPRequestHandler):
    """A container's endpoint, and an STS that names a role's keys after who asked."""

    def do_GET(self):
        self.answer(json.dumps({"AccessKeyId": "AKIACONTCONT", "SecretAccessKey": "S", "Token": "T",
                                "Expiration": "2200-01-01T00:00:00Z"}))

    def do_POST(self):
        form = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        action = form["Action"][0]
        by = self.headers.get("Authorization", "").partition("Credential=")[2].partition("/")[0][-4:]
        self.answer(f"<{action}Response><{action}Result><Credentials><AccessKeyId>AKIAROLE{by or 'WEBI'}</AccessKeyId>"
                    "<SecretAccessKey>S</SecretAccessKey><SessionToken>T</SessionToken><Expiration>2200-01-01T00:00:00Z"
                    f"</Expiration></Credentials></{action}Result></{action}Response>")

    def answer(self, text):
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        pass


def static(name):
    return f"aws_access_key_id = AKIA{name}{name}\naws_secret_access_key = S\n"


class Chain(harness.Workshop):
    def setUp(self):
        super().setUp()
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Keys)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.aws = self.work / ".aws"
        self.aws.mkdir(mode=0o700)
        self.token = self.work / "token"
        self.token.write_text("a-token-that-is-long-enough")
        self.program = self.work / "program"
        self.program.write_text('#!/bin/sh\necho \'{"Version":1,"AccessKeyId":"AKIAPROGPROG","SecretAccessKey":"S"}\'\n')
        self.program.chmod(0o700)
        self.botocore = subprocess.Popen([harness.find_python(), "-c", BOTOCORE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                         text=True)
        self.addCleanup(self.end_botocore)

    def end_botocore(self):
        self.botocore.stdin.close()
        self.botocore.wait(30)
        self.botocore.stdout.close()

    def files(self):
        """name -> credentials, config."""
        role, program = "role_arn = arn:aws:iam::123456789012:role/r\n", f"credential_process = {self.program}\n"
        by_token = f"web_identity_token_file = {self.token}\n"
        login = "sso_start_url = https://x\nsso_region = us-east-1\n"
        return {
            "none": ("", ""),
            "credentials": ("[default]\n" + static("CRED"), ""),
            "config": ("", "[default]\n" + static("CONF")),
            "both": ("[default]\n" + static("CRED"), "[default]\n" + static("CONF")),
            "program": ("", "[default]\n" + program),
            "program among credentials": ("[default]\n" + program, ""),
            "program and credentials": ("[default]\n" + static("CRED"), "[default]\n" + program),
            "program and config": ("", "[default]\n" + static("CONF") + program),
            "role of another": ("[base]\n" + static("BASE"), "[default]\n" + role + "source_profile = base\n"),
            "role of itself": ("[default]\n" + static("CRED"), "[default]\n" + role + "source_profile = default\n"),
            "role of the environment": ("", "[default]\n" + role + "credential_source = Environment\n"),
            "role of the container": ("", "[default]\n" + role + "credential_source = EcsContainer\n"),
            "role of nobody": ("[default]\n" + static("CRED"), "[default]\n" + role),
            "role of two": ("[base]\n" + static("BASE"),
                            "[default]\n" + role + "source_profile = base\ncredential_source = Environment\n"),
            "role of a program": ("", "[default]\n" + role + "source_profile = p\n[profile p]\n" + program),
            "role of a role": ("[base]\n" + static("BASE"), "[default]\n" + role + "source_profile = middle\n[profile middle]\n" +
                               role + "source_profile = base\n"),
            "role of who is not there": ("", "[default]\n" + role + "source_profile = nobody\n"),
            "role of a token": ("", "[default]\n" + role + "source_profile = w\n[profile w]\n" + role + by_token),
            "token": ("[default]\n" + static("CRED"), "[default]\n" + role + by_token),
            "half": ("[default]\naws_access_key_id = AKIAHALFHALF\n", ""),
            "half in config": ("", "[default]\naws_access_key_id = AKIAHALFHALF\n"),
            "other": ("[other]\n" + static("OTHR"), "[profile other]\nregion = eu-west-1\n"),
            "other without the word": ("", "[other]\n" + static("OTHR")),
            "other in quotes": ("", '[profile "other"]\n' + static("OTHR")),
            "capitals": ("[default]\nAWS_ACCESS_KEY_ID = AKIACASECASE\nAws_Secret_Access_Key = S\n", ""),
            "login": ("[default]\n" + static("CRED"), "[default]\n" + login + "sso_account_id = 1\nsso_role_name = r\n"),
            "login that gives no keys": ("[default]\n" + static("CRED"), "[default]\n" + login),
        }

    def variables(self):
        keys = {"AWS_ACCESS_KEY_ID": "AKIAENVIENVI", "AWS_SECRET_ACCESS_KEY": "S"}
        container = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": self.url + "/keys"}
        token = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(self.token), "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/w"}
        other = {"AWS_PROFILE": "other"}
        return [{}, keys, keys | {"AWS_SECRET_ACCESS_KEY": ""}, container, token | container, other, other | container, other | token,
                other | keys]

    def test_both_find_the_same_keys(self):
        wrong = []
        for (name, files), more, profile in itertools.product(self.files().items(), self.variables(), (None, "other")):
            for file, text in zip(("credentials", "config"), files):
                (self.aws / file).write_text(text)
                (self.aws / file).chmod(0o600)
            environment = {"PATH": "/usr/bin:/bin", "HOME": str(self.work), "AWS_EC2_METADATA_DISABLED": "true",
                           "AWS_ENDPOINT_URL_STS": self.url, "AWS_DEFAULT_REGION": "us-east-1"} | more
            self.botocore.stdin.write(json.dumps([environment, profile]) + "\n")
            self.botocore.stdin.flush()
            theirs = self.botocore.stdout.readline().strip()
            run = subprocess.run([harness.SKYVOL, "whoami", "--json", *(["-o", f"profile={profile}"] if profile else [])],
                                 env=environment, capture_output=True, text=True, timeout=60)
            ours = json.loads(run.stdout)["access_key"][-4:] if run.returncode == 0 else "error"
            missing = "AWS_PROFILE" in more and "[other]" not in files[0] and not any(line in files[1] for line in ("[profile other]", "[profile \"other\"]"))
            if ours != theirs and not (missing and theirs == "error" and ours == "ENVI"):
                wrong.append(f"{name}, {sorted(more)}, profile={profile}: botocore {theirs}, skyvol {ours} {run.stderr}")
        self.assertEqual(wrong, [])


if __name__ == "__main__":
    harness.main()
