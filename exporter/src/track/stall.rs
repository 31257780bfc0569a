//! Attempts that hang: told once while they are open, so that a black hole does not stay unseen for two minutes.

use std::cmp::Reverse;

use super::attempt::{Finding, Role};
use super::judge;
use super::report;
use super::tracker::Tracker;
use super::verdict::Outcome;
use crate::capture::observation::Mono;

impl Tracker {
    /// Looks whether an attempt has sent its second SYN, and is to be told of soon if it stays open.
    pub(super) fn note_stall(&mut self, at: usize, time: Mono) {
        let Some(open) = self.open.get_mut(at) else { return };
        if open.stalled || open.wire_only || open.quiet || open.syns() < 2 {
            return;
        }
        open.stalled = true;
        let due = time.max(self.now).plus(self.options.settle);
        self.stalls.push(Reverse((due, at, open.serial)));
    }

    /// Tells of those that are due and open still.
    pub(super) fn advance_stalls(&mut self) {
        while let Some(&Reverse((due, at, serial))) = self.stalls.peek() {
            if due > self.now {
                break;
            }
            self.stalls.pop();
            let Some(open) = self.open.get(at).filter(|open| open.serial == serial) else { continue };
            let hangs = !open.quiet
                && open.role() == Role::Client
                && !open.came_up()
                && judge::outcome(self, open, true).0 == Outcome::Pending;
            if hangs {
                let attempt = report::snapshot(self, open);
                self.findings.push_back(Finding::Stalled(Box::new(attempt)));
            }
        }
    }
}
