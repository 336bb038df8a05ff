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

from pipeline.ingest.kinds.http import HttpOptions
from tests.deploy.test_compose import config_of

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text(encoding="utf-8"))
CONFIG = (FOLDER / "vedette.yaml").read_text(encoding="utf-8")
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
MADE_BY_HAND = {"vedette-tokens": {"act", "push"}, "vedette-database": {"url"}}
"""Secrets that nobody should commit, with their keys; the kustomization says how they are made."""


def manifests() -> Iterator[dict[str, Any]]:
    """Yield every object of the resources."""
    for name in KUSTOMIZATION["resources"]:
        yield from yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8"))


def named(kind: str) -> dict[str, dict[str, Any]]:
    """Return what the objects of a kind are to be, by name."""
    return {each["metadata"]["name"]: each["spec"] for each in manifests() if each["kind"] == kind}


DAEMON, INGEST = (named("StatefulSet")[name] for name in ("vedette", "vedette-ingest"))
TRAINING: dict[str, Any] = named("CronJob")["vedette-training"]["jobTemplate"]["spec"]
PODS = {"daemon": DAEMON["template"], "ingest": INGEST["template"], "training": TRAINING["template"]}
SETS = {"daemon": DAEMON, "ingest": INGEST}


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
    for name, of in SETS.items():
        assert labelled(of["selector"]["matchLabels"]) == {name}
        assert named("Service")[of["serviceName"]]["clusterIP"] == "None"
    monitors = {name: labelled(of["selector"]["matchLabels"]) for name, of in named("PodMonitor").items()}
    assert monitors == {"vedette": {"daemon"}, "vedette-ingest": {"ingest"}}
    assert labelled(named("PodDisruptionBudget")["vedette"]["selector"]["matchLabels"]) == {"daemon"}
    assert labelled(named("NetworkPolicy")["vedette"]["podSelector"]["matchLabels"]) == PODS.keys()
    assert {name: labelled(of["selector"]) for name, of in named("Service").items()} == {
        "vedette": {"daemon"}, "vedette-pods": {"daemon"}, "vedette-push": {"ingest"}, "vedette-ingest": {"ingest"},
    }  # fmt: skip


def test_ports_are_called_as_they_are_named() -> None:
    """Protects from probes, services, monitors and policies of a port that there is not."""
    config = config_of(FOLDER / "vedette.yaml")
    ports = {"daemon": {"http": config.http.port}, "ingest": {"http": config.ingest.http.port, "push": pushed().port}}
    for pod, names in ports.items():
        (container,) = PODS[pod]["spec"]["containers"]
        assert {port["name"]: port["containerPort"] for port in container["ports"]} == names
        for probe, path in (("startupProbe", "/livez"), ("livenessProbe", "/livez"), ("readinessProbe", "/readyz")):
            assert container[probe]["httpGet"] == {"path": path, "port": "http"}
    for of in named("Service").values():
        (pod,) = labelled(of["selector"])
        assert {port["targetPort"] for port in of["ports"]} <= ports[pod].keys()
    for of in named("PodMonitor").values():
        (pod,) = labelled(of["selector"]["matchLabels"])
        assert {end["port"] for end in of["podMetricsEndpoints"]} <= ports[pod].keys()
    (rule,) = named("NetworkPolicy")["vedette"]["ingress"]
    assert {port["port"] for port in rule["ports"]} == {name for names in ports.values() for name in names}


def pushed() -> HttpOptions:
    """Return the source that others push to."""
    (source,) = [one for one in config_of(FOLDER / "vedette.yaml").ingest.sources if isinstance(one, HttpOptions)]
    return source


def test_ingest_is_reached_from_other_pods_and_knows_its_senders() -> None:
    """Protects from a port that only the pod itself reaches, and from one that takes readings from everybody."""
    config = config_of(FOLDER / "vedette.yaml")
    assert {config.ingest.http.host, pushed().host} == {"0.0.0.0"}
    assert pushed().senders
    assert not pushed().open_to_all


