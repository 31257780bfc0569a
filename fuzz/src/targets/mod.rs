//! The targets, each a function of any bytes.

pub mod btf;
pub mod capture;
pub mod config;
pub mod netlink;
pub mod packet;
pub mod records;
pub mod request;
pub mod tracker;
pub mod tracking;
