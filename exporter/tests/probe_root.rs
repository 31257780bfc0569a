//! The probe on a real kernel, in network namespaces and cgroups made here.
//!
//! Needs root, BPF, cgroup2, and the programs ip, tc and flock; fails with a reason where one is missing.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use synspan::capture::netlink::{Protocol, Socket, filters, put};
use synspan::capture::observation::{Direction, Mono, Observation, Process, ProcessStep, Step, What};
use synspan::capture::observation::{SocketNumbers, SocketStep};
use synspan::capture::probe::cgroup::{Cgroup, Lock};
use synspan::capture::probe::connection::{self, Watch};
use synspan::capture::probe::hooks::{Hooks, Owner, Place};
use synspan::capture::probe::kernel::Release;
use synspan::capture::probe::programs::Tcx;
use synspan::capture::probe::{Facts, Options, bpf, leftovers, mounts};
use synspan::capture::tuple::{Endpoint, Tuple};
use synspan::cli::{clean, doctor};

const LOOPBACK: u32 = 1;

/// The doctor's cgroup is named by process, and program descriptors are looked up by process: one
/// test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    assert!(nix::unistd::geteuid().is_root(), "these tests need root");
    ALONE.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs `test` in a network namespace of its own, which ends with it.
fn in_own_network<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
                .expect("a network namespace (needs CAP_SYS_ADMIN)");
            test()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn sh(line: &str) {
    let mut words = line.split_whitespace();
    let status = Command::new(words.next().expect("a program")).args(words).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
}

fn host_cgroup() -> Cgroup {
    let cgroup = Cgroup::gather(None, &mounts::gather());
    assert!(cgroup.root.is_some(), "these tests need a cgroup2 mount");
    assert_eq!(cgroup.error, None);
    cgroup
}

/// A cgroup below the root, removed when dropped.
struct OwnCgroup(PathBuf);

impl OwnCgroup {
    fn create() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("synspan-probe-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = host_cgroup().root.expect("a root").join(name);
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    fn facts(&self) -> Cgroup {
        Cgroup::gather(Some(&self.0), &mounts::gather())
    }
}

impl Drop for OwnCgroup {
    fn drop(&mut self) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            if entry.path().is_dir() {
                let _ = fs::remove_dir(entry.path());
            }
        }
        let _ = fs::remove_dir(&self.0);
    }
}

fn classifier(name: &str) -> OwnedFd {
    bpf::load_returning(bpf::PROG_SCHED_CLS, 0, name, bpf::returns::NEXT).expect("a sched_cls program (needs CAP_BPF)")
}

/// Attaches a program as a clsact filter under any name; the filter keeps the program.
fn add_filter(program: BorrowedFd<'_>, name: &str, direction: Direction, preference: u16) {
    const RTM_NEWTFILTER: u16 = 44;
    const CREATE_EXCLUSIVE: u16 = 0x600;
    let parent: u32 = if direction == Direction::Ingress { 0xFFFF_FFF2 } else { 0xFFFF_FFF3 };
    let info = u32::from(preference) << 16 | u32::from((libc::ETH_P_ALL as u16).to_be());
    let mut body = vec![0u8; 4];
    for word in [LOOPBACK, 1, parent, info] {
        body.extend(word.to_ne_bytes());
    }
    let mut options = Vec::new();
    put(&mut options, 6, &program.as_raw_fd().to_ne_bytes());
    put(&mut options, 7, format!("{name}\0").as_bytes());
    put(&mut options, 8, &1u32.to_ne_bytes());
    put(&mut body, 1, b"bpf\0");
    put(&mut body, 2, &options);
    let mut socket = Socket::open(Protocol::Route, 0).expect("a netlink socket");
    socket.request(RTM_NEWTFILTER, CREATE_EXCLUSIVE, &body).expect("a filter (needs CAP_NET_ADMIN)");
}

fn filters_of(direction: Direction) -> Vec<(u16, String)> {
    let mut socket = Socket::open(Protocol::Route, 0).expect("a netlink socket");
    let filters = filters::list(&mut socket, LOOPBACK, direction).expect("the filters");
    filters
        .filters
        .iter()
        .map(|filter| (filter.preference(), filter.name.clone().unwrap_or(filter.kind.clone())))
        .collect()
}

fn run_clean(cgroup: &OwnCgroup, dry_run: bool) -> (bool, String) {
    let mut out = Vec::new();
    let args = clean::Args { dry_run, ..clean::Args::default() };
    let options = Options { cgroup: Some(cgroup.0.clone()) };
    let clean = clean::run(&args, &options, &mut out).expect("clean");
    (clean, String::from_utf8(out).expect("text"))
}

