"""Prometheus and Grafana ask for what the service really exposes, and find each other."""

import asyncio
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import promql_parser
import pytest
import yaml
from ferserve.lanes import Lane
from in_process import serving
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[2]
PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
GRAFANA = REPOSITORY / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "dashboards" / "ferserve.json").read_text())
CONFIG = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
(JOB,) = CONFIG["scrape_configs"]
(RULES,) = yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"]
COMPOSE = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]

BY_PROMETHEUS = {"job", "instance", *(rule["target_label"] for rule in JOB["relabel_configs"])}
"""Labels that Prometheus adds to every series."""

Labels = dict[str, set[str]]


def plain(query: str) -> str:
    """Fills in the dashboard's variables."""
    return (
        query.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$model", ".*")
    )


QUERIES = {
    f"{panel['title']} {target['refId']}": plain(target["expr"])
    for panel in PANELS
    for target in panel["targets"]
} | {rule["alert"]: rule["expr"] for rule in RULES["rules"]}


@pytest.fixture(scope="module")
def exposed(standin_models, grey_crop) -> Labels:
    """The labels of every series of ``/metrics``, by its name."""

    async def scrape() -> str:
        async with serving(standin_models) as client:
            for model in ("first", "second"):
                await client.post(f"/v1/emotion?model={model}", content=grey_crop)
            return (await client.get("/metrics")).text

    labels: Labels = {}
    for family in text_string_to_metric_families(asyncio.run(scrape())):
        for sample in family.samples:
            labels.setdefault(sample.name, set()).update(sample.labels)
    return labels


def nodes(query: str) -> list[promql_parser.Expr]:
    found: list[promql_parser.Expr] = []
    promql_parser.walk(promql_parser.parse(query), pre_visit=found.append)
    return found


def selectors(query: str) -> Iterator[promql_parser.VectorSelector]:
    for node in nodes(query):
        if isinstance(node, promql_parser.VectorSelector):
            yield node


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_what_is_exposed(name, exposed):
    known: set[str] = set(BY_PROMETHEUS)
    for selector in selectors(QUERIES[name]):
        if selector.name == "up":  # Prometheus' own
            continue
        assert selector.name in exposed
        labels = exposed[selector.name] | BY_PROMETHEUS
        assert {matcher.name for matcher in selector.matchers.matchers} <= labels
        known |= labels
    for node in nodes(QUERIES[name]):
        if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
            assert set(node.modifier.labels) <= known


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_means_what_it_says(name):
    for node in nodes(QUERIES[name]):
        if isinstance(node, promql_parser.MatrixSelector):  # rates are of what only grows
            assert re.search(r"_(total|sum|count|bucket)$", node.vector_selector.name)
        if isinstance(node, promql_parser.Call) and node.func.name == "histogram_quantile":
            assert "le" in node.args[1].modifier.labels
        if isinstance(node, promql_parser.VectorSelector):
            for matcher in node.matchers.matchers:
                assert matcher.name != "lane" or matcher.value in {lane.value for lane in Lane}


def test_legends_name_labels_that_the_query_keeps():
    for panel in PANELS:
        for target in panel["targets"]:
            kept: set[str] = set(BY_PROMETHEUS)
            for node in nodes(plain(target["expr"])):
                if isinstance(node, promql_parser.AggregateExpr) and node.modifier:
                    kept |= set(node.modifier.labels)
            assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= kept, panel["title"]


def test_the_dashboard_shows_what_the_operator_needs():
    asked = {selector.name for query in QUERIES.values() for selector in selectors(query)}
    assert {
        "ferserve_http_requests_total",
        "ferserve_http_request_duration_seconds_bucket",
        "ferserve_queue_seconds_bucket",
        "ferserve_inference_seconds_bucket",
        "ferserve_batch_faces_bucket",
        "ferserve_queue_faces",
        "ferserve_images_dropped_total",
        "ferserve_faces_dropped_total",
        "ferserve_model_info",
    } <= asked


def test_the_variables_are_filled_from_what_is_exposed(exposed):
    for variable in DASHBOARD["templating"]["list"]:
        name, label = re.fullmatch(
            r"label_values\((\w+)(?:\{.*\})?, (\w+)\)", variable["query"]["query"]
        ).groups()
        assert label in exposed[name] | BY_PROMETHEUS


def test_panels_lie_beside_each_other():
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def mounts(service: str) -> dict[str, Path]:
    """Folders of the repository, by where the service finds them."""
    volumes = COMPOSE["services"][service]["volumes"]
    pairs = [volume.split(":")[:2] for volume in volumes]
    return {inside: REPOSITORY / here for here, inside in pairs if here.startswith(".")}


def test_grafana_finds_its_files():
    found = mounts("grafana")
    assert found["/etc/grafana/provisioning"] == GRAFANA / "provisioning"
    (provider,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "dashboards" / "ferserve.yml").read_text()
    )["providers"]
    assert found[provider["options"]["path"]] == GRAFANA / "dashboards"
    home = COMPOSE["services"]["grafana"]["environment"][
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"
    ]
    assert (found[str(Path(home).parent)] / Path(home).name).is_file()


def test_grafana_finds_prometheus():
    (source,) = yaml.safe_load(
        (GRAFANA / "provisioning" / "datasources" / "prometheus.yml").read_text()
    )["datasources"]
    port = COMPOSE["services"]["prometheus"]["ports"][0].rpartition(":")[2]
    assert source["url"] == f"http://prometheus:{port}"
    assert source["jsonData"]["timeInterval"] == CONFIG["global"]["scrape_interval"]
    asked = re.findall(r'"uid": "([^"]+)"', json.dumps(DASHBOARD["panels"]))
    assert set(asked) == {source["uid"]}


def test_prometheus_finds_the_service_and_its_files():
    (discovery,) = JOB["dns_sd_configs"]
    for name in discovery["names"]:
        ports = COMPOSE["services"][name]["ports"]
        assert str(discovery["port"]) in {port.rpartition(":")[2] for port in ports}
    here = mounts("prometheus")["/etc/prometheus"]
    assert all((here / name).is_file() for name in ["prometheus.yml", *CONFIG["rule_files"]])
    (secret,) = COMPOSE["services"]["prometheus"]["secrets"]
    assert JOB["authorization"]["credentials_file"] == f"/run/secrets/{secret}"


@pytest.mark.skipif(not shutil.which("promtool"), reason="needs promtool, of Debian's prometheus")
@pytest.mark.parametrize(
    "arguments",
    [
        ["check", "config", "--syntax-only", PROMETHEUS / "prometheus.yml"],
        ["check", "rules", PROMETHEUS / "alerts.yml"],
        ["test", "rules", Path(__file__).with_name("alerts_test.yml")],
    ],
    ids=["configuration", "rules", "alerts fire"],
)
def test_promtool_agrees(arguments):
    checked = subprocess.run(["promtool", *arguments], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_every_alert_is_tested():
    cases = yaml.safe_load(Path(__file__).with_name("alerts_test.yml").read_text())["tests"]
    fired = {
        test["alertname"]
        for case in cases
        for test in case["alert_rule_test"]
        if test["exp_alerts"]
    }
    assert fired == {rule["alert"] for rule in RULES["rules"]}
