# shellcheck shell=bash
# How the suites ask a Prometheus, and what docs/answers.md asks it. To be sourced behind checks.sh; SYNSPAN_PROMETHEUS is
# its URL.

# ask PATH NAME=VALUE...: of Prometheus' API.
ask() { python3 "$ROOT/tests/prometheus/ask.py" "$SYNSPAN_PROMETHEUS" "$@"; }
# of QUERY JQ: the answer's result through jq.
of() { ask /api/v1/query "query=$1" | jq -r ".data.result | $2"; }
# queries FILE: each block of PromQL in it, as a line of JSON: the heading it stands under, whether it is asked as
# exemplars, and the query.
queries() {
    awk '
        /^## / { heading = substr($0, 4) }
        /^ *```/ && inside { inside = 0; printf "%s\036%s\036%s\035", heading, kind, query; next }
        /^ *```promql/ { inside = 1; query = ""; kind = /exemplars/ ? "exemplars" : "query"; next }
        inside { query = query $0 "\n" }' "$1" |
        jq -R -s -c 'split("\u001d")[] | split("\u001e") | select(length == 3) | {under: .[0], kind: .[1], query: .[2]}'
}
# question STEP: the first query under that question of docs/answers.md, as `queries` gives it.
question() {
    queries "$ROOT/docs/answers.md" | jq -s -c --arg step "$1. " 'map(select(.under | startswith($step)))[0]'
}
# asked JSON: the answer to a query from `queries`.
asked() {
    local query
    query=$(jq -r .query <<<"$1")
    if [ "$(jq -r .kind <<<"$1")" = exemplars ]; then
        ask /api/v1/query_exemplars "query=$query" "start=$(($(date +%s) - 3600))" "end=$(($(date +%s) + 60))"
    else
        ask /api/v1/query "query=$query"
    fi
}
# case_answers: whether there is an answer to each of the five questions of docs/answers.md: the first query under each, an
# answer being a value above 0, or an exemplar with a trace id.
case_answers() {
    local step query answer lacking=0
    for step in 1 2 3 4 5; do
        query=$(question "$step")
        answer=$(asked "$query") || true
        jq -s -e 'length == 1 and (.[0].data | if type == "array" then any(.[].exemplars[]; .labels.trace_id != null)
            else any(.result[]; .value[1] | tonumber > 0) end)' <<<"$answer" >/dev/null 2>&1 && continue
        lacking=1
        printf 'no answer to question %s: %s\n%s\n' "$step" "$(jq -r .query <<<"$query")" "$answer"
    done
    return "$lacking"
}
