"""Manifests against the real schemas: Kubernetes' own and the operator's, unknown keys refused."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from flows.runtime.dask_security import tls_environment
from tests.infra.manifests import INFRA, VARIANTS, kubernetes, pod_specs
from tests.source_tree import ROOT

OLDEST = "1.28"
"""Of the releases that the manifests are for; the newest that the schemas' package has is checked too."""

DASK = "kubernetes.dask.org/v1"
KEDA = "keda.sh/v1alpha1"

PODS = [(variant, name) for variant in VARIANTS for name in pod_specs(variant)]
OBJECTS = {
    f"{variant}/{item['kind']}/{item['metadata']['name']}": item for variant in VARIANTS for item in kubernetes(variant)
}


@cache
def _schema(kind: str) -> jsonschema.Draft202012Validator:
    folder = files("dask_kubernetes").joinpath("operator/deployment/helm/dask-kubernetes-operator/crds")
    definition = yaml.load(folder.joinpath(f"{kind.lower()}.yaml").read_text("utf-8"), Loader=yaml.CSafeLoader)
    schema = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return jsonschema.Draft202012Validator(_closed({"type": "object", **schema}))


def _closed(schema: Any) -> Any:
    """A schema that refuses what it does not know; the API server would drop it without a word."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and not schema.get("x-kubernetes-preserve-unknown-fields"):
        closed.setdefault("additionalProperties", False)
    if schema.get("x-kubernetes-int-or-string"):
        closed.pop("type", None)
    return closed


@pytest.mark.parametrize("name", [name for name, item in OBJECTS.items() if item["apiVersion"] not in (DASK, KEDA)])
def test_an_object_fits_the_schema_of_kubernetes(name: str) -> None:
    for version in (OLDEST, kubernetes_validate.latest_version()):
        assert kubernetes_validate.validate(OBJECTS[name], version, strict=True), "the version that it fits"


@pytest.mark.parametrize("name", [name for name, item in OBJECTS.items() if item["apiVersion"] == DASK])
def test_a_dask_object_fits_the_operators_own_schema(name: str) -> None:
    item = {key: value for key, value in OBJECTS[name].items() if key not in ("apiVersion", "kind", "metadata")}
    assert not [error.message for error in _schema(OBJECTS[name]["kind"]).iter_errors(item)]


def test_a_misspelt_key_would_be_found() -> None:
    group = yaml.safe_load(yaml.safe_dump(OBJECTS["operator/DaskWorkerGroup/reelflow-gpu"]))
    group["spec"]["worker"]["spec"]["containers"][0]["arg"] = []
    with pytest.raises(jsonschema.ValidationError):
        _schema("DaskWorkerGroup").validate({"spec": group["spec"]})


@pytest.mark.parametrize(("variant", "name"), PODS)
def test_a_pod_fits_kubernetes_and_may_run_in_a_restricted_namespace(variant: str, name: str) -> None:
    """The operator makes Deployments of its pod specs; its schema is of an old release, so they are checked as pods."""
    spec = pod_specs(variant)[name]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": spec}
    kubernetes_validate.validate(pod, kubernetes_validate.latest_version(), strict=True)
    security = spec["securityContext"]
    assert security["runAsNonRoot"]
    assert security["runAsUser"] == 10001
    assert security["seccompProfile"]["type"] == "RuntimeDefault"
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["readOnlyRootFilesystem"] is True
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert "memory" in container["resources"]["limits"]
        assert container["livenessProbe"]
        assert container["startupProbe"]
        assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
        ports = {port["name"] for port in container["ports"]}
        assert {probe["httpGet"]["port"] for key, probe in container.items() if key.endswith("Probe")} <= ports


@pytest.mark.parametrize("variant", VARIANTS)
def test_secrets_are_named_and_never_held(variant: str) -> None:
    assert not [item for item in kubernetes(variant) if item["kind"] == "Secret"]
    for spec in pod_specs(variant).values():
        for entry in spec["containers"][0].get("env", []):
            assert "secret" not in entry["name"].lower() or entry["value"] in (
                "reelflow",
                "PREFECT_API_KEY",
                "PREFECT_API_AUTH_STRING",
            )
    for item in kubernetes(variant):
        if item["kind"] == "ConfigMap":
            data = item["data"].items()
            secret = [k for k, v in data if "SECRET" in k or "PASSWORD" in k or (k.endswith("_KEY") and v[0] != "/")]
            assert not secret


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_named_is_there(variant: str) -> None:
    known = {(item["kind"], item["metadata"]["name"]) for item in kubernetes(variant)}
    for spec in pod_specs(variant).values():
        assert ("ServiceAccount", spec["serviceAccountName"]) in known
        for source in spec["containers"][0].get("envFrom", ()):
            if "configMapRef" in source:
                assert ("ConfigMap", source["configMapRef"]["name"]) in known
    [cluster] = {
        item["data"]["REELFLOW_DASK_ADDRESS"]
        for item in kubernetes(variant)
        if item["metadata"]["name"] == "reelflow" and item["kind"] == "ConfigMap"
    }
    # The operator names the Service after the cluster: {name}-scheduler.
    services = {name for kind, name in known if kind == "Service"}
    services |= {f"{name}-scheduler" for kind, name in known if kind == "DaskCluster"}
    assert cluster == f"tls://{services.pop()}:8786"
    assert not services


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_jobs_of_the_pool_find_what_they_name(variant: str) -> None:
    pool = yaml.safe_load((ROOT / "deployments" / "pools" / "kubernetes.yaml").read_text("utf-8"))
    known = {(item["kind"], item["metadata"]["name"]) for item in kubernetes(variant)}
    assert ("Namespace", pool["variables"]["namespace"]) in known
    assert ("ServiceAccount", pool["variables"]["service_account_name"]) in known
    [container] = pool["job"]["job_manifest"]["spec"]["template"]["spec"]["containers"]
    theirs = {source["secretRef"]["name"] for source in container["envFrom"] if "secretRef" in source}
    ours = pod_specs(variant)["Deployment/prefect-worker"]["containers"][0]["envFrom"]
    assert theirs == {source["secretRef"]["name"] for source in ours if "secretRef" in source}


@pytest.mark.parametrize("variant", VARIANTS)
def test_dask_speaks_to_who_has_the_certificate_only(variant: str) -> None:
    """Scheduler, workers, and the Jobs that run flows; the operator, which has none, asks in plain HTTP."""
    [tls] = [item["data"] for item in kubernetes(variant) if item["metadata"]["name"] == "reelflow-dask-tls"]
    assert tls == tls_environment(Path("/etc/reelflow/tls"))
    pool = yaml.safe_load((ROOT / "deployments" / "pools" / "kubernetes.yaml").read_text("utf-8"))
    pods = {name: spec for name, spec in pod_specs(variant).items() if "prefect-worker" not in name}
    assert len(pods) == 4
    for spec in (*pods.values(), pool["job"]["job_manifest"]["spec"]["template"]["spec"]):
        [container] = spec["containers"]
        assert {"configMapRef": {"name": "reelflow-dask-tls"}} in container["envFrom"]
        [mount] = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
        assert (mount["mountPath"], mount["readOnly"]) == ("/etc/reelflow/tls", True)
        assert [volume["secret"]["secretName"] for volume in spec["volumes"] if volume["name"] == "tls"] == [
            "reelflow-dask"
        ]
        assert "tcp://" not in str(spec)
        if container.get("args", [])[:2] == ["dask", "worker"]:
            assert {"name": "DASK_SCHEDULER_ADDRESS", "value": "tls://reelflow-scheduler:8786"} in container["env"]
    ports = {port["port"] for item in kubernetes(variant) if item["kind"] == "NetworkPolicy" for port in _ports(item)}
    assert ports == {8787}, "Dask's own port is for pods of the namespace"


def _ports(policy: dict[str, Any]) -> list[dict[str, Any]]:
    return [port for rule in policy["spec"].get("ingress", ()) for port in rule.get("ports", ())]


def test_a_worker_permits_nothing_beyond_jobs_and_their_pods() -> None:
    [role] = [item for item in kubernetes("keda") if item["kind"] == "Role"]
    assert not [item for item in kubernetes("keda") if item["kind"].startswith("ClusterRole")]
    for rule in role["rules"]:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
        assert "secrets" not in rule["resources"]


@pytest.mark.parametrize("resource", ["CPU", "GPU"])
def test_each_kind_of_worker_scales_with_its_own_demand(resource: str) -> None:
    name = f"dask-worker-{resource.lower()}"
    [scaled] = [
        item for item in kubernetes("keda") if item["kind"] == "ScaledObject" and item["metadata"]["name"] == name
    ]
    spec = scaled["spec"]
    assert spec["scaleTargetRef"] == {"name": name}
    assert 1 <= spec["minReplicaCount"] < spec["maxReplicaCount"]
    [trigger] = spec["triggers"]
    assert trigger["metadata"]["valueLocation"] == f"{resource}.tasks"
    assert trigger["metadata"]["url"].endswith(":8787/demand")
    deployment = pod_specs("keda")[f"Deployment/{name}"]
    assert f"{resource}=1" in deployment["containers"][0]["args"]
    assert "replicas" not in OBJECTS[f"keda/Deployment/{name}"]["spec"], "would fight with the scaler at each apply"


def test_only_gpu_workers_ask_for_a_gpu() -> None:
    for variant, name in PODS:
        [container] = pod_specs(variant)[name]["containers"]
        wants = "nvidia.com/gpu" in container["resources"]["limits"]
        assert wants == ("GPU=1" in container["args"]) == (container["image"] == "reelflow:gpu")


@pytest.mark.parametrize("variant", VARIANTS)
def test_kustomize_builds_each_variant(variant: str) -> None:
    if not shutil.which("kubectl"):
        pytest.skip("no kubectl here")
    build = ["kubectl", "kustomize", str(INFRA / "kubernetes" / variant)]
    done = subprocess.run(build, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    built = [item for item in yaml.safe_load_all(done.stdout) if item]
    assert len(built) == len(kubernetes(variant))
    assert {item["metadata"].get("namespace") for item in built} == {None, "reelflow"}
