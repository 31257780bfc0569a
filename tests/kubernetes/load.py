#!/usr/bin/env python3
"""Fills the API server of with-kubernetes.sh with nodes and running pods: load.py [--nodes 50] [--pods 100] (per node).

Nodes are load-node-0 and on, pods have owners, labels, annotations, two containers and a status, about what they have in
a cluster. Pod P of node N, from 0, has the addresses 10.(128 + N / 250).(N % 250).(P + 2) and fd00:10:100:N::(P + 2)."""

import argparse
import hashlib
import sys
import time

sys.dont_write_bytecode = True
import apiserver  # noqa: E402

START = "2026-11-20T08:00:00Z"
NAMESPACES = 10


def digest(text):
    """64 hexadecimal digits that follow from a text."""
    return hashlib.sha256(text.encode()).hexdigest()


def uid(text):
    """A uid that follows from a text."""
    d = digest(text)
    return f"{d[:8]}-{d[8:12]}-4{d[13:16]}-a{d[17:20]}-{d[20:32]}"


def node_addresses(node):
    """Of node N: 172.16+N/65536.N/256.N%256 and one of the other family."""
    return [f"172.{16 + node // 65536}.{node // 256 % 256}.{node % 256}", f"fd00:172:16::{node:x}"]


def node_object(node):
    """A node that is ready."""
    name = f"load-node-{node}"
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/arch": "amd64",
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "topology.kubernetes.io/region": "eu-central-1",
                "topology.kubernetes.io/zone": "eu-central-1" + "abc"[node % 3],
            },
        },
        "spec": {"podCIDRs": [f"10.{128 + node // 250}.{node % 250}.0/24", f"fd00:10:100:{node}::/64"],
                 "podCIDR": f"10.{128 + node // 250}.{node % 250}.0/24"},
        "status": {
            "addresses": [{"type": "InternalIP", "address": a} for a in node_addresses(node)],
            "capacity": {"cpu": "16", "memory": "64Gi", "pods": "250"},
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady", "message": "ready",
                            "lastHeartbeatTime": START, "lastTransitionTime": START}],
        },
    }


def pod_object(node, pod):
    """A pod of a deployment, running with a sidecar."""
    app = f"service-{pod}"
    template = digest(app)[:10]
    name = f"{app}-{template}-{digest(f'{node}/{pod}')[:5]}"
    images = {"app": f"registry.example/load/{app}:1.{pod}.0", "proxy": "registry.example/mesh/proxy:1.30.0"}
    addresses = [f"10.{128 + node // 250}.{node % 250}.{pod + 2}", f"fd00:10:100:{node}::{pod + 2}"]
    labels = {"app.kubernetes.io/name": app, "app.kubernetes.io/version": f"1.{pod}.0", "pod-template-hash": template}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": name,
            "generateName": f"{app}-{template}-",
            "namespace": f"load-{pod % NAMESPACES}",
            "labels": labels,
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090",
                            "checksum/config": digest(app + "config")},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": f"{app}-{template}",
                                 "uid": uid(app + template), "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": {
            "nodeName": f"load-node-{node}",
            "containers": [
                {
                    "name": container,
                    "image": image,
                    "env": [{"name": f"SETTING_{n}", "value": digest(f"{app}{n}")} for n in range(8)]
                    + [{"name": "POD_NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "ports": [{"name": container, "containerPort": 8080 if container == "app" else 15006}],
                    "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": container}, "periodSeconds": 10},
                }
                for container, image in images.items()
            ],
        },
        "status": {
            "phase": "Running",
            "startTime": START,
            "hostIP": node_addresses(node)[0],
            "hostIPs": [{"ip": a} for a in node_addresses(node)],
            "podIP": addresses[0],
            "podIPs": [{"ip": a} for a in addresses],
            "qosClass": "Burstable",
            "conditions": [
                {"type": t, "status": "True", "lastTransitionTime": START}
                for t in ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [
                {
                    "name": container,
                    "image": image,
                    "imageID": image.split(":", maxsplit=1)[0] + "@sha256:" + digest(image),
                    "containerID": "containerd://" + digest(name + container),
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "state": {"running": {"startedAt": START}},
                }
                for container, image in images.items()
            ],
        },
    }


def main():
    """Writes all, and says how long it took."""
    parser = argparse.ArgumentParser(description="Fill the API server with nodes and running pods")
    parser.add_argument("--nodes", type=int, default=50)
    parser.add_argument("--pods", type=int, default=100, help="pods on each node, up to 250")
    parser.add_argument("--connections", type=int, default=8)
    args = parser.parse_args()
    if not 0 < args.nodes <= 10_000 or not 0 < args.pods <= 250:
        parser.error("nodes are 1 to 10000, pods 1 to 250")
    before = time.monotonic()
    namespaces = ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": f"load-{n}"}} for n in range(NAMESPACES))
    apiserver.put_all(namespaces, 1)
    apiserver.put_all((node_object(n) for n in range(args.nodes)), args.connections)
    count = apiserver.put_all((pod_object(n, p) for n in range(args.nodes) for p in range(args.pods)), args.connections)
    print(f"{count} pods on {args.nodes} nodes in {time.monotonic() - before:.1f} s")


if __name__ == "__main__":
    main()
