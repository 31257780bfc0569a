//! An interface under watch, and what is attached to it.

use super::clsact;
use super::hook::Hook;
use crate::capture::netlink::Socket;
use crate::capture::observation::Interface;

/// A watched interface.
pub struct Watched {
    /// What it is.
    pub interface: Interface,
    /// Ingress and egress.
    pub sides: [Side; 2],
    /// Not to be watched any more.
    pub leaving: bool,
    /// It was there when capture started.
    pub old: bool,
}

/// One side of a watched interface.
#[derive(Default)]
pub enum Side {
    /// Waits for its turn.
    #[default]
    Waiting,
    /// The program sees what passes.
    Attached(Hook),
    /// It could not be attached, or was taken away.
    Blind,
}

impl Watched {
    /// Whether it has something attached that others could take away unnoticed.
    pub fn has_filters(&self) -> bool {
        self.sides.iter().any(|side| matches!(side, Side::Attached(Hook::Clsact(_))))
    }

    /// Looks whether its filters are there; those that are not make their side blind. How many.
    pub fn lose_filters(&mut self, requests: &mut Socket) -> usize {
        let mut lost = 0;
        for side in &mut self.sides {
            let Side::Attached(Hook::Clsact(filter)) = side else { continue };
            match clsact::is_there(requests, filter) {
                Ok(true) => (),
                Ok(false) => {
                    *side = Side::Blind;
                    lost += 1;
                }
                Err(error) => tracing::debug!(%error, interface = %self.interface.name, "cannot look for a filter"),
            }
        }
        lost
    }
}
