//! Names of spans, attributes and events. OpenTelemetry's own are those of the semantic conventions
//! 1.44; all of ours are under `synspan.`.

pub use crate::identify::names as resource;

/// Schema of the conventions' names.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";
/// Name of the instrumentation scope of all telemetry.
pub const SCOPE: &str = "synspan";

/// Names of log records. Each is the record's `EventName` and its attribute [`log::EVENT_NAME`], since some backends
/// drop the former.
pub mod log {
    /// The event's name once more.
    pub const EVENT_NAME: &str = "event.name";
    /// An attempt, at its outcome.
    pub const CONNECT: &str = "synspan.connect";
    /// An attempt that is open after its second SYN.
    pub const STALLED: &str = "synspan.connect.stalled";
    /// A connection that ended, or is open for long.
    pub const FLOW: &str = "synspan.flow";
    /// Attempts that went beyond their budget and have no record of their own.
    pub const SUMMARY: &str = "synspan.connect.summary";
    /// SYNs from outside that came to nothing.
    pub const INBOUND: &str = "synspan.inbound";

    /// Seconds from connect() to the outcome.
    pub const DURATION: &str = "synspan.duration";
    /// Attempts in the interval with neither span nor record of their own.
    pub const SUMMARY_ATTEMPTS: &str = "synspan.summary.attempts";
    /// Of them, those that failed.
    pub const SUMMARY_FAILED: &str = "synspan.summary.failed";
    /// Seconds of the interval.
    pub const SUMMARY_DURATION: &str = "synspan.summary.duration";
    /// SYNs in the interval.
    pub const INBOUND_SYNS: &str = "synspan.inbound.syns";
    /// Of them, those that were only counted.
    pub const INBOUND_COUNTED: &str = "synspan.inbound.counted";
}

/// A connection's own counters.
pub mod flow {
    /// Whose socket tells: `client` or `server`.
    pub const SIDE: &str = "synspan.flow.side";
    /// Number of the record among those of its connection, from 0.
    pub const SEQUENCE: &str = "synspan.flow.sequence";
    /// Whether it is the last one.
    pub const FINAL: &str = "synspan.flow.final";
    /// Seconds since it was established.
    pub const DURATION: &str = "synspan.flow.duration";
    /// Payload bytes that the peer has acknowledged.
    pub const SENT_BYTES: &str = "synspan.flow.sent.bytes";
    /// Payload bytes received.
    pub const RECEIVED_BYTES: &str = "synspan.flow.received.bytes";
    /// Segments sent.
    pub const SENT_SEGMENTS: &str = "synspan.flow.sent.segments";
    /// Segments received.
    pub const RECEIVED_SEGMENTS: &str = "synspan.flow.received.segments";
    /// Segments sent again.
    pub const RETRANSMISSIONS: &str = "synspan.flow.retransmissions";
    /// Smoothed round trip time in seconds.
    pub const RTT: &str = "synspan.flow.rtt";
    /// Which end closed first.
    pub const CLOSED_BY: &str = "synspan.flow.closed_by";
}

/// Attributes of metrics.
pub mod metric {
    /// The far workload or Service, a name given to a prefix, an address, or a prefix.
    pub const DESTINATION: &str = "synspan.destination";
    /// Beyond a limit: the series of all that has none of its own (OpenTelemetry's metrics SDK specification).
    pub const OVERFLOW: &str = "otel.metric.overflow";
    /// `transmit` or `receive`.
    pub const IO_DIRECTION: &str = "network.io.direction";
    /// Age class of attempts that are open.
    pub const AGE: &str = "synspan.age";
    /// The one writer of a series.
    pub const SERVICE_INSTANCE_ID: &str = "service.instance.id";
}

/// Span names. They carry no addresses.
pub mod span {
    /// From connect() to the outcome, on the client's resource.
    pub const CONNECT: &str = "tcp connect";
    /// A node that the SYN passed through, on the node's resource.
    pub const FORWARD: &str = "tcp forward";
    /// The accepted connection, on the server's resource.
    pub const ACCEPT: &str = "tcp accept";
}

