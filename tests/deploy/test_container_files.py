"""kuberay.yaml, compose.yaml and the Dockerfile by their structure: no Kubernetes and no container engine ran them."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from io import StringIO
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.clusters import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
Document = dict[str, Any]


def documents(name: str) -> list[Document]:
    """By a loader that refuses duplicate keys; anchors and merges resolved."""
    return list(YAML(typ="safe", pure=True).load_all(StringIO((DEPLOY / name).read_text())))


def kuberay() -> dict[str, Document]:
    return {found["kind"]: found for found in documents("kuberay.yaml")}


def compose() -> Document:
    [found] = documents("compose.yaml")
    return found


def pods(cluster: Document) -> dict[str, tuple[Document, Document]]:
    """Group name -> its parameters of `ray start` and its pod."""
    head = cluster["spec"]["headGroupSpec"]
    groups = {"head": head} | {group["groupName"]: group for group in cluster["spec"]["workerGroupSpecs"]}
    return {name: (group["rayStartParams"], group["template"]["spec"]) for name, group in groups.items()}


def kuberay_defects(found: Mapping[str, Document]) -> Iterator[str]:
    cluster, job = found["RayCluster"], found["RayJob"]
    if cluster["spec"].get("authOptions") != {"mode": "token"}:
        yield "the cluster asks for no token"
    if {document["apiVersion"] for document in (cluster, job)} != {"ray.io/v1"}:
        yield "not the operator's version"
    if found["PersistentVolumeClaim"]["spec"]["accessModes"] != ["ReadWriteMany"]:
        yield "the home is not shared"
    for name, (_, pod) in pods(cluster).items():
        [container] = pod["containers"]
        if not re.search(r":\d+\.\d+\.\d+$", container["image"]):
            yield f"{name}: the image is not pinned"
        if not pod["securityContext"].get("runAsNonRoot") or container["securityContext"]["allowPrivilegeEscalation"]:
            yield f"{name}: runs with a right it does not need"
        if not {"requests", "limits"} <= container["resources"].keys():
            yield f"{name}: says not what it needs"
        if "/mnt/ganstudy" not in [mount["mountPath"] for mount in container["volumeMounts"]]:
            yield f"{name}: the home is not mounted"
        if name != "head" and ("envFrom" in container or pod["automountServiceAccountToken"]):
            yield f"{name}: holds secrets of the head"
    if found["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"] != {"ray.io/is-ray-node": "yes"}:
        yield "the pods are open to others"
    if job["spec"]["clusterSelector"] != {"ray.io/cluster": cluster["metadata"]["name"]}:
        yield "the job is for another cluster"
    if job["spec"].keys() & {"backoffLimit", "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend"}:
        yield "the job uses what the operator refuses beside clusterSelector"


def compose_defects(found: Document) -> Iterator[str]:
    for name, service in found["services"].items():
        if not re.search(r":\d+\.\d+(\.\d+)?(-\w+)?$", service["image"]):
            yield f"{name}: the image is not pinned"
        if any(not str(port).startswith("127.0.0.1:") for port in service.get("ports", [])):
            yield f"{name}: is published beyond this machine"
        if "test" not in service.get("healthcheck", {}):
            yield f"{name}: has no health check"
        if service.get("cap_drop") != ["ALL"] or service.get("privileged"):
            yield f"{name}: runs with a right it does not need"
        if unknown := set(service.get("secrets", [])) - found["secrets"].keys():
            yield f"{name}: asks for the unknown secret {unknown}"
        for key, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN|SECRET", key) and "/run/secrets/" not in value and not key.endswith("_METHOD"):
                yield f"{name}: {key} is not a file"
        starts = " ".join(service.get("command", []))
        if "ray start" in starts and "RAY_AUTH_MODE=token exec ray start" not in starts:
            yield f"{name}: `ray start` is not under RAY_AUTH_MODE=token"
    if not all(set(secret) == {"file"} for secret in found["secrets"].values()):
        yield "a secret is no file"
    if not found["networks"]["cluster"]["internal"]:
        yield "the cluster's network is open"
    open_to_host = {name for name, service in found["services"].items() if "published" in service["networks"]}
    if open_to_host != {name for name, service in found["services"].items() if "ports" in service}:
        yield "a service is in the open network for nothing"


def test_kuberay_yaml_holds_to_the_rules() -> None:
    assert [document["kind"] for document in documents("kuberay.yaml")] == [
        "PersistentVolumeClaim",
        "NetworkPolicy",
        "RayCluster",
        "RayJob",
    ]
    assert list(kuberay_defects(kuberay())) == []
    versions = (REPOSITORY / "constraints.txt").read_text()
    assert f"ray=={kuberay()['RayCluster']['spec']['rayVersion']}\n" in versions


def worker(found: Document) -> Document:
    return found["RayCluster"]["spec"]["workerGroupSpecs"][0]["template"]["spec"]


@pytest.mark.parametrize(
    ("plant", "sentence"),
    [
        (lambda found: found["RayCluster"]["spec"].pop("authOptions"), "no token"),
        (lambda found: worker(found)["containers"][0].update(image="ganstudy:latest"), "not pinned"),
        (lambda found: worker(found).update(securityContext={}), "a right it does not need"),
        (lambda found: worker(found)["containers"][0].update(envFrom=[]), "secrets of the head"),
        (lambda found: worker(found)["containers"][0].update(volumeMounts=[]), "home is not mounted"),
        (lambda found: worker(found)["containers"][0].update(resources={}), "what it needs"),
        (lambda found: found["PersistentVolumeClaim"]["spec"].update(accessModes=["ReadWriteOnce"]), "not shared"),
        (lambda found: found["RayJob"]["spec"].update(backoffLimit=3), "refuses"),
        (lambda found: found["RayJob"]["spec"].update(clusterSelector={}), "another cluster"),
    ],
)
def test_a_planted_defect_of_kuberay_yaml_is_named(plant: Callable[[Any], object], sentence: str) -> None:
    found = copy.deepcopy(kuberay())
    plant(found)
    assert [defect for defect in kuberay_defects(found) if sentence in defect]


def test_compose_yaml_holds_to_the_rules() -> None:
    found = compose()
    assert set(found["services"]) == {"head", "worker", "mlflow", "postgres"}
    assert list(compose_defects(found)) == []
    assert found["services"]["mlflow"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}


@pytest.mark.parametrize(
    ("service", "change", "sentence"),
    [
        ("head", {"ports": ["8265:8265"]}, "published beyond"),
        ("mlflow", {"ports": ["0.0.0.0:5000:5000"]}, "published beyond"),
        ("worker", {"ports": ["127.0.0.1:1:1"]}, "for nothing"),
        ("postgres", {"image": "postgres:latest"}, "not pinned"),
        ("postgres", {"healthcheck": {}}, "no health check"),
        ("postgres", {"environment": {"POSTGRES_PASSWORD": "swordfish"}}, "not a file"),
        ("worker", {"privileged": True}, "a right it does not need"),
        ("worker", {"command": ["exec ray start --address=head:6379"]}, "not under RAY_AUTH_MODE"),
        ("head", {"secrets": ["token"]}, "unknown secret"),
    ],
)
def test_a_planted_defect_of_compose_yaml_is_named(service: str, change: Document, sentence: str) -> None:
    found = copy.deepcopy(compose())
    found["services"][service].update(change)
    assert [defect for defect in compose_defects(found) if sentence in defect]


def test_the_image_is_pinned_and_not_run_by_root() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith("FROM")] == ["FROM python:3.11.9-slim-bookworm"]
    assert [line.split()[1] for line in lines if line.startswith("USER")] == ["1000:1000"]
    [install] = [line for line in lines if "pip install" in line]
    assert "-c constraints.txt" in install
    assert "[cluster,server]" in install
    assert not [line for line in lines if re.match(r"(ENV|ARG)\b.*(PASSWORD|TOKEN=|SECRET)", line)]
    copied = [word for line in lines if line.startswith("COPY") for word in line.split()[1:-1]]
    assert all((REPOSITORY / word).exists() for word in copied)
