#!/usr/bin/env bash
# The suite of names under stress, with a real Kubernetes API server: one address handed from pod to pod, thousands of pods
# elsewhere, a token that is renewed, an API server that hangs, hostile texts, and what is asked of the rest of the cluster.
# Needs root, and the lab built.
# shellcheck disable=SC2016 # what is expanded later stands in single quotes
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/checks.sh"

lab=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}
agent=$(dirname "$lab")/synspan
"$ROOT/scripts/kubernetes.sh" >/dev/null
control=$ROOT/scripts/kubernetes-control.sh
user=system:serviceaccount:synspan:synspan
export lab agent ROOT control user

# demo NAME [ARGS...]: the case, or what ARGS of `lab demo` say, with the lab's pods as the API server's.
demo() {
    local name=$1
    shift
    "$ROOT/scripts/with-kubernetes.sh" bash -euo pipefail -c '
        name=$1 && shift
        code=0
        "$ROOT/scripts/lab-kubernetes.sh" "$lab" demo "$@" >"$out/$name" 2>"$out/$name.log" || code=$?
        "$control" requests "$user" >"$out/$name.requests"
        "$control" requests >"$out/$name.all"
        exit "$code"' demo "$name" "$@" || {
        tail -n 20 "$out/$name.log"
        return 1
    }
}

# --- One address, many pods.
handover() {
    "$ROOT/scripts/with-kubernetes.sh" "$ROOT/scripts/lab-kubernetes.sh" "$lab" handover --times "${HANDOVERS:-200}" >"$out/handover" 2>&1 ||
        { cat "$out/handover" && return 1; }
}
check "an address is handed on ${HANDOVERS:-200} times under load: every attempt has the right pod, or none and is counted" handover
sed 's/^/      /' "$out/handover"

# --- A token that is renewed while it is used. The first ends after 40 s; the API server, killed and started again, knows
# it no more; the case runs while the agent comes back.
renewed='for _ in 1 2 3 4; do sleep 17; "$control" kubeconfig synspan synspan "$SYNSPAN_KUBE_DIR/agent.kubeconfig" 120s; done
    "$control" kill; ("$control" start >/dev/null 2>&1 &)'
token() { SYNSPAN_LAB_TOKEN=40s demo token --first "$renewed"; }
check "the case runs after the agent's token was renewed four times and the API server was started again" token
check "token: the names are the same" says token 'tcp connect +shop/vehicle-control'
check "token: the previous owner's too" says token 'previous owner: shop/cart'
check "token: none that has ended was used" says_not token.all '401$'

# --- An API server that takes connections and answers nothing.
check "the case runs while the API server hangs" demo hangs --first '"$control" pause; (sleep 8; "$control" resume) >/dev/null 2>&1 &'
check "hangs: the names are the same" says hangs 'tcp connect +shop/vehicle-control'
check "hangs: the previous owner's too" says hangs 'previous owner: shop/cart'

# --- What else of the cluster is asked for, where that is wanted.
outside() {
    local -x SYNSPAN_LAB_PREPARE='"$ROOT/tests/kubernetes/apply.sh" "$ROOT/tests/kubernetes/extra/outside.yaml"'
    SYNSPAN_LAB_NAMES_ALL=true SYNSPAN_LAB_RIGHTS=overlays/services SYNSPAN_LAB_SETTINGS='{"services": true}' demo outside
}
check "the case runs with Services watched" outside
check "services: a server outside is known by the Service whose slice names it" says outside '-> shop/telemetry-store '
check "services: they are watched once" says outside.requests '^ *1 .*watch.services.200$'
check "services: and their slices" says outside.requests '^ *1 .*watch.endpointslices.200$'
far() { SYNSPAN_LAB_SETTINGS='{"cluster_pods": true}' demo far --scenario reuse-two-nodes; }
check "the case between two nodes runs with all pods watched" far
check "cluster pods: the far side has its workload's name" says far 'tcp connect +shop/vehicle-control -> shop/account '
between() {
    "$ROOT/scripts/with-kubernetes.sh" "$ROOT/scripts/lab-kubernetes.sh" "$lab" run --family 4 reuse-two-nodes >"$out/between" 2>&1 ||
        { cat "$out/between" && return 1; }
}
check "which addresses other agents cover is learned of the nodes: the accepted connection is under the attempt" between

# --- Hostile texts.
hostile() { SYNSPAN_LAB_PREPARE='"$ROOT/tests/kubernetes/hostile.sh"' demo hostile; }
check "the case runs with hostile texts in labels and annotations" hostile
check "hostile: the name is there, with no escape and no line of its own" says hostile 'tcp connect .*evil.*quotes'
check "hostile: nothing that a terminal obeys is printed" says_not hostile $'\x1b|\x07|\u202e'

# --- Many pods.
many() {
    "$ROOT/scripts/with-kubernetes.sh" bash -euo pipefail -c '"$ROOT/tests/kubernetes/many-pods.sh" "$agent" >"$out/many"' || { cat "$out/many" && return 1; }
}
check "5,000 pods on 50 nodes: one list, one watch, this node's pods alone, under 8 MiB" many
sed 's/^/      /' "$out/many"

counted identity
