#!/usr/bin/env bash
# The suite of agents and a Prometheus, all of them real: two pods of one Deployment on two nodes of the lab, one of them
# with two containers, named by a Kubernetes API server; an OpenTelemetry SDK that sends as the same service from each of
# the two; all of it through the Collector as it is shipped for this. Totals must be exact, each series must have one
# writer, the SDK's own series must join, the first source port that is used again must be an alert, and docs/answers.md
# must have its five answers. Needs root, and the lab built.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"

lab=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}
if [ -z "${SYNSPAN_REPLICAS:-}" ]; then
    SYNSPAN_REPLICAS=$(mktemp -d)
    trap 'rm -rf "$SYNSPAN_REPLICAS" "$LOG"' EXIT
    export SYNSPAN_REPLICAS SYNSPAN_OUT=$SYNSPAN_REPLICAS/written
    export SYNSPAN_PROMETHEUS_LOG=$SYNSPAN_REPLICAS/prometheus.log SYNSPAN_COLLECTOR_LOG=$SYNSPAN_REPLICAS/collector.log
    export SYNSPAN_PROMETHEUS_CONFIG=$SYNSPAN_REPLICAS/prometheus.yaml
    mkdir "$SYNSPAN_OUT"
    # As it is shipped, but for how often the rules are evaluated: each second and not each minute.
    {
        echo 'global: {evaluation_interval: 1s}'
        sed "s|- \.\./alerts/|- $ROOT/otel-collector/alerts/|" "$ROOT/otel-collector/prometheus/prometheus.yaml"
    } >"$SYNSPAN_PROMETHEUS_CONFIG"
    "$ROOT/scripts/with-prometheus.sh" \
        "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/prometheus.yaml" \
        "$ROOT/scripts/with-kubernetes.sh" "${BASH_SOURCE[0]}" "$lab"
    exit
fi
. "$ROOT/scripts/checks.sh"
. "$ROOT/scripts/promql.sh"

# eventually COMMAND...: until it succeeds, 30 s at most.
eventually() {
    local end=$((SECONDS + 30))
    until "$@" >"$out/tried" 2>&1; do
        ((SECONDS < end)) || { cat "$out/tried" && return 1; }
        sleep 0.3
    done
}
# for_good COMMAND...: it succeeds, and does so through the next exports, of which there is one a second.
for_good() {
    local i
    eventually "$@" && for i in 1 2 3 4 5 6; do sleep 0.5 && "$@" || return 1; done
}

# The lab, which waits for a line after each of its stages. It ends when this script does, for its input ends then.
# shellcheck disable=SC2016
coproc LAB {
    SYNSPAN_LAB_PREPARE='"$ROOT/tests/kubernetes/apply.sh" "$ROOT/tests/kubernetes/objects/20-vehicle-control.yaml" "$ROOT/tests/kubernetes/extra/replica.yaml"' \
        SYNSPAN_LAB_SETTINGS='{"cluster_pods": true}' SYNSPAN_LAB_NAMES_ALL=true \
        SYNSPAN_LAB_CONFIG='{"metrics": {"interval": "1s"}}' \
        exec "$ROOT/scripts/lab-kubernetes.sh" "$lab" replicas --forward "$SYNSPAN_OTLP_GRPC" 2>"$out/lab.log"
}
# shellcheck disable=SC2153 # bash sets it for the coprocess
lab_pid=$LAB_PID
exec 5<&"${LAB[0]}" 6>&"${LAB[1]}"
# stage NAME: waits for the lab to have come so far.
stage() {
    local line
    read -r -t 120 line <&5 || { tail -n 30 "$out/lab.log" && return 1; }
    echo "$line" | tee "$out/stage" | jq -e --arg name "$1" '.stage == $name'
}
# reached NAME WHAT: the check that it has, without which there is nothing more to see.
reached() {
    check "$2" stage "$1"
    [ "$(jq -r .stage "$out/stage" 2>/dev/null)" = "$1" ] || { counted replicas || exit 1; }
}
go_on() { echo >&6; }

reached plain "four containers on two nodes make their attempts"
"$SYNSPAN_KUBE_KUBECTL" get pods -A -o json | jq '[.items[] | {
    address: .status.podIP, job: "\(.metadata.namespace)/\(.metadata.labels["app.kubernetes.io/name"])",
    instance: .metadata.uid, pod: .metadata.name, node: .spec.nodeName}]' >"$out/pods"
