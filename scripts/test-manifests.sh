#!/usr/bin/env bash
# The suite of what k8s/ ships: everything is applied to a real Kubernetes API server, which checks it strictly, and
# read back; the service account may do what is named and no more; the agent and the Collector take their
# configurations. Needs root (a network namespace), and the agent built.
#
# test-manifests.sh [SYNSPAN]
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

synspan=$(realpath -- "${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/synspan}")
otelcol=$("$ROOT/scripts/collector.sh")
[ -n "${SYNSPAN_KUBE_DIR:-}" ] || exec "$ROOT/scripts/with-kubernetes.sh" "${BASH_SOURCE[0]}" "$synspan"
. "$ROOT/scripts/checks.sh"
kubectl() { "$SYNSPAN_KUBE_KUBECTL" "$@"; }

# A copy, beside which kustomizations of a user's own lie, one for each component.
cp -r "$ROOT/k8s" "$out/k8s"
for component in "$out"/k8s/components/*; do
    mkdir "$out/k8s/with-${component##*/}"
    printf 'resources: [../base]\ncomponents: [../components/%s]\n' "${component##*/}" \
        >"$out/k8s/with-${component##*/}/kustomization.yaml"
done
cases=(base with-pod-namespaces with-selinux with-seccomp-unconfined)
cases+=(node-collector gateway-collector services old-kernel big-cluster)
# folder CASE: where its kustomization lies.
folder() { if [ -d "$out/k8s/$1" ]; then echo "$out/k8s/$1"; else echo "$out/k8s/overlays/$1"; fi; }

# apply CASE: as the README says; then what the API server holds is in CASE.json.
apply() {
    kubectl kustomize "$(folder "$1")" >"$out/$1.yaml"
    kubectl apply --server-side --validate=strict -k "$(folder "$1")" >"$out/applied" 2>&1 || { cat "$out/applied" && return 1; }
    ! grep -i warning "$out/applied" || return 1
    kubectl get -f "$out/$1.yaml" -o json >"$out/$1.json"
}
# take_away CASE: all but the namespace, which would stay: nobody here confirms that it is empty.
take_away() {
    kubectl delete --wait=false -f - >/dev/null < <(jq '.items |= map(select(.kind != "Namespace"))' "$out/$1.json")
}
# fact CASE JQ: whether it holds of what was read back; `agents` and `containers` are those of the agent.
fact() {
    jq -e '
        def of($kind): .items[] | select(.kind == $kind);
        def agents: [of("DaemonSet") | select(.metadata.labels["app.kubernetes.io/name"] == "synspan")];
        def pods: agents | map(.spec.template.spec);
        def containers: pods | map(.containers[]);
        def every(condition): length > 0 and all(.[]; condition);
        if '"$2"' then true else (agents, [of("ClusterRole")] | tostring) | halt_error(1) end' "$out/$1.json"
}
# capabilities CASE JSON: of the agent's containers, in their order; all others are dropped.
capabilities() {
    fact "$1" 'containers | every(.securityContext.capabilities.drop == ["ALL"])' &&
        fact "$1" '(containers | map(.securityContext.capabilities.add | sort)) == '"$2"
}
# rights CASE JSON: all rules of all roles there are of ours, exactly.
rights() {
    fact "$1" '[.items[] | select(.kind | test("Role$")) | [.kind, .metadata.name]] == [["ClusterRole", "synspan"]]' &&
        fact "$1" '[of("ClusterRole").rules[] | [.apiGroups, .resources, (.resourceNames // []), .verbs]] == '"$2" &&
        fact "$1" 'of("ClusterRoleBinding") | .roleRef.name == "synspan"
            and (.subjects | map([.kind, .namespace, .name])) == [["ServiceAccount", "synspan", "synspan"]]'
}
base='"BPF","DAC_READ_SEARCH","NET_ADMIN","PERFMON","SYSLOG","SYS_PTRACE"'
pods='[[""],["pods"],[],["list","watch"]]' nodes='[[""],["nodes"],[],["get","list"]]'
rest='[[""],["namespaces"],["kube-system"],["get"]],[["apps"],["replicasets"],[],["get"]]'

