//! get, and how resources are named on the command line.

use crate::{
    Outcome, Usage,
    args::{Output, Target},
    attached::Seen,
    change::known_kind,
    print::Out,
    tables, yaml,
};
use anyhow::anyhow;
use bulkhead_client::Client;
use bulkhead_types::{Kind, Resource, load, v1};
use serde_json::Value;

/// Kind and names of `KIND NAME...` or `KIND/NAME`.
pub fn target(kind: &str, names: &[String]) -> anyhow::Result<(Kind, Vec<String>)> {
    match kind.split_once('/') {
        None => Ok((known_kind(kind)?, names.to_vec())),
        Some((kind, name)) if names.is_empty() => Ok((known_kind(kind)?, vec![name.to_string()])),
        Some(_) => Err(Usage("write KIND/NAME or KIND NAME, not both".into()).into()),
    }
}

/// Only workloads have labels.
pub fn labelled(kind: Kind) -> Result<(), Usage> {
    match kind {
        Kind::Workload => Ok(()),
        _ => Err(Usage(format!("only workloads have labels; name the {} instead of -l", v1::kind_plural(kind)))),
    }
}

/// The resources that a command is about, as documents, and whether they were named one by one.
pub fn fetch(client: &Client, target_args: &Target) -> anyhow::Result<(Kind, Vec<Value>)> {
    let (kind, names) = target(&target_args.kind, &target_args.names)?;
    let plural = v1::kind_plural(kind);
    if target_args.selector.is_some() {
        labelled(kind)?;
    }
    if names.is_empty() {
        return Ok((kind, client.list(plural, target_args.selector.as_deref())?.items));
    }
    if target_args.selector.is_some() {
        return Err(Usage("give names or -l, not both".into()).into());
    }
    let found: Result<Vec<Value>, _> = names.iter().map(|name| client.get(plural, name)).collect();
    Ok((kind, found?))
}

/// A document's name.
pub fn name_of(document: &Value) -> Option<&str> {
    document.get("metadata")?.get("name")?.as_str()
}

/// A document's meaning.
pub fn resource(document: &Value) -> anyhow::Result<Resource> {
    load(&document.to_string()).map_err(|found| {
        let why = found.first().map(|d| format!("{}: {}", d.path, d.message)).unwrap_or_default();
        anyhow!("the server's answer is not understood ({why}); is it of another version?")
    })
}

/// `bulkhead get`
pub fn get(client: &Client, output: Output, out: &mut Out, args: &Target) -> anyhow::Result<Outcome> {
    let (kind, documents) = fetch(client, args)?;
    print(client, kind, output, out, &documents, args.names.len() == 1 || args.kind.contains('/'))?;
    Ok(Outcome::Yes)
}

/// Prints documents of one kind; `single` is one that was asked for by name.
pub fn print(
    client: &Client,
    kind: Kind,
    output: Output,
    out: &mut Out,
    documents: &[Value],
    single: bool,
) -> anyhow::Result<()> {
    match (output, documents) {
        (Output::Json, [one]) if single => out.value(output, one)?,
        (Output::Json, many) => out.value(output, &many)?,
        (Output::Yaml, many) => out.raw(&yaml::documents(many)),
        (_, []) => out.line(format!("no {} found", v1::kind_plural(kind))),
        (_, many) => {
            let resources = many.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
            let seen = Seen::of(client, &resources)?;
            let rows: Vec<_> = resources.iter().map(|r| tables::row(r, &seen, output == Output::Wide)).collect();
            out.table(tables::head(kind, output == Output::Wide), &rows);
        }
    }
    Ok(())
}
