# shellcheck shell=bash
# What every script here shares: pinned versions, where caches lie, and how to speak. Sourced, never run.

# The oldest Rust that builds the workspace (rust-version in Cargo.toml).
RUST_MIN=1.95
# The linker of the eBPF object, and the LLVM that Debian's rustc is made with.
BPF_LINKER_VERSION=0.13.0
LLVM_MAJOR=22
# What makes the list of what is in the program, and what asks for advisories about it.
CARGO_CYCLONEDX_VERSION=0.5.9
CARGO_AUDIT_VERSION=0.22.2
# The Go that builds the Collector and the API server for the tests, as the module proxy serves Go itself. The sums are those of the
# checksum database; a toolchain with another sum is refused.
GO_VERSION=1.26.8
GO_SUM_amd64=h1:ZOmGe1OnfREDMIdb1Qi4G9JSuDPBLGExZMQ4nis1RXM=
GO_SUM_arm64=h1:sYL/O6MqS68ML0kjsQ36WoYIpJqkw60TxizWUYUKQMc=
export CARGO_CYCLONEDX_VERSION CARGO_AUDIT_VERSION RUST_MIN BPF_LINKER_VERSION LLVM_MAJOR GO_VERSION GO_SUM_amd64 GO_SUM_arm64

ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/synspan
CARGO_BIN=${CARGO_HOME:-${HOME:-/root}/.cargo}/bin
export ROOT CACHE CARGO_BIN

# bpftool, nft, conntrack and the libbpf tools are in sbin, which a plain user's PATH leaves out.
case ":$PATH:" in *:/usr/sbin:*) ;; *) PATH=$PATH:/usr/sbin:/sbin ;; esac
# cargo install puts programs here.
case ":$PATH:" in *":$CARGO_BIN:"*) ;; *) PATH=$PATH:$CARGO_BIN ;; esac
export PATH

say() { printf '%s\n' "synspan: $*" >&2; }
die() {
    printf '%s\n' "synspan: error: $*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# free_ports COUNT: prints ports that nobody listens on, above the range that the kernel gives out.
free_ports() {
    local used port
    used=" $(ss -Hltn | awk '{ sub(/.*:/, "", $4); printf "%s ", $4 }')"
    for ((port = 61000 + RANDOM % 4000; port < 65536; port++)); do
        case "$used" in *" $port "*) ;; *) echo "$port" ;; esac
    done | sed -n "1,$1p"
}

# at_least VERSION MINIMUM: whether VERSION is MINIMUM or newer.
at_least() { [ "$(printf '%s\n%s\n' "$2" "$1" | sort -V | head -n 1)" = "$2" ]; }

# rust_version PROGRAM: "1.95.0" of a cargo or rustc, or nothing.
rust_version() { "$1" --version 2>/dev/null | awk 'NR == 1 { print $2 }'; }

# own_arch: what Debian calls this machine's architecture, of those that synspan is built for.
own_arch() {
    case $(uname -m) in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) die "synspan's program and image are built on x86_64 and aarch64; this is $(uname -m)" ;;
    esac
}

# crate_version: synspan's own version, which the image has too.
crate_version() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$ROOT/Cargo.toml"; }

# find_cargo: prints the cargo to use: the one on PATH if it is new enough, else Debian's. Fails if there is none.
find_cargo() {
    local c v
    for c in cargo /usr/bin/cargo; do
        v=$(rust_version "$c") || continue
        if [ -n "$v" ] && at_least "$v" "$RUST_MIN"; then
            command -v "$c"
            return 0
        fi
    done
    return 1
}

# bpf_route: prints how the eBPF programs can be compiled, "rustup" or "debian". Fails if by neither.
bpf_route() {
    local s
    if s=$(/usr/bin/rustc --print sysroot 2>/dev/null) && [ -d "$s/lib/rustlib/bpfel-unknown-none" ]; then
        echo debian
    elif have rustup && s=$(RUSTUP_AUTO_INSTALL=0 rustup run nightly rustc --print sysroot 2>/dev/null) &&
        [ -d "$s/lib/rustlib/src/rust/library" ]; then
        echo rustup
    else
        return 1
    fi
}

# as_root COMMAND...: runs it as root, by sudo where needed and possible.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif have sudo; then
        sudo "$@"
    else
        die "needs root to run: $*"
    fi
}

# apt_install PACKAGE...: installs what is missing of them. Nothing is installed twice, the package lists are
# fetched only if those at hand do not suffice, and nothing but another Rust is ever removed.
apt_install() {
    local p missing=() plan removed
    for p in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    say "installing ${missing[*]}"
    if ! plan=$(apt-get -s install --no-install-recommends "${missing[@]}" 2>/dev/null); then
        apt_update
        plan=$(apt-get -s install --no-install-recommends "${missing[@]}") ||
            die "this system's package lists do not have: ${missing[*]} (Debian 12 with its security suite does)"
    fi
    removed=$(awk '$1 == "Remv" && $2 !~ /^(rust-?(c|fmt|-clippy|-gdb|-lldb)|cargo|libstd-rust.*)$/ { printf " %s", $2 }' <<<"$plan")
    [ -z "$removed" ] || die "installing ${missing[*]} would remove:$removed. Remove these yourself if you do not need them"
    # Lists that are old may name versions that are served no more: once more with fresh ones.
    apt_get install "${missing[@]}" || { apt_update && apt_get install "${missing[@]}"; } ||
        die "apt-get could not install ${missing[*]}"
}
apt_update() {
    [ -z "${APT_UPDATED:-}" ] || return 0
    say "fetching the package lists"
    as_root apt-get -q update >&2 && APT_UPDATED=1
}
apt_get() {
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
        -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold "$@" </dev/null >"$LOG" 2>&1 || {
        tail -n 20 "$LOG" >&2
        return 1
    }
}
LOG=${TMPDIR:-/tmp}/synspan-setup.$$.log
trap 'rm -f "$LOG"' EXIT
