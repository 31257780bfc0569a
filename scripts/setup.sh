#!/usr/bin/env bash
# Makes this machine able to build, test and measure synspan. Installs only what is missing, so a second run takes
# no time and needs no network.
#
#   setup.sh          the compilers, the eBPF linker, and the lab's tools
#   setup.sh --lint   and what checks the code: clippy, rustfmt, shellcheck
#   setup.sh --build  only what builds the agent
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lint="" kind=""
case "${1:-}" in
    --lint) lint=1 kind=-lint ;;
    --build) kind=-build ;;
esac

# The tools that building and the lab call, whatever they were installed by.
tools=(python3 clang-22 cc c++ make pkg-config jq ip tc nft conntrack tcpdump bpftool tcplife tcpstates sysctl nsenter bpf-linker)
[ -z "$lint" ] || tools+=(shellcheck)

# What Debian 12 calls them. The compiler's packages come on top, unless rustup has all that is needed.
packages=(python3 clang-22 ca-certificates gcc g++ make libc6-dev pkg-config jq iproute2 nftables iptables conntrack tcpdump bpftool libbpf-tools
    procps util-linux)
if [ "$kind" = -build ]; then
    tools=(cc c++ make pkg-config bpf-linker)
    packages=(ca-certificates gcc g++ make libc6-dev pkg-config)
fi
debian_rust=(rustc-web cargo-web libstd-rust-web-dev-bpf)
llvm=("llvm-$LLVM_MAJOR-dev" "libpolly-$LLVM_MAJOR-dev" zlib1g-dev libzstd-dev)

lacking() {
    local t
    for t in "${tools[@]}"; do have "$t" || printf ' %s' "$t"; done
    find_cargo >/dev/null || printf ' cargo (%s or newer)' "$RUST_MIN"
    bpf_route >/dev/null || printf ' a compiler for the eBPF programs'
    [ -z "$lint" ] || has_lints || printf ' clippy rustfmt'
}
has_lints() {
    "$ROOT/scripts/cargo.sh" clippy --version >/dev/null 2>&1 && "$ROOT/scripts/cargo.sh" fmt --version >/dev/null 2>&1
}

# The stamp says that this very script, with these very pins, was through once; the check below, that what it
# installed is still there.
stamp=$CACHE/setup$kind.$(cat "$ROOT/scripts/setup.sh" "$ROOT/scripts/env.sh" | sha256sum | cut -c 1-16)
if [ -e "$stamp" ] && [ -z "$(lacking)" ]; then
    exit 0
fi

if [ "$(uname -s)" != Linux ]; then
    die "synspan is for Linux; this is $(uname -s)"
elif have apt-get; then
    [ -z "$lint" ] || packages+=(shellcheck)
    if ! bpf_route >/dev/null || ! find_cargo >/dev/null; then
        packages+=("${debian_rust[@]}")
    fi
    linker_ok() { [ "$(bpf-linker --version 2>/dev/null | awk '{ print $2 }')" = "$BPF_LINKER_VERSION" ]; }
    linker_ok || packages+=("${llvm[@]}")
    apt_install "${packages[@]}"
    hash -r
    if [ -n "$lint" ] && ! has_lints; then
        apt_install rust-web-clippy rustfmt-web
    fi
    if ! linker_ok; then
        say "building bpf-linker $BPF_LINKER_VERSION, about a minute on two cores"
        LLVM_PREFIX=/usr/lib/llvm-$LLVM_MAJOR "$ROOT/scripts/cargo.sh" install bpf-linker --quiet --force \
            --version "$BPF_LINKER_VERSION" --locked --no-default-features --features "llvm-$LLVM_MAJOR" >"$LOG" 2>&1 || {
            tail -n 30 "$LOG" >&2
            die "bpf-linker could not be built; its last lines are above"
        }
        hash -r
    fi
fi

absent=$(lacking)
if [ -n "$absent" ]; then
    cat >&2 <<END
synspan: error: this machine lacks:$absent

On Debian 12, as root, this script installs all of it. Elsewhere, install by hand:
  Rust      $RUST_MIN or newer; for the eBPF programs rustup's nightly with the component rust-src
            (rustup toolchain install nightly --component rust-src), then: cargo install bpf-linker
  tools     gcc and g++, make, pkg-config, jq, iproute2, nftables, iptables, conntrack-tools, tcpdump, bpftool, procps, util-linux, and
            for the benchmark's comparison tcplife and tcpstates from libbpf-tools
END
    exit 1
fi
mkdir -p "$CACHE"
rm -f "$CACHE/setup${lint:+-lint}".*
: >"$stamp"
say "this machine has all that synspan needs: cargo $(rust_version "$(find_cargo)"), eBPF by $(bpf_route), $(bpf-linker --version)"
