"""Writes objects and their status to the API server of with-kubernetes.sh, as controllers and kubelets do, over
connections that stay open. The standard library is enough."""

import http.client
import json
import os
import queue
import re
import ssl
import subprocess
import sys
import threading
import urllib.parse

# Kind: path before the namespace, plural, whether it is in a namespace.
KINDS = {
    "Namespace": ("/api/v1", "namespaces", False),
    "Node": ("/api/v1", "nodes", False),
    "Pod": ("/api/v1", "pods", True),
    "Service": ("/api/v1", "services", True),
    "ServiceAccount": ("/api/v1", "serviceaccounts", True),
    "Deployment": ("/apis/apps/v1", "deployments", True),
    "ReplicaSet": ("/apis/apps/v1", "replicasets", True),
    "StatefulSet": ("/apis/apps/v1", "statefulsets", True),
    "DaemonSet": ("/apis/apps/v1", "daemonsets", True),
    "Job": ("/apis/batch/v1", "jobs", True),
    "CronJob": ("/apis/batch/v1", "cronjobs", True),
    "EndpointSlice": ("/apis/discovery.k8s.io/v1", "endpointslices", True),
}


class Refused(Exception):
    """The API server said no."""


def environment(name):
    """A variable of with-kubernetes.sh."""
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set: run this within scripts/with-kubernetes.sh")
    return value


class ApiServer:
    """One connection to the API server, as admin."""

    def __init__(self):
        url = urllib.parse.urlsplit(environment("SYNSPAN_KUBE_SERVER"))
        context = ssl.create_default_context(cafile=environment("SYNSPAN_KUBE_CA"))
        self.connection = http.client.HTTPSConnection(url.hostname, url.port, context=context, timeout=60)
        with open(environment("SYNSPAN_KUBE_DIR") + "/pki/tokens.csv", encoding="ascii") as tokens:
            self.token = tokens.readline().split(",")[0]

    def patch(self, path, body, kind, query):
        """A PATCH of that kind; gives back the object as it now is."""
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": f"application/{kind}"}
        self.connection.request("PATCH", f"{path}?fieldValidation=Strict&{query}", json.dumps(body), headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise Refused(f"PATCH {path}: {answer.status} {text.decode(errors='replace')}")
        return json.loads(text)

    def put(self, an_object):
        """Writes an object, then its status if it has one; gives back what the API server keeps."""
        prefix, plural, in_namespace = KINDS[an_object["kind"]]
        metadata = an_object["metadata"]
        if in_namespace:
            prefix += f"/namespaces/{metadata['namespace']}"
        path = f"{prefix}/{plural}/{metadata['name']}"
        status = an_object.get("status")
        body = {k: v for k, v in an_object.items() if k != "status"}
        kept = self.patch(path, body, "apply-patch+yaml", "fieldManager=kube-controller-manager&force=true")
        if status:
            # Merged and not applied: a node has two addresses of one type, which apply takes for one twice.
            kept = self.patch(path + "/status", {"status": status}, "merge-patch+json", "fieldManager=kubelet")
        return kept


def put_all(objects, workers):
    """Writes objects that do not depend on each other over that many connections; gives back how many."""
    waiting = queue.SimpleQueue()
    count = 0
    for an_object in objects:
        waiting.put(an_object)
        count += 1
    failures = []

    def work():
        server = ApiServer()
        while not failures:
            try:
                server.put(waiting.get_nowait())
            except queue.Empty:
                return
            except (OSError, http.client.HTTPException, Refused) as error:
                failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        sys.exit(str(failures[0]))
    return count


def read_yaml(file):
    """The objects in a file, read by kubectl, which does not ask the API server to keep them."""
    command = [environment("SYNSPAN_KUBE_KUBECTL"), "--kubeconfig", environment("SYNSPAN_KUBE_ADMIN_KUBECONFIG")]
    command += ["create", "--dry-run=client", "--output=json", "--filename", file]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{file}: {done.stderr}")
    # One object, or several, one after the other or in a List.
    text, decoder, objects = done.stdout.strip(), json.JSONDecoder(), []
    while text:
        found, end = decoder.raw_decode(text)
        objects += found["items"] if found["kind"] == "List" else [found]
        text = text[end:].strip()
    return objects


def apply(files):
    """Writes the objects of the files in their order. `${uid:KIND/NAME}` becomes the uid of one written before."""
    server, uids = ApiServer(), {}

    def uid(match):
        if match[1] not in uids:
            sys.exit(f"{match[0]}: no such object was written before")
        return uids[match[1]]

    for file in files:
        for an_object in read_yaml(file):
            an_object["metadata"].pop("creationTimestamp", None)
            whole = json.loads(re.sub(r"\$\{uid:([^}]+)\}", uid, json.dumps(an_object)))
            try:
                kept = server.put(whole)
            except Refused as error:
                sys.exit(f"{file}: {error}")
            metadata = kept["metadata"]
            uids[f"{kept['kind']}/{metadata['name']}"] = metadata["uid"]
            print(kept["kind"], metadata.get("namespace", "-"), metadata["name"], metadata["uid"])


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: apiserver.py FILE.yaml...")
    apply(sys.argv[1:])
