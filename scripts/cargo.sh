#!/usr/bin/env bash
# Runs the cargo that fits: the one on PATH if it is new enough, else Debian's cargo-web with its own compiler, even
# where an older rustup stands before it in PATH.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
trap - EXIT

cargo=$(find_cargo) || die "no cargo of version $RUST_MIN or newer: run 'make setup'"
if [ "$cargo" = /usr/bin/cargo ]; then
    # Not what rustup may have put in the way: cargo looks for its subcommands in CARGO_HOME first.
    export RUSTC=/usr/bin/rustc RUSTDOC=/usr/bin/rustdoc CARGO=/usr/bin/cargo PATH="/usr/bin:$PATH"
    case "${1:-}" in
        clippy | fmt) exec "/usr/bin/cargo-$1" "$@" ;;
    esac
fi
exec "$cargo" "$@"