def test_one_pod_brings_readings_and_its_spool_fits_its_volume() -> None:
    """Protects peers from being asked twice, and the disk: a spool that says when it is full must be full before it."""
    assert INGEST["replicas"] == 1
    (claim,) = INGEST["volumeClaimTemplates"]
    (size,) = re.fullmatch(r"(\d+)Gi", claim["spec"]["resources"]["requests"]["storage"]).groups()  # type: ignore[union-attr]
    assert config_of(FOLDER / "vedette.yaml").ingest.max_spool <= 0.8 * int(size) * 2**30


def test_each_process_is_found_by_the_rules() -> None:
    """Protects from monitors whose job lacks the word that the rules look for."""
    monitors = named("PodMonitor")
    assert monitors["vedette"]["jobLabel"] == "app.kubernetes.io/name"  # which is vedette
    (end,) = monitors["vedette-ingest"]["podMetricsEndpoints"]
    assert end["relabelings"] == [{"targetLabel": "job", "replacement": "vedette-ingest"}]


@pytest.mark.parametrize("name", PODS)
def test_volumes_exist_and_hold_what_the_configuration_writes(name: str) -> None:
    """Protects from pods that wait for a volume for ever, and from state in a place that is read-only or forgotten."""
    pod = PODS[name]["spec"]
    (container,) = pod["containers"]
    claims = [each["metadata"]["name"] for each in SETS[name]["volumeClaimTemplates"]] if name in SETS else []
    volumes = {each["name"]: each for each in pod["volumes"]} | {claim: {"name": claim} for claim in claims}
    mounted = {each["mountPath"]: each["name"] for each in container["volumeMounts"]}
    assert set(mounted.values()) == volumes.keys()
    config = config_of(FOLDER / "vedette.yaml")
    writable = [each["mountPath"] for each in container["volumeMounts"] if not each.get("readOnly")]
    database = Path(config.database.url.get_secret_value().removeprefix("sqlite:///"))
    places = [config.state, config.checkpoints.directory, config.models.directory, config.history.directory, database]
    if name == "ingest":
        places = [config.ingest.spool, config.state, database]
    else:
        places.append(Path(environment(container)["NUMBA_CACHE_DIR"]))
    for place in map(str, places):
        assert any(place == path or place.startswith(f"{path}/") for path in writable), place
    for volume in volumes.values():
        if "configMap" in volume:
            assert volume["configMap"]["name"] in {each["name"] for each in KUSTOMIZATION["configMapGenerator"]}
        if "secret" in volume:
            keys = set(re.findall(r"file:/run/secrets/vedette/(\w+)", CONFIG))
            assert keys == MADE_BY_HAND[volume["secret"]["secretName"]]
        if "persistentVolumeClaim" in volume:
            assert volume["persistentVolumeClaim"]["claimName"] in named("PersistentVolumeClaim")
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
    """Protects from a configuration that names a variable which no pod has; what has a default may come of a secret."""
    must, may = (set(re.findall(pattern, CONFIG)) for pattern in (r"\$\{(\w+)\}", r"\$\{(\w+):-"))
    assert must
    assert may
    for pod in PODS.values():
        variables = {each["name"]: each for each in pod["spec"]["containers"][0]["env"]}
        assert must | may <= variables.keys()
        for name in may:
            secret = variables[name]["valueFrom"]["secretKeyRef"]
            assert secret["optional"], "a pod without its secret would never start"
            assert secret["key"] in MADE_BY_HAND[secret["name"]]


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
    for of in SETS.values():
        assert of["template"]["spec"]["terminationGracePeriodSeconds"] > config.shutdown_timeout.total_seconds()
    assert config.kafka.instance == "vedette-0"


def test_kustomize_builds_it() -> None:
    """Protects from a kustomization that kubectl refuses; a change of the configuration rolls the pods."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(FOLDER)], capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    built = list(yaml.safe_load_all(done.stdout))
    (config,) = [each["metadata"]["name"] for each in built if each["kind"] == "ConfigMap"]
    pods = [each["spec"]["template"]["spec"] for each in built if each["kind"] == "StatefulSet"]
    assert len(pods) == len(SETS)
    for pod in pods:
        assert {"name": config} in [volume.get("configMap") for volume in pod["volumes"]]
    assert all(each["metadata"]["namespace"] == KUSTOMIZATION["namespace"] for each in built)
    assert not re.search(r"^\s+image: vedette", done.stdout, re.MULTILINE)
