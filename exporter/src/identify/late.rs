//! What is found out about this node after the start, and belongs to every resource on it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::Identity;

/// Attributes as they are held.
type Attributes = Vec<(Arc<str>, Arc<str>)>;

/// Attributes of the node and its cluster that are known only when the API server has answered.
#[derive(Clone, Debug, Default)]
pub struct LateFacts(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    generation: AtomicU64,
    attributes: Mutex<Attributes>,
}

impl LateFacts {
    /// All that is known now; what an identity says itself comes first.
    pub fn set<'a>(&self, attributes: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let attributes = attributes.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
        *self.0.attributes.lock().unwrap_or_else(PoisonError::into_inner) = attributes;
        self.0.generation.fetch_add(1, Ordering::Release);
    }

    /// Changes with each [`LateFacts::set`].
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire)
    }

    /// An identity with these facts.
    pub fn add_to(&self, identity: &Identity) -> Identity {
        let facts = self.0.attributes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Identity::new(facts.into_iter().chain(identity.attributes.iter().cloned()))
    }
}
