#!/usr/bin/env bash
# What the agent does with the capabilities of its DaemonSet (tests/capabilities), and with one of them taken away: the
# verdicts of the lab, what doctor says is lost, how `synspan run` starts. Needs root, and the lab built.
# shellcheck disable=SC2016 # jq has variables of its own
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}
synspan=$(dirname -- "$lab")/synspan
table=$ROOT/tests/capabilities
[ "$(id -u)" = 0 ] || die "needs root"
# The agent finds its tracepoint there; it may not mount it itself, and the DaemonSet mounts the host's. In a namespace of
# mounts of our own, so that the machine stays as it is.
if [ ! -e /sys/kernel/tracing/events ]; then
    exec unshare --mount bash -c 'mount -t tracefs tracefs /sys/kernel/tracing && exec "$0" "$@"' "${BASH_SOURCE[0]}" "$@"
fi

. "$ROOT/scripts/checks.sh"
node=synspan-caps-$$
cgroup=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)/$node
agent=
clean_up() {
    [ -z "$agent" ] || kill -9 "$agent" 2>/dev/null || true
    ip netns del "$node" 2>/dev/null || true
    ip netns del "$node-pod" 2>/dev/null || true
    rmdir "$cgroup" 2>/dev/null || true
    rm -rf "$out" "$LOG"
}
trap clean_up EXIT

# A node of one interface, with connection tracking, and a pod that it drops what comes from to port 81.
mkdir "$cgroup"
ip netns add "$node"
ip netns add "$node-pod"
ip -n "$node" link set lo up
ip -n "$node" link add pod0 type veth peer name eth0 netns "$node-pod"
ip -n "$node" addr add 10.9.0.1/24 dev pod0
ip -n "$node" link set pod0 up
ip -n "$node-pod" addr add 10.9.0.2/24 dev eth0
ip -n "$node-pod" link set eth0 up
nsenter --net="/run/netns/$node" nft 'add table inet t; add chain inet t in { type filter hook input priority 0; }
    add rule inet t in ct state invalid accept; add rule inet t in tcp dport 81 drop'
config() { printf 'capture: {cgroup: %s, attach: %s}\nagent: {socket: %s/socket}\n' "$cgroup" "$1" "$out" >"$out/$1.yaml"; }
config auto
config clsact

all=$(sed -n 's/^\([A-Z_]\{1,\}\) .*/\1/p' "$table" | tr '[:upper:]\n' '[:lower:],' | sed 's/,$//')
without() { tr , '\n' <<<"$all" | grep -vx "$1" | paste -sd , -; }
# only LIST COMMAND...: runs it on the node with these capabilities, as a container runtime starts it.
only() {
    local list=-all
    [ -z "$1" ] || list=-all,+${1//,/,+}
    shift
    exec nsenter --net="/run/netns/$node" setpriv --bounding-set="$list" --inh-caps=-all --ambient-caps=-all --no-new-privs "$@"
}
doctor() { (only "$1" "$synspan" doctor --config "$out/auto.yaml" --json) >"$out/doctor" || true; }
# start LIST ATTACH: an agent, until it captures or has ended.
start() {
    : >"$out/log"
    (only "$1" "$synspan" run --config "$out/$2.yaml") >"$out/console" 2>"$out/log" &
    agent=$!
    for ((tries = 0; tries < 600; tries++)); do
        if grep -q 'capture ready' "$out/log" || ! kill -0 "$agent" 2>/dev/null; then return; fi
        sleep 0.1
    done
}
# stop SIGNAL: ends the agent, and says how it ended.
stop() {
    kill "-$1" "$agent" 2>/dev/null || true
    status=0
    # Bash says of one that was killed that it was.
    { wait "$agent" || status=$?; } 2>/dev/null
    agent=
}
# Each says what it looked at where it finds it otherwise.
# holds JQ [ARGS...]: what doctor said fits.
holds() { jq -e "$@" "$out/doctor" >/dev/null || { jq -c . "$out/doctor" && return 1; }; }
ended() { [ "$status" = "$1" ] || { echo "status $status" && cat "$out/log" && return 1; }; }

# The list itself.
manifest=$ROOT/k8s/base/daemonset.yaml
added() {
    awk '/^ *add: *\[/ { sub(/.*\[/, ""); sub(/\].*/, ""); gsub(/, */, "\n"); print; next }
        /^ *add: *(#.*)?$/ { on = 1; next } on && /^ *- *"?[A-Z_]+/ { gsub(/"/, ""); print $2; next }
        on && /^ *(#.*)?$/ { next } { on = 0 }' "$manifest" | tr '[:upper:]' '[:lower:]' | sed '/^$/d' | sort
}
same() { diff <(added) <(tr , '\n' <<<"$all" | sort); }
[ ! -e "$manifest" ] || check "k8s/base names these capabilities and no others" same

# The verdicts: one that rests on sockets and interfaces, on connection tracking, on the kernel's drops, on a listener's
# queue, on what connect() returns.
check "with the DaemonSet's capabilities the verdicts are the same" env SYNSPAN_LAB_CAPABILITIES="$all" \
    "$lab" run --family 4 --parallel 2 reuse-never-closed conntrack-full dropped-prerouting accept-queue-late ephemeral-exhausted
check "with CAP_SYS_ADMIN, too, full accept queues of pods are told of connects from outside" \
    env SYNSPAN_LAB_CAPABILITIES="$all,sys_admin" "$lab" run --family 4 --parallel 2 accept-queue-full

doctor "$all"
check "doctor: all of them: the mode is full but for the network namespaces of pods" \
    holds '.works and .lowered == ["sockets in other network namespaces"]'
check "doctor: and CAP_SYS_ADMIN is what that takes" holds --arg words "the network namespaces of pods" \
    '.checks[] | select(.name == "CAP_SYS_ADMIN") | .status == "warn" and (.lost | contains($words))'

# One taken away.
while read -r capability runs words; do
    case $capability in '' | '#'*) continue ;; esac
    lower=${capability,,}
    list=$(without "$lower")
    doctor "$list"
    check "doctor: without CAP_$capability: $words" holds --arg name "CAP_$capability" --arg words "$words" \
        '.checks[] | select(.name == $name) | .status != "ok" and (.lost | contains($words))'
    start "$list" auto
    case $runs in
        runs)
            check "doctor: without CAP_$capability the agent works" holds .works
            check "run: without CAP_$capability it says so in one line" says log "WARN CAP_$capability is not held; lost: $words"
            stop TERM
            check "run: without CAP_$capability it ends as always" ended 0
            ;;
        refuses)
            check "doctor: without CAP_$capability nothing works" holds '.works | not'
            stop TERM
            check "run: without CAP_$capability it refuses" ended 1
            check "run: without CAP_$capability it says why" says log "ERROR cannot load the eBPF programs \(not held: CAP_$capability\)"
            check "run: without CAP_$capability that is all it says" test "$(wc -l <"$out/log")" = 1
            ;;
    esac
