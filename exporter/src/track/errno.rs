//! Error numbers (errno(3)): what they mean for an attempt, and which of them an ICMP error becomes.

use super::verdict::Outcome;

const EACCES: i32 = 13;
const ENONET: i32 = 64;
const EPROTO: i32 = 71;
const EMSGSIZE: i32 = 90;
const ENOPROTOOPT: i32 = 92;
const EOPNOTSUPP: i32 = 95;
const ENETDOWN: i32 = 100;
const ENETUNREACH: i32 = 101;
const ETIMEDOUT: i32 = 110;
const ECONNREFUSED: i32 = 111;
const EHOSTDOWN: i32 = 112;
const EHOSTUNREACH: i32 = 113;

/// The outcome of a connect() that ended with an error number.
pub(super) fn outcome(errno: i32) -> Outcome {
    match errno {
        ECONNREFUSED => Outcome::Refused,
        ETIMEDOUT => Outcome::TimedOut,
        ENETDOWN | ENETUNREACH | EHOSTDOWN | EHOSTUNREACH => Outcome::Unreachable,
        _ => Outcome::Failed,
    }
}

/// The error number that the kernel makes of an ICMP error of that type and code (`net/ipv4/icmp.c:
/// icmp_err_convert`, `net/ipv6/icmp.c: icmpv6_err_convert`); none for one that is no error to it.
pub(super) fn of_icmp(kind: u8, code: u8, v4: bool) -> Option<i32> {
    Some(match (v4, kind, code) {
        (true, 3, 0 | 6 | 9 | 11) | (false, 1, 0) => ENETUNREACH,
        (true, 3, 1 | 10 | 12..=15) | (true, 11, _) | (false, 1, 2 | 3) | (false, 3, _) => EHOSTUNREACH,
        (true, 3, 2) => ENOPROTOOPT,
        (true, 3, 3) | (false, 1, 4) => ECONNREFUSED,
        (true, 3, 4) | (false, 2, _) => EMSGSIZE,
        (true, 3, 5) => EOPNOTSUPP,
        (true, 3, 7) => EHOSTDOWN,
        (true, 3, 8) => ENONET,
        (false, 1, 1 | 5 | 6) => EACCES,
        (true, 12, _) | (false, 1 | 4, _) => EPROTO,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_icmp_error_becomes_the_kernels_number() {
        assert_eq!(of_icmp(3, 1, true), Some(EHOSTUNREACH));
        assert_eq!(of_icmp(3, 3, true), Some(ECONNREFUSED));
        assert_eq!(of_icmp(3, 13, true), Some(EHOSTUNREACH));
        assert_eq!(of_icmp(1, 1, false), Some(EACCES));
        assert_eq!(of_icmp(1, 4, false), Some(ECONNREFUSED));
        assert_eq!(of_icmp(8, 0, true), None);
    }
}
