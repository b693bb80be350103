//! apply, plan, validate, edit, delete.

use crate::{
    Outcome, Usage,
    args::{Files, How, OptionalTarget, Output, kind},
    input,
    print::{self, Out, Tone},
    progress::Progress,
    question::row_service,
    show, yaml,
};
use anyhow::{Context, anyhow};
use bulkhead_client::{Client, Error};
use bulkhead_types::{
    ApplyAnswer, ChangeKind, ChangeLine, Diagnostic, Format, Kind, MAX_INPUT, PlanAnswer, Severity,
    read_removals_to_send, read_to_send, v1,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{IsTerminal, stdin},
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

/// How long one request waits for a realization: often enough that the progress moves.
const STEP: Duration = Duration::from_secs(1);

/// What sending documents came to.
enum Sent {
    Accepted(Box<ApplyAnswer>),
    /// And why has been said.
    Refused,
}

/// What is done with documents.
struct Verb {
    /// How they are read here.
    reading: input::Reading,
    /// How they are sent.
    request: fn(&Client, &[u8], Format, bool) -> Result<ApplyAnswer, Error>,
}

const APPLY: Verb = Verb { reading: read_to_send, request: Client::apply_text };
const DELETE: Verb = Verb { reading: read_removals_to_send, request: Client::delete_text };

/// Sends documents; findings are shown in the operator's own files.
fn send(client: &Client, verb: &Verb, paths: &[PathBuf], dry_run: bool) -> anyhow::Result<Sent> {
    let files = input::contents(paths, MAX_INPUT)?;
    if let Some((name, content)) = input::large(&files)
        && let Some(sent) = send_as_it_is(client, verb, name, content, dry_run)
    {
        return sent;
    }
    let progress = Progress::of("reading");
    let input = input::read(paths, &files, verb.reading)?;
    if input.has_errors() {
        drop(progress);
        print::findings(&input.parsed.diagnostics, &input.sources);
        return Ok(Sent::Refused);
    }
    let done = if dry_run { "checked" } else { "checked and stored" };
    progress.now(format!("{} documents are {done}", input.parsed.documents.len()));
    let answer = (verb.request)(client, input.list().as_bytes(), Format::Json, dry_run);
    drop(progress);
    said(answer, |found| input.locate(found), || input.sources.clone())
}

/// Sends a file that the server alone reads. Nothing if it did not take all of it: what is made of it here is shorter.
fn send_as_it_is(
    client: &Client,
    verb: &Verb,
    name: &str,
    content: &[u8],
    dry_run: bool,
) -> Option<anyhow::Result<Sent>> {
    let done = if dry_run { "read and checked" } else { "read, checked and stored" };
    let progress = Progress::of(format!("{} MB are sent, {done}", content.len() / 1_000_000));
    let answer = (verb.request)(client, content, input::format(name), dry_run);
    drop(progress);
    match &answer {
        Err(error) if error.was_not_taken() => return None,
        // What is unchanged would be among them.
        Ok(answer) if answer.changes.is_empty() => return Some(Err(anyhow!("there is no document in {name}"))),
        _ => {}
    }
    // Where the server names a line, it is one of this file.
    let file = |found: &Diagnostic| found.line.map(|_| name.to_string());
    let locate = |found: &[Diagnostic]| found.iter().map(|d| Diagnostic { file: file(d), ..d.clone() }).collect();
    Some(said(answer, locate, || BTreeMap::from([(name.into(), input::text(content))])))
}

/// Shows what was found, in the files that `sources` gives.
fn said(
    answer: Result<ApplyAnswer, Error>,
    locate: impl Fn(&[Diagnostic]) -> Vec<Diagnostic>,
    sources: impl FnOnce() -> BTreeMap<String, String>,
) -> anyhow::Result<Sent> {
    let found = match &answer {
        Ok(answer) => &answer.diagnostics,
        Err(Error::Problem(problem)) => &problem.diagnostics,
        Err(_) => &Vec::new(),
    };
    let told = !found.is_empty();
    if told {
        print::findings(&locate(found), &sources());
    }
    match answer {
        Ok(answer) => Ok(Sent::Accepted(Box::new(answer))),
        Err(Error::Problem(_)) if told => Ok(Sent::Refused),
        Err(other) => Err(other.into()),
    }
}

/// Says that nothing was done.
pub fn refused() -> anyhow::Result<Outcome> {
    print::note("nothing was changed");
    Ok(Outcome::Failed)
}

/// `bulkhead apply`
pub fn apply(client: &Client, output: Output, out: &mut Out, files: &Files, how: &How) -> anyhow::Result<Outcome> {
    let sent = send(client, &APPLY, &files.files, how.dry_run)?;
    let Sent::Accepted(answer) = sent else { return refused() };
    accepted(client, output, out, &answer, how)
}

/// Says what was done, and waits for it to be so on switches where that is wanted.
pub fn accepted(
    client: &Client,
    output: Output,
    out: &mut Out,
    answer: &ApplyAnswer,
    how: &How,
) -> anyhow::Result<Outcome> {
    if !matches!(output, Output::Json | Output::Yaml) {
        lines(out, &answer.changes, output == Output::Wide || answer.changes.len() <= MAX_LINES);
    }
    finished(client, output, out, answer, how)
}

/// The end of a change whose resources people have been shown already.
pub fn finished(
    client: &Client,
    output: Output,
    out: &mut Out,
    answer: &ApplyAnswer,
    how: &How,
) -> anyhow::Result<Outcome> {
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, answer)?;
    } else {
        match how.dry_run {
            true => out.line(format!("dry run against revision {}: nothing was changed", answer.revision)),
            false => out.line(format!("revision {}", answer.revision)),
        }
    }
    match how.wait {
        Some(wait) if !how.dry_run => {
            // What was done is shown before the waiting begins.
            out.flush()?;
            realized(client, answer.revision, wait)
        }
        _ => Ok(Outcome::Yes),
    }
}

