//! Gives an attempt's ends their names.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::chain::Identities;
use super::clock::WallClock;
use super::host::HostProcesses;
use super::node::Node;
use super::owners::{Owners, Past};
use super::{Answer, End, Identify, Identity};
use crate::capture::observation::{Direction, Mono, PointKind, Process};
use crate::capture::tuple::{Addr, Endpoint};
use crate::track::attempt::{Attempt, PreviousOwner, Role};
use crate::track::flow::{Flow, FlowSide};

/// An attempt and who took part in it: all that the encoders and the console need.
#[derive(Clone, Debug)]
pub struct Described {
    /// The attempt.
    pub attempt: Box<Attempt>,
    /// Wall-clock time for all its monotonic times.
    pub clock: WallClock,
    /// The client, where it is known. For an attempt that came from outside it may be known by address.
    pub client: Option<Arc<Identity>>,
    /// File name of the client process's executable.
    pub executable: Option<Arc<str>>,
    /// The server with the accepted socket on this node, where it is known.
    pub server: Option<Arc<Identity>>,
    /// The far side of a client of this node, where it is known: who is there, else the Service that was meant.
    pub peer: Option<Arc<Identity>>,
    /// The Service that a client of this node asked for, where Services are known.
    pub service: Option<Arc<Identity>>,
    /// Who held the wire tuple before, as it was known then.
    pub previous_owner: Option<Arc<Identity>>,
    /// Whether that one's span was sent; none if nothing is remembered of it.
    pub previous_owner_sent: Option<bool>,
    /// The node's network.
    pub node: Arc<Identity>,
    /// The resource of an end on this node that nothing knows.
    pub unknown: Arc<Identity>,
}

/// A flow and who took part in it.
#[derive(Clone, Debug)]
pub struct DescribedFlow {
    /// The flow.
    pub flow: Flow,
    /// Wall-clock time for all its monotonic times.
    pub clock: WallClock,
    /// Whose socket tells.
    pub own: Arc<Identity>,
    /// The other end, where it is known.
    pub peer: Option<Arc<Identity>>,
    /// What the client asked for.
    pub destination: Endpoint,
    /// Whether its attempt's span was sent; none if no attempt of a client of this node is remembered.
    pub attempt_sent: Option<bool>,
}

/// Describes attempts, and remembers who made them for as long as they may turn up as previous owners.
pub struct Describer {
    identities: Identities,
    services: Option<Arc<dyn Identify>>,
    host: Option<Arc<HostProcesses>>,
    node: Node,
    here: Here,
    owners: Owners,
    nameless: Arc<AtomicU64>,
}

/// The node's network and its unknown, as they are known.
struct Here {
    generation: u64,
    network: Arc<Identity>,
    unknown: Arc<Identity>,
}

impl Here {
    fn new(identities: &Identities, node: &Node) -> Self {
        let generation = identities.generation();
        let network = identities.intern(Arc::new(node.network()));
        Self { generation, network, unknown: identities.intern(Arc::new(node.unknown())) }
    }
}

impl Describer {
    /// `host` tells executables' names; `max_owners` bounds how many past clients are remembered (some
    /// 40 bytes each).
    pub fn new(identities: Identities, host: Option<Arc<HostProcesses>>, node: &Node, max_owners: usize) -> Self {
        let here = Here::new(&identities, node);
        let owners = Owners::new(max_owners);
        Self { identities, services: None, host, node: node.clone(), here, owners, nameless: Arc::default() }
    }

    /// The same, with a source that names the Service behind a destination: where nothing knows who is there, that
    /// Service is who was meant.
    pub fn with_services(self, services: Option<Arc<dyn Identify>>) -> Self {
        Self { services, ..self }
    }

    /// To be told of each connect() when it is observed, with its network namespace's cookie (0 if not known): the
    /// process may be gone when its attempt ends.
    pub fn notice(&mut self, process: &Process, netns: u64, at: Mono) {
        let _ = self.identities.who(&End { netns, ..End::process(process) }, at);
        let _ = self.executable(process, at);
    }

    /// Names the ends of an attempt, or gives it back where a source will know more of an end on this node soon.
    ///
    /// # Errors
    ///
    /// The attempt, to be described again in a while.
    pub fn describe(&mut self, attempt: Box<Attempt>, clock: WallClock) -> Result<Described, Box<Attempt>> {
        let (client, server) = (self.client(&attempt), self.server(&attempt));
        if matches!(client, Answer::Later(_)) || matches!(server, Answer::Later(_)) {
            return Err(attempt);
        }
        Ok(self.put_together(attempt, clock, client.now(), server.now()))
    }

