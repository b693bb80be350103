//! Output: tables, colours, findings.

use crate::{args::Output, jsonpath::JsonPath, yaml};
use bulkhead_types::{Diagnostic, Severity};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, IsTerminal, Write},
};

/// What a command has to say, collected and written at once.
#[derive(Debug, Default)]
pub struct Out {
    text: String,
    colour: bool,
    /// What is printed of values instead of all.
    path: Option<JsonPath>,
    /// Whoever reads it has gone away.
    unread: bool,
}

/// Where a word stands out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// Yes, fine.
    Good,
    /// No, broken.
    Bad,
    /// Look here.
    Warn,
}

impl Tone {
    /// The SGR code (ECMA-48 §8.3.117).
    fn code(self) -> u8 {
        match self {
            Self::Good => 32,
            Self::Bad => 31,
            Self::Warn => 33,
        }
    }
}

fn tint(on: bool, tone: Tone, text: &str) -> String {
    if on { format!("\x1b[{}m{text}\x1b[0m", tone.code()) } else { text.to_string() }
}

/// Whether colours are wanted on a stream (https://no-color.org).
fn colours(terminal: bool) -> bool {
    terminal && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
}

impl Out {
    /// Nothing yet; coloured if standard output is a terminal that wants it.
    pub fn new() -> Self {
        Self { text: String::new(), colour: colours(io::stdout().is_terminal()), path: None, unread: false }
    }

    /// Of values print this alone.
    pub fn take_out(&mut self, path: Option<JsonPath>) {
        self.path = path;
    }

    /// A line.
    pub fn line(&mut self, text: impl AsRef<str>) {
        self.text.push_str(text.as_ref());
        self.text.push('\n');
    }

    /// Text that ends its own lines.
    pub fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// A word in a tone.
    pub fn tint(&self, tone: Tone, text: &str) -> String {
        tint(self.colour, tone, text)
    }

    /// Columns, as wide as what is in them. The last one may be of any width.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        if rows.is_empty() {
            return;
        }
        let mut widths = Widths::default();
        let head: Vec<String> = head.iter().map(ToString::to_string).collect();
        let lines: Vec<&Vec<String>> = std::iter::once(&head).chain(rows).collect();
        lines.iter().for_each(|row| widths.fit(row));
        lines.iter().for_each(|row| self.row(&mut widths, row));
    }

    /// One line of columns that get wider if they have to.
    pub fn row(&mut self, widths: &mut Widths, row: &[String]) {
        widths.fit(row);
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths.0) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - visible(cell) + 3));
        }
        self.line(line.trim_end());
    }

    /// A value as JSON or YAML.
    pub fn value(&mut self, output: Output, value: &impl Serialize) -> anyhow::Result<()> {
        let value = serde_json::to_value(value)?;
        match output {
            _ if self.path.is_some() => {
                let text = self.path.as_ref().map(|path| path.print(&value)).unwrap_or_default();
                self.raw(&text);
            }
            Output::Yaml => self.raw(&yaml::documents([&value])),
            _ => self.line(serde_json::to_string_pretty(&value)?),
        }
        Ok(())
    }

    /// Writes everything to standard output. A reader that has gone away is no error.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(std::mem::take(&mut self.text).as_bytes()).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => {
                self.unread = true;
                Ok(())
            }
            done => done,
        }
    }

    /// Whether whoever reads it has gone away.
    pub fn is_unread(&self) -> bool {
        self.unread
    }
}

/// How wide columns are.
#[derive(Debug, Default)]
pub struct Widths(Vec<usize>);

impl Widths {
    /// Makes room for a row.
    pub fn fit(&mut self, row: &[String]) {
        self.0.resize(self.0.len().max(row.len()), 0);
        for (width, cell) in self.0.iter_mut().zip(row) {
            *width = (*width).max(visible(cell));
        }
    }
}

/// Width of a cell on the screen: colour codes take none.
fn visible(cell: &str) -> usize {
    let mut width = 0;
    let mut code = false;
    for c in cell.chars() {
        match c {
            '\x1b' => code = true,
            'm' if code => code = false,
            _ if !code => width += 1,
            _ => {}
        }
    }
    width
}

