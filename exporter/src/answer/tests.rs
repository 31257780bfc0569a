//! Questions over a real socket. They need root, since nobody else may ask.

use std::fs::{self, Permissions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::answer::client::{Answer, AskError, ask};
use crate::answer::held::{Lookup, MAX_LOOKUPS, Name, Named};
use crate::answer::line::{HolderState, Said};
use crate::answer::place::{Place, PlaceError};
use crate::answer::recent::Recent;
use crate::answer::request::Request;
use crate::answer::server::{Server, Sources};
use crate::capture::observation::Mono;
use crate::health::testing::{Fake, facts, status};
use crate::identify::clock::WallClock;
use crate::identify::describe::Described;
use crate::identify::fixtures;
use crate::track::holders::{Holder, Holders, Horizon};
use crate::track::trace_id::TraceId;
use crate::track::verdict::ClosedBy;

/// An agent's answering side, with no capture behind it.
struct Bench {
    server: Option<Server>,
    recent: Arc<Recent>,
    lookups: Option<Receiver<Lookup>>,
    path: PathBuf,
    _runtime: Runtime,
    directory: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: the agent answers nobody else");
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("run/agent.sock");
        let recent = Arc::new(Recent::default());
        let (sender, lookups) = sync_channel(MAX_LOOKUPS);
        let health = Arc::new(Fake { facts: facts().into(), status: status() });
        let sources = Sources { recent: recent.clone(), lookups: sender, health };
        let server = Server::start(&path, sources, runtime.handle()).expect("a place");
        Self { server: Some(server), recent, lookups: Some(lookups), path, _runtime: runtime, directory }
    }

    fn push(&self, described: &Described, serial: u64) {
        let mut described = described.clone();
        described.attempt.serial = serial;
        self.recent.push(&described);
    }

    fn ask(&self, request: &Request) -> Answer {
        ask(&self.path, request).expect("an agent")
    }

    fn all(&self, request: &Request) -> Vec<Said> {
        let mut answer = self.ask(request);
        std::iter::from_fn(|| answer.say().expect("an answer")).collect()
    }

    /// What is answered to some bytes.
    fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = UnixStream::connect(&self.path).expect("an agent");
        let _ = stream.write_all(bytes);
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text);
        text
    }
}

fn attempts(failed: bool, limit: u32, follow: bool) -> Request {
    Request::Attempts { failed, since_ms: None, limit, follow }
}

fn causes(said: &[Said]) -> Vec<Option<&str>> {
    said.iter()
        .filter_map(|said| match said {
            Said::Attempt(row) => Some(row.cause.as_deref()),
            _ => None,
        })
        .collect()
}

#[test]
fn attempts_are_told_newest_last_and_the_rest_is_counted() {
    let bench = Bench::new();
    bench.push(&fixtures::case(), 1);
    bench.push(&fixtures::clean(), 2);
    bench.push(&fixtures::refused(), 3);
    let said = bench.all(&attempts(false, 100, false));
    assert_eq!(causes(&said), [Some("source_port_reuse"), None, Some("connection_refused")]);
    assert!(matches!(said.last(), Some(Said::Kept(kept)) if kept.kept == 3 && kept.more == 0));
    let said = bench.all(&attempts(true, 1, false));
    assert_eq!(causes(&said), [Some("connection_refused")]);
    assert!(matches!(said.last(), Some(Said::Kept(kept)) if kept.more == 1));
}

#[test]
fn who_follows_gets_each_as_it_ends() {
    let bench = Bench::new();
    bench.push(&fixtures::case(), 1);
    let mut answer = bench.ask(&attempts(true, 100, true));
    let next = |answer: &mut Answer| answer.say().expect("an answer").expect("not the end");
    assert!(matches!(next(&mut answer), Said::Attempt(_)));
    assert!(matches!(next(&mut answer), Said::Kept(_)));
    bench.push(&fixtures::clean(), 2);
    bench.push(&fixtures::refused(), 3);
    assert!(matches!(next(&mut answer), Said::Attempt(row) if row.cause.as_deref() == Some("connection_refused")));
}

