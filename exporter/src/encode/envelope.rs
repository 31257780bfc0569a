//! The envelope of every record: its resource and its scope.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, OnceLock};

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;

use super::attributes::of_identity;
use super::wire;
use crate::identify::Identity;
use crate::names::{SCHEMA_URL, SCOPE};

/// Identities whose bytes are kept. Those of a node's pods and of whom they talk to are fewer.
const MOST: usize = 4_096;

/// A span or a log record, encoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its resource: the fields of ResourceSpans or ResourceLogs besides the scopes.
    pub resource: Arc<[u8]>,
    /// The message.
    pub bytes: Vec<u8>,
}

/// The resource of an identity, as the generated types have it.
pub fn resource(identity: &Identity) -> Option<Resource> {
    Some(Resource { attributes: of_identity(identity).finish(), ..Resource::default() })
}

/// The scope of all telemetry, as the generated types have it.
pub fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}

/// The scope of all telemetry: the fields of ScopeSpans or ScopeLogs besides the records. `scope` is field 1 and
/// `schema_url` 3.
pub fn scope_bytes() -> Arc<[u8]> {
    static BYTES: OnceLock<Arc<[u8]>> = OnceLock::new();
    let make = || {
        let mut out = Vec::new();
        wire::framed(&mut out, 1, &scope().unwrap_or_default().encode_to_vec());
        wire::bytes(&mut out, 3, SCHEMA_URL.as_bytes());
        out.into()
    };
    Arc::clone(BYTES.get_or_init(make))
}

/// The fields of ResourceSpans or ResourceLogs besides the scopes. `resource` is field 1, with its attributes as field 1,
/// and `schema_url` 3.
pub fn resource_bytes(identity: &Identity) -> Arc<[u8]> {
    let (mut attributes, mut out) = (Vec::new(), Vec::new());
    of_identity(identity).write(1, &mut attributes);
    wire::framed(&mut out, 1, &attributes);
    wire::bytes(&mut out, 3, SCHEMA_URL.as_bytes());
    out.into()
}

/// By the identity's address: the identity, which is kept so that its address stays its own, and its bytes.
type Known = HashMap<usize, (Arc<Identity>, Arc<[u8]>)>;

/// The bytes of identities, each made once. What is described of one workload is one identity, shared.
#[derive(Clone, Default)]
pub struct Resources(RefCell<Known>);

impl Resources {
    /// The fields of ResourceSpans or ResourceLogs besides the scopes.
    pub fn of(&self, identity: &Arc<Identity>) -> Arc<[u8]> {
        let mut known = self.0.borrow_mut();
        let place = Arc::as_ptr(identity) as usize;
        if let Some((_, bytes)) = known.get(&place) {
            return Arc::clone(bytes);
        }
        if known.len() >= MOST {
            known.clear();
        }
        let bytes = resource_bytes(identity);
        known.insert(place, (Arc::clone(identity), Arc::clone(&bytes)));
        bytes
    }
}

impl fmt::Debug for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resources({})", self.0.borrow().len())
    }
}
