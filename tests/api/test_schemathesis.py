"""Our OpenAPI document against our server, over PostgreSQL and S3: every check of schemathesis, on
valid and on broken requests, one by one and in sequences.

`make test` runs a sample, `make soak` about 2,800 cases, most of them from the coverage phase; as
does the following, with more of the random ones, by a number for each operation:

    SCHEMATHESIS_EXAMPLES=50 python -m pytest tests/api/test_schemathesis.py -s
"""

from __future__ import annotations

import os
import re
import subprocess
import sysconfig
from pathlib import Path

import pytest

from tests.api.conftest import Api

# A schema cannot say which models there are, whether a host can be reached, or what was revoked: a
# request that the document allows may be refused for that, with 422 to a POST, or 410.
CONFIG = """
[checks.positive_data_acceptance]
expected-statuses = ["2xx", "401", "403", "404", "409", "410", "429"]

[[operations]]
include-method = "POST"
checks.positive_data_acceptance.expected-statuses = [
    "2xx", "401", "403", "404", "409", "410", "422", "429"
]
"""
EXAMPLES = os.environ.get("SCHEMATHESIS_EXAMPLES", "2")  # of each operation and phase


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phases", "min_cases"),
    [
        ("examples,fuzzing", 100),
        pytest.param("examples,coverage,fuzzing,stateful", 2_000, marks=pytest.mark.soak),
    ],
)
def test_every_response_is_as_the_document_says_and_none_is_a_5xx(
    server_api: Api, tmp_path: Path, phases: str, min_cases: int
) -> None:
    server_api.publish()
    config = tmp_path / "schemathesis.toml"
    config.write_text(CONFIG)
    done = subprocess.run(
        [
            Path(sysconfig.get_path("scripts"), "schemathesis"),
            f"--config-file={config}",
            "run",
            f"{server_api.url}/v1/openapi.json",
            f"--header=Authorization: Bearer {server_api.key('admin')}",
            f"--max-examples={EXAMPLES}",
            "--checks=all",
            "--mode=all",
            f"--phases={phases}",
            "--continue-on-failure",
            "--suppress-health-check=all",
            "--generation-database=none",
            "--seed=1",
            "--no-color",
            "--request-timeout=60",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    report = done.stdout + done.stderr
    print(report[-3000:])
    assert done.returncode == 0, report[-20_000:]
    generated = re.search(r"([0-9,]+) generated", report)
    assert generated, report[-3000:]
    assert int(generated[1].replace(",", "")) >= min_cases
