//! Privacy: what is told of peers' addresses, and of who held a port before (design section 7).
//!
//! What is not to be told is taken out of an attempt before anything is made of it, so that spans, records, their texts,
//! metrics and the console are alike.

use std::borrow::Cow;
use std::hash::Hasher as _;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use siphasher::sip::SipHasher24;

use super::prefix;
use crate::capture::tuple::{Addr, Endpoint, Tuple};
use crate::identify::Identity;
use crate::identify::covered::Covered;
use crate::identify::describe::{Described, DescribedFlow};
use crate::names::attribute;
use crate::track::attempt::{Attempt, Role, StoryStep};
use crate::track::flow::FlowSide;
use crate::track::trace_id::IdKey;

/// What is told of a peer's address outside `tracking.covered`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Addresses {
    /// All of it.
    #[default]
    Keep,
    /// The /24 or /64 it is in, as that network's own address.
    Prefix,
    /// An address of the discard prefix 100::/64 (RFC 6666) that stands for it: made by a keyed hash, so that equal ones
    /// stay equal and nobody without the key finds out which it was.
    Hash,
    /// Nothing: the attribute is missing, and texts have the unspecified address.
    Drop,
}

/// What is told of who held a port before: it shows one tenant to another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Owner {
    /// All that is known, and the way to its trace.
    #[default]
    Full,
    /// Its namespace, its end after NAT, and how its connection ended.
    Namespace,
    /// How its connection ended.
    Redacted,
}

/// What is told.
#[derive(Clone, Debug)]
pub struct Privacy {
    /// Of addresses.
    pub addresses: Addresses,
    /// Of previous owners.
    pub owner: Owner,
    /// Whose addresses are ours to tell.
    pub covered: Covered,
    /// The key of hashes.
    pub key: IdKey,
}

