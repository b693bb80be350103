//! Whether a program fits a device's tables: looked at before anything is sent.

use crate::layout;
use bulkhead_p4runtime::info::Info;
use bulkhead_pipeline::Stage;
use std::collections::BTreeMap;

/// A table that is too small for a program.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("table {table} has room for {size} entries, and {needed} are needed")]
pub struct TooMany {
    /// The table.
    pub table: String,
    /// What it has room for.
    pub size: u64,
    /// How many entries the program has in it.
    pub needed: u64,
}

/// What the tables of stages have room for, where they say so.
pub(crate) fn by_stage(info: &Info) -> BTreeMap<Stage, u32> {
    let size = |stage| {
        let size = info.table_named(&layout::table(stage))?.size?;
        Some((stage, u32::try_from(size).unwrap_or(u32::MAX)))
    };
    Stage::ALL.iter().filter_map(|spec| size(spec.stage)).collect()
}

/// Whether so many entries of each stage fit their tables; tables that say nothing of their size take any.
///
/// # Errors
/// The first table, in the order of stages, that is too small.
pub fn fits(entries: &BTreeMap<Stage, u64>, info: &Info) -> Result<(), TooMany> {
    for (stage, needed) in entries {
        let table = layout::table(*stage);
        let size = info.table_named(&table).and_then(|table| table.size).unwrap_or(u64::MAX);
        if *needed > size {
            return Err(TooMany { table, size, needed: *needed });
        }
    }
    Ok(())
}
