#!/usr/bin/env bash
# notices.sh [ARCH]: prints whose work is in the static program and the image, by which licence, and the licence's text.
# A text that was printed already is only referred to. A C library has its own a folder below that of the crate around it.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

case ${1:-$(own_arch)} in
    amd64) cpu=x86_64 ;;
    arm64) cpu=aarch64 ;;
    *) die "unknown architecture $1: amd64 or arm64" ;;
esac
# crates PACKAGE TARGET: name, version and licence of what is linked into it, one on a line.
crates() {
    scripts/cargo.sh tree --locked --package "$1" --edges normal,no-proc-macro --target "$2" --prefix none \
        --format '{p}|{l}' | sed 's/ (.*)|/|/; s/ (\*)$//; s/ v\([0-9]\)/|\1/' | grep -v '^synspan'
}

declare -A seen=()
# texts HEADING FILE...
texts() {
    local file sum
    printf '\n%s\n' "$1"
    shift
    for file in "$@"; do
        # Copies differ in their blanks.
        sum=$(tr -d '[:space:]' <"$file" | sha256sum)
        if [ -n "${seen[$sum]:-}" ]; then
            printf '\n    %s: as that of %s\n' "$(basename "$file")" "${seen[$sum]}"
        else
            seen[$sum]=$what
            printf '\n    %s:\n\n' "$(basename "$file")"
            sed 's/^\(.\)/    \1/' "$file"
        fi
    done
}

echo "synspan is linked with the following, and the image holds what stands at the end."
list=$({ crates synspan "$cpu-unknown-linux-gnu" && crates synspan-ebpf bpfel-unknown-none; } | LC_ALL=C sort -u)
count=0
while IFS='|' read -r name version licence; do
    what="$name $version"
    files=()
    for folder in "${CARGO_HOME:-$HOME/.cargo}"/registry/src/*/"$name-$version"; do
        [ -f "$folder/Cargo.toml" ] ||
            die "the source of $name $version is not in cargo's registry: cargo fetch --locked"
        mapfile -t files < <(find "$folder" -maxdepth 2 -type f |
            grep -iE '/(licen[sc]e|copying|copyright|notice|unlicense)[^/]*$' | LC_ALL=C sort)
        break
    done
    texts "$what: $licence" "${files[@]}"
    count=$((count + 1))
done <<<"$list"
[ "$count" -gt 50 ] || die "only $count crates were found to be linked"
# Debian's: the C library and Rust's, linked, and the certificates.
for package in libc6-dev libstd-rust-web-dev ca-certificates; do
    what="Debian's $package"
    [ ! -r "/usr/share/doc/$package/copyright" ] || texts "$what" "/usr/share/doc/$package/copyright"
done