impl Privacy {
    /// An attempt as it may be told.
    pub fn apply<'a>(&self, described: &'a Described) -> Cow<'a, Described> {
        if self.addresses == Addresses::Keep && self.owner == Owner::Full {
            return Cow::Borrowed(described);
        }
        let mut described = described.clone();
        if self.addresses != Addresses::Keep {
            self.hide_addresses(&mut described.attempt);
        }
        if self.owner != Owner::Full {
            self.hide_owner(&mut described);
        }
        Cow::Owned(described)
    }

    /// A flow as it may be told.
    pub fn flow<'a>(&self, described: &'a DescribedFlow) -> Cow<'a, DescribedFlow> {
        if self.addresses == Addresses::Keep {
            return Cow::Borrowed(described);
        }
        let mut described = described.clone();
        let role = match described.flow.side {
            FlowSide::Client => Role::Client,
            FlowSide::Server => Role::Server,
        };
        if role == Role::Client {
            described.destination = self.endpoint(described.destination);
        }
        self.tuple(&mut described.flow.tuple, role);
        self.tuple(&mut described.flow.socket, role);
        described.flow.wire.iter_mut().for_each(|tuple| self.tuple(tuple, role));
        Cow::Owned(described)
    }

    /// An address as it may be told.
    pub fn address(&self, address: Addr) -> Addr {
        if self.addresses == Addresses::Keep || self.covered.contains(address.ip()) {
            return address;
        }
        match (self.addresses, address.ip().to_canonical()) {
            (Addresses::Keep, _) => address,
            (Addresses::Drop, IpAddr::V4(_)) => Ipv4Addr::UNSPECIFIED.into(),
            (Addresses::Drop, IpAddr::V6(_)) => Addr([0; 16]),
            (Addresses::Prefix, address) => prefix::of(address).network().into(),
            (Addresses::Hash, _) => {
                let mut hasher = SipHasher24::new_with_key(&self.key.0);
                hasher.write(b"address");
                hasher.write(&address.0);
                let [a, b, c, d, e, f, g, h] = hasher.finish().to_be_bytes();
                Addr([1, 0, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f, g, h])
            }
        }
    }

    /// An end as it may be told; its port is a service's, and stays.
    pub fn endpoint(&self, endpoint: Endpoint) -> Endpoint {
        Endpoint { addr: self.address(endpoint.addr), ..endpoint }
    }

    fn tuple(&self, tuple: &mut Tuple, role: Role) {
        if role != Role::Server {
            tuple.dst = self.endpoint(tuple.dst);
        }
        if role != Role::Client {
            tuple.src = self.endpoint(tuple.src);
        }
    }

    fn hide_addresses(&self, attempt: &mut Attempt) {
        let role = attempt.role;
        if let Some(client) = &mut attempt.client {
            self.tuple(&mut client.tuple, role);
            client.asked = client.asked.map(|asked| self.endpoint(asked));
        }
        if let Some(server) = &mut attempt.server {
            self.tuple(&mut server.tuple, role);
        }
        attempt.sightings.iter_mut().for_each(|sighting| self.tuple(&mut sighting.tuple, role));
        attempt.wire.iter_mut().for_each(|tuple| self.tuple(tuple, role));
        for step in &mut attempt.steps {
            if let StoryStep::Syn { tuple, .. } = &mut step.step {
                self.tuple(tuple, role);
            }
        }
        if let Some(owner) = &mut attempt.previous_owner {
            self.tuple(&mut owner.tuple, role);
            owner.wire.iter_mut().for_each(|tuple| self.tuple(tuple, role));
        }
        if let Some(competitor) = &mut attempt.facts.competitor {
            self.tuple(&mut competitor.tuple, role);
            competitor.wire.iter_mut().for_each(|tuple| self.tuple(tuple, role));
        }
        if let Some(icmp) = &mut attempt.facts.icmp {
            icmp.from = self.address(icmp.from);
        }
    }

    fn hide_owner(&self, described: &mut Described) {
        const OF_NAMESPACE: [&str; 2] = [attribute::SERVICE_NAMESPACE, attribute::K8S_NAMESPACE_NAME];
        let namespaces = |identity: &Arc<Identity>| {
            let kept = identity.attributes.iter().filter(|(name, _)| OF_NAMESPACE.contains(&&**name));
            Arc::new(Identity::new(kept.cloned()))
        };
        let namespace = self.owner == Owner::Namespace;
        described.previous_owner = described.previous_owner.as_ref().filter(|_| namespace).map(namespaces);
        let nobody = Endpoint::default();
        if let Some(owner) = &mut described.attempt.previous_owner {
            // With no serial there is neither a link nor an id.
            owner.serial = 0;
            owner.process = None;
            owner.tuple.src = nobody;
            owner.wire = owner.wire.filter(|_| namespace);
        }
        // The other one of a race is another tenant as well.
        described.attempt.facts.competitor = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::decoded;
    use crate::encode::spans::{Encoder, Options};
    use crate::encode::{explanation, logs};
    use crate::identify::fixtures;
    use crate::track::trace_id::DEFAULT_KEY;

    fn privacy(addresses: Addresses, owner: Owner) -> Privacy {
        let covered = Covered::new(["10.244.0.0/16".parse().expect("prefix")]);
        Privacy { addresses, owner, covered, key: DEFAULT_KEY }
    }

    /// All that goes out of an attempt, as text.
    fn told(described: &Described) -> String {
        let options = Options {
            node_name: "node-1".into(),
            covered: Covered::default(),
            internal_kind: false,
            id_key: DEFAULT_KEY,
            replay: false,
        };
        let encoder = Encoder::new(options);
        let spans = encoder.encode(described);
        let record = encoder.record(described, &encoder.facts(described), true);
        format!("{spans:?}{:?}{}", decoded::logs(record.as_slice()), logs::line(described))
    }

    #[test]
    fn a_peers_address_is_in_nothing_that_goes_out() {
        let described = fixtures::case();
        assert!(told(&described).contains("192.168.50.20"));
        for (addresses, instead) in
            [(Addresses::Prefix, "192.168.50.0"), (Addresses::Hash, "100::"), (Addresses::Drop, "8443")]
        {
            let told = told(&privacy(addresses, Owner::Full).apply(&described));
            assert!(!told.contains("192.168.50.20") && told.contains(instead), "{addresses:?}: {told}");
            assert!(told.contains("10.244.1.12"), "a covered one stays");
        }
    }

    #[test]
    fn hashes_keep_equal_ones_equal_and_others_apart() {
        let hash = |text: &str| privacy(Addresses::Hash, Owner::Full).endpoint(fixtures::endpoint(text)).addr;
        assert_eq!(hash("192.0.2.1:1"), hash("192.0.2.1:2"));
        assert_ne!(hash("192.0.2.1:1"), hash("192.0.2.2:1"));
        let other = Privacy { key: IdKey([1; 16]), ..privacy(Addresses::Hash, Owner::Full) };
        assert_ne!(hash("192.0.2.1:1"), other.address(fixtures::endpoint("192.0.2.1:1").addr));
    }

    #[test]
    fn one_tenant_is_not_shown_to_another() {
        let described = fixtures::case();
        assert!(explanation(&described).expect("explained").contains("shop/cart"));
        let owner = described.attempt.previous_owner.as_ref().expect("owner");
        let trace = owner.trace.0.to_vec();
        for (level, namespace) in [(Owner::Namespace, true), (Owner::Redacted, false)] {
            let hidden = privacy(Addresses::Keep, level).apply(&described).into_owned();
            let told = told(&hidden);
            assert!(!told.contains("cart") && !told.contains(&owner.tuple.src.to_string()), "{told}");
            assert!(!told.contains(&format!("{trace:?}")) && !told.contains(&owner.trace.to_string()));
            assert_eq!(told.contains("synspan.previous_owner.service.namespace"), namespace);
            assert!(told.contains("synspan.previous_owner.gap"));
        }
    }
}
