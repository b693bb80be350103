//! Whether tunnels carry anything: a probe goes from each end to the other, and has to arrive.
//!
//! A tunnel has no state of its own that could be asked for: an underlay that does not carry it is silence. So each
//! switch is asked now and then to send a small frame to each far end, and the switch there tells that it came. The
//! first probe goes out before anybody needs the tunnel, so that the switch has found its neighbour by then.

use bulkhead_dataplane::Probe;
use bulkhead_policy::overlay::Tunnel;
use bulkhead_topology::{Name, Port};
use std::{
    collections::{BTreeMap, BTreeSet, hash_map::RandomState},
    hash::BuildHasher,
    net::IpAddr,
    time::Duration,
};
use tracing::{info, warn};

/// How often each tunnel is probed, in each direction.
const EVERY: Duration = Duration::from_secs(5);
/// Probes a second of all switches together, at most: with more tunnels than that takes, each is probed less often. A
/// probe costs a message and a packet on either side.
const PER_SECOND: u64 = 2_000;
/// So many probes in a row must be lost before a tunnel counts as down: one may be lost while the switch looks for its
/// neighbour, another one to a busy link.
const LOST: u32 = 3;

/// How a tunnel is, in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelState {
    /// Not known: one of its ends is not connected, or it has not been probed yet.
    Unknown,
    /// The last probes arrived.
    Up,
    /// They did not.
    Down,
}

/// A tunnel from one switch, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelView {
    /// The switch at the other end.
    pub to: Name,
    /// The overlay port that it uses.
    pub port: &'static str,
    /// The VTEP address there.
    pub far: IpAddr,
    /// How it is.
    pub state: TunnelState,
}

