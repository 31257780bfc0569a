#!/usr/bin/env bash
# cross.sh ARCH RUSTC: what cross-compiling for ARCH (amd64, arm64) needs, and prints the folder to take for its root:
# Rust's and C's libraries. Debian's packages are unpacked into the cache, so that no foreign architecture is added to
# this system; apt keeps their lists there as well, and checks their signatures as ever.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

arch=$1 rustc=$2
case $arch in
    amd64) cpu=x86_64 compiler=gcc-x86-64-linux-gnu ;;
    arm64) cpu=aarch64 compiler=gcc-aarch64-linux-gnu ;;
    *) die "unknown architecture $arch: amd64 or arm64" ;;
esac
have apt-get || die "cross-compiling takes its libraries from Debian's packages, and there is no apt-get here"
apt_install "$compiler" binutils libc6-dev

# installed PACKAGE: its version here. What is fetched has the same, so that both architectures are as new.
installed() { dpkg-query -W -f='${Version}' "$1:$(own_arch)"; }
packages=("libc6-dev=$(installed libc6-dev)" "linux-libc-dev=$(installed linux-libc-dev)")
if [ "$rustc" = /usr/bin/rustc ]; then
    packages+=("libstd-rust-web-dev=$(installed libstd-rust-web-dev)")
elif [ ! -d "$("$rustc" --print sysroot)/lib/rustlib/$cpu-unknown-linux-gnu" ]; then
    die "$rustc cannot build for $arch: rustup target add $cpu-unknown-linux-gnu, or apt install rustc-web cargo-web"
fi

key=$(printf '%s\n' "${packages[@]}" | sha256sum | cut -c 1-16)
out=$CACHE/cross-$arch-$key
if [ -d "$out" ]; then
    echo "$out"
    exit 0
fi
say "fetching $arch's ${packages[*]}"
mkdir -p "$CACHE"
work=$(mktemp -d "$CACHE/cross.XXXXXX")
trap 'rm -rf "$work" "$LOG"' EXIT
mkdir -p "$work"/{lists,archives}/partial "$work"/{debs,root}
# An apt of its own for that architecture: the system's sources and keys, and nothing else of the system's.
foreign=(-q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State::Status=/dev/null
    -o Dir::State::Lists="$work/lists" -o Dir::Cache="$work" -o Acquire::Languages=none
    -o APT::Sandbox::User="$(id -un)")
cd "$work/debs"
{ apt-get "${foreign[@]}" update && apt-get "${foreign[@]}" download "${packages[@]}"; } >"$LOG" 2>&1 || {
    tail -n 20 "$LOG" >&2
    die "the packages of $arch could not be fetched; the last lines are above. Where a version is no longer" \
        "served, update this system's (apt-get update, apt-get install --only-upgrade ${packages[*]%%=*})"
}
for deb in "$work"/debs/*.deb; do dpkg-deb --extract "$deb" "$work/root"; done
mv "$work/root" "$out"
echo "$out"
