"""A real Prometheus scrapes the manager: without credentials on the port of its own, with an account's over TLS."""

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.support.serve_process import ServeProcess, free_port, managers

CONFIG = """
global: {{scrape_interval: 1s, scrape_timeout: 1s}}
scrape_configs:
  - job_name: open
    static_configs: [{{targets: ["{metrics}"]}}]
  - job_name: secured
    scheme: https
    tls_config: {{ca_file: {ca}}}
    basic_auth: {{username: admin, password: "{password}"}}
    static_configs: [{{targets: ["{secured}"]}}]
"""


@pytest.fixture(scope="module")
def manager() -> Iterator[ServeProcess]:
    """With two workers, whose numbers are to be one."""
    with managers() as made:
        yield made.start(made.folder / "data", "--metrics-listen", "127.0.0.1:0", "--web-workers", "2").ready()


@pytest.fixture(scope="module")
def prometheus(manager: ServeProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Its URL. It ends with the module."""
    folder = tmp_path_factory.mktemp("prometheus")
    config = folder / "prometheus.yml"
    metrics = manager.metrics_url.removeprefix("http://").removesuffix("/metrics")
    secured = manager.url.removeprefix("https://")
    config.write_text(CONFIG.format(metrics=metrics, ca=manager.data_dir / "ca.pem", password=manager.password, secured=secured))
    port = free_port()
    command = ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def asked(url: str, path: str, **query: str) -> Any:
    try:
        return httpx2.get(f"{url}{path}", params=query, trust_env=False, timeout=5).json()["data"]
    except httpx2.HTTPError:
        return None


def until(url: str, expression: str, limit: float = 40.0) -> dict[str, float]:
    """Until a query has a result for both jobs: the values by job."""
    for _ in range(int(limit / 0.2)):
        found = asked(url, "/api/v1/query", query=expression)
        if found is not None and len(found["result"]) == 2:
            return {each["metric"].get("job", ""): float(each["value"][1]) for each in found["result"]}
        time.sleep(0.2)
    raise AssertionError(f"{expression} has no result after {limit} s: {asked(url, '/api/v1/targets')}")


@pytest.mark.prometheus
def test_both_ways_to_the_metrics_are_scraped(prometheus: str) -> None:
    assert until(prometheus, "count by (job) (fabricmgr_gauges_up == 1)") == {"open": 1.0, "secured": 1.0}
    assert until(prometheus, "up == 1") == {"open": 1.0, "secured": 1.0}


@pytest.mark.prometheus
def test_requests_are_counted_over_all_workers(manager: ServeProcess, prometheus: str) -> None:
    for _ in range(12):
        with manager.client() as client:
            assert client.get("/v1/pools").status_code == 200

    counted = until(prometheus, 'sum by (job) (fabricmgr_http_requests_total{route="/v1/pools",status="200"}) >= 12')

    assert set(counted.values()) == {12.0}


@pytest.mark.prometheus
def test_no_metric_breaks_the_rules_that_promtool_knows(manager: ServeProcess) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.fail("prometheus comes without promtool")
    page = httpx2.get(manager.metrics_url, trust_env=False).content

    checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)

    assert checked.returncode == 0, checked.stderr.decode() + checked.stdout.decode()


def test_alert_rules_fire_as_their_examples_say() -> None:
    folder = Path(__file__).parents[2] / "deploy" / "monitoring"

    checked = subprocess.run(["promtool", "test", "rules", "alerts_test.yaml"], cwd=folder, capture_output=True, text=True, check=False)

    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert "SUCCESS" in checked.stdout
