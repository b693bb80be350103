//! Everything that is written to a program, and the rules that depend on what is there.

use super::Refused;
use crate::Forward;
use bulkhead_p4runtime::{
    Info, check,
    entry::Key,
    info::{Profile, Table},
    proto::p4::v1::{
        self as p4, CounterData, CounterEntry, DirectCounterEntry, Entity, Index, MeterConfig, MeterEntry, TableAction,
        TableEntry, Update, entity::Entity as Kind, packet_replication_engine_entry as pre, table_action, update::Type,
    },
};
use std::{collections::BTreeMap, sync::Arc};
use tonic::Code;

/// Most multicast groups and clone sessions where the program does not say: what BMv2 has.
const MAX_COPIES: usize = 65_535;

/// Most entities of all kinds, whatever the program says: memory has an end.
const MAX_ENTITIES: usize = 4_000_000;

/// By what an entity is known.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// An entry of a table.
    Entry(u32, Key),
    /// A table's default entry, if somebody changed it.
    Default(u32),
    /// A member of a profile.
    Member(u32, u32),
    /// A group of a profile.
    Group(u32, u32),
    /// A multicast group.
    Multicast(u32),
    /// A clone session.
    Clone(u32),
    /// A digest that is to be sent.
    Digest(u32),
    /// A counter of an array that somebody set.
    Counter(u32, u64),
    /// A meter of an array that somebody set.
    Meter(u32, u64),
}

/// What was somewhere before an update, so that it can be undone.
#[derive(Debug)]
pub struct Before(Vec<(Place, Option<Entity>)>);

/// All that is written to a program.
#[derive(Debug, Clone)]
pub struct State {
    info: Arc<Info>,
    entities: BTreeMap<Place, Entity>,
    /// How many entries each table has.
    sizes: BTreeMap<u32, u64>,
}

impl State {
    /// Nothing is written yet.
    #[must_use]
    pub fn new(info: Arc<Info>) -> Self {
        Self { info, entities: BTreeMap::new(), sizes: BTreeMap::new() }
    }

    /// The program.
    #[must_use]
    pub fn info(&self) -> &Info {
        &self.info
    }

    /// The program, to be kept.
    #[must_use]
    pub fn shared_info(&self) -> Arc<Info> {
        Arc::clone(&self.info)
    }

    /// All that is there. What an entry or a counter has counted is not in it, but what it is counted from.
    #[must_use]
    pub fn entities(&self) -> &BTreeMap<Place, Entity> {
        &self.entities
    }

