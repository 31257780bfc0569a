# shellcheck shell=bash
# How the suites that are scripts check and count. Sourced after env.sh, never run. Files lie in $out, which goes with the
# script.

out=$(mktemp -d)
trap 'rm -rf "$out" "$LOG"' EXIT
passed=0 failed=0
export out

# check NAME COMMAND...: runs it, and shows the end of what it said where it fails.
check() {
    local name=$1
    shift
    if "$@" >"$out/said" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        # And an end to the last line, which jq leaves open.
        tail -n 60 "$out/said" | cut -c -400 | awk '{ print "      " $0 }'
    fi
}
# says FILE PATTERN, says_not FILE PATTERN: of a file in $out; each shows it where it finds it otherwise.
says() { grep -qE -- "$2" "$out/$1" || { cat "$out/$1" && return 1; }; }
says_not() { ! grep -qE -- "$2" "$out/$1" || { cat "$out/$1" && return 1; }; }
# counted SUITE: the closing line, and whether nothing failed.
counted() {
    echo "$1: $passed passed, $failed failed"
    [ "$failed" = 0 ]
}
