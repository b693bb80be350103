//! What a device knows of the underlay, as entries beside the program: by which ports tunnels' packets come, and by which
//! neighbours they leave. No stage has them, and plans do not: a session writes them before anything else.

use crate::{
    layout,
    lower::Missing,
    plan::{bare, update},
};
use bulkhead_p4runtime::{
    bytes,
    entry::Key,
    info::{Action, Info, Table},
    proto::p4::v1::{
        Action as P4Action, ActionProfileAction, ActionProfileActionSet, FieldMatch, TableAction, TableEntry, Update,
        action::Param,
        action_profile_action::WatchKind,
        field_match::{Exact, FieldMatchType, Lpm},
        table_action::Type,
        update::Type as UpdateKind,
    },
};
use bulkhead_pipeline::{Builtin, Cause};
use bulkhead_topology::{
    Mac,
    underlay::{Hop, MAX_HOPS, MAX_ROUTES, Underlay},
};
use std::{collections::BTreeMap, net::IpAddr};

/// The table of ports.
pub const PORTS: &str = "ingress.underlay";
/// Its action.
const VTEP: &str = "ingress.vtep";
/// The table of routes.
pub const ROUTES: &str = "ingress.next_hop";
/// Its action, of which an entry has one for each neighbour.
const HOP: &str = "ingress.hop";
/// Most entries of each table and of the second one's groups, as `sizes.p4` has them.
pub const SIZES: [(&str, usize); 3] =
    [("UNDERLAY", layout::MAX_PORT as usize + 3), ("NEXT_HOP", MAX_ROUTES), ("HOPS", MAX_ROUTES * MAX_HOPS)];

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    /// By this port come packets of tunnels.
    Port {
        /// Its number.
        port: u32,
        /// The switch's own Ethernet address.
        mac: Mac,
        /// Its VTEP address.
        vtep: IpAddr,
    },
    /// To VTEPs with this prefix packets leave by one of these neighbours.
    Route {
        /// The prefix, in 128 bits, and its length in them: IPv4's addresses have 96 bits in front.
        to: (u128, u32),
        /// The neighbours, sorted.
        via: Vec<Hop>,
        /// The switch's own Ethernet address.
        mac: Mac,
        /// Its VTEP address.
        vtep: IpAddr,
    },
}

/// The rows of an underlay.
pub fn rows(underlay: &Underlay) -> Vec<Row> {
    let (mac, vtep) = (underlay.mac, underlay.vtep);
    let ports = underlay.ports().into_iter().map(|port| Row::Port { port, mac, vtep });
    let routes = underlay.routes.iter().map(|route| {
        let length = u32::from(route.to.prefix_len()) + if route.to.is_ipv4() { 96 } else { 0 };
        Row::Route { to: (address(route.to.addr()), length), via: route.via.clone(), mac, vtep }
    });
    ports.chain(routes).collect()
}

/// Whether entries of a table are of the underlay.
pub fn is_beside(table: &Table) -> bool {
    [PORTS, ROUTES].contains(&table.name.as_str())
}

