//! zone: definitions of zones without YAML.

use crate::{
    Outcome, Usage,
    args::{Output, Zone},
    describe::zone_members,
    print::{self, Out},
    show,
};
use anyhow::{Context, anyhow};
use bulkhead_client::Client;
use bulkhead_types::{ApplyAnswer, Kind, Resource, parse_selector};
use serde_json::{Map, Value, json};

/// Most networks that are named to choose from.
const MAX_NAMES: usize = 5;

/// The network, if there is one alone.
fn only_network(client: &Client) -> anyhow::Result<String> {
    let found = client.list("networks", None)?.items;
    let names: Vec<&str> = found.iter().filter_map(show::name_of).collect();
    match names.as_slice() {
        [one] => Ok((*one).into()),
        [] => Err(anyhow!("there is no network yet; apply one first")),
        several => {
            let shown = several.get(..MAX_NAMES).unwrap_or(several).join(", ");
            Err(Usage(format!("which of {} networks? say --network, as {shown}", several.len())).into())
        }
    }
}

/// `bulkhead zone ...`
pub fn zone(client: &Client, output: Output, out: &mut Out, command: &Zone) -> anyhow::Result<Outcome> {
    match command {
        Zone::List => {
            show::print(client, Kind::Zone, output, out, &client.list("zones", None)?.items, false)?;
            Ok(Outcome::Yes)
        }
        Zone::Create { name, network, selector, isolate, mode } => {
            let parsed = parse_selector(selector).map_err(|e| Usage(e.to_string()))?;
            if parsed.requirements().is_empty() {
                // As an unset variable in a script would have it.
                let all = "an empty selector selects every workload; say which, or apply a document that selects all";
                return Err(Usage(all.into()).into());
            }
            let network = match network {
                Some(network) => network.clone(),
                None => only_network(client)?,
            };
            let document = json!({
                "kind": "Zone",
                // 0: it must not exist yet.
                "metadata": {"name": name, "resourceVersion": 0},
                "spec": {"network": network, "selector": selector_document(&parsed), "isolate": isolate, "mode": mode}
            });
            changed(output, out, &client.put("zones", name, &document)?)
        }
        Zone::Label { name, labels } => {
            let mut document = client.get("zones", name)?;
            let selector = document.pointer_mut("/spec/selector").and_then(Value::as_object_mut);
            let selector = selector.context("the server's answer has no selector")?;
            let matched = selector.entry("matchLabels").or_insert_with(|| Map::new().into());
            let matched = matched.as_object_mut().context("the server's answer has no labels")?;
            for label in labels {
                set(matched, label)?;
            }
            let no_label = matched.is_empty();
            let expressions = selector.get("matchExpressions").and_then(Value::as_array);
            let expressions = expressions.is_some_and(|expressions| !expressions.is_empty());
            if no_label && !expressions {
                return Err(anyhow!(
                    "without this label the zone would select every workload; give it another one first"
                ));
            }
            let answer = client.put("zones", name, &document)?;
            if expressions {
                // What it would have been taken for: the labels alone.
                let Resource::Zone(zone) = show::resource(&document)? else {
                    return Err(anyhow!("the server's answer is no zone"));
                };
                print::note(&format!(
                    "note: the zone's expressions stay: it selects by `{}`",
                    print::clean(&zone.selector.to_string())
                ));
            }
            changed(output, out, &answer)
        }
        Zone::Mode { name, mode } => {
            let mut document = client.get("zones", name)?;
            let spec = document.pointer_mut("/spec").and_then(Value::as_object_mut);
            spec.context("the server's answer has no spec")?.insert("mode".into(), mode.as_str().into());
            changed(output, out, &client.put("zones", name, &document)?)
        }
        Zone::Members { name } => {
            let Resource::Zone(zone) = show::resource(&client.get("zones", name)?)? else {
                return Err(anyhow!("the server's answer is no zone"));
            };
            show::print(client, Kind::Workload, output, out, &zone_members(client, &zone)?, false)?;
            Ok(Outcome::Yes)
        }
    }
}

/// One `KEY=VALUE` or `KEY-`.
fn set(labels: &mut Map<String, Value>, label: &str) -> anyhow::Result<()> {
    match (label.split_once('='), label.strip_suffix('-')) {
        (Some((key, value)), _) => drop(labels.insert(key.into(), value.into())),
        (None, Some(key)) if labels.remove(key).is_some() => {}
        (None, Some(key)) => return Err(anyhow!("the zone does not select by the label `{key}`")),
        (None, None) => return Err(Usage(format!("`{label}`: write KEY=VALUE or KEY-")).into()),
    }
    Ok(())
}

fn selector_document(selector: &bulkhead_types::Selector) -> Value {
    let expressions: Vec<Value> = selector
        .requirements()
        .iter()
        .map(|r| {
            let mut expression = json!({"key": &*r.key, "operator": r.operator});
            if let (false, Some(fields)) = (r.values().is_empty(), expression.as_object_mut()) {
                fields.insert("values".into(), r.values().iter().map(|v| Value::from(&**v)).collect());
            }
            expression
        })
        .collect();
    json!({"matchExpressions": expressions})
}

fn changed(output: Output, out: &mut Out, answer: &ApplyAnswer) -> anyhow::Result<Outcome> {
    print::findings(&print::placeless(&answer.diagnostics), &Default::default());
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, answer)?;
        return Ok(Outcome::Yes);
    }
    for line in &answer.changes {
        out.line(format!("{}/{} {}", line.kind.to_lowercase(), line.name, line.change.as_str()));
    }
    out.line(format!("revision {}", answer.revision));
    Ok(Outcome::Yes)
}
