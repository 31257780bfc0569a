"""Sends the case's metrics as OTLP/JSON, as the agent sends them: send.py OTLP_URL [WHAT].

    case       what two pods' attempts, their node's network and the agent there tell, and an SDK in one of the pods
    first      a counter's 0 and its first value, 5, in one request
    delta      a counter of delta temporality, and a good one beside it
    twice      two values of one series at one time, and a good series beside it
    late       a counter from two hours ago

Prints the status and the body of the answer, and ends with 1 where it is an error."""

import json
import sys
import time
import urllib.error
import urllib.request

NOW = time.time_ns()
SECOND = 10**9
START = NOW - 60 * SECOND
TRACE = "5b43c67b8d3fe7e4a27560b2d603f275"
CUMULATIVE, DELTA = 2, 1


def attributes(values):
    return [{"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": value}}
            for key, value in values.items()]


def point(value, of, time=NOW, exemplar=None):
    point = {"startTimeUnixNano": str(START), "timeUnixNano": str(time), "asInt": str(value), "attributes": attributes(of)}
    if exemplar:
        point["exemplars"] = [{"timeUnixNano": str(time), "asInt": "1", "traceId": exemplar, "spanId": exemplar[:16]}]
    return point


def total(name, unit, points, monotonic=True, temporality=CUMULATIVE):
    return {"name": name, "unit": unit,
            "sum": {"isMonotonic": monotonic, "aggregationTemporality": temporality, "dataPoints": points}}


def counter(name, unit, *values):
    """Of pairs of value and attributes, and perhaps a trace; each new series begins with a 0."""
    points = []
    for value, of, *exemplar in values:
        if value:
            points.append(point(0, of, START))
        points.append(point(value, of, NOW, *exemplar))
    return total(name, unit, points)


def level(name, unit, value, of):
    return total(name, unit, [point(value, of)], monotonic=False)


def gauge(name, unit, value):
    return {"name": name, "unit": unit, "gauge": {"dataPoints": [{"timeUnixNano": str(NOW), "asDouble": value}]}}


def histogram(name, bounds, counts, of, trace, value):
    exemplar = {"timeUnixNano": str(NOW), "asDouble": value, "traceId": trace, "spanId": trace[:16]}
    return {"name": name, "unit": "s", "histogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": [{
        "startTimeUnixNano": str(START), "timeUnixNano": str(NOW), "attributes": attributes(of), "count": str(sum(counts)),
        "sum": value, "explicitBounds": bounds, "bucketCounts": [str(count) for count in counts],
        "exemplars": [exemplar]}]}}


def exponential(name, of):
    return {"name": name, "unit": "s", "exponentialHistogram": {"aggregationTemporality": CUMULATIVE, "dataPoints": [{
        "startTimeUnixNano": str(START), "timeUnixNano": str(NOW), "attributes": attributes(of), "count": "4", "sum": 2.5,
        "scale": 3, "zeroCount": "1", "zeroThreshold": 0, "positive": {"offset": -5, "bucketCounts": ["1", "0", "2"]}}]}}


def pod(service, uid):
    return {"service.name": service, "service.namespace": "shop", "service.instance.id": uid, "k8s.namespace.name": "shop",
            "k8s.pod.name": f"{service}-7d", "k8s.pod.uid": uid, "k8s.deployment.name": service, "k8s.node.name": "node-a"}


CONTROL = pod("vehicle-control", "0f6ad2d2-5b12-4a51-9c0e-000000000001")
CART = pod("cart", "0f6ad2d2-5b12-4a51-9c0e-000000000002")
SDK = {"service.name": "vehicle-control", "service.namespace": "shop", "k8s.pod.name": "vehicle-control-7d",
       "service.instance.id": "shop.vehicle-control-7d.app", "telemetry.sdk.language": "java"}
