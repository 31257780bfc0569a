//! The sources in their order, and one `Arc` for equal identities.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Identify, Identity, Subject};
use crate::capture::observation::{Mono, Process};

/// Most identities held; those that nobody uses any more go first.
const INTERN_LIMIT: usize = 16_384;

/// Asks the sources in order: the static list, Kubernetes, the host's processes.
///
/// A source is asked by process and then by address before the next is asked at all: what the static
/// list says of an address comes before what `/proc` says of the process there.
pub struct Identities {
    sources: Vec<Arc<dyn Identify>>,
    interned: Mutex<HashSet<Arc<Identity>>>,
}

impl Identities {
    /// A chain of sources, the first to know wins.
    pub fn new(sources: Vec<Arc<dyn Identify>>) -> Self {
        Self { sources, interned: Mutex::default() }
    }

    /// Who that was at that time: a process, else whoever has the address.
    pub fn who(&self, process: Option<&Process>, address: Option<IpAddr>, at: Mono) -> Option<Arc<Identity>> {
        let found = self.sources.iter().find_map(|source| {
            let by_process = process.and_then(|process| source.identify(Subject::Process(process), at));
            by_process.or_else(|| address.and_then(|address| source.identify(Subject::Address(address), at)))
        })?;
        Some(self.intern(found))
    }

    /// The one `Arc` for an identity.
    pub fn intern(&self, identity: Arc<Identity>) -> Arc<Identity> {
        let mut interned = self.interned.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = interned.get(&identity) {
            return Arc::clone(known);
        }
        if interned.len() >= INTERN_LIMIT {
            interned.retain(|known| Arc::strong_count(known) > 1);
            if interned.len() >= INTERN_LIMIT {
                // All in use: equal identities may have two homes for a while, which costs memory only.
                interned.clear();
            }
        }
        interned.insert(Arc::clone(&identity));
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed {
        process: Option<&'static str>,
        address: Option<&'static str>,
    }

    impl Identify for Fixed {
        fn identify(&self, subject: Subject<'_>, _: Mono) -> Option<Arc<Identity>> {
            let name = match subject {
                Subject::Process(_) => self.process,
                Subject::Address(_) => self.address,
            };
            name.map(|name| Arc::new(Identity::new([("service.name", name)])))
        }
    }

    fn name(identities: &Identities) -> Option<String> {
        let process = Process::default();
        let address = Some(IpAddr::from([10, 0, 0, 1]));
        identities.who(Some(&process), address, Mono(0))?.get("service.name").map(str::to_owned)
    }

    fn chain(sources: Vec<Fixed>) -> Identities {
        Identities::new(sources.into_iter().map(|source| Arc::new(source) as Arc<dyn Identify>).collect())
    }

    #[test]
    fn an_earlier_sources_address_comes_before_a_later_sources_process() {
        let by_address = || Fixed { process: None, address: Some("list") };
        let by_process = || Fixed { process: Some("host"), address: None };
        assert_eq!(name(&chain(vec![by_address(), by_process()])).as_deref(), Some("list"));
        assert_eq!(name(&chain(vec![by_process(), by_address()])).as_deref(), Some("host"));
        assert_eq!(name(&chain(vec![])), None);
    }

    #[test]
    fn within_a_source_the_process_comes_first() {
        let both = Fixed { process: Some("cgroup"), address: Some("address") };
        assert_eq!(name(&chain(vec![both])).as_deref(), Some("cgroup"));
    }

    #[test]
    fn equal_identities_are_one() {
        let identities = chain(vec![Fixed { process: None, address: Some("list") }]);
        let who = || identities.who(None, Some(IpAddr::from([10, 0, 0, 1])), Mono(0)).expect("known");
        assert!(Arc::ptr_eq(&who(), &who()));
    }

    #[test]
    fn the_memory_of_identities_is_bounded() {
        let identities = chain(vec![]);
        for number in 0..INTERN_LIMIT * 2 {
            identities.intern(Arc::new(Identity::new([("service.name", number.to_string())])));
        }
        assert!(identities.interned.lock().expect("lock").len() <= INTERN_LIMIT);
    }
}
