"""S3 that refuses, withholds replies, corrupts bodies, or is gone for a while."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from tests.faults.conftest import DigestOf
from tests.faults.fleet import Fleet
from tests.faults.recipes import small_recipe
from tests.faults.s3_proxy import Faults, faulty_s3
from tests.servers import S3Server

FAULTS = {
    "5xx and SlowDown": Faults(refused=0.3),
    "no reply to what was done": Faults(dropped=0.3),
    "bodies changed on the way in": Faults(corrupt_reads=0.3),
    "bodies changed on the way out": Faults(corrupt_writes=0.3),
    "all of it": Faults(refused=0.1, dropped=0.1, corrupt_reads=0.1, corrupt_writes=0.1),
}


@pytest.mark.parametrize(
    "kind",
    ["all of it", *(pytest.param(k, marks=pytest.mark.soak) for k in FAULTS if k != "all of it")],
)
def test_a_store_that_fails_a_third_of_the_time_changes_no_byte(
    fleet: Fleet, digest_of: DigestOf, s3_server: S3Server, kind: str
) -> None:
    job = fleet.submit(small_recipe())
    with faulty_s3(s3_server.endpoint_url, FAULTS[kind], seed=1) as proxy:
        fleet.settings = replace(fleet.settings, s3_endpoint_url=proxy.url)
        fleet.start(job, num_workers=2)
        fleet.wait_ended(job)
        fleet.wait_exits()
    expected = {name for name, share in asdict(FAULTS[kind]).items() if share}
    assert {name for name in expected if not proxy.num_fired[name]} == set(), proxy.num_fired
    fleet.assert_published(job, digest_of(small_recipe()))


@pytest.mark.parametrize(
    "name", [pytest.param("generate.before_put", marks=pytest.mark.soak), "pack.before_put"]
)
def test_a_store_that_is_gone_for_a_while_is_waited_for(
    fleet: Fleet, digest_of: DigestOf, s3_server: S3Server, name: str
) -> None:
    """Longer than a lease, and than the store's own retries."""
    job = fleet.submit(small_recipe())
    with faulty_s3(s3_server.endpoint_url) as proxy:
        fleet.settings = replace(fleet.settings, s3_endpoint_url=proxy.url)
        fleet.start(job, failpoints=f"{name}=sleep:0.2*1")
        fleet.wait_fired(name)
        proxy.go_down(5.0)
        fleet.wait_ended(job)
    assert proxy.num_fired["down"] >= 3
    assert "StoreUnavailableError" in fleet.logs()
    fleet.assert_published(job, digest_of(small_recipe()))
