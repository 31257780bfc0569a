#!/usr/bin/env bash
# with-kubernetes.sh COMMAND...: starts etcd and a real Kubernetes API server on this machine's loopback, with RBAC and
# an audit log, runs the command, and ends both. There are no kubelets and no controllers: what exists is what is
# written. The command finds in its environment:
#   SYNSPAN_KUBE_SERVER             the API server's URL
#   SYNSPAN_KUBE_CA                 the file with its certificate authority
#   SYNSPAN_KUBE_ADMIN_KUBECONFIG   a kubeconfig that may do everything
#   SYNSPAN_KUBE_KUBECTL            kubectl of the same version
#   SYNSPAN_KUBE_AUDIT_LOG          a line of JSON for each request, metadata only
#   SYNSPAN_KUBE_DIR                the folder of all that; kubernetes-control.sh needs it
# SYNSPAN_KUBE_FLAGS are further flags of kube-apiserver, separated by blanks.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

[ $# -gt 0 ] || die "no command given: with-kubernetes.sh COMMAND..."
programs=$("$ROOT/scripts/kubernetes.sh")
have openssl || apt_install openssl
for tool in jq python3 ss; do have "$tool" || die "$tool is missing: make setup installs it"; done

umask 077
control=$ROOT/scripts/kubernetes-control.sh
dir=$(mktemp -d "${TMPDIR:-/tmp}/synspan-kubernetes.XXXXXX")
export SYNSPAN_KUBE_DIR=$dir
# What ends all of it: when this script ends, and if it is killed, by the guard, whose pipe nobody holds open then.
# shellcheck disable=SC2317
finish() {
    [ ! -e "$dir/settings" ] || "$control" end || true
    rm -rf "$dir"
}
export -f finish
export dir control
mkfifo "$dir/guard"
# shellcheck disable=SC2016
setsid bash -c 'read -r _ <"$dir/guard" || true; [ ! -d "$dir" ] || finish' </dev/null >/dev/null 2>&1 &
exec 9>"$dir/guard"
trap 'finish; rm -f "$LOG"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

read -r -d '' etcd etcd_peer secure < <(free_ports 3) || true
printf '%s\n' "programs=$programs" "etcd=$etcd" "etcd_peer=$etcd_peer" "secure=$secure" >"$dir/settings"

# An authority, the server's certificate by it, the key that service account tokens are signed with, and the admin's token.
mkdir "$dir/pki"
{
    openssl ecparam -name prime256v1 -genkey -noout -out "$dir/pki/ca.key"
    openssl req -x509 -new -key "$dir/pki/ca.key" -subj /CN=kubernetes-ca -days 2 -out "$dir/pki/ca.crt" \
        -addext keyUsage=critical,keyCertSign
    openssl ecparam -name prime256v1 -genkey -noout -out "$dir/pki/apiserver.key"
    openssl req -new -key "$dir/pki/apiserver.key" -subj /CN=kube-apiserver -out "$dir/pki/apiserver.csr"
    openssl x509 -req -in "$dir/pki/apiserver.csr" -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial -days 2 \
        -out "$dir/pki/apiserver.crt" -extfile /dev/stdin <<<'basicConstraints=critical,CA:FALSE
extendedKeyUsage=serverAuth
subjectAltName=IP:127.0.0.1,IP:::1,IP:10.96.0.1,DNS:localhost,DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc'
    openssl genrsa -out "$dir/pki/service-account.key" 2048
} >"$LOG" 2>&1 || {
    cat "$LOG" >&2
    die "openssl could not make the certificates; its messages are above"
}
admin=$(openssl rand -hex 24)
echo "$admin,admin,admin,system:masters" >"$dir/pki/tokens.csv"
export SYNSPAN_KUBE_SERVER=https://127.0.0.1:$secure SYNSPAN_KUBE_CA=$dir/pki/ca.crt
export SYNSPAN_KUBE_ADMIN_KUBECONFIG=$dir/admin.kubeconfig SYNSPAN_KUBE_KUBECTL=$programs/kubectl
export SYNSPAN_KUBE_AUDIT_LOG=$dir/audit.log
cat >"$SYNSPAN_KUBE_ADMIN_KUBECONFIG" <<END
apiVersion: v1
kind: Config
clusters: [{name: tests, cluster: {server: "$SYNSPAN_KUBE_SERVER", certificate-authority: "$SYNSPAN_KUBE_CA"}}]
users: [{name: admin, user: {token: $admin}}]
contexts: [{name: tests, context: {cluster: tests, user: admin}}]
current-context: tests
END

read -r -a flags <<<"${SYNSPAN_KUBE_FLAGS:-}"
"$control" begin "${flags[@]}"
code=0
# Not by the admin's own, should the user have one.
KUBECONFIG=$SYNSPAN_KUBE_ADMIN_KUBECONFIG "$@" 9>&- || code=$?
exit "$code"
