//! Random programs and updates, for tests: valid ones, and ones with a single fault each.
//!
//! All of it is a function of a seed, so that a property test can name what failed by one number.

use crate::{
    bytes,
    info::{Field, Info, Kind, Scope, Table, Value},
    proto::p4::{
        config::v1::{self as config, P4Info, match_field},
        v1::{
            Action, ActionProfileAction, ActionProfileActionSet, CounterData, Entity, FieldMatch, TableAction,
            TableEntry, Update, action, entity::Entity as EntityKind, field_match, table_action, update::Type,
        },
    },
};
use tonic::Code;

mod faults;

pub use faults::{FAULTS, Fault};

/// A sequence of numbers that looks random: SplitMix64.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `limit`, which is not 0.
    pub fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.number() % limit as u64).unwrap_or(0)
    }

    /// Yes once in so many times.
    pub fn one_in(&mut self, many: usize) -> bool {
        self.below(many) == 0
    }

    /// One of several; `None` of none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        if of.is_empty() { None } else { of.get(self.below(of.len())) }
    }

    /// A canonical value of at most so many bits; often a small or a large one.
    pub fn value(&mut self, width: u32) -> Vec<u8> {
        let all = bytes::all_ones(width as usize);
        let mut value = match self.below(8) {
            0 => vec![0],
            1 => all.clone(),
            _ => all.iter().map(|mask| u8::try_from(self.number() & 0xff).unwrap_or(0) & mask).collect(),
        };
        if self.one_in(3) {
            let short = self.below(value.len()) + 1;
            value.drain(..value.len() - short);
        }
        bytes::minimal(&value).to_vec()
    }
}

/// What the numbers of objects begin with.
fn id(kind: config::p4_ids::Prefix, at: usize) -> u32 {
    (kind as u32) << 24 | u32::try_from(at + 1).unwrap_or(u32::MAX)
}

/// A random program: tables of all kinds of keys, with and without counters, profiles, sizes and constant parts.
pub fn p4info(random: &mut Random) -> P4Info {
    use config::p4_ids::Prefix;
    let preamble = |kind, at, name: &str| {
        Some(config::Preamble { id: id(kind, at), name: format!("ingress.{name}{at}"), ..Default::default() })
    };
    let widths = [1, 8, 9, 16, 31, 32, 48, 64, 127, 128];
    let mut info = P4Info::default();
    for at in 0..2 + random.below(5) {
        let params = (0..random.below(4)).map(|param| config::action::Param {
            id: u32::try_from(param + 1).unwrap_or(1),
            name: format!("p{param}"),
            bitwidth: random.pick(&widths).copied().unwrap_or(1),
            ..Default::default()
        });
        let params = params.collect();
        info.actions.push(config::Action { preamble: preamble(Prefix::Action, at, "act"), params });
    }
    for at in 0..1 + random.below(5) {
        let kinds = [
            match_field::MatchType::Exact,
            match_field::MatchType::Lpm,
            match_field::MatchType::Ternary,
            match_field::MatchType::Range,
            match_field::MatchType::Optional,
        ];
        let match_fields = (0..random.below(5)).map(|field| config::MatchField {
            id: u32::try_from(field + 1).unwrap_or(1),
            name: format!("f{field}"),
            bitwidth: random.pick(&widths).copied().unwrap_or(1),
            r#match: random.pick(&kinds).map(|kind| match_field::Match::MatchType((*kind).into())),
            ..Default::default()
        });
        let match_fields = match_fields.collect();
        let scopes = [
            config::action_ref::Scope::TableAndDefault,
            config::action_ref::Scope::TableOnly,
            config::action_ref::Scope::DefaultOnly,
        ];
        let mut action_refs: Vec<config::ActionRef> = Vec::new();
        for (number, action) in info.actions.iter().enumerate() {
            // The first may do everything, so that every table has something to do.
            if number == 0 || random.one_in(2) {
                let scope = if number == 0 { 0 } else { random.pick(&scopes).map_or(0, |scope| (*scope).into()) };
                let id = action.preamble.as_ref().map_or(0, |preamble| preamble.id);
                action_refs.push(config::ActionRef { id, scope, ..Default::default() });
            }
        }
        let mut table = config::Table {
            preamble: preamble(Prefix::Table, at, "table"),
            match_fields,
            action_refs,
            size: if random.one_in(4) { 0 } else { 1024 },
            is_const_table: random.one_in(6),
            ..Default::default()
        };
        if random.one_in(3) {
            table.const_default_action_id = table.action_refs.first().map_or(0, |first| first.id);
        }
        if random.one_in(2) {
            let counter = preamble(Prefix::DirectCounter, at, "hits");
            let spec = Some(config::CounterSpec { unit: config::counter_spec::Unit::Both.into() });
            let direct_table_id = id(Prefix::Table, at);
            info.direct_counters.push(config::DirectCounter { preamble: counter, spec, direct_table_id });
            table.direct_resource_ids.push(id(Prefix::DirectCounter, at));
        }
        if random.one_in(4) {
            table.implementation_id = id(Prefix::ActionProfile, at);
            info.action_profiles.push(config::ActionProfile {
                preamble: preamble(Prefix::ActionProfile, at, "choice"),
                table_ids: vec![id(Prefix::Table, at)],
                with_selector: true,
                size: 64,
                max_group_size: 8,
                ..Default::default()
            });
        }
        if random.one_in(4) {
            table.idle_timeout_behavior = config::table::IdleTimeoutBehavior::NotifyControl.into();
        }
        info.tables.push(table);
    }
    info
}

