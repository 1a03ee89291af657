"""/v1 over a real server with TLS on a real Postgres: the plain walk through pools and addresses."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.manager import Served, serving


@pytest.fixture
def served(database_url: str, tmp_path: Path) -> Iterator[Served]:
    with serving(database_url, tmp_path) as found:
        yield found


def test_a_pool_gives_an_address_and_takes_it_back(served: Served) -> None:
    admin = served.login()
    made = admin.post("/v1/pools", json={"name": "p", "purpose": "Service", "prefixes": [{"prefix": "10.0.0.0/24"}]})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/v1/pools/p"

    first = admin.put("/v1/pools/p/allocations/web", json={})
    again = admin.put("/v1/pools/p/allocations/web", json={})
    held = admin.get("/v1/allocations", params={"pool": "p"}).json()["items"]
    released = admin.delete("/v1/pools/p/allocations/web")

    assert (first.status_code, again.status_code, released.status_code) == (201, 200, 204)
    assert first.json()["addresses"] == again.json()["addresses"]
    assert [each["address"] for each in held[0]["addresses"]] == [first.json()["addresses"][0]["address"]]
    assert admin.get("/v1/pools/p/allocations/web").status_code == 404
