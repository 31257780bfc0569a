use super::names::{Agent, Api};
use super::*;
use crate::capture::observation::Direction;
use crate::capture::probe::cgroup::Lock;
use crate::capture::probe::hooks::{Hook, Hooks, Owner, Place, Program};
use crate::capture::probe::kernel::{Btf, Conntrack, Kernel};
use crate::capture::probe::process::{Capabilities, Capability, Process};
use crate::capture::probe::programs::{Programs, Refusal, Tcx, Tried};
use crate::capture::probe::questions::Questions;

/// Outside a cluster, with no agent.
fn no_names() -> Names {
    Names { api: Api::NotAsked("kubernetes.enabled is false".into()), agent: Agent::None("no socket".into()) }
}

fn diagnose(facts: &Facts, test: &dyn SelfTest) -> Diagnosis {
    super::diagnose(facts, &no_names(), test)
}

struct Proof(Result<&'static str, &'static str>);

impl SelfTest for Proof {
    fn prove(&self) -> Result<String, String> {
        self.0.map(str::to_owned).map_err(str::to_owned)
    }
}

const SEEN: Proof = Proof(Ok("a connection was seen"));

struct NotTried;

impl SelfTest for NotTried {
    fn prove(&self) -> Result<String, String> {
        panic!("the proof must not be tried")
    }
}

fn healthy() -> Facts {
    Facts {
        kernel: Kernel {
            release: "6.18.4".into(),
            machine: "x86_64".into(),
            btf: Some(Btf { error_report: true, kfree_skb: true, drop_reasons: true }),
            tracefs: Some("/sys/kernel/tracing".into()),
            bpffs: Some("/sys/fs/bpf".into()),
            tcp_timestamps: Some(1),
            local_ports: Some((32768, 60999)),
            conntrack: Some(Conntrack { entries: 12, limit: 262_144 }),
            bpf_stats: Some(false),
            unprivileged_bpf_disabled: Some(2),
        },
        process: Process {
            uid: 0,
            capabilities: Capability::ALL.into_iter().fold(Capabilities::default(), Capabilities::with),
            memlock: Some(8 << 20),
            sees_all_processes: true,
        },
        cgroup: Cgroup { root: Some("/sys/fs/cgroup".into()), is_host_root: true, ..Cgroup::default() },
        programs: Programs {
            ring_buffer: Ok(()),
            sock_ops: Ok(()),
            connect4: Ok(()),
            connect6: Ok(()),
            sched_cls: Ok(()),
            raw_tracepoint: Ok(()),
            error_report: Ok(()),
            kfree_skb: Ok(()),
            connect_exit: Ok(()),
            tcx: Tcx::Attaches,
        },
        hooks: Hooks { interfaces: 3, ..Hooks::default() },
        questions: Questions {
            conntrack: Ok(()),
            sock_diag: Ok(()),
            namespaces: Ok(()),
            numbers: Ok(()),
            symbols: Ok(()),
        },
    }
}

fn refused(errno: i32) -> Tried {
    Err(std::io::Error::from_raw_os_error(errno).into())
}

fn text(diagnosis: &Diagnosis) -> String {
    let mut out = Vec::new();
    render::text(diagnosis, &mut out).expect("a writer that takes all");
    String::from_utf8(out).expect("text")
}

fn status(diagnosis: &Diagnosis, name: &str) -> Status {
    let found: Vec<_> = diagnosis.checks.iter().filter(|check| check.name == name).collect();
    assert_eq!(found.len(), 1, "checks named {name}");
    found[0].status
}

fn program(name: Option<&str>, preference: Option<u16>) -> Program {
    Program {
        id: Some(77),
        name: name.map(str::to_owned),
        tag: Some([0xa0, 0x4f, 0x5e, 0xef, 6, 0xa7, 0xf5, 0x55]),
        owner: crate::capture::probe::hooks::owner(name),
        preference,
        inherited: false,
    }
}

#[test]
fn a_healthy_node_is_all_ok_and_works_in_full() {
    let diagnosis = diagnose(&healthy(), &SEEN);
    assert!(diagnosis.works);
    assert!(diagnosis.checks.iter().all(|check| check.status == Status::Ok), "{}", text(&diagnosis));
    assert!(text(&diagnosis).ends_with("\nsynspan run would work here, in full.\n"));
    assert!(text(&diagnosis).contains("  ok      capture of a connection made for this test: a connection was seen\n"));
}