/// A valid insert into one of the tables; `None` if no table takes entries.
pub fn insert(random: &mut Random, info: &Info) -> Option<Update> {
    let open: Vec<_> = info.tables().filter(|table| !table.constant && !table.fields.is_empty()).collect();
    let table = *random.pick(&open)?;
    Some(update(Type::Insert, entry(random, info, table)))
}

/// An update of a table's entry.
pub fn update(change: Type, entry: TableEntry) -> Update {
    Update { r#type: change.into(), entity: Some(Entity { entity: Some(EntityKind::TableEntry(entry)) }) }
}

/// The entry that an update is about.
pub fn entry_of(update: &mut Update) -> Option<&mut TableEntry> {
    match update.entity.as_mut()?.entity.as_mut()? {
        EntityKind::TableEntry(entry) => Some(entry),
        _ => None,
    }
}

/// A valid entry of a table that has a key.
pub fn entry(random: &mut Random, info: &Info, table: &Table) -> TableEntry {
    let mut matches: Vec<_> = table.fields.iter().filter_map(|field| field_match(random, field)).collect();
    // The order of the program is not demanded.
    if random.one_in(2) {
        matches.reverse();
    }
    let priority = if table.needs_priority() { i32::try_from(random.below(1 << 16) + 1).unwrap_or(1) } else { 0 };
    let counter = table.counter.filter(|_| random.one_in(4));
    let counted = counter.map(|_| CounterData { byte_count: 100, packet_count: 1 });
    TableEntry {
        table_id: table.id,
        r#match: matches,
        action: table_action(random, info, table),
        priority,
        counter_data: counted,
        metadata: if random.one_in(2) { random.number().to_be_bytes().to_vec() } else { Vec::new() },
        ..Default::default()
    }
}

fn table_action(random: &mut Random, info: &Info, table: &Table) -> Option<TableAction> {
    let kind = if table.profile.is_some() {
        let many = 1 + random.below(4);
        let actions = (0..many).map(|_| ActionProfileAction {
            action: action(random, info, table, Scope::Default),
            weight: i32::try_from(1 + random.below(2)).unwrap_or(1),
            watch_kind: None,
        });
        let set = ActionProfileActionSet { action_profile_actions: actions.collect() };
        table_action::Type::ActionProfileActionSet(set)
    } else {
        table_action::Type::Action(action(random, info, table, Scope::Default)?)
    };
    Some(TableAction { r#type: Some(kind) })
}

/// A valid action of a table, but for those of one scope.
pub fn action(random: &mut Random, info: &Info, table: &Table, not_for: Scope) -> Option<Action> {
    let fitting: Vec<_> = table.actions.iter().filter(|(_, scope)| **scope != not_for).map(|(id, _)| *id).collect();
    let action = info.action(*random.pick(&fitting)?)?;
    let param = |param: &Value| action::Param { param_id: param.id, value: random.value(param.width) };
    Some(Action { action_id: action.id, params: action.params.iter().map(param).collect() })
}

fn field_match(random: &mut Random, field: &Field) -> Option<FieldMatch> {
    use field_match::FieldMatchType as Type;
    let width = field.value.width;
    let kind = match field.kind {
        Kind::Exact => Type::Exact(field_match::Exact { value: random.value(width) }),
        _ if random.one_in(4) => return None,
        Kind::Optional => Type::Optional(field_match::Optional { value: random.value(width) }),
        Kind::Ternary => {
            let mut mask = random.value(width);
            if bytes::bits(&mask) == 0 {
                mask = vec![1];
            }
            Type::Ternary(field_match::Ternary { value: masked(&random.value(width), &mask), mask })
        }
        Kind::Lpm => {
            let length = 1 + random.below(width as usize);
            let free = width as usize - length;
            let mut mask = bytes::all_ones(width as usize);
            for bit in 0..free {
                let at = mask.len() - 1 - bit / 8;
                if let Some(byte) = mask.get_mut(at) {
                    *byte &= !(1 << (bit % 8));
                }
            }
            let value = masked(&random.value(width), &mask);
            Type::Lpm(field_match::Lpm { value, prefix_len: i32::try_from(length).unwrap_or(1) })
        }
        Kind::Range => {
            let (mut low, mut high) = (random.value(width), random.value(width));
            if bytes::compare(&low, &high).is_gt() {
                std::mem::swap(&mut low, &mut high);
            }
            if bytes::bits(&low) == 0 && high == bytes::all_ones(width as usize) {
                high = vec![0];
            }
            Type::Range(field_match::Range { low, high })
        }
    };
    Some(FieldMatch { field_id: field.value.id, field_match_type: Some(kind) })
}

/// The bits of a value that a mask has.
fn masked(value: &[u8], mask: &[u8]) -> Vec<u8> {
    let both = value.iter().rev().zip(mask.iter().rev()).map(|(value, mask)| value & mask);
    let mut made: Vec<u8> = both.collect();
    made.reverse();
    bytes::minimal(&made).to_vec()
}
