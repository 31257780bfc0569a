//! A node to capture on: a network namespace and a cgroup of its own, with one pod.

use std::fs::{self, File};
use std::io;
use std::mem::size_of_val;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use synspan::capture::live::{Capture, Features, Options, Sink, StartError};
use synspan::capture::observation::{Mono, Observation, What};
use synspan::capture::question::Question;

/// Waits until something holds, or fails and says what did not.
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What was seen so far.
#[derive(Clone, Default)]
pub struct Seen {
    all: Arc<Mutex<Vec<Observation>>>,
    gate: Arc<Mutex<()>>,
    ticks: Arc<AtomicU64>,
    questions: Arc<Mutex<Vec<Question>>>,
}

impl Seen {
    pub fn filter<T>(&self, take: impl FnMut(&What) -> Option<T>) -> Vec<T> {
        self.all.lock().unwrap().iter().map(|o| &o.what).filter_map(take).collect()
    }

    pub fn position(&self, holds: impl Fn(&What) -> bool) -> Option<usize> {
        self.all.lock().unwrap().iter().position(|o| holds(&o.what))
    }

    pub fn ticks(&self) -> u64 {
        self.ticks.load(Ordering::Relaxed)
    }

    /// Has capture ask the kernel something.
    pub fn ask(&self, question: Question) {
        self.questions.lock().unwrap().push(question);
    }

    /// Nobody takes anything out of the ring while this is held.
    pub fn hold(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap()
    }
}

impl Sink for Seen {
    fn observations(&mut self, batch: &[Observation]) {
        drop(self.gate.lock().unwrap());
        self.all.lock().unwrap().extend_from_slice(batch);
    }

    fn tick(&mut self, _: Mono) {
        drop(self.gate.lock().unwrap());
        self.ticks.fetch_add(1, Ordering::Relaxed);
    }

    fn question(&mut self) -> Option<Question> {
        self.questions.lock().unwrap().pop()
    }
}

/// A network namespace with a pod, `pod0`, in a second one, a server on port 80, and a cgroup.
pub struct Node {
    name: String,
    pub cgroup: PathBuf,
    server: Option<Child>,
}

impl Node {
    pub fn new(name: &str) -> Self {
        assert!(nix::unistd::geteuid().is_root(), "these tests need root: they load eBPF programs and make namespaces");
        let name = format!("syn{}{name}", std::process::id());
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mount = mounts.lines().find(|l| l.contains(" - cgroup2 ")).expect("these tests need cgroup2 mounted");
        let cgroup = PathBuf::from(mount.split(' ').nth(4).unwrap()).join(&name);
        fs::create_dir(&cgroup).unwrap();
        let mut node = Self { name, cgroup, server: None };
        run(&format!("ip netns add {0} && ip netns add {0}p && ip -n {0} link set lo up", node.name));
        node.add_pod("pod0");
        run(&format!(
            "ip -n {0} addr add 10.9.0.1/32 dev pod0 && ip -n {0} route add 10.9.0.2/32 dev pod0 && \
             ip -n {0}p addr add 10.9.0.2/24 dev pod0p",
            node.name
        ));
        let server = "import socket\ns = socket.create_server(('10.9.0.1', 80))\nwhile True: s.accept()[0].close()";
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", node.name)).args(["python3", "-c", server]);
        node.server = Some(command.spawn().expect("these tests need nsenter and python3"));
        wait_for("the server", || node.tool("ss -Hltn sport = 80").contains(":80"));
        node
    }