#[test]
fn facts_of_this_machine() {
    let _alone = alone();
    let facts = Facts::gather(&Options::default());
    assert_eq!(facts.process.uid, 0);
    let release = Release::parse(&facts.kernel.release).expect("a release");
    let programs = &facts.programs;
    for (name, tried) in [
        ("ring buffer", &programs.ring_buffer),
        ("sock_ops", &programs.sock_ops),
        ("connect4", &programs.connect4),
        ("connect6", &programs.connect6),
        ("sched_cls", &programs.sched_cls),
        ("raw tracepoint", &programs.raw_tracepoint),
    ] {
        assert_eq!(*tried, Ok(()), "{name}");
    }
    let has_tcx = release >= Release { major: 6, minor: 6 };
    assert_eq!(programs.tcx, if has_tcx { Tcx::Attaches } else { Tcx::Missing });
    let btf = facts.kernel.btf.expect("BTF");
    let has_error_report = release >= Release { major: 5, minor: 14 };
    assert_eq!((btf.error_report, programs.error_report.is_ok()), (has_error_report, has_error_report));
    assert!(btf.kfree_skb && programs.kfree_skb.is_ok());
    let root = facts.cgroup.root.expect("a cgroup2 mount");
    assert_eq!(facts.cgroup.is_host_root, fs::metadata(&root).expect("its root").ino() == 1);
    assert!(facts.kernel.local_ports.is_some_and(|(first, last)| first < last));
    assert!(facts.hooks.interfaces >= 1);
}

#[test]
fn settings_are_those_of_this_network_namespace() {
    let _alone = alone();
    in_own_network(|| {
        fs::write("/proc/sys/net/ipv4/tcp_timestamps", "0").expect("the sysctl");
        let facts = Facts::gather(&Options::default());
        assert_eq!(facts.kernel.tcp_timestamps, Some(0));
        assert_eq!(facts.hooks.interfaces, 1, "loopback alone");
    });
}

#[test]
fn clean_takes_our_orphans_and_leaves_the_rest() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    in_own_network(|| {
        sh("tc qdisc add dev lo clsact");
        let (foreign, ingress, egress) =
            (classifier("foreign_prog"), classifier("synspan_ingress"), classifier("synspan_egress"));
        add_filter(foreign.as_fd(), "foreign", Direction::Ingress, 1);
        // Another's program under a name like ours stays; ours under any name goes.
        add_filter(foreign.as_fd(), "synspan_ingress", Direction::Egress, 1);
        add_filter(ingress.as_fd(), "synspan_ingress", Direction::Ingress, 2);
        add_filter(egress.as_fd(), "anything", Direction::Egress, 7);
        // A classic BPF filter has no program id.
        let classic =
            ["filter", "add", "dev", "lo", "ingress", "pref", "9", "bpf", "da", "bytecode", "1,6 0 0 4294967295"];
        assert!(Command::new("tc").args(classic).status().is_ok_and(|status| status.success()), "a classic filter");
        drop(foreign);

        let (clean, text) = run_clean(&cgroup, false);
        assert!(clean && text.contains("nothing of a killed agent"), "{text}");
        let user = format!("process {} uses it", std::process::id());
        assert_eq!(text.matches(&user).count(), 2, "{text}");

        drop((ingress, egress));
        let (_, text) = run_clean(&cgroup, true);
        assert_eq!(text.matches("would remove filter synspan_").count(), 2, "{text}");
        assert_eq!(filters_of(Direction::Ingress).len(), 3);

        let (clean, text) = run_clean(&cgroup, false);
        assert!(clean, "{text}");
        assert!(text.contains("removed filter synspan_ingress id "), "{text}");
        assert!(text.contains("on lo egress, preference 7"), "{text}");
        let left: Vec<_> = filters_of(Direction::Ingress).into_iter().map(|(preference, _)| preference).collect();
        assert_eq!(left, [1, 9]);
        assert_eq!(filters_of(Direction::Egress), [(1, "synspan_ingress".to_owned())]);
        let qdiscs = Command::new("tc").args(["qdisc", "show", "dev", "lo"]).output().expect("tc");
        assert!(String::from_utf8_lossy(&qdiscs.stdout).contains("clsact"), "the qdisc stays");
        assert_eq!(run_clean(&cgroup, false).1, "nothing of a killed agent is left here\n");
    });
}

