//! From one rule and those whom it concerns on one switch to entries.

use crate::{
    TooLarge,
    index::Index,
    service::{self, Block, Services},
    switch::Class,
};
use bulkhead_pipeline::{Action, Builtin, Cause, Entry, EntryKey, Field, Match, Next, Stage, conn};
use bulkhead_policy::model::{self, CidrSet, Direction, Tier};
use bulkhead_topology::{IpNet, Name};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Most entries of one rule on one switch: a rule that needs more is refused before anything is sent.
const MAX_RULE_ENTRIES: u64 = 200_000;
/// Most variants of one rule on one switch: they share 8 bits of the conjunction's number.
const MAX_VARIANTS: usize = 256;

/// A rule with everything looked up that does not depend on the switch.
#[derive(Debug)]
pub(crate) struct Rule {
    pub number: u32,
    pub policy: Arc<model::Policy>,
    pub direction: Direction,
    pub index: usize,
    pub subject: u32,
    /// The groups among its peers.
    pub groups: Box<[u32]>,
    /// The address sets among its peers, looked up.
    pub sets: Box<[CidrSet]>,
    pub external: bool,
}

/// What a rule's entries are for; where a staged policy is about a subject, its rules have entries of both kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// They decide: active rules alone.
    Active,
    /// They show what would be if staged policies were active: staged and active rules in one order. Whatever matches
    /// goes on to the active rules. Only staged ones count here, since active ones count where they decide.
    Staged,
}

impl Lane {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Active, Self::Staged];
}

/// What a decided packet does next.
pub(crate) type Outcome = (Vec<Action>, Next, Cause);

/// Peers as matches: identities and address classes.
type Peers = BTreeSet<(Field, u32)>;

/// What a rule wants of a packet beside its subject.
#[derive(Debug)]
struct Target {
    /// Destinations that resolve the rule's port names alike; `None` where names play no part.
    destinations: Option<BTreeSet<u32>>,
    /// `None` is anyone.
    peers: Option<Peers>,
    /// `None` is anything.
    services: Option<Vec<Block>>,
}

/// What subjects of a rule have in common to share entries: the outcome, and either one of the targets by port names
/// or what their own port names add to the ports.
type Variant = (Outcome, Option<usize>, Vec<u32>);

/// An entry, or a part of one that rules share.
#[derive(Debug)]
pub(crate) enum Piece {
    Whole(Entry),
    /// One clause at this place; clauses of several rules at one place are one entry. (The most are whole.)
    Clause(Box<(EntryKey, Action)>),
}

impl Piece {
    /// The place that it shares, if it does.
    pub fn clause(&self) -> Option<&EntryKey> {
        match self {
            Self::Whole(_) => None,
            Self::Clause(clause) => Some(&clause.0),
        }
    }
}

/// The stage of a lane, direction and tier.
pub(crate) fn stage(lane: Lane, direction: Direction, tier: Tier) -> Stage {
    match (lane, direction, tier) {
        (Lane::Active, Direction::Egress, Tier::Emergency) => Stage::EgressEmergency,
        (Lane::Active, Direction::Egress, Tier::Platform) => Stage::EgressPlatform,
        (Lane::Active, Direction::Egress, Tier::Application) => Stage::EgressApplication,
        (Lane::Active, Direction::Egress, Tier::Baseline) => Stage::EgressBaseline,
        (Lane::Active, Direction::Ingress, Tier::Emergency) => Stage::IngressEmergency,
        (Lane::Active, Direction::Ingress, Tier::Platform) => Stage::IngressPlatform,
        (Lane::Active, Direction::Ingress, Tier::Application) => Stage::IngressApplication,
        (Lane::Active, Direction::Ingress, Tier::Baseline) => Stage::IngressBaseline,
        (Lane::Staged, Direction::Egress, Tier::Emergency) => Stage::StagedEgressEmergency,
        (Lane::Staged, Direction::Egress, Tier::Platform) => Stage::StagedEgressPlatform,
        (Lane::Staged, Direction::Egress, Tier::Application) => Stage::StagedEgressApplication,
        (Lane::Staged, Direction::Egress, Tier::Baseline) => Stage::StagedEgressBaseline,
        (Lane::Staged, Direction::Ingress, Tier::Emergency) => Stage::StagedIngressEmergency,
        (Lane::Staged, Direction::Ingress, Tier::Platform) => Stage::StagedIngressPlatform,
        (Lane::Staged, Direction::Ingress, Tier::Application) => Stage::StagedIngressApplication,
        (Lane::Staged, Direction::Ingress, Tier::Baseline) => Stage::StagedIngressBaseline,
    }
}

