//! A worker's own side: enters its place, reads commands, answers.

use std::collections::HashMap;
use std::io::{BufRead, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use super::protocol::{Accept, Answer, COUNT_STEP, Command, Done, Request};
use super::{raw, socket, spoof, storm};
use crate::error::{Context, Result};
use crate::net::{cgroup, netns};

#[derive(Default)]
struct Sockets {
    streams: HashMap<String, Arc<TcpStream>>,
}

type Shared = Arc<Mutex<Sockets>>;

fn lock(shared: &Shared) -> MutexGuard<'_, Sockets> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until standard input ends. Its place is entered first, before any thread or socket is made.
pub fn serve(netns: &str, cgroup: Option<&Path>) -> Result<()> {
    if let Some(path) = cgroup {
        cgroup::enter(path)?;
    }
    netns::enter(netns)?;
    let shared = Shared::default();
    for line in std::io::stdin().lock().lines() {
        let line = line.context("read a command")?;
        let request: Request = serde_json::from_str(&line).map_err(std::io::Error::from).context("parse a command")?;
        let shared = shared.clone();
        // A connect may take long, and others go on meanwhile.
        // Its name must not be taken for the process's: the agent names processes by their executable.
        std::thread::Builder::new()
            .name("connector".into())
            .stack_size(256 * 1024)
            .spawn(move || {
                let result = execute(&shared, request.command);
                say(&Answer { id: request.id, result });
            })
            .context("start a thread")?;
    }
    Ok(())
}

fn say(answer: &Answer) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        // The lab is gone if this fails, and so is this worker soon.
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

fn execute(shared: &Shared, command: Command) -> std::result::Result<Done, String> {
    let text = |error: std::io::Error| error.to_string();
    match command {
        Command::Hello => Ok(Done::Ok),
        Command::Listen { socket, at, backlog, accept, way } => {
            let listener = socket::listening(at, backlog, &way).map_err(text)?;
            let shared = shared.clone();
            std::thread::spawn(move || accept_all(&shared, &socket, &listener, accept));
            Ok(Done::Ok)
        }
        Command::Connect { to, how, .. } if how.way.raw_syn => {
            let from_port = how.from_port.ok_or("a raw SYN needs a source port")?;
            let connected = spoof::raw_syn(to, from_port, how.timeout_ms.unwrap_or(1000)).map_err(text)?;
            Ok(Done::Connected(vec![connected]))
        }
        Command::Connect { socket, to, how } => {
            let (stream, connected) = socket::connecting(to, &how).map_err(text)?;
            if let Some(stream) = stream {
                lock(shared).streams.insert(socket, Arc::new(stream));
            }
            Ok(Done::Connected(vec![connected]))
        }
        Command::ConnectMany { socket, to, count, how, close, at, cpu } => {
            let threads: Vec<_> = (0..count)
                .map(|number| {
                    let mut how = how.clone();
                    how.from_port = how.from_port.map(|first| first + number);
                    let thread = std::thread::Builder::new().stack_size(128 * 1024);
                    let moment = at.map(|at| Duration::from_nanos(at) + COUNT_STEP * u32::from(number));
                    thread.spawn(move || {
                        wait_until(moment, cpu);
                        socket::connecting(to, &how)
                    })
                })
                .collect();
            let mut all = Vec::new();
            for (number, thread) in (1..).zip(threads) {
                let joined = thread.map_err(text)?.join().map_err(|_| "a connecting thread panicked".to_owned())?;
                let (stream, connected) = joined.map_err(text)?;
                if let (Some(stream), false) = (stream, close) {
                    lock(shared).streams.insert(format!("{socket}-{number}"), Arc::new(stream));
                }
                all.push(connected);
            }
            Ok(Done::Connected(all))
        }
        Command::Send { socket, bytes } => {
            let stream = stream(shared, &socket)?;
            (&*stream).write_all(&vec![b's'; bytes]).map_err(text)?;
            Ok(Done::Bytes(bytes))
        }
        Command::Recv { socket, bytes } => {
            let stream = stream(shared, &socket)?;
            let mut buffer = Vec::new();
            (&*stream).take(bytes as u64).read_to_end(&mut buffer).map_err(text)?;
            Ok(Done::Bytes(buffer.len()))
        }
        Command::Shutdown { socket } => {
            stream(shared, &socket)?.shutdown(Shutdown::Write).map_err(text)?;
            Ok(Done::Ok)
        }
        Command::Close { socket, reset } => {
            stream(shared, &socket)?;
            let stream = lock(shared).streams.remove(&socket).ok_or_else(|| missing(&socket))?;
            if reset {
                socket::reset_on_close(&stream).map_err(text)?;
            }
            Ok(Done::Ok)
        }
        Command::Inject { packet, to } => {
            spoof::inject(&packet, to).map_err(text)?;
            Ok(Done::Ok)
        }
        Command::AnswerFalsely { port, numbers, how } => {
            raw::answer_falsely(port, numbers, how).map_err(text)?;
            Ok(Done::Ok)
        }
        Command::AnswerAndReset { port } => {
            spoof::answer_and_reset(port).map_err(text)?;
            Ok(Done::Ok)
        }
        Command::Storm { to, count, rate, threads, patience_ms } => {
            let results = match patience_ms.map(Duration::from_millis) {
                None => storm::answered(to, count, rate, threads),
                Some(patience) => storm::unanswered(to, count, rate, patience),
            };
            Ok(Done::Counted(results.map_err(text)?))
        }
        Command::Flood { to, syns, rate } => {
            spoof::flood(to, syns, rate).map_err(text)?;
            Ok(Done::Ok)
        }
    }
}

/// Waits for a moment since 1970, the last millisecond awake: another process waits for the same.
fn wait_until(moment: Option<Duration>, cpu: usize) {
    let Some(moment) = moment else { return };
    let there = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut set = CpuSet::new();
    if set.set(cpu % there).is_ok() {
        // Without it they may still meet, only less often.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
    loop {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        match moment.checked_sub(now) {
            None => return,
            Some(left) if left > Duration::from_millis(1) => std::thread::sleep(left - Duration::from_millis(1)),
            Some(_) => std::hint::spin_loop(),
        }
    }
}

fn missing(socket: &str) -> String {
    format!("no such socket: {socket}")
}

fn stream(shared: &Shared, socket: &str) -> std::result::Result<Arc<TcpStream>, String> {
    // The client may be up before this side has accepted.
    for _ in 0..200 {
        if let Some(stream) = lock(shared).streams.get(socket) {
            return Ok(stream.clone());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(missing(socket))
}

fn accept_all(shared: &Shared, name: &str, listener: &TcpListener, accept: Accept) {
    if accept == Accept::Never {
        // The listener must stay: nothing ends this thread but the worker's end.
        loop {
            std::thread::park();
        }
    }
    for (number, stream) in (1u64..).zip(listener.incoming()) {
        let Ok(stream) = stream else { continue };
        match accept {
            Accept::CloseFirst => drop(stream),
            Accept::Keep | Accept::Never => {
                lock(shared).streams.insert(format!("{name}#{number}"), Arc::new(stream));
            }
            Accept::Serve => {
                let _ = std::thread::Builder::new().stack_size(128 * 1024).spawn(move || {
                    let mut stream = stream;
                    // Reads to the client's end, then closes.
                    let _ = std::io::copy(&mut stream, &mut std::io::sink());
                });
            }
        }
    }
}
