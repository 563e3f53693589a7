"""The plans that docs/volumes.md shows are what `skyvol plan` prints, asked of the strict fakes. SKYVOL_WRITE_DOCS=1 writes them anew."""

import json
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
import fakes
import harness
from test_providers import Desk

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "volumes.md"
BLOCK = r"(<!-- {} -->\n```[a-z]*\n).*?(```\n)"


class Plans(Desk):
    made = {}  # what a fake makes up anew each time -> what the document shows

    def shown(self, name, text):
        """What the document shows under this name is this text."""
        document = DOCUMENT.read_text()
        pattern = re.compile(BLOCK.format(name), re.S)
        self.assertEqual(len(pattern.findall(document)), 1, f"docs/volumes.md has no block named {name}")
        fresh = pattern.sub(lambda found: found[1] + text + found[2], document)
        if os.environ.get("SKYVOL_WRITE_DOCS"):
            DOCUMENT.write_text(fresh)
        else:
            self.assertEqual(document, fresh)

    def configuration(self, name):
        """The TOML of the document itself."""
        self.text = re.search(r"<!-- " + name + r" -->\n```toml\n(.*?)```\n", DOCUMENT.read_text(), re.S)[1]

    def printed(self):
        """The plan without its script, and the script from the first mount on; the fake's address is left out."""
        plan = self.plan()
        script = plan.pop("bootstrap")
        text = json.dumps(plan, indent=2) + "\n"
        lines = script[re.search(r"^(mount_bucket|mountpoint -q) '", script, re.M).start():]
        if getattr(self, "fake", None):
            text, lines = (part.replace(self.fake.url, "https://ENDPOINT") for part in (text, lines))
        for made, shown in self.made.items():
            text = text.replace(made, shown)
        return text, lines

    def both(self, name):
        text, lines = self.printed()
        self.shown(f"{name} plan", text)
        self.shown(f"{name} script", lines)

    def test_storages_of_their_own(self):
        self.environment |= {"R2_KEY": "AKEXAMPLE", "R2_SECRET": "not-a-real-secret"}
        self.configuration("storage")
        self.both("storage")

    def test_aws(self):
        fake = self.serve(fakes.Aws({"my-datasets": "eu-west-1", "my-experiments": "us-west-2"}))
        self.environment |= {"AWS_ENDPOINT_URL_IAM": fake.url, "AWS_ENDPOINT_URL_STS": fake.url, "AWS_ENDPOINT_URL_S3": fake.url,
                             "AWS_ACCESS_KEY_ID": fake.access, "AWS_SECRET_ACCESS_KEY": fake.secret,
                             "AWS_EC2_METADATA_DISABLED": "true"}
        self.configuration("aws")
        self.both("aws")
        self.assertEqual(fake.faults, [])

    def test_gcp(self):
        fake = self.serve(fakes.Google(["my-datasets", "my-experiments"]))
        host = fake.url.removeprefix("http://")
        self.environment |= {"STORAGE_EMULATOR_HOST": host, "GCE_METADATA_HOST": host, "GOOGLE_OAUTH_TOKEN_URL": fake.url + "/token"}
        self.configuration("gcp")
        self.good("prepare")
        access, = fake.left()
        self.made = {access: "GOOG1EEXAMPLE", fake.keys[access]["secret"]: "not-a-real-secret"}
        self.both("gcp")
        self.good("teardown")

    def test_hyperstack(self):
        fake = self.serve(fakes.Hyperstack(["my-datasets", "my-experiments"]))
        self.environment |= {"HYPERSTACK_API_KEY": fake.key, "HYPERSTACK_API_URL": fake.url + "/v1"}
        self.configuration("hyperstack")
        self.text += f'\n[providers.hyperstack]\nobject_storage_endpoint = "{fake.url}"\n'
        self.good("prepare")
        key = fake.keys[fake.left()[0]]
        self.made = {key["access_key"]: "AKEXAMPLE", key["secret_key"]: "not-a-real-secret"}
        self.both("hyperstack")
        self.good("teardown")

    def test_runpod(self):
        fake = self.serve(fakes.RunPod([{"id": "agv6w2qcg7", "name": "my-checkpoints", "size": 50, "dataCenterId": "EU-RO-1"}]))
        self.environment |= {"RUNPOD_API_KEY": fake.key, "RUNPOD_REST_URL": fake.url + "/v1"}
        self.configuration("runpod")
        self.both("runpod")
        self.assertEqual(fake.faults, [])


if __name__ == "__main__":
    harness.main()
