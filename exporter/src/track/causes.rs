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
    /// How to confirm it by hand: commands, and what they show.
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
        proof: "The SYN was answered by an acknowledgement that is not a SYN-ACK, and an earlier owner of the port is known. `exact`: the numbers are where that owner's connection ended. `window`: they lie within the largest window around its last known acknowledgement. `tuple`: only addresses and ports match.",
        confirm: &[
            "tcpdump -nn -S -i NODE_INTERFACE 'tcp port PORT': the SYN, an ACK with a foreign number, a RST that carries that number",
            "ss -tanoi 'sport = :SERVER_PORT' on the server: the old connection, in CLOSE-WAIT, ESTAB or TIME-WAIT",
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
        proof: "As for `source_port_reuse`, but the ledger knows no owner: it may be from before the agent's start or the ledger's horizon, or a guard against floods answers first SYNs with a false ACK on purpose.",
        confirm: &[
            "tcpdump -nn -S -v -i NODE_INTERFACE 'tcp port PORT': compare the TTL of the false ACK with that of SYN-ACKs from the same server; a guard on the way has another",
            "repeat from a port that was never used: a guard answers that one falsely too",
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
        proof: "No answer, or a RST, while the wire tuple had another tenant within the reuse window, the destination answered SYNs sent after this one within five seconds, and fresh tuples fare better there than reused ones.",
        confirm: &[
            "ss -tan 'sport = :SERVER_PORT' on the server: is the old connection still there?",
            "nc -p PORT SERVER SERVER_PORT from the node, with the port in question and with another one",
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
            "conntrack -S: insert_failed rises with each SYN",
            "conntrack -L -p tcp --reply-src SERVER --reply-dst EGRESS | wc -l: entries against the size of the range",
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
            "conntrack -S: insert_failed rises by one for each loser",
            "tcpdump -nn -i any 'tcp[tcpflags] & tcp-syn != 0 and port PORT': two SYNs from one port, one of which never leaves",
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
            "sysctl net.netfilter.nf_conntrack_count net.netfilter.nf_conntrack_max",
            "conntrack -S: drop rises; dmesg: nf_conntrack: table full, dropping packet",
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
        confirm: &["ss -tan 'sport = :PORT' in the client's network namespace: who has the port"],
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
            "sysctl net.ipv4.ip_local_port_range, and ss -tan 'dst SERVER' | wc -l, in the client's network namespace",
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
        proof: "The SYN was seen where it enters the node and never where others from there to the same address leave it. `kernel`: the kernel recorded the drop, with its reason. `absence`: two SYNs are missing, a witness left within the last minute, and no observation was lost.",
        confirm: &[
            "tcpdump -nn -i POD_INTERFACE and -i NODE_INTERFACE side by side: the SYN shows on the first alone",
            "nft monitor trace, after nft insert rule ... meta nftrace set 1: which rule drops it",
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
            "tcpdump -nn -i NODE_INTERFACE and -i POD_INTERFACE side by side: the SYN-ACK shows on the first alone",
            "nstat -az | grep -i filter: rises if reverse path filtering drops it",
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
            "nft list ruleset | grep -n reject; iptables-save | grep REJECT",
            "bpftool cgroup tree: programs of type connect4 and connect6 that may deny",
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
        proof: "Each SYN was seen leaving the node, and no answer of any kind came in.",
        confirm: &["tcpdump -nn -i NODE_INTERFACE 'host SERVER and port SERVER_PORT': SYNs out, nothing in"],
        advice: "look at the path and at the server: firewall, route, a host that is down",
        fault: true,
    },
    CauseEntry {
        cause: Cause::SynLost,
        name: "syn_lost",
        sides: &[(None, Side::BeyondNode)],
        evidence: &[Evidence::Absence],
        sentence: "an answer came only after the SYN was sent again",
        proof: "The attempt came up, or was refused, after one or more SYN retransmissions, and nothing else explains the wait.",
        confirm: &[
            "nstat -az TcpExtTCPSynRetrans in the client's network namespace",
            "tcpdump -nn -i NODE_INTERFACE: the first SYN leaves and is not answered, a later one is",
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
        proof: "A RST that acknowledges the SYN came back, and no earlier owner of the port explains it. `kernel`: the application got ECONNREFUSED. `exact`: the RST's number is the SYN's.",
        confirm: &["ss -ltn 'sport = :SERVER_PORT' on the server: nothing listens"],
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
        proof: "An ICMP error that quotes the SYN came back, or the routing table had no way to the destination.",
        confirm: &[
            "tcpdump -nn -v 'icmp or icmp6': who sends the error, with which code",
            "ip route get SERVER from the client's network namespace",
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
        proof: "On the server's node: the listener's queue held more than its limit when it was asked, its network namespace's overflow counter rose meanwhile, or the kernel gave TCP_LISTEN_OVERFLOW as its reason for a drop.",
        confirm: &[
            "ss -ltn 'sport = :SERVER_PORT': Recv-Q above Send-Q",
            "nstat -az TcpExtListenOverflows in the server's network namespace",
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
            "tcpdump -nn in the pod's network namespace: SYNs in, nothing out",
            "nft list ruleset in the pod's network namespace; nstat -az | grep -i -e ListenDrops -e ReqQ",
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
        proof: "A RST followed the SYN-ACK before the connection was used: by the server's side with the number just behind its SYN-ACK, or by the client in place of its ACK.",
        confirm: &["tcpdump -nn -S 'port SERVER_PORT': SYN, SYN-ACK, then RST; from which side"],
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
            "tcpdump -nn -i NODE_INTERFACE 'host CLIENT': SYN-ACKs out, no ACK in",
            "ss -tan state syn-recv on the server",
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
        confirm: &["strace -f -e trace=network,close -p PID: connect(), then close() within a second"],
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
