//! Who held an address when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::capture::observation::Mono;

/// Most holders remembered of one address.
const MAX_HOLDERS: usize = 8;

/// One pod's time with an address.
#[derive(Clone, Debug)]
struct Tenure {
    uid: Arc<str>,
    /// Not before this: when the kubelet took the pod.
    from: Mono,
    /// From here on events were seen that would have told of another holder.
    sure_from: Mono,
    /// From here on another may have had it: the pod was told to end, or another pod's time had begun.
    doubt: Option<Mono>,
    /// Not after this.
    until: Option<Mono>,
}

/// The answer to who held an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Held {
    /// This pod and no other.
    By(Arc<str>),
    /// More than one pod may have had it then.
    InDoubt,
    /// No pod that is known.
    ByNobody,
}

/// The holders of all addresses.
#[derive(Default)]
pub struct Tenures(HashMap<IpAddr, Vec<Tenure>>);

impl Tenures {
    /// A pod has an address. Returns whether another pod had it still, by what the API said; that one's time is over.
    pub fn claim(&mut self, address: IpAddr, uid: &Arc<str>, from: Mono, sure_from: Mono, now: Mono) -> bool {
        let held = self.0.entry(address).or_default();
        if held.iter().any(|tenure| tenure.uid == *uid && tenure.until.is_none()) {
            return false;
        }
        let mut conflict = false;
        for other in held.iter_mut().filter(|other| other.until.is_none()) {
            // A pod that was told to end and is not gone yet is no rival, only late.
            conflict |= other.doubt.is_none();
            other.until = Some(now);
            other.doubt = Some(other.doubt.map_or(from, |doubt| doubt.min(from)).max(other.from));
        }
        if held.len() >= MAX_HOLDERS {
            held.remove(0);
        }
        held.push(Tenure { uid: Arc::clone(uid), from, sure_from, doubt: None, until: None });
        conflict
    }

    /// From `since` on another may have had a pod's addresses.
    pub fn doubt(&mut self, uid: &str, since: Mono) {
        for tenure in self.0.values_mut().flatten() {
            if &*tenure.uid == uid && tenure.until.is_none() && tenure.doubt.is_none_or(|doubt| doubt > since) {
                tenure.doubt = Some(since);
            }
        }
    }

    /// A pod has these addresses and no others any more.
    pub fn keep_only(&mut self, uid: &str, addresses: &[IpAddr], now: Mono) {
        for (address, held) in &mut self.0 {
            if !addresses.contains(address) {
                for tenure in held.iter_mut().filter(|tenure| &*tenure.uid == uid && tenure.until.is_none()) {
                    tenure.until = Some(now);
                }
            }
        }
    }

    /// Who held an address; `fits` tells which pods are ruled out by something else.
    pub fn holder(&self, address: IpAddr, at: Mono, fits: impl Fn(&str) -> bool) -> Held {
        let Some(held) = self.0.get(&address) else { return Held::ByNobody };
        let mut candidates = held
            .iter()
            .filter(|tenure| tenure.from <= at && tenure.until.is_none_or(|until| at < until))
            .filter(|t| fits(&t.uid));
        match (candidates.next(), candidates.next()) {
            (None, _) => Held::ByNobody,
            (Some(one), None) if one.sure_from <= at && one.doubt.is_none_or(|doubt| at < doubt) => {
                Held::By(Arc::clone(&one.uid))
            }
            _ => Held::InDoubt,
        }
    }

    /// Takes a pod out of every address's past.
    pub fn forget(&mut self, uid: &str) {
        self.0.retain(|_, held| {
            held.retain(|tenure| &*tenure.uid != uid);
            !held.is_empty()
        });
    }

    /// About how many bytes all of it takes.
    pub fn weight(&self) -> usize {
        self.0.values().map(|held| 96 + held.capacity() * size_of::<Tenure>()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 244, 1, 11));

    fn seconds(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn claim(tenures: &mut Tenures, uid: &str, from: u64, now: u64) -> bool {
        tenures.claim(ADDRESS, &uid.into(), seconds(from), seconds(from), seconds(now))
    }

    fn holder(tenures: &Tenures, at: u64) -> Held {
        tenures.holder(ADDRESS, seconds(at), |_| true)
    }

    #[test]
    fn an_attempt_before_the_release_is_the_ones_and_after_it_the_nexts() {
        let mut tenures = Tenures::default();
        assert!(!claim(&mut tenures, "a", 10, 12));
        tenures.doubt("a", seconds(20));
        tenures.keep_only("a", &[], seconds(25));
        // The next was taken by the kubelet at 22, while the first was on its way out, and the API tells at 27.
        assert!(!claim(&mut tenures, "b", 22, 27));
        let by = |uid: &str| Held::By(uid.into());
        assert_eq!(holder(&tenures, 9), Held::ByNobody);
        assert_eq!(holder(&tenures, 10), by("a"));
        assert_eq!(holder(&tenures, 19), by("a"));
        assert_eq!(holder(&tenures, 21), Held::InDoubt);
        assert_eq!(holder(&tenures, 23), Held::InDoubt);
        assert_eq!(holder(&tenures, 25), by("b"));
        assert_eq!(holder(&tenures, 99), by("b"));
        // Something else rules the other out.
        assert_eq!(tenures.holder(ADDRESS, seconds(23), |uid| uid == "b"), by("b"));
    }

    #[test]
    fn of_two_that_claim_it_at_once_the_later_has_it_from_then_on() {
        let mut tenures = Tenures::default();
        claim(&mut tenures, "a", 10, 10);
        assert!(claim(&mut tenures, "b", 30, 32), "a conflict");
        assert_eq!(holder(&tenures, 29), Held::By("a".into()));
        assert_eq!(holder(&tenures, 31), Held::InDoubt);
        assert_eq!(holder(&tenures, 32), Held::By("b".into()));
        assert!(!claim(&mut tenures, "b", 30, 33), "said again");
    }

    #[test]
    fn what_was_not_watched_is_not_sure() {
        let mut tenures = Tenures::default();
        tenures.claim(ADDRESS, &"a".into(), seconds(10), seconds(40), seconds(40));
        assert_eq!(holder(&tenures, 20), Held::InDoubt);
        assert_eq!(holder(&tenures, 40), Held::By("a".into()));
    }

    #[test]
    fn the_memory_of_holders_is_bounded_and_pods_can_be_forgotten() {
        let mut tenures = Tenures::default();
        for n in 0..100 {
            claim(&mut tenures, &n.to_string(), n * 10, n * 10);
            tenures.keep_only(&n.to_string(), &[], seconds(n * 10 + 5));
        }
        assert_eq!(tenures.0[&ADDRESS].len(), MAX_HOLDERS);
        for n in 0..100 {
            tenures.forget(&n.to_string());
        }
        assert_eq!(tenures.weight(), 0);
    }
}
