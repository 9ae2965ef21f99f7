"""What is in deploy/ is whole: names that are used exist, and pods are as they say they are."""

import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from tests.environment import ROOT

COMPOSE = [ROOT / "docker-compose.yml", ROOT / "deploy" / "compose.ha.yml"]
KUBERNETES = ROOT / "deploy" / "kubernetes"
DEPLOYMENTS = ("web", "worker", "bridge")


# --- Compose --------------------------------------------------------------------------------------
def composed(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", COMPOSE, ids=lambda path: path.name)
def test_what_a_compose_file_names_is_in_it(path):
    found = composed(path)
    services, volumes = found["services"], set(found["volumes"])
    for name, service in services.items():
        for other, waits in service.get("depends_on", {}).items():
            assert other in services, f"{name} depends on {other}"
            if waits["condition"] == "service_healthy":
                assert services[other].get("healthcheck"), f"{other} has no health check"
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            if source.startswith("./"):
                assert (path.parent / source).exists(), source
            elif not source.startswith("$"):
                assert source in volumes, f"{name} uses {source}"


def test_more_than_one_of_everything_has_no_other_settings_than_one():
    """Every setting of the one file is in the other, but what speaks of transport."""
    one, many = (set(composed(path)["x-app"]["environment"]) for path in COMPOSE)
    assert one - many == {"CASSANDRA_PORT", "CASSANDRA_KEYSPACE", "ALLOW_HTTP"}
    demanded = set(re.findall(r"\$\{(\w+):\?", COMPOSE[1].read_text()))
    given = set(re.findall(r"^(\w+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    assert demanded - given == {"TLS_DIR"}


# --- Kubernetes -----------------------------------------------------------------------------------
def manifests() -> list[dict[str, Any]]:
    listed = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())["resources"]
    assert set(listed) == {p.name for p in KUBERNETES.iterdir()} - {"kustomization.yaml"}
    return [one for name in listed for one in yaml.safe_load_all((KUBERNETES / name).read_text())]


def named(kind: str, name: str) -> dict[str, Any]:
    [found] = [m for m in manifests() if m["kind"] == kind and m["metadata"]["name"] == name]
    return found


def pods() -> list[tuple[str, dict[str, Any]]]:
    kinds = ("Deployment", "Job")
    return [
        (one["metadata"]["name"], one["spec"]["template"])
        for one in manifests()
        if one["kind"] in kinds
    ]


@pytest.mark.parametrize("version", ["1.29", "1.37"])
def test_manifests_are_as_kubernetes_wants_them(version):
    for manifest in manifests():
        kubernetes_validate.validate(manifest, version, strict=True)


def test_what_kubernetes_does_not_know_is_found():
    web = named("Deployment", "web")
    web["spec"]["replica"] = 2
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(web, "1.37", strict=True)


def test_pods_run_without_rights_and_cannot_write_to_their_image():
    assert {name for name, _ in pods()} == {"web", "worker", "bridge", "setup"}
    for name, template in pods():
        pod = template["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, name
        [container] = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"], name
        assert container["resources"]["limits"]["memory"], name
        # The user is that of the image, and what it writes to is there.
        user = pod["securityContext"]["runAsUser"]
        dockerfile = (ROOT / "Dockerfile").read_text()
        assert f"--uid {user} " in dockerfile
        var_dir = re.search(r"VAR_DIR=(\S+)", dockerfile)[1]
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {var_dir, "/tmp"}


def test_names_that_manifests_use_are_those_of_others():
    for name, template in pods():
        [container] = template["spec"]["containers"]
        for source in container["envFrom"]:
            for kind, word in (("ConfigMap", "configMapRef"), ("Secret", "secretRef")):
                if word in source:
                    assert named(kind, source[word]["name"]), name
    labels = named("Deployment", "web")["spec"]["template"]["metadata"]["labels"]
    assert named("Service", "web")["spec"]["selector"] == labels
    assert named("Deployment", "web")["spec"]["selector"]["matchLabels"] == labels
    assert named("PodDisruptionBudget", "web")["spec"]["selector"]["matchLabels"] == labels
    scaled = named("HorizontalPodAutoscaler", "web")["spec"]["scaleTargetRef"]
    assert named(scaled["kind"], scaled["name"])
    [rule] = named("Ingress", "web")["spec"]["rules"]
    [path] = rule["http"]["paths"]
    assert named("Service", path["backend"]["service"]["name"])
    hosts = named("ConfigMap", "iotflow")["data"]["ALLOWED_HOSTS"].split(",")
    assert rule["host"] in hosts
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        [container] = named("Deployment", "web")["spec"]["template"]["spec"]["containers"]
        asked = container[probe]["httpGet"]
        assert asked["httpHeaders"] == [{"name": "Host", "value": hosts[0]}]
        assert asked["path"] == ("/health/ready" if probe == "readinessProbe" else "/health/live")


def test_manifests_set_only_what_the_application_reads():
    known = set(
        re.findall(r"^\| `(\w+)` \|", (ROOT / "docs/settings.md").read_text(), re.MULTILINE)
    )
    given = {*named("ConfigMap", "iotflow")["data"], *named("Secret", "iotflow")["stringData"]}
    assert given - known == set()
    secrets = named("Secret", "iotflow")["stringData"]
    assert all(
        "change-me" in value or name == "CASSANDRA_USERNAME" for name, value in secrets.items()
    )