/// Where a packet goes on after a tier that did not decide; `None` after the last.
pub(crate) fn next_tier(lane: Lane, direction: Direction, tier: Tier) -> Option<Stage> {
    let next = match tier {
        Tier::Emergency => Tier::Platform,
        Tier::Platform => Tier::Application,
        Tier::Application => Tier::Baseline,
        Tier::Baseline => return None,
    };
    Some(stage(lane, direction, next))
}

/// Where an allowed packet goes on.
pub(crate) fn allowed(direction: Direction) -> Next {
    Next::Stage(match direction {
        Direction::Egress => Stage::Spread,
        Direction::Ingress => Stage::Verdict,
    })
}

/// What becomes of a packet whose staged verdict is known: it goes on to the active rules, and counts for `cause`, a
/// staged policy's, if that is what would decide.
pub(crate) fn weighed(direction: Direction, cause: Option<Cause>) -> Outcome {
    let next = Next::Stage(stage(Lane::Active, direction, Tier::Emergency));
    (Vec::new(), next, cause.unwrap_or(Cause::Builtin(Builtin::Staged)))
}

/// The metadata of the subject's side, then of its peer's: identity and class.
pub(crate) fn fields(direction: Direction) -> (Field, Field, Field) {
    match direction {
        Direction::Egress => (Field::SrcId, Field::DstId, Field::DstClass),
        Direction::Ingress => (Field::DstId, Field::SrcId, Field::SrcClass),
    }
}

impl Rule {
    pub fn text(&self) -> &model::Rule {
        // A Rule is made from this very policy and index.
        &self.policy.rules(self.direction)[self.index]
    }

    pub fn stage(&self, lane: Lane) -> Stage {
        stage(lane, self.direction, self.policy.tier)
    }

    fn outcome(&self, enforced: bool, default: &Outcome) -> Outcome {
        let cause = Cause::Rule(self.number);
        match self.text().action {
            model::Action::Allow => (Vec::new(), allowed(self.direction), cause),
            model::Action::Deny if enforced => (Vec::new(), Next::Drop, cause),
            model::Action::Reject if enforced => (vec![Action::Reject], Next::Drop, cause),
            model::Action::Deny | model::Action::Reject => (Vec::new(), allowed(self.direction), cause),
            model::Action::Pass => match next_tier(Lane::Active, self.direction, self.policy.tier) {
                Some(next) => (Vec::new(), Next::Stage(next), cause),
                // Nothing comes after baseline but the default, whose doing it then is.
                None => default.clone(),
            },
        }
    }

    fn staged_outcome(&self) -> Outcome {
        let cause = self.policy.staged.then_some(Cause::Rule(self.number));
        let weighed = |cause| weighed(self.direction, cause);
        match (self.text().action, next_tier(Lane::Staged, self.direction, self.policy.tier)) {
            (model::Action::Pass, Some(next)) => (Vec::new(), Next::Stage(next), weighed(cause).2),
            (model::Action::Pass, None) => weighed(None),
            _ => weighed(cause),
        }
    }

