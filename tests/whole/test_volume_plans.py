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


class Mixed(Desk):
    """Volumes with a storage of their own beside volumes of the pool's provider: each bucket has its own endpoint and keys."""

    own = ("https://s3.own.example", "AKOWN", "own-secret")

    def setUp(self):
        super().setUp()
        self.environment |= {"OWN_KEY": self.own[1], "OWN_SECRET": self.own[2]}

    def volume(self, bucket, mount, storage=None):
        return f'[[pool.volumes]]\nbucket = "{bucket}"\nmount = "{mount}"\n' + (f'storage = "{storage}"\n' if storage else "")

    def storage(self, name="own", endpoint=own[0], key="OWN_KEY", secret="OWN_SECRET"):
        return (f'[storage.{name}]\nendpoint = "{endpoint}"\nregion = "eu-own-1"\naccess_key = {{ env = "{key}" }}\n'
                f'secret_key = {{ env = "{secret}" }}\n')

    def mounts(self):
        """What each link leads into: (bucket, endpoint, access key, secret key); None for keys that are not in the plan."""
        plan = self.plan()
        contents = {secret["path"]: secret["content"] for secret in plan["secrets"]}
        self.assertEqual(len(contents), len(plan["secrets"]), "two mounts with one file of keys")
        self.assertEqual(len({mount["dir"] for mount in plan["mounts"]}), len(plan["mounts"]))
        found = {}
        for link in plan["links"]:
            mount, = (m for m in plan["mounts"] if link["target"] == m["dir"] or link["target"].startswith(m["dir"] + "/"))
            pair = (None, None)
            if mount["credentials"] in contents:
                pair = re.fullmatch(r"\[default\]\naws_access_key_id = (\S+)\naws_secret_access_key = (\S+)\n",
                                    contents[mount["credentials"]]).groups()
                self.assertIn(mount["credentials"], mount["options"] + plan["bootstrap"])
            else:
                self.assertEqual(mount["credentials"], "role")
            found[link["mount"]] = (mount["bucket"], mount["endpoint"], *pair)
        self.assertEqual(len(contents), len({m["credentials"] for m in plan["mounts"]} & set(contents)), "keys that no mount has")
        return found

    def test_one_of_its_own_first_then_those_of_a_provider_with_a_role(self):
        fake = self.serve(fakes.Aws({"my-datasets": "eu-west-1", "my-experiments": "us-west-2"}))
        self.environment |= {"AWS_ENDPOINT_URL_IAM": fake.url, "AWS_ENDPOINT_URL_STS": fake.url, "AWS_ENDPOINT_URL_S3": fake.url,
                             "AWS_ACCESS_KEY_ID": fake.access, "AWS_SECRET_ACCESS_KEY": fake.secret,
                             "AWS_EC2_METADATA_DISABLED": "true"}
        self.text = ('[pool]\nprovider = "aws"\n' + self.volume("my-own", "/own", "own") + self.volume("my-datasets", "/data") +
                     self.volume("my-experiments", "/out") + self.volume("my-datasets", "/same", "own") + self.storage())
        self.assertEqual(self.mounts(), {
            "/own": ("my-own", *self.own), "/data": ("my-datasets", fake.url, None, None),
            "/out": ("my-experiments", fake.url, None, None), "/same": ("my-datasets", *self.own)})
        self.assertEqual({mount["dir"].rpartition("/")[2]: mount["region"] for mount in self.plan()["mounts"]},
                         {"my-own": "eu-own-1", "my-datasets": "eu-west-1", "my-experiments": "us-west-2",
                          "my-datasets@s3.own.example": "eu-own-1"})
        self.assertEqual(fake.faults, [])

    def test_one_of_its_own_first_then_those_of_a_provider_with_keys(self):
        fake = self.serve(fakes.Hyperstack(["my-datasets", "my-experiments"]))
        self.environment |= {"HYPERSTACK_API_KEY": fake.key, "HYPERSTACK_API_URL": fake.url + "/v1"}
        self.text = ('[pool]\nprovider = "hyperstack"\n' + self.volume("my-own", "/own", "own") + self.volume("my-datasets", "/data") +
                     self.volume("my-experiments", "/out") + self.volume("my-datasets", "/same", "own") + self.storage() +
                     f'[providers.hyperstack]\nobject_storage_endpoint = "{fake.url}"\n')
        self.good("prepare")
        key = fake.keys[fake.left()[0]]
        supplied = (fake.url, key["access_key"], key["secret_key"])
        self.assertEqual(self.mounts(), {"/own": ("my-own", *self.own), "/data": ("my-datasets", *supplied),
                                         "/out": ("my-experiments", *supplied), "/same": ("my-datasets", *self.own)})
        self.good("teardown")

    def test_two_pairs_of_keys_at_one_endpoint_are_two_mounts_of_the_bucket_with_two_secrets(self):
        self.environment |= {"OTHER_KEY": "AKOTHER", "OTHER_SECRET": "other-secret", "LAST_SECRET": "last-secret"}
        other, last = (self.own[0], "AKOTHER", "other-secret"), (self.own[0], "AKOWN", "last-secret")
        self.text = ("[pool]\n" + self.volume("b-one", "/a", "own") + self.volume("b-one", "/b", "other") + self.volume("b-one", "/c", "own") +
                     self.volume("b-one", "/d", "last") + self.volume("b-two", "/e", "other") + self.storage() +
                     self.storage("other", key="OTHER_KEY", secret="OTHER_SECRET") + self.storage("last", secret="LAST_SECRET"))
        self.assertEqual(self.mounts(), {"/a": ("b-one", *self.own), "/b": ("b-one", *other), "/c": ("b-one", *self.own),
                                         "/d": ("b-one", *last), "/e": ("b-two", *other)})
        self.assertEqual(len(self.plan()["mounts"]), 4)


if __name__ == "__main__":
    harness.main()
