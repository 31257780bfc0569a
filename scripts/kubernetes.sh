#!/usr/bin/env bash
# Builds the Kubernetes API server that the tests ask, with its etcd and kubectl, and prints the folder that holds the
# three programs. It is kept in a cache outside the work tree, under the hash of what it is built from, so that it is
# built once for each change.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/components.sh"

src=$ROOT/tests/kubernetes/build
version=$(sed -n 's/^\tk8s.io\/kubernetes \(v[0-9.]*\).*/\1/p' "$src/go.mod")
IFS=. read -r major minor _ <<<"${version#v}"
# Without these the server calls itself v0.0.0-master, and kubectl refuses to say its version.
stamp=
for pair in gitVersion="$version" gitMajor="$major" gitMinor="$minor" gitTreeState=clean; do
    stamp+=" -X k8s.io/component-base/version.$pair"
done
flags="-s -w$stamp"

key=$({ cat "$src/go.mod" "$src/go.sum" && echo "$flags"; } | sha256sum | cut -c 1-16)
out=$CACHE/kubernetes-$key
programs=(etcd kube-apiserver kubectl)
complete() { for p in "${programs[@]}"; do [ -x "$out/$p" ] || return 1; done; }
if complete; then
    echo "$out"
    exit 0
fi

say "building kube-apiserver $version, etcd and kubectl, about five minutes on two cores (later runs take them from the cache)"
mkdir -p "$out"
# Written beside their place and moved there, so that a build that was cut short is not taken for one that is done.
tmp=$(mktemp -d "$out/build.XXXXXX")
trap 'rm -rf "$tmp" "$LOG"' EXIT
go_build "the Kubernetes API server" "$src" -ldflags="$flags" -o "$tmp/" tool
# etcd's package is called server.
mv "$tmp/server" "$tmp/etcd"
for p in "${programs[@]}"; do mv "$tmp/$p" "$out/$p"; done
echo "$out"