#[test]
fn clean_takes_cgroups_of_dead_doctors() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    let stale = cgroup.0.join(format!("{}2147483647", leftovers::DOCTOR_CGROUP_PREFIX));
    fs::create_dir(&stale).expect("a cgroup");
    let (clean, text) = in_own_network(|| run_clean(&cgroup, false));
    assert!(clean && text.contains(&format!("removed cgroup {}", stale.display())), "{text}");
    assert!(!stale.exists());
}

#[test]
fn tcx_programs_are_listed_in_the_order_they_run() {
    let _alone = alone();
    in_own_network(|| {
        let (foreign, ours) = (classifier("foreign_prog"), classifier("synspan_ingress"));
        let link = |program: &OwnedFd| {
            bpf::create_link(program.as_fd(), LOOPBACK, bpf::ATTACH_TCX_INGRESS).expect("a tcx link (needs kernel 6.6)")
        };
        let _links = (link(&foreign), link(&ours));
        let hooks = Hooks::gather(None);
        assert_eq!(hooks.unknown, []);
        assert_eq!(hooks.hooks.len(), 1, "{hooks:?}");
        let hook = &hooks.hooks[0];
        assert_eq!(hook.place, Place::Tcx { interface: "lo".into(), direction: Direction::Ingress });
        let owners: Vec<_> = hook.programs.iter().map(|program| program.owner).collect();
        assert_eq!(owners, [Owner::Foreign, Owner::Ours]);
        assert_eq!(hook.ahead_of_ours()[0].name.as_deref(), Some("foreign_prog"));
    });
}

#[test]
fn cgroup_programs_are_listed_and_those_of_ancestors_told_apart() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    let child = cgroup.0.join("child");
    fs::create_dir(&child).expect("a cgroup");
    let program = bpf::load_returning(bpf::PROG_SOCK_OPS, bpf::ATTACH_SOCK_OPS, "foreign_ops", bpf::returns::ALLOW)
        .expect("a sock_ops program");
    let directory = fs::File::open(&cgroup.0).expect("the cgroup");
    let link = bpf::create_link(program.as_fd(), directory.as_raw_fd().cast_unsigned(), bpf::ATTACH_SOCK_OPS);
    let _link = link.expect("a cgroup link");
    let inherited = |cgroup: &PathBuf| {
        let hooks = in_own_network(|| Hooks::gather(Some(cgroup)));
        let hook = hooks.hooks.into_iter().find(|hook| hook.place == Place::SockOps).expect("the hook");
        assert!(!hook.exclusive, "links let others join");
        let program = hook.programs.into_iter().find(|program| program.name.as_deref() == Some("foreign_ops"));
        program.expect("the program").inherited
    };
    assert!(!inherited(&cgroup.0));
    assert!(inherited(&child));
}

#[test]
fn the_lock_names_its_holder() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    assert_eq!(cgroup.facts().lock, Lock::Free);
    let mut command = Command::new("flock");
    command.arg(&cgroup.0).args(["sh", "-c", "echo held; read line"]);
    let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("flock");
    let mut line = [0u8; 5];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("its output"), &mut line).expect("held");
    let lock = cgroup.facts().lock;
    drop(holder.stdin.take());
    let pid = holder.id();
    holder.wait().expect("its end");
    assert_eq!(lock, Lock::Held { pid: Some(pid), name: Some("flock".into()) });
    assert_eq!(cgroup.facts().lock, Lock::Free);
}

fn doctor_cgroup() -> PathBuf {
    host_cgroup().root.expect("a root").join(format!("{}{}", leftovers::DOCTOR_CGROUP_PREFIX, std::process::id()))
}

#[test]
fn the_test_connection_comes_from_a_cgroup_of_its_own_and_leaves_nothing() {
    let _alone = alone();
    let root = host_cgroup().root.expect("a root");
    let made = in_own_network(|| {
        sh("ip link set lo up");
        connection::make(&root)
    });
    let made = made.expect("a connection");
    assert!(made.cgroup.is_some_and(|id| id > 1), "{made:?}");
    assert_eq!(made.own_cgroup, None);
    assert!(made.tuple.src.port != 0 && made.tuple.dst.port != 0);
    assert!(!doctor_cgroup().exists());
}

#[test]
fn without_loopback_the_test_connection_says_so_and_leaves_nothing() {
    let _alone = alone();
    let root = host_cgroup().root.expect("a root");
    let error = in_own_network(|| connection::make(&root)).expect_err("lo is down");
    assert!(error.contains("connecting to 127.0.0.1"), "{error}");
    assert!(!doctor_cgroup().exists());
}

/// A capture that sees what it is told, or nothing.
struct Invented(Vec<Observation>);

