#!/usr/bin/env bash
# Fails if a crate that is built into synspan or its tests has a licence that is not on the list, or comes from
# anywhere but the public registry. Licence expressions are SPDX's; "/" is the older way to write OR.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

# Licences that ask for no more than to be named.
allowed='["MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib", "0BSD", "CC0-1.0", "Unicode-3.0",
    "Unlicense", "CDLA-Permissive-2.0"]'
# Crates that may have another, each with its reason, as {"name": "LICENCE"}.
# libfuzzer-sys: carries LLVM's libFuzzer, whose older licence asks for no more than to be named; in no shipped program.
named='{"libfuzzer-sys": "NCSA"}'

cd "$ROOT"
metadata=$(scripts/cargo.sh metadata --locked --format-version 1 --filter-platform "$(uname -m)-unknown-linux-gnu" \
    --filter-platform bpfel-unknown-none)
report=$(jq -r --argjson allowed "$allowed" --argjson named "$named" '
    # Whether the expression can be met from the list. Each licence becomes T or F, then brackets, AND, OR are folded.
    def fold:
        gsub("\\( *(?<v>[TF]) *\\)"; .v) as $s
        | ($s | gsub("T +AND +T"; "T") | gsub("[TF] +AND +F|F +AND +[TF]"; "F")) as $a
        | (if $a != $s then $a
           else ($s | gsub("(?<p>^|\\( *|OR +)(?<l>[TF]) +OR +(?<r>[TF])(?<q>$| *\\)| +OR)";
               .p + (if .l == "T" or .r == "T" then "T" else "F" end) + .q)) end) as $o
        | if $o == . then . else ($o | fold) end;
    def met($also):
        gsub("/"; " OR ") | gsub(" +WITH +[A-Za-z0-9.-]+"; "")
        | gsub("(?<id>[A-Za-z0-9][A-Za-z0-9.+-]*)"; .id as $id
            | if $id == "AND" or $id == "OR" then $id elif ($allowed + $also | index($id)) then "T" else "F" end)
        | fold == "T";
    (.resolve.nodes | map(.id)) as $used
    | [.packages[] | select(.source != null) | select(.id as $i | $used | index($i))] as $crates
    | ($crates[] | select(.source != "registry+https://github.com/rust-lang/crates.io-index")
        | "source\t\(.name) \(.version): from \(.source)"),
      ($crates[] | select(. as $c | (.license // "NONE") | met([$named[$c.name] // empty]) | not)
        | "licence\t\(.name) \(.version): \(.license // "no licence named")"),
      "count\t\($crates | length)"' <<<"$metadata")
count=$(sed -n 's/^count\t//p' <<<"$report")
bad=$(sed -n 's/^\(licence\|source\)\t/  /p' <<<"$report")
[ -z "$bad" ] || die "$(printf 'not on the list in scripts/licences.sh:\n%s' "$bad")"
[ "${count:-0}" -gt 0 ] || die "no crates were found to check"
say "licences of $count crates: all on the list"
