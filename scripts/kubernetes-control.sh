#!/usr/bin/env bash
# kubernetes-control.sh ACTION...: does something to the API server of with-kubernetes.sh while a command runs there.
# It is found by SYNSPAN_KUBE_DIR. Actions:
#   start [FLAG...]     start the API server, with further flags of kube-apiserver, and wait until it is ready
#   stop                end it with SIGTERM: it closes its watches first
#   kill                end it with SIGKILL: its connections break
#   restart [FLAG...]   kill, then start
#   pause, resume       stop it with SIGSTOP: connections stay open and nothing answers; and go on with SIGCONT
#   compact             make every earlier resourceVersion too old: what watches or continues a list from one, gets 410 Gone
#   token NAMESPACE SERVICEACCOUNT [DURATION]    print a token (1h without; 10m or longer by TokenRequest; shorter ones, such as 5s,
#                                                which the API server refuses to make, are signed with its own key)
#   kubeconfig NAMESPACE SERVICEACCOUNT FILE [DURATION]    write FILE, whose token is read from FILE.token beside it
#   requests [USER]     count the audit log's requests by user, verb and resource; all users without
#   memory              resident memory of etcd and kube-apiserver in KiB
#   end                 end etcd and the API server for good
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

action=${1:-}
[ -n "$action" ] || die "no action given; they are listed at the top of this script"
shift
dir=${SYNSPAN_KUBE_DIR:-}
[ -r "$dir/settings" ] || die "SYNSPAN_KUBE_DIR names no running cluster; this works within with-kubernetes.sh"
# What with-kubernetes.sh chose: programs, etcd, etcd_peer, secure.
programs='' etcd='' etcd_peer='' secure=''
# shellcheck source=/dev/null
. "$dir/settings"

# The pid in NAME's file, if that process lives and is that program. A zombie has no program.
pid_of() {
    local pid
    pid=$(cat "$dir/$1.pid" 2>/dev/null) || return 1
    [ "$(readlink "/proc/$pid/exe" 2>/dev/null)" = "$(readlink -f "$programs/$1")" ] && echo "$pid"
}
# launch NAME FLAG...: in a session of its own, so that an interrupt at the terminal does not end it before the command.
launch() {
    local name=$1
    shift
    ! pid_of "$name" >/dev/null || die "$name runs already"
    setsid "$programs/$name" "$@" </dev/null >>"$dir/$name.log" 2>&1 9>&- &
    echo $! >"$dir/$name.pid"
    # Until then the process is still the shell that becomes it.
    local i
    for ((i = 0; i < 50; i++)); do
        ! pid_of "$name" >/dev/null || return 0
        sleep 0.02
    done
    fail "$name" "did not start"
}
fail() {
    tail -n 20 "$dir/$1.log" >&2
    die "$1 $2; its last lines are above"
}
# gone NAME SECONDS: whether it has ended within that time.
gone() {
    local i
    for ((i = 0; i < $2 * 20; i++)); do
        pid_of "$1" >/dev/null || return 0
        sleep 0.05
    done
    return 1
}
# end NAME SIGNAL
end() {
    local pid
    pid=$(pid_of "$1") || return 0
    kill "-$2" "$pid" 2>/dev/null || true
    gone "$1" 15 || { kill -KILL "$pid" && gone "$1" 5; } || die "$1 (process $pid) does not end"
}
signal_apiserver() {
    local pid
    pid=$(pid_of kube-apiserver) || die "kube-apiserver does not run"
    kill "-$1" "$pid"
}

# ask PATH JSON: a call of etcd's JSON gateway.
ask_etcd() {
    python3 -c '
import sys, urllib.request
print(urllib.request.urlopen(urllib.request.Request(sys.argv[1], sys.argv[2].encode()), timeout=5).read().decode())' \
        "http://127.0.0.1:$etcd$1" "$2"
}
etcd_revision() { ask_etcd /v3/kv/range '{"key":"AA=="}' | jq -r .header.revision; }

start_etcd() {
    launch etcd --name tests --data-dir "$dir/etcd" --unsafe-no-fsync --log-level warn \
        --listen-client-urls "http://127.0.0.1:$etcd" --advertise-client-urls "http://127.0.0.1:$etcd" \
        --listen-peer-urls "http://127.0.0.1:$etcd_peer" --initial-advertise-peer-urls "http://127.0.0.1:$etcd_peer" \
        --initial-cluster "tests=http://127.0.0.1:$etcd_peer"
    local i
    for ((i = 0; i < 100; i++)); do
        ! etcd_revision >/dev/null 2>&1 || return 0
        pid_of etcd >/dev/null || fail etcd "ended"
        sleep 0.1
    done
    fail etcd "was not ready within 10 s"
}