#[test]
fn json_holds_the_same_checks() {
    let mut facts = healthy();
    facts.kernel.tcp_timestamps = Some(0);
    let diagnosis = diagnose(&facts, &SEEN);
    let mut out = Vec::new();
    render::json(&diagnosis, &mut out).expect("a writer that takes all");
    let value: serde_json::Value = serde_json::from_slice(&out).expect("JSON");
    assert_eq!(value["works"], true);
    assert_eq!(value["checks"].as_array().map(Vec::len), Some(diagnosis.checks.len()));
    let check =
        value["checks"].as_array().and_then(|checks| checks.iter().find(|c| c["name"] == "net.ipv4.tcp_timestamps"));
    let check = check.expect("the check");
    assert_eq!((check["status"].as_str(), check["group"].as_str()), (Some("warn"), Some("node")));
    assert!(check["lost"].as_str().is_some_and(|lost| lost.contains("survive NAT")));
}

#[test]
fn without_root_and_bpf_nothing_works_and_the_capabilities_are_named() {
    let mut facts = healthy();
    facts.process.uid = 1000;
    facts.process.capabilities = Capabilities::default();
    let denied = || refused(libc::EPERM);
    facts.programs = Programs {
        ring_buffer: denied(),
        sock_ops: denied(),
        connect4: denied(),
        connect6: denied(),
        sched_cls: denied(),
        raw_tracepoint: denied(),
        error_report: denied(),
        kfree_skb: denied(),
        connect_exit: denied(),
        tcx: Tcx::Unknown(Refusal { errno: libc::EPERM, text: "Operation not permitted".into() }),
    };
    let diagnosis = diagnose(&facts, &NotTried);
    assert!(!diagnosis.works);
    assert_eq!(status(&diagnosis, "CAP_BPF"), Status::Missing);
    assert_eq!(status(&diagnosis, "CAP_NET_ADMIN"), Status::Missing);
    assert_eq!(status(&diagnosis, "CAP_SYS_PTRACE"), Status::Warn);
    assert_eq!(status(&diagnosis, "sock_ops"), Status::Missing);
    let text = text(&diagnosis);
    assert!(text.contains("missing ring buffer: Operation not permitted (os error 1)\n"), "{text}");
    assert!(text.contains("          to get it: the capabilities above\n"), "{text}");
    assert!(text.contains("would not work here: neither sockets nor segments could be captured."), "{text}");
}

#[test]
fn cap_sys_admin_stands_in_for_bpf_and_perfmon() {
    let mut facts = healthy();
    facts.process.capabilities = Capabilities::default().with(Capability::SysAdmin).with(Capability::NetAdmin);
    let diagnosis = diagnose(&facts, &SEEN);
    assert_eq!(status(&diagnosis, "CAP_BPF"), Status::Ok);
    assert_eq!(status(&diagnosis, "CAP_PERFMON"), Status::Ok);
    assert_eq!(status(&diagnosis, "CAP_SYS_RESOURCE"), Status::Ok);
    assert_eq!(status(&diagnosis, "CAP_SYS_PTRACE"), Status::Warn);
}

#[test]
fn without_cgroup2_the_wire_remains() {
    let mut facts = healthy();
    facts.cgroup = Cgroup::default();
    let diagnosis = diagnose(&facts, &NotTried);
    assert!(diagnosis.works);
    assert_eq!(status(&diagnosis, "cgroup2"), Status::Missing);
    assert_eq!(diagnosis.lowered, ["socket steps and flow records", "processes and the addresses they asked for"]);
    assert!(diagnosis.summary.contains("in a lower mode, without socket steps"), "{}", diagnosis.summary);
}

#[test]
fn a_private_cgroup_namespace_does_not_work_and_says_why() {
    let mut facts = healthy();
    facts.cgroup.is_host_root = false;
    facts.cgroup.private_namespace = true;
    let diagnosis = diagnose(&facts, &NotTried);
    assert!(!diagnosis.works);
    assert_eq!(status(&diagnosis, "reach"), Status::Missing);
    let text = text(&diagnosis);
    assert!(text.contains("private cgroup namespace"), "{text}");
    assert!(text.contains("hostPath"), "{text}");
    assert!(diagnosis.summary.contains("not the machine's"), "{}", diagnosis.summary);
}

