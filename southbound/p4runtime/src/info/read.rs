//! From P4Info's messages to [`Info`], with all that must hold between them.

use super::*;
use crate::check;

impl Info {
    /// Indexes a P4Info.
    ///
    /// # Errors
    /// It contradicts itself, or has what this crate cannot check.
    pub fn new(info: &P4Info) -> Result<Self, InfoError> {
        let mut names = Names::default();
        let mut made = Self {
            tables: BTreeMap::new(),
            actions: BTreeMap::new(),
            profiles: BTreeMap::new(),
            counters: BTreeMap::new(),
            direct_counters: BTreeMap::new(),
            meters: BTreeMap::new(),
            digests: BTreeMap::new(),
            packet_in: Vec::new(),
            packet_out: Vec::new(),
            names: BTreeMap::new(),
        };
        for (at, action) in info.actions.iter().enumerate() {
            let (id, name) = names.take(Prefix::Action, at, action.preamble.as_ref())?;
            let params = action.params.iter().map(|param| (param.id, &param.name, param.bitwidth));
            let params = values(&format!("action {name:?}"), params)?;
            made.actions.insert(id, Action { id, name, params });
        }
        for (at, profile) in info.action_profiles.iter().enumerate() {
            let (id, name) = names.take(Prefix::ActionProfile, at, profile.preamble.as_ref())?;
            made.profiles.insert(id, read_profile(id, name, profile)?);
        }
        for (at, counter) in info.counters.iter().enumerate() {
            let (id, name) = names.take(Prefix::Counter, at, counter.preamble.as_ref())?;
            let size = size(&format!("counter {name:?}"), counter.size)?.unwrap_or(0);
            made.counters.insert(id, Counter { id, name, size });
        }
        for (at, counter) in info.direct_counters.iter().enumerate() {
            let (id, name) = names.take(Prefix::DirectCounter, at, counter.preamble.as_ref())?;
            made.direct_counters.insert(id, DirectCounter { id, name, table: counter.direct_table_id });
        }
        for (at, meter) in info.meters.iter().enumerate() {
            let (id, name) = names.take(Prefix::Meter, at, meter.preamble.as_ref())?;
            let size = size(&format!("meter {name:?}"), meter.size)?.unwrap_or(0);
            made.meters.insert(id, Meter { id, name, size });
        }
        // These are only named: an entry may not mean one of them by another kind's number.
        for (at, meter) in info.direct_meters.iter().enumerate() {
            names.take(Prefix::DirectMeter, at, meter.preamble.as_ref())?;
        }
        for (at, set) in info.value_sets.iter().enumerate() {
            names.take(Prefix::ValueSet, at, set.preamble.as_ref())?;
        }
        for (at, register) in info.registers.iter().enumerate() {
            names.take(Prefix::Register, at, register.preamble.as_ref())?;
        }
        for (at, table) in info.tables.iter().enumerate() {
            let (id, name) = names.take(Prefix::Table, at, table.preamble.as_ref())?;
            let table = made.read_table(id, name, table)?;
            made.tables.insert(id, table);
        }
        for (at, digest) in info.digests.iter().enumerate() {
            let (id, name) = names.take(Prefix::Digest, at, digest.preamble.as_ref())?;
            let members = members(info, &format!("digest {name:?}"), digest)?;
            made.digests.insert(id, Digest { id, name, members });
        }
        for (at, header) in info.controller_packet_metadata.iter().enumerate() {
            let (_, name) = names.take(Prefix::ControllerHeader, at, header.preamble.as_ref())?;
            let fields = header.metadata.iter().map(|field| (field.id, &field.name, field.bitwidth));
            let fields = values(&format!("header {name:?}"), fields)?;
            match name.as_str() {
                "packet_in" => made.packet_in = fields,
                "packet_out" => made.packet_out = fields,
                _ => {}
            }
        }
        made.belonging()?;
        made.names = names.by_name;
        Ok(made)
    }