#[test]
fn both_holders_of_a_port_are_named_with_the_attempts_that_came_to_nothing() {
    let mut bench = Bench::new();
    let lookups = bench.lookups.take().expect("lookups");
    // The case says in which state the server holds number 41; the refused one came from the same port.
    bench.push(&fixtures::case(), 42);
    bench.push(&fixtures::refused(), 43);
    let ledger = std::thread::spawn(move || {
        let lookup = lookups.recv().expect("a question");
        let holder = |serial, src: &str, closed| Holder {
            serial,
            trace: TraceId([serial as u8; 16]),
            tuple: fixtures::tuple(src, "192.168.50.20:8443"),
            wire: Some(fixtures::tuple("192.168.50.10:46994", "192.168.50.20:8443")),
            process: None,
            opened: Mono(serial * 1_000_000_000),
            closed,
            closed_by: ClosedBy::Client,
            established: true,
        };
        let found =
            vec![holder(42, "10.244.1.12:34732", None), holder(41, "10.244.1.11:51544", Some(Mono(41_500_000_000)))];
        let holders = Holders { found, more: 0, remembers_since: Mono(0), because: Horizon::AgentStart };
        let name = |service| Name { identity: Some(fixtures::pod("shop", service, service)), executable: None };
        let names = vec![name("vehicle-control"), name("cart")];
        let port = lookup.port;
        lookup.reply.send(Named { holders, names, clock: WallClock::fixed(0) }).expect("somebody waits");
        port
    });
    let said = bench.all(&Request::Who { port: 46_994 });
    assert_eq!(ledger.join().expect("a port"), 46_994);
    let rows: Vec<_> = said
        .iter()
        .filter_map(|said| match said {
            Said::Holder(row) => Some((row.client.name.as_deref(), row.state, row.server_state.as_deref())),
            _ => None,
        })
        .collect();
    let control = Some("shop/vehicle-control");
    assert_eq!(
        rows,
        [
            (control, HolderState::Failed, None),
            (control, HolderState::Open, None),
            (Some("shop/cart"), HolderState::Closed, Some("never_closed")),
        ]
    );
    assert!(matches!(said.last(), Some(Said::Held(held)) if held.port == 46_994 && held.because == "agent_start"));
}

#[test]
fn how_the_agent_stands_is_told_whole() {
    let bench = Bench::new();
    assert_eq!(bench.all(&Request::Status {}), [Said::Status(Box::new(status()))]);
    // Also while the ledger does not answer, and at the end of the agent.
    let mut bench = bench;
    bench.lookups = None;
    assert!(matches!(bench.all(&Request::Status {})[..], [Said::Status(_)]));
}

#[test]
fn what_is_no_question_gets_an_error_and_the_next_one_an_answer() {
    let bench = Bench::new();
    for bytes in [&b"hello\n"[..], b"\n", b"{\"v\":9}\n", &[0xff; 100], &[b' '; 100_000]] {
        let mut bytes = bytes.to_vec();
        bytes.push(b'\n');
        let text = bench.raw(&bytes);
        assert!(text.starts_with("{\"v\":1,\"error\":"), "{text}");
    }
    assert_eq!(bench.all(&attempts(false, 1, false)).len(), 1);
}

#[test]
fn clients_that_hang_are_let_go_and_are_bounded_in_number() {
    let bench = Bench::new();
    let hanging: Vec<UnixStream> = (0..8).map(|_| UnixStream::connect(&bench.path).expect("an agent")).collect();
    std::thread::sleep(Duration::from_millis(200));
    let mut answer = bench.ask(&attempts(false, 1, false));
    assert!(matches!(answer.say(), Err(AskError::Refused(what)) if what.contains("8 others")));
    let start = Instant::now();
    for mut stream in hanging {
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        assert!(text.contains("no question came within 2 s"), "{text}");
    }
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.all(&attempts(false, 1, false)).len(), 1);
}