/// OpenTelemetry's attributes.
pub mod otel {
    /// The client as the server sees it.
    pub const CLIENT_ADDRESS: &str = "client.address";
    /// See [`CLIENT_ADDRESS`].
    pub const CLIENT_PORT: &str = "client.port";
    /// What the application asked for.
    pub const SERVER_ADDRESS: &str = "server.address";
    /// See [`SERVER_ADDRESS`].
    pub const SERVER_PORT: &str = "server.port";
    /// The socket's own end.
    pub const NETWORK_LOCAL_ADDRESS: &str = "network.local.address";
    /// See [`NETWORK_LOCAL_ADDRESS`].
    pub const NETWORK_LOCAL_PORT: &str = "network.local.port";
    /// The socket's other end.
    pub const NETWORK_PEER_ADDRESS: &str = "network.peer.address";
    /// See [`NETWORK_PEER_ADDRESS`].
    pub const NETWORK_PEER_PORT: &str = "network.peer.port";
    /// Always `tcp`.
    pub const NETWORK_TRANSPORT: &str = "network.transport";
    /// `ipv4` or `ipv6`.
    pub const NETWORK_TYPE: &str = "network.type";
    /// Name of an interface.
    pub const NETWORK_INTERFACE_NAME: &str = "network.interface.name";
    /// Sender of a segment.
    pub const SOURCE_ADDRESS: &str = "source.address";
    /// See [`SOURCE_ADDRESS`].
    pub const SOURCE_PORT: &str = "source.port";
    /// Receiver of a segment.
    pub const DESTINATION_ADDRESS: &str = "destination.address";
    /// See [`DESTINATION_ADDRESS`].
    pub const DESTINATION_PORT: &str = "destination.port";
    /// What the application got, on failure only.
    pub const ERROR_TYPE: &str = "error.type";
    /// The client's process.
    pub const PROCESS_PID: &str = "process.pid";
    /// Name of the far side's service.
    pub const SERVICE_PEER_NAME: &str = "service.peer.name";
    /// Namespace of the far side's service.
    pub const SERVICE_PEER_NAMESPACE: &str = "service.peer.namespace";
    /// The older name of [`SERVICE_PEER_NAME`], which service graphs still read.
    pub const PEER_SERVICE: &str = "peer.service";
}

/// The verdict and what it rests on.
pub mod verdict {
    /// What the application got.
    pub const OUTCOME: &str = "synspan.outcome";
    /// The error number it got, where the kernel said.
    pub const ERRNO: &str = "synspan.errno";
    /// Why.
    pub const CAUSE: &str = "synspan.cause";
    /// All that holds, the cause first; only where there is more than the cause.
    pub const CAUSES: &str = "synspan.causes";
    /// How sure the cause is.
    pub const EVIDENCE: &str = "synspan.evidence";
    /// The side responsible.
    pub const RESPONSIBLE: &str = "synspan.responsible";
    /// The verdict in a sentence for people.
    pub const EXPLANATION: &str = "synspan.explanation";
    /// Where the attempt was seen, in order: `socket`, or `kind:interface:direction`, as in
    /// `pod_nic:veth-b:ingress`.
    pub const POINTS: &str = "synspan.points";
    /// How many SYNs were sent.
    pub const SYNS: &str = "synspan.syns";
    /// The wire tuple had another tenant within the reuse window.
    pub const REUSED: &str = "synspan.reuse";
    /// Reuse may explain it, but nothing tells it from a server that answers nobody.
    pub const REUSE_POSSIBLE: &str = "synspan.reuse.possible";
    /// The ledger is younger than the reuse window.
    pub const LEDGER_PARTIAL: &str = "synspan.ledger_partial";
    /// Observations were lost while the attempt was open.
    pub const LOSSY: &str = "synspan.lossy";
    /// The client's own sidecar took it.
    pub const PROXIED: &str = "synspan.proxied";
    /// False where the trace id does not survive NAT beyond this node.
    pub const TRACE_SURVIVES_NAT: &str = "synspan.trace.survives_nat";
    /// This `tcp connect` stands for a later SYN of an attempt whose own trace is another.
    pub const SYN_RETRY: &str = "synspan.syn_retry";
    /// This span was made after the fact, from the ledger: another one leads to it.
    pub const LATE: &str = "synspan.late";
    /// Made by replay, from capture files.
    pub const REPLAY: &str = "synspan.replay";
}

