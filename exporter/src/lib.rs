//! synspan: a span for every SYN.
//!
//! Data flows one way: [`capture`] -> [`track`] -> [`identify`] -> [`encode`] -> [`deliver`].

pub mod capture;
pub mod cli;
pub mod config;
pub mod deliver;
pub mod encode;
pub mod identify;
pub mod track;