# What holds of every agent, whatever overlay it comes by.
common() {
    check "$1: no container is privileged, may gain rights, or write to its root" fact "$1" \
        '[.items[].spec.template.spec? | select(.) | .containers[], .initContainers[]?] | every(.securityContext
            | .privileged == false and .allowPrivilegeEscalation == false and .readOnlyRootFilesystem == true)'
    check "$1: the host's network and pid namespace, and names of the cluster" fact "$1" \
        'pods | every(.hostNetwork and .hostPID and .hostIPC != true and .dnsPolicy == "ClusterFirstWithHostNet")'
    check "$1: of the host only cgroups and tracefs, and nothing to write to but /run" fact "$1" \
        '(pods | every([.volumes[].hostPath.path | select(.)] == ["/sys/fs/cgroup", "/sys/kernel/tracing"]))
            and ([containers[].volumeMounts[] | select(.readOnly != true).mountPath] | unique) == ["/run"]
            and (pods | every(any(.volumes[]; .name == "run" and .emptyDir.sizeLimit == "1Mi")))'
    check "$1: every node, and never two agents on one" fact "$1" \
        '(pods | every(.tolerations == [{operator: "Exists"}] and .nodeSelector["kubernetes.io/os"] == "linux"
            and .priorityClassName == "system-node-critical"))
            and (agents | every(.spec.updateStrategy | .type == "RollingUpdate" and .rollingUpdate.maxSurge == 0))'
    check "$1: time to end, and filters taken away before" fact "$1" \
        '(pods | every(.terminationGracePeriodSeconds == 60)) and (containers | every(.lifecycle.preStop.exec.command
            == ["/synspan", "clean", "--running", "--config", "/etc/synspan/synspan.yaml"]))'
    check "$1: probes on the node's own loopback" fact "$1" \
        'containers | every([.startupProbe, .livenessProbe, .readinessProbe | .httpGet | [.host, .port, .path]]
            == [["127.0.0.1", 13134, "/livez"], ["127.0.0.1", 13134, "/livez"], ["127.0.0.1", 13134, "/readyz"]])'
    check "$1: nothing listens on a port of the node" fact "$1" 'containers | every(.ports == null)'
    check "$1: a token of an hour, and no other" fact "$1" \
        '(pods | every(.automountServiceAccountToken == false and .serviceAccountName == "synspan"
            and ([.volumes[].projected.sources[]?.serviceAccountToken | select(.)]
                == [{path: "token", expirationSeconds: 3600}])))
            and ([of("ServiceAccount").automountServiceAccountToken] | every(. == false))'
    check "$1: the node's name and address by the downward API" fact "$1" \
        'containers | every([.env[] | {key: .name, value: .valueFrom.fieldRef.fieldPath}] | from_entries
            | .NODE_NAME == "spec.nodeName" and .NODE_IP == "status.hostIP")'
    check "$1: memory has a limit, CPU has none" fact "$1" \
        'containers | every(.resources | .limits.memory != null and .limits.cpu == null and .requests.memory == "96Mi")'
    # shellcheck disable=SC2016
    check "$1: the configuration is that of a ConfigMap named by its hash" fact "$1" \
        '[of("ConfigMap") | select(.data["synspan.yaml"]).metadata.name] as $there
            | pods | every(any(.volumes[]; .configMap.name as $name | $name != null and any($there[]; . == $name)
                and ($name | test("^synspan(-[a-z]+)*-[a-z0-9]{10}$"))))'
}

for overlay in "${cases[@]}"; do
    check "$overlay: the API server takes it, strictly, and warns of nothing" apply "$overlay"
    common "$overlay"
    case $overlay in
        with-pod-namespaces) check "$overlay: the capabilities" capabilities "$overlay" "[[$base,\"SYS_ADMIN\"] | sort]" ;;
        old-kernel) check "$overlay: the capabilities" capabilities "$overlay" "[[$base], ([$base,\"SYS_RESOURCE\"] | sort)]" ;;
        *) check "$overlay: the capabilities" capabilities "$overlay" "[[$base]]" ;;
    esac
    case $overlay in
        services) check "$overlay: the rights" rights "$overlay" "[$pods,$nodes,$rest,[[\"\"],[\"services\"],[],[\"list\",\"watch\"]],[[\"discovery.k8s.io\"],[\"endpointslices\"],[],[\"list\",\"watch\"]]]" ;;
        big-cluster) check "$overlay: the rights" rights "$overlay" "[$pods,[[\"\"],[\"nodes\"],[],[\"get\"]],$rest]" ;;
        *) check "$overlay: the rights" rights "$overlay" "[$pods,$nodes,$rest]" ;;
    esac
    case $overlay in
        with-seccomp-unconfined) profile=Unconfined ;;
        *) profile=RuntimeDefault ;;
    esac
    check "$overlay: the seccomp profile is $profile" fact "$overlay" "pods | every(.securityContext.seccompProfile.type == \"$profile\")"
    take_away "$overlay"
done

check "with-selinux: its type" fact with-selinux 'pods | every(.securityContext.seLinuxOptions == {type: "spc_t"})'
check "old-kernel: a node gets one of the two, by its label" fact old-kernel \
    'agents | map({key: .metadata.name, value: .spec.template.spec}) | from_entries
        | length == 2 and .["synspan-old-kernel"].nodeSelector["synspan-kernel"] == "old"
        and .synspan.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms
            == [{matchExpressions: [{key: "synspan-kernel", operator: "NotIn", values: ["old"]}]}]'
