//! What is known of an attempt that did not go as it should: kept apart, since most do.

use std::sync::Arc;

use super::attempt::{Competitor, DropFact, IcmpFact, ListenerFact};
use super::flow::Flow;
use crate::capture::observation::{ListenerState, Mono, NatEntry};
use crate::capture::tuple::Tuple;

/// The kernel's reason for a drop at a full accept queue.
const LISTEN_OVERFLOW: &str = "TCP_LISTEN_OVERFLOW";
/// The kernel's reason for a drop by a netfilter hook.
const NETFILTER: &str = "NETFILTER_DROP";
/// The nftables interpreter: a rule's own drop is freed there, one at the insert of a new entry is not.
const RULES: &str = "nft_do_chain";

/// Whose network namespace something happened in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Where {
    /// The node's own.
    Node,
    /// The client's, which is not the node's.
    Client,
    /// Another pod's of this node.
    OtherPod,
}

/// A drop that the kernel recorded.
#[derive(Clone, Debug)]
pub struct Drop {
    /// When.
    pub time: Mono,
    /// In whose network namespace.
    pub place: Where,
    /// The tuple as it stood, client to server.
    pub tuple: Tuple,
    /// What the kernel said.
    pub fact: DropFact,
}

impl Drop {
    /// Whether the kernel's reason is this one; false where it gave none.
    pub fn is(&self, reason: &str) -> bool {
        self.fact.reason.as_deref() == Some(reason)
    }

    /// Whether a full accept queue was the reason.
    pub fn is_overflow(&self) -> bool {
        self.is(LISTEN_OVERFLOW)
    }

    /// Whether it may have been netfilter: where the kernel gives no reasons everything may.
    pub fn may_be_netfilter(&self) -> bool {
        self.fact.reason.is_none() || self.is(NETFILTER)
    }

    /// Whether a rule dropped it, as far as the place tells.
    pub fn is_by_rule(&self) -> bool {
        self.fact.place.as_deref().is_some_and(|place: &str| place.starts_with(RULES))
    }

    /// Whether the next hop did not answer for its address (ARP, neighbour discovery).
    pub fn is_neighbour(&self) -> bool {
        self.fact.reason.as_deref().is_some_and(|reason: &str| reason.starts_with("NEIGH_"))
    }

    /// Whether nobody listened: a refusal, and no drop.
    pub fn is_no_socket(&self) -> bool {
        self.is("NO_SOCKET")
    }
}

/// An ICMP error that answered the SYN.
#[derive(Clone, Copy, Debug)]
pub struct Icmp {
    /// What it said.
    pub fact: IcmpFact,
    /// It came in from outside the node, or from a pod of it.
    pub from_outside: bool,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Extra {
    /// The last SYN that the kernel dropped on its way out.
    pub syn_drop: Option<Drop>,
    /// The last answer that the kernel dropped on its way back.
    pub answer_drop: Option<Drop>,
    /// A segment of the handshake that was dropped where the server's socket is.
    pub server_drop: Option<Drop>,
    /// The ICMP error.
    pub icmp: Option<Icmp>,
    /// When the kernel last told the owner of an error without a number.
    pub told: Option<Mono>,
    /// What connection tracking holds for it.
    pub nat: Option<NatEntry>,
    /// The listener when it was asked first, and last.
    pub listener: Option<(ListenerState, ListenerState)>,
    /// Who won the race for its port.
    pub competitor: Option<Competitor>,
    /// How many questions were asked about the way out, and about the listener.
    pub asked: [u8; 2],
    /// What its connection has carried, told before the attempt is: it is told right after it.
    pub flows: Vec<Flow>,
}

impl Extra {
    /// What the listener's answers say; none if it was not asked, or nobody listens.
    pub fn listener_fact(&self) -> Option<ListenerFact> {
        let (first, last) = self.listener.as_ref()?;
        if !last.listens {
            return None;
        }
        // The fuller of the two looks: the queue may have been emptied since.
        let fuller = if first.queue > last.queue { first } else { last };
        Some(ListenerFact {
            queue: fuller.queue,
            limit: fuller.limit,
            overflows: last.overflows.saturating_sub(first.overflows),
        })
    }
}

/// One copy of a reason's name for all its drops.
pub fn fact(reason: Option<&Arc<str>>, place: Option<&Arc<str>>, answer: bool) -> DropFact {
    DropFact { reason: reason.cloned(), place: place.cloned(), answer }
}