/// From, to, and by which overlay port.
type Ends = (Name, Name, &'static str);

struct Way {
    near: IpAddr,
    far: IpAddr,
    /// What the probe under way says.
    token: u64,
    /// Probes sent since one arrived.
    lost: u32,
    state: TunnelState,
}

/// All tunnels.
#[derive(Default)]
pub(crate) struct Tunnels {
    ways: BTreeMap<Ends, Way>,
    /// By token: whose probe it is.
    tokens: BTreeMap<u64, Ends>,
    /// Makes numbers that nobody can guess.
    secret: RandomState,
    count: u64,
    due: Option<Duration>,
}

impl Tunnels {
    /// These are the tunnels now; new ones are probed at once.
    pub(crate) fn set(&mut self, tunnels: BTreeMap<(Name, Name), BTreeSet<Tunnel>>, now: Duration) {
        let mut before = std::mem::take(&mut self.ways);
        let mut new = false;
        for ((from, to), tunnels) in tunnels {
            for Tunnel { kind, near, far } in tunnels {
                let ends = (from.clone(), to.clone(), kind.port());
                let same = before.remove(&ends).filter(|way| (way.near, way.far) == (near, far));
                new |= same.is_none();
                let fresh = Way { near, far, token: 0, lost: 0, state: TunnelState::Unknown };
                self.ways.insert(ends, same.unwrap_or(fresh));
            }
        }
        self.tokens.retain(|_, ends| self.ways.contains_key(ends));
        self.due = match self.due {
            _ if self.ways.is_empty() => None,
            Some(due) if !new => Some(due),
            _ => Some(now),
        };
    }

    /// When [`Self::probes`] is to be asked.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        self.due
    }

    /// A switch has come: its tunnels are probed soon.
    pub(crate) fn connected(&mut self, now: Duration) {
        if self.due.is_some() {
            self.due = Some(now);
        }
    }

    /// The probes that are due, by the switch that is to send them. `connected` says whether a switch can be asked.
    pub(crate) fn probes(&mut self, connected: impl Fn(&Name) -> bool, now: Duration) -> BTreeMap<Name, Vec<Probe>> {
        let mut probes: BTreeMap<Name, Vec<Probe>> = BTreeMap::new();
        if self.due.is_none_or(|due| now < due) {
            return probes;
        }
        self.tokens.clear();
        for (ends, way) in &mut self.ways {
            let (from, to, port) = ends;
            if !connected(from) || !connected(to) {
                (way.lost, way.state) = (0, TunnelState::Unknown);
                continue;
            }
            if way.lost >= LOST && way.state != TunnelState::Down {
                warn!(%from, %to, %port, vtep = %way.far, "a tunnel is down: {LOST} probes in a row did not arrive");
                way.state = TunnelState::Down;
            }
            way.lost = way.lost.saturating_add(1);
            self.count += 1;
            way.token = self.secret.hash_one((ends, self.count));
            self.tokens.insert(way.token, ends.clone());
            let probe = Probe { port: Port::Name((*port).into()), to: way.far, token: way.token };
            probes.entry(from.clone()).or_default().push(probe);
        }
        let spread = Duration::from_millis(self.ways.len() as u64 * 1000 / PER_SECOND);
        self.due = Some(now + EVERY.max(spread));
        probes
    }

    /// A switch tells of a probe that came there.
    pub(crate) fn heard(&mut self, at: &Name, token: u64, from: IpAddr) {
        // Anybody in the underlay can send one: only what was sent, from where it was sent, says anything.
        let Some(ends) = self.tokens.get(&token).filter(|ends| ends.1 == *at) else { return };
        let Some(way) = self.ways.get_mut(ends).filter(|way| way.near == from) else { return };
        if way.state == TunnelState::Down {
            info!(from = %ends.0, to = %ends.1, port = %ends.2, vtep = %way.far, "a tunnel is up again");
        }
        (way.lost, way.state) = (0, TunnelState::Up);
    }

    /// Every tunnel by the switch that it begins at, as operators see it.
    pub(crate) fn views(&self) -> BTreeMap<Name, Vec<TunnelView>> {
        let mut views: BTreeMap<Name, Vec<TunnelView>> = BTreeMap::new();
        for ((from, to, port), way) in &self.ways {
            let view = TunnelView { to: to.clone(), port, far: way.far, state: way.state };
            views.entry(from.clone()).or_default().push(view);
        }
        views
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;
    use bulkhead_policy::overlay::TunnelKind;

    fn tunnels() -> (Tunnels, Name, Name) {
        let (a, b): (Name, Name) = ("hv1".parse().unwrap(), "hv2".parse().unwrap());
        let [near, far] = [1, 2].map(|last| IpAddr::from([192, 0, 2, last]));
        let way = |near, far| BTreeSet::from([Tunnel { kind: TunnelKind::Geneve, near, far }]);
        let mut tunnels = Tunnels::default();
        let pairs = [((a.clone(), b.clone()), way(near, far)), ((b.clone(), a.clone()), way(far, near))];
        tunnels.set(pairs.into(), Duration::ZERO);
        (tunnels, a, b)
    }

    fn state(tunnels: &Tunnels, from: &Name) -> TunnelState {
        tunnels.views()[from][0].state
    }

    #[test]
    fn a_tunnel_is_up_while_probes_arrive_and_down_after_three_that_do_not() {
        let (mut tunnels, a, b) = tunnels();
        assert_eq!(tunnels.deadline(), Some(Duration::ZERO), "new tunnels are probed at once");
        let probes = tunnels.probes(|_| true, Duration::ZERO);
        let token = probes[&a][0].token;
        assert_ne!(token, probes[&b][0].token);
        tunnels.heard(&b, token, [192, 0, 2, 1].into());
        assert_eq!((state(&tunnels, &a), state(&tunnels, &b)), (TunnelState::Up, TunnelState::Unknown));
        let mut now = EVERY;
        for _ in 0..LOST {
            assert_eq!(state(&tunnels, &a), TunnelState::Up);
            assert_eq!(tunnels.probes(|_| true, now).len(), 2);
            now += EVERY;
        }
        let probes = tunnels.probes(|_| true, now);
        assert_eq!(state(&tunnels, &a), TunnelState::Down);
        tunnels.heard(&b, probes[&a][0].token, [192, 0, 2, 1].into());
        assert_eq!(state(&tunnels, &a), TunnelState::Up);
    }

    #[test]
    fn a30_nobody_in_the_underlay_can_pretend_that_a_tunnel_is_up() {
        let (mut tunnels, a, b) = tunnels();
        let first = tunnels.probes(|_| true, Duration::ZERO)[&a][0].token;
        // Guessed; from elsewhere; at another switch; of before.
        tunnels.heard(&b, first ^ 1, [192, 0, 2, 1].into());
        tunnels.heard(&b, first, [192, 0, 2, 9].into());
        tunnels.heard(&a, first, [192, 0, 2, 1].into());
        assert_eq!(state(&tunnels, &a), TunnelState::Unknown);
        tunnels.probes(|_| true, EVERY);
        tunnels.heard(&b, first, [192, 0, 2, 1].into());
        assert_eq!(state(&tunnels, &a), TunnelState::Unknown);
    }

    #[test]
    fn of_a_switch_that_is_away_nothing_is_said() {
        let (mut tunnels, a, b) = tunnels();
        let probes = tunnels.probes(|_| true, Duration::ZERO);
        tunnels.heard(&b, probes[&a][0].token, [192, 0, 2, 1].into());
        assert!(tunnels.probes(|name| *name == a, EVERY).is_empty());
        assert_eq!(state(&tunnels, &a), TunnelState::Unknown);
    }
}