    /// Adds every entry of the rule in one lane of a switch with these `subjects`, at this priority and as the switch remembers connections, to `pieces`, the
    /// rule's in all lanes. `classes` are the prefixes that the switch tells apart; `default` is what becomes of a
    /// subject's packets that no rule decides. One that remembers no connections has no conjunctions either.
    pub fn entries(
        &self,
        index: &Index,
        subjects: &BTreeSet<u32>,
        (lane, priority, remembers): (Lane, u16, bool),
        classes: &BTreeMap<IpNet, Class>,
        default: impl Fn(u32) -> Outcome,
        pieces: &mut Vec<Piece>,
    ) -> Result<(), TooLarge> {
        let networks: BTreeSet<&Name> =
            subjects.iter().filter_map(|s| Some(&index.identities.get(s)?.network)).collect();
        let peers = self.peers(index, &networks, classes);
        let services = self.text().ports.as_deref().map(Services::of);
        let named = match (self.direction, &services) {
            (Direction::Egress, Some(services)) => self.named(index, &networks, peers.as_ref(), services),
            _ => Vec::new(),
        };
        let too_many = |variants: usize| match variants > MAX_VARIANTS {
            true => Err(self.too_large("variants (named ports and modes)", variants as u64, MAX_VARIANTS as u64)),
            false => Ok(()),
        };
        too_many(named.len())?;
        // Subjects with one outcome and one target go together. Peers may be many: targets are told apart without them.
        let has_peers = peers.as_ref().is_none_or(|peers| !peers.is_empty());
        let mut variants: BTreeMap<Variant, BTreeSet<u32>> = BTreeMap::new();
        for subject in subjects {
            let Some(identity) = index.identities.get(subject) else { continue };
            let outcome = match lane {
                Lane::Active => self.outcome(identity.enforced, &default(*subject)),
                Lane::Staged => self.staged_outcome(),
            };
            let own = match (self.direction, &services) {
                (Direction::Ingress, Some(services)) => services.named(&identity.ports),
                _ => Vec::new(),
            };
            for at in 0..named.len() {
                variants.entry((outcome.clone(), Some(at), Vec::new())).or_default().insert(*subject);
            }
            if has_peers && services.as_ref().is_none_or(|services| !services.only_names() || !own.is_empty()) {
                variants.entry((outcome, None, own)).or_default().insert(*subject);
            }
        }
        too_many(variants.len())?;
        let mut plain = Target { destinations: None, peers, services: None };
        for (at, ((outcome, target, own), subjects)) in variants.into_iter().enumerate() {
            let conjunction = self.number << 8 | at as u32;
            let target = match target.and_then(|target| named.get(target)) {
                Some(named) => named,
                None => {
                    plain.services = services.as_ref().map(|services| services.blocks(&own));
                    &plain
                }
            };
            let conjunction = remembers.then_some(conjunction);
            self.expand(&subjects, target, &outcome, (self.stage(lane), priority, conjunction), pieces)?;
        }
        Ok(())
    }

    /// The peers as matches; `None` is anyone.
    fn peers(&self, index: &Index, networks: &BTreeSet<&Name>, classes: &BTreeMap<IpNet, Class>) -> Option<Peers> {
        self.text().peers.as_ref()?;
        let (_, id, class) = fields(self.direction);
        let members = self.groups.iter().filter_map(|group| index.groups.get(group)).flat_map(|group| &group.members);
        let here = members.filter(|m| index.identities.get(m).is_some_and(|i| networks.contains(&i.network)));
        let mut peers: BTreeSet<_> = here.map(|member| (id, *member)).collect();
        if self.external {
            peers.insert((id, crate::builtin::EXTERNAL));
        }
        peers.extend(within(&self.sets, classes).into_iter().map(|number| (class, number)));
        Some(peers)
    }

    /// What the port names of an egress rule mean: a name is looked up at the destination, so
    /// destinations that resolve the names alike go together.
    fn named(
        &self,
        index: &Index,
        networks: &BTreeSet<&Name>,
        peers: Option<&Peers>,
        services: &Services<'_>,
    ) -> Vec<Target> {
        let (_, id, class) = fields(self.direction);
        let classes: Option<Peers> = peers.map(|p| p.iter().filter(|(field, _)| *field == class).copied().collect());
        let by_address = classes.as_ref().is_some_and(|classes| !classes.is_empty());
        let having = services.names().filter_map(|name| index.by_port.get(name)).flatten();
        // By what the names mean, and whether the destination is a peer by its address alone.
        let mut alike: BTreeMap<(Vec<u32>, bool), BTreeSet<u32>> = BTreeMap::new();
        for number in having.collect::<BTreeSet<_>>() {
            let Some(identity) = index.identities.get(number).filter(|i| networks.contains(&i.network)) else {
                continue;
            };
            let means = services.named(&identity.ports);
            let peer = peers.is_none_or(|peers| peers.contains(&(id, *number)));
            if !means.is_empty() && (peer || by_address) {
                alike.entry((means, !peer)).or_default().insert(*number);
            }
        }
        let target = |((means, by_class), destinations): ((Vec<u32>, bool), _)| Target {
            destinations: Some(destinations),
            peers: classes.clone().filter(|_| by_class),
            services: Some(service::blocks(&means)),
        };
        alike.into_iter().map(target).collect()
    }

