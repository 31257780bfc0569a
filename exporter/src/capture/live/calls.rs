//! What connect() returns, watched while somebody wants to know: the tracepoint
//! `syscalls/sys_exit_connect`, attached and detached by a thread of its own.
//!
//! While it is attached every system call of the machine takes a few nanoseconds more, so it is not
//! attached otherwise.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use aya::maps::{Array, MapData};

use crate::capture::probe::tracepoint::{attach, event_number};

/// How long the calls are watched after somebody last wanted to know.
const WATCHED: Duration = Duration::from_secs(60);

/// The thread, and the way to tell it that somebody wants to know.
pub struct Calls {
    wanted: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread holds.
struct Watcher {
    program: OwnedFd,
    watching: Array<MapData, u32>,
    event: u64,
    wanted: Receiver<()>,
}

impl Calls {
    /// Tries the tracepoint for a moment, and starts the thread, which leaves it alone until asked.
    ///
    /// # Errors
    ///
    /// Where tracefs can neither be found nor mounted, or the kernel refuses the event (`CAP_PERFMON`).
    pub fn prepare(program: OwnedFd, watching: Array<MapData, u32>) -> io::Result<Self> {
        let event = event_number()?;
        drop(attach(program.as_fd(), event)?);
        let (wanted, receiver) = sync_channel(1);
        let watcher = Watcher { program, watching, event, wanted: receiver };
        let thread = Builder::new().name("synspan-calls".to_owned()).spawn(move || watcher.run())?;
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }

    /// Watches the calls from now on for a minute. Never waits.
    pub fn watch(&self) {
        if let Some(wanted) = &self.wanted {
            // One that waits already says the same.
            let _ = wanted.try_send(());
        }
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        drop(self.wanted.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that watches connect() panicked");
        }
    }
}

impl Watcher {
    fn run(mut self) {
        while self.wanted.recv().is_ok() {
            let attached = attach(self.program.as_fd(), self.event)
                .and_then(|event| self.watching.set(0, 1, 0).map(|()| event).map_err(io::Error::other));
            let event = match attached {
                Ok(event) => event,
                Err(error) => {
                    tracing::warn!(%error, "cannot watch what connect() returns, though it could at the start");
                    continue;
                }
            };
            tracing::debug!("watching what connect() returns");
            while self.wanted.recv_timeout(WATCHED).is_ok() {}
            if let Err(error) = self.watching.set(0, 0, 0) {
                tracing::warn!(%error, "threads that connect are noted on");
            }
            drop(event);
            tracing::debug!("what connect() returns is watched no more");
        }
    }
}
