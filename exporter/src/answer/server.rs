//! The side of the agent: takes questions, bounded in size, number and time.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::held::{self, Lookup};
use super::line::{Line, Said};
use super::place::{Place, PlaceError, SocketFile};
use super::recent::{Found, Recent};
use super::request::{MAX_REQUEST, Request, Wanted};
use crate::capture::observation::Mono;
use crate::health;

/// Clients served at the same time; of them, those that follow.
const CLIENTS: usize = 8;
const FOLLOWERS: usize = 4;
/// How long a client may take to say its question, and to take in a part of the answer.
const QUESTION_PATIENCE: Duration = Duration::from_secs(2);
const ANSWER_PATIENCE: Duration = Duration::from_secs(10);
/// How long the ledger may take.
const LOOKUP_PATIENCE: Duration = Duration::from_secs(5);
/// While following, what ends within this time is told at once.
const FOLLOW_PACE: Duration = Duration::from_millis(100);
/// Most attempts told at once while following.
const FOLLOW_BATCH: usize = 500;
/// Where accepting fails (no file descriptor left), it is tried again after this long.
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// What answers rest on.
#[derive(Clone)]
pub struct Sources {
    /// The attempts of late.
    pub recent: Arc<Recent>,
    /// The way to the ledger.
    pub lookups: SyncSender<Lookup>,
    /// How the agent stands.
    pub health: Arc<dyn health::Source>,
}

/// A socket that answers until this is dropped.
#[derive(Debug)]
pub struct Server {
    task: JoinHandle<()>,
    _file: SocketFile,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Shared {
    sources: Sources,
    clients: Arc<Semaphore>,
    followers: Semaphore,
}

impl Server {
    /// Listens at a path and answers in the background.
    ///
    /// # Errors
    /// Those of [`Place::take`].
    pub fn start(path: &Path, sources: Sources, runtime: &Handle) -> Result<Self, PlaceError> {
        let (listener, file) = Place::take(path)?.into_parts();
        let _inside = runtime.enter();
        let listener = UnixListener::from_std(listener).map_err(|error| PlaceError::Listen(path.to_owned(), error))?;
        let shared = Arc::new(Shared {
            sources,
            clients: Arc::new(Semaphore::new(CLIENTS)),
            followers: Semaphore::new(FOLLOWERS),
        });
        Ok(Self { task: runtime.spawn(accept(listener, shared)), _file: file })
    }
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    // Ended with this task.
    let mut clients = tokio::task::JoinSet::new();
    loop {
        while clients.try_join_next().is_some() {}
        let mut stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!("cannot take a question: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // The file's mode says the same; a file system without modes would not.
        let root = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
        match shared.clients.clone().try_acquire_owned() {
            Ok(permit) if root => {
                let shared = shared.clone();
                clients.spawn(async move {
                    // Who went away, or takes nothing in, is told nothing more.
                    let _ = serve(&mut stream, &shared).await;
                    drop(permit);
                });
            }
            // An empty socket takes one line without waiting.
            Ok(_) => {
                let line = error("only root may ask");
                let _ = stream.try_write(line.text().as_bytes());
            }
            Err(_) => {
                let line = error(format!("{CLIENTS} others are asking: try again, or end one that follows"));
                let _ = stream.try_write(line.text().as_bytes());
            }
        }
    }
}

fn error(what: impl Into<String>) -> Line {
    Line::new(Said::Error(what.into()))
}

async fn serve(stream: &mut UnixStream, shared: &Shared) -> io::Result<()> {
    let question = match timeout(QUESTION_PATIENCE, question(stream)).await {
        Ok(line) => Request::parse(&line?),
        Err(_) => Err(format!("no question came within {} s", QUESTION_PATIENCE.as_secs())),
    };
    match question {
        Err(what) => tell(stream, [error(what)]).await,
        Ok(Request::Attempts { failed, since_ms, limit, follow }) => {
            let wanted = Wanted {
                failed,
                since: since_ms.map(Duration::from_millis),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            };
            attempts(stream, shared, wanted, follow).await
        }
        Ok(Request::Who { port }) => who(stream, shared, port).await,
        Ok(Request::Status {}) => {
            let status = shared.sources.health.status();
            tell(stream, [Line::new(Said::Status(Box::new(status)))]).await
        }
    }
}

/// Reads up to the newline or the end; a little more than fits shows that it was too long.
async fn question(stream: &mut UnixStream) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    let mut part = [0; 512];
    while line.len() <= MAX_REQUEST {
        let read = stream.read(&mut part).await?;
        let Some(part) = part.get(..read).filter(|part| !part.is_empty()) else { break };
        if let Some(end) = part.iter().position(|&byte| byte == b'\n') {
            line.extend_from_slice(&part[..end]);
            break;
        }
        line.extend_from_slice(part);
    }
    Ok(line)
}

async fn tell(stream: &mut UnixStream, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
    let mut text = String::new();
    let mut lines = lines.into_iter().peekable();
    while let Some(line) = lines.next() {
        text.push_str(&line.text());
        if text.len() >= 1 << 16 || lines.peek().is_none() {
            timeout(ANSWER_PATIENCE, stream.write_all(text.as_bytes())).await??;
            text.clear();
        }
    }
    Ok(())
}

fn rows(found: &Found) -> impl Iterator<Item = Line> + '_ {
    found.attempts.iter().map(|attempt| Line::new(Said::Attempt(Box::new(attempt.row()))))
}

