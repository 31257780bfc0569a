//! Who held an address when.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::capture::observation::Mono;

/// Most holders remembered of one address.
const MAX_HOLDERS: usize = 8;
/// For how long a pod may still run, with its address, after the API has said that it is gone: its deletion may have been
/// forced.
const LINGER: Duration = Duration::from_secs(600);

/// One pod's time with an address.
#[derive(Clone, Debug)]
struct Tenure {
    uid: Arc<str>,
    /// Not before this: when the kubelet took the pod.
    from: Mono,
    /// From here on it had the address, and no other.
    networked: Mono,
    /// Holders before it may have been missed.
    gap: bool,
    /// From here on another may have had it: the pod was told to end, or another pod's time had begun.
    doubt: Option<Mono>,
    /// Not after this.
    until: Option<Mono>,
    /// A later one's claim ended it.
    superseded: bool,
}

/// When a pod's time with an address began.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    /// Not before this: the kubelet took the pod.
    pub from: Mono,
    /// At this time the pod surely had it.
    pub networked: Mono,
    /// Holders before it may have been missed.
    pub gap: bool,
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
pub struct Tenures {
    held: HashMap<IpAddr, Vec<Tenure>>,
    /// The addresses that each pod has or had.
    of: HashMap<Arc<str>, Vec<IpAddr>>,
}

impl Tenures {
    /// A pod has an address. Returns whether another pod had it still, by what the API said; that one's time is over,
    /// and what is said of it again does not bring it back while the later one is there.
    pub fn claim(&mut self, address: IpAddr, uid: &Arc<str>, claim: Claim, now: Mono) -> bool {
        let Claim { from, networked, gap } = claim;
        let held = self.held.entry(address).or_default();
        if let Some(last) = held.iter().rposition(|tenure| tenure.uid == *uid)
            && (held[last].until.is_none()
                || held[last].superseded && held[last + 1..].iter().any(|later| later.until.is_none()))
        {
            return false;
        }
        let mut conflict = false;
        for other in held.iter_mut().filter(|other| other.until.is_none()) {
            // A pod that was told to end and is not gone yet is no rival, only late.
            conflict |= other.doubt.is_none();
            other.superseded = true;
            other.until = Some(now);
            other.doubt = Some(other.doubt.map_or(from, |doubt| doubt.min(from)).max(other.from));
        }
        if held.len() >= MAX_HOLDERS {
            held.remove(0);
        }
        held.push(Tenure { uid: Arc::clone(uid), from, networked, gap, doubt: None, until: None, superseded: false });
        let of = self.of.entry(Arc::clone(uid)).or_default();
        if !of.contains(&address) {
            of.push(address);
        }
        conflict
    }

    /// From `since` on another may have had a pod's addresses.
    pub fn doubt(&mut self, uid: &str, since: Mono) {
        self.change(uid, |_, tenure| {
            if tenure.doubt.is_none_or(|doubt| doubt > since) {
                tenure.doubt = Some(since);
            }
        });
    }

    /// A pod has these addresses and no others any more.
    pub fn keep_only(&mut self, uid: &str, addresses: &[IpAddr], now: Mono) {
        self.change(uid, |address, tenure| {
            if !addresses.contains(&address) {
                tenure.until = Some(now);
            }
        });
    }

    /// Changes the times of a pod that are not over.
    fn change(&mut self, uid: &str, mut change: impl FnMut(IpAddr, &mut Tenure)) {
        for &address in self.of.get(uid).into_iter().flatten() {
            let held = self.held.get_mut(&address).into_iter().flatten();
            held.filter(|tenure| &*tenure.uid == uid && tenure.until.is_none())
                .for_each(|tenure| change(address, tenure));
        }
    }

    /// Who held an address; `fits` tells which pods are ruled out by something else.
    pub fn holder(&self, address: IpAddr, at: Mono, fits: impl Fn(&str) -> bool) -> Held {
        let Some(held) = self.held.get(&address) else { return Held::ByNobody };
        let mut candidates = held
            .iter()
            .filter(|tenure| tenure.from <= at && tenure.until.is_none_or(|until| at < until))
            .filter(|t| fits(&t.uid));
        match (candidates.next(), candidates.next()) {
            (None, _) => Held::ByNobody,
            (Some(one), None) if one.doubt.is_none_or(|doubt| at < doubt) => {
                // Between the kubelet's taking it and its network the address may have been the last one's still.
                let lingers =
                    |other: &&Tenure| other.until.is_some_and(|until| until <= at && at.since(until) < LINGER);
                let others = held.iter().filter(lingers).any(|other| other.uid != one.uid && fits(&other.uid));
                if one.networked <= at || !(one.gap || others) { Held::By(Arc::clone(&one.uid)) } else { Held::InDoubt }
            }
            _ => Held::InDoubt,
        }
    }

    /// Takes a pod out of every address's past.
    pub fn forget(&mut self, uid: &str) {
        for address in self.of.remove(uid).unwrap_or_default() {
            let Some(held) = self.held.get_mut(&address) else { continue };
            held.retain(|tenure| &*tenure.uid != uid);
            if held.is_empty() {
                self.held.remove(&address);
            }
        }
    }

    /// About how many bytes all of it takes.
    pub fn weight(&self) -> usize {
        let held: usize = self.held.values().map(|held| 96 + held.capacity() * size_of::<Tenure>()).sum();
        held + self.of.values().map(|of| 64 + of.capacity() * size_of::<IpAddr>()).sum::<usize>()
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
        let claim = Claim { from: seconds(from), networked: seconds(now), gap: false };
        tenures.claim(ADDRESS, &uid.into(), claim, seconds(now))
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
        // The first may have run on, as after a forced deletion, until the next surely had the address.
        assert_eq!(holder(&tenures, 26), Held::InDoubt);
        assert_eq!(holder(&tenures, 27), by("b"));
        assert_eq!(holder(&tenures, 99), by("b"));
        // Something else rules the other out.
        assert_eq!(tenures.holder(ADDRESS, seconds(23), |uid| uid == "b"), by("b"));
    }

    #[test]
    fn the_first_holder_of_long_is_sure_from_the_start() {
        let mut tenures = Tenures::default();
        claim(&mut tenures, "a", 10, 12);
        assert_eq!(holder(&tenures, 11), Held::By("a".into()));
        tenures.keep_only("a", &[], seconds(20));
        claim(&mut tenures, "b", 700, 702);
        assert_eq!(holder(&tenures, 701), Held::By("b".into()));
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
        // The earlier one is told of again: it does not get it back before the later one is gone.
        assert!(!claim(&mut tenures, "a", 10, 40));
        assert_eq!(holder(&tenures, 41), Held::By("b".into()));
        tenures.keep_only("b", &[], seconds(50));
        claim(&mut tenures, "a", 10, 60);
        assert_eq!(holder(&tenures, 61), Held::By("a".into()));
    }

    #[test]
    fn what_was_not_watched_is_not_sure() {
        let mut tenures = Tenures::default();
        let claim = Claim { from: seconds(10), networked: seconds(40), gap: true };
        tenures.claim(ADDRESS, &"a".into(), claim, seconds(40));
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
        assert_eq!(tenures.held[&ADDRESS].len(), MAX_HOLDERS);
        for n in 0..100 {
            tenures.forget(&n.to_string());
        }
        assert_eq!(tenures.weight(), 0);
    }
}
