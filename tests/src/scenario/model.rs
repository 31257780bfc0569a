//! A scenario as it stands in its YAML file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::topology::{Family, Masquerade, Topology};
use crate::worker::protocol::{Accept, FalseHow};
use crate::worker::way::{ListenWay, Way};

/// A scenario.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// Its name: the file's.
    #[serde(default)]
    pub name: String,
    /// One sentence: what happens and what must be said of it.
    pub about: String,
    /// The families it runs with.
    #[serde(default = "both")]
    pub families: Vec<Family>,
    /// `net.ipv4.tcp_syn_retries` of all namespaces. With `syn_linear` it makes the kernel's patience: as
    /// they stand here SYNs leave at 0, 1 and 2 seconds, and it gives up at 4.
    #[serde(default = "one_retry")]
    pub syn_retries: u8,
    /// `net.ipv4.tcp_syn_linear_timeouts`, which adds so many retries.
    #[serde(default = "one_retry")]
    pub syn_linear: u8,
    /// Whether it runs a second time, as NAME-app, with an application that closes after three seconds where
    /// this one waits for the kernel to give up.
    #[serde(default)]
    pub impatient_too: bool,
    /// Whether nothing else may run beside it: it needs all CPUs at a moment, or changes what all namespaces share.
    #[serde(default)]
    pub alone: bool,
    /// What to build.
    pub topology: Topology,
    /// What to do, in turn.
    #[serde(with = "serde_yaml::with::singleton_map_recursive")]
    pub steps: Vec<Step>,
    /// What the agents must say of the connects that are named here. Every other one of the scenario is a
    /// control: established, no cause, status unset.
    #[serde(default)]
    pub expect: Vec<Expect>,
    /// What must hold of the agents themselves at the end.
    #[serde(default)]
    pub agents: AgentsWant,
}

fn both() -> Vec<Family> {
    vec![Family::V4, Family::V6]
}

fn one_retry() -> u8 {
    1
}

impl Scenario {
    /// The same with an application that closes after three seconds, while the kernel would go on.
    #[must_use]
    pub fn impatient(mut self) -> Self {
        self.name.push_str("-app");
        (self.syn_retries, self.syn_linear) = (6, 4);
        let mut changed = Vec::new();
        for step in &mut self.steps {
            if let Step::Connect(connect) = step
                && connect.result == "ETIMEDOUT"
            {
                connect.result = "timeout".into();
                connect.timeout = Some(3000);
                connect.blocking = false;
                changed.push(connect.name.clone());
            }
        }
        let own = |expect: &&mut Expect| expect.at.is_none() && changed.contains(&expect.connect);
        for expect in self.expect.iter_mut().filter(own) {
            expect.outcome = Want::Is("aborted".into());
            expect.attributes.insert("error.type".into(), Want::Is("aborted".into()));
        }
        self
    }
}

