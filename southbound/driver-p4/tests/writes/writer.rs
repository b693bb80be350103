//! Random writes, one of them wrong now and then, and what is to become of each.

use super::{
    faults::{self, Fault},
    model::{Model, bare, entry_of, place, update},
};
use bulkhead_driver_p4::{lift_any, lower, underlay};
use bulkhead_p4_target::device::Place;
use bulkhead_p4runtime::{
    bytes,
    entry::Key,
    info::{Info, Profile, Scope, Table},
    proto::p4::v1::{
        Action, ActionProfileAction, ActionProfileActionSet, ActionProfileGroup, ActionProfileMember, CounterData,
        DirectCounterEntry, Entity, TableAction, TableEntry, Update,
        action::Param,
        action_profile_action,
        action_profile_group::{self, Member},
        entity::Entity as Kind,
        field_match::FieldMatchType,
        table_action,
        update::Type,
    },
    testing::{self, Random},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};
use tonic::Code;

/// Most updates in a batch.
const BATCH: usize = 8;

/// Most entries of a table: fewer than the smallest one has room for.
const PER_TABLE: usize = 100;

/// Most members and most groups. Their numbers are up to twice that, so that there is always one that is free.
pub const NUMBERS: usize = 24;

/// Most of the weights of a group: what P4Info allows.
const WEIGHTS: i32 = 16;

/// How often is tried to find something that fits: more often than there are pairs of table and action.
const TRIES: usize = 128;

/// The same for what there was nothing for the time before.
const FEW: usize = 4;

/// Where valid entries come from.
pub enum Source {
    /// Whatever P4Info allows, with groups of entries' own.
    Own,
    /// The same, with members and groups of numbers.
    Numbered,
    /// What the driver writes for some fabrics, by table.
    Lowered(BTreeMap<u32, Vec<TableEntry>>),
}

/// One update, and what is to become of it.
pub struct Step {
    /// What is done, or what is wrong with it.
    pub what: String,
    pub update: Update,
    /// With what it is refused; `None`: it is taken.
    pub refused: Option<Code>,
    /// What it is about.
    pub about: Option<Place>,
}

/// Whether there is an entry of the pipeline, or a row about the underlay, that the driver would write like this.
fn could_be_lowered(entry: &TableEntry, info: &Info) -> bool {
    if info.table(entry.table_id).is_some_and(underlay::is_beside) {
        return underlay::lift(entry, info).is_some();
    }
    let lowered = lift_any(entry, info).ok().and_then(|(entry, _)| lower(&entry, info).ok());
    lowered.is_some_and(|lowered| Key::of(&lowered) == Key::of(entry))
}

pub struct Writer<'a> {
    pub info: &'a Info,
    pub random: Random,
    pub model: Model,
    source: Source,
    faults: Rc<Vec<Fault>>,
    /// The fault that is next.
    fault: usize,
    /// Tables and actions, and at which of them the last entry was.
    pairs: Vec<(u32, u32)>,
    pair: usize,
    /// What the batch is about so far: updates of one are in no order.
    touched: BTreeSet<Place>,
    /// Faults that were tried.
    pub tried: BTreeSet<String>,
    /// Tables with the actions that entries had.
    pub acted: BTreeSet<(u32, u32)>,
    /// Tables with the fields that entries matched.
    pub matched: BTreeSet<(u32, u32)>,
}

