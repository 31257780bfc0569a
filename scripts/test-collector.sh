#!/usr/bin/env bash
# The suite with a real OpenTelemetry Collector: its pipelines are valid, and what the agent sends of a connection that
# was answered by a stale ACK arrives in it whole, as a backend would get it. Needs root, and the lab built.
set -euo pipefail
. "$(dirname -- "${BASH_SOURCE[0]}")/env.sh"
. "$ROOT/scripts/checks.sh"

lab=${1:-${CARGO_TARGET_DIR:-$ROOT/target}/debug/lab}
otelcol=$("$ROOT/scripts/collector.sh")

for config in "$ROOT"/otel-collector/pipelines/*.yaml; do
    check "$(basename "$config") is a valid configuration" env SYNSPAN_OUT="$out" "$otelcol" validate --config "$config"
done

# The case between two nodes, a first SYN that is lost between them, and an attempt that nobody answers; their traces
# handed on to the Collector. The service graph draws the edge of a span that found no partner when it gives up waiting for one.
forward() {
    "$lab" run reuse-two-nodes syn-lost-two-nodes black-hole-app --family 4 --forward "$SYNSPAN_OTLP_GRPC" && sleep 5
}
export -f forward
export lab
check "the scenarios run, and their traces are taken" \
    env SYNSPAN_OUT="$out" "$ROOT/scripts/with-collector.sh" "$ROOT/otel-collector/pipelines/test.yaml" bash -c forward

# holds JQ: whether the expression is true of all spans, given as one array.
holds() {
    [ -s "$out/traces.jsonl" ] || { echo "the Collector wrote no traces" && return 1; }
    jq -s -e --arg expression "$1" '
        def attributes: [.attributes[]? | {key, value: (.value | to_entries[0].value)}] | from_entries;
        [.[].resourceSpans[] | (.resource | attributes) as $resource | .scopeSpans[] | .scope.name as $scope
            | .spans[] | {name, kind, traceId, spanId, parentSpanId, scope: $scope, resource: $resource,
                attributes: attributes, links: [.links[]? | {traceId, spanId, attributes: attributes}]}]
        | ('"$1"') as $holds | if $holds then true else (., $expression | tostring) | halt_error(1) end' "$out/traces.jsonl"
}
# shellcheck disable=SC2016
{
    check "the attempt names its cause" \
        holds 'any(.[]; .name == "tcp connect" and .attributes["synspan.cause"] == "source_port_reuse")'
    check "it links to the previous owner, whose span is there" \
        holds '. as $all | any(.[]; .attributes["synspan.cause"] == "source_port_reuse" and any(.links[];
            .attributes["synspan.link.type"] == "previous_owner" and
            (.spanId as $id | .traceId as $trace | any($all[]; .spanId == $id and .traceId == $trace))))'
    check "two agents that share nothing give it one trace: the accepted connection hangs under the attempt" \
        holds '. as $all | any(.[]; .attributes["synspan.cause"] == "source_port_reuse" and . as $connect |
            any($all[]; .name == "tcp accept" and .traceId == $connect.traceId and .parentSpanId == $connect.spanId
                and .resource["service.name"] == "account") and
            ([$all[] | select(.name == "tcp forward" and .traceId == $connect.traceId) | .resource["host.name"]]
                | unique | length) == 2)'
    check "so do they where the first SYN was lost, and the far node saw only the second" \
        holds '. as $all | any(.[]; .attributes["synspan.cause"] == "syn_lost" and . as $connect |
            any($all[]; .name == "tcp accept" and .resource["service.name"] == "web" and . as $accept |
                any($all[]; .name == "tcp connect" and .traceId == $accept.traceId and .spanId == $accept.parentSpanId
                    and .attributes["network.local.port"] == $connect.attributes["network.local.port"])))'
    check "no span has a parent that is missing" \
        holds '. as $all | all(.[]; (.parentSpanId // "") == "" or
            (.parentSpanId as $id | .traceId as $trace | any($all[]; .spanId == $id and .traceId == $trace)))'
    check "the attempt that nobody answered has its cause and its error" \
        holds 'any(.[]; .name == "tcp connect" and .attributes["synspan.cause"] == "no_response" and
            .attributes["error.type"] == "aborted")'
    check "every span is of the scope synspan and of a named service" \
        holds 'length > 0 and all(.[]; .scope == "synspan" and (.resource["service.name"] | type) == "string")'
    check "no two spans have one id" holds '(map(.traceId + .spanId) | unique | length) == length'
}

# edge METRIC CLIENT SERVER: whether the service graph has counted such an edge.
edge() {
    [ -s "$out/service_graph.jsonl" ] || { echo "the Collector drew no service graph" && return 1; }
    jq -s -e --arg metric "$1" --arg client "$2" --arg server "$3" '
        [.[].resourceMetrics[].scopeMetrics[].metrics[] | select(.name == $metric) | .sum.dataPoints[]
            | {n: (.asInt | tonumber), of: ([.attributes[] | {key, value: .value.stringValue}] | from_entries)}]
        | if any(.[]; .n > 0 and .of.client == $client and .of.server == $server) then true
          else tostring | halt_error(1) end' "$out/service_graph.jsonl"
}
check "the service graph has the edge from client to server" \
    edge traces_service_graph_request_total vehicle-control account
check "and that of the attempt that failed" edge traces_service_graph_request_failed_total cart server

counted collector
