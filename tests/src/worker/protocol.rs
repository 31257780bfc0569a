//! What the lab says to a worker and what it answers: one JSON object a line.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::way::{ListenWay, Way};

/// A command with a number that its answer repeats; answers may come in any order.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Request {
    /// The number.
    pub id: u64,
    /// The command.
    pub command: Command,
}

/// What a worker can do. Sockets have names: a listener's accepted ones are `NAME#1`, `NAME#2` and on.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Listen.
    Listen {
        /// The socket's name.
        socket: String,
        /// Where.
        at: SocketAddr,
        /// The accept queue's length.
        backlog: i32,
        /// What becomes of connections.
        accept: Accept,
        /// How.
        #[serde(default)]
        way: ListenWay,
    },
    /// Connect, and answer when it is over.
    Connect {
        /// The socket's name.
        socket: String,
        /// Where to.
        to: SocketAddr,
        /// How.
        how: ConnectHow,
    },
    /// Many connects at the same time, one from each port if a first port is given.
    ConnectMany {
        /// The sockets' names begin so; `-1`, `-2` and on follow.
        socket: String,
        /// Where to.
        to: SocketAddr,
        /// How many.
        count: u16,
        /// How; its port is the first of as many.
        how: ConnectHow,
        /// Whether to close each as soon as it is up.
        close: bool,
        /// When the first starts, in nanoseconds since 1970; each next one [`COUNT_STEP`] later. At once without.
        #[serde(default)]
        at: Option<u64>,
        /// Which CPU they start on, of those there are: others that start at the same moments have another.
        #[serde(default)]
        cpu: usize,
    },
    /// Send that many bytes, as far as the socket takes them.
    Send {
        /// Which.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Receive that many bytes, or until the end.
    Recv {
        /// Which.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Close the sending half: a FIN leaves.
    Shutdown {
        /// Which.
        socket: String,
    },
    /// Close; with `reset` at once by a RST (SO_LINGER 0).
    Close {
        /// Which.
        socket: String,
        /// By a RST.
        reset: bool,
    },
    /// Answer every SYN to a port with an acknowledgement of another connection (see `raw`).
    AnswerFalsely {
        /// The port.
        port: u16,
        /// The numbers to answer with.
        numbers: FalseNumbers,
        /// How.
        how: FalseHow,
    },
    /// Send an IP packet as it is.
    Inject {
        /// The packet from its IP header on.
        packet: Vec<u8>,
        /// Where to.
        to: IpAddr,
    },
    /// Answer every SYN to a port by a SYN-ACK, and the client's ACK by a RST (see `spoof`).
    AnswerAndReset {
        /// The port.
        port: u16,
    },
    /// Send SYNs from addresses of nobody.
    Flood {
        /// Where to.
        to: SocketAddr,
        /// How many.
        syns: u32,
        /// How many a second, at most.
        rate: u32,
    },
    /// Connect again and again, each from a port of the kernel's choice, and count what came of it.
    Storm {
        /// Where to.
        to: SocketAddr,
        /// How many.
        count: u32,
        /// How many a second, at most; 0: as fast as it can.
        rate: u32,
        /// How many side by side, where each waits for its answer.
        threads: u16,
        /// Nobody answers there: give each up after so many milliseconds, and begin others meanwhile.
        #[serde(default)]
        patience_ms: Option<u64>,
    },
    /// Answer at once: the worker is up.
    Hello,
}

/// How far apart connects start that have a moment.
pub const COUNT_STEP: Duration = Duration::from_millis(20);

/// Numbers of a false answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct FalseNumbers {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
}

/// How a false answer is made; an ACK to each SYN without any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct FalseHow {
    /// With the SYN flag.
    pub syn_ack: bool,
    /// Only to the first SYN from each port.
    pub first_only: bool,
    /// With this TTL; 64 without.
    pub ttl: Option<u8>,
}

/// What a listener does with connections.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum Accept {
    /// Accept, and close when the client has closed.
    #[default]
    Serve,
    /// Accept and keep, even when the client has closed: CLOSE_WAIT, a leak.
    Keep,
    /// Accept and close at once: the server's FIN comes first.
    CloseFirst,
    /// Never accept.
    Never,
}

/// How to connect.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, Default)]
pub struct ConnectHow {
    /// The source port, bound with SO_REUSEADDR.
    pub from_port: Option<u16>,
    /// Close after that many milliseconds without an outcome; the kernel's patience without.
    pub timeout_ms: Option<u64>,
    /// One blocking connect() call; otherwise a non-blocking one and poll().
    pub blocking: bool,
    /// In which way.
    #[serde(default)]
    pub way: Way,
}

/// A worker's answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Answer {
    /// The request's number.
    pub id: u64,
    /// What came of it.
    pub result: Result<Done, String>,
}

/// What came of a command.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Done.
    Ok,
    /// Bytes sent or received.
    Bytes(usize),
    /// A connect is over.
    Connected(Vec<Connected>),
    /// So many connects ended with each result, as in [`Connected::result`].
    Counted(BTreeMap<String, u64>),
}

/// How a connect ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Connected {
    /// `ok`, `timeout` (the application's own), or the name of the error number.
    pub result: String,
    /// The client's end, as far as the socket says.
    pub local: Option<SocketAddr>,
    /// From connect() to the result, in microseconds.
    pub took_us: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_survives_the_line() {
        let request = Request {
            id: 7,
            command: Command::Connect {
                socket: "old".into(),
                to: "[fd00::1]:8443".parse().unwrap(),
                how: ConnectHow { from_port: Some(1), timeout_ms: None, blocking: true, way: Way::default() },
            },
        };
        let line = serde_json::to_string(&request).unwrap();
        assert!(!line.contains('\n'));
        let back: Request = serde_json::from_str(&line).unwrap();
        assert_eq!(back.command, request.command);
        let answer = Answer { id: 7, result: Err("no such socket".into()) };
        assert_eq!(serde_json::from_str::<Answer>(&serde_json::to_string(&answer).unwrap()).unwrap(), answer);
    }
}
