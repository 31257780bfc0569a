//! The rules of the causes, by where the fault is. Each adds what holds; `judge.rs` chooses.

pub mod beyond;
pub mod call;
pub mod node;
pub mod reuse;
pub mod server;

use super::attempt::Facts;
use super::causes::Cause;
use super::extra::Drop;
use super::tenancy::TenancyKey;
use super::verdict::{Evidence, Outcome, Side};

/// What the rules share of an attempt.
pub struct Known {
    /// What the application got.
    pub outcome: Outcome,
    /// Observations were lost while it was open.
    pub lossy: bool,
    /// The tuple had another tenant within the reuse window.
    pub reused: bool,
    /// It ended, and not by coming up.
    pub over: bool,
    /// Nothing at all answered.
    pub silent: bool,
    /// A RST refused it.
    pub refused: bool,
    /// The application gave up before anything was due.
    pub hasty: bool,
}

/// A cause that holds.
#[derive(Clone, Copy)]
pub struct Holds {
    /// Which.
    pub cause: Cause,
    /// How sure.
    pub evidence: Evidence,
    /// The side, where it is not the table's; none within where nobody can be named.
    pub side: Option<Option<Side>>,
}

/// What the rules found so far.
pub struct Held {
    /// Causes, in no order.
    pub causes: Vec<Holds>,
    /// The tenant that explains it, or the one before it.
    pub owner: Option<TenancyKey>,
    /// Reuse may explain it, and nothing tells.
    pub reuse_possible: bool,
    /// Reuse is suspected.
    pub suspected: bool,
    /// What else it rests on.
    pub facts: Facts,
}

impl Held {
    /// Nothing yet.
    pub fn new(owner: Option<TenancyKey>) -> Self {
        Self { causes: Vec::new(), owner, reuse_possible: false, suspected: false, facts: Facts::default() }
    }

    /// A cause holds.
    pub fn add(&mut self, cause: Cause, evidence: Evidence) {
        self.causes.push(Holds { cause, evidence, side: None });
    }

    /// A cause holds, and this side is responsible.
    pub fn add_with(&mut self, cause: Cause, evidence: Evidence, side: Side) {
        self.causes.push(Holds { cause, evidence, side: Some(Some(side)) });
    }

    /// A cause holds, and who is responsible cannot be told.
    pub fn add_unnamed(&mut self, cause: Cause, evidence: Evidence) {
        self.causes.push(Holds { cause, evidence, side: Some(None) });
    }

    /// A drop that it rests on; the first one stays.
    pub fn rest_on(&mut self, drop: Option<&Drop>) {
        if self.facts.drop.is_none() {
            self.facts.drop = drop.map(|drop| drop.fact.clone());
        }
    }

    /// Whether one of these holds.
    pub fn any(&self, causes: &[Cause]) -> bool {
        self.causes.iter().any(|held| causes.contains(&held.cause))
    }
}