    /// The name of its network namespace; its pod's has a `p` behind.
    #[allow(dead_code, reason = "one of the two test programs asks for it")]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn options(&self) -> Options {
        Options { cgroup: Some(self.cgroup.clone()), attach_per_second: 100, ..Options::default() }
    }

    /// Runs in the node's network namespace, in a thread of its own.
    pub fn within<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        within(&self.name, run)
    }

    pub fn start(&self, options: Options, seen: Seen) -> Result<(Capture, Features), StartError> {
        self.within(|| Capture::start(options, seen))
    }

    /// Takes away what a killed agent left here: a line for each.
    pub fn clean(&self) -> Vec<String> {
        let cgroup = self.cgroup.clone();
        self.within(move || synspan::capture::live::clean::remove_leftovers(&cgroup)).unwrap()
    }

    /// Opens and closes a connection from the pod, by a process in the node's cgroup.
    pub fn connect(&self, port: u16) {
        let script = format!(
            "echo $$ > {}/cgroup.procs; exec nsenter --net=/run/netns/{}p bash -c 'exec 3<>/dev/tcp/10.9.0.1/{port}; cat <&3'",
            self.cgroup.display(),
            self.name
        );
        // A refused connection is a failure of bash, and none of the test's.
        let _ = Command::new("bash").args(["-c", &script]).stderr(Stdio::null()).status().unwrap();
    }

    /// Runs a script in the pod, by a process in the node's cgroup.
    pub fn pod_python(&self, script: &str) {
        self.python(&format!("{}p", self.name), true, script);
    }

    /// Runs a script in the pod, by a process in this test's cgroup.
    pub fn pod_python_elsewhere(&self, script: &str) {
        self.python(&format!("{}p", self.name), false, script);
    }

    /// Runs a script on the node, by a process in its cgroup.
    pub fn node_python(&self, script: &str) {
        self.python(&self.name, true, script);
    }

    fn python(&self, namespace: &str, in_cgroup: bool, script: &str) {
        let join =
            if in_cgroup { format!("echo $$ > {}/cgroup.procs; ", self.cgroup.display()) } else { String::new() };
        let command = format!("{join}exec nsenter --net=/run/netns/{namespace} python3 -c \"$0\"");
        assert!(Command::new("bash").args(["-c", &command, script]).status().unwrap().success(), "{script}");
    }

    /// A server in the pod, which ends when this is dropped.
    pub fn pod_server(&self, port: u16) -> Server {
        self.serve(&format!("{}p", self.name), "10.9.0.2", port)
    }

    /// A server on the node, by a process in its cgroup, which ends when this is dropped.
    pub fn node_server(&self, port: u16) -> Server {
        self.serve(&self.name, "10.9.0.1", port)
    }

    fn serve(&self, namespace: &str, address: &str, port: u16) -> Server {
        let script = format!(
            "import socket\ns = socket.create_server(('{address}', {port}), backlog=4096)\nwhile True: s.accept()[0].close()"
        );
        let cgroup = self.cgroup.display();
        let command =
            format!("echo $$ > {cgroup}/cgroup.procs; exec nsenter --net=/run/netns/{namespace} python3 -c \"$0\"");
        let server = Server(Command::new("bash").args(["-c", &command, &script]).spawn().unwrap());
        let listening = format!("nsenter --net=/run/netns/{namespace} ss -Hltn sport = {port}");
        wait_for("the server", || run(&listening).contains(&format!(":{port}")));
        server
    }

    /// Starts to send SYNs to the node from the pod, in the name of others.
    pub fn flood(&self, port: u16, syns: u64) -> Child {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}p", self.name)).args([
            "python3",
            "-c",
            include_str!("../live_faults/flood.py"),
        ]);
        command.args([port.to_string(), syns.to_string()]).spawn().unwrap()
    }

    /// Adds a rule to a table with the chains `input` and `output` in the node's namespace.
    pub fn nft(&self, rule: &str) {
        nft(&self.name, rule);
    }

    /// The same in the pod's namespace.
    pub fn pod_nft(&self, rule: &str) {
        nft(&format!("{}p", self.name), rule);
    }

    /// Gives the node fd09::1 and the pod fd09::2.
    pub fn add_ipv6(&self) {
        run(&format!(
            "ip -n {0} addr add fd09::1/64 dev pod0 nodad && ip -n {0}p addr add fd09::2/64 dev pod0p nodad",
            self.name
        ));
    }

    /// The cookie of the node's network namespace.
    pub fn netns_cookie(&self) -> u64 {
        self.within(|| {
            let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
            let (mut cookie, mut len) = (0_u64, 8 as libc::socklen_t);
            // SAFETY: the kernel writes eight bytes at most, where there is room for them.
            let result = unsafe {
                let value = (&raw mut cookie).cast();
                libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, value, &raw mut len)
            };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
            cookie
        })
    }

    /// Sends packets that are rare on the wire from the pod, as they stand in `odd_packets.py`.
    pub fn send_odd_packets(&self) {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}p", self.name)).args(["python3", "-c", include_str!("odd_packets.py")]);
        assert!(command.status().unwrap().success());
    }

    pub fn add_pod(&self, interface: &str) {
        run(&format!(
            "ip -n {0} link add {interface} type veth peer name {interface}p netns {0}p && \
             ip -n {0} link set {interface} up && ip -n {0}p link set {interface}p up",
            self.name
        ));
    }

    pub fn remove(&self, interface: &str) {
        run(&format!("ip -n {} link del {interface}", self.name));
    }

    /// What a command prints, run in the node's network namespace.
    pub fn tool(&self, command: &str) -> String {
        run(&format!("nsenter --net=/run/netns/{} {command}", self.name))
    }

    /// This program again, running one of its tests in the node's namespace, with its cgroup.
    pub fn agent_of_another_process(&self, test: &str) -> Child {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net=/run/netns/{}", self.name)).arg(std::env::current_exe().unwrap());
        command.args(["--exact", test, "--ignored"]).env("SYNSPAN_TEST_CGROUP", &self.cgroup);
        command.stdout(Stdio::null()).spawn().unwrap()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
        for name in [format!("{}p", self.name), self.name.clone()] {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
        let _ = fs::remove_dir(&self.cgroup);
    }
}