/// A line on standard error. Nobody listening there is no error.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// Findings on standard error, each with the line it is about; `sources` holds the files' texts.
pub fn findings(found: &[Diagnostic], sources: &BTreeMap<String, String>) {
    let colour = colours(io::stderr().is_terminal());
    let named: BTreeSet<&str> = found.iter().filter_map(|finding| finding.file.as_deref()).collect();
    let told = sources.iter().filter(|(name, _)| named.contains(name.as_str()));
    let lines = told.map(|(name, text)| (name.as_str(), text.lines().collect()));
    let lines: Lines<'_> = lines.collect();
    for finding in found {
        note(finding_text(finding, &lines, colour).trim_end());
    }
}

/// Findings about a request that this program wrote: its lines mean nothing to who did not.
pub fn placeless(found: &[Diagnostic]) -> Vec<Diagnostic> {
    found.iter().map(|d| Diagnostic { line: None, column: None, ..d.clone() }).collect()
}

/// Longest source line that is repeated, in characters.
const MAX_SOURCE: usize = 160;

/// The lines of files, by their names.
type Lines<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn finding_text(finding: &Diagnostic, sources: &Lines<'_>, colour: bool) -> String {
    let (word, tone) = match finding.severity {
        Severity::Error => ("error", Tone::Bad),
        Severity::Warning => ("warning", Tone::Warn),
    };
    let mut text = String::new();
    if let Some(file) = &finding.file {
        text.push_str(&clean(file));
        text.push(':');
    }
    if let (Some(line), Some(column)) = (finding.line, finding.column) {
        text.push_str(&format!("{line}:{column}:"));
    }
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(&format!("{}: ", tint(colour, tone, word)));
    if finding.line.is_none() {
        text.extend(finding.resource.as_ref().map(|r| format!("{}: ", clean(r))));
        if !finding.path.is_empty() {
            text.push_str(&format!("{}: ", clean(&finding.path)));
        }
    }
    text.push_str(&clean(&finding.message));
    text.push('\n');
    let source = finding.file.as_ref().and_then(|file| sources.get(file.as_str()));
    if let (Some(source), Some(line), Some(column)) = (source, finding.line, finding.column)
        && let Some(shown) = source.get(line.saturating_sub(1) as usize)
        && column as usize <= MAX_SOURCE
    {
        let number = line.to_string();
        let shown = clean(&shown.chars().take(MAX_SOURCE).collect::<String>());
        let (gap, before) = (" ".repeat(number.len()), " ".repeat(column.saturating_sub(1) as usize));
        text.push_str(&format!("{number} | {shown}\n{gap} | {before}{}\n", tint(colour, tone, "^")));
    }
    if !finding.hint.is_empty() {
        text.push_str(&format!("  hint: {}\n", clean(&finding.hint)));
    }
    text
}

/// Text of unknown origin on a terminal: control characters could do things there.
pub fn clean(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { c }).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_point_at_the_place() {
        let finding = Diagnostic {
            severity: Severity::Error,
            file: Some("a.yaml".into()),
            line: Some(2),
            column: Some(3),
            resource: None,
            path: "spec.subnet".into(),
            message: "unknown field `subnet`".into(),
            hint: "did you mean `subnets`?".into(),
        };
        let sources = BTreeMap::from([("a.yaml", vec!["spec:", "  subnet: []"])]);
        assert_eq!(
            finding_text(&finding, &sources, false),
            "a.yaml:2:3: error: unknown field `subnet`\n2 |   subnet: []\n  |   ^\n  hint: did you mean `subnets`?\n"
        );
    }

    #[test]
    fn tables_line_up_under_colours() {
        let mut out = Out { colour: true, ..Out::default() };
        let yes = out.tint(Tone::Good, "yes");
        out.table(
            &["NAME", "UP", "X"],
            &[vec!["a".into(), yes.clone(), "1".into()], vec!["long-name".into(), "no".into(), "2".into()]],
        );
        assert_eq!(out.text, format!("NAME        UP    X\na           {yes}   1\nlong-name   no    2\n"));
    }
}