    /// Names the ends of an attempt as far as they are known, for there was time enough to learn more.
    pub fn describe_now(&mut self, attempt: Box<Attempt>, clock: WallClock) -> Described {
        let (client, server) = (self.client(&attempt), self.server(&attempt));
        let nameless = [&client, &server].into_iter().filter(|answer| matches!(answer, Answer::Later(_))).count();
        self.nameless.fetch_add(u64::try_from(nameless).unwrap_or(0), Ordering::Relaxed);
        self.put_together(attempt, clock, client.now(), server.now())
    }

    /// How many ends were waited for in vain: they went out with no name, or with less than there would be.
    pub fn nameless(&self) -> u64 {
        self.nameless.load(Ordering::Relaxed)
    }

    /// The same, to be read from elsewhere.
    pub fn nameless_count(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.nameless)
    }

    /// Names the ends of an attempt that is not over, as far as they are known now.
    pub fn describe_passing(&mut self, attempt: Box<Attempt>, clock: WallClock) -> Described {
        let (client, server) = (self.client(&attempt).now(), self.server(&attempt).now());
        self.put_together(attempt, clock, client, server)
    }

    /// Names the ends of a flow: those of its attempt where that was seen; none if that one is left out of everything.
    pub fn describe_flow(&self, flow: Flow, clock: WallClock) -> Option<DescribedFlow> {
        let past = self.owners.get(flow.serial);
        if past.as_ref().is_some_and(|past| past.quiet) {
            return None;
        }
        let at = flow.opened.unwrap_or(flow.at);
        let address = |address: Addr| End::address(address.ip());
        let who = |end: &End<'_>| self.identities.who(end, at).now();
        let (own, peer, destination) = match (flow.side, &past) {
            (FlowSide::Client, Some(past)) => (Some(Arc::clone(&past.client)), past.peer.clone(), past.destination),
            (FlowSide::Client, None) => {
                let end = End { process: flow.process.as_ref(), netns: flow.netns, ..address(flow.tuple.src.addr) };
                (who(&end), who(&address(flow.tuple.dst.addr)), flow.tuple.dst)
            }
            (FlowSide::Server, _) => {
                let end = End { netns: flow.netns, ..address(flow.socket.dst.addr) };
                (who(&end), who(&address(flow.socket.src.addr)), flow.socket.dst)
            }
        };
        Some(DescribedFlow {
            flow,
            clock,
            own: own.unwrap_or_else(|| Arc::clone(&self.here.unknown)),
            peer,
            destination,
            attempt_sent: past.map(|past| past.sent),
        })
    }

    fn put_together(
        &mut self,
        attempt: Box<Attempt>,
        clock: WallClock,
        client: Option<Arc<Identity>>,
        server: Option<Arc<Identity>>,
    ) -> Described {
        if self.here.generation != self.identities.generation() {
            self.here = Here::new(&self.identities, &self.node);
        }
        let service = self.service(&attempt);
        let peer = self.peer(&attempt, server.as_ref()).or_else(|| service.clone());
        let process = attempt.client.as_ref().and_then(|socket| socket.process.as_ref());
        let executable = process.and_then(|process| self.executable(process, attempt.started));
        let previous_owner = attempt.previous_owner.as_ref().and_then(|owner| self.owner(owner));
        let before = attempt.previous_owner.as_ref().map_or(0, |owner| owner.serial);
        let previous_owner_sent = self.owners.get(before).map(|past| past.sent);
        if attempt.role == Role::Client
            && let Some(client) = &client
        {
            let past = Past {
                client: Arc::clone(client),
                peer: peer.clone(),
                destination: attempt.destination().unwrap_or_default(),
                sent: false,
                quiet: false,
            };
            self.owners.remember(attempt.serial, past);
        }
        Described {
            client,
            executable,
            server,
            peer,
            service,
            previous_owner,
            previous_owner_sent,
            node: Arc::clone(&self.here.network),
            unknown: Arc::clone(&self.here.unknown),
            attempt,
            clock,
        }
    }

    /// File name of a process's executable.
    pub fn executable(&self, process: &Process, at: Mono) -> Option<Arc<str>> {
        self.host.as_ref()?.executable(process, at)
    }

    fn client(&self, attempt: &Attempt) -> Answer {
        let socket = attempt.client.as_ref();
        // A client elsewhere is none of this node's pods, unless its address says so.
        let here = attempt.role == Role::Client;
        let end = End {
            process: socket.and_then(|socket| socket.process.as_ref()),
            netns: socket.map_or(0, |socket| socket.netns),
            ifindex: here.then(|| pod_side(attempt, Direction::Ingress)).flatten(),
            address: attempt.client_tuple().map(|tuple| tuple.src.addr.ip()),
        };
        match self.identities.who(&end, attempt.started) {
            Answer::Later(identity) if !here => Answer::of(identity),
            answer => answer,
        }
    }

    fn server(&self, attempt: &Attempt) -> Answer {
        let Some(socket) = attempt.server.as_ref() else { return Answer::Unknown };
        let end = End {
            process: None,
            netns: socket.netns,
            ifindex: pod_side(attempt, Direction::Egress),
            address: Some(socket.tuple.dst.addr.ip()),
        };
        self.identities.who(&end, attempt.ended)
    }

    fn peer(&self, attempt: &Attempt, server: Option<&Arc<Identity>>) -> Option<Arc<Identity>> {
        if attempt.role != Role::Client {
            return None;
        }
        server.cloned().or_else(|| {
            destinations(attempt).find_map(|address| self.identities.who(&End::address(address), attempt.started).now())
        })
    }

    fn service(&self, attempt: &Attempt) -> Option<Arc<Identity>> {
        let services = self.services.as_ref().filter(|_| attempt.role == Role::Client)?;
        let found = destinations(attempt)
            .find_map(|address| services.identify(&End::address(address), attempt.started).now())?;
        Some(self.identities.intern(found))
    }

    fn owner(&self, owner: &PreviousOwner) -> Option<Arc<Identity>> {
        self.past_client(owner.serial, &owner_end(owner), owner.opened)
    }

    /// Who made an attempt: as it was known then, else by what is known of it still.
    pub fn past_client(&self, serial: u64, end: &End<'_>, at: Mono) -> Option<Arc<Identity>> {
        self.owners.get(serial).map(|past| past.client).or_else(|| self.identities.who(end, at).now())
    }

    /// What is remembered of an attempt of a client of this node.
    pub fn past(&self, serial: u64) -> Option<Past> {
        self.owners.get(serial)
    }

    /// The attempt is left out of everything, and so is its flow.
    pub fn quiet(&mut self, serial: u64) {
        self.owners.quiet(serial);
    }

    /// The attempt's span was sent: whoever links to it need not send it again.
    pub fn sent(&mut self, serial: u64) {
        self.owners.sent(serial);
    }
}

