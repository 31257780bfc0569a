//! The ways in which applications connect and listen, beyond the plain one.

use serde::{Deserialize, Serialize};

/// How a connect is made; plainly without any.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Way {
    /// By io_uring's IORING_OP_CONNECT, which is no connect() system call.
    pub io_uring: bool,
    /// SO_SNDTIMEO in milliseconds: a blocking connect() gives up with EINPROGRESS then.
    pub send_timeout: Option<u32>,
    /// SO_RCVTIMEO in milliseconds, which bounds no connect().
    pub receive_timeout: Option<u32>,
    /// TCP_USER_TIMEOUT in milliseconds.
    pub user_timeout: Option<u32>,
    /// The thread that calls connect() ends at once, and another one waits for the outcome.
    pub thread_ends: bool,
    /// An IPv6 socket to `::ffff:a.b.c.d`; nothing else for IPv6.
    pub mapped: bool,
    /// TCP Fast Open with that many bytes (sendto with MSG_FASTOPEN, a blocking call).
    pub fast_open: Option<usize>,
    /// A socket of IPPROTO_MPTCP.
    pub mptcp: bool,
    /// Close by a RST as soon as it is up (SO_LINGER 0), as some health checkers do.
    pub reset_after: bool,
    /// A single SYN past the kernel's TCP, as scanners send it: the kernel answers the SYN-ACK by a RST. The
    /// result is `syn-ack`, `rst` or `silence`. It needs a source port.
    pub raw_syn: bool,
}

/// How a listener listens; plainly without any.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct ListenWay {
    /// TCP_DEFER_ACCEPT in seconds: a connection is accepted with its first data.
    pub defer: Option<i32>,
    /// TCP_FASTOPEN's queue length.
    pub fast_open: Option<i32>,
    /// A socket of IPPROTO_MPTCP.
    pub mptcp: bool,
}
