#!/usr/bin/env bash
# lab-kubernetes.sh LAB ARGS...: runs the lab with its pods as objects of a real Kubernetes API server, in cgroups named
# as containerd names them; the agent has the rights of its own service account and no others. In its environment:
#   SYNSPAN_LAB_RIGHTS      whose rights below k8s/ the agent has, base without
#   SYNSPAN_LAB_WITHOUT     a resource to which the agent has no right
#   SYNSPAN_LAB_PREPARE     a shell command to run when the objects are there
#   SYNSPAN_LAB_TOKEN       how long the agent's token holds, 1h without
#   SYNSPAN_LAB_SETTINGS    further keys of the agents' `kubernetes` block, as JSON
#   SYNSPAN_LAB_NAMES_ALL   true: the lab gives no names to the servers outside
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

[ -n "${SYNSPAN_KUBE_DIR:-}" ] || exec "$ROOT/scripts/with-kubernetes.sh" "${BASH_SOURCE[0]}" "$@"

kubectl=$SYNSPAN_KUBE_KUBECTL control=$ROOT/scripts/kubernetes-control.sh
# To standard error: the lab's own output is what is looked for.
"$ROOT/tests/kubernetes/apply.sh" >"$SYNSPAN_KUBE_DIR/objects"
bash -euc "${SYNSPAN_LAB_PREPARE:-true}" >>"$SYNSPAN_KUBE_DIR/objects"
# The account and the rights that k8s/ ships.
"$kubectl" apply -k "$ROOT/k8s/${SYNSPAN_LAB_RIGHTS:-base}" --dry-run=client -o json | jq --arg without "${SYNSPAN_LAB_WITHOUT:-}" '
    def without: map(select(.resources != [$without]));
    .items |= map(select(.kind | IN("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding")))
    | .items[] |= if .kind != "ClusterRole" then .
        elif $without != "" and (.rules | without) == .rules then error("the base gives no right to \($without)")
        else .rules |= without end' | "$kubectl" apply -f - >/dev/null
"$control" kubeconfig synspan synspan "$SYNSPAN_KUBE_DIR/agent.kubeconfig" "${SYNSPAN_LAB_TOKEN:-1h}" >/dev/null
# The lab's name of a pod is that of its first container, or in the annotation; its other containers are POD/CONTAINER.
"$kubectl" get pods -A -o json | jq --arg server "${SYNSPAN_KUBE_SERVER#https://}" --arg kubeconfig "$SYNSPAN_KUBE_DIR/agent.kubeconfig" \
    --argjson settings "${SYNSPAN_LAB_SETTINGS:-{\}}" --argjson names_all "${SYNSPAN_LAB_NAMES_ALL:-false}" '
    def slice($class): "kubepods-" + (if $class == "" then "" else $class + "-" end) + "pod" + (.metadata.uid | gsub("-"; "_")) + ".slice";
    def class: (.status.qosClass // "BestEffort") | if . == "Guaranteed" then "" else ascii_downcase end;
    def name: .metadata.annotations["lab.synspan/pod"] // .spec.containers[0].name;
    {server: $server, kubeconfig: $kubeconfig, settings: $settings, names_all: $names_all, cgroups: [
        .items[] | class as $class | name as $name | .spec.containers[0].name as $first | . as $pod
            | .status.containerStatuses[]? | select(.containerID) | . as $container | $pod | {
            key: ($name + if $container.name == $first then "" else "/" + $container.name end),
            value: ("kubepods.slice/" + (if $class == "" then "" else "kubepods-" + $class + ".slice/" end) + slice($class)
                + "/cri-containerd-" + ($container.containerID | sub("^containerd://"; "")) + ".scope"),
        }] | from_entries}' >"$SYNSPAN_KUBE_DIR/cluster.json"
SYNSPAN_LAB_CLUSTER=$SYNSPAN_KUBE_DIR/cluster.json "$@"