/// Facts that a verdict rests on.
pub mod facts {
    /// The kernel's reason for a drop, as `NETFILTER_DROP`.
    pub const DROP_REASON: &str = "synspan.drop.reason";
    /// The kernel's function that dropped.
    pub const DROP_PLACE: &str = "synspan.drop.place";
    /// Whether what was dropped was the answer.
    pub const DROP_ANSWER: &str = "synspan.drop.answer";
    /// Type of the ICMP error.
    pub const ICMP_TYPE: &str = "synspan.icmp.type";
    /// Its code.
    pub const ICMP_CODE: &str = "synspan.icmp.code";
    /// Who sent it.
    pub const ICMP_FROM: &str = "synspan.icmp.from";
    /// Source ports in use towards the destination.
    pub const SNAT_USED: &str = "synspan.snat.ports.used";
    /// How many the range has; not there where the range could not be told.
    pub const SNAT_LIMIT: &str = "synspan.snat.ports.limit";
    /// The attempt that won the race for the source port: its service.
    pub const COMPETITOR_SERVICE_NAME: &str = "synspan.competitor.service.name";
    /// Its own end before NAT.
    pub const COMPETITOR_ADDRESS: &str = "synspan.competitor.local.address";
    /// See [`COMPETITOR_ADDRESS`].
    pub const COMPETITOR_PORT: &str = "synspan.competitor.local.port";
    /// Its trace.
    pub const COMPETITOR_TRACE_ID: &str = "synspan.competitor.trace_id";
    /// The false acknowledgement looks like a guard's against floods.
    pub const GUARD: &str = "synspan.guard";
    /// Connections in the listener's accept queue.
    pub const LISTENER_QUEUE: &str = "synspan.listener.queue";
    /// Its limit.
    pub const LISTENER_LIMIT: &str = "synspan.listener.limit";
    /// How far the overflow counter of the listener's network namespace rose meanwhile.
    pub const LISTENER_OVERFLOWS: &str = "synspan.listener.overflows";
}

/// The ends at the node's interface, after NAT.
pub mod wire {
    /// The client's end.
    pub const LOCAL_ADDRESS: &str = "synspan.wire.local.address";
    /// See [`LOCAL_ADDRESS`].
    pub const LOCAL_PORT: &str = "synspan.wire.local.port";
    /// The server's end.
    pub const PEER_ADDRESS: &str = "synspan.wire.peer.address";
    /// See [`PEER_ADDRESS`].
    pub const PEER_PORT: &str = "synspan.wire.peer.port";
}

/// Who held the wire tuple before.
pub mod owner {
    /// Its service.
    pub const SERVICE_NAME: &str = "synspan.previous_owner.service.name";
    /// Its service's namespace.
    pub const SERVICE_NAMESPACE: &str = "synspan.previous_owner.service.namespace";
    /// Its pod.
    pub const K8S_POD_NAME: &str = "synspan.previous_owner.k8s.pod.name";
    /// Its pod's namespace.
    pub const K8S_NAMESPACE_NAME: &str = "synspan.previous_owner.k8s.namespace.name";
    /// Its own end before NAT.
    pub const LOCAL_ADDRESS: &str = "synspan.previous_owner.local.address";
    /// See [`LOCAL_ADDRESS`].
    pub const LOCAL_PORT: &str = "synspan.previous_owner.local.port";
    /// Its own end after NAT.
    pub const WIRE_ADDRESS: &str = "synspan.previous_owner.wire.address";
    /// See [`WIRE_ADDRESS`].
    pub const WIRE_PORT: &str = "synspan.previous_owner.wire.port";
    /// Seconds from its close to this attempt's SYN.
    pub const GAP: &str = "synspan.previous_owner.gap";
    /// Seconds for which it was open.
    pub const DURATION: &str = "synspan.previous_owner.duration";
    /// Whether it is open still.
    pub const OPEN: &str = "synspan.previous_owner.open";
    /// Which end closed first.
    pub const CLOSED_BY: &str = "synspan.previous_owner.closed_by";
    /// In which state the server holds it.
    pub const SERVER_STATE: &str = "synspan.previous_owner.server_state";
    /// Its trace.
    pub const TRACE_ID: &str = "synspan.previous_owner.trace_id";
    /// Its `tcp connect` span.
    pub const SPAN_ID: &str = "synspan.previous_owner.span_id";
}

