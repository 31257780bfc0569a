//! connect() calls whose SYN has not been seen: they wait for it, and in the end are reported.

use std::time::Duration;

use super::tracker::Tracker;
use crate::capture::observation::{Mono, ProcessStep};
use crate::capture::question::Question;

/// connect() calls whose SYN has not been seen.
const CALL_PATIENCE: Duration = Duration::from_secs(10);
const MAX_CALLS: usize = 16_384;
/// A call whose SYN has not come by then: something is wrong with it.
const CALL_WITHOUT_SYN: Duration = Duration::from_secs(1);
/// How often it is asked to watch what connect() returns, and how long the watch takes to begin.
const WATCH_AGAIN: Duration = Duration::from_secs(20);
const WATCH_BEGINS: Duration = Duration::from_secs(1);

impl Tracker {
    /// Remembers a connect() until its SYN is about to leave.
    pub(super) fn on_call(&mut self, time: Mono, step: &ProcessStep) {
        while self.calls_order.len() >= MAX_CALLS {
            let Some((time, cookie)) = self.calls_order.pop_front() else { break };
            if self.calls.get(&cookie).is_some_and(|&(called, _)| called == time) {
                self.forget_call(cookie);
            }
        }
        self.calls.insert(step.cookie, (time, step.clone()));
        self.by_tid.insert(step.process.tid, step.cookie);
        self.calls_order.push_back((time, step.cookie));
        self.calls_young.push_back((time, step.cookie));
    }

    /// Takes back what is remembered of a call.
    pub(super) fn forget_call(&mut self, cookie: u64) -> Option<(Mono, ProcessStep)> {
        let call = self.calls.remove(&cookie)?;
        if self.by_tid.get(&call.1.process.tid) == Some(&cookie) {
            self.by_tid.remove(&call.1.process.tid);
        }
        Some(call)
    }

    /// Calls whose SYN does not come: first what they return is watched, in the end they are reported.
    pub(super) fn expire_calls(&mut self) {
        while let Some(&(time, cookie)) = self.calls_young.front() {
            if self.now.since(time) < CALL_WITHOUT_SYN {
                break;
            }
            self.calls_young.pop_front();
            let waits = self.calls.get(&cookie).is_some_and(|&(called, _)| called == time);
            if waits && self.watching.is_none_or(|asked| self.now.since(asked) >= WATCH_AGAIN) {
                self.watching = Some(self.now);
                self.ask(Question::WatchCalls);
            }
        }
        while let Some(&(time, cookie)) = self.calls_order.front() {
            if self.now.since(time) < CALL_PATIENCE {
                break;
            }
            self.calls_order.pop_front();
            if self.calls.get(&cookie).is_some_and(|&(called, _)| called == time) {
                let unseen = self.last_lost.is_none_or(|lost| lost < time) && !self.was_watched(time);
                if let Some((_, call)) = self.forget_call(cookie)
                    && unseen
                {
                    self.report_call(time, time, call, None);
                }
            }
        }
    }

    /// Whether what a call at `time` returned was watched: an error would have been told.
    fn was_watched(&self, time: Mono) -> bool {
        self.options.calls_watched
            && self.watching.is_some_and(|asked| time.since(asked) > WATCH_BEGINS && time.since(asked) < WATCH_AGAIN)
    }
}