    /// What would bring all of it into an empty state, in an order in which each is possible.
    pub(super) fn inserts(&self) -> impl Iterator<Item = Update> {
        // Entries name groups, and groups members.
        let rank = |place: &Place| match place {
            Place::Member(..) => 0,
            Place::Group(..) => 1,
            _ => 2,
        };
        let mut all: Vec<_> = self.entities.iter().collect();
        all.sort_by_key(|(place, _)| rank(place));
        all.into_iter().map(|(place, entity)| {
            let change = match place {
                Place::Default(_) | Place::Counter(..) | Place::Meter(..) => Type::Modify,
                _ => Type::Insert,
            };
            let mut entity = entity.clone();
            if let Some(Kind::TableEntry(entry)) = &mut entity.entity {
                // What it is counted from makes no sense for new counters.
                entry.counter_data = None;
            }
            Update { r#type: change.into(), entity: Some(entity) }
        })
    }

    /// Does one update where nothing was counted yet.
    pub(super) fn apply(&mut self, update: &Update) -> Result<Before, Refused> {
        self.apply_counted(update, &crate::Idle)
    }

    /// Does one update, or nothing.
    pub(super) fn apply_counted(&mut self, update: &Update, forward: &dyn Forward) -> Result<Before, Refused> {
        check::update(&self.info, update)?;
        forward.takes(&self.info, update).map_err(|why| Refused::new(Code::Unimplemented, why))?;
        let change = update.r#type();
        if change == Type::Insert && self.entities.len() >= MAX_ENTITIES {
            return Err(Refused::new(Code::ResourceExhausted, format!("{MAX_ENTITIES} entities are there already")));
        }
        let entity = update.entity.as_ref().and_then(|entity| entity.entity.as_ref());
        match entity.ok_or_else(|| Refused::new(Code::InvalidArgument, "no entity"))? {
            Kind::TableEntry(entry) => self.entry(change, entry, forward),
            Kind::ActionProfileMember(member) => {
                let place = Place::Member(member.action_profile_id, member.member_id);
                self.profile(change, member.action_profile_id, &place)?;
                self.plain(change, place, Kind::ActionProfileMember(member.clone()))
            }
            Kind::ActionProfileGroup(group) => {
                let place = Place::Group(group.action_profile_id, group.group_id);
                self.profile(change, group.action_profile_id, &place)?;
                self.group(change, group, &place)?;
                self.plain(change, place, Kind::ActionProfileGroup(group.clone()))
            }
            Kind::CounterEntry(counter) => self.counter(counter, forward),
            Kind::MeterEntry(meter) => Ok(self.meter(meter)),
            Kind::DirectCounterEntry(counter) => self.direct_counter(counter, forward),
            Kind::PacketReplicationEngineEntry(entry) => {
                let place = match &entry.r#type {
                    Some(pre::Type::MulticastGroupEntry(group)) => Place::Multicast(group.multicast_group_id),
                    Some(pre::Type::CloneSessionEntry(session)) => Place::Clone(session.session_id),
                    None => return Err(Refused::new(Code::InvalidArgument, "no entity")),
                };
                let many = self.entities.range(Place::Multicast(0)..Place::Digest(0)).count();
                if change == Type::Insert && many >= MAX_COPIES {
                    return Err(Refused::new(Code::ResourceExhausted, format!("{many} groups and sessions are there")));
                }
                self.plain(change, place, Kind::PacketReplicationEngineEntry(entry.clone()))
            }
            Kind::DigestEntry(digest) => {
                self.plain(change, Place::Digest(digest.digest_id), Kind::DigestEntry(*digest))
            }
        }
    }

    /// Takes back what the newest update that is not taken back yet did.
    pub(super) fn undo(&mut self, before: Before) {
        for (place, entity) in before.0.into_iter().rev() {
            self.put(place, entity);
        }
    }

    /// Puts an entity, or nothing, at its place; returns what was there.
    fn put(&mut self, place: Place, entity: Option<Entity>) -> (Place, Option<Entity>) {
        let table = if let Place::Entry(table, _) = &place { Some(*table) } else { None };
        let there = entity.is_some();
        let before = match entity {
            Some(entity) => self.entities.insert(place.clone(), entity),
            None => self.entities.remove(&place),
        };
        if let Some(size) = table.map(|table| self.sizes.entry(table).or_default()) {
            match (before.is_some(), there) {
                (false, true) => *size += 1,
                (true, false) => *size -= 1,
                _ => {}
            }
        }
        (place, before)
    }

    /// An entity that is only there or not.
    fn plain(&mut self, change: Type, place: Place, kind: Kind) -> Result<Before, Refused> {
        self.presence(change, &place)?;
        let entity = (change != Type::Delete).then_some(Entity { entity: Some(kind) });
        Ok(Before(vec![self.put(place, entity)]))
    }

    fn presence(&self, change: Type, place: &Place) -> Result<(), Refused> {
        match (change, self.entities.contains_key(place)) {
            (Type::Insert, true) => Err(Refused::new(Code::AlreadyExists, "it is there already")),
            (Type::Modify | Type::Delete, false) => Err(Refused::new(Code::NotFound, "it is not there")),
            _ => Ok(()),
        }
    }