/// A node that the SYN passed through. `in` and `out` are where it came in and left.
pub mod forward {
    /// Interface by which it came in.
    pub const IN_INTERFACE: &str = "synspan.forward.in.interface";
    /// What that interface is to the node.
    pub const IN_POINT: &str = "synspan.forward.in.point";
    /// Client's address there.
    pub const IN_SOURCE_ADDRESS: &str = "synspan.forward.in.source.address";
    /// Client's port there.
    pub const IN_SOURCE_PORT: &str = "synspan.forward.in.source.port";
    /// Server's address there.
    pub const IN_DESTINATION_ADDRESS: &str = "synspan.forward.in.destination.address";
    /// Server's port there.
    pub const IN_DESTINATION_PORT: &str = "synspan.forward.in.destination.port";
    /// Interface by which it left.
    pub const OUT_INTERFACE: &str = "synspan.forward.out.interface";
    /// What that interface is to the node.
    pub const OUT_POINT: &str = "synspan.forward.out.point";
    /// Client's address there.
    pub const OUT_SOURCE_ADDRESS: &str = "synspan.forward.out.source.address";
    /// Client's port there.
    pub const OUT_SOURCE_PORT: &str = "synspan.forward.out.source.port";
    /// Server's address there.
    pub const OUT_DESTINATION_ADDRESS: &str = "synspan.forward.out.destination.address";
    /// Server's port there.
    pub const OUT_DESTINATION_PORT: &str = "synspan.forward.out.destination.port";
    /// Whether it left the node at all.
    pub const LEFT: &str = "synspan.forward.left";
    /// Whether the source was rewritten.
    pub const SNAT: &str = "synspan.nat.source";
    /// Whether the destination was rewritten.
    pub const DNAT: &str = "synspan.nat.destination";
    /// Seconds that the first SYN spent inside the node.
    pub const DURATION: &str = "synspan.forward.duration";
}

/// Span events.
pub mod event {
    /// The first SYN, at a point.
    pub const SYN: &str = "synspan.syn";
    /// A SYN sent again, at a point.
    pub const SYN_RETRANSMISSION: &str = "synspan.syn_retransmission";
    /// The SYN-ACK.
    pub const SYN_ACK: &str = "synspan.syn_ack";
    /// The SYN-ACK again.
    pub const SYN_ACK_RETRANSMISSION: &str = "synspan.syn_ack_retransmission";
    /// An ICMP error that answers the SYN.
    pub const ICMP: &str = "synspan.icmp_error";
    /// The kernel dropped a segment of the attempt.
    pub const DROPPED: &str = "synspan.dropped";
    /// An acknowledgement of another connection.
    pub const STALE_ACK: &str = "synspan.stale_ack";
    /// A RST.
    pub const RST: &str = "synspan.rst";
    /// The kernel gave up.
    pub const GAVE_UP: &str = "synspan.gave_up";
    /// The socket was established.
    pub const ESTABLISHED: &str = "synspan.established";
    /// The socket was closed.
    pub const CLOSED: &str = "synspan.closed";

    /// Where: `socket`, `pod_nic`, `node_nic`, `overlay`.
    pub const POINT: &str = "synspan.point";
    /// How often the SYN had been sent before.
    pub const RETRY: &str = "synspan.syn.retry";
    /// Sequence number of a segment of a connection that has ended.
    pub const SEQ: &str = "synspan.tcp.seq";
    /// Acknowledgement number of such a segment.
    pub const ACK: &str = "synspan.tcp.ack";
    /// Which side sent a RST: `client` or `server`.
    pub const SENT_BY: &str = "synspan.sent_by";
}

/// Span links.
pub mod link {
    /// What the link is.
    pub const TYPE: &str = "synspan.link.type";
    /// To the span of whoever held the port before.
    pub const PREVIOUS_OWNER: &str = "previous_owner";
    /// Between the traces of one attempt's SYNs.
    pub const SYN_RETRY: &str = "syn_retry";
}
