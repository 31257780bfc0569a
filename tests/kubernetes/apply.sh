#!/usr/bin/env bash
# apply.sh [FILE.yaml...]: writes these objects, or all of objects/, to the API server of with-kubernetes.sh, each with its
# status, and prints a line for each: kind, namespace, name, uid.
set -euo pipefail
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || set -- "$here"/objects/*.yaml
exec python3 -B "$here/apiserver.py" "$@"
