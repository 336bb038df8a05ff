"""The Kubernetes manifests belong together: names, labels, ports, volumes and the image they run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.test_compose import config_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
KINDS = {
    "ServiceAccount": "v1",
    "PersistentVolumeClaim": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
    "PodDisruptionBudget": "policy/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodMonitor": "monitoring.coreos.com/v1",
    "CronJob": "batch/v1",
}
"""Every kind in use, and the version of the API in which it is stable."""
MADE_BY_HAND = {"vedette-tokens"}
"""Secrets that nobody should commit; the kustomization says how they are made."""


def manifests() -> Iterator[dict[str, Any]]:
    """Yield every object of the resources."""
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


def one(kind: str) -> dict[str, Any]:
    """Return the only object of a kind."""
    (found,) = [each for each in manifests() if each["kind"] == kind]
    return found


DAEMON: dict[str, Any] = one("StatefulSet")["spec"]
TRAINING: dict[str, Any] = one("CronJob")["spec"]["jobTemplate"]["spec"]
PODS = {"daemon": DAEMON["template"], "training": TRAINING["template"]}


def labelled(selector: dict[str, str]) -> set[str]:
    """Return the pods that a selector finds."""
    return {name for name, pod in PODS.items() if selector.items() <= pod["metadata"]["labels"].items()}


def test_every_file_is_used_and_every_object_has_its_version() -> None:
    """Protects from manifests that nobody applies, kinds that the API has no more, and two of one name."""
    files = {path.name for path in FOLDER.glob("*.yaml")}
    configs = {file for generator in KUSTOMIZATION["configMapGenerator"] for file in generator["files"]}
    assert files == {"kustomization.yaml", *KUSTOMIZATION["resources"], *configs}
    assert {each["kind"]: each["apiVersion"] for each in manifests()} == KINDS
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests()]
    assert len(set(names)) == len(names)


def test_selectors_find_the_pods_that_they_mean() -> None:
    """Protects from services, budgets and monitors that find nothing, or the training as well."""
    assert labelled(DAEMON["selector"]["matchLabels"]) == {"daemon"}
    assert labelled(one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"]) == {"daemon"}
    assert labelled(one("PodMonitor")["spec"]["selector"]["matchLabels"]) == {"daemon"}
    assert labelled(one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"]) == {"daemon", "training"}
    services = {each["metadata"]["name"]: each["spec"] for each in manifests() if each["kind"] == "Service"}
    for service in services.values():
        assert labelled(service["selector"]) == {"daemon"}
    assert services[DAEMON["serviceName"]]["clusterIP"] == "None"


def test_ports_are_called_as_they_are_named() -> None:
    """Protects from probes and monitors of a port that there is not."""
    (container,) = DAEMON["template"]["spec"]["containers"]
    names = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert names == {"http": config_of(FOLDER / "vedette.yaml").http.port}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] in names
    assert container["livenessProbe"]["httpGet"]["path"] == "/livez"
    assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
    targets = [
        port["targetPort"] for each in manifests() if each["kind"] == "Service" for port in each["spec"]["ports"]
    ]
    monitored = [end["port"] for end in one("PodMonitor")["spec"]["podMetricsEndpoints"]]
    assert {*targets, *monitored} <= names.keys()


@pytest.mark.parametrize("name", PODS)
def test_volumes_exist_and_hold_what_the_configuration_writes(name: str) -> None:
    """Protects from pods that wait for a volume for ever, and from state in a place that is read-only or forgotten."""
    pod = PODS[name]["spec"]
    (container,) = pod["containers"]
    claims = [each["metadata"]["name"] for each in DAEMON["volumeClaimTemplates"]] if name == "daemon" else []
    volumes = {each["name"]: each for each in pod["volumes"]} | {claim: {"name": claim} for claim in claims}
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert set(mounted.values()) == volumes.keys()
    config = config_of(FOLDER / "vedette.yaml")
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    places = [config.state, config.checkpoints.directory, config.models.directory, config.history.directory]
    for place in [*map(str, places), environment(container)["NUMBA_CACHE_DIR"]]:
        assert any(place == path or place.startswith(f"{path}/") for path in writable), place
    for volume in volumes.values():
        if "configMap" in volume:
            assert volume["configMap"]["name"] in {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
        if "secret" in volume:
            assert volume["secret"]["secretName"] in MADE_BY_HAND
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] == one("PersistentVolumeClaim")["metadata"]["name"]
    assert mounted["/etc/vedette"] == "config"
    assert container["args"][container["args"].index("--config") + 1] == "/etc/vedette/vedette.yaml"


def environment(container: dict[str, Any]) -> dict[str, str]:
    """Return the variables that are set to a value."""
    return {each["name"]: each.get("value", "") for each in container["env"]}


@pytest.mark.parametrize("name", PODS)
def test_a_pod_may_do_nothing_that_it_need_not(name: str) -> None:
    """Protects the cluster: no root, no privileges, a read-only root, no token of Kubernetes."""
    pod = PODS[name]["spec"]
    (container,) = pod["containers"]
    user = (FOLDER.parent / "Dockerfile").read_text(encoding="utf-8").partition("USER ")[2].partition(":")[0]
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"]["readOnlyRootFilesystem"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert {"memory"} <= container["resources"]["limits"].keys()
    assert container["image"] in {image["name"] for image in KUSTOMIZATION["images"]}


def test_variables_of_the_configuration_are_set() -> None:
    """Protects from a configuration that names a variable which no pod has."""
    wanted = re.findall(r"\$\{(\w+)\}", (FOLDER / "vedette.yaml").read_text(encoding="utf-8"))
    assert wanted
    for pod in PODS.values():
        assert set(wanted) <= environment(pod["spec"]["containers"][0]).keys()


def test_the_training_has_a_gpu_and_the_daemon_does_not_train_as_well() -> None:
    """Protects from two trainings of the same stream, and from one on the processor that was meant for a GPU."""
    (container,) = TRAINING["template"]["spec"]["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
    config = config_of(FOLDER / "vedette.yaml")
    stream = config.stream(container["args"][container["args"].index("--stream") + 1])
    assert stream.retrain.every is None
    assert not stream.retrain.on_drift
    (rule, _) = TRAINING["podFailurePolicy"]["rules"]
    assert rule["onExitCodes"]["containerName"] == container["name"]


def test_a_stop_gets_the_time_that_it_takes() -> None:
    """Protects the last commit: Kubernetes waits longer than the daemon does, and its name in the group stays."""
    config = config_of(FOLDER / "vedette.yaml")
    assert DAEMON["template"]["spec"]["terminationGracePeriodSeconds"] > config.shutdown_timeout.total_seconds()
    assert config.kafka.instance == "vedette-0"


def test_kustomize_builds_it() -> None:
    """Protects from a kustomization that kubectl refuses; a change of the configuration rolls the pods."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    (config,) = [each["metadata"]["name"] for each in built if each["kind"] == "ConfigMap"]
    (daemon,) = [each["spec"]["template"]["spec"] for each in built if each["kind"] == "StatefulSet"]
    assert {"name": config} in [volume.get("configMap") for volume in daemon["volumes"]]
    assert all(each["metadata"]["namespace"] == KUSTOMIZATION["namespace"] for each in built)
    assert not re.search(r"^\s+image: vedette", done.stdout, re.MULTILINE)
