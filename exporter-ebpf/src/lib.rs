//! What the eBPF programs and user space share: the layout of the records in the ring buffer.
#![no_std]

pub mod record;