#[test]
fn a_private_namespace_with_the_hosts_root_mounted_works() {
    let mut facts = healthy();
    facts.cgroup.private_namespace = true;
    assert!(diagnose(&facts, &SEEN).works);
}

#[test]
fn a_configured_subtree_works_with_a_warning() {
    let mut facts = healthy();
    facts.cgroup.is_host_root = false;
    facts.cgroup.given = true;
    let diagnosis = diagnose(&facts, &SEEN);
    assert!(diagnosis.works);
    assert_eq!(status(&diagnosis, "reach"), Status::Warn);
}

#[test]
fn a_failed_proof_fails_it_all() {
    let diagnosis = diagnose(&healthy(), &Proof(Err("programs attached and saw nothing")));
    assert!(!diagnosis.works);
    assert!(
        text(&diagnosis)
            .contains("missing capture of a connection made for this test: programs attached and saw nothing")
    );
}

#[test]
fn another_agent_is_named_and_the_proof_is_not_tried() {
    let mut facts = healthy();
    facts.cgroup.lock = Lock::Held { pid: Some(4242), name: Some("synspan".into()) };
    let diagnosis = diagnose(&facts, &NotTried);
    assert!(!diagnosis.works);
    assert!(diagnosis.summary.contains("process 4242 (synspan) watches this cgroup already"), "{}", diagnosis.summary);
}

#[test]
fn without_tcx_clsact_serves_and_clean_is_named() {
    let mut facts = healthy();
    facts.kernel.release = "6.1.0-40-amd64".into();
    facts.programs.tcx = Tcx::Missing;
    let diagnosis = diagnose(&facts, &SEEN);
    assert!(diagnosis.works && diagnosis.lowered.is_empty());
    assert_eq!(status(&diagnosis, "tcx"), Status::Warn);
    assert!(text(&diagnosis).contains("`synspan clean`"));
}

#[test]
fn without_tracefs_raw_tracepoints_serve() {
    let mut facts = healthy();
    facts.kernel.tracefs = None;
    assert_eq!(status(&diagnose(&facts, &SEEN), "tracefs"), Status::Ok, "it can be mounted");
    facts.programs.connect_exit = refused(libc::EPERM);
    let diagnosis = diagnose(&facts, &SEEN);
    assert_eq!(status(&diagnosis, "tracefs"), Status::Warn);
    assert_eq!(status(&diagnosis, "tracepoint sys_exit_connect"), Status::Missing);
    assert_eq!(diagnosis.lowered, ["what connect() returns"]);
}

#[test]
fn without_btf_errors_and_drops_are_off() {
    let mut facts = healthy();
    facts.kernel.btf = None;
    let diagnosis = diagnose(&facts, &SEEN);
    assert!(diagnosis.works);
    assert_eq!(diagnosis.lowered, ["the application's errors", "drop reasons"]);
}

#[test]
fn locked_memory_counts_on_old_kernels_only() {
    let mut facts = healthy();
    assert!(!diagnose(&facts, &SEEN).checks.iter().any(|check| check.name == "locked memory"));
    facts.kernel.release = "5.10.0".into();
    assert_eq!(status(&diagnose(&facts, &SEEN), "locked memory"), Status::Ok);
    facts.process.capabilities = Capabilities::default().with(Capability::Bpf).with(Capability::NetAdmin);
    assert_eq!(status(&diagnose(&facts, &SEEN), "locked memory"), Status::Warn);
    assert_eq!(status(&diagnose(&facts, &SEEN), "CAP_SYS_RESOURCE"), Status::Warn);
    facts.kernel.release = "5.4.0".into();
    assert_eq!(status(&diagnose(&facts, &SEEN), "release"), Status::Missing);
}

#[test]
fn a_foreign_program_before_ours_warns_and_one_after_does_not() {
    let place = Place::Tcx { interface: "eth0".into(), direction: Direction::Ingress };
    let mut facts = healthy();
    let programs = vec![program(Some("cil_from_netdev"), None), program(Some("synspan_ingress"), None)];
    facts.hooks.hooks = vec![Hook { place: place.clone(), programs, exclusive: false }];
    let diagnosis = diagnose(&facts, &SEEN);
    assert_eq!(status(&diagnosis, "tcx ingress on eth0"), Status::Warn);
    let shown = text(&diagnosis);
    assert!(shown.contains("before ours: cil_from_netdev (id 77, tag a04f5eef06a7f555)"), "{shown}");
    assert!(shown.contains("says pass blinds us"), "{shown}");

    facts.hooks.hooks[0].programs.reverse();
    assert_eq!(status(&diagnose(&facts, &SEEN), "tcx ingress on eth0"), Status::Ok);
    facts.hooks.hooks[0].programs.truncate(1);
    assert_eq!(status(&diagnose(&facts, &SEEN), "our own at tcx ingress on eth0"), Status::Ok);
}

