//! Scenarios: what to build, what to do and break, and what the verdict must be.

pub mod agents;
mod attempted;
pub mod catalog;
pub mod check;
mod far;
pub mod inbound;
pub mod judged;
mod lasting;
pub mod model;
mod odd;
mod programs;
pub mod records;
pub mod run;
mod upkeep;
