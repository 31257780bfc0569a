//! What the tracker wants to know and no observation tells by itself: asked of the kernel at a bounded rate.
//!
//! The answers are observations. A question may go unanswered: the verdicts that need it get weaker
//! evidence, or none.

use super::tuple::{Addr, Endpoint, Tuple};

/// A question to the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Question {
    /// How a tuple is translated (answer: `What::Nat`). Client to server, before NAT.
    Nat(Tuple),
    /// The state of connection tracking, now (answer: `What::Conntrack`).
    Conntrack,
    /// Source ports in use towards a destination after NAT (answer: `What::SnatPorts`); the egress address
    /// is the one that `from` is translated to, or any.
    SnatPorts {
        /// The client's own address.
        from: Addr,
        /// The destination after NAT.
        destination: Endpoint,
    },
    /// The listening socket behind an address and port (answer: `What::Listener`).
    Listener(Endpoint),
    /// The numbers of a connection that is open (answer: `What::Flow`): the client's own tuple, and its
    /// socket's network namespace, 0 if not known.
    Numbers {
        /// Client to server.
        tuple: Tuple,
        /// The namespace's cookie.
        netns: u64,
    },
    /// What the socket of an open connection has counted (answer: `What::FlowNumbers`; none if it is gone, or
    /// another socket has the tuple).
    FlowNumbers {
        /// From that socket's own end to its peer.
        tuple: Tuple,
        /// The cookie of its network namespace, 0 if not known.
        netns: u64,
        /// Its cookie.
        cookie: u64,
    },
    /// connect() calls are seen that send no SYN: watch what they return (answer: `What::CallFailed`).
    WatchCalls,
}