#[test]
fn some_follow_and_others_can_still_ask() {
    let bench = Bench::new();
    let mut following: Vec<Answer> = (0..4).map(|_| bench.ask(&attempts(false, 1, true))).collect();
    for answer in &mut following {
        assert!(matches!(answer.say(), Ok(Some(Said::Kept(_)))));
    }
    assert!(
        matches!(bench.ask(&attempts(false, 1, true)).say(), Err(AskError::Refused(what)) if what.contains("follow"))
    );
    assert_eq!(bench.all(&attempts(false, 1, false)).len(), 1);
    // Who goes away makes room.
    drop(following);
    let deadline = Instant::now() + Duration::from_secs(5);
    while bench.ask(&attempts(false, 1, true)).say().is_err() {
        assert!(Instant::now() < deadline, "no room after 5 s");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_ledger_that_does_not_answer_is_said() {
    let mut bench = Bench::new();
    let start = Instant::now();
    assert!(
        matches!(bench.ask(&Request::Who { port: 1 }).say(), Err(AskError::Refused(what)) if what.contains("too busy"))
    );
    assert!(start.elapsed() < Duration::from_secs(8));
    bench.lookups = None;
    assert!(
        matches!(bench.ask(&Request::Who { port: 1 }).say(), Err(AskError::Refused(what)) if what.contains("ending"))
    );
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).expect("a file").permissions().mode() & 0o777
}

#[test]
fn only_root_gets_there_and_the_file_goes_with_the_agent() {
    let mut bench = Bench::new();
    let directory = bench.directory.path().join("run");
    assert_eq!((mode(&directory), mode(&bench.path)), (0o700, 0o600));
    bench.server = None;
    assert!(!bench.path.exists());
    assert!(matches!(ask(&bench.path, &attempts(false, 1, false)), Err(AskError::Absent(_))));
}

#[test]
fn who_is_not_root_is_refused_even_where_the_files_mode_would_let_him() {
    let bench = Bench::new();
    let other = |bench: &Bench| {
        let path = bench.path.clone();
        let asking = std::thread::spawn(move || {
            // SAFETY: the bare system call takes plain numbers and changes this thread alone, which ends here.
            let changed = unsafe { libc::syscall(libc::SYS_setresuid, 65_534, 65_534, 65_534) };
            assert_eq!(changed, 0);
            ask(&path, &attempts(false, 1, false)).and_then(|mut answer| answer.say())
        });
        asking.join().expect("an answer")
    };
    assert!(matches!(other(&bench), Err(AskError::NotRoot(_))));
    for directory in [bench.directory.path(), &bench.directory.path().join("run")] {
        fs::set_permissions(directory, Permissions::from_mode(0o755)).expect("set");
    }
    fs::set_permissions(&bench.path, Permissions::from_mode(0o666)).expect("set");
    assert!(matches!(other(&bench), Err(AskError::Refused(what)) if what == "only root may ask"));
    assert_eq!(bench.all(&attempts(false, 1, false)).len(), 1);
}

#[test]
fn a_dead_agents_socket_is_replaced_and_a_living_ones_is_not() {
    let bench = Bench::new();
    assert!(matches!(Place::take(&bench.path), Err(PlaceError::Taken(_))));
    assert_eq!(bench.all(&attempts(false, 1, false)).len(), 1, "it answers as before");
    let dead = bench.directory.path().join("run/dead.sock");
    drop(UnixListener::bind(&dead).expect("a socket"));
    assert!(matches!(ask(&dead, &attempts(false, 1, false)), Err(AskError::Dead(_))));
    let place = Place::take(&dead).expect("a place");
    // Somebody who removes and takes the place keeps it.
    fs::remove_file(&dead).expect("removed");
    let other = UnixListener::bind(&dead).expect("a socket");
    drop(place);
    assert!(dead.exists());
    drop(other);
}

#[test]
fn places_that_are_not_safe_are_refused() {
    let bench = Bench::new();
    let directory = bench.directory.path();
    let file = directory.join("file");
    fs::write(&file, "mine").expect("written");
    assert!(matches!(Place::take(&file), Err(PlaceError::NoSocket(_))));
    assert_eq!(fs::read_to_string(&file).expect("read"), "mine");
    assert!(matches!(Place::take(&file.join("agent.sock")), Err(PlaceError::Directory(..))));
    let open = directory.join("open");
    fs::create_dir(&open).expect("made");
    fs::set_permissions(&open, Permissions::from_mode(0o1777)).expect("set");
    assert!(matches!(Place::take(&open.join("agent.sock")), Err(PlaceError::Open(_))));
    assert!(matches!(Place::take(Path::new("agent.sock")), Err(PlaceError::NoDirectory(_))));
}