impl<'a> Writer<'a> {
    pub fn new(info: &'a Info, seed: u64, source: Source) -> Self {
        let pairs = |table: &'a Table| {
            let actions = table.actions.iter().filter(|(_, scope)| **scope != Scope::Default);
            actions.map(|(action, _)| (table.id, *action))
        };
        let mut random = Random(seed);
        let mut pairs: Vec<_> = info.tables().flat_map(pairs).collect();
        for at in (1..pairs.len()).rev() {
            pairs.swap(at, random.below(at + 1));
        }
        Self {
            info,
            random,
            model: Model::default(),
            source,
            faults: Rc::new(faults::all()),
            fault: 0,
            pairs,
            pair: 0,
            touched: BTreeSet::new(),
            tried: BTreeSet::new(),
            acted: BTreeSet::new(),
            matched: BTreeSet::new(),
        }
    }

    pub fn is_numbered(&self) -> bool {
        matches!(self.source, Source::Numbered)
    }

    /// All pairs of table and action.
    pub fn pairs(&self) -> BTreeSet<(u32, u32)> {
        self.pairs.iter().copied().collect()
    }

    /// Some updates that may be done in any order.
    pub fn batch(&mut self) -> Vec<Step> {
        // Groups need their members, and entries their groups.
        let most = if self.is_numbered() { 1 } else { 1 + self.random.below(BATCH) };
        self.touched.clear();
        (0..most).filter_map(|_| self.step()).collect()
    }

    fn step(&mut self) -> Option<Step> {
        let step = match self.random.below(20) {
            0..6 => self.insert(),
            6..9 => self.modify(),
            9..11 => self.delete(),
            11 => self.count(),
            _ => self.fault(),
        }?;
        self.touched.extend(step.about.clone());
        if step.refused.is_none() {
            self.model.apply(&step.update);
            self.cover(&step.update);
        }
        Some(step)
    }

    fn cover(&mut self, update: &Update) {
        let Some(Entity { entity: Some(Kind::TableEntry(entry)) }) = &update.entity else { return };
        if update.r#type() == Type::Delete {
            return;
        }
        self.matched.extend(entry.r#match.iter().map(|field| (entry.table_id, field.field_id)));
        let actions = match entry.action.as_ref().and_then(|action| action.r#type.as_ref()) {
            Some(table_action::Type::Action(action)) => vec![action.action_id],
            Some(table_action::Type::ActionProfileActionSet(set)) => {
                set.action_profile_actions.iter().flat_map(|one| &one.action).map(|action| action.action_id).collect()
            }
            _ => Vec::new(),
        };
        self.acted.extend(actions.into_iter().map(|action| (entry.table_id, action)));
    }

    fn fault(&mut self) -> Option<Step> {
        let faults = Rc::clone(&self.faults);
        // Now and then those that there was no occasion for yet, else each in turn.
        let again = self.random.one_in(4);
        let missed = faults.iter().filter(|fault| again && !self.tried.contains(&fault.name));
        let (missed, turn): (Vec<&Fault>, usize) = (missed.collect(), self.fault);
        let turns = (turn..turn + faults.len()).map(|at| &faults[at % faults.len()]);
        let tries = missed.into_iter().map(|fault| (fault, 0, FEW)).chain(turns.map(|fault| (fault, 1, TRIES)));
        for (fault, turn, tries) in tries {
            self.fault += turn;
            if let Some((update, about)) = (0..tries).find_map(|_| (fault.make)(self)) {
                self.tried.insert(fault.name.clone());
                return Some(Step { what: fault.name.clone(), update, refused: Some(fault.code), about });
            }
        }
        None
    }

    fn insert(&mut self) -> Option<Step> {
        if self.is_numbered() && self.random.one_in(2) {
            let entity = if self.random.one_in(2) { self.member()? } else { self.group()? };
            let new = place(&entity)?;
            let alike = |there: &&Place| std::mem::discriminant(*there) == std::mem::discriminant(&new);
            if self.model.0.keys().filter(alike).count() >= NUMBERS {
                return None;
            }
            return Some(self.taken("insert", update(Type::Insert, entity)));
        }
        let mut entry = self.new_entry(true)?;
        let what = match self.random.below(4) {
            0 => {
                pad(&mut entry);
                "insert, with zeros in front"
            }
            1 => {
                entry.r#match.reverse();
                "insert, with fields in another order"
            }
            _ => "insert",
        };
        Some(self.taken(what, of(Type::Insert, entry)))
    }

    fn modify(&mut self) -> Option<Step> {
        let (_, mut entity) = self.existing(|_| true)?;
        let mut what = "modify";
        match &mut entity.entity {
            Some(Kind::TableEntry(entry)) => {
                let kept = self.random.one_in(6);
                if !kept {
                    entry.action = Some(self.another(entry)?);
                }
                entry.metadata = self.metadata(entry);
                entry.counter_data = self.random.one_in(3).then(|| counted(&mut self.random));
                if kept {
                    (entry.action, what) = (None, "modify, but for the action");
                }
            }
            Some(Kind::ActionProfileMember(member)) => {
                let table = self.profile()?.tables.first().copied()?;
                member.action = self.any_action(table);
            }
            Some(Kind::ActionProfileGroup(group)) => {
                let old = std::mem::replace(&mut group.members, self.members(group.max_size)?);
                let left = |old: &Member| group.members.iter().all(|new| new.member_id != old.member_id);
                if old.iter().any(|old| old.watch_kind.is_some() && left(old)) {
                    what = "modify, so that a member that watches a port leaves its group";
                }
            }
            _ => return None,
        }
        Some(self.taken(what, update(Type::Modify, entity)))
    }

    fn delete(&mut self) -> Option<Step> {
        let unused: BTreeSet<Place> = self.model.0.keys().filter(|place| !self.is_used(place)).cloned().collect();
        let (_, entity) = self.existing(|place| unused.contains(place))?;
        let mut update = bare(&entity);
        let mut what = "delete";
        if self.random.one_in(3)
            && let Some(entry) = update.entity.as_mut().and_then(entry_of)
        {
            // Only the key is looked at (P4Runtime §9.1).
            let nonsense = Action { action_id: 77, params: vec![Param { param_id: 1, value: vec![] }] };
            entry.action = Some(TableAction { r#type: Some(table_action::Type::Action(nonsense)) });
            entry.idle_timeout_ns = -1;
            what = "delete, with nonsense beside the key";
        }
        Some(self.taken(what, update))
    }

    /// Sets the counter of an entry.
    fn count(&mut self) -> Option<Step> {
        let (place, mut entity) = self.existing(|place| matches!(place, Place::Entry(..)))?;
        let Some(Kind::TableEntry(key)) = bare(&entity).entity.and_then(|entity| entity.entity) else { return None };
        let data = Some(counted(&mut self.random));
        entity.entity = Some(Kind::DirectCounterEntry(DirectCounterEntry { table_entry: Some(key), data }));
        let update = update(Type::Modify, entity);
        Some(Step { what: "counter".into(), update, refused: None, about: Some(place) })
    }

    fn taken(&self, what: &str, update: Update) -> Step {
        let about = update.entity.as_ref().and_then(place);
        Step { what: what.into(), update, refused: None, about }
    }

    /// Something that is there, and that the batch is not about yet.
    pub fn existing(&mut self, fits: impl Fn(&Place) -> bool) -> Option<(Place, Entity)> {
        let fitting = |place: &&Place| fits(place) && !self.touched.contains(*place);
        let places: Vec<&Place> = self.model.0.keys().filter(fitting).collect();
        let place = (*self.random.pick(&places)?).clone();
        let mut entity = self.model.0.get(&place)?.clone();
        if let Some(entry) = entry_of(&mut entity) {
            entry.counter_data = None;
        }
        Some((place, entity))
    }

    /// An entry that is there.
    pub fn existing_entry(&mut self) -> Option<(Place, TableEntry)> {
        let (place, entity) = self.existing(|place| matches!(place, Place::Entry(..)))?;
        match entity.entity? {
            Kind::TableEntry(entry) => Some((place, entry)),
            _ => None,
        }
    }

    /// A valid entry that is not there yet.
    pub fn fresh(&mut self) -> Option<TableEntry> {
        self.new_entry(false)
    }

    /// The same, of every table with every action in turn, or of any.
    fn new_entry(&mut self, in_turn: bool) -> Option<TableEntry> {
        (0..TRIES).find_map(|_| {
            let entry = match &self.source {
                // Small tables as often as large ones.
                Source::Lowered(all) => {
                    let tables: Vec<&Vec<TableEntry>> = all.values().collect();
                    let table = *self.random.pick(&tables)?;
                    self.random.pick(table)?.clone()
                }
                Source::Own | Source::Numbered => self.made(in_turn)?,
            };
            let least = Key { matches: Vec::new(), priority: i32::MIN };
            let behind = self.model.0.range(Place::Entry(entry.table_id, least)..).take(PER_TABLE);
            let there = behind.filter(|(place, _)| matches!(place, Place::Entry(of, _) if *of == entry.table_id));
            let place = place(&of(Type::Insert, entry.clone()).entity?)?;
            let free =
                there.count() < PER_TABLE && !self.model.0.contains_key(&place) && !self.touched.contains(&place);
            free.then_some(entry)
        })
    }

    fn made(&mut self, in_turn: bool) -> Option<TableEntry> {
        self.pair += usize::from(in_turn);
        let at = if in_turn { self.pair % self.pairs.len() } else { self.random.below(self.pairs.len()) };
        let mut pair = *self.pairs.get(at)?;
        if self.is_numbered() && self.random.one_in(4) {
            // What names members and groups.
            let indirect =
                |(table, _): &&(u32, u32)| self.info.table(*table).is_some_and(|table| table.profile.is_some());
            pair = *self.pairs.iter().find(indirect)?;
        }
        let (table, action) = pair;
        let table = self.info.table(table)?;
        let mut entry = testing::entry(&mut self.random, self.info, table);
        entry.action = Some(self.table_action(table, action)?);
        entry.controller_metadata = if self.random.one_in(3) { self.random.number() } else { 0 };
        Some(entry)
    }

    /// An action for an entry that has one.
    fn another(&mut self, entry: &TableEntry) -> Option<TableAction> {
        if let Source::Lowered(all) = &self.source {
            let others = all.get(&entry.table_id)?;
            // Not every action of a table makes sense with every match and every cause.
            return (0..TRIES).find_map(|_| {
                let action = self.random.pick(others)?.action.clone();
                could_be_lowered(&TableEntry { action: action.clone(), ..entry.clone() }, self.info)
                    .then_some(action)?
            });
        }
        let table = self.info.table(entry.table_id)?;
        let fitting: Vec<u32> =
            table.actions.iter().filter(|(_, scope)| **scope != Scope::Default).map(|(id, _)| *id).collect();
        let action = *self.random.pick(&fitting)?;
        self.table_action(table, action)
    }

    /// What only its writer reads. What the driver writes there says whose an entry is.
    fn metadata(&mut self, entry: &TableEntry) -> Vec<u8> {
        match &self.source {
            Source::Lowered(all) => {
                let metadata = (0..TRIES).find_map(|_| {
                    let metadata = self.random.pick(all.get(&entry.table_id)?)?.metadata.clone();
                    could_be_lowered(&TableEntry { metadata: metadata.clone(), ..entry.clone() }, self.info)
                        .then_some(metadata)
                });
                metadata.unwrap_or_else(|| entry.metadata.clone())
            }
            _ => self.random.number().to_be_bytes().to_vec(),
        }
    }

    pub fn action(&mut self, id: u32) -> Option<Action> {
        let action = self.info.action(id)?;
        let params =
            action.params.iter().map(|param| Param { param_id: param.id, value: self.random.value(param.width) });
        Some(Action { action_id: id, params: params.collect() })
    }

    /// Any action that entries of a table may have.
    pub fn any_action(&mut self, table: u32) -> Option<Action> {
        testing::action(&mut self.random, self.info, self.info.table(table)?, Scope::Default)
    }

    fn table_action(&mut self, table: &Table, action: u32) -> Option<TableAction> {
        let kind = if table.profile.is_none() {
            table_action::Type::Action(self.action(action)?)
        } else if self.is_numbered() {
            let there: Vec<Place> = self.model.0.keys().cloned().collect();
            let there: Vec<table_action::Type> = there.iter().filter_map(named).collect();
            self.random.pick(&there)?.clone()
        } else {
            let many = 1 + self.random.below(4);
            let actions: Option<Vec<ActionProfileAction>> = (0..many).map(|_| self.way(action)).collect();
            table_action::Type::ActionProfileActionSet(ActionProfileActionSet { action_profile_actions: actions? })
        };
        Some(TableAction { r#type: Some(kind) })
    }

    fn way(&mut self, action: u32) -> Option<ActionProfileAction> {
        let watch = self.port().map(action_profile_action::WatchKind::WatchPort);
        let weight = 1 + self.random.below(3) as i32;
        Some(ActionProfileAction { action: Some(self.action(action)?), weight, watch_kind: watch })
    }

    /// A port to watch, now and then.
    fn port(&mut self) -> Option<Vec<u8>> {
        let port = 1 + self.random.below(510) as u128;
        self.random.one_in(2).then(|| bytes::from_u128(port))
    }

    /// The profile that tables of this program share.
    pub fn profile(&self) -> Option<&'a Profile> {
        self.info.profiles().next()
    }

    /// A member of a number that is free.
    pub fn member(&mut self) -> Option<Entity> {
        let profile = self.profile()?;
        let member_id = self.free(|number| Place::Member(profile.id, number))?;
        let action = self.any_action(*profile.tables.first()?);
        let member = ActionProfileMember { action_profile_id: profile.id, member_id, action };
        Some(Entity { entity: Some(Kind::ActionProfileMember(member)) })
    }

    /// A group of a number that is free, of members that are there.
    pub fn group(&mut self) -> Option<Entity> {
        let profile = self.profile()?;
        let group_id = self.free(|number| Place::Group(profile.id, number))?;
        let max_size = 1 + self.random.below(WEIGHTS as usize) as i32;
        let members = self.members(max_size)?;
        let group = ActionProfileGroup { action_profile_id: profile.id, group_id, members, max_size };
        Some(Entity { entity: Some(Kind::ActionProfileGroup(group)) })
    }

    fn free(&mut self, place: impl Fn(u32) -> Place) -> Option<u32> {
        let free = |number: &u32| !self.model.0.contains_key(&place(*number));
        let free: Vec<u32> = (1..=2 * NUMBERS as u32).filter(free).collect();
        self.random.pick(&free).copied()
    }

    /// Members of a group, of at most so much weight; at least one.
    fn members(&mut self, most: i32) -> Option<Vec<Member>> {
        let mut left = most;
        let mut members: Vec<Member> = Vec::new();
        for number in self.numbers() {
            let weight = (1 + self.random.below(3) as i32).min(left);
            if weight > 0 && (members.is_empty() || self.random.one_in(4)) {
                let watch_kind = self.port().map(action_profile_group::member::WatchKind::WatchPort);
                members.push(Member { member_id: number, weight, watch_kind });
                left -= weight;
            }
        }
        (!members.is_empty()).then_some(members)
    }

    /// The members that are there.
    pub fn numbers(&self) -> Vec<u32> {
        let number = |place: &Place| if let Place::Member(_, number) = place { Some(*number) } else { None };
        self.model.0.keys().filter_map(number).collect()
    }

    /// Whether something names it.
    pub fn is_used(&self, place: &Place) -> bool {
        let Some(wanted) = named(place) else { return false };
        self.model.0.values().any(|entity| match (&entity.entity, place) {
            (Some(Kind::TableEntry(entry)), _) => {
                entry.action.as_ref().and_then(|action| action.r#type.as_ref()) == Some(&wanted)
            }
            (Some(Kind::ActionProfileGroup(group)), Place::Member(_, number)) => {
                group.members.iter().any(|member| member.member_id == *number)
            }
            _ => false,
        })
    }
}

/// How an entry names a member or a group.
fn named(place: &Place) -> Option<table_action::Type> {
    match place {
        Place::Member(_, number) => Some(table_action::Type::ActionProfileMemberId(*number)),
        Place::Group(_, number) => Some(table_action::Type::ActionProfileGroupId(*number)),
        _ => None,
    }
}

pub fn is_indirect(info: &Info, entry: &TableEntry) -> bool {
    info.table(entry.table_id).is_some_and(|table| table.profile.is_some())
}

pub fn of(kind: Type, entry: TableEntry) -> Update {
    update(kind, Entity { entity: Some(Kind::TableEntry(entry)) })
}

fn counted(random: &mut Random) -> CounterData {
    let mut count = || (random.number() >> 20) as i64;
    CounterData { byte_count: count(), packet_count: count() }
}

/// Puts zeros in front of values, which devices take (P4Runtime §8.4).
pub fn pad(entry: &mut TableEntry) {
    let longer = |value: &mut Vec<u8>, zeros: usize| drop(value.splice(0..0, vec![0; zeros]));
    for (at, field) in entry.r#match.iter_mut().enumerate() {
        match &mut field.field_match_type {
            Some(FieldMatchType::Exact(exact)) => longer(&mut exact.value, 1 + at),
            Some(FieldMatchType::Optional(optional)) => longer(&mut optional.value, 1 + at),
            Some(FieldMatchType::Lpm(lpm)) => longer(&mut lpm.value, 1 + at),
            Some(FieldMatchType::Ternary(ternary)) => {
                longer(&mut ternary.value, at % 2);
                longer(&mut ternary.mask, 1 + at);
            }
            Some(FieldMatchType::Range(range)) => {
                longer(&mut range.low, 1 + at);
                longer(&mut range.high, 1 + at);
            }
            None => {}
        }
    }
    if let Some(table_action::Type::Action(action)) = entry.action.as_mut().and_then(|action| action.r#type.as_mut()) {
        action.params.iter_mut().for_each(|param| longer(&mut param.value, 1));
    }
}
