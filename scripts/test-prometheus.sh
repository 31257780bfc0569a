#!/usr/bin/env bash
# The suite with a real Prometheus: the alerts and their tests, every PromQL query of docs/answers.md and docs/runbook.md,
# the answers of the five questions with the case's values sent over OTLP through a Collector, and what the documents say
# of Prometheus' ways. Everything is on this machine's loopback. What real agents tell it is in test-replicas.sh.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

[ -n "${SYNSPAN_PROMETHEUS_DIR:-}" ] || exec "$ROOT/scripts/with-prometheus.sh" "${BASH_SOURCE[0]}" "$@"
. "$ROOT/scripts/checks.sh"
. "$ROOT/scripts/promql.sh"
for tool in jq python3; do have "$tool" || die "$tool is missing: make setup installs it"; done

promtool=$SYNSPAN_PROMETHEUS_DIR/promtool
alerts=$ROOT/otel-collector/alerts
rules=$alerts/synspan.rules.yaml
documents=("$ROOT/docs/answers.md" "$ROOT/docs/runbook.md")

# The alerts.
check "the rules are right" "$promtool" check rules --lint-fatal "$rules"
for config in "$ROOT"/otel-collector/prometheus/*.yaml; do
    check "$(basename "$config") is a valid configuration" "$promtool" check config --lint-fatal "$config"
done
for tests in "$alerts"/tests/*.yaml; do
    check "the rules do what $(basename "$tests") says" "$promtool" test rules "$tests"
done
names=$(sed -n 's/^ *- alert: //p' "$rules")
# told ALERT: a test in which it fires and one in which it stays quiet, and a section of the runbook where its URL leads.
told() {
    local anchor=${1,,}
    grep -qE "^  - name: $1 fires" "$alerts"/tests/*.yaml || { echo "no test in which $1 fires" && return 1; }
    grep -qE "^  - name: \"quiet $1:" "$alerts"/tests/*.yaml || { echo "no test in which $1 stays quiet" && return 1; }
    grep -qx "## $1" "$ROOT/docs/runbook.md" || { echo "no section of docs/runbook.md" && return 1; }
    grep -qx " *runbook_url: docs/runbook.md#$anchor" "$rules" || { echo "no runbook_url that leads to it" && return 1; }
}
for name in $names; do check "$name is tested both ways, and is in the runbook" told "$name"; done
sections() { diff <(sed -n 's/^## //p' "$ROOT/docs/runbook.md") <(echo "$names"); }
check "the runbook has the alerts in their order, and no others" sections
loaded() {
    diff <(ask /api/v1/rules type=alert | jq -r '.data.groups[].rules[].name' | sort) <(sort <<<"$names")
}
# fires ALERT COUNT: how many of it there would be at this moment, by its expression as Prometheus has loaded it.
fires() {
    local query
    query=$(ask /api/v1/rules type=alert | jq -er --arg name "$1" '.data.groups[].rules[] | select(.name == $name).query')
    of "$query" length | tee /dev/stderr | grep -qx "$2"
}

check "Prometheus has loaded every alert" loaded
not_yet() { ! case_answers || { echo "a Prometheus that is empty has answers" && return 1; }; }
check "an empty Prometheus answers none of the questions" not_yet

# The case, through the Collector as it is shipped for this.
collector() {
    # shellcheck disable=SC2016
    SYNSPAN_OUT=$out "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/prometheus.yaml" \
        bash -c 'python3 "$ROOT/tests/prometheus/send.py" "http://$SYNSPAN_OTLP_HTTP"'
}
check "the case's metrics go through the Collector" collector
arrived() { [ "$(of 'count(synspan_connect_attempts_total)' '.[0].value[1]')" = 3 ]; }
check "all of them are in Prometheus" arrived
check "each of the five questions has its answer" case_answers
check "the first reuse, a minute old, is an alert's" fires SynspanPortReuse 1
check "and no other alert's" fires SynspanNoLocalPort 0
runs() { asked "$1" | tee "$out/answer" | jq -e '.status == "success"' || { cat "$out/answer" && return 1; }; }
for document in "${documents[@]}"; do
    count=0
    while read -r query; do
        count=$((count + 1))
        name=$(jq -r '.under + ": " + (.query | gsub("\\s+"; " ") | .[:70])' <<<"$query")
        check "$(basename "$document"), $name" runs "$query"
    done < <(queries "$document")
    # Were the blocks not found, nothing would be run.
    blocks=$(grep -cE '^ *```promql' "$document")
    check "$(basename "$document") has its queries" test "$count" -ge 10 -a "$count" = "$blocks"
done

# What the documents say of Prometheus' ways. send WHAT: by itself, not through the Collector.
send() { python3 "$ROOT/tests/prometheus/send.py" "$SYNSPAN_PROMETHEUS/api/v1/otlp" "$1" >"$out/sent" 2>&1; }
first() {
    send first && of 'try_first_total[5m]' '[.[0].values[][1]] | join(" ")' | grep -qx '0 5' &&
        of 'increase(try_first_total[5m]) >= 5' length | grep -qx 1 &&
        of 'increase(try_first_total[5m])' '.[0].value[1]'
}
check "a counter's 0 and its first value in one request are both stored, and a rate sees them" first
# refused WHAT STATUS COUNT: with nothing of the request taken; COUNT series of it are there from before.
refused() {
    ! send "$1" && says sent "^$2 " && of "try_$1_total" length | grep -qx "$3" &&
        of try_beside_total length | grep -qx 0
}
check "a delta is refused, and with it the rest of the request" refused delta 500 0
check "so is another value for a time that has one" refused twice 400 1
check "and what is older than the window" refused late 400 0
native() { of 'histogram_count(synspan_flow_rtt_seconds)' '.[0].value[1]' | grep -qx 4; }
check "an exponential histogram is a native one" native
exemplar() {
    asked '{"kind": "exemplars", "query": "synspan_port_reuse_gap_seconds_bucket"}' |
        jq -e 'any(.data[].exemplars[]; .value == "0.162" and .labels.trace_id == "5b43c67b8d3fe7e4a27560b2d603f275")'
}
check "exemplars of histograms are kept" exemplar
join='rate(http_server_requests_total[5m]) * on (job, instance) group_left (k8s_pod_name) target_info'
joined() {
    of 'count(target_info{job="shop/vehicle-control"})' '.[0].value[1]' | grep -qx 2 &&
        of "$join" '.[].metric.k8s_pod_name' | grep -qx vehicle-control-7d
}
check "an SDK's series join with their own target_info while ours are there" joined
not_joined() { ! ask /api/v1/query "query=${join/job, instance/job}" >"$out/answer" && says answer 'found duplicate series'; }
check "by job alone they do not" not_joined
named() {
    diff - <(ask /api/v1/label/__name__/values |
        jq -r '.data[] | select(test("_(bucket|count|sum)$|^synspan:|^try_|^ALERTS") | not)') <<'END'
http_server_requests_total
process_cpu_time_seconds_total
process_memory_usage_bytes
synspan_agent_ledger_horizon_seconds
synspan_agent_ledger_window_seconds
synspan_agent_lost_observations_total
synspan_agent_observations_total
synspan_agent_uptime_seconds
synspan_connect_attempts_total
synspan_connect_failures_total
synspan_connect_syn_retransmissions_total
synspan_conntrack_entry_drops_total
synspan_conntrack_entry_limit
synspan_conntrack_entry_usage
synspan_flow_rtt_seconds
synspan_port_reuses_total
synspan_snat_port_limit
synspan_snat_port_usage
target_info
END
}
check "names and units are as the rules have them" named

counted prometheus