/// The entry of a row.
///
/// # Errors
/// What the program, as `info` has it, has no place for.
pub fn lower(row: &Row, info: &Info) -> Result<TableEntry, Missing> {
    let name = match row {
        Row::Port { .. } => PORTS,
        Row::Route { .. } => ROUTES,
    };
    let table = info.table_named(name).ok_or_else(|| Missing::Table(name.to_owned()))?;
    let field = |field: &'static str| {
        let found = table.field_named(field).map(|field| field.value.id);
        found.ok_or_else(|| Missing::Field { table: name.to_owned(), field })
    };
    let (key, of) = match row {
        Row::Port { port, mac, vtep } => {
            let exact = Exact { value: bytes::from_u128((*port).into()) };
            let values = [("mac", mac.to_bits().into()), ("address", address(*vtep))];
            let action = action(info, name, VTEP, &values)?;
            (Some((field("port")?, FieldMatchType::Exact(exact))), Type::Action(action))
        }
        Row::Route { to: (prefix, length), via, mac, vtep } => {
            let far = field("far")?;
            let lpm = Lpm { value: bytes::from_u128(*prefix), prefix_len: (*length).min(128).cast_signed() };
            let hop = |hop: &Hop| {
                let values = [
                    ("port", u128::from(hop.port)),
                    ("mac", hop.mac.to_bits().into()),
                    ("own_mac", mac.to_bits().into()),
                    ("own_address", address(*vtep)),
                ];
                let action = Some(action(info, name, HOP, &values)?);
                // While that port is down the others take its share.
                let watch = WatchKind::WatchPort(bytes::from_u128(hop.port.into()));
                Ok(ActionProfileAction { action, weight: 1, watch_kind: Some(watch) })
            };
            let all: Result<Vec<ActionProfileAction>, Missing> = via.iter().map(hop).collect();
            let set = ActionProfileActionSet { action_profile_actions: all? };
            // A prefix of no length is no match (P4Runtime §9.1.1).
            let key = (*length > 0).then_some((far, FieldMatchType::Lpm(lpm)));
            (key, Type::ActionProfileActionSet(set))
        }
    };
    let matches = key.map(|(field_id, kind)| FieldMatch { field_id, field_match_type: Some(kind) });
    Ok(TableEntry {
        table_id: table.id,
        r#match: matches.into_iter().collect(),
        action: Some(TableAction { r#type: Some(of) }),
        metadata: layout::metadata(Cause::Builtin(Builtin::Tunnel)).to_vec(),
        ..TableEntry::default()
    })
}

fn action(info: &Info, table: &str, name: &str, values: &[(&str, u128)]) -> Result<P4Action, Missing> {
    let missing = || Missing::Shape { table: table.to_owned(), shape: name.to_owned() };
    let action = info.action_named(name).ok_or_else(missing)?;
    let param = |(name, value): &(&str, u128)| {
        let id = action.param_named(name).ok_or_else(missing)?.id;
        Ok(Param { param_id: id, value: bytes::from_u128(*value) })
    };
    let params = values.iter().map(param).collect::<Result<_, Missing>>()?;
    Ok(P4Action { action_id: action.id, params })
}

/// The row that was lowered to an entry; `None` if none was.
pub fn lift(entry: &TableEntry, info: &Info) -> Option<Row> {
    layout::cause(&entry.metadata)?;
    let table = info.table(entry.table_id)?;
    let field = |id: u32| table.field(id).map(|field| field.value.name.as_str());
    let of = entry.action.as_ref()?.r#type.as_ref()?;
    match (table.name.as_str(), entry.r#match.as_slice(), of) {
        (PORTS, [key], Type::Action(of)) if field(key.field_id) == Some("port") => {
            let Some(FieldMatchType::Exact(exact)) = &key.field_match_type else { return None };
            let value = values(info, VTEP, of)?;
            let port = bytes::to_u128(&exact.value)?.try_into().ok()?;
            Some(Row::Port { port, mac: mac(value("mac")?)?, vtep: ip(value("address")?) })
        }
        (ROUTES, keys, Type::ActionProfileActionSet(set)) => {
            let to = match keys {
                [] => (0, 0),
                [key] if field(key.field_id) == Some("far") => {
                    let Some(FieldMatchType::Lpm(lpm)) = &key.field_match_type else { return None };
                    (bytes::to_u128(&lpm.value)?, lpm.prefix_len.try_into().ok()?)
                }
                _ => return None,
            };
            let mut own = None;
            let mut via = Vec::with_capacity(set.action_profile_actions.len());
            for one in &set.action_profile_actions {
                let value = values(info, HOP, one.action.as_ref()?)?;
                let from = (mac(value("own_mac")?)?, ip(value("own_address")?));
                let port = value("port")?;
                let watched =
                    matches!(&one.watch_kind, Some(WatchKind::WatchPort(of)) if bytes::to_u128(of) == Some(port));
                if !watched || one.weight != 1 || *own.get_or_insert(from) != from {
                    return None;
                }
                via.push(Hop { port: port.try_into().ok()?, mac: mac(value("mac")?)? });
            }
            via.sort();
            let (mac, vtep) = own?;
            Some(Row::Route { to, via, mac, vtep })
        }
        _ => None,
    }
}

/// The values of an action's parameters, by name; `None` if it is another action.
fn values<'a>(info: &'a Info, name: &str, of: &'a P4Action) -> Option<impl Fn(&str) -> Option<u128> + 'a> {
    let action: &'a Action = info.action(of.action_id).filter(|action| action.name == name)?;
    Some(move |name: &str| {
        let id = action.param_named(name)?.id;
        bytes::to_u128(&of.params.iter().find(|param| param.param_id == id)?.value)
    })
}

/// What makes the wanted rows of what a device has in these tables: first what comes or is otherwise, so that what goes on is
/// never without a way, then what goes.
///
/// # Errors
/// What the program has no place for.
pub fn updates(have: &[TableEntry], wanted: &[Row], info: &Info) -> Result<Vec<Update>, Missing> {
    let mut there: BTreeMap<(u32, Key), &TableEntry> =
        have.iter().map(|entry| ((entry.table_id, Key::of(entry)), entry)).collect();
    let mut updates = Vec::new();
    for row in wanted {
        let entry = lower(row, info)?;
        match there.remove(&(entry.table_id, Key::of(&entry))) {
            None => updates.push(update(UpdateKind::Insert, entry)),
            Some(old) if lift(old, info).as_ref() == Some(row) => {}
            Some(_) => updates.push(update(UpdateKind::Modify, entry)),
        }
    }
    updates.extend(there.into_values().map(|gone| update(UpdateKind::Delete, bare(gone.clone()))));
    Ok(updates)
}

/// An address as the tables have it, in which IPv4's have their place among IPv6's (RFC 4291 §2.5.5.2).
pub fn address(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => layout::MAPPED | u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The address that is there as these bits.
pub(crate) fn ip(bits: u128) -> IpAddr {
    match u32::try_from(bits ^ layout::MAPPED) {
        Ok(v4) => IpAddr::V4(v4.into()),
        Err(_) => IpAddr::V6(bits.into()),
    }
}

fn mac(bits: u128) -> Option<Mac> {
    u64::try_from(bits).ok().filter(|bits| bits >> 48 == 0).map(Mac::from_bits)
}