# No controllers run: nobody would make the default service accounts that the admission plugin waits for. Compaction is
# this script's, so that it happens when a test wants it.
start_apiserver() {
    launch kube-apiserver --etcd-servers "http://127.0.0.1:$etcd" --etcd-compaction-interval 0 \
        --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$secure" --endpoint-reconciler-type none \
        --tls-cert-file "$dir/pki/apiserver.crt" --tls-private-key-file "$dir/pki/apiserver.key" --cert-dir "$dir/pki" \
        --service-cluster-ip-range 10.96.0.0/16,fd00:10:96::/112 \
        --service-account-issuer https://kubernetes.default.svc --service-account-key-file "$dir/pki/service-account.key" \
        --service-account-signing-key-file "$dir/pki/service-account.key" --token-auth-file "$dir/pki/tokens.csv" \
        --authorization-mode RBAC --disable-admission-plugins ServiceAccount \
        --audit-policy-file "$ROOT/tests/kubernetes/audit-policy.yaml" --audit-log-path "$dir/audit.log" \
        --audit-log-maxsize 1000 --shutdown-watch-termination-grace-period 1s "$@"
    local i
    for ((i = 0; i < 600; i++)); do
        ! kubectl --request-timeout 2s get --raw /readyz >/dev/null 2>&1 || return 0
        pid_of kube-apiserver >/dev/null || fail kube-apiserver "ended"
        sleep 0.05
    done
    fail kube-apiserver "was not ready within a minute"
}
kubectl() { "$programs/kubectl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

# seconds DURATION: 90s, 10m and 2h in seconds.
seconds() {
    [[ $1 =~ ^([0-9]+)([smh]?)$ ]] || die "$1 is no duration: give such as 15s, 10m, 1h"
    case ${BASH_REMATCH[2]} in
        m) echo $((BASH_REMATCH[1] * 60)) ;;
        h) echo $((BASH_REMATCH[1] * 3600)) ;;
        *) echo "${BASH_REMATCH[1]}" ;;
    esac
}
base64url() { openssl base64 -A | tr '+/' '-_' | tr -d '='; }
# token NAMESPACE SERVICEACCOUNT DURATION
token() {
    local length now uid claims signed
    length=$(seconds "$3")
    if [ "$length" -ge 600 ]; then
        kubectl create token --namespace "$1" "$2" --duration "${length}s"
        return
    fi
    uid=$(kubectl get serviceaccount --namespace "$1" "$2" -o 'jsonpath={.metadata.uid}')
    # The API server goes on for a minute after the end that a token names, and for ten seconds more with one it knows.
    now=$(($(date +%s) - 60))
    claims=$(jq -nc --arg namespace "$1" --arg name "$2" --arg uid "$uid" --argjson now "$now" --argjson length "$length" '{
        iss: "https://kubernetes.default.svc", aud: ["https://kubernetes.default.svc"],
        sub: "system:serviceaccount:\($namespace):\($name)", iat: $now, nbf: $now, exp: ($now + $length),
        "kubernetes.io": {$namespace, serviceaccount: {$name, $uid}}}')
    signed=$(printf '{"alg":"RS256","typ":"JWT"}' | base64url).$(printf '%s' "$claims" | base64url)
    echo "$signed.$(printf '%s' "$signed" | openssl dgst -sha256 -sign "$dir/pki/service-account.key" -binary | base64url)"
}

case $action in
    begin) start_etcd && start_apiserver "$@" ;;
    start) start_apiserver "$@" ;;
    stop) end kube-apiserver TERM ;;
    kill) end kube-apiserver KILL ;;
    restart) end kube-apiserver KILL && start_apiserver "$@" ;;
    pause) signal_apiserver STOP ;;
    resume) signal_apiserver CONT ;;
    compact)
        # A watch is served from the API server's own cache, which etcd's compaction does not reach: so it loses its cache
        # by a restart. The new one begins at etcd's revision, which is moved on, so that no client is up to date by luck.
        end kube-apiserver KILL
        for _ in 1 2 3; do ask_etcd /v3/kv/put '{"key":"c3luc3BhbgA=","value":"AA=="}' >/dev/null; done
        revision=$(etcd_revision)
        ask_etcd /v3/kv/compaction "{\"revision\":\"$revision\",\"physical\":true}" >/dev/null
        start_apiserver "$@"
        echo "$revision"
        ;;
    token)
        [ $# -ge 2 ] || die "token needs a namespace and a service account"
        token "$1" "$2" "${3:-1h}"
        ;;
    kubeconfig)
        [ $# -ge 3 ] || die "kubeconfig needs a namespace, a service account and a file"
        umask 077
        file=$(realpath -m -- "$3")
        token "$1" "$2" "${4:-1h}" >"$file.token.new"
        mv "$file.token.new" "$file.token"
        cat >"$file" <<END
apiVersion: v1
kind: Config
clusters: [{name: tests, cluster: {server: "https://127.0.0.1:$secure", certificate-authority: "$dir/pki/ca.crt"}}]
users: [{name: "$2", user: {tokenFile: "$file.token"}}]
contexts: [{name: tests, context: {cluster: tests, user: "$2", namespace: "$1"}}]
current-context: tests
END
        ;;
    requests)
        # A watch is told when it starts and again when it ends: it counts when it starts.
        jq -r --arg user "${1:-}" 'select(.stage == "ResponseStarted" or (.stage == "ResponseComplete" and .verb != "watch"))
            | select($user == "" or .user.username == $user)
            | [.user.username, .verb, (.objectRef | if . == null then "-" else (.resource + (if .subresource then "/" + .subresource else "" end)) end),
               (.responseStatus.code | tostring)] | @tsv' "$dir/audit.log" | sort | uniq -c
        ;;
    memory)
        for name in etcd kube-apiserver; do
            pid=$(pid_of "$name") || die "$name does not run"
            printf '%s\t%s\n' "$name" "$(awk '$1 == "VmRSS:" { print $2 }' "/proc/$pid/status")"
        done
        ;;
    end)
        end kube-apiserver KILL
        end etcd KILL
        ;;
    *) die "no such action: $action; they are listed at the top of this script" ;;
esac
