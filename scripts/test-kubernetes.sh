#!/usr/bin/env bash
# The suite with a real Kubernetes API server: the agent knows pods by it with the rights of its service account, asks
# no more than it says, and each of those rights is needed. Needs root, and the lab built.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/checks.sh"

lab=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}
"$ROOT/scripts/kubernetes.sh" >/dev/null
export lab ROOT

# run NAME [RESOURCE [ACTION]]: the case, with the service account's rights but for those to one resource, and something
# done to the API server as soon as the agent watches and has asked what else it needs.
# shellcheck disable=SC2016
run() {
    "$ROOT/scripts/with-kubernetes.sh" bash -euo pipefail -c '
        export SYNSPAN_LAB_WITHOUT=${2:-}
        "$ROOT/scripts/lab-kubernetes.sh" "$lab" demo >"$out/$1" 2>"$out/$1.log" &
        if [ -n "${3:-}" ]; then
            # By the log itself: a count takes so long on a busy machine that the case is over by then.
            asked="ResponseComplete.*system:serviceaccount:synspan:synspan.*\"resource\":\"replicasets\""
            until grep -q "$asked" "$SYNSPAN_KUBE_AUDIT_LOG"; do
                kill -0 $! || break
                sleep 0.1
            done
            for action in $3; do "$ROOT/scripts/kubernetes-control.sh" "$action"; done
        fi
        wait $!
        "$ROOT/scripts/kubernetes-control.sh" requests system:serviceaccount:synspan:synspan >"$out/$1.requests"' run "$@" || {
        tail -n 20 "$out/$1.log"
        return 1
    }
}
# asks FILE VERB RESOURCE CODE TIMES
asks() {
    awk -v verb="$2" -v resource="$3" -v code="$4" '$3 == verb && $4 == resource && $5 == code { n += $1 } END { print n + 0 }' \
        "$out/$1.requests" | grep -qx "$5" || { cat "$out/$1.requests" && return 1; }
}

check "the case runs with pods of the API server" run whole
check "the attempt is its Deployment's, by the API" says whole 'tcp connect +shop/vehicle-control'
check "the previous owner is its Deployment, by the API" says whole 'previous owner: shop/cart,'
check "nothing is refused with the rights there are" says_not whole.requests '40[0-9]'
check "pods are asked for once, in one watch that streams the list" asks whole watch pods 200 1
check "and are never listed besides" asks whole list pods 200 0
check "the node is asked for once" asks whole get nodes 200 1
check "the other nodes are listed once" asks whole list nodes 200 1
check "the cluster's namespace is asked for once" asks whole get namespaces 200 1
check "the ReplicaSet whose Deployment no name tells is asked for once" asks whole get replicasets 200 1

check "the case runs while the API server is killed and started again" run killed "" "kill start"
check "killed: the names are the same" says killed 'tcp connect +shop/vehicle-control'
check "killed: the previous owner's too" says killed 'previous owner: shop/cart,'
check "killed: the agent says so once, and that it is back" says killed.log 'cannot be asked for pods .*what is known stays known'
check "the case runs while old versions are compacted away and the API server is killed" run gone "" "compact kill start"
check "gone: the names are the same" says gone 'tcp connect +shop/vehicle-control'
check "gone: the previous owner's too" says gone 'previous owner: shop/cart,'

check "the case runs without the right to pods" run no-pods pods
check "pods: without that right the agent says so, and what it lacks" says no-pods.log 'cannot be asked for pods .*k8s/base'
check "pods: names are none, and no others" says_not no-pods 'shop/(vehicle-control|cart)'
check "the case runs without the right to nodes" run no-nodes nodes
check "nodes: without that right the agent says what is not told" says no-nodes.log 'does not tell of this node .*uid, zone and region are not told'
check "nodes: pods have their names all the same" says no-nodes 'previous owner: shop/cart,'
check "the case runs without the right to kube-system" run no-namespaces namespaces
check "namespaces: without that right the agent says what is not told" says no-namespaces.log 'kube-system .*k8s.cluster.uid is not told'
check "namespaces: pods have their names all the same" says no-namespaces 'previous owner: shop/cart,'
check "the case runs without the right to ReplicaSets" run no-replicasets replicasets
check "replicasets: without that right the agent says how pods are named" \
    says no-replicasets.log 'does not tell of ReplicaSets .*named by the ReplicaSet'
check "replicasets: the pod whose Deployment no name tells has the ReplicaSet's" \
    says no-replicasets 'previous owner: shop/cart-7b8d5f9c66,'
check "replicasets: and only that one" says no-replicasets 'tcp connect +shop/vehicle-control '

counted kubernetes
