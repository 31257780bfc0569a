//! Gives an attempt's ends their names.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::Identity;
use super::chain::Identities;
use super::clock::WallClock;
use super::host::HostProcesses;
use super::node::Node;
use crate::capture::observation::{Mono, Process};
use crate::track::attempt::{Attempt, PreviousOwner, Role};

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
    /// The far side of a client of this node, where it is known.
    pub peer: Option<Arc<Identity>>,
    /// Who held the wire tuple before, as it was known then.
    pub previous_owner: Option<Arc<Identity>>,
    /// The node's network.
    pub node: Arc<Identity>,
    /// The resource of an end on this node that nothing knows.
    pub unknown: Arc<Identity>,
}

/// Describes attempts, and remembers who made them for as long as they may turn up as previous owners.
pub struct Describer {
    identities: Identities,
    host: Option<Arc<HostProcesses>>,
    node: Arc<Identity>,
    unknown: Arc<Identity>,
    owners: Owners,
}

impl Describer {
    /// `host` tells executables' names; `max_owners` bounds how many past clients are remembered (some
    /// 40 bytes each).
    pub fn new(identities: Identities, host: Option<Arc<HostProcesses>>, node: &Node, max_owners: usize) -> Self {
        let network = identities.intern(Arc::new(node.network()));
        let unknown = identities.intern(Arc::new(node.unknown()));
        Self { identities, host, node: network, unknown, owners: Owners::new(max_owners) }
    }

    /// To be told of each connect() when it is observed: the process may be gone when its attempt ends.
    pub fn notice(&mut self, process: &Process, at: Mono) {
        let _ = self.identities.who(Some(process), None, at);
        let _ = self.executable(process, at);
    }

    /// Names the ends of an attempt.
    pub fn describe(&mut self, attempt: Box<Attempt>, clock: WallClock) -> Described {
        let client = self.client(&attempt);
        let server = attempt
            .server
            .as_ref()
            .and_then(|socket| self.identities.who(None, Some(socket.tuple.dst.addr.ip()), attempt.ended));
        let peer = self.peer(&attempt, server.as_ref());
        let process = attempt.client.as_ref().and_then(|socket| socket.process.as_ref());
        let executable = process.and_then(|process| self.executable(process, attempt.started));
        let previous_owner = attempt.previous_owner.as_ref().and_then(|owner| self.owner(owner));
        if attempt.role == Role::Client
            && let Some(client) = &client
        {
            self.owners.remember(attempt.serial, Arc::clone(client));
        }
        Described {
            client,
            executable,
            server,
            peer,
            previous_owner,
            node: Arc::clone(&self.node),
            unknown: Arc::clone(&self.unknown),
            attempt,
            clock,
        }
    }

    fn executable(&self, process: &Process, at: Mono) -> Option<Arc<str>> {
        self.host.as_ref()?.executable(process, at)
    }

    fn client(&self, attempt: &Attempt) -> Option<Arc<Identity>> {
        let process = attempt.client.as_ref().and_then(|socket| socket.process.as_ref());
        let address = attempt.client_tuple().map(|tuple| tuple.src.addr.ip());
        self.identities.who(process, address, attempt.started)
    }

    fn peer(&self, attempt: &Attempt, server: Option<&Arc<Identity>>) -> Option<Arc<Identity>> {
        if attempt.role != Role::Client {
            return None;
        }
        let socket = attempt.client.as_ref();
        let asked = socket.and_then(|socket| socket.asked).map(|asked| asked.addr);
        let connected = attempt.client_tuple().map(|tuple| tuple.dst.addr);
        let on_wire = attempt.wire.last().map(|tuple| tuple.dst.addr);
        server.cloned().or_else(|| {
            [asked, connected, on_wire]
                .into_iter()
                .flatten()
                .find_map(|address| self.identities.who(None, Some(address.ip()), attempt.started))
        })
    }

    fn owner(&self, owner: &PreviousOwner) -> Option<Arc<Identity>> {
        self.owners
            .get(owner.serial)
            .or_else(|| self.identities.who(owner.process.as_ref(), Some(owner.tuple.src.addr.ip()), owner.opened))
    }
}

/// Who made the attempts of late, by serial; the oldest go first.
struct Owners {
    max: usize,
    by_serial: HashMap<u64, Arc<Identity>>,
    order: VecDeque<u64>,
}

impl Owners {
    fn new(max: usize) -> Self {
        Self { max, by_serial: HashMap::new(), order: VecDeque::new() }
    }

    fn remember(&mut self, serial: u64, identity: Arc<Identity>) {
        // 0 stands for "not an attempt that we saw".
        if serial == 0 || self.max == 0 {
            return;
        }
        if self.by_serial.insert(serial, identity).is_none() {
            self.order.push_back(serial);
        }
        while self.order.len() > self.max {
            if let Some(oldest) = self.order.pop_front() {
                self.by_serial.remove(&oldest);
            }
        }
    }

    fn get(&self, serial: u64) -> Option<Arc<Identity>> {
        self.by_serial.get(&serial).cloned()
    }
}
