# shellcheck shell=bash
# How the suites that are scripts check and count. Sourced after env.sh, never run. Files lie in $out, which goes with the
# script.

out=$(mktemp -d)
trap 'rm -rf "$out" "$LOG"' EXIT
passed=0 failed=0
export out

# check NAME COMMAND...: runs it, and shows what it said where it fails.
check() {
    local name=$1
    shift
    if "$@" >"$out/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        sed 's/^/      /' "$out/said"
    fi
}
# says FILE PATTERN, says_not FILE PATTERN: of a file in $out; each shows it where it finds it otherwise.
says() { grep -qE -- "$2" "$out/$1" || { cat "$out/$1" && return 1; }; }
says_not() { ! grep -qE -- "$2" "$out/$1" || { cat "$out/$1" && return 1; }; }
# counted: the closing line, and whether nothing failed.
counted() {
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ]
}
