//! The closed list of causes: one table in one place.
//!
//! Adding a cause means adding a variant and its entry here, its rule in `judge.rs`, and one scenario
//! with its control. docs/causes.md is made from this table.

use super::verdict::{Evidence, Side};

/// Why an attempt went as it did.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
#[allow(missing_docs, reason = "each has its sentence in CAUSES")]
pub enum Cause {
    SourcePortReuse,
    UnexpectedAck,
    SourcePortReuseSuspected,
    SnatPortExhausted,
    SnatRace,
    ConntrackTableFull,
    LocalPortConflict,
    EphemeralPortExhausted,
    DroppedInNode,
    ReplyDroppedInNode,
    PolicyDenied,
    NoResponse,
    SynLost,
    ConnectionRefused,
    Unreachable,
    AcceptQueueOverflow,
    SynUnansweredByServer,
    HandshakeReset,
    SynAckUnanswered,
    ClientAborted,
}

/// The entry of a cause.
#[derive(Clone, Copy, Debug)]
pub struct CauseEntry {
    /// Which cause.
    pub cause: Cause,
    /// The word used in telemetry.
    pub name: &'static str,
    /// Responsible side by evidence; the first entry whose evidence matches, `None` matching any.
    pub sides: &'static [(Option<Evidence>, Side)],
    /// The evidence it can carry.
    pub evidence: &'static [Evidence],
    /// One sentence for people: what happened.
    pub sentence: &'static str,
    /// How it is proven, in a few sentences.
    pub proof: &'static str,
    /// How to confirm it by hand: a command, a colon, then where it is to be run and what it shows. Words in
    /// capitals are explained in docs/causes.md.
    pub confirm: &'static [&'static str],
    /// One sentence for people: what to do about it.
    pub advice: &'static str,
    /// Whether an attempt that ended with it counts as a failure of its own:
    /// false only where nothing was wrong (span status unset).
    pub fault: bool,
}

