"""Models through the API: listed, registered from uploads that may be hostile, used, revoked."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from datagen.catalog.tenants import Quota, set_quota
from datagen.generators.model_directory import load_model, model_names
from tests.api.conftest import ACME, Api, recipe
from tests.generators.tiny_models import TINY, save_random_model

FILES = {"config": "config.json", "weights": "model.safetensors", "card": "README.md"}
TINY_RECIPE = {
    "name": "tiny",
    "classes": [{"name": "disc", "count": 5}, {"name": "bar", "count": 3}],
    "generator": {"model": "xray"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_random_model(tmp_path_factory.mktemp("models") / "xray", TINY["cgan"]).path


def contents(folder: Path) -> dict[str, bytes]:
    return {field: (folder / file).read_bytes() for field, file in FILES.items()}


def upload(client: httpx.Client, files: dict[str, bytes], *, name: str = "xray") -> httpx.Response:
    sent = {field: (FILES.get(field, field), data) for field, data in files.items()}
    return client.post("/models", data={"name": name}, files=sent)


def problem(response: httpx.Response) -> tuple[int, str]:
    assert response.headers["content-type"] == "application/problem+json", response.text
    return response.status_code, response.json()["type"].rpartition(":")[2]


def test_the_services_own_models_are_listed(api: Api) -> None:
    page = api.acme.get("/models", params={"limit": 1}).json()
    names = [model["name"] for model in page["items"]]
    while page["next_cursor"]:
        page = api.acme.get("/models", params={"limit": 1, "cursor": page["next_cursor"]}).json()
        names += [model["name"] for model in page["items"]]
    assert names == sorted(model_names([]))
    assert {"fashion-mnist-cgan", "mr-brain-edm", "noise", "pipeline"} <= set(names)
    found = api.acme.get("/models/fashion-mnist-cgan").json()
    assert found["num_classes"] == len(found["class_names"]) == 10
    assert found["training"]["data_sha256"]
    assert found["licence"]
    assert (found["registered"], found["revoked_at"]) == (False, None)
    assert problem(api.acme.get("/models/nothing")) == (404, "not-found")


def test_a_registered_model_makes_images(any_api: Api, folder: Path) -> None:
    api = any_api
    answer = upload(api.acme, contents(folder))
    assert answer.status_code == 201, answer.text
    model = answer.json()
    assert (model["name"], model["digest"]) == ("xray", load_model(folder).digest)
    assert (model["registered"], model["generator"]) == (True, "cgan")
    assert model["class_names"] == ["disc", "ring", "bar"]
    assert model == api.acme.get("/models/xray").json()
    assert "xray" in [each["name"] for each in api.acme.get("/models").json()["items"]]

    job = api.publish(TINY_RECIPE | {"image_size": [8, 12]})

    assert job["counts"]["disc"] == {"train": 4, "val": 1, "test": 0}
    actions = [row["action"] for row in api.acme.get("/audit").json()["items"]]
    assert "model.register" in actions


def test_the_same_model_again_is_the_same(api: Api, folder: Path) -> None:
    first = upload(api.acme, contents(folder))
    again = upload(api.acme, contents(folder))
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json() == again.json()


def test_another_model_of_a_name_is_its_next_version(
    api: Api, folder: Path, tmp_path: Path
) -> None:
    first = upload(api.acme, contents(folder)).json()
    other = save_random_model(tmp_path / "xray", TINY["cgan"], seed=1).path
    answer = upload(api.acme, contents(other))
    second = answer.json()
    assert (answer.status_code, first["version"], second["version"]) == (201, 1, 2)
    assert api.acme.get("/models/xray").json() == second
    assert api.acme.get("/models/xray@1").json() == first
    assert problem(api.acme.get("/models/xray@3")) == (404, "not-found")
    own = api.settings.models_dir  # names that no recipe could use are no harm
    save_random_model(own / "a@2", TINY["cgan"], seed=1)
    save_random_model(own / "Upper", TINY["cgan"], seed=2)
    limit = len(model_names([])) + 2  # a@2, those shipped, xray
    page = api.acme.get("/models", params={"limit": limit}).json()
    assert (page["items"][0]["name"], page["items"][0]["version"]) == ("a", 2)
    rest = api.acme.get("/models", params={"cursor": page["next_cursor"]}).json()["items"]
    assert [(m["name"], m["version"]) for m in page["items"][-1:] + rest] == [
        ("xray", 1),
        ("xray", 2),
    ]
    assert problem(api.acme.post("/models/xray/deprecate", json={"reason": "x"}))[0] == 409
    api.acme.post("/models/xray@2/deprecate", json={"reason": "blurred"})
    assert api.acme.get("/models/xray").json() == first
    assert upload(api.acme, contents(other)).status_code == 200
    assert problem(upload(api.acme, contents(other), name="noise")) == (409, "conflict")


def test_a_model_goes_once_nothing_depends_on_it(any_api: Api, folder: Path) -> None:
    api = any_api
    upload(api.acme, contents(folder))
    sizes = {"image_size": [8, 12]}
    api.publish(TINY_RECIPE | sizes)
    running = api.submit(TINY_RECIPE | sizes | {"name": "later"}, key="later")
    with api.client(api.key("submit")) as client:
        assert client.delete("/models/xray").status_code == 403
    assert problem(api.acme.delete("/models/noise")) == (409, "conflict")
    assert running["id"] in api.acme.delete("/models/xray").json()["detail"]
    api.acme.post(f"/jobs/{running['id']}/cancel")
    assert "tiny@1 depend" in api.acme.delete("/models/xray").json()["detail"]
    api.acme.post("/models/xray/deprecate", json={"reason": "old"})
    assert api.acme.delete("/models/xray").status_code == 204
    assert problem(api.acme.get("/models/xray")) == (404, "not-found")
    assert not list(api.store.list("acme/models/"))
    assert api.acme.get("/datasets/tiny/versions/1").status_code == 200
    actions = [row["action"] for row in api.acme.get("/audit").json()["items"]]
    assert "model.remove" in actions


def test_another_tenants_models_do_not_exist(api: Api, folder: Path, tmp_path: Path) -> None:
    upload(api.acme, contents(folder))
    assert problem(api.other.get("/models/xray")) == (404, "not-found")
    for action in ("deprecate", "revoke"):
        answer = api.other.post(f"/models/xray/{action}", json={"reason": "x"})
        assert problem(answer) == (404, "not-found")
    answer = api.other.post("/recipes/validate", json={"recipe": recipe_of("xray")})
    assert answer.json()["valid"] is False
    other = save_random_model(tmp_path / "xray", TINY["cgan"], seed=1).path
    assert upload(api.other, contents(other)).status_code == 201
    assert api.acme.get("/models/xray").json()["digest"] == load_model(folder).digest


def recipe_of(model: str) -> dict[str, Any]:
    return recipe(TINY_RECIPE | {"generator": {"model": model}})


class Bomb:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def changed(folder: Path, **changes: Any) -> dict[str, bytes]:
    files = contents(folder)
    files["config"] = json.dumps(json.loads(files["config"]) | changes).encode()
    return files


def refused(api: Api, files: dict[str, bytes], *, name: str = "xray") -> str:
    """422 that tells no path of the server, and nothing is left of the upload."""
    answer = upload(api.acme, files, name=name)
    assert problem(answer) == (422, "invalid"), answer.text
    detail = str(answer.json()["detail"])
    assert str(api.settings.home) not in answer.text
    assert [each.key for each in api.store.list("")] == []
    assert list((api.settings.home / "uploads").glob("*")) == []
    assert problem(api.acme.get("/models/xray")) == (404, "not-found")
    return detail


def test_a_pickle_is_refused_and_not_loaded(api: Api, folder: Path, tmp_path: Path) -> None:
    data = pickle.dumps(Bomb(tmp_path / "mark"))
    files = changed(folder, weights_sha256=hashlib.sha256(data).hexdigest()) | {"weights": data}
    assert "safetensors" in refused(api, files)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"generator": "os.system"}, "is not known"),
        ({"class_names": ["../a", "b", "c"]}, "class_names.0"),
        ({"network": {"target": "os.system"}}, "network.target"),
        ({"network": {"widths": [10**9, 10**9]}}, "network.widths.0"),
        ({"image_size": [10**6, 28]}, "image_size.0"),
        ({"weights_sha256": "0" * 64}, "swapped or damaged"),
        ({"extra": 1}, "extra"),
    ],
)
def test_a_wrong_config_is_refused(
    api: Api, folder: Path, changes: dict[str, Any], told: str
) -> None:
    assert told in refused(api, changed(folder, **changes))


@pytest.mark.parametrize(
    "config", [b"", b"not json", b"[" * 100_000, b'{"generator": NaN}', b"\xff"], ids=range(5)
)
def test_a_config_that_is_none_is_refused(api: Api, folder: Path, config: bytes) -> None:
    assert "config.json" in refused(api, contents(folder) | {"config": config})


def test_parts_of_the_wrong_size_are_refused(api: Api, folder: Path) -> None:
    whole = contents(folder)
    assert "config.json" in refused(api, whole | {"config": b" " * (2 << 20)})
    assert "README.md" in refused(api, whole | {"card": b"x" * (2 << 20)})
    cut = whole | {"weights": whole["weights"][:-5]}
    assert refused(api, cut)
    assert "model.safetensors is missing" in refused(
        api, {field: data for field, data in whole.items() if field != "weights"}
    )


@pytest.mark.parametrize("name", ["", "Upper", "../x", "a/b", "x" * 64, "a b", "-x", "x\0"])
def test_a_name_that_no_recipe_could_name_is_refused(api: Api, folder: Path, name: str) -> None:
    assert refused(api, contents(folder), name=name)


def test_a_form_that_is_none_is_refused(api: Api) -> None:
    assert problem(api.acme.post("/models", json={"name": "x"})) == (422, "invalid")
    assert api.acme.post("/models", content=b"x").status_code in (415, 422)
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    answer = api.acme.post("/models", content=b"--x\r\nnonsense", headers=broken)
    assert 400 <= answer.status_code < 500
    text_config = api.acme.post("/models", data={"name": "x", "config": "{}"})
    assert problem(text_config) == (422, "invalid")


def test_who_may_only_read_registers_nothing(api: Api, folder: Path) -> None:
    with api.client(api.key("read")) as client:
        assert upload(client, contents(folder)).status_code == 403
    with api.client() as client:
        assert upload(client, contents(folder)).status_code == 401


def test_a_deprecated_model_says_so_and_works_on(api: Api, folder: Path) -> None:
    upload(api.acme, contents(folder))
    answer = api.acme.post("/models/xray/deprecate", json={"reason": "use xray-2"})
    assert answer.json()["deprecated_reason"] == "use xray-2"
    assert api.acme.get("/models/xray").json()["deprecated_at"] is not None
    api.submit(TINY_RECIPE | {"image_size": [8, 12]})
    own = api.acme.post("/models/noise/deprecate", json={"reason": "x"})
    assert problem(own) == (409, "conflict")


def test_a_revoked_model_is_gone_with_all_that_it_made(any_api: Api, folder: Path) -> None:
    api = any_api
    digest = upload(api.acme, contents(folder)).json()["digest"]
    sizes = {"image_size": [8, 12]}
    made = api.publish(TINY_RECIPE | sizes)
    running = api.submit(TINY_RECIPE | sizes | {"name": "later"}, key="later")

    done = api.acme.post("/models/xray/revoke", json={"reason": "no consent"}).json()

    assert (done["kind"], done["digest"]) == ("model", digest)
    assert done["versions"] == [{"name": "tiny", "version": 1, "digest": made["digest"]}]
    assert done["jobs"] == [running["id"]]
    for path in ("/models/xray", "/datasets/tiny/versions/1"):
        answer = api.acme.get(path)
        assert problem(answer) == (410, "revoked")
        assert "no consent" in answer.json()["detail"]
    assert digest in api.acme.get("/models/xray").json()["detail"]
    assert api.acme.get(f"/jobs/{running['id']}").json()["state"] == "CANCELLED"
    body = {"recipe": recipe_of("xray") | sizes}
    again = api.acme.post("/jobs", json=body, headers={"Idempotency-Key": "n"})
    assert problem(again) == (410, "revoked")
    assert problem(upload(api.acme, contents(folder))) == (410, "revoked")
    assert problem(upload(api.acme, contents(folder), name="other")) == (410, "revoked")
    listed = {m["name"]: m["revoked_reason"] for m in api.acme.get("/models").json()["items"]}
    assert (listed["xray"], listed["noise"]) == ("no consent", None)


def test_a_shipped_model_is_revoked_for_one_tenant(api: Api) -> None:
    api.acme.post("/models/noise/revoke", json={"reason": "too noisy"})
    assert problem(api.acme.get("/models/noise")) == (410, "revoked")
    assert api.other.get("/models/noise").status_code == 200
    headers = {"Idempotency-Key": "k"}
    mine = api.acme.post("/jobs", json={"recipe": recipe()}, headers=headers)
    assert problem(mine) == (410, "revoked")
    assert api.other.post("/jobs", json={"recipe": recipe()}, headers=headers).status_code == 201


def test_an_upload_beyond_the_quota_of_bytes_is_refused(api: Api, folder: Path) -> None:
    files = contents(folder)
    size = sum(map(len, files.values()))
    set_quota(api.catalog, ACME, Quota(max_bytes=size - 1))
    assert problem(upload(api.acme, files)) == (429, "quota")
    assert not list(api.store.list("acme/models/"))
    set_quota(api.catalog, ACME, Quota(max_bytes=size))
    assert upload(api.acme, files).status_code == 201
    assert upload(api.acme, files).status_code == 200
    assert problem(upload(api.acme, files, name="second")) == (429, "quota")


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_weights_that_are_not_finite_are_refused(api: Api, folder: Path, number: float) -> None:
    files = contents(folder)
    data = files["weights"][:-4] + struct.pack("<f", number)
    broken = changed(folder, weights_sha256=hashlib.sha256(data).hexdigest()) | {"weights": data}
    answer = upload(api.acme, broken)
    assert problem(answer) == (422, "invalid")
    assert "not finite" in answer.json()["detail"]
    assert not list(api.store.list("acme/models/"))
