//! Which addresses have an agent of their own: what is configured, and what the cluster's nodes say of themselves.

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;
use std::sync::{Arc, PoisonError, RwLock};

use ipnet::IpNet;

/// Prefixes that are asked often: a look-up for each length that occurs, however many there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prefixes(BTreeMap<u8, HashSet<IpNet>>);

impl Prefixes {
    /// Whether one of them holds an address; one of IPv4 mapped into IPv6 is taken as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|(&length, of_length)| {
            IpNet::new(address, length).is_ok_and(|prefix| of_length.contains(&prefix.trunc()))
        })
    }
}

impl FromIterator<IpNet> for Prefixes {
    fn from_iter<I: IntoIterator<Item = IpNet>>(prefixes: I) -> Self {
        let mut sorted: BTreeMap<u8, HashSet<IpNet>> = BTreeMap::new();
        for prefix in prefixes {
            sorted.entry(prefix.prefix_len()).or_default().insert(prefix.trunc());
        }
        Self(sorted)
    }
}

/// The addresses whose nodes run an agent (`tracking.covered`), so that a span may name a parent there.
#[derive(Clone, Debug, Default)]
pub struct Covered {
    configured: Arc<Prefixes>,
    learned: Arc<RwLock<Prefixes>>,
}

impl Covered {
    /// Those that the configuration names; more may be learned.
    pub fn new(configured: impl IntoIterator<Item = IpNet>) -> Self {
        Self { configured: Arc::new(configured.into_iter().collect()), learned: Arc::default() }
    }

    /// All that is learned by now, in place of what was learned before.
    pub fn learn(&self, prefixes: impl IntoIterator<Item = IpNet>) {
        *self.learned.write().unwrap_or_else(PoisonError::into_inner) = prefixes.into_iter().collect();
    }

    /// Whether an address is one of these.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.configured.contains(address)
            || self.learned.read().unwrap_or_else(PoisonError::into_inner).contains(address)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> IpNet {
        text.parse().expect("prefix")
    }

    fn address(text: &str) -> IpAddr {
        text.parse().expect("address")
    }

    #[test]
    fn what_is_learned_adds_to_what_is_configured_and_replaces_what_was_learned() {
        let covered = Covered::new([prefix("10.0.0.0/8")]);
        let also = covered.clone();
        covered.learn([prefix("192.168.50.10/32"), prefix("fd00:10:244:1::/64")]);
        for inside in ["10.9.9.9", "192.168.50.10", "::ffff:192.168.50.10", "fd00:10:244:1::12"] {
            assert!(also.contains(address(inside)), "{inside}");
        }
        assert!(!also.contains(address("192.168.50.11")) && !also.contains(address("fd00:10:244:2::12")));
        covered.learn([prefix("192.168.50.11/32")]);
        assert!(also.contains(address("10.1.1.1")) && !also.contains(address("192.168.50.10")));
    }

    proptest! {
        #[test]
        fn as_a_list_would_say(prefixes in proptest::collection::vec((any::<u32>(), 0u8..=32), 0..20), asked: u32) {
            let list: Vec<IpNet> = prefixes
                .into_iter()
                .map(|(bits, length)| IpNet::new(std::net::Ipv4Addr::from_bits(bits).into(), length).expect("length"))
                .collect();
            let asked = IpAddr::from(std::net::Ipv4Addr::from_bits(asked));
            let known: Prefixes = list.iter().copied().collect();
            prop_assert_eq!(known.contains(asked), list.iter().any(|prefix| prefix.contains(&asked)));
        }
    }
}
