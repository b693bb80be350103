//! export: policies for somebody else.

use crate::{
    Outcome, Usage,
    args::{Export, Output},
    print::{self, Out},
    show, yaml,
};
use anyhow::bail;
use bulkhead_client::Client;
use bulkhead_convert::export::network_policies;
use bulkhead_types::{Kind, Resource, Severity, v1::kind_plural};
use std::collections::BTreeMap;

/// `bulkhead export ...`
pub fn export(client: &Client, output: Output, out: &mut Out, command: &Export) -> anyhow::Result<Outcome> {
    let Export::Networkpolicy { zone, namespace } = command;
    let zone = zone.parse().map_err(|wrong| Usage(format!("{wrong}")))?;
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if let Some(name) =
        namespace.as_deref().filter(|name| name.is_empty() || name.len() > 63 || !name.bytes().all(good))
    {
        return Err(Usage(format!("`{name}` is no namespace's name")).into());
    }
    let exported = network_policies(fabric(client)?, &zone, namespace.as_deref());
    print::findings(&exported.diagnostics, &BTreeMap::new());
    if exported.diagnostics.iter().any(|found| found.severity == Severity::Error) {
        print::note("nothing was exported");
        return Ok(Outcome::Failed);
    }
    match output {
        Output::Json => out.value(output, &exported.documents)?,
        _ => out.raw(&yaml::documents(&exported.documents)),
    }
    Ok(Outcome::Yes)
}

/// How often everything is asked for, until nobody makes a change in between.
const TRIES: usize = 5;

/// What policies mean, of one revision.
fn fabric(client: &Client) -> anyhow::Result<Vec<Resource>> {
    for _ in 0..TRIES {
        let (mut all, mut revisions) = (Vec::new(), Vec::new());
        for kind in [Kind::Network, Kind::AddressSet, Kind::Workload, Kind::Zone, Kind::Policy] {
            let list = client.list(kind_plural(kind), None)?;
            revisions.push(list.revision);
            for document in &list.items {
                all.push(show::resource(document)?);
            }
        }
        revisions.dedup();
        if revisions.len() == 1 {
            return Ok(all);
        }
    }
    bail!("the fabric changes faster than it can be read; try again")
}
