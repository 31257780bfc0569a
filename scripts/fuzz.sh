#!/usr/bin/env bash
# Fuzzes what reads bytes from outside, guided by coverage, on stable Rust (decision 0007).
#
#   fuzz.sh [NAME...]            these targets, all by default, TIME seconds each (default 20)
#   fuzz.sh --list               the targets
#   fuzz.sh --rerun NAME FILE    one input, with its panic
#   fuzz.sh --grow [NAME...]     take what earlier runs found new into the seeds, as few files as reach all of it
#
# Inputs that reach something new are kept in target/fuzz/found/NAME for the next run; inputs that fail in
# target/fuzz/failed/NAME.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
cd "$ROOT"

TIME=${TIME:-20}
[[ $TIME =~ ^[1-9][0-9]*$ ]] || die "TIME=$TIME: expected whole seconds, 1 or more"

# The sanitizer's coverage without a sanitizer: a pass of LLVM's that a stable compiler can be told to run. Flags of
# one's own would change what is instrumented, so they are set aside.
coverage=(-Cpasses=sancov-module)
for option in level=4 inline-8bit-counters pc-table trace-compares; do
    coverage+=("-Cllvm-args=-sanitizer-coverage-$option")
done
coverage+=(--cfg fuzzing)
dir=${CARGO_TARGET_DIR:-$ROOT/target}/fuzz
host=$("$ROOT/scripts/cargo.sh" -vV | sed -n 's/^host: //p')
program=$dir/$host/fuzz/synspan-fuzz

# With --target the flags are not those of build scripts and macros.
RUSTFLAGS=${coverage[*]} scripts/quietly.sh "building the fuzz targets (the first time some minutes)" \
    scripts/cargo.sh build --locked --profile fuzz --target "$host" --target-dir "$dir" \
    --package synspan-fuzz --features engine --bin synspan-fuzz

# libFuzzer regrets on stderr that there is no sanitizer.
list=$("$program" 2>/dev/null)
known=$(cut -f 1 <<<"$list")
# check NAME: dies unless there is such a target.
check() { grep -qxF -- "$1" <<<"$known" || die "there is no target $1, only: ${known//$'\n'/ }"; }
# Longest input that is tried: most are a message or a record, and a short one is tried more often.
engine=(-timeout=10 -rss_limit_mb=2048 -max_len=4096)

case "${1:-}" in
    --list)
        printf '%s\n' "$list"
        exit 0
        ;;
    --rerun)
        [ $# = 3 ] || die "usage: fuzz.sh --rerun NAME FILE"
        check "$2"
        [ -f "$3" ] || die "there is no file $3"
        SYNSPAN_FUZZ=$2 RUST_BACKTRACE=1 exec "$program" "${engine[@]}" "$3"
        ;;
    --grow)
        shift
        [ $# -gt 0 ] || mapfile -t -- all <<<"$known"
        for name in "${@:-${all[@]}}"; do
            check "$name"
            mkdir -p "fuzz/corpus/$name" "$dir/found/$name"
            SYNSPAN_FUZZ=$name "$program" "${engine[@]}" -merge=1 "fuzz/corpus/$name" "$dir/found/$name" >"$LOG" 2>&1 ||
                { tail -n 20 "$LOG" >&2 && die "$name: could not be merged"; }
            say "$name: $(find "fuzz/corpus/$name" -type f | wc -l) seeds"
        done
        exit 0
        ;;
    -*) die "unknown option $1: see the head of scripts/fuzz.sh" ;;
esac

names=("$@")
[ $# -gt 0 ] || mapfile -t names <<<"$known"
for name in "${names[@]}"; do check "$name"; done

total=0 failed=0
printf '%-12s %14s %10s %10s  %s\n' target executions a-second covered result
for name in "${names[@]}"; do
    mkdir -p "$dir/found/$name" "$dir/failed/$name"
    log=$dir/$name.log code=0 result=ok
    SYNSPAN_FUZZ=$name "$program" "${engine[@]}" -max_total_time="$TIME" -print_final_stats=1 \
        -artifact_prefix="$dir/failed/$name/" "$dir/found/$name" "fuzz/corpus/$name" >"$log" 2>&1 </dev/null || code=$?
    # The last figures that were told: an input that fails ends the run without its statistics in some cases.
    runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
    [ -n "$runs" ] || runs=$(sed -n 's/^#\([0-9]*\)[^0-9].*/\1/p' "$log" | tail -n 1)
    rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log")
    covered=$(sed -n 's/^#.* cov: \([0-9]*\) .*/\1/p' "$log" | tail -n 1)
    total=$((total + ${runs:-0}))
    if [ "$code" != 0 ]; then
        failed=$((failed + 1)) result=FAILED
    elif [ "${runs:-0}" = 0 ]; then
        failed=$((failed + 1)) result="FAILED: nothing was run"
    fi
    printf '%-12s %14s %10s %10s  %s\n' "$name" "${runs:-0}" "${rate:--}" "${covered:--}" "$result"
    [ "$result" != ok ] || continue
    input=$(sed -n 's/.*Test unit written to //p' "$log" | tail -n 1)
    {
        grep -v -E '^(#|INFO|NEW_FUNC|MS:|==|stat::|artifact_prefix|Base64|0x)' "$log" | tail -n 40
        printf '\n%s failed; all of it: %s\n' "$name" "$log"
        if [ -n "$input" ]; then
            printf 'input:  %s\nagain:  make fuzz ARGS="--rerun %s %s"\n' "$input" "$name" "$input"
            printf 'keep:   cp %s fuzz/corpus/%s/   (cargo test runs it from then on)\n\n' "$input" "$name"
        fi
    } >&2
done
printf '%-12s %14s\n' total "$total"
[ "$failed" = 0 ] || die "$failed of ${#names[@]} targets failed"
