//! history, diff, rollback.

use crate::{
    Outcome,
    args::{How, Output},
    change,
    print::{self, Out},
};
use bulkhead_client::Client;
use bulkhead_types::{ChangeKind, ChangeLine, RollbackQuestion};

/// Resources of a revision that a line of the history names; `-o wide` names more.
const NAMED: usize = 3;

/// `bulkhead history`
pub fn history(
    client: &Client,
    output: Output,
    out: &mut Out,
    limit: usize,
    before: Option<u64>,
) -> anyhow::Result<Outcome> {
    let answer = client.history(before, limit)?;
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
        return Ok(Outcome::Yes);
    }
    let named = if output == Output::Wide { usize::MAX } else { NAMED };
    let rows: Vec<_> = answer
        .items
        .iter()
        .map(|item| {
            // What was found out by itself is about no resource that anybody wrote.
            let changes = match item.changes.is_empty() {
                true => "-".into(),
                false => in_short(&item.changes, named, item.more),
            };
            let time = item.time.split('.').next().unwrap_or_default().replace('T', " ");
            vec![item.revision.to_string(), format!("{time}Z"), print::clean(&item.author), changes]
        })
        .collect();
    match rows.is_empty() {
        true => out.line("no revisions"),
        false => out.table(&["REVISION", "TIME", "AUTHOR", "CHANGES"], &rows),
    }
    if answer.oldest > 0 {
        out.line(format!("States are kept from revision {} on.", answer.oldest));
    }
    Ok(Outcome::Yes)
}

/// `+policy/a ~zone/b -workload/c and 7 more`
fn in_short(changes: &[ChangeLine], named: usize, more: usize) -> String {
    let line = |line: &ChangeLine| {
        let sign = match line.change {
            ChangeKind::Created => '+',
            ChangeKind::Deleted => '-',
            ChangeKind::Updated | ChangeKind::Unchanged => '~',
        };
        print::clean(&format!("{sign}{}/{}", line.kind.to_lowercase(), line.name))
    };
    let shown: Vec<String> = changes.iter().take(named).map(line).collect();
    match changes.len() - shown.len() + more {
        0 => shown.join(" "),
        more => format!("{} and {more} more", shown.join(" ")),
    }
}

/// `bulkhead diff`
pub fn diff(client: &Client, output: Output, out: &mut Out, from: u64, to: Option<u64>) -> anyhow::Result<Outcome> {
    let answer = client.diff(from, to)?;
    let outcome = if answer.resources.is_empty() { Outcome::Yes } else { Outcome::No };
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
        return Ok(outcome);
    }
    if answer.resources.is_empty() {
        out.line(format!("revisions {} and {} have the same content", answer.from, answer.to));
        return Ok(outcome);
    }
    let changes: Vec<ChangeLine> = answer.resources.iter().map(|resource| resource.line.clone()).collect();
    change::lines(out, &changes, output == Output::Wide || changes.len() <= change::MAX_LINES);
    out.line("");
    change::reaches(out, &answer.plan);
    Ok(outcome)
}

/// `bulkhead rollback`
pub fn rollback(
    client: &Client,
    output: Output,
    out: &mut Out,
    revision: u64,
    yes: bool,
    how: &How,
) -> anyhow::Result<Outcome> {
    let machine = matches!(output, Output::Json | Output::Yaml);
    if !yes && !how.dry_run {
        change::can_ask(machine)?;
    }
    let plan = client.rollback(&RollbackQuestion { revision, newest: None }, true)?;
    print::findings(&print::placeless(&plan.diagnostics), &Default::default());
    if how.dry_run && machine {
        out.value(output, &plan)?;
        return Ok(Outcome::Yes);
    }
    if plan.changes.is_empty() {
        out.line(format!("revision {} has the content of revision {revision} already", plan.revision));
        return Ok(Outcome::Yes);
    }
    if !machine {
        change::planned(out, &plan, output == Output::Wide);
        // It is to be seen before anything is asked or done.
        out.flush()?;
    }
    if how.dry_run {
        out.line(format!("dry run against revision {}: nothing was changed", plan.revision));
        return Ok(Outcome::Yes);
    }
    if !yes && !change::confirmed(&format!("Go back to revision {revision}?"))? {
        return change::refused();
    }
    // What was shown is what is done: if anybody made a change meanwhile, it is refused.
    let answer = client.rollback(&RollbackQuestion { revision, newest: Some(plan.revision) }, false)?;
    change::finished(client, output, out, &answer, how)
}
