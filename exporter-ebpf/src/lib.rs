//! What the eBPF programs and user space share: the layout of the records in the ring buffer, and of
//! the one question that a program answers.
#![no_std]

pub mod lookup;
pub mod record;