check "old-kernel: neither selects the other's pods" fact old-kernel \
    '(agents | map(.spec.selector.matchLabels) | unique | length) == 2
        and (agents | every(.spec.selector.matchLabels == .spec.template.metadata.labels))'
check "old-kernel: what they share is there once" fact old-kernel \
    '[.items[] | select(.kind | IN("Namespace", "ServiceAccount", "ClusterRole", "ClusterRoleBinding")).kind] | length == 4'
# shellcheck disable=SC2016
check "gateway-collector: the Service finds the Collector's port" fact gateway-collector \
    '(of("Service").spec | [.selector, .ports[0].port, .ports[0].targetPort]) as [$selector, $port, $target]
        | of("Deployment").spec.template | .metadata.labels == $selector and $port == 4317
            and any(.spec.containers[].ports[]; .name == $target and .containerPort == 4317)'
for overlay in node-collector gateway-collector; do
    check "$overlay: the Collector is nobody's root, and has no rights and no token" fact "$overlay" \
        '[.items[] | select(.metadata.name | test("collector|gateway")).spec.template.spec | select(.)]
            | every(.securityContext.runAsNonRoot and .securityContext.seccompProfile.type == "RuntimeDefault"
                and .automountServiceAccountToken == false and all(.containers[]; .securityContext.capabilities == {drop: ["ALL"]}))'
    check "$overlay: its image is of the release that its configuration is checked against" fact "$overlay" \
        '[.items[].spec.template.spec? | select(.).containers[] | select(.name == "collector").image]
            | every(. == "otel/opentelemetry-collector-contrib:'"$(sed -n 's/^  version: //p' "$ROOT/otel-collector/build/builder.yaml")"'")'
done

# A change of the configuration rolls the pods.
renamed() {
    local before after
    before=$(kubectl kustomize "$out/k8s/base" | grep -E '^ +name: synspan-[a-z0-9]{10}$' | sort -u)
    cp -r "$out/k8s/base" "$out/k8s/changed"
    echo '# changed' >>"$out/k8s/changed/synspan.yaml"
    after=$(kubectl kustomize "$out/k8s/changed" | grep -E '^ +name: synspan-[a-z0-9]{10}$' | sort -u)
    printf '%s\n' "$before" "$after"
    [ -n "$before" ] && [ -n "$after" ] && [ "$before" != "$after" ]
}
check "another configuration has another name" renamed

# Without this the checks above would prove little.
misspelt() {
    sed 's/readOnlyRootFilesystem/readOnlyRootFileSystem/' "$out/base.yaml" >"$out/misspelt.yaml"
    ! kubectl apply --server-side --validate=strict --dry-run=server -f "$out/misspelt.yaml" >"$out/refused" 2>&1 || return 1
    grep 'readOnlyRootFileSystem' "$out/refused" || { cat "$out/refused" && return 1; }
}
check "the API server refuses a key that is misspelt" misspelt

# pods_of CASE: a Pod from each template, as a DaemonSet's controller would make it.
pods_of() {
    jq '.items |= map(select(.spec.template?) | {apiVersion: "v1", kind: "Pod", metadata: (.spec.template.metadata
        + {name: "try-\(.metadata.name)", namespace: .metadata.namespace}), spec: .spec.template.spec})' "$out/$1.json"
}
# admitted CASE: whether the API server would make its pods: pod security, priority, all fields.
admitted() {
    pods_of "$1" | kubectl create --dry-run=server --validate=strict -o name -f - >"$out/admitted" 2>&1 || { cat "$out/admitted" && return 1; }
    ! grep -i warning "$out/admitted" && grep -q ^pod/ "$out/admitted"
}
for overlay in "${cases[@]}"; do check "$overlay: its pods are admitted in the namespace" admitted "$overlay"; done
refused() {
    kubectl create namespace baseline >/dev/null
    kubectl label namespace baseline pod-security.kubernetes.io/enforce=baseline >/dev/null
    ! pods_of base | jq '.items[].metadata.namespace = "baseline"' | kubectl create --dry-run=server -f - >"$out/refused" 2>&1 || return 1
    cat "$out/refused"
    grep -q 'violates PodSecurity "baseline' "$out/refused"
}
check "pod security is on: without the namespace's label they are refused" refused