    fn entry(&mut self, change: Type, entry: &TableEntry, forward: &dyn Forward) -> Result<Before, Refused> {
        let info = Arc::clone(&self.info);
        let unknown = || Refused::new(Code::InvalidArgument, "unknown table");
        let table = info.table(entry.table_id).ok_or_else(unknown)?;
        if entry.is_default_action {
            return Ok(self.default_entry(entry));
        }
        let key = Key::of(entry);
        let place = Place::Entry(table.id, key.clone());
        self.presence(change, &place)?;
        if change == Type::Delete {
            return Ok(Before(vec![self.put(place, None)]));
        }
        if let Some(action) = &entry.action {
            self.references(table, action)?;
        }
        let size = self.sizes.get(&table.id).copied().unwrap_or(0);
        if let Some(most) = table.size.filter(|most| change == Type::Insert && size >= *most) {
            return Err(Refused::new(Code::ResourceExhausted, format!("{} has {most} entries already", table.name)));
        }
        let mut new = entry.clone();
        let old = self.table_entry(&place);
        if let Some(old) = old {
            new.action = new.action.or_else(|| old.action.clone());
        }
        new.counter_data = match (&entry.counter_data, old) {
            (Some(set), Some(_)) => Some(minus(*set, forward.hits(table.id, &key))),
            (Some(set), None) => Some(*set),
            (None, old) => old.and_then(|old| old.counter_data),
        };
        let entity = Entity { entity: Some(Kind::TableEntry(new)) };
        Ok(Before(vec![self.put(place, Some(entity))]))
    }

    /// Without an action, back to the program's (P4Runtime §9.1.3).
    fn default_entry(&mut self, entry: &TableEntry) -> Before {
        let entity = entry.action.is_some().then(|| Entity { entity: Some(Kind::TableEntry(entry.clone())) });
        Before(vec![self.put(Place::Default(entry.table_id), entity)])
    }

    fn table_entry(&self, place: &Place) -> Option<&TableEntry> {
        match self.entities.get(place)?.entity.as_ref()? {
            Kind::TableEntry(entry) => Some(entry),
            _ => None,
        }
    }