/// A step. `socket` is the name of a connect, or `HOST/PORT#N` for the Nth accepted by a server.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Step {
    /// Listen on a port.
    Listen {
        /// Pod, process or server.
        on: String,
        /// Port.
        port: u16,
        /// What becomes of connections.
        #[serde(default)]
        accept: Accept,
        /// The accept queue's length.
        #[serde(default = "backlog")]
        backlog: i32,
        /// At all addresses, not its own alone.
        #[serde(default)]
        any: bool,
        /// In which way.
        #[serde(default)]
        way: ListenWay,
    },
    /// Connect.
    Connect(Connect),
    /// Wait for a connect that went on in the background.
    Wait(String),
    /// Run a line of shell in a network namespace; it must succeed.
    Sh {
        /// Node, pod, process, server or `router`.
        at: String,
        /// The line; `{name}` stands for an address and `{ip}` for the family's header.
        line: String,
        /// What its output must hold, now or within five seconds: the fault's proof.
        #[serde(default)]
        says: Option<String>,
    },
    /// Wait until a counter of a network namespace (nstat's word for it) has come to so many: the fault's proof.
    Counter {
        /// Node, pod, process, server or `router`.
        at: String,
        /// `TcpExtListenOverflows`, ...
        name: String,
        /// How many.
        least: u64,
    },
    /// Let a cgroup program say EPERM to a pod's connects.
    Deny {
        /// Whose.
        pod: String,
        /// To which port.
        port: u16,
    },
    /// Answer SYNs to a port by a SYN-ACK, and what follows by a RST.
    AnswerAndReset {
        /// Server.
        on: String,
        /// Port.
        port: u16,
    },
    /// SYNs from addresses of nobody; go on with the next step meanwhile, and `wait` for it later.
    Flood {
        /// Name, for `wait`.
        name: String,
        /// Server.
        from: String,
        /// Pod, process, node or server.
        to: String,
        /// Port.
        port: u16,
        /// How many.
        syns: u32,
        /// How many a second, at most.
        rate: u32,
    },
    /// Send bytes.
    Send {
        /// Which.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Receive bytes.
    Recv {
        /// Which.
        socket: String,
        /// How many.
        bytes: usize,
    },
    /// Close the sending half.
    Shutdown {
        /// Which.
        socket: String,
    },
    /// Close.
    Close {
        /// Which.
        socket: String,
        /// At once, by a RST.
        #[serde(default)]
        reset: bool,
    },
    /// Destroy a client's socket in the kernel (`ss -K`), as when its process or host is lost.
    Destroy {
        /// Which.
        socket: String,
    },
    /// Empty a node's connection tracking, as time would.
    Forget {
        /// Node.
        node: String,
    },
    /// Set a node's translation anew.
    Translate {
        /// Node.
        node: String,
        /// How.
        masquerade: Masquerade,
    },
    /// Break something by an nftables rule.
    Block {
        /// Name, for `unblock`.
        name: String,
        /// Node, pod, server or `router`.
        at: String,
        /// The hook: prerouting, input, forward, output, postrouting.
        hook: String,
        /// `filter` or `nat`.
        #[serde(default = "filter", rename = "type")]
        kind: String,
        /// The chain's priority, a number or nftables' word for it.
        #[serde(default = "zero")]
        priority: String,
        /// How often the rule stands there: many make a chain slow.
        #[serde(default = "once")]
        times: usize,
        /// The rule; `{name}` stands for an address and `{ip}` for the family's header.
        rule: String,
    },
    /// Mend it.
    Unblock(String),
    /// Fill a node's connection tracking up to what the kernel allows.
    FillConntrack {
        /// Node.
        node: String,
    },
    /// Wait that many milliseconds.
    Sleep(u64),
    /// Start the agent of a node that has `late_agent`.
    StartAgent(String),
    /// Start one of a node's `late_pods`.
    StartPod(String),
    /// Take a pod away.
    StopPod(String),
    /// Redirect what a pod sends past its node's uplink by a BPF program.
    Redirect {
        /// Whose.
        pod: String,
    },
    /// Keep what a pod sends to a port by a BPF program at the node's end of its veth: the kernel tells of no drop.
    Swallow {
        /// Whose.
        pod: String,
        /// Which port.
        port: u16,
    },
    /// Redirect what comes for a pod past the node's end of its veth, by a BPF program at the uplink.
    RedirectReplies {
        /// Whose.
        pod: String,
    },
    /// Translate what a node's pods send out to its address, by BPF programs at the uplink.
    TranslateByProgram {
        /// Node.
        node: String,
    },
    /// Hang a foreign program at the agent's hook of all a node's interfaces, which lets all pass and ends the row.
    Foreign {
        /// Node.
        node: String,
    },
    /// Send a late segment of an old connection to the client of another.
    Inject {
        /// The server that sends.
        on: String,
        /// The connect whose client gets it.
        to: String,
        /// The connect whose end it has the numbers of.
        numbers_of: String,
    },
    /// Answer SYNs to a port by an acknowledgement of another connection.
    AnswerFalsely {
        /// Server.
        on: String,
        /// Port.
        port: u16,
        /// Whose numbers: a connect's that ended; any without.
        #[serde(default)]
        numbers_of: Option<String>,
        /// How.
        #[serde(default)]
        how: FalseHow,
    },
    /// The lab's own look at the wire must have seen a stale ACK answer this connect, or must not.
    StaleAck {
        /// Which connect.
        connect: String,
        /// Whether.
        seen: bool,
    },
    /// Wait until the server holds that many connections of a port in a state (`ss`'s word for it).
    Holds {
        /// Server.
        on: String,
        /// Port.
        port: u16,
        /// `close-wait`, `established`, ...
        state: String,
        /// How many.
        count: usize,
    },
}

fn filter() -> String {
    "filter".into()
}

fn zero() -> String {
    "0".into()
}

fn once() -> usize {
    1
}

fn backlog() -> i32 {
    128
}

/// A connect.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connect {
    /// Its name.
    #[serde(rename = "as")]
    pub name: String,
    /// Pod or process.
    pub from: String,
    /// Pod, process, node or server.
    #[serde(default = "server")]
    pub to: String,
    /// Port.
    pub port: u16,
    /// Source port.
    #[serde(default)]
    pub from_port: Option<u16>,
    /// How many at the same time, from ports that follow each other.
    #[serde(default = "one")]
    pub count: u16,
    /// The application's own patience in milliseconds.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// One blocking call.
    #[serde(default)]
    pub blocking: bool,
    /// Go on with the next step; `wait` for it later.
    #[serde(default)]
    pub background: bool,
    /// Close as soon as it is up (only with `count`).
    #[serde(default)]
    pub close: bool,
    /// Several connects with a count and one word here start at the same moments, one by one (see `COUNT_STEP`).
    #[serde(default)]
    pub together: Option<String>,
    /// In which way.
    #[serde(default)]
    pub way: Way,
    /// By the other family.
    #[serde(default)]
    pub other_family: bool,
    /// What the application must get: `ok`, `timeout`, or the name of the error number; several with `|` between.
    #[serde(default = "ok")]
    pub result: String,
}

fn server() -> String {
    "server".into()
}

