#!/usr/bin/env bash
# demo-kubernetes.sh LAB [ARGS]: the case live in the lab, its pods objects of a real Kubernetes API server, which says who
# they are.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=$1
shift
[ "$(id -u)" = 0 ] || die "the lab needs root"
"$(dirname "$lab")/synspan" doctor >/dev/null || die "eBPF cannot run here ('$(dirname "$lab")/synspan doctor' says what is missing)"
say "the names below come from a Kubernetes API server on this machine's loopback; the agent has a service account's rights"
exec "$ROOT/scripts/lab-kubernetes.sh" "$lab" demo "$@"
