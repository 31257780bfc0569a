//! Processes that end with the lab.

use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cleanup::{self, Leftover};
use super::command::bind_to_parent;
use crate::error::{Context, Result, lab};

/// A child process, ended on drop.
#[derive(Debug)]
pub struct Process {
    child: Child,
    what: String,
    end: Signal,
}

impl Process {
    /// Starts it. It is killed at the end of the calling thread, so call this from one that lives on.
    pub fn spawn(command: Command, what: &str) -> Result<Self> {
        Self::start(command, what, Signal::SIGKILL)
    }

    /// Starts one that has things to take away itself, and so is ended by SIGTERM.
    pub fn spawn_tidy(command: Command, what: &str) -> Result<Self> {
        Self::start(command, what, Signal::SIGTERM)
    }

    fn start(mut command: Command, what: &str, end: Signal) -> Result<Self> {
        bind_to_parent(&mut command, end);
        let child = command.spawn().context(format_args!("start {what}"))?;
        cleanup::register(Leftover::Process(child.id().cast_signed(), end));
        Ok(Self { child, what: what.to_owned(), end })
    }

    /// Its standard streams and more.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Asks it to end by SIGTERM, and waits.
    pub fn terminate(&mut self, patience: Duration) -> Result<ExitStatus> {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGTERM);
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.child.try_wait().context(format_args!("wait for {}", self.what))? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return lab(format!("{} did not end within {patience:?} of SIGTERM", self.what));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let id = self.child.id().cast_signed();
        if self.ended().is_none() {
            let _ = kill(Pid::from_raw(id), self.end);
        }
        let _ = self.child.wait();
        cleanup::forget(&Leftover::Process(id, self.end));
    }
}