/// Every cause, in the order that decides between causes of equal evidence.
pub const CAUSES: &[CauseEntry] = &[
    CauseEntry {
        cause: Cause::SourcePortReuse,
        name: "source_port_reuse",
        // The tuple was given out again while the server held the old connection. With NAT the node
        // gave it out; the rule in `judge.rs` says client where no NAT took part.
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Exact, Evidence::Window, Evidence::Tuple],
        sentence: "the source port was used again for the same destination while the server still held the connection that had it before",
        proof: "The SYN was answered by an acknowledgement that is not a SYN-ACK, and an earlier owner of the port is known. `exact`: the acknowledgement's number is where that owner's connection ended, or stands while it is open. `window`: it lies within the largest window around that connection's last known acknowledgement. `tuple`: only addresses and ports match. Where no NAT took part, the client chose the port itself, and is the side responsible.",
        confirm: &[
            "tcpdump -nn -S -i NODE_INTERFACE 'tcp port PORT and host SERVER': the SYN, then an ACK with foreign numbers in place of a SYN-ACK, then a RST whose sequence number is that ACK's number",
            "ss -tano 'sport = :SERVER_PORT and dport = :PORT': on the server: the old connection, in CLOSE-WAIT, ESTAB or TIME-WAIT",
            "synspan who PORT: on the node: who had the port before, and how that connection ended",
        ],
        advice: "widen the range of source ports or spread them (masquerade fully-random, more egress addresses), and mend what leaves the old connection behind on the server",
        fault: true,
    },
    CauseEntry {
        cause: Cause::UnexpectedAck,
        name: "unexpected_ack",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::None],
        sentence: "the SYN was answered by an acknowledgement of another connection, and nobody is known to have held this port",
        proof: "As for `source_port_reuse`, but the ledger knows no owner. There may have been one before the agent's start, or before what the ledger remembers; or a guard against floods answers first SYNs with a false ACK on purpose.",
        confirm: &[
            "tcpdump -nn -S -v -i NODE_INTERFACE 'tcp port PORT and host SERVER': the ttl of the false ACK, beside that of SYN-ACKs from the same server; a guard on the way has another",
            "nc -z -v -w 3 -p OTHER_PORT SERVER SERVER_PORT: from the node, with a source port that nobody had for the last minutes, beside tcpdump; a guard answers that one falsely too",
        ],
        advice: "look for an owner from before the ledger's horizon, or for a guard against floods on the way that answers first SYNs with a false ACK",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SourcePortReuseSuspected,
        name: "source_port_reuse_suspected",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Tuple],
        sentence: "the destination did not accept a reused source port while it answered others",
        proof: "No answer, or a RST, while the wire tuple had another tenant within the reuse window; and the destination answered other SYNs within five seconds; and fresh tuples fare better there than reused ones.",
        confirm: &[
            "ss -tano 'sport = :SERVER_PORT and dport = :PORT': on the server: the old connection, if the server itself holds it; nothing, if a firewall or load balancer on the way does",
            "nc -z -v -w 3 -p PORT SERVER SERVER_PORT: from the node, once conntrack -L -p tcp --reply-port-dst PORT is empty, for until then it leaves with another: no answer with this source port, and one with a port that nobody had; if it cannot bind, the node's own socket has the port, in TIME-WAIT perhaps",
        ],
        advice: "as for source_port_reuse; a firewall or load balancer on the way may remember the old connection",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SnatPortExhausted,
        name: "snat_port_exhausted",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "no source port was free for this destination, so source NAT dropped the SYN inside the node",
        proof: "The SYN entered the node and never left, connection tracking counted a failed insert, and at least nine tenths of the known range of source ports are in use towards the destination. What is closed but still remembered by connection tracking counts as in use.",
        confirm: &[
            "conntrack -S: on the node: insert_failed and drop rise by one with each SYN",
            "conntrack -L -p tcp --reply-src SERVER --reply-dst EGRESS --reply-port-src SERVER_PORT: on the node: as many entries as the range of source ports has, or nearly",
            "tcpdump -nn -i any 'host SERVER and tcp port SERVER_PORT': on the node: the SYN comes In by the pod's interface, again and again, and never goes Out",
        ],
        advice: "widen the range of source ports, add egress addresses, reuse connections, or shorten nf_conntrack_tcp_timeout_time_wait",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SnatRace,
        name: "snat_race",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "two attempts took the same source port at the same moment, and source NAT dropped this one's SYN inside the node",
        proof: "The SYN entered the node and never left, connection tracking counted a failed insert, ports are free, and another attempt from the same source port to the same destination left the node within milliseconds.",
        confirm: &[
            "conntrack -S: on the node: insert_failed and drop rise by one for each loser, while ports are free",
            "tcpdump -nn -i any 'host SERVER and tcp port SERVER_PORT': on the node: two SYNs from one source port come In at the same moment, and one of them goes Out only when it is sent again",
        ],
        advice: "let source NAT pick ports at random (masquerade fully-random), so that two attempts seldom meet",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ConntrackTableFull,
        name: "conntrack_table_full",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "connection tracking had no room for a new entry, so the node dropped the SYN",
        proof: "The SYN entered the node and was dropped before routing, while connection tracking held as many entries as it may.",
        confirm: &[
            "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max: in the node's network namespace: the count has reached the limit",
            "conntrack -S: on the node: drop rises by one with each SYN, and insert_failed does not",
            "dmesg: on the node: nf_conntrack: table full, dropping packet",
        ],
        advice: "raise nf_conntrack_max, shorten its timeouts, or exempt traffic that needs no tracking (notrack)",
        fault: true,
    },
    CauseEntry {
        cause: Cause::LocalPortConflict,
        name: "local_port_conflict",
        sides: &[(None, Side::Client)],
        evidence: &[Evidence::Kernel],
        sentence: "the application bound a source port that is already in use towards this destination",
        proof: "connect() returned EADDRNOTAVAIL, no SYN was sent, and the socket had bound its port before.",
        confirm: &[
            "ss -tanp 'sport = :PORT': in the client's network namespace: who has the port towards the same server, in ESTAB or TIME-WAIT",
            "strace -f -e trace=bind,connect -p PID: on the client: bind() with the port, then connect() with EADDRNOTAVAIL",
        ],
        advice: "let the kernel choose the port, or wait until the old connection has left TIME-WAIT",
        fault: true,
    },
    CauseEntry {
        cause: Cause::EphemeralPortExhausted,
        name: "ephemeral_port_exhausted",
        sides: &[(None, Side::Client)],
        evidence: &[Evidence::Kernel],
        sentence: "no ephemeral port was free for this destination in the client's network namespace",
        proof: "connect() returned EADDRNOTAVAIL, no SYN was sent, and the socket had not bound a port.",
        confirm: &[
            "sysctl net.ipv4.ip_local_port_range: in the client's network namespace: the first and the last port that the kernel gives out",
            "ss -Htan 'dst SERVER and dport = :SERVER_PORT': in the client's network namespace: as many lines as there are ports, TIME-WAIT included",
        ],
        advice: "reuse connections, widen net.ipv4.ip_local_port_range, or set net.ipv4.tcp_tw_reuse",
        fault: true,
    },
    CauseEntry {
        cause: Cause::DroppedInNode,
        name: "dropped_in_node",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "the SYN entered the node and never left it",
        proof: "The SYN was seen where it enters the node, and never where others from there to the same address leave it. `kernel`: the kernel recorded the drop, with its reason. `absence`: at least two SYNs are missing, another attempt was seen to leave by that way within the last minute, and no observation was lost since.",
        confirm: &[
            "tcpdump -nn -i any 'host SERVER and tcp port SERVER_PORT': on the node: the SYN comes In by the pod's interface, again and again, and never goes Out",
            "nft monitor trace: on the node: the rule that drops it; before, nft add table inet tr; nft add chain inet tr pre '{ type filter hook prerouting priority -350; }'; nft add rule inet tr pre tcp dport SERVER_PORT meta nftrace set 1; and afterwards, nft delete table inet tr",
        ],
        advice: "look at the node's netfilter rules, routes and CNI policy for this destination",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ReplyDroppedInNode,
        name: "reply_dropped_in_node",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "the answer reached the node and never the pod",
        proof: "The SYN-ACK was seen coming in at the node's interface and never going out at the pod's, and nothing was established.",
        confirm: &[
            "tcpdump -nn -i any 'host SERVER and tcp port SERVER_PORT': on the node: the SYN-ACK comes In by the node's interface, and never goes Out by the pod's",
            "nstat -az TcpExtIPReversePathFilter: in the node's network namespace: it rises if reverse path filtering drops the answer",
        ],
        advice: "look at the node's netfilter rules for replies, at rp_filter, and at asymmetric routes",
        fault: true,
    },
    CauseEntry {
        cause: Cause::PolicyDenied,
        name: "policy_denied",
        sides: &[(None, Side::Node)],
        evidence: &[Evidence::Kernel, Evidence::Exact, Evidence::Absence],
        sentence: "a rule on the node refused the connection",
        proof: "connect() returned EPERM or EACCES, or a netfilter rule rejected the SYN: an ICMP error that says so, or a RST at the pod's interface that never came in from outside.",
        confirm: &[
            "tcpdump -nn -v -i POD_INTERFACE 'host SERVER or icmp or icmp6': an ICMP error that says admin prohibited or port unreachable, or a RST that NODE_INTERFACE does not show",
            "nft list ruleset: in the node's network namespace: rules that say reject",
            "iptables-save: in the node's network namespace: rules that say REJECT",
            "bpftool cgroup tree: programs of type cgroup_inet4_connect and cgroup_inet6_connect, which may deny; synspan's own, synspan_conn4 and synspan_conn6, only look on",
            "ip route get SERVER: where the client's process runs: Permission denied, if a prohibit route is what denies it",
        ],
        advice: "look at the network policy that selects this client or this destination",
        fault: true,
    },
    CauseEntry {
        cause: Cause::NoResponse,
        name: "no_response",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "the SYN left the node and nothing came back",
        proof: "SYNs were seen leaving the node, and no answer of any kind came in.",
        confirm: &["tcpdump -nn -i NODE_INTERFACE 'host SERVER and tcp port SERVER_PORT': SYNs out, and nothing in"],
        advice: "look at the path and at the server: firewall, route, a host that is down",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SynLost,
        name: "syn_lost",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "an answer came only after the SYN was sent again",
        proof: "The attempt came up, or was refused, only after one or more SYNs were sent again, and nothing else explains the wait. Whether the SYN or its answer was lost cannot be told from this side.",
        confirm: &[
            "tcpdump -nn -i NODE_INTERFACE 'host SERVER and tcp port SERVER_PORT': the first SYN leaves and is not answered, a later one is",
            "nstat -az TcpExtTCPSynRetrans: in the client's network namespace: it rises",
        ],
        advice: "look for loss on the path, and for a server too busy to answer first SYNs",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ConnectionRefused,
        name: "connection_refused",
        sides: &[(None, Side::Server)],
        evidence: &[Evidence::Kernel, Evidence::Exact],
        sentence: "the server's side answered the SYN with a RST",
        proof: "A RST that acknowledges the SYN came back, and no earlier owner of the port explains it. `kernel`: the application got ECONNREFUSED. `exact`: the RST's acknowledgement number is the SYN's, and one.",
        confirm: &[
            "ss -ltn 'sport = :SERVER_PORT': on the server: nothing listens",
            "tcpdump -nn -S -i NODE_INTERFACE 'host SERVER and tcp port SERVER_PORT': a RST comes in that acknowledges the SYN's number and one",
        ],
        advice: "look whether the server's process listens on that address and port",
        fault: true,
    },
    CauseEntry {
        cause: Cause::Unreachable,
        name: "unreachable",
        // The kernel's own routing error is this node's; an ICMP error is of whoever sent it.
        sides: &[(Some(Evidence::Kernel), Side::Node), (Some(Evidence::Exact), Side::Network)],
        evidence: &[Evidence::Kernel, Evidence::Exact],
        sentence: "the network said that the destination cannot be reached",
        proof: "`exact`: an ICMP error that quotes the SYN came back. `kernel`: the kernel's own routes had no way to the destination, and it told the application so.",
        confirm: &[
            "tcpdump -nn -v -i any 'icmp or icmp6': on the node: who sends the error, and with which code",
            "ip route get SERVER from CLIENT iif POD_INTERFACE: on the node: No route to host for an unreachable route or none, Permission denied for a prohibit route, Invalid argument for a blackhole",
            "ip route get SERVER: where the client's process runs: the same, of its own routes",
        ],
        advice: "look at the route to the destination, at the sender of the ICMP error, and whether the host is up",
        fault: true,
    },
    CauseEntry {
        cause: Cause::AcceptQueueOverflow,
        name: "accept_queue_overflow",
        sides: &[(None, Side::Server)],
        evidence: &[Evidence::Kernel],
        sentence: "the listening socket's accept queue was full, so the handshake was not completed",
        proof: "On the server's node: the listener's queue held more than its limit when it was asked, or its network namespace's overflow counter rose meanwhile, or the kernel gave TCP_LISTEN_OVERFLOW as its reason for a drop.",
        confirm: &[
            "ss -ltn 'sport = :SERVER_PORT': in the server's network namespace: Recv-Q, what waits, is greater than Send-Q, the limit",
            "nstat -az TcpExtListenOverflows TcpExtListenDrops: in the server's network namespace: both rise with each SYN that is dropped",
        ],
        advice: "let the server accept faster, or raise its backlog and net.core.somaxconn",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SynUnansweredByServer,
        name: "syn_unanswered_by_server",
        sides: &[(None, Side::Server)],
        evidence: &[Evidence::Kernel, Evidence::Absence],
        sentence: "the SYN reached the server's pod, and no SYN-ACK left it",
        proof: "On the server's node: the SYN was seen at the pod's interface on its way in, no answer was seen coming out where others came out, and the accept queue was not full.",
        confirm: &[
            "tcpdump -nn -i any 'tcp port SERVER_PORT': in the pod's network namespace: SYNs In, and nothing Out",
            "nft list ruleset: in the pod's network namespace: rules that drop",
            "nstat -az TcpExtListenDrops TcpExtTCPReqQFullDrop: in the pod's network namespace: which of the two rises, if it is the listener that drops",
        ],
        advice: "look at firewalls inside the pod, at its SYN backlog, and whether it is starved of CPU",
        fault: true,
    },
    CauseEntry {
        cause: Cause::HandshakeReset,
        name: "handshake_reset",
        // The rule in `judge.rs` says client where the client sent it.
        sides: &[(None, Side::Server)],
        evidence: &[Evidence::Exact],
        sentence: "the connection was reset right after the SYN-ACK",
        proof: "A RST followed the SYN-ACK before the connection was used: by the server's side, with the number just behind its SYN-ACK, or by the client, in place of its ACK. The side that sent it is the side responsible.",
        confirm: &[
            "tcpdump -nn -S -i NODE_INTERFACE 'host SERVER and tcp port SERVER_PORT': SYN, SYN-ACK, then RST, and from which side",
        ],
        advice: "by the server: look at tcp_abort_on_overflow, its proxies and its firewalls; by the client: look for scanners, health checks that only probe, and duplicated addresses",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SynAckUnanswered,
        name: "syn_ack_unanswered",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "the server answered again and again, and the client never completed the handshake",
        proof: "On the server's node: the SYN-ACK was seen leaving twice or more, and no segment of the client came in after it.",
        confirm: &[
            "tcpdump -nn -i NODE_INTERFACE 'host CLIENT and tcp port SERVER_PORT': on the server's node: SYN-ACKs go out, again and again, and no ACK comes in",
            "ss -tan state syn-recv: in the server's network namespace: the handshakes that wait for their ACK",
        ],
        advice: "look at the way back to the client: a route that is missing or asymmetric, a firewall, spoofed sources",
        fault: true,
    },
    CauseEntry {
        cause: Cause::ClientAborted,
        name: "client_aborted",
        sides: &[(None, Side::Client)],
        evidence: &[Evidence::Kernel],
        sentence: "the application closed the socket before the first retransmission was due",
        proof: "The socket was closed while connecting, in less than a second, after one SYN, and the kernel reported no error.",
        confirm: &[
            "strace -f -tt -e trace=network,close -p PID: on the client: connect(), then close() of the same descriptor within a second",
        ],
        advice: "nothing, if another address answered first (happy eyeballs); else look at the client's timer",
        fault: false,
    },
];