/// Most resources that a change lists one by one; `-o wide` lists any number.
pub const MAX_LINES: usize = 200;

/// Resources of a change, one a line.
pub fn lines(out: &mut Out, changes: &[ChangeLine], every: bool) {
    for line in changes.iter().filter(|_| every) {
        let text = format!("{}/{} {}", line.kind.to_lowercase(), line.name, line.change.as_str());
        out.line(text);
    }
    if !every {
        let count = |kind| changes.iter().filter(|l| l.change == kind).count();
        let kinds = [ChangeKind::Created, ChangeKind::Updated, ChangeKind::Deleted, ChangeKind::Unchanged];
        let counts: Vec<String> =
            kinds.into_iter().filter(|k| count(*k) > 0).map(|k| format!("{} {}", count(k), k.as_str())).collect();
        out.line(format!("{} (-o wide lists them)", counts.join(", ")));
    }
}

/// Waits until `revision` is on every affected, connected switch.
fn realized(client: &Client, revision: u64, wait: Duration) -> anyhow::Result<Outcome> {
    let end = Instant::now() + wait;
    let progress = Progress::of("waiting for the switches");
    let (mut said, mut all) = (Vec::new(), 0);
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let now = client.realization(revision, left.min(STEP))?;
        if !now.failed.is_empty() {
            drop(progress);
            for (switch, why) in &now.failed {
                print::note(&format!(
                    "error: {switch} refused it: {}; the older revision is in force there",
                    print::clean(why)
                ));
            }
            return Ok(Outcome::Failed);
        }
        if now.realized {
            drop(progress);
            let away = &now.disconnected;
            print::note(&match away.is_empty() {
                true => "realized".to_string(),
                false => format!("realized, but for switches that are not connected: {}", away.join(", ")),
            });
            return Ok(Outcome::Yes);
        }
        if Instant::now() >= end {
            drop(progress);
            print::note(&format!(
                "error: not realized within {wait:?}; waiting for: {}",
                if now.waiting.is_empty() { "the controller".into() } else { now.waiting.join(", ") }
            ));
            return Ok(Outcome::Failed);
        }
        all = now.waiting.len().max(all);
        progress.done(all - now.waiting.len(), all, &format!("switches; waiting for {}", some(&now.waiting)));
        if said != now.waiting && !now.waiting.is_empty() && !progress.is_seen() {
            print::note(&format!("waiting for {}", now.waiting.join(", ")));
            said = now.waiting;
        }
    }
}

/// The first few of many names.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 3;
    let more = names.len().saturating_sub(SHOWN);
    let shown = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// `bulkhead plan`
pub fn plan(client: &Client, output: Output, out: &mut Out, files: &Files) -> anyhow::Result<Outcome> {
    let Sent::Accepted(answer) = send(client, &APPLY, &files.files, true)? else {
        return refused();
    };
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &answer)?;
        return Ok(Outcome::Yes);
    }
    planned(out, &answer, output == Output::Wide);
    Ok(Outcome::Yes)
}

