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
/// How soon a tunnel that was probed for the first time is probed again: the switch looks for its neighbour then, and
/// the first probe may be lost to that.
const AGAIN: Duration = Duration::from_millis(250);
/// Most probes within so long: 2,000 a second of all switches together, whatever happens to them. With more tunnels than
/// that takes, each is probed less often. A probe costs a message and a packet on either side.
const AT_ONCE: usize = 200;
const BETWEEN: Duration = Duration::from_millis(100);
/// So many probes in a row must be lost before a tunnel counts as down: one may be lost while the switch looks for its
/// neighbour, another one to a busy link.
const LOST: u32 = 3;

/// A probe that was sent a shorter time ago may still be on its way.
const PATIENCE: Duration = Duration::from_secs(2);

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
    /// What the last probe said.
    token: u64,
    /// Probes sent since one arrived.
    lost: u32,
    state: TunnelState,
    /// When it was probed last, and is next.
    sent: Duration,
    due: Duration,
}

/// All tunnels.
#[derive(Default)]
pub(crate) struct Tunnels {
    ways: BTreeMap<Ends, Way>,
    /// Those that begin or end at a switch.
    at: BTreeMap<Name, BTreeSet<Ends>>,
    /// The same, by when they are probed next.
    due: BTreeSet<(Duration, Ends)>,
    /// By token: whose last probe it is.
    tokens: BTreeMap<u64, Ends>,
    /// Makes numbers that nobody can guess.
    secret: RandomState,
    count: u64,
    /// When the first of the last probes were sent that count together, and how many these are: at most [`AT_ONCE`]
    /// within [`BETWEEN`].
    round: (Duration, usize),
}

impl Tunnels {
    /// Between these switches there are these tunnels now, and between others what there was; new ones are probed at once.
    pub(crate) fn set(&mut self, tunnels: BTreeMap<(Name, Name), BTreeSet<Tunnel>>, now: Duration) {
        for ((from, to), tunnels) in tunnels {
            let before = self.ways.range((from.clone(), to.clone(), "")..);
            let before = before.take_while(|((a, b, _), _)| (a, b) == (&from, &to));
            let mut gone: BTreeMap<Ends, [IpAddr; 2]> =
                before.map(|(ends, way)| (ends.clone(), [way.near, way.far])).collect();
            for Tunnel { kind, near, far } in tunnels {
                let ends = (from.clone(), to.clone(), kind.port());
                if gone.remove(&ends) != Some([near, far]) {
                    self.remove(&ends);
                    let way = Way { near, far, token: 0, lost: 0, state: TunnelState::Unknown, sent: now, due: now };
                    self.due.insert((now, ends.clone()));
                    for end in [&ends.0, &ends.1] {
                        self.at.entry(end.clone()).or_default().insert(ends.clone());
                    }
                    self.ways.insert(ends, way);
                }
            }
            gone.keys().for_each(|ends| self.remove(ends));
        }
    }

    fn remove(&mut self, ends: &Ends) {
        if let Some(way) = self.ways.remove(ends) {
            self.due.remove(&(way.due, ends.clone()));
            self.tokens.remove(&way.token);
            for end in [&ends.0, &ends.1] {
                if let Some(at) = self.at.get_mut(end) {
                    at.remove(ends);
                    if at.is_empty() {
                        self.at.remove(end);
                    }
                }
            }
        }
    }

