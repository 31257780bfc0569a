//! Observation points of a capture file: what they are called, what they are to the node, and which way
//! a SYN goes there.

use std::collections::HashMap;
use std::sync::Arc;

use super::file::FileInterface;
use super::packet::Tunnel;
use crate::capture::observation::{Direction, Interface, PointKind};

/// Most points of a file: their numbers come from the file, which may hold anything.
const MOST_POINTS: u32 = 1_024;

/// What the command line says of a file's points.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PointRule {
    /// What they are.
    pub kind: PointKind,
    /// The interface's name: it picks one where the file names its interfaces, and names it where not.
    pub name: Option<String>,
}

/// What tells the points of a file apart, beside the interface's name.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// The interface's number in the file.
    pub interface: u32,
    /// The interface's number on the machine that captured, where the frame tells it.
    pub ifindex: Option<u32>,
    /// VLAN tags: the same packet with and without one is seen at a parent and at its child.
    pub vlans: u64,
    /// The tunnel whose inside this is.
    pub tunnel: Option<Tunnel>,
}

/// A point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// Its number, unique among all files of a replay.
    pub number: u32,
    /// Name and kind.
    pub interface: Interface,
    /// The capture was made at the pod's own end, so that what goes out there comes in at the node's.
    turned: bool,
}

/// The points of one file.
pub struct Points {
    first: u32,
    stem: String,
    rules: Vec<PointRule>,
    by_place: HashMap<Place, usize>,
    by_name: HashMap<(Arc<str>, u64, Option<Tunnel>), usize>,
    points: Vec<Point>,
    last: Option<(Place, usize)>,
}

impl Points {
    /// The points of the `file`-th file, whose name without its ending is `stem`.
    pub fn new(file: u32, stem: &str, rules: Vec<PointRule>) -> Self {
        Self {
            // 0 is no interface.
            first: file * MOST_POINTS + 1,
            stem: stem.to_owned(),
            rules,
            by_place: HashMap::new(),
            by_name: HashMap::new(),
            points: Vec::new(),
            last: None,
        }
    }

    /// The point of a place, and whether it is new.
    pub fn at(&mut self, place: Place, interface: &FileInterface) -> (&Point, bool) {
        if let Some((_, at)) = self.last.filter(|(last, _)| *last == place) {
            return (&self.points[at], false);
        }
        let known = self.points.len();
        let at = match self.by_place.get(&place) {
            Some(&at) => at,
            None => {
                let at = self.find(place, interface);
                if self.by_place.len() < 4 * MOST_POINTS as usize {
                    self.by_place.insert(place, at);
                }
                at
            }
        };
        self.last = Some((place, at));
        (&self.points[at], self.points.len() > known)
    }

    /// The point by its name, so that a section that describes an interface again makes no new one.
    fn find(&mut self, place: Place, interface: &FileInterface) -> usize {
        let point = self.describe(place, interface);
        let key = (point.interface.name.clone(), place.vlans, place.tunnel);
        if let Some(&at) = self.by_name.get(&key) {
            return at;
        }
        if self.points.len() >= MOST_POINTS as usize {
            return self.points.len() - 1;
        }
        self.points.push(point);
        self.by_name.insert(key, self.points.len() - 1);
        self.points.len() - 1
    }

    fn describe(&self, place: Place, interface: &FileInterface) -> Point {
        // "any" is all interfaces together, and says nothing.
        let own = interface.name.clone().filter(|name| !name.is_empty() && name != "any");
        let own = own.or_else(|| place.ifindex.map(|index| format!("if{index}")));
        let named = |rule: &&PointRule| rule.name.is_some() && rule.name == own;
        let rule = self
            .rules
            .iter()
            .find(named)
            .or_else(|| self.rules.iter().find(|rule| rule.name.is_none() || own.is_none()));
        let own_kind = own.as_deref().and_then(kind_of);
        let kind = rule.map(|rule| rule.kind).or(own_kind).or_else(|| kind_of(&self.stem));
        let kind = kind.unwrap_or(PointKind::NodeNic);
        let turned = kind == PointKind::PodNic && own_kind == Some(PointKind::NodeNic);
        let name = own.or_else(|| rule.and_then(|rule| rule.name.clone())).unwrap_or_else(|| self.stem.clone());
        let (name, kind) = match place.tunnel {
            None => (name, kind),
            Some(tunnel) => (format!("{name}/{}", tunnel_name(tunnel)), PointKind::Overlay),
        };
        let number = self.first + self.points.len() as u32;
        Point { number, interface: Interface { name: Arc::from(name), kind }, turned }
    }
}

impl Point {
    /// The direction that the file itself tells, as it is from the node's side.
    pub fn told(&self, direction: Option<Direction>) -> Option<Direction> {
        if self.turned { direction.map(Direction::opposite) } else { direction }
    }

    /// Which way a SYN goes that nothing tells of, by how far it has come: the node takes one from its
    /// time to live before it passes it on. At a pod's interface an untouched one comes from the pod; at
    /// others, one that came over more than this node's own hop is from outside.
    pub fn syn_direction(&self, ttl: u8) -> Direction {
        let sent = match ttl {
            0..=64 => 64,
            65..=128 => 128,
            _ => 255,
        };
        let hops = sent - ttl;
        let enters = match self.interface.kind {
            PointKind::PodNic => hops == 0,
            PointKind::NodeNic | PointKind::Overlay => hops > 1,
        };
        if enters { Direction::Ingress } else { Direction::Egress }
    }
}

