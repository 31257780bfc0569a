//! How long a new pod's interface waits for its address while the agent attaches to many others.
//!
//! Attaching by tcx holds the kernel's network lock, and so does giving an address; the agent paces itself.

use std::fmt::Write as _;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bed::Bed;
use super::contender::{agent_command, read_lines};
use super::report::median;
use crate::error::{Context, Result, lab};
use crate::net::leftovers::Mark;
use crate::net::netns::{self, Netns};
use crate::net::process::Process;

/// The longest that a new interface may wait.
const LIMIT: Duration = Duration::from_millis(30);
/// Between two new interfaces. Each brings two hooks more, so that a shorter pause would leave the agent, which
/// attaches ten a second, no time for those that were there.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest that attaching to all of them may take, and the longest that leaving may.
const PATIENCE: Duration = Duration::from_secs(180);

/// Measures, prints, and gives what is wrong.
pub fn check(agent: &Path, interfaces: u32) -> Result<Vec<String>> {
    let bed = Bed::build()?;
    let pods = Netns::create(&Mark::name("pods"))?;
    let mut batch = String::new();
    for number in 0..interfaces {
        let _ = writeln!(batch, "link add veth-p{number} type veth peer name p{number} netns {}", pods.name());
        let _ = writeln!(batch, "link set veth-p{number} up");
    }
    bed.node.ip(&batch)?;
    println!("\na new interface's wait for its address, {interfaces} interfaces on the node");

    let mut made = 0;
    let mut sample = |waits: &mut Vec<f64>| -> Result<()> {
        made += 1;
        let wait = new_interface(&bed.node, &pods, made)?;
        waits.push(wait.as_secs_f64() * 1000.0);
        std::thread::sleep(PAUSE);
        Ok(())
    };
    let mut without = Vec::new();
    for _ in 0..20 {
        sample(&mut without)?;
    }
    show("no agent", &without);

    let mut command = agent_command(&bed, agent, None, "")?;
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut process = Process::spawn(command, "synspan")?;
    // Read, so that it never waits for its own log.
    let lines = process.child().stderr.take().map(read_lines);
    let (start, mut during) = (Instant::now(), Vec::new());
    let mut ready = false;
    while !ready && start.elapsed() < PATIENCE {
        sample(&mut during)?;
        let said: Vec<String> = lines.iter().flat_map(|lines| lines.try_iter()).collect();
        if process.ended().is_some() {
            return lab(format!("the agent ended: {}", said.join("\n")));
        }
        ready = said.iter().any(|line| line.contains("capture ready"));
    }
    show("while it attaches", &during);
    println!("  {} links after {:.0} s", links_of(process.id()), start.elapsed().as_secs_f64());
    if !ready {
        return lab(format!("the agent was not attached to all within {PATIENCE:?}"));
    }

    let mut leaving = Vec::new();
    let asked = Instant::now();
    kill(Pid::from_raw(process.id().cast_signed()), Signal::SIGTERM).context("end the agent")?;
    while process.ended().is_none() && asked.elapsed() < PATIENCE {
        sample(&mut leaving)?;
    }
    show("while it leaves", &leaving);
    println!("  gone after {:.1} s", asked.elapsed().as_secs_f64());

    let limit = LIMIT.as_secs_f64() * 1000.0;
    let longest = during.iter().chain(&leaving).copied().fold(0.0, f64::max);
    println!("  {} at most {limit} ms", if longest <= limit { "ok  " } else { "FAIL" });
    Ok(if longest <= limit {
        Vec::new()
    } else {
        vec![format!("interfaces: one waited {longest:.1} ms, over {limit} ms")]
    })
}

fn show(when: &str, waits: &[f64]) {
    let longest = waits.iter().copied().fold(0.0, f64::max);
    println!("  {when:<18} median {:>6.2} ms, longest {longest:>6.2} ms, of {}", median(waits), waits.len());
}

/// The BPF links that a process holds.
fn links_of(process: u32) -> u32 {
    let entries = std::fs::read_dir(format!("/proc/{process}/fdinfo")).into_iter().flatten().flatten();
    let texts = entries.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    texts.filter(|text| text.contains("link_id:")).count().try_into().unwrap_or(u32::MAX)
}

/// Makes one as a CNI does, and gives the time that its address took.
fn new_interface(node: &Netns, pods: &Netns, number: u32) -> Result<Duration> {
    let name = format!("veth-n{number}");
    node.ip(&format!("link add {name} type veth peer name n{number} netns {}\nlink set {name} up\n", pods.name()))?;
    let address = Ipv4Addr::new(10, 245, (number >> 8) as u8, number as u8);
    netns::inside(node.name(), move || set_address(&name, address))?.context("give an interface its address")
}

/// SIOCSIFADDR, whose whole duration is the wait for the lock and the work under it (netdevice(7)); a program
/// that is started to do the same would be timed too.
fn set_address(interface: &str, address: Ipv4Addr) -> io::Result<Duration> {
    let socket = std::net::UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: ifreq is plain data, for which all zeros are valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *to = from.cast_signed();
    }
    let mut data = [0; 14];
    // sockaddr_in after the family: port, address.
    for (to, from) in data[2..6].iter_mut().zip(address.octets()) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_addr = libc::sockaddr { sa_family: libc::AF_INET as libc::sa_family_t, sa_data: data };
    let start = Instant::now();
    // SAFETY: the request is an ifreq with a name that ends in zero and an IPv4 address, as the call wants it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR, &raw const request) };
    let wait = start.elapsed();
    if result == 0 { Ok(wait) } else { Err(io::Error::last_os_error()) }
}
