//! Which Service is behind a cluster address, or in front of a pod's, at a time.
//!
//! A cluster address is one Service's for as long as that Service is there. A pod's address is known by the endpoint
//! slices (a headless Service has no address of its own), as far as it is in slices of one Service only.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::api::{self, map};
use super::tenure::{Claim, Held, Tenures};
use super::text;
use crate::capture::observation::Mono;
use crate::identify::node::Node;
use crate::identify::{Answer, End, Identify, Identity};
use crate::names::attribute::{K8S_NAMESPACE_NAME, K8S_SERVICE_NAME, SERVICE_NAME, SERVICE_NAMESPACE};

/// Most Services remembered after they are gone; the oldest go first.
const MAX_GONE: usize = 512;
/// The label of a slice that names its Service (`staging/src/k8s.io/api/discovery/v1/well_known_labels.go`).
const OF_SERVICE: &str = "kubernetes.io/service-name";

/// The Services of a cluster.
pub struct Services {
    node: Node,
    known: HashMap<Arc<str>, Arc<Identity>>,
    gone: VecDeque<Arc<str>>,
    tenures: Tenures,
    slices: HashMap<Arc<str>, Slice>,
    behind: HashMap<IpAddr, Behind>,
}

/// A slice: its Service, and the addresses behind that.
struct Slice {
    service: Arc<Identity>,
    addresses: Vec<IpAddr>,
}

/// The Services that an address is behind, once for each slice, and since when it is these.
struct Behind {
    services: Vec<Arc<Identity>>,
    since: Mono,
}

impl Services {
    /// None yet.
    pub fn new(node: Node) -> Self {
        Self {
            node,
            known: HashMap::new(),
            gone: VecDeque::new(),
            tenures: Tenures::default(),
            slices: HashMap::new(),
            behind: HashMap::new(),
        }
    }

