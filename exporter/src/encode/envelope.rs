//! The envelope of every record: its resource and its scope.

use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::resource::v1::Resource;

use super::attributes::of_identity;
use crate::identify::Identity;
use crate::names::SCOPE;

/// The resource of an identity.
pub fn resource(identity: &Identity) -> Option<Resource> {
    Some(Resource { attributes: of_identity(identity), ..Resource::default() })
}

/// The scope of all telemetry.
pub fn scope() -> Option<InstrumentationScope> {
    Some(InstrumentationScope {
        name: SCOPE.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    })
}