    fn read_table(&self, id: u32, name: String, table: &config::Table) -> Result<Table, InfoError> {
        let place = format!("table {name:?}");
        let widths = table.match_fields.iter().map(|field| (field.id, &field.name, field.bitwidth));
        let kinds = table.match_fields.iter().map(|field| kind(&name, field));
        let fields = values(&place, widths)?.into_iter().zip(kinds);
        let fields = fields.map(|(value, kind)| Ok(Field { value, kind: kind? })).collect::<Result<_, _>>()?;
        let dangling = |kind, id| InfoError::Dangling { from: place.clone(), kind, id };
        let mut actions = BTreeMap::new();
        for reference in &table.action_refs {
            let action = self.action(reference.id).ok_or_else(|| dangling("action", reference.id))?;
            let scope = match reference.scope() {
                action_ref::Scope::TableAndDefault => Scope::Both,
                action_ref::Scope::TableOnly => Scope::Entries,
                action_ref::Scope::DefaultOnly => Scope::Default,
            };
            if actions.insert(reference.id, scope).is_some() {
                let name = action.name.clone();
                return Err(InfoError::Twice { place, id: reference.id, first: name.clone(), second: name });
            }
        }
        let profile = Some(table.implementation_id).filter(|id| *id != 0);
        if let Some(id) = profile.filter(|id| !self.profiles.contains_key(id)) {
            return Err(dangling("action profile", id));
        }
        let constant_default = Some(table.const_default_action_id).filter(|id| *id != 0);
        if let Some(id) = constant_default.filter(|id| !actions.contains_key(id)) {
            return Err(dangling("its own action", id));
        }
        let is_counter = |id: &&u32| id.to_be_bytes()[0] == Prefix::DirectCounter as u8;
        let counter = table.direct_resource_ids.iter().find(is_counter).copied();
        if let Some(id) = counter.filter(|id| !self.direct_counters.contains_key(id)) {
            return Err(dangling("direct counter", id));
        }
        let default = table.initial_default_action.as_ref().map(|call| {
            let params = call.arguments.iter();
            let params = params.map(|argument| p4::action::Param {
                param_id: argument.param_id,
                // p4c writes as many bytes as the parameter is wide.
                value: bytes::minimal(&argument.value).to_vec(),
            });
            p4::Action { action_id: call.action_id, params: params.collect() }
        });
        let made = Table {
            id,
            name,
            fields,
            actions,
            size: size(&place, table.size)?,
            profile,
            counter,
            constant: table.is_const_table,
            constant_default,
            default,
            idle_timeout: table.idle_timeout_behavior() == config::table::IdleTimeoutBehavior::NotifyControl,
        };
        if let Some(action) = &made.default {
            check::default_action(self, &made, action)
                .map_err(|refusal| InfoError::Default { table: made.name.clone(), why: refusal.to_string() })?;
        }
        Ok(made)
    }

    /// What two objects say of each other must be the same.
    fn belonging(&self) -> Result<(), InfoError> {
        let one_sided = |one: &str, other: &str| InfoError::OneSided { one: one.to_owned(), other: other.to_owned() };
        for counter in self.direct_counters.values() {
            let table = self.table(counter.table).ok_or_else(|| InfoError::Dangling {
                from: format!("direct counter {:?}", counter.name),
                kind: "table",
                id: counter.table,
            })?;
            if table.counter != Some(counter.id) {
                return Err(one_sided(&counter.name, &table.name));
            }
        }
        for table in self.tables() {
            let counter = table.counter.and_then(|id| self.direct_counter(id));
            if let Some(counter) = counter.filter(|counter| counter.table != table.id) {
                return Err(one_sided(&table.name, &counter.name));
            }
            let profile = table.profile.and_then(|id| self.profile(id));
            if let Some(profile) = profile.filter(|profile| !profile.tables.contains(&table.id)) {
                return Err(one_sided(&table.name, &profile.name));
            }
        }
        for profile in self.profiles() {
            for id in &profile.tables {
                let from = || format!("action profile {:?}", profile.name);
                let dangling = || InfoError::Dangling { from: from(), kind: "table", id: *id };
                let table = self.table(*id).ok_or_else(dangling)?;
                if table.profile != Some(profile.id) {
                    return Err(one_sided(&profile.name, &table.name));
                }
            }
        }
        Ok(())
    }
}

/// The numbers and names that are taken.
#[derive(Default)]
struct Names {
    by_id: BTreeMap<u32, String>,
    by_name: BTreeMap<(Prefix, String), u32>,
}

impl Names {
    /// The number and name of an object.
    fn take(
        &mut self,
        kind: Prefix,
        at: usize,
        preamble: Option<&config::Preamble>,
    ) -> Result<(u32, String), InfoError> {
        let word = word(kind);
        let unnamed = |missing| InfoError::Unnamed { kind: word, at, missing };
        let preamble = preamble.ok_or_else(|| unnamed("preamble"))?;
        let (id, name) = (preamble.id, preamble.name.clone());
        if name.is_empty() {
            return Err(unnamed("name"));
        }
        if i32::from(id.to_be_bytes()[0]) != kind as i32 {
            return Err(InfoError::Prefix { kind: word, name, id });
        }
        if let Some(first) = self.by_id.insert(id, name.clone()) {
            return Err(InfoError::Twice { place: "the program".to_owned(), id, first, second: name });
        }
        if self.by_name.insert((kind, name.clone()), id).is_some() {
            return Err(InfoError::NameTwice { kind: word, name });
        }
        Ok((id, name))
    }
}

