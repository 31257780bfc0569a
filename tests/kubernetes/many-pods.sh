#!/usr/bin/env bash
# many-pods.sh AGENT: what one agent takes in of 5,000 pods on 50 nodes, and what it holds. Within with-kubernetes.sh. Needs
# root and BPF: the agent attaches to a cgroup of its own, in which nothing runs, and to no interface.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/../../scripts/env.sh"

agent=$1
nodes=${NODES:-50} pods=${PODS:-100} seconds=${SECONDS_WATCHED:-10}
control=$ROOT/scripts/kubernetes-control.sh kubectl=$SYNSPAN_KUBE_KUBECTL user=system:serviceaccount:synspan:synspan
dir=$SYNSPAN_KUBE_DIR/many
mkdir "$dir"
python3 -B "$ROOT/tests/kubernetes/load.py" --nodes "$nodes" --pods "$pods"
"$kubectl" apply -k "$ROOT/k8s/base" >/dev/null
"$control" kubeconfig synspan synspan "$dir/kubeconfig" >/dev/null

cgroup=$(awk '$(NF - 2) == "cgroup2" { print $5; exit }' /proc/self/mountinfo)/synspan-many-$$
mkdir "$cgroup"
pid=
# shellcheck disable=SC2317
finish() {
    [ -z "$pid" ] || kill -KILL "$pid" 2>/dev/null || true
    rmdir "$cgroup"
    rm -f "$LOG"
}
trap finish EXIT

# run NAME KUBERNETES: starts the agent with that block, waits until it knows its pods and as long as asked, and prints its
# anonymous memory in KiB: what it holds. The program's own pages are its file's, and their number goes with the build.
run() {
    cat >"$dir/$1.yaml" <<CONFIG
exporters: {debug: {}}
service: {pipelines: {traces: {exporters: [debug]}}}
identity: {node_name: load-node-7}
capture: {cgroup: $cgroup, interfaces: {ignore: ["*"]}}
agent: {socket: $dir/$1.sock}
kubernetes: $2
CONFIG
    "$agent" run --config "$dir/$1.yaml" >"$dir/$1.out" 2>"$dir/$1.log" &
    pid=$!
    local i
    for ((i = 0; i < 300; i++)); do
        ! grep -q "$3" "$dir/$1.log" || break
        kill -0 "$pid" || { cat "$dir/$1.log" >&2 && die "the agent ended"; }
        sleep 0.1
    done
    sleep "$4"
    awk '$1 == "RssAnon:" { print $2 }' "/proc/$pid/status" >"$dir/$1.rss"
    kill -TERM "$pid"
    wait "$pid"
    pid=
}
run none '{enabled: false}' 'capture ready' 2
run few "{enabled: true, kubeconfig: $dir/kubeconfig}" 'names come from the Kubernetes API' "$seconds"

held=$(($(cat "$dir/few.rss") - $(cat "$dir/none.rss")))
known=$(sed -n 's/.*names come from the Kubernetes API pods=\([0-9]*\).*/\1/p' "$dir/few.log")
echo "pods in the cluster $((nodes * pods)), known to the agent $known"
echo "memory $held KiB more than without names"
"$control" requests "$user"
[ "$known" = "$pods" ] || die "the agent knows $known pods of its node's $pods"
[ "$held" -lt 8192 ] || die "that is over 8 MiB"
# Each watch names the node.
jq -r 'select(.user.username == $user and .objectRef.resource == "pods") | .requestURI' --arg user "$user" "$SYNSPAN_KUBE_AUDIT_LOG" |
    grep -v 'fieldSelector=spec.nodeName%3Dload-node-7' && die "pods of other nodes were asked for"
true
