"""A running little S3 (little_s3.py) for tests: Little() starts it, stop() ends it, control("fault", ...) commands it."""

import http.client
import json
import os
import pathlib
import subprocess
import sys

from s3 import S3

PROGRAM = pathlib.Path(__file__).resolve().parent / "little_s3.py"
ACCESS_KEY, SECRET_KEY, BUCKET = "little-access", "little-secret/+=", "test"


class Little:
    """Its bucket "test" is there. `s3` is another S3 client of it; options as on the command line, with underscores."""

    def __init__(self, **options):
        words = [sys.executable, str(PROGRAM), "--bucket", BUCKET, "--access-key", ACCESS_KEY, "--secret-key", SECRET_KEY]
        for name, value in options.items():
            words.append("--" + name.replace("_", "-"))
            if value is not True:
                words.append(str(value))
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline().split()
        if line[:1] != ["READY"]:
            raise RuntimeError(f"the little S3 did not start: {line}")
        self.port = int(line[1])
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.s3 = S3(self.endpoint, ACCESS_KEY, SECRET_KEY, options.get("region", "us-east-1"),
                     options.get("session_token"))
        self.environment = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}

    def ask(self, name, method="GET", value=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request(method, "/_control/" + name, None if value is None else json.dumps(value))
            answer = connection.getresponse()
            result = json.loads(answer.read())
        finally:
            connection.close()
        if answer.status != 200:
            raise ValueError(result["error"])
        return result

    def control(self, name, **value):
        """control("fault", op="PutObject", action="lose_reply", times=1) -> {"id": 1}; see little_s3.py --help."""
        return self.ask(name, "POST", value)

    def log(self, op=None):
        return [entry for entry in self.ask("log") if op in (None, entry["op"])]

    def violations(self):
        return self.ask("violations")

    def alive(self):
        return self.process.poll() is None

    def stop(self):
        if self.process.poll() is None:
            os.kill(self.process.pid, 15)
        self.process.wait(30)
        self.process.stdout.close()