fn one() -> u16 {
    1
}

fn ok() -> String {
    "ok".into()
}

/// What must be said of a connect.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expect {
    /// Which.
    pub connect: String,
    /// What this node's agent must say of it, where it is not the client's: by its `tcp accept`, or by its
    /// `tcp forward` where nothing was accepted. A connect from outside is only seen so.
    #[serde(default)]
    pub at: Option<String>,
    /// How many spans, if not one for each attempt.
    #[serde(default)]
    pub spans: Option<usize>,
    /// `synspan.outcome`.
    #[serde(default)]
    pub outcome: Want,
    /// `synspan.cause`.
    #[serde(default)]
    pub cause: Want,
    /// `synspan.evidence`.
    #[serde(default)]
    pub evidence: Want,
    /// `synspan.responsible`.
    #[serde(default)]
    pub responsible: Want,
    /// `error` or `unset`.
    #[serde(default)]
    pub status: Want,
    /// Other attributes of the `tcp connect` span.
    #[serde(default)]
    pub attributes: BTreeMap<String, Want>,
    /// What replay of the captures must say, where packets alone do not show what live knew.
    #[serde(default)]
    pub replay: Option<Replay>,
    /// Events that it must have.
    #[serde(default)]
    pub events: Vec<String>,
    /// Who held the port before; that nobody is named where the word `none` stands.
    #[serde(default)]
    pub owner: Option<OwnerWant>,
    /// The rest of the trace.
    #[serde(default)]
    pub trace: Option<TraceWant>,
    /// Whether this may hold for some attempts only, at least one of all the connects that say so. The others were
    /// spared, and are controls.
    #[serde(default)]
    pub some: bool,
}

/// What must hold of the agents at the end.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentsWant {
    /// The most memory that any of them ever held, in MiB.
    pub memory_mib: Option<u64>,
    /// No observation of the node's own attempts was lost on the way from the kernel.
    pub lossless: bool,
    /// SYNs from outside that their summaries must tell of at least.
    pub summed_syns: Option<u64>,
    /// Whether attempts from outside that the scenario did not name may have a cause: there is a flood of them.
    pub strangers: bool,
}

/// Whether an owner is named.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum OwnerWant {
    /// `none`: nobody.
    Word(String),
    /// Somebody.
    Owner(Owner),
}

/// Who held the port before.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// The connect that held it; the link must lead to its span.
    pub connect: String,
    /// `synspan.previous_owner.server_state`.
    #[serde(default)]
    pub server_state: Want,
    /// `synspan.previous_owner.closed_by`.
    #[serde(default)]
    pub closed_by: Want,
}

/// The rest of a trace.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceWant {
    /// The workload that has the `tcp accept` span, a child of the connect span.
    #[serde(default)]
    pub accept: Option<String>,
    /// The nodes that have a `tcp forward` span in it.
    #[serde(default)]
    pub forwards: Vec<String>,
}

/// What replay must say in place of what live said, and why it cannot say that.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Replay {
    /// The cause: a weaker one, or none.
    pub cause: Want,
    /// The side; without it live's, or none.
    #[serde(default)]
    pub responsible: Option<Want>,
    /// The attempt may be open still at the file's end.
    #[serde(default)]
    pub pending: bool,
    /// What it is that packets do not show.
    pub because: String,
}

/// A value that is wanted.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize, Serialize, Default)]
#[serde(untagged)]
pub enum Want {
    /// Whatever.
    #[default]
    Any,
    /// `none`: not there; `some`: there; else this very value.
    Is(String),
    /// One of these.
    OneOf(Vec<String>),
    /// Not this one.
    Not {
        /// The value that must not be.
        not: String,
    },
}

impl Want {
    /// Whether a value is what is wanted.
    pub fn met(&self, value: Option<&str>) -> bool {
        let is = |wanted: &str| match wanted {
            "none" => value.is_none(),
            "some" => value.is_some(),
            _ => value == Some(wanted),
        };
        match self {
            Self::Any => true,
            Self::Is(wanted) => is(wanted),
            Self::OneOf(list) => list.iter().any(|wanted| is(wanted)),
            Self::Not { not } => !is(not),
        }
    }
}

impl std::fmt::Display for Want {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Any => f.write_str("any"),
            Self::Is(wanted) => f.write_str(wanted),
            Self::OneOf(list) => write!(f, "one of {}", list.join(", ")),
            Self::Not { not } => write!(f, "not {not}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_told_from_what_is_not() {
        let read = |text: &str| serde_yaml::from_str::<Want>(text).unwrap();
        assert!(read("none").met(None) && !read("none").met(Some("x")));
        assert!(read("some").met(Some("x")) && !read("some").met(None));
        assert!(read("[a, none]").met(None) && read("[a, b]").met(Some("b")) && !read("[a, b]").met(Some("c")));
        assert!(read("{not: a}").met(None) && !read("{not: a}").met(Some("a")));
        assert!(Want::Any.met(None) && Want::Any.met(Some("x")));
    }
}
