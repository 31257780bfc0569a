//! The load: a client that opens, uses and closes connections one after the other, and its servers.
//!
//! Both are processes of their own (this program again), so that the client is a process in the pod's
//! network namespace and cgroup, and its cost is nobody else's.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Instant;

use nix::sched::{CpuSet, sched_setaffinity};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Result, lab};
use crate::net::{cgroup, netns};

/// Bytes of a request, and of its response.
const MESSAGE: usize = 100;
/// The first port the servers listen on.
const FIRST_PORT: u16 = 20_000;
/// How many. Each has all of the client's ephemeral ports, so TIME_WAIT leaves enough of them: with four
/// addresses 64 times 28,000.
const PORTS: u16 = 16;
/// The arguments of the hidden `lab bench-worker`.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkerArgs {
    /// The network namespace to work in.
    #[arg(long)]
    netns: String,
    /// The cgroup to work in.
    #[arg(long)]
    cgroup: Option<PathBuf>,
    /// Connect to these, in turn; serve without.
    #[arg(long, value_delimiter = ',')]
    servers: Vec<Ipv4Addr>,
    /// How many connections to make.
    #[arg(long, default_value_t = 0)]
    connections: u32,
    /// Make them to this port and keep them open until standard input ends; or serve such.
    #[arg(long)]
    hold: Option<u16>,
}

/// What the client says at its end.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Done {
    /// Nanoseconds of the whole loop.
    pub nanoseconds: u64,
}

/// Is the client or the servers.
///
/// # Errors
/// If it cannot enter its place, or a connection fails.
pub fn work(args: &WorkerArgs) -> Result<()> {
    if let Some(path) = &args.cgroup {
        cgroup::enter(path)?;
    }
    netns::enter(&args.netns)?;
    stay_on_one_cpu()?;
    match (args.servers.is_empty(), args.hold) {
        (true, None) => serve(),
        (true, Some(port)) => serve_holding(port),
        (false, None) => connect(args),
        (false, Some(port)) => hold(args, port),
    }
}

/// Client and servers share the first CPU. Left to the scheduler they wander between CPUs by chance, which
/// changes a connection's time by half and drowns what is to be measured. What is measured beside them may
/// run anywhere.
fn stay_on_one_cpu() -> Result<()> {
    let mut first = CpuSet::new();
    first
        .set(0)
        .and_then(|()| sched_setaffinity(Pid::this(), &first))
        .map_err(std::io::Error::from)
        .context("stay on one CPU")
}

fn connect(args: &WorkerArgs) -> Result<()> {
    let request = [7; MESSAGE];
    let mut response = [0; MESSAGE];
    let targets: Vec<SocketAddrV4> = (0..PORTS)
        .flat_map(|port| args.servers.iter().map(move |server| SocketAddrV4::new(*server, FIRST_PORT + port)))
        .collect();
    let start = Instant::now();
    for (number, target) in (0..args.connections).zip(targets.iter().cycle()) {
        let what = || format!("connection {number} to {target}");
        let mut stream = TcpStream::connect(target).context(what())?;
        stream.write_all(&request).context(what())?;
        stream.read_exact(&mut response).context(what())?;
    }
    let done = Done { nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) };
    println!("{}", serde_json::to_string(&done).map_err(std::io::Error::from).context("write the result")?);
    Ok(())
}

/// Opens connections, sends nothing, and closes them when standard input ends.
fn hold(args: &WorkerArgs, port: u16) -> Result<()> {
    many_files()?;
    let targets: Vec<SocketAddrV4> = args.servers.iter().map(|server| SocketAddrV4::new(*server, port)).collect();
    let start = Instant::now();
    let mut open = Vec::new();
    for (number, target) in (0..args.connections).zip(targets.iter().cycle()) {
        open.push(TcpStream::connect(target).context(format_args!("connection {number} to {target}"))?);
    }
    let done = Done { nanoseconds: u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX) };
    println!("{}", serde_json::to_string(&done).map_err(std::io::Error::from).context("write the result")?);
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    Ok(())
}

/// Accepts, and keeps what it accepted until its end.
fn serve_holding(port: u16) -> Result<()> {
    many_files()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context(format_args!("listen on port {port}"))?;
    println!("ready");
    let mut open = Vec::new();
    for stream in listener.incoming() {
        open.push(stream.context(format_args!("accept connection {}", open.len()))?);
    }
    Ok(())
}

/// Lets this process have as many files open as it may.
fn many_files() -> Result<()> {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).map_err(std::io::Error::from).context("ask for the limit")?;
    setrlimit(Resource::RLIMIT_NOFILE, most, most).map_err(std::io::Error::from).context("have many files open")
}

/// One thread for each port: a connection wakes one of them and no more.
fn serve() -> Result<()> {
    let mut listeners = Vec::new();
    for port in FIRST_PORT..FIRST_PORT + PORTS {
        listeners
            .push(TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).context(format_args!("listen on port {port}"))?);
    }
    let threads: Vec<_> = listeners.into_iter().map(|listener| std::thread::spawn(move || answer(&listener))).collect();
    println!("ready");
    for thread in threads {
        if thread.join().is_err() {
            return lab("a server thread panicked");
        }
    }
    Ok(())
}

fn answer(listener: &TcpListener) {
    let mut message = [0; MESSAGE];
    for mut stream in listener.incoming().flatten() {
        // The client closes first, and says so if something was wrong.
        if stream.read_exact(&mut message).is_ok() && stream.write_all(&message).is_ok() {
            let _ = stream.read(&mut message);
        }
    }
}
