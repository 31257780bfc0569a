#!/usr/bin/env bash
# test-audit.sh: whether make audit finds what it must, by small databases of advisories made here. By hand, and not in
# make test: cargo-audit takes minutes to build.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

work=$(mktemp -d)
trap 'rm -rf "$work" "$LOG"' EXIT
passed=0 failed=0
# check NAME WANTED-CODE WANTED-TEXT DATABASE
check() {
    local code=0
    AUDIT_DB=$4 "$ROOT/scripts/audit.sh" >"$work/said" 2>&1 || code=$?
    if [ "$code" = "$2" ] && grep -qE -- "$3" "$work/said"; then
        passed=$((passed + 1))
        echo "ok    $1"
    else
        failed=$((failed + 1))
        echo "FAIL  $1 (ended with $code)"
        sed 's/^/      /' "$work/said"
    fi
}
# advisory DATABASE CRATE PATCHED [INFORMATIONAL]
advisory() {
    local kind=${4:+informational = \"$4\"}
    mkdir -p "$work/$1/crates/$2"
    cat >"$work/$1/crates/$2/RUSTSEC-2026-9999.md" <<END
\`\`\`toml
[advisory]
id = "RUSTSEC-2026-9999"
package = "$2"
date = "2026-01-01"
$kind

[versions]
patched = ["$3"]
\`\`\`

# Made for a test

It says nothing of the real $2.
END
}
# The version of aya that is built in.
aya=$(sed -n '/^name = "aya"$/{n;s/^version = "\(.*\)"$/\1/p}' "$ROOT/Cargo.lock")
[ -n "$aya" ] || die "Cargo.lock has no aya"
advisory hit aya '>= 99.0.0'
advisory old aya ">= $aya"
advisory unsound aya '>= 99.0.0' unsound
advisory unmaintained aya '>= 99.0.0' unmaintained
mkdir -p "$work/empty/crates" "$work/nothing"

check "an empty database: nothing is said against the crates" 0 'Scanning Cargo.lock' "$work/empty"
check "an advisory about a version in Cargo.lock fails, and names it" 1 'ID: +RUSTSEC-2026-9999' "$work/hit"
check "the crate and its version are named" 1 "^Crate: +aya" "$work/hit"
check "one that is mended in that version does not" 0 'Scanning Cargo.lock' "$work/old"
check "one that calls it unsound does" 1 'ID: +RUSTSEC-2026-9999' "$work/unsound"
check "one that calls it unmaintained is shown only" 0 'ID: +RUSTSEC-2026-9999' "$work/unmaintained"
check "a folder that is no database is said to be none" 1 'no checkout of the RustSec advisory database' "$work/nothing"

echo "audit: $passed passed, $failed failed"
[ "$failed" = 0 ]
