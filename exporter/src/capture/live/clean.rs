//! Takes away what an agent that was killed left at clsact: what is left over, and how it is taken away,
//! is told in [`leftovers`]; here it is done at an agent's start.

use std::io;
use std::path::Path;

use crate::capture::probe::cgroup::Cgroup;
use crate::capture::probe::leftovers::{self, Leftover, Whose};
use crate::capture::probe::mounts;

/// Takes away the filters of synspan programs in this network namespace that no process holds any more.
/// Filters of others, those of an agent that runs, and the qdisc stay. Returns a line for each.
///
/// # Errors
///
/// Those of netlink; `EPERM` without `CAP_NET_ADMIN`.
pub fn remove_leftovers(cgroup: &Path) -> io::Result<Vec<String>> {
    let found = leftovers::find(&Cgroup::gather(Some(cgroup), &mounts::gather()), Whose::Gone)?;
    for kept in &found.kept {
        tracing::debug!("left alone: {}: {}", kept.what, kept.why);
    }
    let filters = found.leftovers.iter().filter(|leftover| matches!(leftover, Leftover::Filter { .. }));
    filters.map(|filter| leftovers::remove(filter).map(|()| filter.to_string())).collect()
}