/// What people call a kind of object.
fn word(kind: Prefix) -> &'static str {
    match kind {
        Prefix::Action => "action",
        Prefix::Table => "table",
        Prefix::ValueSet => "value set",
        Prefix::ControllerHeader => "packet header",
        Prefix::ActionProfile => "action profile",
        Prefix::Counter => "counter",
        Prefix::DirectCounter => "direct counter",
        Prefix::Meter => "meter",
        Prefix::DirectMeter => "direct meter",
        Prefix::Register => "register",
        Prefix::Digest => "digest",
        Prefix::Unspecified | Prefix::PsaExternsStart | Prefix::OtherExternsStart | Prefix::Max => "extern",
    }
}

/// Fields or parameters of one place, with numbers that are unique there.
fn values<'a>(place: &str, all: impl Iterator<Item = (u32, &'a String, i32)>) -> Result<Vec<Value>, InfoError> {
    let mut seen = BTreeMap::new();
    let mut made = Vec::new();
    for (id, name, bits) in all {
        let place = || place.to_owned();
        let width = u32::try_from(bits).ok().filter(|width| (1..=MAX_WIDTH).contains(width));
        let width = width.ok_or_else(|| InfoError::Width { place: place(), name: name.clone(), width: bits })?;
        if let Some(first) = seen.insert(id, name.clone()) {
            return Err(InfoError::Twice { place: place(), id, first, second: name.clone() });
        }
        made.push(Value { id, name: name.clone(), width });
    }
    Ok(made)
}

fn kind(table: &str, field: &config::MatchField) -> Result<Kind, InfoError> {
    let unknown = |kind: String| InfoError::MatchKind { table: table.to_owned(), field: field.name.clone(), kind };
    match &field.r#match {
        Some(match_field::Match::MatchType(number)) => match match_field::MatchType::try_from(*number) {
            Ok(match_field::MatchType::Exact) => Ok(Kind::Exact),
            Ok(match_field::MatchType::Lpm) => Ok(Kind::Lpm),
            Ok(match_field::MatchType::Ternary) => Ok(Kind::Ternary),
            Ok(match_field::MatchType::Range) => Ok(Kind::Range),
            Ok(match_field::MatchType::Optional) => Ok(Kind::Optional),
            Ok(match_field::MatchType::Unspecified) | Err(_) => Err(unknown(format!("kind {number}"))),
        },
        Some(match_field::Match::OtherMatchType(name)) => Err(unknown(format!("{name:?}"))),
        None => Err(unknown("nothing".to_owned())),
    }
}

fn size(place: &str, size: i64) -> Result<Option<u64>, InfoError> {
    let made = u64::try_from(size).map_err(|_| InfoError::Size { place: place.to_owned(), size })?;
    Ok(Some(made).filter(|size| *size != 0))
}

fn read_profile(id: u32, name: String, profile: &config::ActionProfile) -> Result<Profile, InfoError> {
    let place = format!("action profile {name:?}");
    let positive = |number: i32| {
        let made = u32::try_from(number).map_err(|_| InfoError::Size { place: place.clone(), size: number.into() })?;
        Ok(Some(made).filter(|number| *number != 0))
    };
    let group_size = match &profile.selector_size_semantics {
        Some(action_profile::SelectorSizeSemantics::SumOfMembers(of)) => {
            GroupSize::Members(positive(of.max_member_weight)?)
        }
        // Weights are what a group's size was before 1.4 (P4Runtime §6.4.3).
        Some(action_profile::SelectorSizeSemantics::SumOfWeights(_)) | None => GroupSize::Weights,
    };
    let max_group = positive(profile.max_group_size)?;
    let size = size(&place, profile.size)?;
    Ok(Profile {
        id,
        name,
        tables: profile.table_ids.iter().copied().collect(),
        selector: profile.with_selector,
        size,
        max_group,
        group_size,
    })
}

/// The members of a digest that is a structure of bit strings.
fn members(info: &P4Info, place: &str, digest: &config::Digest) -> Result<Vec<Value>, InfoError> {
    use config::{p4_bitstring_like_type_spec::TypeSpec as Bits, p4_data_type_spec::TypeSpec as Spec};
    let Some(Spec::Struct(named)) = digest.type_spec.as_ref().and_then(|spec| spec.type_spec.as_ref()) else {
        return Ok(Vec::new());
    };
    let structs = info.type_info.as_ref().map(|types| &types.structs);
    let Some(spec) = structs.and_then(|structs| structs.get(&named.name)) else { return Ok(Vec::new()) };
    let mut plain = Vec::new();
    for (id, member) in (1..).zip(&spec.members) {
        let width = match member.type_spec.as_ref().and_then(|spec| spec.type_spec.as_ref()) {
            Some(Spec::Bitstring(bits)) => match &bits.type_spec {
                Some(Bits::Bit(bit)) => bit.bitwidth,
                _ => return Ok(Vec::new()),
            },
            _ => return Ok(Vec::new()),
        };
        plain.push((id, &member.name, width));
    }
    values(place, plain.into_iter())
}
