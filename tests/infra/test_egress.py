"""Where a pod may go, by the network policies of each variant: what Kubernetes makes of them, for one packet."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from tests.infra.manifests import VARIANTS, kubernetes

PODS = {
    "worker": {"dask.org/component": "worker"},
    "job of a flow run": {"prefect.io/flow-run-id": "1"},
    "scheduler": {"dask.org/component": "scheduler"},
    "prefect worker": {"app.kubernetes.io/name": "prefect-worker"},
}
DNS = ("kube-system", {"k8s-app": "kube-dns"})
PREFECT = ("prefect", {"app": "prefect-server"})
OWN = ("reelflow", {"dask.org/component": "scheduler"})
NEIGHBOUR = ("default", {"app": "database"})

Target = str | tuple[str, dict[str, str]]
"""An address outside the cluster, or namespace and labels of a pod."""


def _selected(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    known = {"matchLabels", "matchExpressions"}
    assert set(selector) <= known, selector
    if any(labels.get(name) != value for name, value in selector.get("matchLabels", {}).items()):
        return False
    for wanted in selector.get("matchExpressions", ()):
        assert wanted["operator"] == "NotIn"
        if labels.get(wanted["key"]) in wanted["values"]:
            return False
    return True


def _is_target(peer: dict[str, Any], target: Target) -> bool:
    if "ipBlock" in peer:
        if not isinstance(target, str):
            return False
        address = ip_address(target)
        within = [address in ip_network(cidr) for cidr in (peer["ipBlock"]["cidr"], *peer["ipBlock"].get("except", ()))]
        return within[0] and not any(within[1:])
    if isinstance(target, str):
        return False
    namespace, labels = target
    place = {"kubernetes.io/metadata.name": namespace}
    there = _selected(peer["namespaceSelector"], place) if "namespaceSelector" in peer else namespace == "reelflow"
    return there and _selected(peer.get("podSelector", {}), labels)


def may_reach(variant: str, pod: dict[str, str], target: Target, port: int, protocol: str = "TCP") -> bool:
    """Kubernetes' rule: where any policy of egress selects a pod, only what one of them allows."""
    policies = [item["spec"] for item in kubernetes(variant) if item["kind"] == "NetworkPolicy"]
    mine = [spec for spec in policies if "Egress" in spec["policyTypes"] and _selected(spec["podSelector"], pod)]
    if not mine:
        return True
    return any(
        any(_is_target(peer, target) for peer in rule["to"])
        and any((e["port"], e.get("protocol", "TCP")) == (port, protocol) for e in rule.get("ports", [{"port": port}]))
        for spec in mine
        for rule in spec["egress"]
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pod", PODS)
def test_no_pod_reaches_the_metadata_of_the_cloud_or_a_neighbour(variant: str, pod: str) -> None:
    for address in ("169.254.169.254", "169.254.170.2", "fe80::a9fe:a9fe", "fd00:ec2::254"):
        for port in (80, 443, 8080):
            assert not may_reach(variant, PODS[pod], address, port), address
    for port in (80, 443, 5432, 6379):
        assert not may_reach(variant, PODS[pod], NEIGHBOUR, port)
        assert not may_reach(variant, PODS[pod], ("kube-system", {"app": "metrics"}), port)
    assert not may_reach(variant, PODS[pod], "93.184.216.34", 80)
    assert not may_reach(variant, PODS[pod], "93.184.216.34", 25)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("pod", ["worker", "job of a flow run"])
def test_what_reads_media_reaches_no_private_address(variant: str, pod: str) -> None:
    for address in ("10.0.0.1", "172.16.5.4", "192.168.1.1", "100.64.0.1", "168.63.129.16", "127.0.0.1", "fd00::1"):
        for port in (443, 6443):
            assert not may_reach(variant, PODS[pod], address, port), address


@pytest.mark.parametrize("variant", VARIANTS)
def test_everybody_reaches_what_they_need(variant: str) -> None:
    for pod in PODS.values():
        assert may_reach(variant, pod, DNS, 53, "UDP")
        assert may_reach(variant, pod, OWN, 8786)
    for name in ("worker", "job of a flow run", "prefect worker"):
        assert may_reach(variant, PODS[name], PREFECT, 4200)
        assert may_reach(variant, PODS[name], "52.216.1.1", 443)
        assert may_reach(variant, PODS[name], "2600:1fa0::1", 443)
    assert may_reach(variant, PODS["prefect worker"], "10.96.0.1", 443)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_scheduler_stays_inside(variant: str) -> None:
    assert not may_reach(variant, PODS["scheduler"], "52.216.1.1", 443)
    assert not may_reach(variant, PODS["scheduler"], PREFECT, 4200)


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_labels_are_those_of_the_pods(variant: str) -> None:
    """A policy that selects by a label which no pod carries would do nothing."""
    text = str([item for item in kubernetes(variant) if item["kind"] != "NetworkPolicy"])
    assert "'app.kubernetes.io/name': 'prefect-worker'" in text
    if variant == "keda":  # the operator labels its pods itself
        assert "'dask.org/component': 'scheduler'" in text
    [url] = {
        item["data"]["PREFECT_API_URL"]
        for item in kubernetes(variant)
        if item["kind"] == "ConfigMap" and "PREFECT_API_URL" in item["data"]
    }
    assert url == "http://prefect-server.prefect.svc.cluster.local:4200/api"