impl Cause {
    /// The cause's entry.
    pub fn entry(self) -> &'static CauseEntry {
        // Every variant has its entry: the test below holds it, and the first is never reached otherwise.
        CAUSES.iter().find(|entry| entry.cause == self).unwrap_or(&CAUSES[0])
    }

    /// The word used in telemetry.
    pub fn as_str(self) -> &'static str {
        self.entry().name
    }

    /// The responsible side, by evidence.
    pub fn side(self, evidence: Evidence) -> Option<Side> {
        let sides = self.entry().sides;
        sides.iter().find(|(with, _)| with.is_none_or(|e| e == evidence)).map(|&(_, side)| side)
    }

    /// Its place in the table: lower decides at equal evidence.
    pub fn rank(self) -> usize {
        CAUSES.iter().position(|entry| entry.cause == self).unwrap_or(CAUSES.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_has_exactly_one_entry_with_a_side_for_each_evidence() {
        for entry in CAUSES {
            assert_eq!(CAUSES.iter().filter(|other| other.cause == entry.cause).count(), 1, "{}", entry.name);
            assert!(!entry.evidence.is_empty(), "{}", entry.name);
            for &evidence in entry.evidence {
                assert!(entry.cause.side(evidence).is_some(), "{} {evidence:?}", entry.name);
            }
            assert!(entry.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", entry.name);
        }
    }
}