    fn expand(
        &self,
        subjects: &BTreeSet<u32>,
        target: &Target,
        outcome: &Outcome,
        (stage, priority, conjunction): (Stage, u16, Option<u32>),
        pieces: &mut Vec<Piece>,
    ) -> Result<(), TooLarge> {
        let (subject, id, _) = fields(self.direction);
        let numbers = |field, set: &BTreeSet<u32>| set.iter().map(|n| Match::any().with(field, *n)).collect::<Vec<_>>();
        let mut dimensions = vec![numbers(subject, subjects)];
        dimensions.extend(target.destinations.as_ref().map(|set| numbers(id, set)));
        if let Some(peers) = &target.peers {
            dimensions.push(peers.iter().map(|(field, number)| Match::any().with(*field, *number)).collect());
        }
        if let Some(services) = &target.services {
            let block = |(value, mask): &Block| Match::any().masked(Field::Service, *value, (*mask).into());
            dimensions.push(services.iter().map(block).collect());
        }
        let sizes = dimensions.iter().map(|dimension| dimension.len() as u64);
        let kinds = self.kinds(outcome);
        let product = sizes.clone().fold(kinds.len() as u64, u64::saturating_mul);
        // One dimension is no conjunction, whatever that would spare: switches want two clauses at the least.
        let conjunction = conjunction.filter(|_| dimensions.len() > 1);
        let sum = if conjunction.is_some() { sizes.sum::<u64>() + kinds.len() as u64 } else { product };
        let all = product.min(sum).saturating_add(pieces.len() as u64);
        if all > MAX_RULE_ENTRIES {
            return Err(self.too_large("entries", all, MAX_RULE_ENTRIES));
        }
        let (_, next, cause) = outcome;
        let whole = |matches: Match| {
            let kinds = kinds.clone().into_iter();
            kinds.map(move |(kind, actions)| {
                Piece::Whole(Entry::new(stage, priority, join(&matches, &kind), actions, *next, *cause))
            })
        };
        let Some(conjunction) = conjunction.filter(|_| sum < product) else {
            let mut matches = vec![Match::any()];
            for dimension in &dimensions {
                let both = |a: &Match| dimension.iter().map(|b| join(a, b)).collect::<Vec<_>>();
                matches = matches.iter().flat_map(both).collect();
            }
            pieces.extend(matches.into_iter().flat_map(whole));
            return Ok(());
        };
        let n = dimensions.len() as u8;
        for (k, dimension) in (1..).zip(dimensions) {
            let clause = Action::Clause { conjunction, k, n };
            pieces.extend(
                dimension
                    .into_iter()
                    .map(|matches| Piece::Clause(Box::new((EntryKey { stage, priority, matches }, clause.clone())))),
            );
        }
        pieces.extend(whole(Match::any().with(Field::Conjunction, conjunction)));
        Ok(())
    }

    /// What a decided packet has done to it, by what it is: the first packets of connections are logged where the
    /// rule asks for it and decides.
    fn kinds(&self, (actions, _, cause): &Outcome) -> Vec<(Match, Vec<Action>)> {
        let text = self.text();
        if !text.log || text.action == model::Action::Pass || *cause != Cause::Rule(self.number) {
            return vec![(Match::any(), actions.clone())];
        }
        let logged = std::iter::once(Action::Log).chain(actions.iter().cloned()).collect();
        let connection = |new| Match::any().masked(Field::Conn, new, conn::NEW);
        vec![(connection(conn::NEW), logged), (connection(0), actions.clone())]
    }

    fn too_large(&self, what: &str, size: u64, limit: u64) -> TooLarge {
        let rule = format!("{} rule {} of policy {}", self.direction.as_str(), self.index, self.policy.name);
        TooLarge { what: format!("{what} of {rule} on one switch"), size, limit }
    }
}

