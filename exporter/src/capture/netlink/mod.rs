//! Netlink: one socket for all protocols, and what the kernel's tables look like in its messages.
//!
//! Everything that reads takes any bytes: what makes no sense ends the reading or is left out.

pub mod attributes;
pub mod filters;
pub mod message;
pub mod socket;

pub use attributes::{attributes, put, put_nested, text, u16_at, u32_at};
pub use socket::{Protocol, Socket};