fn nft(namespace: &str, rule: &str) {
    let chain = |name: &str| format!("add chain inet test {name} {{ type filter hook {name} priority 0; }}");
    let all = format!("add table inet test\n{}\n{}\n{rule}", chain("input"), chain("output"));
    run(&format!("nsenter --net=/run/netns/{namespace} nft '{all}'"));
}

/// A process that is killed when this is dropped.
pub struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs in a network namespace, in a thread of its own; sockets that it opens stay there.
pub fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}

/// What a shell command prints; it must succeed.
pub fn run(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A program of somebody else, attached until dropped.
pub struct Foreign {
    _program: OwnedFd,
    _link: OwnedFd,
}

/// An instruction: opcode, destination register, immediate.
type Instruction = (u8, u8, i32);

impl Foreign {
    /// At the ingress of the node's pod0.
    pub fn tcx(node: &Node, code: &[Instruction]) -> Self {
        let line = node.tool("ip -o link show pod0");
        let index = line.split(':').next().unwrap().parse().unwrap();
        let program = load(3, code);
        let link = node.within(|| attach(&program, index, 46));
        Self { _program: program, _link: link }
    }

    /// At the node's cgroup.
    pub fn sock_ops(node: &Node, code: &[Instruction]) -> Self {
        let program = load(13, code);
        let cgroup = File::open(&node.cgroup).unwrap();
        let link = attach(&program, u32::try_from(cgroup.as_raw_fd()).unwrap(), 3);
        Self { _program: program, _link: link }
    }
}

fn bpf<T>(command: i32, attr: &T) -> OwnedFd {
    // SAFETY: the kernel reads as many bytes as it is told there are, and pointers in them are to
    // memory that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of_val(attr)) };
    assert!(fd >= 0, "bpf({command}): {}", io::Error::last_os_error());
    // SAFETY: the kernel has just made the descriptor.
    unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).unwrap()) }
}

fn load(kind: u32, code: &[Instruction]) -> OwnedFd {
    let code: Vec<u64> = code
        .iter()
        .map(|(op, register, value)| {
            u64::from(*op) | u64::from(*register) << 8 | u64::from(value.cast_unsigned()) << 32
        })
        .collect();
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        code: u64,
        license: u64,
        log: [u32; 6],
    }
    let license = c"GPL";
    let attr = Load {
        kind,
        count: u32::try_from(code.len()).unwrap(),
        code: code.as_ptr() as u64,
        license: license.as_ptr() as u64,
        log: [0; 6],
    };
    bpf(5, &attr)
}

fn attach(program: &OwnedFd, target: u32, kind: u32) -> OwnedFd {
    bpf(28, &[u32::try_from(program.as_raw_fd()).unwrap(), target, kind, 0, 0, 0, 0, 0])
}