#[test]
fn an_exclusive_program_at_sock_ops_lowers_the_mode() {
    let mut facts = healthy();
    facts.hooks.hooks = vec![Hook { place: Place::SockOps, programs: vec![program(None, None)], exclusive: true }];
    assert_eq!(facts.hooks.hooks[0].programs[0].owner, Owner::Unknown);
    let diagnosis = diagnose(&facts, &NotTried);
    assert_eq!(status(&diagnosis, "cgroup sock_ops"), Status::Missing);
    assert!(text(&diagnosis).contains("exclusive: name unknown (id 77"), "{}", text(&diagnosis));
    assert_eq!(diagnosis.lowered, ["socket steps and flow records"]);
}

#[test]
fn places_that_cannot_be_asked_make_one_line() {
    let mut facts = healthy();
    let refusal = Refusal { errno: libc::EPERM, text: "Operation not permitted".into() };
    facts.hooks.unknown = vec![(Place::Connect4, refusal.clone()), (Place::Connect6, refusal)];
    let shown = text(&diagnose(&facts, &SEEN));
    assert!(
        shown.contains("cgroup connect4: could not be asked: Operation not permitted (and 1 more places)"),
        "{shown}"
    );
}

#[test]
fn a_build_without_capture_says_so() {
    let diagnosis = diagnose(&healthy(), &NoCapture);
    assert!(!diagnosis.works);
    assert!(text(&diagnosis).contains("built without live capture"));
}

#[test]
fn what_cannot_be_asked_is_told_and_stops_nothing() {
    let mut facts = healthy();
    let denied = || Err(Refusal { errno: libc::EPERM, text: "Operation not permitted".into() });
    facts.questions = Questions {
        conntrack: Err(Refusal { errno: libc::EPROTONOSUPPORT, text: "Protocol not supported".into() }),
        sock_diag: denied(),
        namespaces: denied(),
        numbers: denied(),
        symbols: denied(),
    };
    let diagnosis = diagnose(&facts, &SEEN);
    assert!(diagnosis.works);
    let of = |name: &str| diagnosis.checks.iter().find(|check| check.name == name).expect(name);
    for name in ["connection tracking", "sockets", "other network namespaces", "sequence numbers", "kernel symbols"] {
        let check = of(name);
        assert!(check.status == Status::Missing && check.lost.is_some() && check.fix.is_some(), "{check:?}");
    }
    assert!(of("connection tracking").fix.as_deref().is_some_and(|fix| fix.contains("nf_conntrack_netlink")));
    assert_eq!(diagnosis.lowered.len(), 4, "{:?}", diagnosis.lowered);
}

mod of_names {
    use super::*;
    use crate::identify::rights::{Answers, NodeObject, Right};

    fn asked(node: NodeObject, without: &[Right]) -> Names {
        let rights = Right::ALL.into_iter().map(|right| (right, Ok(!without.contains(&right)))).collect();
        let (server, answers) = ("https://10.96.0.1/".to_owned(), Ok(Answers { node, rights }));
        Names { api: Api::Asked { server, node: "node-a".into(), answers }, ..no_names() }
    }

    fn of(names: &Names) -> Diagnosis {
        super::super::diagnose(&healthy(), names, &SEEN)
    }

    #[test]
    fn a_cluster_with_all_rights_is_ok() {
        let diagnosis = of(&asked(NodeObject::There, &[]));
        assert!(diagnosis.works && diagnosis.lowered.is_empty());
        assert!(diagnosis.checks.iter().all(|check| check.status == Status::Ok), "{}", text(&diagnosis));
        assert!(
            text(&diagnosis).contains("Names of pods\n  ok      Kubernetes API server: https://10.96.0.1/ answers\n")
        );
    }