    /// The API says that a Service is there, or has changed; it has been since `made`. Returns its uid.
    pub fn apply(&mut self, object: &api::Service, made: Option<Mono>, now: Mono) -> Option<Arc<str>> {
        let meta = &object.metadata;
        let uid: Arc<str> = meta.uid.as_deref().filter(|uid| !uid.is_empty())?.into();
        let identity = self.identity(meta.namespace.as_deref()?, meta.name.as_deref()?);
        // A headless Service says `None`.
        let all = object.spec.cluster_ips.iter().chain(object.spec.cluster_ip.as_ref());
        let addresses: Vec<IpAddr> =
            all.filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical()).collect();
        self.tenures.keep_only(&uid, &addresses, now);
        let from = made.map_or(now, |made| made.min(now));
        for &address in &addresses {
            self.tenures.claim(address, &uid, Claim { from, networked: from, gap: false }, now);
        }
        self.gone.retain(|gone| *gone != uid);
        self.known.insert(Arc::clone(&uid), identity);
        Some(uid)
    }

    /// The API says that a Service is gone.
    pub fn delete(&mut self, uid: &str, now: Mono) {
        let Some((uid, _)) = self.known.get_key_value(uid) else { return };
        let uid = Arc::clone(uid);
        self.tenures.keep_only(&uid, &[], now);
        if !self.gone.contains(&uid) {
            self.gone.push_back(uid);
        }
        while self.gone.len() > MAX_GONE {
            if let Some(oldest) = self.gone.pop_front() {
                self.known.remove(&oldest);
                self.tenures.forget(&oldest);
            }
        }
    }

    /// A new list of Services is complete.
    pub fn keep_only(&mut self, listed: &HashSet<Arc<str>>, now: Mono) {
        let missing: Vec<_> = self.known.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().for_each(|uid| self.delete(uid, now));
    }

    /// The API says that a slice is there, or has changed. Returns its uid.
    pub fn apply_slice(&mut self, object: &api::EndpointSlice, now: Mono) -> Option<Arc<str>> {
        let meta = &object.metadata;
        let uid: Arc<str> = meta.uid.as_deref().filter(|uid| !uid.is_empty())?.into();
        let Some(name) = map(meta.labels.as_ref()).get(OF_SERVICE).filter(|name| !name.is_empty()) else {
            // Somebody else's, of no Service.
            self.delete_slice(&uid, now);
            return Some(uid);
        };
        let service = self.identity(meta.namespace.as_deref()?, name);
        let all = object.endpoints.iter().flat_map(|endpoint| &endpoint.addresses);
        // Slices of the type FQDN have names.
        let mut addresses: Vec<IpAddr> =
            all.filter_map(|text| text.parse::<IpAddr>().ok()).map(|address| address.to_canonical()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        match self.slices.get(&uid) {
            Some(before) if before.service == service && before.addresses == addresses => return Some(uid),
            Some(_) => self.delete_slice(&uid, now),
            None => {}
        }
        for &address in &addresses {
            let behind = self.behind.entry(address).or_insert_with(|| Behind { services: Vec::new(), since: now });
            if !behind.services.contains(&service) {
                behind.since = now;
            }
            behind.services.push(Arc::clone(&service));
        }
        self.slices.insert(Arc::clone(&uid), Slice { service, addresses });
        Some(uid)
    }

    /// The API says that a slice is gone.
    pub fn delete_slice(&mut self, uid: &str, now: Mono) {
        let Some(slice) = self.slices.remove(uid) else { return };
        for address in slice.addresses {
            let Some(behind) = self.behind.get_mut(&address) else { continue };
            if let Some(at) = behind.services.iter().position(|service| *service == slice.service) {
                behind.services.swap_remove(at);
                if !behind.services.contains(&slice.service) {
                    behind.since = now;
                }
            }
            if behind.services.is_empty() {
                self.behind.remove(&address);
            }
        }
    }

    /// A new list of slices is complete.
    pub fn keep_only_slices(&mut self, listed: &HashSet<Arc<str>>, now: Mono) {
        let missing: Vec<_> = self.slices.keys().filter(|uid| !listed.contains(*uid)).cloned().collect();
        missing.iter().for_each(|uid| self.delete_slice(uid, now));
    }

    /// The Service whose address that was, or the only one in front of it.
    pub fn at(&self, address: IpAddr, at: Mono) -> Option<Arc<Identity>> {
        let address = address.to_canonical();
        match self.tenures.holder(address, at, |_| true) {
            Held::By(uid) => self.known.get(&uid).cloned(),
            Held::InDoubt => None,
            Held::ByNobody => {
                let behind = self.behind.get(&address).filter(|behind| behind.since <= at)?;
                let first = behind.services.first()?;
                behind.services.iter().all(|service| service == first).then(|| Arc::clone(first))
            }
        }
    }

    fn identity(&self, namespace: &str, name: &str) -> Arc<Identity> {
        let (namespace, name) = (text::value(namespace), text::value(name));
        Arc::new(self.node.anywhere([
            (SERVICE_NAME, &*name),
            (SERVICE_NAMESPACE, &*namespace),
            (K8S_NAMESPACE_NAME, &*namespace),
            (K8S_SERVICE_NAME, &*name),
        ]))
    }
}

/// Services as a source of identities, of destinations alone.
pub struct ServiceNames(pub Arc<Mutex<Services>>);

