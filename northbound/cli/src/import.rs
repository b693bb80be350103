//! import: resources from other people's policies.

use crate::{
    Outcome, Usage,
    args::{Carry, Import, Output},
    change, input,
    print::{self, Out},
    yaml,
};
use bulkhead_client::Client;
use bulkhead_convert::{File, Imported, aws, kubernetes};
use bulkhead_types::{MAX_FOREIGN_INPUT, Severity, object};
use serde_json::Value;
use std::collections::BTreeMap;

/// `bulkhead import ...`. A client is made only where something is to be applied.
pub fn import(
    client: impl Fn() -> anyhow::Result<Client>,
    output: Output,
    out: &mut Out,
    command: &Import,
) -> anyhow::Result<Outcome> {
    let (files, carry) = match command {
        Import::K8s { files, carry, .. } | Import::Aws { files, carry } => (&files.files, carry),
    };
    if !carry.apply && (carry.yes || carry.how.dry_run || carry.how.wait.is_some()) {
        return Err(Usage("--yes, --dry-run and --wait are for --apply".into()).into());
    }
    let contents = input::contents(files, MAX_FOREIGN_INPUT)?;
    let all: Vec<File<'_>> = contents.iter().map(|(name, content)| File { name, content }).collect();
    let imported = match command {
        Import::Aws { .. } => aws::import(&all),
        Import::K8s { network: None, .. } => kubernetes::import(&all, None),
        Import::K8s { network: Some(network), .. } => {
            let network = network.parse().map_err(|wrong| Usage(format!("{wrong}")))?;
            kubernetes::import(&all, Some(&network))
        }
    };
    let sources: BTreeMap<String, String> =
        contents.iter().map(|(name, content)| (name.clone(), String::from_utf8_lossy(content).into_owned())).collect();
    print::findings(&imported.diagnostics, &sources);
    if imported.diagnostics.iter().any(|found| found.severity == Severity::Error) {
        print::note("nothing was imported");
        return Ok(Outcome::Failed);
    }
    if imported.resources.is_empty() {
        anyhow::bail!("there is nothing to import in {}", input::shown(files));
    }
    let documents = documents(&imported)?;
    if carry.apply {
        return apply(&client()?, output, out, &documents, carry);
    }
    match output {
        Output::Json => out.value(output, &documents)?,
        _ => out.raw(&yaml::documents(&documents)),
    }
    Ok(Outcome::Yes)
}

fn documents(imported: &Imported) -> anyhow::Result<Vec<Value>> {
    Ok(imported.resources.iter().map(|resource| serde_json::to_value(object(resource))).collect::<Result<_, _>>()?)
}

/// Shows what it would change, asks, and does it.
fn apply(
    client: &Client,
    output: Output,
    out: &mut Out,
    documents: &[Value],
    carry: &Carry,
) -> anyhow::Result<Outcome> {
    let machine = matches!(output, Output::Json | Output::Yaml);
    if !carry.yes && !carry.how.dry_run {
        change::can_ask(machine)?;
    }
    let plan = client.apply(documents, true)?;
    print::findings(&print::placeless(&plan.diagnostics), &BTreeMap::new());
    if carry.how.dry_run && machine {
        out.value(output, &plan)?;
        return Ok(Outcome::Yes);
    }
    if !machine {
        change::planned(out, &plan, output == Output::Wide);
        // It is to be seen before anything is asked or done.
        out.flush()?;
    }
    if carry.how.dry_run {
        out.line(format!("dry run against revision {}: nothing was changed", plan.revision));
        return Ok(Outcome::Yes);
    }
    if !carry.yes && !change::confirmed(&format!("Apply these {} resources?", documents.len()))? {
        return change::refused();
    }
    let answer = client.apply(documents, false)?;
    change::finished(client, output, out, &answer, &carry.how)
}