    /// When [`Self::probes`] is to be asked.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let (began, sent) = self.round;
        let pause = if sent < AT_ONCE { Duration::ZERO } else { began + BETWEEN };
        self.due.first().map(|(due, _)| (*due).max(pause))
    }

    /// A switch has its program: its tunnels are probed at once.
    pub(crate) fn settled(&mut self, switch: &Name, now: Duration) {
        let ends = self.at.get(switch).cloned().unwrap_or_default();
        ends.into_iter().for_each(|ends| self.put_off(ends, now));
    }

    fn put_off(&mut self, ends: Ends, due: Duration) {
        if let Some(way) = self.ways.get_mut(&ends) {
            let before = std::mem::replace(&mut way.due, due);
            self.due.remove(&(before, ends.clone()));
            self.due.insert((due, ends));
        }
    }

    /// The probes that are due, by the switch that is to send them. `settled` says whether a switch is connected and has
    /// its program, without which it neither sends nor tells.
    pub(crate) fn probes(&mut self, settled: impl Fn(&Name) -> bool, now: Duration) -> BTreeMap<Name, Vec<Probe>> {
        let mut probes: BTreeMap<Name, Vec<Probe>> = BTreeMap::new();
        if now >= self.round.0 + BETWEEN {
            self.round = (now, 0);
        }
        let room = AT_ONCE.saturating_sub(self.round.1);
        let due = self.due.iter().take_while(|(due, _)| *due <= now).take(room);
        let due: Vec<Ends> = due.map(|(_, ends)| ends.clone()).collect();
        self.round.1 += due.len();
        for ends in due {
            self.put_off(ends.clone(), now + EVERY);
            let Some(way) = self.ways.get_mut(&ends) else { continue };
            let (from, to, port) = &ends;
            self.tokens.remove(&way.token);
            if !settled(from) || !settled(to) {
                (way.lost, way.state) = (0, TunnelState::Unknown);
                continue;
            }
            if way.lost >= LOST && way.state != TunnelState::Down {
                warn!(%from, %to, %port, vtep = %way.far, "a tunnel is down: {LOST} probes in a row did not arrive");
                way.state = TunnelState::Down;
            }
            let first = way.lost == 0 && way.state == TunnelState::Unknown;
            // A switch that just settled may be asked twice within moments: the first probe is not lost for that.
            if way.lost == 0 || now >= way.sent + PATIENCE {
                way.lost = way.lost.saturating_add(1);
            }
            way.sent = now;
            self.count += 1;
            way.token = self.secret.hash_one((&ends, self.count));
            self.tokens.insert(way.token, ends.clone());
            let probe = Probe { port: Port::Name((*port).into()), to: way.far, token: way.token };
            probes.entry(from.clone()).or_default().push(probe);
            if first {
                self.put_off(ends, now + AGAIN);
            }
        }
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
        assert_eq!(tunnels.deadline(), Some(AGAIN), "the first probe may be lost");
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
    fn what_settles_is_probed_at_once_and_many_are_spread() {
        let (mut tunnels, a, b) = tunnels();
        assert!(tunnels.probes(|_| false, Duration::ZERO).is_empty());
        assert_eq!(tunnels.deadline(), Some(EVERY));
        tunnels.settled(&a, Duration::from_secs(1));
        assert_eq!(tunnels.probes(|_| true, Duration::from_secs(1)).len(), 2);
        let name = |n: u16| format!("hv{n}").parse::<Name>().unwrap();
        let far = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let way = |n| BTreeSet::from([Tunnel { kind: TunnelKind::Vxlan, near: far(0), far: far(n) }]);
        let gone = [(a.clone(), b.clone()), (b, a)].map(|ends| (ends, BTreeSet::new()));
        tunnels.set(gone.into_iter().chain((1..=300).map(|n| ((name(0), name(n)), way(n)))).collect(), EVERY);
        assert_eq!(tunnels.probes(|_| true, EVERY)[&name(0)].len(), AT_ONCE);
        assert!(tunnels.probes(|_| true, EVERY).is_empty());
        assert_eq!(tunnels.deadline(), Some(EVERY + BETWEEN));
        assert_eq!(tunnels.probes(|_| true, EVERY + BETWEEN)[&name(0)].len(), 300 - AT_ONCE);
    }

    /// Lets a fabric of `switches` run for `seconds`, each with a tunnel to each other one. The probes of each second, and
    /// how often each tunnel was probed in the second half.
    fn load(switches: u16, seconds: u32, mut at: impl FnMut(&mut Tunnels, Duration)) -> (Vec<usize>, Vec<usize>) {
        let name = |n: u16| format!("hv{n}").parse::<Name>().unwrap();
        let vtep = |n: u16| IpAddr::from([10, 0, (n >> 8) as u8, n as u8]);
        let pairs = (0..switches).flat_map(|a| (0..switches).filter(move |b| *b != a).map(move |b| (a, b)));
        let way = |(a, b)| (Tunnel { kind: TunnelKind::Geneve, near: vtep(a), far: vtep(b) }, (name(a), name(b)));
        let all: BTreeMap<_, _> = pairs.map(way).map(|(tunnel, ends)| (ends, BTreeSet::from([tunnel]))).collect();
        let mut counts: BTreeMap<(Name, IpAddr), usize> =
            all.iter().flat_map(|((from, _), to)| to.iter().map(|to| ((from.clone(), to.far), 0))).collect();
        let mut tunnels = Tunnels::default();
        tunnels.set(all, Duration::ZERO);
        let (mut sent, end) = (vec![0; seconds as usize], Duration::from_secs(seconds.into()));
        let mut last = [Duration::ZERO; AT_ONCE * 10];
        let mut total = 0;
        // As the loop asks: whenever something is due, and whenever something happens.
        let mut now = Duration::ZERO;
        while now < end {
            at(&mut tunnels, now);
            let probes = tunnels.probes(|_| true, now);
            for (from, probe) in probes.iter().flat_map(|(from, probes)| probes.iter().map(move |one| (from, one))) {
                sent[now.as_secs() as usize] += 1;
                let slot = total % last.len();
                assert!(
                    total < last.len() || now >= last[slot] + 9 * BETWEEN,
                    "more than 2,000 within 0.9 s at {now:?}"
                );
                (last[slot], total) = (now, total + 1);
                if now >= end / 2 {
                    *counts.get_mut(&(from.clone(), probe.to)).unwrap() += 1;
                }
            }
            let next = tunnels.deadline().unwrap();
            assert!(next > now || !probes.is_empty(), "it would be asked for ever");
            now = next.max(now).min(now + Duration::from_millis(7)).max(now + Duration::from_millis(1));
        }
        (sent, counts.into_values().collect())
    }

    #[test]
    fn however_many_tunnels_there_are_the_probes_are_2000_a_second() {
        // 156 to each of 157: more than twice as many as are probed every 5 s.
        let (sent, counts) = load(157, 30, |_, _| {});
        assert_eq!(counts.len(), 24_492);
        assert!(sent.iter().all(|sent| (1_800..=2_200).contains(sent)), "{sent:?}");
        // 15 s at 2,000 a second: each once or twice, and none is forgotten.
        assert!(counts.iter().all(|count| (1..=2).contains(count)), "{counts:?}");
    }

    #[test]
    fn few_tunnels_are_probed_every_5_s_and_no_more_for_the_size_of_the_fabric() {
        let (sent, counts) = load(18, 40, |_, _| {});
        // The first is probed twice.
        assert_eq!(sent[0], 2 * 306, "{sent:?}");
        assert_eq!(sent[10..].iter().sum::<usize>(), 306 * 6, "{sent:?}");
        assert!(counts.iter().all(|count| *count == 4), "{counts:?}");
    }

    #[test]
    fn switches_that_settle_again_and_again_make_no_more_probes() {
        let mut number = 0;
        let (sent, _) = load(30, 10, |tunnels, now| {
            number = (number + 7) % 30;
            tunnels.settled(&format!("hv{number}").parse().unwrap(), now);
        });
        assert!(sent.iter().all(|sent| *sent <= 2_200), "{sent:?}");
    }

    #[test]
    fn other_tunnels_of_a_pair_leave_the_rest_as_it_is() {
        let (mut tunnels, a, b) = tunnels();
        let probes = tunnels.probes(|_| true, Duration::ZERO);
        tunnels.heard(&b, probes[&a][0].token, [192, 0, 2, 1].into());
        let [near, far] = [2, 9].map(|last| IpAddr::from([192, 0, 2, last]));
        let moved = BTreeSet::from([Tunnel { kind: TunnelKind::Geneve, near, far }]);
        tunnels.set([((b.clone(), a.clone()), moved)].into(), Duration::ZERO);
        assert_eq!((state(&tunnels, &a), state(&tunnels, &b)), (TunnelState::Up, TunnelState::Unknown));
        assert_eq!(tunnels.probes(|_| true, Duration::ZERO)[&b][0].to, far, "at once");
        // What was sent to where the end was before says nothing.
        tunnels.heard(&a, probes[&b][0].token, [192, 0, 2, 2].into());
        assert_eq!(state(&tunnels, &b), TunnelState::Unknown);
        tunnels.set([((a.clone(), b.clone()), BTreeSet::new())].into(), Duration::ZERO);
        assert!(tunnels.views().into_keys().eq([b.clone()]));
        tunnels.set([((b, a), BTreeSet::new())].into(), Duration::ZERO);
        assert!(tunnels.at.is_empty());
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