impl Identify for ServiceNames {
    fn identify(&self, end: &End<'_>, at: Mono) -> Answer {
        let services = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Answer::of(end.address.and_then(|address| services.at(address, at)))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn services() -> Services {
        Services::new(Node::new("node-a", true, &[]))
    }

    fn at(seconds: u64) -> Mono {
        Mono(seconds * 1_000_000_000)
    }

    fn service(uid: &str, name: &str, address: &str) -> api::Service {
        serde_json::from_value(json!({
            "metadata": {"name": name, "namespace": "shop", "uid": uid},
            "spec": {"clusterIP": address, "clusterIPs": [address]},
        }))
        .expect("service")
    }

    fn slice(uid: &str, service: Option<&str>, addresses: &[&str]) -> api::EndpointSlice {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "shop", "uid": uid,
                "labels": service.map(|service| json!({"kubernetes.io/service-name": service}))},
            "endpoints": [{"addresses": addresses}, {"addresses": null}],
        }))
        .expect("slice")
    }

    fn name(services: &Services, address: &str, seconds: u64) -> Option<String> {
        services.at(address.parse().expect("address"), at(seconds)).and_then(|found| found.display_name())
    }

    #[test]
    fn a_cluster_address_is_its_services_while_that_is_there() {
        let mut services = services();
        services.apply(&service("s-1", "account", "10.96.0.10"), Some(at(5)), at(10));
        assert_eq!(name(&services, "10.96.0.10", 4), None);
        assert_eq!(name(&services, "::ffff:10.96.0.10", 6).as_deref(), Some("shop/account"));
        services.delete("s-1", at(20));
        services.apply(&service("s-2", "cart", "10.96.0.10"), Some(at(21)), at(22));
        assert_eq!(name(&services, "10.96.0.10", 19).as_deref(), Some("shop/account"));
        assert_eq!(name(&services, "10.96.0.10", 23).as_deref(), Some("shop/cart"));
        services.keep_only(&HashSet::new(), at(30));
        assert_eq!(name(&services, "10.96.0.10", 31), None);
    }

    #[test]
    fn a_pods_address_is_the_only_service_in_front_of_it_from_when_it_was_told() {
        let mut services = services();
        services.apply(&service("s-1", "db", "None"), None, at(1));
        services.apply_slice(&slice("e-1", Some("db"), &["10.244.2.11", "db.example"]), at(10));
        assert_eq!(name(&services, "10.244.2.11", 9), None);
        assert_eq!(name(&services, "10.244.2.11", 11).as_deref(), Some("shop/db"));
        // Told again, nothing changes; a second Service makes it nobody's.
        services.apply_slice(&slice("e-1", Some("db"), &["10.244.2.11"]), at(12));
        assert_eq!(name(&services, "10.244.2.11", 11).as_deref(), Some("shop/db"));
        services.apply_slice(&slice("e-2", Some("db-read"), &["10.244.2.11"]), at(13));
        assert_eq!(name(&services, "10.244.2.11", 14), None);
        services.delete_slice("e-2", at(15));
        assert_eq!(name(&services, "10.244.2.11", 16).as_deref(), Some("shop/db"));
        services.keep_only_slices(&HashSet::new(), at(20));
        assert!(services.behind.is_empty() && services.slices.is_empty());
    }

    #[test]
    fn two_slices_of_one_service_are_one_and_a_slice_of_none_says_nothing() {
        let mut services = services();
        services.apply_slice(&slice("e-1", Some("db"), &["10.244.2.11"]), at(10));
        services.apply_slice(&slice("e-2", Some("db"), &["10.244.2.11"]), at(20));
        assert_eq!(name(&services, "10.244.2.11", 15).as_deref(), Some("shop/db"));
        services.delete_slice("e-1", at(21));
        assert_eq!(name(&services, "10.244.2.11", 15).as_deref(), Some("shop/db"));
        services.apply_slice(&slice("e-2", None, &["10.244.2.11"]), at(30));
        assert_eq!(name(&services, "10.244.2.11", 40), None);
    }

    #[test]
    fn services_that_went_are_forgotten_in_the_end() {
        let mut services = services();
        for n in 0..u64::try_from(MAX_GONE).expect("fits") + 10 {
            let uid = n.to_string();
            services.apply(&service(&uid, "web", "10.96.0.10"), None, at(n));
            services.delete(&uid, at(n));
        }
        assert_eq!(services.known.len(), MAX_GONE);
    }
}