fn tunnel_name(tunnel: Tunnel) -> String {
    match tunnel {
        Tunnel::Vxlan(network) => format!("vxlan{network}"),
        Tunnel::Geneve(network) => format!("geneve{network}"),
        Tunnel::Gre => "gre".to_owned(),
        Tunnel::Ip => "ipip".to_owned(),
    }
}

/// What an interface's or a file's name says of the kind, if it says anything.
fn kind_of(name: &str) -> Option<PointKind> {
    const KINDS: [(PointKind, &[&str]); 3] = [
        (PointKind::PodNic, &["pod_nic", "veth", "cali", "lxc", "eni", "gke", "azv"]),
        (
            PointKind::Overlay,
            &["overlay", "vxlan", "geneve", "genev_", "flannel", "cilium_", "tunl", "ipip", "gre", "sit", "wg"],
        ),
        (PointKind::NodeNic, &["node_nic", "eth", "en", "bond", "wl"]),
    ];
    KINDS.iter().find(|(_, starts)| starts.iter().any(|start| name.starts_with(start))).map(|&(kind, _)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place { interface: 0, ifindex: None, vlans: 0, tunnel: None }
    }

    fn interface(name: Option<&str>) -> FileInterface {
        FileInterface::for_tests(name)
    }

    fn seen(stem: &str, rules: &[(PointKind, Option<&str>)], own: Option<&str>) -> (String, &'static str) {
        let rules = rules.iter().map(|&(kind, name)| PointRule { kind, name: name.map(str::to_owned) }).collect();
        let mut points = Points::new(0, stem, rules);
        let (point, _) = points.at(place(), &interface(own));
        (point.interface.name.to_string(), point.interface.kind.as_str())
    }

    #[test]
    fn names_tell_the_kind_where_nobody_else_does() {
        assert_eq!(seen("veth-b", &[], None), ("veth-b".into(), "pod_nic"));
        assert_eq!(seen("trace", &[], Some("cali1234")), ("cali1234".into(), "pod_nic"));
        assert_eq!(seen("trace", &[], Some("any")), ("trace".into(), "node_nic"));
        assert_eq!(seen("eth0", &[], None), ("eth0".into(), "node_nic"));
        assert_eq!(seen("x", &[], Some("flannel.1")), ("flannel.1".into(), "overlay"));
        assert_eq!(seen("pod_nic-veth", &[], None), ("pod_nic-veth".into(), "pod_nic"));
    }

    #[test]
    fn the_command_line_goes_first() {
        let pod = (PointKind::PodNic, None);
        assert_eq!(seen("eth0", &[pod], None), ("eth0".into(), "pod_nic"));
        assert_eq!(seen("x", &[(PointKind::PodNic, Some("veth-b"))], None), ("veth-b".into(), "pod_nic"));
        let both = [(PointKind::PodNic, Some("br0")), (PointKind::Overlay, Some("tun9"))];
        assert_eq!(seen("x", &both, Some("tun9")), ("tun9".into(), "overlay"));
        assert_eq!(seen("x", &both, Some("ens3")), ("ens3".into(), "node_nic"));
    }

    #[test]
    fn a_capture_made_inside_the_pod_is_turned_round() {
        let rule = PointRule { kind: PointKind::PodNic, name: None };
        let mut points = Points::new(0, "x", vec![rule]);
        let (inside, _) = points.at(place(), &interface(Some("eth0")));
        assert_eq!(inside.told(Some(Direction::Egress)), Some(Direction::Ingress));
        let (host, new) = points.at(Place { interface: 1, ..place() }, &interface(Some("veth1")));
        assert!(new);
        assert_eq!(host.told(Some(Direction::Egress)), Some(Direction::Egress));
    }

    #[test]
    fn tags_and_tunnels_are_points_of_their_own_and_sections_are_not() {
        let mut points = Points::new(1, "eth0", Vec::new());
        let number = |points: &mut Points, place| points.at(place, &interface(None)).0.number;
        let bare = number(&mut points, place());
        assert_eq!(number(&mut points, Place { interface: 7, ..place() }), bare);
        let tagged = number(&mut points, Place { vlans: 0x1064, ..place() });
        let tunnel = Place { tunnel: Some(Tunnel::Vxlan(42)), ..place() };
        let inside = number(&mut points, tunnel);
        assert!(bare != tagged && tagged != inside && bare > MOST_POINTS);
        let (point, new) = points.at(tunnel, &interface(None));
        assert_eq!((&*point.interface.name, point.interface.kind, new), ("eth0/vxlan42", PointKind::Overlay, false));
    }

    #[test]
    fn the_way_of_a_syn_follows_from_how_far_it_came() {
        let at = |stem: &str, ttl| Points::new(0, stem, Vec::new()).at(place(), &interface(None)).0.syn_direction(ttl);
        assert_eq!(at("veth1", 64), Direction::Ingress);
        assert_eq!(at("veth1", 63), Direction::Egress);
        assert_eq!(at("eth0", 63), Direction::Egress);
        assert_eq!(at("eth0", 57), Direction::Ingress);
        assert_eq!(at("eth0", 128), Direction::Egress);
    }

    #[test]
    fn any_number_of_interfaces_is_bounded() {
        let mut points = Points::new(0, "x", Vec::new());
        for index in 0..20_000 {
            points.at(Place { ifindex: Some(index), ..place() }, &interface(None));
        }
        assert!(points.points.len() <= MOST_POINTS as usize && points.by_place.len() <= 4 * MOST_POINTS as usize);
    }
}
