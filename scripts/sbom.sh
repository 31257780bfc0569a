#!/usr/bin/env bash
# sbom.sh [ARCH]: the list of what the released program is made of, as CycloneDX 1.5 in JSON, and prints its path:
# target/sbom/synspan-ARCH.cdx.json. ARCH is amd64 or arm64, this machine's without it.
#
# scope is "required" for what is linked into the program or its eBPF object, and "excluded" for what only ran while it
# was built: build scripts, macros, and what these need.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

arch=${1:-$(own_arch)}
case $arch in
    amd64) target=x86_64-unknown-linux-gnu ;;
    arm64) target=aarch64-unknown-linux-gnu ;;
    *) die "unknown architecture $arch: amd64 or arm64" ;;
esac
bpf=bpfel-unknown-none
have jq || apt_install jq
cyclonedx=$(scripts/tool.sh cargo-cyclonedx "$CARGO_CYCLONEDX_VERSION")
work=$(mktemp -d)
trap 'rm -rf "$work" "$LOG"' EXIT

# crates PACKAGE TARGET EDGES: as cargo resolves them for this package alone, with the features that are shipped.
crates() {
    scripts/cargo.sh tree --locked --package "$1" --target "$2" --edges "$3" --prefix none --format '{p}' |
        sed 's/^\([^ ]*\) v\([^ ]*\).*/\1@\2/'
}
{ crates synspan "$target" normal,no-proc-macro && crates synspan-ebpf "$bpf" normal,no-proc-macro; } |
    sort -u >"$work/linked"
{ crates synspan "$target" normal,build && crates synspan-ebpf "$bpf" normal,build; } | sort -u >"$work/all"

# cargo-cyclonedx writes beside the manifests of all members, so it is given a copy; it knows the whole workspace's
# features, so what is not in the lists above is taken out after it.
tar --exclude-vcs --exclude=./target -cf - . | tar -xf - -C "$work" --one-top-level=synspan
for triple in "$target" "$bpf"; do
    # Where a file has no time of its own the last commit's is taken, and no random number, so that it can be compared.
    SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)} \
        CARGO="$ROOT/scripts/cargo.sh" "$cyclonedx" cyclonedx --manifest-path "$work/synspan/Cargo.toml" \
        --format json --spec-version 1.5 --target "$triple" --override-filename "$triple" -qq >"$LOG" 2>&1 || {
        cat "$LOG" >&2
        die "cargo-cyclonedx failed; its messages are above"
    }
done

# What no crate tells: the libraries of the compilers' packages, linked too.
libraries=()
for package in libc6-dev libstd-rust-web-dev; do
    version=$(dpkg-query -W -f='${Version}' "$package" 2>/dev/null) && libraries+=("$package=$version")
done
out=${CARGO_TARGET_DIR:-$ROOT/target}/sbom/synspan-$arch.cdx.json
mkdir -p "$(dirname "$out")"
jq --rawfile linked "$work/linked" --rawfile all "$work/all" --arg arch "$arch" '
    ($linked | split("\n")) as $linked | ($all | split("\n")) as $all
    | [inputs] as [$agent, $object]
    | [$agent.components[], $object.components[], $object.metadata.component | del(.components)]
    | map("\(.name)@\(.version)" as $id | select($all | index($id))
        | .scope = (if $linked | index($id) then "required" else "excluded" end))
    | unique_by(.["bom-ref"]) as $crates
    | [$ARGS.positional[] | split("=") | {type: "library", "bom-ref": "debian/\(.[0])", name: .[0], version: .[1],
        scope: "required",
        description: ({"libc6-dev": "glibc, statically linked",
            "libstd-rust-web-dev": "the standard library of Rust, statically linked"}[.[0]]),
        licenses: [{expression: ({"libc6-dev": "LGPL-2.1-or-later", "libstd-rust-web-dev": "MIT OR Apache-2.0"}
            [.[0]])}],
        purl: "pkg:deb/debian/\(.[0])@\(.[1] | @uri)?arch=\($arch)"}] as $libraries
    | ([$agent.metadata.component["bom-ref"], $crates[]["bom-ref"]]) as $refs
    | $agent
    | .components = $crates + $libraries
    | .dependencies = ([$agent.dependencies[], $object.dependencies[]] | group_by(.ref)
        | map({ref: .[0].ref,
            dependsOn: (map(.dependsOn // [] | .[]) | unique | map(select(. as $r | $refs | index($r))))})
        | map(select(.ref as $r | $refs | index($r)))
        | map(if .ref == $agent.metadata.component["bom-ref"]
            then .dependsOn += [$libraries[]["bom-ref"]] else . end))' \
    -n "$work/synspan/exporter/$target.json" "$work/synspan/exporter-ebpf/$bpf.json" --args "${libraries[@]}" |
    sed "s|file://$work/synspan|file:///synspan|g" >"$out.new"

# Whether it is whole: what must be in it is, each component has a licence, and nothing of this machine is.
jq -e '.bomFormat == "CycloneDX" and .metadata.component.name == "synspan"
    and (.metadata.component.licenses | length > 0)
    and (["aya", "kube", "tonic", "synspan-ebpf", "aya-ebpf"] - [.components[].name] == [])
    and all(.components[]; (.licenses | length) > 0 and (.version | length) > 0)
    and ((.components | map(.["bom-ref"]) | unique | length) == (.components | length))' "$out.new" >/dev/null ||
    die "$out.new is not whole: a crate that must be there, or a licence, is missing"
for path in "$ROOT" "$work" "$CACHE"; do
    if grep -qF -- "$path" "$out.new"; then die "$out.new names a folder of this machine: $path"; fi
done
mv "$out.new" "$out"
# count SCOPE
count() { jq --arg scope "$1" '[.components[] | select(.scope == $scope)] | length' "$out"; }
say "$(count required) components linked, $(count excluded) used to build"
echo "$out"
