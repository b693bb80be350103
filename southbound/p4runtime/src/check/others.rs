//! Counters, copies of packets, digests.

use super::{Refusal, counts, entry, table};
use crate::{
    bytes,
    info::Info,
    proto::p4::v1::{
        CounterEntry, DigestEntry, DirectCounterEntry, MeterConfig, MeterEntry, PacketReplicationEngineEntry, Replica,
        packet_replication_engine_entry as pre, replica, update::Type,
    },
};
use std::collections::BTreeSet;

/// P4Runtime §9.3.2.
pub(super) fn counter(info: &Info, change: Type, counter: &CounterEntry) -> Result<(), Refusal> {
    let id = counter.counter_id;
    let of = info.counter(id).ok_or(Refusal::Unknown { kind: "counter", id })?;
    if change != Type::Modify {
        return Err(Refusal::ModifyOnly { what: "counter" });
    }
    if let Some(at) = &counter.index {
        index(&of.name, of.size, at.index)?;
    }
    counts(counter.data.as_ref())
}

/// Whether an array of this size has this index.
pub(super) fn index(array: &str, size: u64, index: i64) -> Result<(), Refusal> {
    match u64::try_from(index) {
        Ok(at) if at < size => Ok(()),
        _ => Err(Refusal::Index { array: array.to_owned(), size, index }),
    }
}

/// P4Runtime §9.4.
pub(super) fn meter(info: &Info, change: Type, meter: &MeterEntry) -> Result<(), Refusal> {
    let id = meter.meter_id;
    let of = info.meter(id).ok_or(Refusal::Unknown { kind: "meter", id })?;
    if change != Type::Modify {
        return Err(Refusal::ModifyOnly { what: "meter" });
    }
    if let Some(at) = &meter.index {
        index(&of.name, of.size, at.index)?;
    }
    let Some(MeterConfig { cir, cburst, pir, pburst, eburst }) = meter.config else { return Ok(()) };
    match [cir, cburst, pir, pburst, eburst].iter().any(|rate| *rate < 0) {
        true => Err(Refusal::Negative { what: "rate" }),
        false => Ok(()),
    }
}

/// P4Runtime §9.3.1.
pub(super) fn direct_counter(info: &Info, change: Type, counter: &DirectCounterEntry) -> Result<(), Refusal> {
    let of = counter.table_entry.as_ref().ok_or(Refusal::NoTableEntry)?;
    let table = table(info, of.table_id)?;
    if table.counter.is_none() {
        return Err(Refusal::NotThere { table: table.name.clone(), what: "direct counter" });
    }
    if change != Type::Modify {
        return Err(Refusal::ModifyOnly { what: "direct counter" });
    }
    entry::key(table, of)?;
    counts(counter.data.as_ref())
}

/// P4Runtime §9.5.
pub(super) fn replication(change: Type, entry: &PacketReplicationEngineEntry) -> Result<(), Refusal> {
    let (id, copies, what) = match &entry.r#type {
        None => return Err(Refusal::NoEntity),
        Some(pre::Type::MulticastGroupEntry(group)) => (group.multicast_group_id, &group.replicas, "multicast group"),
        Some(pre::Type::CloneSessionEntry(session)) => {
            if session.packet_length_bytes < 0 {
                return Err(Refusal::Negative { what: "length" });
            }
            (session.session_id, &session.replicas, "clone session")
        }
    };
    if id == 0 {
        return Err(Refusal::Zero { what });
    }
    if change == Type::Delete { Ok(()) } else { replicas(copies) }
}

fn replicas(copies: &[Replica]) -> Result<(), Refusal> {
    let mut seen = BTreeSet::new();
    for copy in copies {
        let port = match &copy.port_kind {
            Some(replica::PortKind::Port(port)) if bytes::is_canonical(port) => port.clone(),
            Some(replica::PortKind::EgressPort(port)) => bytes::from_u128((*port).into()),
            _ => return Err(Refusal::Port),
        };
        if !seen.insert((port, copy.instance)) {
            return Err(Refusal::CopyTwice);
        }
    }
    Ok(())
}

/// P4Runtime §9.8.
pub(super) fn digest(info: &Info, digest: &DigestEntry) -> Result<(), Refusal> {
    let id = digest.digest_id;
    info.digest(id).ok_or(Refusal::Unknown { kind: "digest", id })?;
    let bad = |config: &&crate::proto::p4::v1::digest_entry::Config| {
        config.max_timeout_ns < 0 || config.max_list_size < 0 || config.ack_timeout_ns < 0
    };
    match digest.config.as_ref().filter(bad) {
        Some(_) => Err(Refusal::Negative { what: "limit" }),
        None => Ok(()),
    }
}
