//! The static list: addresses, prefixes and cgroups that the configuration gives an identity.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;

use super::cgroup::CgroupPaths;
use super::node::Node;
use super::{Answer, End, Identify, Identity};
use crate::capture::observation::Mono;

/// An entry of the list.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Addresses (as prefixes of full length) and prefixes.
    pub prefixes: Vec<IpNet>,
    /// Paths below the cgroup2 mount; each stands for itself and all below it.
    pub cgroups: Vec<String>,
    /// Resource attributes.
    pub attributes: Vec<(String, String)>,
}

/// The list. The longest prefix wins, and so does the longest cgroup path; of equal ones, the first.
pub struct StaticList {
    prefixes: Vec<(IpNet, Arc<Identity>)>,
    cgroups: Vec<(String, Arc<Identity>)>,
    paths: Option<Arc<CgroupPaths>>,
}

impl StaticList {
    /// A list of entries. Without `paths`, entries by cgroup match nothing.
    pub fn new(entries: &[Entry], node: &Node, paths: Option<Arc<CgroupPaths>>) -> Self {
        let mut prefixes = Vec::new();
        let mut cgroups = Vec::new();
        for entry in entries {
            let own = entry.attributes.iter().map(|(key, value)| (key.as_str(), value.as_str()));
            let identity = Arc::new(node.anywhere(own));
            prefixes.extend(entry.prefixes.iter().map(|prefix| (prefix.trunc(), Arc::clone(&identity))));
            cgroups.extend(entry.cgroups.iter().map(|path| (path.trim_matches('/').to_owned(), Arc::clone(&identity))));
        }
        // Stable sorts: of equal ones the first given stays first.
        prefixes.sort_by_key(|(prefix, _)| std::cmp::Reverse(prefix.prefix_len()));
        cgroups.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self { prefixes, cgroups, paths }
    }

    /// Whether the list has no entry that could match.
    pub fn is_empty(&self) -> bool {
        self.prefixes.is_empty() && self.cgroups.is_empty()
    }

    fn by_address(&self, address: IpAddr) -> Option<Arc<Identity>> {
        let address = address.to_canonical();
        self.prefixes.iter().find(|(prefix, _)| prefix.contains(&address)).map(|(_, identity)| Arc::clone(identity))
    }

    fn by_path(&self, path: &str) -> Option<Arc<Identity>> {
        let path = path.trim_matches('/');
        let below = |top: &str| {
            top.is_empty() || path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.cgroups.iter().find(|(top, _)| below(top)).map(|(_, identity)| Arc::clone(identity))
    }
}

impl Identify for StaticList {
    fn identify(&self, end: &End<'_>, at: Mono) -> Answer {
        let by_cgroup = end.process.filter(|_| !self.cgroups.is_empty()).and_then(|process| {
            let path = self.paths.as_ref()?.path(process.cgroup, at)?;
            self.by_path(&path)
        });
        Answer::of(by_cgroup.or_else(|| self.by_address(end.address?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(prefixes: &[&str], cgroups: &[&str], name: &str) -> Entry {
        Entry {
            prefixes: prefixes.iter().map(|prefix| prefix.parse().expect("prefix")).collect(),
            cgroups: cgroups.iter().map(|&path| path.to_owned()).collect(),
            attributes: vec![("service.name".to_owned(), name.to_owned())],
        }
    }

    fn name(identity: Option<Arc<Identity>>) -> Option<String> {
        identity.and_then(|identity| identity.get("service.name").map(str::to_owned))
    }

    fn list(entries: &[Entry]) -> StaticList {
        StaticList::new(entries, &Node::new("n", false, &[]), None)
    }

    #[test]
    fn the_longest_prefix_wins_in_both_families() {
        let list = list(&[
            entry(&["10.0.0.0/8", "2001:db8::/32"], &[], "wide"),
            entry(&["10.1.2.3/32", "2001:db8:1::/48"], &[], "narrow"),
        ]);
        let ask = |address: &str| name(list.identify(&End::address(address.parse().expect("address")), Mono(0)).now());
        assert_eq!(ask("10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(ask("10.1.2.4").as_deref(), Some("wide"));
        assert_eq!(ask("::ffff:10.1.2.3").as_deref(), Some("narrow"));
        assert_eq!(ask("2001:db8:1::7").as_deref(), Some("narrow"));
        assert_eq!(ask("2001:db8:2::7").as_deref(), Some("wide"));
        assert_eq!(ask("192.0.2.1"), None);
    }

    #[test]
    fn a_cgroup_stands_for_itself_and_all_below_but_not_for_its_namesakes() {
        let list = list(&[entry(&[], &["/lab/"], "lab"), entry(&[], &["lab/cart"], "cart")]);
        assert_eq!(name(list.by_path("/lab")).as_deref(), Some("lab"));
        assert_eq!(name(list.by_path("/lab/other/deep")).as_deref(), Some("lab"));
        assert_eq!(name(list.by_path("/lab/cart/x")).as_deref(), Some("cart"));
        assert_eq!(name(list.by_path("/lab/cart2")).as_deref(), Some("lab"));
        assert_eq!(name(list.by_path("/laboratory")), None);
    }

    #[test]
    fn a_prefix_with_host_bits_set_is_taken_as_its_network() {
        let list = list(&[entry(&["10.1.2.3/8"], &[], "net")]);
        assert_eq!(name(list.by_address("10.200.0.1".parse().expect("address"))).as_deref(), Some("net"));
    }
}
