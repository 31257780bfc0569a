#!/usr/bin/env bash
# test-image.sh LAB: the suite of the image: the static program finds names on its own, judges as the usual one, and
# captures as a container engine would run it. Needs root, the lab built, and the Collector of the tests.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=$1
usual=$(dirname "$lab")/synspan
[ "$(id -u)" = 0 ] || die "this needs root"
"$ROOT/scripts/collector.sh" >/dev/null
root=$("$ROOT/scripts/image-root.sh")
. "$ROOT/scripts/checks.sh"

# in_image [ARGS]: as the container.
in_image() { "$ROOT/scripts/in-image.sh" "$root" "$@"; }
# alone COMMAND...: in a network namespace of its own, whose loopback is up.
# shellcheck disable=SC2016
alone() { unshare --net --mount bash -c 'ip link set lo up && exec "$@"' alone "$@"; }

no_interpreter() {
    ! LC_ALL=C readelf --wide --program-headers --dynamic "$root/synspan" | grep -E 'INTERP|NEEDED'
}
check "the program is static" no_interpreter
names() {
    SYNSPAN_OUT=$out "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/test.yaml" \
        "$ROOT/tests/image/names.sh" "$root/synspan"
}
export -f names
export out root ROOT
check "it finds its backend by /etc/hosts and by DNS, with nothing to load" alone bash -c names

only() { diff <(cd "$root" && find . -type f | LC_ALL=C sort) - <<END
./etc/group
./etc/nsswitch.conf
./etc/passwd
./etc/ssl/certs/ca-certificates.crt
./etc/synspan/synspan.yaml
./synspan
./usr/share/doc/synspan/LICENSE
./usr/share/doc/synspan/THIRD-PARTY
END
}
check "the image holds what it must and no more" only
check "the Containerfile has the version of Cargo.toml" grep -qx "ARG VERSION=$(crate_version)" "$ROOT/Containerfile"
says_version() { [ "$(in_image --version)" = "synspan $(crate_version)" ]; }
check "so has the program" says_version
check "its configuration is good" in_image check /etc/synspan/synspan.yaml

# same CAPTURE: whether replay of it says what the usual program says.
same() {
    [ "$("$usual" replay --json "$1" | tee "$out/usual" | wc -l)" -gt 0 ] &&
        "$root/synspan" replay --json "$1" | diff "$out/usual" -
}
for capture in "$ROOT"/tests/captures/*.pcap*; do
    check "replay of $(basename "$capture") says what the usual program says" same "$capture"
done

# A server's certificate that nobody signed: refused for that, and not because there is nobody to trust.
untrusted() {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost -days 2 \
        -addext basicConstraints=critical,CA:FALSE -addext subjectAltName=IP:127.0.0.1 \
        -keyout "$out/key.pem" -out "$out/cert.pem"
    openssl s_server -accept 127.0.0.1:4317 -alpn h2 -key "$out/key.pem" -cert "$out/cert.pem" -quiet &
    local server=$! code=0
    mkdir -p "$out/volume"
    printf '%s\n' 'exporters:' '  otlp:' '    endpoint: https://127.0.0.1:4317' >"$out/volume/tls.yaml"
    for _ in {1..50}; do [ -z "$(ss -Hltn 'sport = :4317')" ] || break; sleep 0.1; done
    SYNSPAN_VOLUMES=$out/volume in_image check "$out/volume/tls.yaml" --send >"$out/tls" 2>&1 || code=$?
    kill "$server"
    [ "$code" != 0 ] || { echo "a certificate that nobody signed was taken" && return 1; }
    grep -q UnknownIssuer "$out/tls" || { cat "$out/tls" && return 1; }
}
export -f untrusted in_image
have openssl || apt_install openssl
check "it trusts the authorities in the image, and nobody else" alone bash -euo pipefail -c untrusted

check "doctor finds that it can capture" in_image doctor
# The agent of the lab's node, as the container.
printf '%s\n' '#!/bin/sh' "SYNSPAN_VOLUMES=/run/synspan-lab exec '$ROOT/scripts/in-image.sh' '$root' \"\$@\"" \
    >"$out/agent"
chmod +x "$out/agent"
check "the case, seen from the container" "$lab" run reuse-never-closed --agent "$out/agent"

counted image
