//! A client that tries again as fast as it can: so many connects to one place, and what came of them.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, connect, getsockopt, socket, sockopt};

use super::protocol::ConnectHow;
use super::socket::connecting;

/// Connects that may be open at once: below what a process may have of open files by custom.
const MOST_OPEN: usize = 15_000;

/// How many connects ended with each result.
pub type Results = BTreeMap<String, u64>;

/// Keeps to a rate.
struct Pace {
    start: Instant,
    /// A second; 0: none.
    rate: u32,
}

impl Pace {
    fn wait(&self, number: u32) {
        // A sleep for each would be longer than what it waits for.
        if self.rate > 0 && number.is_multiple_of(16) {
            let due = Duration::from_secs_f64(f64::from(number) / f64::from(self.rate));
            std::thread::sleep(due.saturating_sub(self.start.elapsed()));
        }
    }
}

/// Connects to a place that answers, one after the other, `threads` of them side by side; `rate` a second at most, of
/// all together, and 0 for no limit.
pub fn answered(to: SocketAddr, count: u32, rate: u32, threads: u16) -> io::Result<Results> {
    let threads = u32::from(threads.max(1));
    let share = |number: u32| count / threads + u32::from(number < count % threads);
    let pace = |rate| Pace { start: Instant::now(), rate };
    let how = ConnectHow { blocking: true, ..ConnectHow::default() };
    std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads)
            .map(|number| {
                let (how, pace) = (&how, pace(rate / threads));
                scope.spawn(move || {
                    let mut results = Results::new();
                    for done in 0..share(number) {
                        pace.wait(done);
                        let (_, connected) = connecting(to, how)?;
                        *results.entry(connected.result).or_default() += 1;
                    }
                    Ok::<_, io::Error>(results)
                })
            })
            .collect();
        let mut all = Results::new();
        for thread in running {
            let results = thread.join().map_err(|_| io::Error::other("a connecting thread panicked"))??;
            results.into_iter().for_each(|(result, count)| *all.entry(result).or_default() += count);
        }
        Ok(all)
    })
}

/// Connects to a place that does not answer: each is given up after `patience`, and meanwhile others begin.
pub fn unanswered(to: SocketAddr, count: u32, rate: u32, patience: Duration) -> io::Result<Results> {
    let pace = Pace { start: Instant::now(), rate };
    let mut results = Results::new();
    let mut open: VecDeque<(Instant, OwnedFd)> = VecDeque::new();
    for number in 0..count {
        pace.wait(number);
        while open.front().is_some_and(|(begun, _)| begun.elapsed() >= patience || open.len() >= MOST_OPEN) {
            give_up(&mut open, patience, &mut results)?;
        }
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match connect(fd.as_raw_fd(), &SockaddrStorage::from(to)) {
            Err(Errno::EINPROGRESS) => open.push_back((Instant::now(), fd)),
            Ok(()) => *results.entry("ok".into()).or_default() += 1,
            Err(errno) => *results.entry(format!("{errno:?}")).or_default() += 1,
        }
    }
    while !open.is_empty() {
        give_up(&mut open, patience, &mut results)?;
    }
    Ok(results)
}

/// Ends the oldest when its time has come.
fn give_up(open: &mut VecDeque<(Instant, OwnedFd)>, patience: Duration, results: &mut Results) -> io::Result<()> {
    let Some((begun, fd)) = open.pop_front() else { return Ok(()) };
    std::thread::sleep(patience.saturating_sub(begun.elapsed()));
    let over = poll(&mut [PollFd::new(fd.as_fd(), PollFlags::POLLOUT)], PollTimeout::ZERO)? > 0;
    let word = match over.then(|| getsockopt(&fd, sockopt::SocketError)).transpose()? {
        None => "timeout".to_owned(),
        Some(0) => "ok".to_owned(),
        Some(errno) => format!("{:?}", Errno::from_raw(errno)),
    };
    *results.entry(word).or_default() += 1;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_connect_is_counted_once_whatever_came_of_it() {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap();
        let all = |result: &str, count| Results::from([(result.to_owned(), count)]);
        assert_eq!(answered(at, 25, 0, 3).unwrap(), all("ok", 25));
        drop(server);
        assert_eq!(answered(at, 101, 0, 2).unwrap(), all("ECONNREFUSED", 101));
        assert_eq!(unanswered(at, 20, 1_000, Duration::from_millis(5)).unwrap(), all("ECONNREFUSED", 20));
    }
}