done <"$table"
doctor "$(without syslog)"
check "doctor: without CAP_SYSLOG the kernel hides its symbols" \
    holds '.checks[] | select(.name == "kernel symbols") | .status == "missing"'

# What CAP_SYS_PTRACE buys: a process of another user, whose executable has another name than it goes by.
ln -s "$(command -v bash)" "$out/app"
chmod 755 "$out"
named() {
    start "$1" auto
    (
        echo "$BASHPID" >"$cgroup/cgroup.procs"
        exec nsenter --net="/run/netns/$node-pod" setpriv --reuid=65534 --regid=65534 --clear-groups \
            timeout 5 "$out/app" -c 'exec 3<>/dev/tcp/10.9.0.1/81'
    ) 2>/dev/null || true
    for ((tries = 0; tries < 100; tries++)); do
        "$synspan" attempts --json --socket "$out/socket" >"$out/attempts" 2>/dev/null && [ -s "$out/attempts" ] && break
        sleep 0.1
    done
    stop TERM
    jq -r '"\(.client.name) \(.client.executable) \(.cause)"' "$out/attempts" | grep -x "$2" || { cat "$out/attempts" && return 1; }
}
check "with CAP_SYS_PTRACE another user's process has its executable" named "$all" "bash bash dropped_in_node"
check "without it, the name it goes by" named "$(without sys_ptrace)" "app null dropped_in_node"

# Filters at clsact, as on kernels below 6.6, without the right to look programs up by their ids.
ours() { nsenter --net="/run/netns/$node" tc filter show dev pod0 "$1" | grep -o 'synspan_[a-z]*:[0-9a-f]* direct-action'; }
nothing() { ! ours ingress && ! ours egress; }
nsenter --net="/run/netns/$node" tc qdisc add dev pod0 clsact
nsenter --net="/run/netns/$node" tc filter add dev pod0 ingress pref 777 bpf bytecode '1,6 0 0 0'
foreign() { nsenter --net="/run/netns/$node" tc filter show dev pod0 ingress | grep 'pref 777 '; }
start "$all" clsact
check "clsact: filters are there" ours egress
stop KILL
check "clsact: and outlive a killed agent" ours egress
start "$all" clsact
check "clsact: the next start takes them away" test "$(grep -c 'taken away from an earlier agent: filter synspan_' "$out/log")" = 2
check "clsact: and leaves one of each" test "$(ours ingress | wc -l) $(ours egress | wc -l)" = "1 1"
(only "$all" "$synspan" clean --running --config "$out/clsact.yaml") >"$out/cleaned" 2>&1 || true
check "clean --running: says what it takes away" test "$(grep -c '^removed filter synspan_' "$out/cleaned")" = 2
check "clean --running: nothing is left while the agent runs" nothing
sleep 1
check "clean --running: and the agent does not attach again" nothing
check "clean --running: the foreign filter stays" foreign
check "clean --running: the agent knows" says log 'filters were taken away by others'
stop TERM
check "clean --running: the agent ends as always" ended 0
check "clean --running: and has no trouble at its end" says_not log 'ERROR|cannot detach'
start "$all" auto
(only "$all" "$synspan" clean --running --config "$out/auto.yaml") >"$out/cleaned" 2>&1 || true
stop TERM
check "clean --running: with tcx there is nothing to take away, and it says so" says cleaned 'no filter of an agent is here'

counted capabilities