impl Watch for Invented {
    fn collect(&mut self, patience: Duration) -> Result<Vec<Observation>, String> {
        if self.0.is_empty() {
            std::thread::sleep(patience);
        }
        Ok(std::mem::take(&mut self.0))
    }
}

#[test]
fn a_capture_that_sees_nothing_is_no_proof() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    let facts = cgroup.facts();
    let error = in_own_network(|| {
        sh("ip link set lo up");
        connection::prove(&facts, || Ok(Box::new(Invented(vec![]))))
    });
    let error = error.expect_err("nothing was seen");
    assert!(error.contains("they did not see: the call of connect(), the first SYN, the establishment"), "{error}");
    assert!(fs::read_dir(&cgroup.0).expect("the cgroup").flatten().all(|entry| !entry.path().is_dir()));
}

#[test]
fn a_capture_that_sees_another_connection_is_no_proof() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    let other = Tuple::new(Endpoint::new(Ipv4Addr::LOCALHOST, 1), Endpoint::new(Ipv4Addr::LOCALHOST, 2));
    let process = ProcessStep { cookie: 1, netns: 1, process: Process::default(), asked: other.dst, bound_port: 0 };
    let step = SocketStep { cookie: 1, netns: 1, tuple: other, step: Step::Connect, numbers: SocketNumbers::default() };
    let seen = [What::Process(process), What::Socket(step)].map(|what| Observation { time: Mono(1), what });
    let facts = cgroup.facts();
    let error = in_own_network(|| {
        sh("ip link set lo up");
        connection::prove(&facts, || Ok(Box::new(Invented(seen.to_vec()))))
    });
    assert!(error.is_err_and(|error| error.contains("they did not see: the call of connect()")));
}

#[test]
fn doctor_prints_this_machines_diagnosis() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    struct Seen;
    impl doctor::SelfTest for Seen {
        fn prove(&self) -> Result<String, String> {
            Ok("seen".into())
        }
    }
    let options = Options { cgroup: Some(cgroup.0.clone()) };
    let (api, agent) = (doctor::names::Api::NotAsked("no".into()), doctor::names::Agent::gather(None));
    let names = doctor::names::Names { api, agent };
    let mut out = Vec::new();
    let works = doctor::run(&doctor::Args::default(), &options, &names, &Seen, &mut out).expect("doctor");
    let text = String::from_utf8(out).expect("text");
    println!("{text}");
    assert!(works, "{text}");
    assert!(text.contains("  ok      sock_ops: works\n"), "{text}");
    let mut out = Vec::new();
    let args = doctor::Args { json: true, config: None };
    doctor::run(&args, &options, &names, &Seen, &mut out).expect("doctor");
    let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(value["works"], true);
}

#[test]
fn a_private_cgroup_namespace_is_found_out() {
    let _alone = alone();
    let cgroup = OwnCgroup::create();
    let processes = fs::OpenOptions::new().write(true).open(cgroup.0.join("cgroup.procs")).expect("its processes");
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command.args(["--exact", "inside_a_private_cgroup_namespace", "--ignored", "--nocapture"]);
    command.env("SYNSPAN_PRIVATE", host_cgroup().root.expect("a root"));
    // SAFETY: between fork and exec only write and unshare are called, which are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            nix::unistd::write(&processes, b"0")?;
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWCGROUP | nix::sched::CloneFlags::CLONE_NEWNS)?;
            Ok(())
        });
    }
    let output = command.output().expect("a child");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// Run by the test above in namespaces made for it, where it makes the mounts of a container.
#[test]
#[ignore = "run by a_private_cgroup_namespace_is_found_out"]
fn inside_a_private_cgroup_namespace() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    let at = PathBuf::from(std::env::var_os("SYNSPAN_PRIVATE").expect("run by another test"));
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("private mounts");

    // The machine's own mount is still in sight: capture can see everything.
    let cgroup = Cgroup::gather(None, &mounts::gather());
    assert!(cgroup.private_namespace && cgroup.is_host_root, "{cgroup:?}");

    umount2(&at, MntFlags::MNT_DETACH).expect("unmount");
    mount(Some("none"), &at, Some("cgroup2"), MsFlags::empty(), none).expect("a cgroup2 mount");
    let cgroup = Cgroup::gather(None, &mounts::gather());
    assert!(cgroup.private_namespace && !cgroup.is_host_root, "{cgroup:?}");
    let error = connection::prove(&cgroup, || panic!("must not be started")).expect_err("no proof");
    assert!(error.contains("this container's own processes and nobody else's"), "{error}");
}
