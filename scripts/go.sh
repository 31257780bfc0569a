#!/usr/bin/env bash
# Prints the path of a Go that is new enough to build the Collector, the Prometheus and the Kubernetes API server of the
# tests. Where there is none, Debian's Go 1.19 fetches the Go project's own release, which the module proxy serves as
# golang.org/toolchain, and whose sum is checked against the checksum database and against the pin in env.sh. Only the
# tests with these need it.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

go_version() { GOTOOLCHAIN=local "$1" version 2>/dev/null | sed -n 's/^go version go\([0-9.]*\).*/\1/p'; }
# The newest Go that the module files ask for.
need=$(sed -n 's/^go \([0-9.]*\)$/\1/p' "$ROOT"/otel-collector/build/go.mod "$ROOT"/otel-collector/prometheus/build/go.mod \
    "$ROOT"/tests/kubernetes/build/go.mod | sort -V | tail -n 1)

own=$CACHE/go-$GO_VERSION
for go in go /usr/local/go/bin/go "$own/bin/go"; do
    v=$(go_version "$go") || continue
    if [ -n "$v" ] && at_least "$v" "$need"; then
        command -v "$go"
        exit 0
    fi
done

case $(uname -m) in
    x86_64) arch=amd64 sum=$GO_SUM_amd64 ;;
    aarch64) arch=arm64 sum=$GO_SUM_arm64 ;;
    *) die "the test components' build needs Go $need or newer; install it by hand on $(uname -m)" ;;
esac
have apt-get || have go || die "the test components' build needs Go $need or newer; install it by hand"
if have go; then old=go; else
    apt_install ca-certificates golang-1.19-go
    old=/usr/lib/go-1.19/bin/go
fi
say "fetching Go $GO_VERSION through the Go module proxy, once"
work=$(mktemp -d)
trap 'rm -rf "$work" "$LOG"' EXIT
# A folder of its own, outside any module, and a module cache that can be removed again.
json=$(cd "$work" && GOENV=off GOTOOLCHAIN=local GOPATH=$work/path GOCACHE=$work/cache GOFLAGS=-modcacherw \
    "$old" mod download -json "golang.org/toolchain@v0.0.1-go$GO_VERSION.linux-$arch") ||
    die "Go $GO_VERSION could not be fetched: $json"
[ "$(jq -r .Sum <<<"$json")" = "$sum" ] || die "Go $GO_VERSION has the sum $(jq -r .Sum <<<"$json"), not the pinned $sum"
mkdir -p "$CACHE"
rm -rf "$own"
mv "$(jq -r .Dir <<<"$json")" "$own.new"
# A module's files carry no modes.
chmod -R u+w "$own.new"
chmod +x "$own.new"/bin/* "$own.new"/pkg/tool/*/*
mv "$own.new" "$own"
echo "$own/bin/go"
