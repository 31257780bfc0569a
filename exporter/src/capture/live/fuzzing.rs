//! Live capture's parsers as the fuzz targets call them; nothing else does.

use std::collections::HashSet;

pub use super::btf::Btf;
pub use super::classify::Link;
use super::tables;

/// What each of the tables makes of one payload: as a link, as an address, as a route.
pub fn tables(payload: &[u8]) -> (Option<Link>, Option<u32>, Vec<u32>) {
    let mut shared = HashSet::new();
    tables::shared_prefix(&mut shared, payload);
    (tables::link(payload), shared.into_iter().next(), tables::default_route(payload))
}
