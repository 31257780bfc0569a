//! The lab's side of a worker.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{ChildStdin, Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::protocol::{Answer, Command, Done, Request};
use crate::error::{Context, Error, Result, lab};
use crate::net::process::Process;

type Waiting = Arc<Mutex<HashMap<u64, Sender<std::result::Result<Done, String>>>>>;

/// A running worker; it ends on drop.
#[derive(Debug)]
pub struct Worker {
    name: String,
    process: Process,
    stdin: ChildStdin,
    waiting: Waiting,
    next: u64,
}

/// A command under way.
#[derive(Debug)]
pub struct Pending {
    who: String,
    answer: Receiver<std::result::Result<Done, String>>,
}

impl Pending {
    /// Waits a while for the answer; none if it has not come.
    pub fn glance(&self, wait: Duration) -> Result<Option<Done>> {
        match self.answer.recv_timeout(wait) {
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Ok(Ok(done)) => Ok(Some(done)),
            Ok(Err(error)) => lab(format!("worker {}: {error}", self.who)),
            Err(RecvTimeoutError::Disconnected) => lab(format!("worker {} ended; its errors are above", self.who)),
        }
    }

    /// Waits for the answer.
    pub fn wait(&self, patience: Duration) -> Result<Done> {
        match self.glance(patience)? {
            Some(done) => Ok(done),
            None => lab(format!("worker {} did not answer within {patience:?}", self.who)),
        }
    }
}

impl Worker {
    /// Starts `program worker` in a network namespace and a cgroup, and waits until it is up.
    pub fn start(name: &str, program: &Path, netns: &str, cgroup: Option<&Path>) -> Result<Self> {
        let mut command = Program::new(program);
        command.arg("worker").arg("--netns").arg(netns);
        if let Some(path) = cgroup {
            command.arg("--cgroup").arg(path);
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Process::spawn(command, &format!("worker {name}"))?;
        let (Some(stdin), Some(stdout)) = (process.child().stdin.take(), process.child().stdout.take()) else {
            return lab("a worker without standard streams");
        };
        let waiting = Waiting::default();
        let answers = waiting.clone();
        std::thread::Builder::new()
            .name(format!("from {name}"))
            .spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::result::Result::ok) {
                    let Ok(answer) = serde_json::from_str::<Answer>(&line) else { continue };
                    let who = answers.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.id);
                    if let Some(sender) = who {
                        // Nobody waits for it any more: fine.
                        let _ = sender.send(answer.result);
                    }
                }
                // Whoever still waits learns that nothing will come.
                answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
            })
            .context("start a thread")?;
        let mut worker = Self { name: name.to_owned(), process, stdin, waiting, next: 0 };
        worker.ask(Command::Hello, Duration::from_secs(10))?;
        Ok(worker)
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a command.
    pub fn begin(&mut self, command: Command) -> Result<Pending> {
        self.next += 1;
        let (sender, answer) = channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(self.next, sender);
        let mut line =
            serde_json::to_vec(&Request { id: self.next, command }).map_err(|error| Error::Lab(error.to_string()))?;
        line.push(b'\n');
        self.stdin.write_all(&line).context(format_args!("command worker {}", self.name))?;
        Ok(Pending { who: self.name.clone(), answer })
    }

    /// Sends a command and waits for the answer.
    pub fn ask(&mut self, command: Command, patience: Duration) -> Result<Done> {
        self.begin(command)?.wait(patience)
    }
}