/// What a change would do, in words; `every` lists any number of resources.
pub fn planned(out: &mut Out, answer: &ApplyAnswer, every: bool) {
    lines(out, &answer.changes, every || answer.changes.len() <= MAX_LINES);
    let plan = answer.plan.clone().unwrap_or_default();
    out.line("");
    let rows: Vec<_> = plan
        .switches
        .iter()
        .map(|(name, n)| {
            vec![name.clone(), format!("+{}", n.added), format!("-{}", n.removed), format!("~{}", n.modified)]
        })
        .collect();
    if rows.is_empty() {
        out.line("No switch has entries to change.");
    }
    out.table(&["SWITCH", "ADDED", "REMOVED", "MODIFIED"], &rows);
    out.line("");
    reaches(out, &plan);
}

/// Refuses where nobody is there to be asked.
pub fn can_ask(machine: bool) -> Result<(), Usage> {
    if machine || !stdin().is_terminal() {
        return Err(Usage("nobody can be asked here: say --yes to do it, or --dry-run to see it".into()));
    }
    Ok(())
}

/// Whether the operator says yes.
pub fn confirmed(question: &str) -> anyhow::Result<bool> {
    print::note(&format!("{question} Write `yes`:"));
    let mut said = String::new();
    stdin().read_line(&mut said)?;
    Ok(matches!(said.trim(), "y" | "yes"))
}

/// Who gains and loses whom.
pub fn reaches(out: &mut Out, plan: &PlanAnswer) {
    let lists = [
        ("gains", Tone::Good, &plan.gained),
        ("loses", Tone::Bad, &plan.lost),
        ("would gain (staged)", Tone::Good, &plan.staged_gained),
        ("would lose (staged)", Tone::Bad, &plan.staged_lost),
    ];
    for (word, tone, rows) in lists {
        for row in rows {
            let word = out.tint(tone, word);
            out.line(format!("{} {word} {} {}", row.from, row.to, row_service(row)));
        }
    }
    if lists.iter().all(|(_, _, rows)| rows.is_empty()) && plan.incomplete.is_empty() {
        let compared = format!("compared: {} services; outside addresses are not compared", plan.services);
        out.line(format!("Between the workloads, nobody gains or loses anybody ({compared})."));
    }
    if !plan.incomplete.is_empty() {
        print::note(&format!("note: {}", plan.incomplete));
    }
}

/// `bulkhead validate`
pub fn validate(output: Output, out: &mut Out, files: &Files) -> anyhow::Result<Outcome> {
    let contents = input::contents(&files.files, MAX_INPUT)?;
    let input = input::read(&files.files, &contents, APPLY.reading)?;
    let contents = input.sources.iter().map(|(name, text)| (name.as_str(), text.as_bytes()));
    let found = match input.has_errors() {
        // Bytes that are not UTF-8 have been replaced in the sources; the first reading knows better.
        true => input.parsed.diagnostics.clone(),
        false => bulkhead_types::validate(contents),
    };
    let errors = found.iter().filter(|d| d.severity == Severity::Error).count();
    if matches!(output, Output::Json | Output::Yaml) {
        out.value(output, &found)?;
    } else {
        print::findings(&found, &input.sources);
        let documents = input.parsed.documents.len();
        match errors {
            0 if documents == 1 => out.line("1 document is valid"),
            0 => out.line(format!("{documents} documents are valid")),
            1 => print::note("1 error"),
            _ => print::note(&format!("{errors} errors")),
        }
    }
    Ok(if errors == 0 { Outcome::Yes } else { Outcome::Failed })
}

