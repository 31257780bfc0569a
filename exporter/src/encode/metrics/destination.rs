//! What a destination is called in metrics: few enough names, and never a client's port.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use crate::capture::tuple::Addr;
use crate::encode::prefix;

/// Names given to prefixes; the longest prefix that holds an address names it.
#[derive(Clone, Debug, Default)]
pub struct PrefixNames(Vec<(IpNet, Arc<str>)>);

impl PrefixNames {
    /// In any order.
    pub fn new(names: impl IntoIterator<Item = (IpNet, Arc<str>)>) -> Self {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        Self(names)
    }

    /// The name of an address.
    pub fn get(&self, address: IpAddr) -> Option<&Arc<str>> {
        let address = address.to_canonical();
        self.0.iter().find(|(prefix, _)| prefix.contains(&address)).map(|(_, name)| name)
    }
}

/// The addresses that a workload's metrics name, up to a limit.
#[derive(Debug, Default)]
pub struct Addresses(HashSet<Addr>);

impl Addresses {
    /// The address itself while there are few, then the prefix that it lies in.
    pub fn label(&mut self, address: Addr, most: usize) -> Arc<str> {
        if self.0.contains(&address) || (self.0.len() < most && self.0.insert(address)) {
            address.to_string().into()
        } else {
            prefix::of(address.ip()).to_string().into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_while_few_then_prefixes() {
        let mut addresses = Addresses::default();
        let mut label = |last: u8| addresses.label(std::net::Ipv4Addr::new(192, 0, 2, last).into(), 2).to_string();
        assert_eq!(
            [1, 2, 3, 1, 9].map(&mut label),
            ["192.0.2.1", "192.0.2.2", "192.0.2.0/24", "192.0.2.1", "192.0.2.0/24"]
        );
    }

    #[test]
    fn the_longest_prefix_names_an_address() {
        let names = [("10.0.0.0/8", "all"), ("10.1.0.0/16", "some")];
        let names = PrefixNames::new(names.map(|(prefix, name)| (prefix.parse().expect("prefix"), Arc::from(name))));
        let get = |text: &str| names.get(text.parse().expect("address")).map(ToString::to_string);
        assert_eq!(get("10.1.2.3").as_deref(), Some("some"));
        assert_eq!(get("::ffff:10.2.2.3").as_deref(), Some("all"));
        assert_eq!(get("192.0.2.1"), None);
    }
}