/// Where a client wanted to go: the address asked for, the socket's own, the one on the wire.
fn destinations(attempt: &Attempt) -> impl Iterator<Item = IpAddr> {
    let asked = attempt.client.as_ref().and_then(|socket| socket.asked).map(|asked| asked.addr);
    let connected = attempt.client_tuple().map(|tuple| tuple.dst.addr);
    let on_wire = attempt.wire.last().map(|tuple| tuple.dst.addr);
    [asked, connected, on_wire].into_iter().flatten().map(|address| address.ip())
}

fn owner_end(owner: &PreviousOwner) -> End<'_> {
    let address = Some(owner.tuple.src.addr.ip());
    End { process: owner.process.as_ref(), netns: owner.netns, ifindex: None, address }
}

/// The host side of the pod's interface that the SYN came in by (ingress) or went out by (egress).
fn pod_side(attempt: &Attempt, direction: Direction) -> Option<u32> {
    let at_pods = |sighting: &&crate::track::attempt::Sighting| {
        sighting.kind == PointKind::PodNic && sighting.direction == direction
    };
    let mut found = attempt.sightings.iter().filter(at_pods);
    let first = found.next()?;
    // Seen at more than one, a bridge's among them: which is the pod's own is not told.
    found.next().is_none().then_some(first.ifindex)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::Mutex;

    use super::*;
    use crate::identify::fixtures;

    /// A cluster whose pods change.
    #[derive(Default)]
    struct Cluster(Mutex<HashMap<IpAddr, Arc<Identity>>>);

    impl Cluster {
        fn put(&self, address: &str, name: &str) {
            let identity = fixtures::pod("shop", name, name);
            self.0.lock().expect("lock").insert(address.parse().expect("address"), identity);
        }
    }

    impl Identify for Cluster {
        fn identify(&self, end: &End<'_>, _: Mono) -> Answer {
            let known = self.0.lock().expect("lock");
            Answer::of(end.address.and_then(|address| known.get(&address).cloned()))
        }
    }

    fn describer(cluster: &Arc<Cluster>) -> Describer {
        let identities = Identities::new(vec![Arc::clone(cluster) as Arc<dyn Identify>]);
        Describer::new(identities, None, &Node::new("node-1", true, &[]), 100)
    }

    fn name(identity: Option<&Arc<Identity>>) -> Option<String> {
        identity.and_then(|identity| identity.display_name())
    }

    #[test]
    fn a_client_is_known_by_its_own_address_and_the_far_side_by_the_one_asked_for() {
        let cluster = Arc::new(Cluster::default());
        cluster.put("10.244.1.12", "vehicle-control");
        cluster.put("192.168.50.20", "account");
        let described = describer(&cluster).describe_now(fixtures::clean().attempt, WallClock::fixed(0));
        assert_eq!(name(described.client.as_ref()).as_deref(), Some("shop/vehicle-control"));
        assert_eq!(name(described.peer.as_ref()).as_deref(), Some("shop/account"));
        assert_eq!(described.node.get("service.name"), Some("node-network"));
        assert!(described.previous_owner.is_none());
    }

    #[test]
    fn the_service_asked_for_stands_in_for_a_far_side_that_nobody_knows() {
        let (cluster, services) = (Arc::new(Cluster::default()), Arc::new(Cluster::default()));
        services.put("192.168.50.20", "account-service");
        let mut describer = describer(&cluster).with_services(Some(services));
        let described = describer.describe_now(fixtures::clean().attempt, WallClock::fixed(0));
        assert_eq!(name(described.peer.as_ref()).as_deref(), Some("shop/account-service"));
        assert!(described.client.is_none(), "a Service is nobody's client");
        cluster.put("192.168.50.20", "account");
        let described = describer.describe_now(fixtures::clean().attempt, WallClock::fixed(0));
        assert_eq!(name(described.peer.as_ref()).as_deref(), Some("shop/account"));
        assert_eq!(name(described.service.as_ref()).as_deref(), Some("shop/account-service"));
        let inbound = describer.describe_now(fixtures::server_side().attempt, WallClock::fixed(0));
        assert!(inbound.service.is_none());
    }

    #[test]
    fn a_server_is_known_by_its_accepted_socket_and_is_no_peer_of_a_client_elsewhere() {
        let cluster = Arc::new(Cluster::default());
        cluster.put("10.245.0.9", "account");
        let described = describer(&cluster).describe_now(fixtures::server_side().attempt, WallClock::fixed(0));
        assert_eq!(name(described.server.as_ref()).as_deref(), Some("shop/account"));
        assert!(described.peer.is_none() && described.client.is_none());
    }

    #[test]
    fn a_previous_owner_is_who_it_was_even_if_its_address_has_another_pod_now() {
        let cluster = Arc::new(Cluster::default());
        cluster.put("10.244.1.11", "cart");
        let mut describer = describer(&cluster);
        let mut first = fixtures::clean().attempt;
        first.serial = 41;
        let client = first.client.as_mut().expect("socket");
        client.tuple.src = fixtures::endpoint("10.244.1.11:51544");
        describer.describe_now(first, WallClock::fixed(0));
        cluster.put("10.244.1.11", "newcomer");
        let described = describer.describe_now(fixtures::case().attempt, WallClock::fixed(0));
        assert_eq!(name(described.previous_owner.as_ref()).as_deref(), Some("shop/cart"));
    }

    #[test]
    fn an_owner_that_was_no_attempt_of_ours_is_known_by_address() {
        let cluster = Arc::new(Cluster::default());
        cluster.put("10.244.1.11", "cart");
        let mut attempt = fixtures::case().attempt;
        attempt.previous_owner.as_mut().expect("owner").serial = 0;
        let described = describer(&cluster).describe_now(attempt, WallClock::fixed(0));
        assert_eq!(name(described.previous_owner.as_ref()).as_deref(), Some("shop/cart"));
    }

    #[test]
    fn an_end_that_will_be_known_later_is_waited_for_and_counted_in_the_end() {
        struct Slow;
        impl Identify for Slow {
            fn identify(&self, _: &End<'_>, _: Mono) -> Answer {
                Answer::Later(None)
            }
        }
        let identities = Identities::new(vec![Arc::new(Slow) as Arc<dyn Identify>]);
        let mut describer = Describer::new(identities, None, &Node::new("node-1", true, &[]), 100);
        let attempt = describer.describe(fixtures::clean().attempt, WallClock::fixed(0)).expect_err("waited for");
        assert_eq!(describer.nameless(), 0);
        assert!(describer.describe_now(attempt, WallClock::fixed(0)).client.is_none());
        assert_eq!(describer.nameless(), 1);
    }
}