async fn attempts(stream: &mut UnixStream, shared: &Shared, wanted: Wanted, follow: bool) -> io::Result<()> {
    let permit = if follow { shared.followers.try_acquire().map(Some) } else { Ok(None) };
    let Ok(_permit) = permit else {
        return tell(stream, [error(format!("{FOLLOWERS} others follow already: end one of them"))]).await;
    };
    let recent = &shared.sources.recent;
    let mut written = recent.watch();
    let found = recent.newest(&wanted, now());
    tell(stream, rows(&found).chain([Line::new(Said::Kept(found.kept))])).await?;
    if !follow {
        return Ok(());
    }
    let mut position = found.position;
    loop {
        // A client has nothing more to say: what can be read is its end.
        let mut byte = [0];
        tokio::select! {
            _ = stream.read(&mut byte) => return Ok(()),
            changed = written.changed() => if changed.is_err() { return Ok(()) },
        }
        tokio::time::sleep(FOLLOW_PACE).await;
        written.mark_unchanged();
        loop {
            let found = recent.after(position, wanted.failed, FOLLOW_BATCH);
            position = found.position;
            let missed = (found.missed > 0).then(|| Line::new(Said::Missed(found.missed)));
            tell(stream, missed.into_iter().chain(rows(&found))).await?;
            if found.attempts.len() < FOLLOW_BATCH {
                break;
            }
        }
    }
}

async fn who(stream: &mut UnixStream, shared: &Shared, port: u16) -> io::Result<()> {
    let (reply, named) = oneshot::channel();
    match shared.sources.lookups.try_send(Lookup { port, reply }) {
        Ok(()) => {}
        Err(TrySendError::Full(_)) => return tell(stream, [error("the ledger is busy: try again")]).await,
        Err(TrySendError::Disconnected(_)) => return tell(stream, [error("the agent is ending")]).await,
    }
    match timeout(LOOKUP_PATIENCE, named).await {
        Ok(Ok(named)) => {
            let (rows, held) = held::words(port, &named, &shared.sources.recent);
            let rows = rows.into_iter().map(|row| Line::new(Said::Holder(Box::new(row))));
            tell(stream, rows.chain([Line::new(Said::Held(held))])).await
        }
        Ok(Err(_)) => tell(stream, [error("the agent is ending")]).await,
        Err(_) => {
            let what = format!("the agent is too busy: no answer within {} s; try again", LOOKUP_PATIENCE.as_secs());
            tell(stream, [error(what)]).await
        }
    }
}

/// The monotonic time, as capture stamps observations with it.
fn now() -> Mono {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default();
    Mono(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}