NETWORK = {"service.name": "node-network", "service.instance.id": "node-a", "k8s.node.name": "node-a"}
AGENT = {"service.name": "synspan", "service.instance.id": "node-a", "k8s.node.name": "node-a"}
D = {"synspan.destination": "192.168.50.20", "server.port": 8443}
OK = {**D, "synspan.outcome": "established"}
FAILED = {**D, "synspan.outcome": "timed_out", "synspan.cause": "source_port_reuse", "synspan.responsible": "node",
          "error.type": "timed_out"}
RANGE = {"synspan.wire.local.address": "192.168.50.10", **D}


def case():
    return [
        (CONTROL, [
            counter("synspan.connect.attempts", "{attempt}", (21, OK), (1, FAILED, TRACE)),
            counter("synspan.connect.failures", "{attempt}", (1, D)),
            counter("synspan.connect.syn_retransmissions", "{segment}", (5, D)),
            counter("synspan.port_reuses", "{reuse}", (0, {**D, "synspan.evidence": "tuple", "synspan.outcome": "established"}),
                    (1, {**D, "synspan.evidence": "exact", "synspan.outcome": "timed_out"}, TRACE)),
            histogram("synspan.connect.duration", [0.25, 0.5, 1, 2, 3], [20, 0, 0, 1, 0, 0], OK, TRACE, 1.013),
            histogram("synspan.port_reuse.gap", [0.01, 0.1, 1, 5], [0, 0, 1, 0, 0], D, TRACE, 0.162),
            exponential("synspan.flow.rtt", D),
        ]),
        (CART, [
            counter("synspan.connect.attempts", "{attempt}", (40, OK)),
            counter("synspan.connect.failures", "{attempt}", (0, D)),
        ]),
        (SDK, [counter("http.server.requests", "{request}", (30, {"http.route": "/doors"}))]),
        (NETWORK, [
            level("synspan.snat.port.usage", "{port}", 25000, RANGE),
            level("synspan.snat.port.limit", "{port}", 28232, RANGE),
            level("synspan.conntrack.entry.usage", "{entry}", 900, {}),
            level("synspan.conntrack.entry.limit", "{entry}", 262144, {}),
            counter("synspan.conntrack.entry.drops", "{entry}", (0, {})),
        ]),
        (AGENT, [
            counter("synspan.agent.observations", "{observation}", (700, {"synspan.point": "pod_nic"})),
            counter("synspan.agent.lost_observations", "{observation}", (0, {"synspan.lost.side": "node"})),
            gauge("synspan.agent.ledger.horizon", "s", 600), gauge("synspan.agent.ledger.window", "s", 600),
            gauge("synspan.agent.uptime", "s", 3600),
            counter("process.cpu.time", "s", (2, {})), level("process.memory.usage", "By", 60_000_000, {}),
        ]),
    ]


GOOD = counter("try.beside", "{attempt}", (3, D))
WHAT = {
    "case": case,
    "first": lambda: [(CONTROL, [total("try.first", "{attempt}", [point(0, D, NOW - SECOND // 1000), point(5, D)])])],
    "delta": lambda: [(CONTROL, [GOOD, total("try.delta", "{attempt}", [point(5, D)], temporality=DELTA)])],
    "twice": lambda: [(CONTROL, [total("try.twice", "{attempt}", [point(5, D)])]),
                      (CONTROL, [GOOD, total("try.twice", "{attempt}", [point(6, D)])])],
    "late": lambda: [(CONTROL, [total("try.late", "{attempt}", [point(5, D, NOW - 7200 * SECOND)])])],
}

url = sys.argv[1]
what = sys.argv[2] if len(sys.argv) > 2 else "case"
# One request for each resource where they are to come one after another.
resources = WHAT[what]()
requests = [[one] for one in resources] if what == "twice" else [resources]
for request in requests:
    body = {"resourceMetrics": [
        {"resource": {"attributes": attributes(of)}, "scopeMetrics": [{"scope": {"name": "synspan"}, "metrics": metrics}]}
        for of, metrics in request]}
    ask = urllib.request.Request(f"{url}/v1/metrics", json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(ask, timeout=10) as answer:
            print(answer.status, answer.read().decode())
    except urllib.error.HTTPError as error:
        print(error.code, error.read().decode())
        sys.exit(1)
