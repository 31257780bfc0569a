#!/usr/bin/env bash
# Asks whether an advisory of the RustSec database is about a version in Cargo.lock, and fails if so, naming it. What is
# only unmaintained is shown. The database changes every day: this says something of today, and is no part of the tests.
#
# AUDIT_DB is a folder with a checkout of the database, for where its git repository cannot be reached.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

audit=$(scripts/tool.sh cargo-audit "$CARGO_AUDIT_VERSION" --no-default-features)
args=(audit --file Cargo.lock --deny unsound --color never)
if [ -n "${AUDIT_DB:-}" ]; then
    [ -d "$AUDIT_DB/crates" ] ||
        die "AUDIT_DB=$AUDIT_DB is no checkout of the RustSec advisory database: it has no folder crates/"
    # A folder named by the user is never fetched into.
    args+=(--db "$AUDIT_DB" --no-fetch)
else
    args+=(--db "$CACHE/advisory-db")
fi
code=0
"$audit" "${args[@]}" 2>"$LOG" || code=$?
if [ -z "${AUDIT_DB:-}" ] && grep -qE "couldn't fetch advisory database|git operation failed" "$LOG"; then
    die "the RustSec advisory database could not be fetched: run this with network access to its git repository," \
        "or name a checkout of it: make audit AUDIT_DB=DIR"
fi
cat "$LOG" >&2
exit "$code"
