"""The examples of docs/api.md, run as they stand there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datagen.webhooks import new_secret, signature_headers
from tests.api.conftest import Api

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


def test_every_curl_line_is_answered_well(api: Api) -> None:
    if shutil.which("curl") is None and not os.environ.get("CI"):
        pytest.skip("curl is not installed")
    exports, *examples = blocks("sh")
    api.publish({"name": "toys"})
    functions = [line for line in exports.splitlines() if not line.startswith("export ")]
    assert len(examples) > 8
    # -u: a variable that an answer should have filled must not be missing.
    script = "\n".join(["set -euo pipefail", *functions, *examples])
    environ = {
        "PATH": os.environ["PATH"],
        "DATAGEN_API_URL": api.url,
        "DATAGEN_API_KEY": api.key("admin"),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        ["bash", "-c", script], env=environ, capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout[-2000:]
    assert api.acme.get("/jobs").json()["items"] != []
    assert "event: job.cancelled" in done.stdout


def test_every_path_of_the_page_exists(api: Api) -> None:
    def plain(path: str) -> str:
        return "/v1" + re.sub(r"\{[^}]*\}", "{}", path.removeprefix("/v1"))

    known = {plain(path) for path in api.app.openapi()["paths"]} | {"/v1", "/v1/openapi.json"}
    named = {plain(path) for path in re.findall(r"`(?:[A-Z]+ )?(/[a-z][^`? ]*)", PAGE)}
    assert len(named) > 15
    assert named - known == set()


def test_the_verification_example_accepts_what_we_sign_and_nothing_else() -> None:
    [example] = blocks("python")
    scope: dict[str, object] = {}
    exec(example, scope)
    verify = scope["verify"]
    assert callable(verify)
    secret, now = new_secret(), int(datetime.now(UTC).timestamp())
    headers = signature_headers(secret, event_id="evt_1", timestamp=now, body=b"{}")
    verify(secret, headers, b"{}")
    with pytest.raises(ValueError, match="not from datagen"):
        verify(secret, headers, b"{ }")
    old = signature_headers(secret, event_id="evt_1", timestamp=now - 999, body=b"{}")
    with pytest.raises(ValueError, match="too old"):
        verify(secret, old, b"{}")