    /// What an entry names must be there, and of the right sort.
    fn references(&self, table: &Table, action: &TableAction) -> Result<(), Refused> {
        let Some(profile) = table.profile else { return Ok(()) };
        let there = match &action.r#type {
            Some(table_action::Type::ActionProfileMemberId(id)) => Place::Member(profile, *id),
            Some(table_action::Type::ActionProfileGroupId(id)) => Place::Group(profile, *id),
            _ => {
                return match self.members_of(profile).next() {
                    Some(_) => Err(mixed()),
                    None => Ok(()),
                };
            }
        };
        match self.entities.contains_key(&there) {
            true => Ok(()),
            false => Err(Refused::new(Code::NotFound, format!("{} names what is not there", table.name))),
        }
    }

    /// What holds for members and groups alike.
    fn profile(&self, change: Type, id: u32, place: &Place) -> Result<(), Refused> {
        let unknown = || Refused::new(Code::InvalidArgument, "unknown action profile");
        let profile = self.info.profile(id).ok_or_else(unknown)?;
        match change {
            Type::Insert => {
                if self.uses(profile).any(|used| matches!(used, table_action::Type::ActionProfileActionSet(_))) {
                    return Err(mixed());
                }
                let full =
                    |most: &u64| matches!(place, Place::Member(..)) && self.members_of(id).count() as u64 >= *most;
                if let Some(most) = profile.size.filter(full) {
                    let why = format!("{} has {most} members already", profile.name);
                    return Err(Refused::new(Code::ResourceExhausted, why));
                }
                Ok(())
            }
            Type::Delete => {
                let used = match place {
                    Place::Member(_, member) => {
                        self.groups_of(id).any(|group| group.members.iter().any(|of| of.member_id == *member))
                            || self
                                .uses(profile)
                                .any(|used| *used == table_action::Type::ActionProfileMemberId(*member))
                    }
                    Place::Group(_, group) => {
                        self.uses(profile).any(|used| *used == table_action::Type::ActionProfileGroupId(*group))
                    }
                    _ => false,
                };
                match used {
                    true => Err(Refused::new(Code::FailedPrecondition, "it is named by something else")),
                    false => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn group(&self, change: Type, group: &p4::ActionProfileGroup, place: &Place) -> Result<(), Refused> {
        if change == Type::Delete {
            return Ok(());
        }
        let profile = group.action_profile_id;
        let missing = |id: &u32| !self.entities.contains_key(&Place::Member(profile, *id));
        if let Some(id) = group.members.iter().map(|member| member.member_id).find(missing) {
            return Err(Refused::new(Code::NotFound, format!("there is no member {id}")));
        }
        match self.entities.get(place).and_then(|old| old.entity.as_ref()) {
            Some(Kind::ActionProfileGroup(old)) if change == Type::Modify && old.max_size != group.max_size => {
                Err(Refused::new(Code::InvalidArgument, "a group keeps its size"))
            }
            _ => Ok(()),
        }
    }

    fn members_of(&self, profile: u32) -> impl Iterator<Item = &Place> {
        self.entities.range(Place::Member(profile, 0)..=Place::Member(profile, u32::MAX)).map(|(place, _)| place)
    }

    fn groups_of(&self, profile: u32) -> impl Iterator<Item = &p4::ActionProfileGroup> {
        let all = self.entities.range(Place::Group(profile, 0)..=Place::Group(profile, u32::MAX));
        all.filter_map(|(_, entity)| match &entity.entity {
            Some(Kind::ActionProfileGroup(group)) => Some(group),
            _ => None,
        })
    }

    /// The actions of all entries of a profile's tables.
    fn uses(&self, profile: &Profile) -> impl Iterator<Item = &table_action::Type> {
        let entries = profile.tables.iter().flat_map(|table| self.entries_of(*table));
        entries.filter_map(|(_, entry)| entry.action.as_ref()?.r#type.as_ref())
    }

    fn entries_of(&self, table: u32) -> impl Iterator<Item = (&Key, &TableEntry)> {
        let least = Key { matches: Vec::new(), priority: i32::MIN };
        let from = self.entities.range(Place::Entry(table, least)..);
        from.map_while(move |(place, entity)| match (place, &entity.entity) {
            (Place::Entry(of, key), Some(Kind::TableEntry(entry))) if *of == table => Some((key, entry)),
            _ => None,
        })
    }

    fn counter(&mut self, counter: &CounterEntry, forward: &dyn Forward) -> Result<Before, Refused> {
        let Some(data) = counter.data else { return Ok(Before(Vec::new())) };
        let id = counter.counter_id;
        let size = self.info.counter(id).map_or(0, |counter| counter.size);
        let at = match &counter.index {
            Some(index) => vec![u64::try_from(index.index).unwrap_or(0)],
            None => (0..size).collect(),
        };
        let set = |index: u64| {
            let base = minus(data, forward.count(id, index));
            let index = Some(Index { index: i64::try_from(index).unwrap_or(i64::MAX) });
            Entity { entity: Some(Kind::CounterEntry(CounterEntry { counter_id: id, index, data: Some(base) })) }
        };
        Ok(Before(at.into_iter().map(|index| self.put(Place::Counter(id, index), Some(set(index)))).collect()))
    }

    /// Without a configuration, back to the program's, which has none (P4Runtime §9.4).
    fn meter(&mut self, meter: &MeterEntry) -> Before {
        let id = meter.meter_id;
        let size = self.info.meter(id).map_or(0, |meter| meter.size);
        let at = match &meter.index {
            Some(index) => vec![u64::try_from(index.index).unwrap_or(0)],
            None => (0..size).collect(),
        };
        let set = |index: u64| {
            let index = Some(Index { index: i64::try_from(index).unwrap_or(i64::MAX) });
            let meter = MeterEntry { index, ..*meter };
            meter.config.is_some().then_some(Entity { entity: Some(Kind::MeterEntry(meter)) })
        };
        Before(at.into_iter().map(|index| self.put(Place::Meter(id, index), set(index))).collect())
    }

    /// What a meter was set to; `None` if nobody did.
    #[must_use]
    pub fn rate(&self, meter: u32, index: u64) -> Option<MeterConfig> {
        match self.entities.get(&Place::Meter(meter, index))?.entity.as_ref()? {
            Kind::MeterEntry(meter) => meter.config,
            _ => None,
        }
    }

    fn direct_counter(&mut self, counter: &DirectCounterEntry, forward: &dyn Forward) -> Result<Before, Refused> {
        let missing = || Refused::new(Code::InvalidArgument, "no table entry");
        let of = counter.table_entry.as_ref().ok_or_else(missing)?;
        let key = Key::of(of);
        let place =
            if of.is_default_action { Place::Default(of.table_id) } else { Place::Entry(of.table_id, key.clone()) };
        let old = self.table_entry(&place).cloned();
        let mut new = match old {
            Some(old) => old,
            // The program's own default entry counts from nothing.
            None if of.is_default_action => return Ok(Before(Vec::new())),
            None => return Err(Refused::new(Code::NotFound, "it is not there")),
        };
        let Some(data) = counter.data else { return Ok(Before(Vec::new())) };
        new.counter_data = Some(minus(data, forward.hits(of.table_id, &key)));
        Ok(Before(vec![self.put(place, Some(Entity { entity: Some(Kind::TableEntry(new)) }))]))
    }

    /// What a pattern fits.
    pub(super) fn read(&self, pattern: &Entity, forward: &dyn Forward, out: &mut Vec<Entity>) -> Result<(), Refused> {
        check::read(&self.info, pattern)?;
        let mut found = |entity: Kind| out.push(Entity { entity: Some(entity) });
        match pattern.entity.as_ref().ok_or_else(|| Refused::new(Code::InvalidArgument, "no entity"))? {
            Kind::TableEntry(pattern) => {
                for (table, mut entry) in self.matching(pattern) {
                    let counted = pattern.counter_data.is_some() && table.counter.is_some();
                    entry.counter_data = counted.then(|| self.hits(table, &entry, forward));
                    found(Kind::TableEntry(entry));
                }
            }
            Kind::DirectCounterEntry(pattern) => {
                let pattern = pattern.table_entry.clone().unwrap_or_default();
                for (table, entry) in self.matching(&pattern).filter(|(table, _)| table.counter.is_some()) {
                    let data = Some(self.hits(table, &entry, forward));
                    let key = TableEntry {
                        table_id: entry.table_id,
                        r#match: entry.r#match,
                        priority: entry.priority,
                        is_default_action: entry.is_default_action,
                        ..Default::default()
                    };
                    found(Kind::DirectCounterEntry(DirectCounterEntry { table_entry: Some(key), data }));
                }
            }
            Kind::CounterEntry(pattern) => {
                for counter in self.info.counters().filter(|of| [0, of.id].contains(&pattern.counter_id)) {
                    for index in 0..counter.size {
                        let at = i64::try_from(index).unwrap_or(i64::MAX);
                        if pattern.index.is_none_or(|wanted| wanted.index == at) || pattern.counter_id == 0 {
                            let (counter_id, index, data) =
                                (counter.id, Some(Index { index: at }), self.count(counter.id, index, forward));
                            found(Kind::CounterEntry(CounterEntry { counter_id, index, data: Some(data) }));
                        }
                    }
                }
            }
            Kind::MeterEntry(pattern) => {
                for meter in self.info.meters().filter(|of| [0, of.id].contains(&pattern.meter_id)) {
                    for at in 0..meter.size {
                        let index = Some(Index { index: i64::try_from(at).unwrap_or(i64::MAX) });
                        if pattern.index.is_none() || pattern.index == index || pattern.meter_id == 0 {
                            let config = self.rate(meter.id, at);
                            found(Kind::MeterEntry(MeterEntry { meter_id: meter.id, index, config }));
                        }
                    }
                }
            }
            _ => {
                let like = |entity: &&Entity| fits(pattern, entity);
                self.entities.values().filter(like).filter_map(|entity| entity.entity.clone()).for_each(found);
            }
        }
        Ok(())
    }

    fn matching<'a>(&'a self, pattern: &'a TableEntry) -> impl Iterator<Item = (&'a Table, TableEntry)> {
        let tables = self.info.tables().filter(|table| [0, table.id].contains(&pattern.table_id));
        let default = pattern.is_default_action && pattern.table_id != 0;
        let key = Key::of(pattern);
        tables.flat_map(move |table| {
            let defaults = default.then(|| self.default_of(table)).into_iter();
            let exactly = !pattern.r#match.is_empty() && pattern.table_id != 0;
            let matches = key.matches.clone();
            let entries = self.entries_of(table.id).filter(move |_| !default);
            let entries = entries.filter(move |(key, entry)| {
                pattern.table_id == 0 || ((!exactly || key.matches == matches) && selected(pattern, entry))
            });
            defaults.chain(entries.map(|(_, entry)| entry.clone())).map(move |entry| (table, entry))
        })
    }

    /// The default entry as it is now.
    fn default_of(&self, table: &Table) -> TableEntry {
        if let Some(changed) = self.table_entry(&Place::Default(table.id)) {
            return changed.clone();
        }
        let constant = table.constant_default.map(|action_id| p4::Action { action_id, params: Vec::new() });
        let action = table.default.clone().or(constant);
        let action = action.map(|action| TableAction { r#type: Some(table_action::Type::Action(action)) });
        TableEntry { table_id: table.id, action, is_default_action: true, ..Default::default() }
    }

    fn hits(&self, table: &Table, entry: &TableEntry, forward: &dyn Forward) -> CounterData {
        let hits = forward.hits(table.id, &Key::of(entry));
        plus(entry.counter_data.unwrap_or_default(), hits)
    }

    fn count(&self, id: u32, index: u64, forward: &dyn Forward) -> CounterData {
        let base = match self.entities.get(&Place::Counter(id, index)).and_then(|entity| entity.entity.as_ref()) {
            Some(Kind::CounterEntry(CounterEntry { data: Some(base), .. })) => *base,
            _ => CounterData::default(),
        };
        plus(base, forward.count(id, index))
    }
}

/// Whether an entry is one of those that a pattern asks for, but for the match (P4Runtime §9.1.6).
fn selected(pattern: &TableEntry, entry: &TableEntry) -> bool {
    let action = |of: &TableEntry| match of.action.as_ref().and_then(|action| action.r#type.as_ref()) {
        Some(table_action::Type::Action(action)) => Some(action.action_id),
        _ => None,
    };
    (pattern.priority == 0 || pattern.priority == entry.priority)
        && (pattern.controller_metadata == 0 || pattern.controller_metadata == entry.controller_metadata)
        && (pattern.metadata.is_empty() || pattern.metadata == entry.metadata)
        && (action(pattern).is_none() || action(pattern) == action(entry))
}

/// Whether an entity without counters is one of those that a pattern asks for.
fn fits(pattern: &Entity, entity: &Entity) -> bool {
    let any = |wanted: u32, id: u32| wanted == 0 || wanted == id;
    match (&pattern.entity, &entity.entity) {
        (Some(Kind::ActionProfileMember(wanted)), Some(Kind::ActionProfileMember(member))) => {
            any(wanted.action_profile_id, member.action_profile_id) && any(wanted.member_id, member.member_id)
        }
        (Some(Kind::ActionProfileGroup(wanted)), Some(Kind::ActionProfileGroup(group))) => {
            any(wanted.action_profile_id, group.action_profile_id) && any(wanted.group_id, group.group_id)
        }
        (Some(Kind::PacketReplicationEngineEntry(wanted)), Some(Kind::PacketReplicationEngineEntry(entry))) => {
            match (&wanted.r#type, &entry.r#type) {
                (Some(pre::Type::MulticastGroupEntry(wanted)), Some(pre::Type::MulticastGroupEntry(group))) => {
                    any(wanted.multicast_group_id, group.multicast_group_id)
                }
                (Some(pre::Type::CloneSessionEntry(wanted)), Some(pre::Type::CloneSessionEntry(session))) => {
                    any(wanted.session_id, session.session_id)
                }
                _ => false,
            }
        }
        (Some(Kind::DigestEntry(wanted)), Some(Kind::DigestEntry(digest))) => any(wanted.digest_id, digest.digest_id),
        _ => false,
    }
}

fn mixed() -> Refused {
    Refused::new(Code::InvalidArgument, "groups of entries' own and groups with numbers are not mixed")
}

fn minus(this: CounterData, other: CounterData) -> CounterData {
    CounterData { byte_count: this.byte_count - other.byte_count, packet_count: this.packet_count - other.packet_count }
}

fn plus(this: CounterData, other: CounterData) -> CounterData {
    CounterData {
        byte_count: this.byte_count.saturating_add(other.byte_count),
        packet_count: this.packet_count.saturating_add(other.packet_count),
    }
}
