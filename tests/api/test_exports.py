"""Formats as attachments, over HTTP: listed, downloaded, and held back as the images are."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from dataclasses import replace

from datagen.settings import Settings
from tests.api.conftest import Api, run_api

AT = "/datasets/small/versions/1"
OUTPUT = {"output": {"formats": ["webdataset", "imagefolder"], "shard_size": 32}}


def test_a_format_is_listed_and_downloaded(any_api: Api) -> None:
    api = any_api
    api.publish(OUTPUT)
    [found] = api.acme.get(f"{AT}/attachments").json()
    assert (found["kind"], found["file_name"]) == ("export", "imagefolder.tar")
    assert found["summary"] == {"format": "imagefolder", "num_images": 100}
    answer = api.acme.get(f"{AT}/objects/{found['object']}")
    assert (answer.status_code, len(answer.content)) == (200, found["size_bytes"])
    assert hashlib.sha256(answer.content).hexdigest() == found["sha256"]
    with tarfile.open(fileobj=io.BytesIO(answer.content)) as opened:
        assert sum(name.endswith(".png") for name in opened.getnames()) == 100
    part = api.acme.get(f"{AT}/objects/{found['object']}", headers={"Range": "bytes=100-199"})
    assert (part.status_code, part.content) == (206, answer.content[100:200])
    assert api.other.get(f"{AT}/objects/{found['object']}").status_code == 404


def test_the_policy_holds_it_back_as_it_does_the_images(settings: Settings) -> None:
    with run_api(replace(settings, pull_policy="approved")) as api:
        api.publish(OUTPUT)
        [found] = api.acme.get(f"{AT}/attachments").json()
        path, use = f"{AT}/objects/{found['object']}", "train triage models"
        refused = api.acme.get(path, params={"use": use})
        assert refused.status_code == 403
        assert "small@1 is a draft" in json.dumps(refused.json())
        api.acme.post(f"{AT}/approvals", json={"state": "approved", "use": use})
        assert api.acme.get(path, params={"use": use}).status_code == 200
        assert api.acme.get(path).status_code == 403
