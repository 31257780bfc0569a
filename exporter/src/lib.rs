//! synspan: a span for every SYN.
//!
//! Data flows one way: [`capture`] -> [`track`] -> [`identify`] -> [`encode`] -> [`deliver`]; [`answer`] stands
//! beside the last two, for who asks a running agent.

pub mod answer;
pub mod capture;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod encode;
pub mod identify;
pub mod track;
