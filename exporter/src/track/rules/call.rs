//! connect() that ended before any SYN: what it returned is all there is.

use super::Held;
use crate::track::causes::Cause;
use crate::track::open::Open;
use crate::track::verdict::{Evidence, Side};

// errno(3), numbers of all of Linux's architectures but a few that run no Kubernetes.
const EPERM: i32 = 1;
const EACCES: i32 = 13;
const EINVAL: i32 = 22;
const EADDRNOTAVAIL: i32 = 99;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const EHOSTUNREACH: i32 = 113;

/// Adds what holds.
pub fn judge(open: &Open, held: &mut Held) {
    let (Some(bound), Some(errno)) = (open.never_sent, open.errno) else { return };
    match errno {
        EADDRNOTAVAIL if bound != 0 => held.add(Cause::LocalPortConflict, Evidence::Kernel),
        EADDRNOTAVAIL => held.add(Cause::EphemeralPortExhausted, Evidence::Kernel),
        EPERM | EACCES => held.add(Cause::PolicyDenied, Evidence::Kernel),
        // A blackhole route makes connect() fail with EINVAL (net/ipv4/fib_semantics.c, fib_props).
        EINVAL | ENETDOWN | ENETUNREACH | EHOSTUNREACH => {
            held.add_with(Cause::Unreachable, Evidence::Kernel, Side::Node)
        }
        _ => {}
    }
}