/// `bulkhead edit`
pub fn edit(
    client: &Client,
    output: Output,
    out: &mut Out,
    kind_text: &str,
    name: Option<&str>,
) -> anyhow::Result<Outcome> {
    let names: Vec<String> = name.map(String::from).into_iter().collect();
    let (kind, names) = show::target(kind_text, &names)?;
    let [name] = names.as_slice() else { return Err(Usage("name one resource to edit".into()).into()) };
    let before = yaml::documents([&client.get(v1::kind_plural(kind), name)?]);
    let file =
        std::env::temp_dir().join(format!("bulkhead-{}-{name}-{}.yaml", v1::kind_plural(kind), std::process::id()));
    let mut options = std::fs::OpenOptions::new();
    // A file of that name that somebody else has put there is not written to.
    let mut opened = options.write(true).create_new(true).open(&file).context("cannot write a temporary file")?;
    std::io::Write::write_all(&mut opened, before.as_bytes())?;
    drop(opened);
    let editor = std::env::var("VISUAL").or_else(|_| std::env::var("EDITOR")).unwrap_or_else(|_| "vi".into());
    let mut words = editor.split_whitespace();
    let status = Command::new(words.next().unwrap_or("vi")).args(words).arg(&file).status();
    let status = status.with_context(|| format!("cannot start the editor `{editor}`; set EDITOR"))?;
    if !status.success() {
        print::note(&format!("error: the editor `{editor}` ended with {status}; nothing was changed"));
        print::note(&format!("your edit is kept in {}", file.display()));
        return Ok(Outcome::Failed);
    }
    if std::fs::read_to_string(&file)? == before {
        std::fs::remove_file(&file)?;
        out.line("nothing was changed");
        return Ok(Outcome::Yes);
    }
    // The document has its resourceVersion in it, so a change made meanwhile is not overwritten.
    match send(client, &APPLY, std::slice::from_ref(&file), false) {
        Ok(Sent::Accepted(answer)) => {
            std::fs::remove_file(&file)?;
            accepted(client, output, out, &answer, &How::default())
        }
        other => {
            print::note(&format!("your edit is kept in {}", file.display()));
            other.and_then(|_| refused())
        }
    }
}

/// `bulkhead delete`
pub fn delete(
    client: &Client,
    output: Output,
    out: &mut Out,
    target: &OptionalTarget,
    files: &[PathBuf],
    how: &How,
) -> anyhow::Result<Outcome> {
    let Some(kind_text) = &target.kind else {
        let sent = send(client, &DELETE, files, how.dry_run)?;
        let Sent::Accepted(answer) = sent else { return refused() };
        return accepted(client, output, out, &answer, how);
    };
    let (kind, names) = show::target(kind_text, &target.names)?;
    let documents = match (&target.selector, names.is_empty()) {
        (Some(_), false) => return Err(Usage("give names or -l, not both".into()).into()),
        (None, true) => return Err(Usage("name what is to be removed, or select it with -l".into()).into()),
        (None, false) => match named(client, kind, &names)? {
            Some(documents) => documents,
            None => return refused(),
        },
        (Some(selector), true) => {
            show::labelled(kind)?;
            if selector.trim().is_empty() {
                // As an unset variable in a script would have it.
                let all = format!("an empty selector selects every one of the {}; say which", v1::kind_plural(kind));
                return Err(Usage(all).into());
            }
            let list = client.list(v1::kind_plural(kind), Some(selector))?;
            if list.items.is_empty() {
                if matches!(output, Output::Json | Output::Yaml) {
                    out.value(output, &ApplyAnswer { revision: list.revision, ..ApplyAnswer::default() })?;
                } else {
                    out.line(format!("no {} are selected; nothing was changed", v1::kind_plural(kind)));
                }
                return Ok(Outcome::Yes);
            }
            // With the versions: what has another label by now is not removed unseen.
            list.items
                .iter()
                .map(|item| removal(kind, show::name_of(item), item.pointer("/metadata/resourceVersion")))
                .collect()
        }
    };
    let answer = client.delete(&documents, how.dry_run)?;
    print::findings(&print::placeless(&answer.diagnostics), &Default::default());
    accepted(client, output, out, &answer, how)
}

/// A document that names what is to be removed, if it still has this version.
fn removal(kind: Kind, name: Option<&str>, version: Option<&Value>) -> Value {
    let mut metadata = serde_json::json!({"name": name});
    if let (Some(version), Some(fields)) = (version, metadata.as_object_mut()) {
        fields.insert("resourceVersion".into(), version.clone());
    }
    serde_json::json!({"kind": v1::kind_name(kind), "metadata": metadata})
}

/// Documents for names from the command line; nothing if one of them is not there, which has been said.
fn named(client: &Client, kind: Kind, names: &[String]) -> anyhow::Result<Option<Vec<Value>>> {
    let (mut documents, mut missing) = (Vec::new(), false);
    for name in names.iter().collect::<BTreeSet<_>>() {
        match client.get(v1::kind_plural(kind), name) {
            Ok(_) => documents.push(removal(kind, Some(name), None)),
            Err(error @ Error::Problem(_)) => {
                missing = true;
                print::note(&format!("error: {}", print::clean(&error.to_string())));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok((!missing).then_some(documents))
}

/// The kind of a text that a user typed, as wrong usage if there is none.
pub fn known_kind(text: &str) -> anyhow::Result<Kind> {
    kind(text).map_err(|e| Usage(e).into())
}