/// The numbers of the classes that lie in one of the sets: in a prefix of it, and in none that it excepts. In one walk
/// over the sets' prefixes and the classes inside them, however many sets there are.
fn within(sets: &[CidrSet], classes: &BTreeMap<IpNet, Class>) -> Vec<u32> {
    let mut marks: BTreeMap<IpNet, Vec<(usize, bool)>> = BTreeMap::new();
    for (at, set) in sets.iter().enumerate() {
        set.cidrs.iter().for_each(|cidr| marks.entry(*cidr).or_default().push((at, true)));
        set.except.iter().for_each(|except| marks.entry(*except).or_default().push((at, false)));
    }
    // Of each set, how many of its prefixes and of its exceptions are around a place; and how many sets have the place.
    let mut around = vec![(0_u32, 0_u32); sets.len()];
    let mut having = 0_usize;
    let mut step = |prefix: &IpNet, by: i32| {
        for (set, included) in marks.get(prefix).into_iter().flatten() {
            let Some((cidrs, except)) = around.get_mut(*set) else { continue };
            let had = *cidrs > 0 && *except == 0;
            let count = if *included { &mut *cidrs } else { &mut *except };
            *count = count.saturating_add_signed(by);
            let has = *cidrs > 0 && *except == 0;
            having = having + usize::from(has) - usize::from(had);
        }
        having
    };
    let mut found = Vec::new();
    let mut outermost: Option<&IpNet> = None;
    for top in marks.keys() {
        // Prefixes nest or are disjoint, and each comes before those inside it.
        if outermost.is_some_and(|outermost| outermost.covers(top)) {
            continue;
        }
        outermost = Some(top);
        let inside = classes.range(top..).map(|(prefix, _)| prefix).take_while(|prefix| top.covers(prefix));
        let marked = marks.range(top..).map(|(prefix, _)| prefix).take_while(|prefix| top.covers(prefix));
        let mut open: Vec<&IpNet> = Vec::new();
        for prefix in inside.chain(marked).collect::<BTreeSet<_>>() {
            while let Some(left) = open.pop_if(|innermost| !innermost.covers(prefix)) {
                step(left, -1);
            }
            open.push(prefix);
            if step(prefix, 1) > 0 {
                found.extend(classes.get(prefix).map(|class| class.number));
            }
        }
        while let Some(left) = open.pop() {
            step(left, -1);
        }
    }
    found
}

fn join(a: &Match, b: &Match) -> Match {
    b.fields().fold(a.clone(), |all, (field, value, mask)| all.masked(field, value, mask))
}

/// The entry that shared clauses make up.
pub(crate) fn shared(stage: Stage, priority: u16, matches: Match, clauses: Vec<Action>) -> Entry {
    Entry::new(stage, priority, matches, clauses, Next::Done, Cause::Builtin(Builtin::Set))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixes(at_most: usize) -> impl Strategy<Value = Vec<IpNet>> {
        // Few bits, so that they nest.
        let prefix = (any::<bool>(), 0u8..16, 0u8..5).prop_map(|(v6, bits, len)| {
            let address =
                if v6 { [u16::from(bits) << 12, 0, 0, 0, 0, 0, 0, 0].into() } else { [bits << 4, 0, 0, 0].into() };
            IpNet::new(address, len).unwrap()
        });
        prop::collection::vec(prefix, 0..at_most)
    }

    proptest! {
        #[test]
        fn classes_within_sets_are_those_that_one_has(
            sets in prop::collection::vec((prefixes(4), prefixes(4)), 0..5),
            others in prefixes(20),
        ) {
            let sets: Vec<_> = sets.into_iter().map(|(cidrs, except)| CidrSet { cidrs, except }).collect();
            let named = sets.iter().flat_map(|set| set.cidrs.iter().chain(&set.except));
            let all: BTreeSet<IpNet> = named.chain(&others).copied().collect();
            let class = |(prefix, number)| (prefix, Class { number, ..Class::default() });
            let classes: BTreeMap<IpNet, Class> = all.into_iter().zip(1..).map(class).collect();
            let has = |prefix: &IpNet| {
                let covers = |list: &[IpNet]| list.iter().any(|cidr| cidr.covers(prefix));
                sets.iter().any(|set| covers(&set.cidrs) && !covers(&set.except))
            };
            let wanted: Vec<u32> = classes.iter().filter(|(prefix, _)| has(prefix)).map(|(_, c)| c.number).collect();
            prop_assert_eq!(within(&sets, &classes), wanted);
        }
    }
}
