//! `get -w`: what there is, and then what changes.

use crate::{
    Outcome,
    args::{Output, Target},
    attached::Seen,
    print::{Out, Widths, note},
    show::{fetch, name_of, resource, target},
    tables,
};
use anyhow::bail;
use bulkhead_client::{Client, Error, Told};
use bulkhead_types::{ChangeKind, Kind, Problem, TOO_OLD, v1};
use serde_json::{Value, json};
use std::{thread::sleep, time::Duration};

/// How long to wait before a stream that broke off is asked for again, and how often in a row.
const PAUSE: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 30;

/// What lines are about.
struct Lines<'a> {
    client: &'a Client,
    kind: Kind,
    output: Output,
    widths: Widths,
}

impl Lines<'_> {
    /// One line, at once.
    fn say(&mut self, out: &mut Out, change: &str, document: &Value) -> anyhow::Result<()> {
        match self.output {
            Output::Json => out.line(json!({"change": change, "resource": document}).to_string()),
            Output::Yaml => out.value(Output::Yaml, &json!({"change": change, "resource": document}))?,
            _ => {
                let resource = resource(document)?;
                // What is gone is nowhere.
                let gone = change == ChangeKind::Deleted.as_str();
                let seen = if gone { Seen::default() } else { Seen::of(self.client, [&resource])? };
                let row = [change.to_string()].into_iter().chain(tables::row(&resource, &seen, self.wide()));
                out.row(&mut self.widths, &row.collect::<Vec<_>>());
            }
        }
        Ok(out.flush()?)
    }

    fn wide(&self) -> bool {
        self.output == Output::Wide
    }

    /// What there is.
    fn list(&mut self, out: &mut Out, documents: &[Value]) -> anyhow::Result<()> {
        if !matches!(self.output, Output::Table | Output::Wide) {
            return documents.iter().try_for_each(|document| self.say(out, "listed", document));
        }
        let resources = documents.iter().map(resource).collect::<Result<Vec<_>, _>>()?;
        let seen = Seen::of(self.client, &resources)?;
        let head = ["CHANGE"].iter().chain(tables::head(self.kind, self.wide())).map(ToString::to_string).collect();
        let row = |r| ["listed".to_string()].into_iter().chain(tables::row(r, &seen, self.wide())).collect();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(resources.iter().map(row)).collect();
        // The longest word that may come.
        self.widths.fit(&[ChangeKind::Updated.as_str().into()]);
        rows.iter().for_each(|row| self.widths.fit(row));
        rows.iter().for_each(|row| out.row(&mut self.widths, row));
        Ok(out.flush()?)
    }
}

/// `bulkhead get -w`
pub fn watch(client: &Client, output: Output, out: &mut Out, args: &Target) -> anyhow::Result<Outcome> {
    let (kind, names) = target(&args.kind, &args.names)?;
    let plural = v1::kind_plural(kind);
    let mut lines = Lines { client, kind, output, widths: Widths::default() };
    loop {
        // What changes while the list is read is told again rather than missed.
        let since = client.list_page(plural, Some(1), None)?.revision;
        let (_, documents) = fetch(client, args)?;
        lines.list(out, &documents)?;
        let told = follow(&mut lines, out, (&names, args.selector.as_deref()), since)?;
        let Some(problem) = told else { return Ok(Outcome::Yes) };
        if problem.kind != TOO_OLD {
            bail!("{}: {}", problem.title, problem.detail);
        }
        note("changes were missed; this is what there is now:");
    }
}

/// Tells what changes, until the server says that it will not, or nobody reads it any more (`None`).
fn follow(
    lines: &mut Lines<'_>,
    out: &mut Out,
    (names, selector): (&[String], Option<&str>),
    mut since: u64,
) -> anyhow::Result<Option<Problem>> {
    let mut tried = 0;
    loop {
        let why = match lines.client.watch(&[v1::kind_plural(lines.kind)], selector, since) {
            Ok(mut stream) => loop {
                let told = stream.next();
                if stream.at() > since {
                    (since, tried) = (stream.at(), 0);
                }
                match told {
                    Some(Ok(Told::Change(event))) => {
                        let wanted = |name: &str| names.is_empty() || names.iter().any(|known| known == name);
                        if name_of(&event.resource).is_some_and(wanted) {
                            lines.say(out, event.line.change.as_str(), &event.resource)?;
                        }
                        if out.is_unread() {
                            return Ok(None);
                        }
                    }
                    Some(Ok(Told::End(problem))) if problem.status == 503 || problem.status == 408 => {
                        break Error::Problem(problem);
                    }
                    Some(Ok(Told::End(problem))) => return Ok(Some(*problem)),
                    Some(Err(error)) => break error,
                    None => bail!("the stream ended"),
                }
            },
            Err(Error::Problem(problem)) if problem.kind == TOO_OLD => return Ok(Some(*problem)),
            Err(error @ Error::Problem(_)) => return Err(error.into()),
            Err(error) => error,
        };
        tried += 1;
        if tried > ATTEMPTS {
            return Err(why.into());
        }
        note(&format!("{why}; going on"));
        sleep(PAUSE);
    }
}