two=$(jq -r '.[] | select(.job == "shop/vehicle-control").pod' "$out/pods" | sort)

# An SDK in each pod of the service, with the names that the OpenTelemetry operator gives it. Each line is a request.
# sdk POD: its process.
sdk() {
    OTEL_SERVICE_NAME=vehicle-control OTEL_METRIC_EXPORT_INTERVAL=500 OTEL_EXPORTER_OTLP_ENDPOINT=http://$SYNSPAN_OTLP_GRPC \
        OTEL_RESOURCE_ATTRIBUTES="service.namespace=shop,k8s.namespace.name=shop,k8s.pod.name=$1,service.instance.id=shop.$1.vehicle-control" \
        exec "$(dirname "$lab")/sdk" >>"$out/sdk.log" 2>&1 5<&- 6>&- 7>&-
}
exec 7> >(sdk "$(head -n 1 <<<"$two")")
first_sdk=$!
exec 8> >(sdk "$(tail -n 1 <<<"$two")")
second_sdk=$!
# served COUNT: each of the two has served so many requests more.
served() {
    local i
    for ((i = 0; i < $1; i++)); do
        echo /doors >&7
        echo /doors >&8
    done
}
served 30

# By pod, outcome and cause, what was attempted by the lab's own count, and what Prometheus has: the last value of each
# series. increase() would be another number: it extrapolates.
expected() {
    jq -r --slurpfile pods "$out/pods" '.attempts[] | . as $row
        | $pods[0][] | select(.address == $row.address)
        | [.job, .instance, .pod, .node, $row.outcome, $row.cause, $row.count] | @tsv' "$out/stage" | sort
}
totals() {
    local by='job, instance, k8s_pod_name, k8s_node_name, synspan_outcome, synspan_cause'
    diff <(expected) <(of "sum by ($by) (synspan_connect_attempts_total)" '.[]
        | (.metric | [.job, .instance, .k8s_pod_name, .k8s_node_name, .synspan_outcome, .synspan_cause]) + [.value[1]] | @tsv' | sort)
}
# by_job QUERY JQ: whether the sums by job are what the lab's rows that JQ selects come to.
by_job() {
    diff <(expected | jq -R -s -r "split(\"\n\") | map(select(. != \"\") | split(\"\t\") | select($2)) | group_by(.[0])[]
            | [.[0][0], (map(.[6] | tonumber) | add)] | @tsv") \
        <(of "$1" '.[] | [.metric.job, .value[1]] | @tsv' | sort)
}
jobs_exact() {
    by_job 'sum by (job) (synspan_connect_attempts_total)' true &&
        by_job 'sum by (job) (synspan_connect_duration_seconds_count)' true &&
        by_job 'sum by (job) (synspan_connect_failures_total)' '.[4] != "established"'
}
# shown [PATTERN]: the lab's rows, those with the pattern, without their instances.
shown() { expected | grep -- "${1:-}" | cut -f 1,3- | sed 's/^/      /'; }
check "totals are exact: by pod, outcome and cause, and nobody else has any" for_good totals
shown
check "so they are by job: attempts, durations and failures" jobs_exact

# The first source port that is used again.
ever() { of "count(last_over_time($1[1h]))" 'length' | grep -qx "$2"; }
reused='synspan_connect_attempts_total{synspan_cause=~"source_port_reuse|source_port_reuse_suspected"}'
check "there never was a counter of source port reuse" ever "$reused" 0
quiet() { of 'ALERTS{alertname=~"SynspanPortReuse.*"}' length | grep -qx 0; }
check "and no alert of it" quiet
lacking() { { case_answers || true; } | sed -n 's/^no answer to question \([1-5]\):.*/\1/p' | tr -d '\n' | grep -qx "$1"; }
check "the five questions lack the answers that only a reuse gives" lacking 345
go_on
reached reuse "a source port is used again, and the connect times out"
fires() {
    ask /api/v1/alerts >"$out/alerts"
    jq -e --arg name "$1" '[.data.alerts[] | select(.labels.alertname == $name)]
        | length == 1 and .[0].state == "firing" and .[0].labels.job == "shop/vehicle-control"
            and .[0].labels.server_port == "8443" and (.[0].value | tonumber) == 1' "$out/alerts" || { cat "$out/alerts" && return 1; }
}
check "the first one ever fires the alert" eventually fires SynspanPortReuse
jq -r '.data.alerts[] | select(.labels.alertname == "SynspanPortReuse") | .annotations.description' "$out/alerts" | sed 's/^/      /'
check "and the one on all reuses" eventually fires SynspanPortReuseSeen
check "totals are still exact, the reuse among them" for_good totals
shown source_port_reuse
check "and by job" jobs_exact

# The five questions of docs/answers.md.
check "each of the five questions has its answer" eventually case_answers
answers_all() {
    local query count=0
    while read -r query; do
        if ! { asked "$query" | tee "$out/answer" | jq -e '.data | (.result? // .) | length > 0'; }; then
            echo "no answer: $query" && return 1
        fi
        count=$((count + 1))
    done < <(queries "$ROOT/docs/answers.md")
    [ "$count" -ge 10 ]
}
check "and every other query of that page has one" eventually answers_all
# answered STEP JQ: whether it holds of the answer to the first query under that question.
answered() { asked "$(question "$1")" | tee "$out/answer" | jq -e "$2" || { cat "$out/answer" && return 1; }; }
of_case='.job == "shop/vehicle-control" and .synspan_destination == "192.168.60.20" and .server_port == "8443"'
check "1: the workload and the destination whose attempts fail" \
    answered 1 "[.data.result[] | select(.metric | $of_case)] | length == 1 and (.[0].value[1] | tonumber) > 0"
check "2: it is the node's" answered 2 "[.data.result[] | select(.metric | $of_case)] | length == 1 and (.[0].metric
    | .synspan_responsible == \"node\" and .synspan_cause == \"source_port_reuse\" and .synspan_outcome == \"timed_out\")"
# The attempt's span, as the Collector wrote it.
jq -s '[.[].resourceSpans[].scopeSpans[].spans[] | select(.name == "tcp connect")
    | {trace: .traceId, span: .spanId, of: ([.attributes[] | {key, value: (.value | to_entries[0].value)}] | from_entries)}
    | select(.of["synspan.cause"] == "source_port_reuse")]' "$SYNSPAN_OUT/traces.jsonl" >"$out/spans"
# exemplars JQ: whether there are any in the answer, each leading to that span, of which $span has the facts, and JQ holds of
# them.
exemplars() {
    jq -e --slurpfile spans "$out/spans" '($spans[0] | length) == 1 and $spans[0][0] as $span | [.data[].exemplars[]]
        | length > 0 and all(.[]; .labels.trace_id == $span.trace and .labels.span_id == $span.span) and ('"$1"')' "$out/answer" ||
        { cat "$out/answer" "$out/spans" && return 1; }
}
attempt() { answered 3 '.data | length == 1' && exemplars true; }
check "3: the exemplar leads to the attempt's trace" attempt
gap() {
    answered 4 "[.data.result[] | select(.metric | $of_case)] | length == 1 and (.[0].value[1] | tonumber) > 0" || return 1
    asked '{"kind": "exemplars", "query": "synspan_port_reuse_gap_seconds_bucket{job=\"shop/vehicle-control\"}"}' >"$out/answer"
    # shellcheck disable=SC2016
    exemplars 'any(.[]; (.value | tonumber) == ($span.of["synspan.previous_owner.gap"] | tonumber))'
}
check "4: how long the port had been free, with an exemplar that has the previous owner's very gap" gap
check "5: who suffers most" answered 5 ".data.result | length == 1 and (.[0].metric | $of_case)"
jq -r '.[0].of | "      port \(.["synspan.wire.local.port"]) had been of \(.["synspan.previous_owner.service.name"]) until"
    + " \(.["synspan.previous_owner.gap"]) s before (\(.["synspan.evidence"]))"' "$out/spans"

# The SDK beside it.
served 12
sdks() {
    of http_server_requests_total '.[] | [.metric.job, .metric.instance, .value[1]] | @tsv' | sort |
        diff <(awk '{ print "shop/vehicle-control\tshop." $0 ".vehicle-control\t42" }' <<<"$two") -
}
check "the SDK's own totals are its own" eventually sdks
joined() {
    of 'rate(http_server_requests_total[5m]) * on (job, instance) group_left (k8s_pod_name) target_info' \
        '.[] | select(.value[1] | tonumber > 0).metric | [.job, .instance, .k8s_pod_name] | @tsv' | sort |
        diff <(awk '{ print "shop/vehicle-control\tshop." $0 ".vehicle-control\t" $0 }' <<<"$two") -
}
check "each of its series joins with its own target_info, once" joined
ours() {
    of 'count(synspan_connect_attempts_total * on (job, instance) group_left (k8s_deployment_name) target_info)
        == count(synspan_connect_attempts_total)' length | grep -qx 1
}
check "and so does each of ours with ours" ours
infos() {
    ask /api/v1/series 'match[]=target_info' | tee "$out/infos" |
        jq -e '[.data[] | [.job, .instance]] | length == (unique | length)' || { cat "$out/infos" && return 1; }
    jq -e '[.data[] | select(.job == "shop/vehicle-control")] | length == 4' "$out/infos"
}
check "no job and instance has had two of them; the service has four: of two pods and two SDKs" infos

# One writer.
go_on
reached ended "the agents end, and say what they have"
check "totals are as they were" for_good totals
# The spans of the pod with two containers, which tell the two apart; metrics do not.
containers() {
    local all
    all=$(expected | awk -F '\t' '$1 == "shop/vehicle-control" && $4 == "node-a" { n += $7 } END { print n }')
    jq -s -c '[.[].resourceSpans[]
            | ([.resource.attributes[] | {key, value: (.value | to_entries[0].value)}] | from_entries) as $of
            | select($of["service.name"] == "vehicle-control" and $of["k8s.node.name"] == "node-a")
            | .scopeSpans[].spans[] | select(.name == "tcp connect") | $of["k8s.container.name"]]
        | group_by(.) | map({key: .[0], value: length}) | from_entries' "$SYNSPAN_OUT/traces.jsonl" >"$out/containers"
    jq -e --argjson all "$all" 'keys == ["istio-proxy", "vehicle-control"] and add == $all' "$out/containers" ||
        { cat "$out/containers" && return 1; }
}
check "the one pod's attempts are those of its two containers" eventually containers
sed 's/^/      /' "$out/containers"
unique() {
    local by='job, instance, synspan_destination, server_port, synspan_outcome, synspan_cause, synspan_responsible, error_type'
    of "count by ($by) (synspan_connect_attempts_total) > 1" length | grep -qx 0
}
check "no two series differ by their pod alone" unique
# In the order in which they came: of each series one start, no time that comes again, and none that goes back.
written() {
    jq -n -e 'reduce (inputs | .resourceMetrics[] | (.resource.attributes | map(select(.key | test("^service\\."))) | tojson) as $of
            | .scopeMetrics[].metrics[] | .name as $name | (.gauge != null) as $gauge
            | (.sum // .histogram // .gauge // .exponentialHistogram).dataPoints[]
            # A gauge has no start that means anything.
            | {series: ($of + $name + (.attributes // [] | sort_by(.key) | tojson)), start: (if $gauge then null else .startTimeUnixNano end), time: .timeUnixNano}) as $point
        ({seen: {}, wrong: []}; .seen[$point.series] as $last
            | if $last != null and ($last.start != $point.start or $last.time >= $point.time) then .wrong += [[$last, $point]] else . end
            | .seen[$point.series] = $point)
        | (.seen | length) as $series | .wrong[:5], $series | if type == "array" then select(. != []) | halt_error(1) else . > 50 end' \
        "$SYNSPAN_OUT/metrics.jsonl"
}
check "each series that came to the Collector had one writer, and came in order" written
# What Prometheus counts, by its own page: samples and exemplars that came late, twice or with another value.
in_order() {
    python3 "$ROOT/tests/prometheus/ask.py" "$SYNSPAN_PROMETHEUS" /metrics >"$out/page"
    local counters='head_out_of_order_samples_appended|out_of_order_samples|too_old_samples|out_of_bound_samples'
    grep -E "^prometheus_tsdb_($counters|exemplar_out_of_order_exemplars)_total" "$out/page" | tee "$out/counts"
    [ "$(wc -l <"$out/counts")" -ge 5 ] && awk '$NF != 0 { wrong = 1 } END { exit wrong }' "$out/counts"
}
check "Prometheus took each sample in order, and refused none" in_order
check "and has nothing to say" test ! -s "$SYNSPAN_PROMETHEUS_LOG"
check "nor has the Collector" test ! -s "$SYNSPAN_COLLECTOR_LOG"
go_on
check "the lab ends well" wait "$lab_pid"
exec 7>&- 8>&-
ended() { wait "$first_sdk" && wait "$second_sdk"; }
check "and so do the SDKs" ended

[ "$failed" = 0 ] || grep -E ' (WARN|ERROR) ' "$out/lab.log" || true
counted replicas
