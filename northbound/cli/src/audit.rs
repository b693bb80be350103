//! audit list, export, verify.

use crate::{
    Outcome,
    args::{Audit, Output},
    print::{self, Out},
};
use anyhow::{Context, bail};
use bulkhead_client::Client;
use bulkhead_types::{AuditHead, AuditRecord, Chain, rfc3339};
use ring::digest::{SHA256, digest};
use std::{
    collections::VecDeque,
    fmt::Write as _,
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Write},
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

/// Records that are asked for at once.
const PAGE: usize = 1_000;
/// Objects that a line names.
const NAMED: usize = 3;

fn sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes).as_ref().iter().fold(String::new(), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Hands on all records, oldest first; the newest one, as the controller tells.
fn all(client: &Client, mut each: impl FnMut(String) -> anyhow::Result<()>) -> anyhow::Result<AuditHead> {
    let (mut after, mut newest) = (0, None);
    loop {
        let page = client.audit(after, PAGE)?;
        // What is written while they are read is for the next time.
        let head = newest.get_or_insert(page.head);
        let done = page.records.is_empty() || after >= head.number;
        if done {
            return Ok(head.clone());
        }
        if after == 0 {
            after = page.oldest.saturating_sub(1);
        }
        for record in page.records {
            if after == head.number {
                break;
            }
            after += 1;
            each(record)?;
        }
    }
}

/// `bulkhead audit ...`
pub fn audit(
    client: impl Fn() -> anyhow::Result<Client>,
    output: Output,
    out: &mut Out,
    command: &Audit,
) -> anyhow::Result<Outcome> {
    match command {
        Audit::List { since, user, outcome, limit } => {
            let since = since.map(|since| SystemTime::now().checked_sub(since).unwrap_or(UNIX_EPOCH));
            let since = since.and_then(|since| since.duration_since(UNIX_EPOCH).ok()).unwrap_or_default().as_millis();
            let mut found: VecDeque<AuditRecord> = VecDeque::new();
            all(&client()?, |line| {
                let record: AuditRecord = serde_json::from_str(&line).context("a record is not understood")?;
                let is = |wanted: &Option<String>, found: &str| wanted.as_ref().is_none_or(|wanted| wanted == found);
                let wanted = is(user, &record.user) && is(outcome, &record.outcome);
                if wanted && u128::from(record.time) >= since {
                    found.push_back(record);
                    if found.len() > *limit {
                        found.pop_front();
                    }
                }
                Ok(())
            })?;
            if matches!(output, Output::Json | Output::Yaml) {
                out.value(output, &found)?;
            } else if found.is_empty() {
                out.line("no records");
            } else {
                let rows: Vec<_> = found.iter().map(|record| row(record, output)).collect();
                out.table(&["NUMBER", "TIME", "USER", "BY", "FROM", "WHAT", "OUTCOME", "ABOUT"], &rows);
            }
            Ok(Outcome::Yes)
        }
        Audit::Export { file } => {
            let mut to: Box<dyn Write> = match file.as_os_str() == "-" {
                true => Box::new(io::stdout().lock()),
                false => Box::new(File::create(file).with_context(|| format!("cannot write {}", file.display()))?),
            };
            let mut to = BufWriter::new(&mut to);
            let head = all(&client()?, |line| Ok(writeln!(to, "{line}")?))?;
            to.flush()?;
            print::note(&format!("the newest record is {}:{}", head.number, head.digest));
            Ok(Outcome::Yes)
        }
        Audit::Verify { file, head } => verify(client, out, file.as_deref(), head.as_ref()),
    }
}

fn verify(
    client: impl Fn() -> anyhow::Result<Client>,
    out: &mut Out,
    file: Option<&Path>,
    noted: Option<&AuditHead>,
) -> anyhow::Result<Outcome> {
    let mut chain = Chain::new(sha256);
    let (mut broken, mut seen) = (None, None);
    let mut follow = |line: &str| {
        if broken.is_none() {
            broken = chain.follow(line).err();
            if noted.is_some_and(|noted| noted.number == chain.head.number) {
                seen = Some(chain.head.digest.clone());
            }
        }
    };
    let told = match file {
        None => Some(all(&client()?, |line| {
            follow(&line);
            Ok(())
        })?),
        Some(file) => {
            let failed = || format!("cannot read {}", file.display());
            for line in BufReader::new(File::open(file).with_context(failed)?).lines() {
                follow(&line.with_context(failed)?);
            }
            None
        }
    };
    let head = chain.head;
    let wrong = match (broken, told, noted, seen) {
        (Some(broken), ..) => Some(broken.to_string()),
        (None, Some(told), ..) if told != head => Some(format!(
            "the newest record is {}:{} by what the controller says, and {}:{} by what it shows",
            told.number, told.digest, head.number, head.digest
        )),
        (None, _, Some(noted), None) if noted.number < chain.first => {
            bail!(
                "record {} is not kept any more: the oldest one is {}; hold a file of `audit export` against it",
                noted.number,
                chain.first
            )
        }
        (None, _, Some(noted), None) => {
            Some(format!("record {} is missing, which was there: the newest one is {}", noted.number, head.number))
        }
        (None, _, Some(noted), Some(digest)) if digest != noted.digest => {
            Some(format!("record {}, or one before it, is not what it was", noted.number))
        }
        _ => None,
    };
    if let Some(wrong) = wrong {
        out.line(print::clean(&wrong));
        return Ok(Outcome::No);
    }
    if head.number == 0 {
        out.line("there are no records");
        return Ok(Outcome::Yes);
    }
    out.line(format!("records {} to {} fit together; the newest is", chain.first, head.number));
    out.line(format!("{}:{}", head.number, head.digest));
    if noted.is_none() {
        print::note(
            "this does not show whether all of them were written anew: note the line above elsewhere, and give it with \
             --head the next time",
        );
    }
    Ok(Outcome::Yes)
}

fn row(record: &AuditRecord, output: Output) -> Vec<String> {
    let time = rfc3339(record.time);
    let time = format!("{}Z", time.split('.').next().unwrap_or_default().replace('T', " "));
    let user = match (record.user.as_str(), record.says.as_str()) {
        (user, "") => user.to_owned(),
        ("", says) => format!("({says})"),
        (user, says) => format!("{user} ({says})"),
    };
    let named = if output == Output::Wide { usize::MAX } else { NAMED };
    let mut about: Vec<String> = record.revision.iter().map(|revision| format!("revision {revision}")).collect();
    about.extend(record.objects.iter().take(named).map(|object| {
        let sign = match (&object.before, &object.after) {
            (None, _) => '+',
            (_, None) => '-',
            _ => '~',
        };
        format!("{sign}{}", object.key.to_lowercase())
    }));
    let more = record.omitted + record.objects.len().saturating_sub(named) as u64;
    about.extend((more > 0).then(|| format!("and {more} more")));
    about.extend(record.about.iter().map(|key| key.to_lowercase()));
    about.extend((record.unnamed > 0).then(|| format!("and {} more", record.unnamed)));
    about.extend(Some(record.detail.clone()).filter(|detail| !detail.is_empty()));
    about.extend(record.times.map(|times| format!("({times} times)")));
    let cells = [
        record.number.to_string(),
        time,
        user,
        record.known.clone(),
        record.from.clone(),
        record.action.clone(),
        record.outcome.clone(),
        about.join(" "),
    ];
    cells.iter().map(|cell| print::clean(cell)).collect()
}
