//! The sources in their order, and one `Arc` for equal identities.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::late::LateFacts;
use super::{Answer, End, Identify, Identity};
use crate::capture::observation::Mono;
use crate::names::attribute::HOST_NAME;

/// Most identities held; those that nobody uses any more go first.
const INTERN_LIMIT: usize = 16_384;

/// Asks the sources in order: the static list, Kubernetes, the host's processes.
///
/// A source is asked by all that is known of an end before the next is asked at all: what the static list says of an
/// address comes before what `/proc` says of the process there. A source that will know later is waited for: what a
/// weaker one says now may be wrong.
pub struct Identities {
    sources: Vec<Arc<dyn Identify>>,
    late: LateFacts,
    interned: Mutex<Interned>,
}

/// What a source says, to the one `Arc` with the late facts of its time.
#[derive(Default)]
struct Interned {
    generation: u64,
    known: HashMap<Arc<Identity>, Arc<Identity>>,
}

impl Identities {
    /// A chain of sources, the first to know wins.
    pub fn new(sources: Vec<Arc<dyn Identify>>) -> Self {
        Self::with_late(sources, LateFacts::default())
    }

    /// The same, with what is found out later about the node: whatever is on it carries that too.
    pub fn with_late(sources: Vec<Arc<dyn Identify>>, late: LateFacts) -> Self {
        Self { sources, late, interned: Mutex::default() }
    }

    /// Changes whenever equal answers of a source have new attributes.
    pub fn generation(&self) -> u64 {
        self.late.generation()
    }

    /// Who that was at that time.
    pub fn who(&self, end: &End<'_>, at: Mono) -> Answer {
        let answers = self.sources.iter().map(|source| source.identify(end, at));
        match answers.into_iter().find(|answer| *answer != Answer::Unknown) {
            Some(Answer::Known(identity)) => Answer::Known(self.intern(identity)),
            Some(Answer::Later(identity)) => Answer::Later(identity.map(|identity| self.intern(identity))),
            Some(Answer::Unknown) | None => Answer::Unknown,
        }
    }

    /// The one `Arc` for an identity, with what is known of the node where it is on it.
    pub fn intern(&self, identity: Arc<Identity>) -> Arc<Identity> {
        let generation = self.late.generation();
        let mut interned = self.interned.lock().unwrap_or_else(PoisonError::into_inner);
        if interned.generation != generation {
            interned.generation = generation;
            interned.known.clear();
        }
        if let Some(known) = interned.known.get(&identity) {
            return Arc::clone(known);
        }
        if interned.known.len() >= INTERN_LIMIT {
            // One is the map's value, and where nothing was added the other its key.
            interned.known.retain(|said, known| Arc::strong_count(known) > 1 + usize::from(Arc::ptr_eq(said, known)));
            if interned.known.len() >= INTERN_LIMIT {
                // All in use: equal identities may have two homes for a while, which costs memory only.
                interned.known.clear();
            }
        }
        let here = identity.get(HOST_NAME).is_some();
        let known = if here && generation > 0 { Arc::new(self.late.add_to(&identity)) } else { Arc::clone(&identity) };
        interned.known.insert(identity, Arc::clone(&known));
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(Answer);

    impl Identify for Fixed {
        fn identify(&self, _: &End<'_>, _: Mono) -> Answer {
            self.0.clone()
        }
    }

    fn named(name: &'static str) -> Arc<Identity> {
        Arc::new(Identity::new([("service.name", name)]))
    }

    fn chain(answers: Vec<Answer>) -> Identities {
        Identities::new(answers.into_iter().map(|answer| Arc::new(Fixed(answer)) as Arc<dyn Identify>).collect())
    }

    fn ask(answers: Vec<Answer>) -> Answer {
        chain(answers).who(&End::default(), Mono(0))
    }

    #[test]
    fn the_first_source_to_know_wins() {
        let known = |name| Answer::Known(named(name));
        assert_eq!(ask(vec![known("list"), known("host")]), known("list"));
        assert_eq!(ask(vec![Answer::Unknown, known("host")]), known("host"));
        assert_eq!(ask(vec![Answer::Unknown]), Answer::Unknown);
        assert_eq!(ask(vec![]), Answer::Unknown);
    }

    #[test]
    fn a_source_that_will_know_later_is_not_overruled_by_a_weaker_one() {
        assert_eq!(ask(vec![Answer::Later(None), Answer::Known(named("host"))]), Answer::Later(None));
    }

    #[test]
    fn equal_identities_are_one() {
        let identities = chain(vec![Answer::Known(named("list"))]);
        let who = || identities.who(&End::default(), Mono(0)).now().expect("known");
        assert!(Arc::ptr_eq(&who(), &who()));
    }

    #[test]
    fn what_is_found_out_later_is_added_to_whoever_is_on_this_node() {
        let late = LateFacts::default();
        let identities = Identities::with_late(vec![], late.clone());
        let here =
            || Arc::new(Identity::new([("service.name", "cart"), ("host.name", "node-a"), ("cloud.region", "own")]));
        let before = identities.intern(here());
        assert_eq!(before.get("k8s.node.uid"), None);
        late.set([("k8s.node.uid", "n-1"), ("cloud.region", "eu-1")]);
        let after = identities.intern(here());
        assert_eq!((after.get("k8s.node.uid"), after.get("cloud.region")), (Some("n-1"), Some("own")));
        assert!(Arc::ptr_eq(&after, &identities.intern(here())));
        assert_eq!(identities.intern(named("elsewhere")).get("k8s.node.uid"), None);
    }

    #[test]
    fn the_memory_of_identities_is_bounded() {
        let identities = chain(vec![]);
        for number in 0..INTERN_LIMIT * 2 {
            identities.intern(Arc::new(Identity::new([("service.name", number.to_string())])));
        }
        assert!(identities.interned.lock().expect("lock").known.len() <= INTERN_LIMIT);
    }
}