    #[test]
    fn each_right_that_is_missing_says_what_is_lost_and_where_it_belongs() {
        for (right, name, lost, fix) in [
            (Right::ListPods, "right to list pods", "names of pods", "resources: [pods], verbs: [list]"),
            (Right::WatchPods, "right to watch pods", "names of pods", "resources: [pods], verbs: [watch]"),
            (Right::GetNode, "right to get nodes", "uid, zone and region are not told", "resources: [nodes]"),
            (Right::GetKubeSystem, "right to get namespaces kube-system", "k8s.cluster.uid", "resources: [namespaces]"),
            (Right::GetReplicaSets, "right to get replicasets", "named by the ReplicaSet", "apiGroups: [\"apps\"]"),
            (Right::ListNodes, "right to list nodes", "tracking.covered", "verbs: [list]"),
        ] {
            let diagnosis = of(&asked(NodeObject::There, &[right]));
            let bad: Vec<_> = diagnosis.checks.iter().filter(|check| check.status != Status::Ok).collect();
            assert!(diagnosis.works && bad.len() == 1 && bad[0].name == name, "{bad:?}");
            assert!(bad[0].lost.as_deref().is_some_and(|text| text.contains(lost)), "{bad:?}");
            assert!(
                bad[0].fix.as_deref().is_some_and(|text| text.contains(fix) && text.contains("k8s/base")),
                "{bad:?}"
            );
            let no_names = matches!(right, Right::ListPods | Right::WatchPods);
            assert_eq!(diagnosis.lowered == ["names of pods"], no_names);
        }
    }

    #[test]
    fn a_wrong_node_name_is_called_that() {
        let diagnosis = of(&asked(NodeObject::Absent, &[]));
        assert_eq!(status(&diagnosis, "identity.node_name"), Status::Missing);
        let shown = text(&diagnosis);
        assert!(shown.contains("identity.node_name: there is no node node-a\n"), "{shown}");
        assert!(shown.contains("downward API"), "{shown}");
        assert!(diagnosis.works && diagnosis.summary.contains("without names of pods"), "{}", diagnosis.summary);
        let untold = of(&asked(NodeObject::Untold("nodes is forbidden".into()), &[Right::GetNode]));
        assert_eq!(status(&untold, "identity.node_name"), Status::Warn);
    }

    #[test]
    fn an_api_server_that_is_away_lowers_the_mode_and_a_kubeconfig_of_no_use_stops_the_start() {
        let answers = Err("no answer within 5 s".to_owned());
        let api = Api::Asked { server: "https://10.96.0.1/".into(), node: "node-a".into(), answers };
        let away = of(&Names { api, ..no_names() });
        assert!(away.works && away.lowered == ["names of pods"]);
        assert!(text(&away).contains("https://10.96.0.1/ does not answer: no answer within 5 s\n"));
        let useless = of(&Names { api: Api::Unusable("cannot use /x".into()), ..no_names() });
        assert!(!useless.works && useless.summary.contains("refuse to start: cannot use /x"), "{}", useless.summary);
    }

    #[test]
    fn rights_that_cannot_be_asked_for_are_not_called_missing() {
        let rights = Right::ALL.into_iter().map(|right| (right, Err("forbidden".to_owned()))).collect();
        let answers = Ok(Answers { node: NodeObject::There, rights });
        let api = Api::Asked { server: "s".into(), node: "node-a".into(), answers };
        let diagnosis = of(&Names { api, ..no_names() });
        assert_eq!(status(&diagnosis, "right to list pods"), Status::Warn);
        assert!(diagnosis.works && diagnosis.lowered.is_empty());
    }

    #[test]
    fn an_agent_that_runs_says_how_old_its_names_are_and_what_fails() {
        let agent = Agent::Says(Box::new(crate::health::testing::status()));
        let diagnosis = of(&Names { agent, ..no_names() });
        assert_eq!(status(&diagnosis, "its names"), Status::Warn);
        let shown = text(&diagnosis);
        assert!(shown.contains(
            "the API server has told nothing since 2026-11-23 20:28:03 UTC (3 min 4 s), heard 3 min 10 s ago"
        ));
        assert!(shown.contains("fails since 2026-11-23 20:29:32 UTC (1 min 35 s): cannot connect"), "{shown}");
        assert!(shown.contains("has not what was seen: 1234 sent, 50 wait, 6 dropped"), "{shown}");
        assert_eq!(status(&diagnosis, "its exporter otlp (traces)"), Status::Ok);
        let silent = of(&Names { agent: Agent::Silent("no answer within 5 s".into()), ..no_names() });
        assert_eq!(status(&silent, "agent"), Status::Warn);
    }
}