# What the service account may, beside what every account may.
apply base >/dev/null
may() { kubectl auth can-i --list --as="system:serviceaccount:$1" --namespace "${2:-synspan}" | tr -s ' ' | sed 's/ *$//' | sort; }
allowed() {
    for namespace in synspan kube-system shop; do
        comm -23 <(may synspan:synspan "$namespace") <(may synspan:nobody "$namespace") >"$out/allowed"
        diff - "$out/allowed" <<'END' || return 1
namespaces [] [kube-system] [get]
nodes [] [] [get list]
pods [] [] [list watch]
replicasets.apps [] [] [get]
END
    done
}
check "the service account may what is named, and nothing else" allowed
can_not() {
    local question answer
    for question in 'get pods' 'get pods --subresource=log' 'create pods --subresource=exec' 'get secrets' 'list secrets' \
        'list configmaps' 'watch nodes' 'get namespaces/default' 'list namespaces' 'list replicasets' 'list services' \
        'create events' 'patch pods' 'impersonate users' 'create serviceaccounts --subresource=token' 'get /metrics'; do
        # shellcheck disable=SC2086
        answer=$(kubectl auth can-i $question --as=system:serviceaccount:synspan:synspan -A 2>"$out/asked") || true
        [ "$answer" = no ] || { echo "$question: $answer" && cat "$out/asked" && return 1; }
    done
}
check "it may read no secret, log or other object, and change nothing" can_not

# The configurations, as the pods would find them, on nodes of either family. A warning is a mistake, too.
# configuration CASE KEY: writes it to CASE.KEY.
configuration() {
    jq -re --arg key "$2" '[.items[] | select(.kind == "ConfigMap").data[$key] | select(.)][0] // halt_error(1)' \
        "$out/$1.json" >"$out/$1.$2"
}
right() {
    configuration "$1" synspan.yaml || return 1
    NODE_NAME=node-a NODE_IP=$2 "$synspan" check "$out/$1.synspan.yaml" >"$out/checked" 2>&1 || { cat "$out/checked" && return 1; }
    cat "$out/checked"
    ! grep -q warning "$out/checked" && grep -qF "OTLP/gRPC to http://" "$out/checked"
}
for overlay in base node-collector gateway-collector services old-kernel big-cluster; do
    check "$overlay: the agent takes its configuration on a node with an IPv4 address" right "$overlay" 192.168.50.10
    check "$overlay: and with an IPv6 address" right "$overlay" fd00:192:168::a
done
# The program knows each command that the pods run.
knows() {
    jq -c '.items[] | select(.metadata.labels["app.kubernetes.io/name"] == "synspan").spec.template.spec | select(.).containers[]
        | .command + .args, .lifecycle.preStop.exec.command' "$out/base.json" >"$out/commands"
    [ "$(wc -l <"$out/commands")" = 2 ] || return 1
    while read -r command; do
        mapfile -t words < <(jq -r '.[]' <<<"$command")
        [ "${words[0]}" = /synspan ] && "$synspan" "${words[@]:1}" --help || return 1
    done <"$out/commands"
}
check "the agent knows the commands that its pod runs" knows

# The Collectors: their own word on their configuration; then each takes a span from the agent, with the configurations
# of both, on an address of each family. Nobody is behind it: what it took waits in its queue.
valid() {
    configuration "$1" otel.yaml || return 1
    NODE_IP=$2 BACKEND=backend.example:4317 "$otelcol" validate --config "$out/$1.otel.yaml"
}
# The ports are those that are shipped, so this is in a network of its own.
# shellcheck disable=SC2016
takes() {
    configuration "$1" otel.yaml && configuration "$1" synspan.yaml || return 1
    printf '%s\n' "127.0.0.1 localhost" "$2 synspan-gateway.synspan.svc" >"$out/hosts"
    NODE_NAME=node-a NODE_IP=$2 BACKEND=127.0.0.1:9 unshare --net --mount bash -euo pipefail -c '
        mount --bind "$1/hosts" /etc/hosts
        ip link set lo up
        "$3" --config "$1/$2.otel.yaml" >"$1/collector.log" 2>&1 &
        for ((i = 0; i < 100; i++)); do
            { : </dev/tcp/127.0.0.1/13133; } 2>/dev/null && break || sleep 0.1
        done
        "$4" check --send "$1/$2.synspan.yaml" || { tail -n 5 "$1/collector.log" && kill $! && exit 1; }
        kill $!
        wait $! || true' takes "$out" "$1" "$otelcol" "$synspan"
}
for overlay in node-collector gateway-collector; do
    check "$overlay: the Collector takes its configuration" valid "$overlay" 192.168.50.10
    check "$overlay: and with an IPv6 address" valid "$overlay" fd00:192:168::a
    check "$overlay: a span gets from the agent into it" takes "$overlay" 127.0.0.1
    check "$overlay: and on an IPv6 address" takes "$overlay" ::1
done

counted manifests
