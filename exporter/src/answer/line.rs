//! Answers, as they stand on the socket and, but for the frame, in the output of `--json`.

use serde::{Deserialize, Serialize};

use super::request::VERSION;
use crate::health::status::Status;

/// One line of an answer.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The version of this language.
    pub v: u64,
    /// What it says.
    #[serde(flatten)]
    pub said: Said,
}

impl Line {
    /// A line of this version.
    pub fn new(said: Said) -> Self {
        Self { v: VERSION, said }
    }

    /// The text for the socket, with its newline.
    pub fn text(&self) -> String {
        let mut text = serde_json::to_string(self).unwrap_or_default();
        text.push('\n');
        text
    }
}

/// What a line of an answer says.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// An attempt.
    Attempt(Box<AttemptRow>),
    /// Behind the attempts: all that were asked for are told. A question that follows goes on.
    Kept(Kept),
    /// While following: so many went by faster than they could be told.
    Missed(u64),
    /// One that had the port.
    Holder(Box<HolderRow>),
    /// Behind the holders: all are told.
    Held(Held),
    /// How the agent stands.
    Status(Box<Status>),
    /// The question cannot be answered; one sentence for people.
    Error(String),
}

/// An end of a connection.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct End {
    /// The workload, as `service.namespace/service.name`; none if nothing knows it.
    pub name: Option<String>,
    /// The pod, if it is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// File name of the process's executable, if that was seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// Address and port, before NAT on the client's side and as asked for on the server's.
    pub address: Option<String>,
}

/// A tuple: address and port of client and server.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Ends {
    /// The client's.
    pub client: String,
    /// The server's.
    pub server: String,
}

/// An attempt.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct AttemptRow {
    /// When it began, UTC, as RFC 3339 has it.
    pub time: String,
    /// This node's part: `client`, `server` or `transit`.
    pub role: String,
    /// Who connected.
    pub client: End,
    /// Where to.
    pub server: End,
    /// What the application got.
    pub outcome: String,
    /// The error number it got, if the kernel said.
    pub errno: Option<i32>,
    /// From the start to the outcome, in seconds.
    pub duration_s: f64,
    /// SYNs sent.
    pub syns: u32,
    /// Why; null if nothing went wrong, or it is not known.
    pub cause: Option<String>,
    /// What else holds.
    pub also: Vec<String>,
    /// How sure the cause is.
    pub evidence: String,
    /// Who is responsible.
    pub responsible: Option<String>,
    /// Whether it went wrong for the application.
    pub failed: bool,
    /// Whether it took half a second or a second SYN.
    pub late: bool,
    /// Whether its wire tuple had another tenant within the reuse window.
    pub reused: bool,
    /// Before NAT.
    pub tuple: Option<Ends>,
    /// After NAT, at the node's outward interface; the last, where it changed.
    pub wire: Option<Ends>,
    /// Who had the port before.
    pub previous_owner: Option<OwnerRow>,
    /// Its trace.
    pub trace_id: String,
}

/// Who had the port before.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct OwnerRow {
    /// Who.
    pub client: End,
    /// After NAT.
    pub wire: Option<Ends>,
    /// Seconds from its end to this attempt's SYN; null if it is open still.
    pub gap_s: Option<f64>,
    /// Which end closed first.
    pub closed_by: String,
    /// In which state the server holds it.
    pub server_state: String,
    /// Its trace.
    pub trace_id: String,
}

/// What the memory of attempts holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Kept {
    /// Attempts that fit the question beyond its limit, all older.
    pub more: u64,
    /// Attempts in memory.
    pub kept: u64,
    /// Overwritten since the agent's start: those that `failed` asks for.
    pub overwritten_failed: u64,
    /// And all others.
    pub overwritten_clean: u64,
}

/// What became of one that had a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HolderState {
    /// The connection is open.
    Open,
    /// It has ended.
    Closed,
    /// The attempt is under way.
    Connecting,
    /// The attempt came to nothing.
    Failed,
}

/// One that has or had a port.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct HolderRow {
    /// Who.
    pub client: End,
    /// Before NAT.
    pub tuple: Ends,
    /// After NAT, at the node's outward interface.
    pub wire: Option<Ends>,
    /// Since when, UTC, as RFC 3339 has it.
    pub opened: String,
    /// Until when; null if it has the port still.
    pub closed: Option<String>,
    /// What became of it.
    pub state: HolderState,
    /// Of a closed one: which end closed first.
    pub closed_by: Option<String>,
    /// Of one that came to nothing: what the application got.
    pub outcome: Option<String>,
    /// Of one that came to nothing: why.
    pub cause: Option<String>,
    /// In which state the server holds it, if a later attempt has told.
    pub server_state: Option<String>,
    /// Its trace.
    pub trace_id: String,
}

/// How far the ledger reaches.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Held {
    /// The port asked for.
    pub port: u16,
    /// How many more held it, all before those told.
    pub more: u64,
    /// Nothing that ended later is missing; UTC, as RFC 3339 has it.
    pub remembers_since: String,
    /// Why not further: `agent_start`, `window` or `memory`.
    pub because: String,
}
