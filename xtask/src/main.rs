//! `cargo xtask check`: what the compiler and clippy cannot say about this workspace.

mod edges;
mod modules;
mod pure;
mod threats;
mod tokens;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

/// Most lines of a Rust file. Around 600 a file is split by noun; this leaves room to finish a thought.
const LINES_MOST: usize = 650;

/// The part of `cargo metadata` that is read.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

/// A package of the workspace.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
    targets: Vec<Target>,
}

/// A dependency as it is declared.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing for a normal one.
    kind: Option<String>,
}

/// Something that Cargo builds.
#[derive(Debug, Deserialize)]
struct Target {
    src_path: PathBuf,
}

impl Package {
    fn dir(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("."))
    }
}

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        Some("check") => match check() {
            Ok(findings) if findings.is_empty() => ExitCode::SUCCESS,
            Ok(findings) => {
                for finding in &findings {
                    eprintln!("{finding}");
                }
                eprintln!("xtask check: {} findings", findings.len());
                ExitCode::FAILURE
            }
            Err(error) => {
                eprintln!("xtask: {error:#}");
                ExitCode::FAILURE
            }
        },
        _ => {
            eprintln!("usage: cargo xtask check");
            ExitCode::from(2)
        }
    }
}

/// Every finding in the workspace, in order.
fn check() -> Result<BTreeSet<String>> {
    let metadata: Metadata = serde_json::from_str(&cargo(&["metadata", "--no-deps", "--format-version", "1"])?)?;
    let mut findings = BTreeSet::new();
    let mut numbered = BTreeSet::new();
    for package in &metadata.packages {
        let declared = package.dependencies.iter().filter(|dependency| dependency.kind.as_deref() != Some("dev"));
        findings.extend(edges::check(&package.name, declared.map(|dependency| dependency.name.as_str())));
        let files = modules::files(package.dir())?;
        let roots = package.targets.iter().map(|target| target.src_path.clone());
        findings.extend(modules::unreached(roots.collect(), &files)?);
        for file in &files {
            let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
            numbered.extend(threats::numbered(&text));
            let lines = text.lines().count();
            if lines > LINES_MOST {
                findings.insert(format!("{}: {lines} lines; split it by noun (at most {LINES_MOST})", shown(file)));
            }
        }
        if pure::CRATES.contains(&package.name.as_str()) {
            findings.extend(pure::dependencies(&package.name, &tree(&package.name)?));
            for file in files.iter().filter(|file| file.starts_with(package.dir().join("src"))) {
                findings.extend(pure::source(&shown(file), &std::fs::read_to_string(file)?));
            }
        }
    }
    findings.extend(threats::check(&threats::read()?, &numbered));
    for missing in pure::CRATES.iter().filter(|name| !metadata.packages.iter().any(|package| package.name == **name)) {
        findings.insert(format!("{missing}: is to be pure, and there is no such package"));
    }
    ensure!(!metadata.packages.is_empty(), "cargo metadata names no packages");
    Ok(findings)
}

/// Names of all packages that a package needs, itself included, without development dependencies.
fn tree(package: &str) -> Result<Vec<String>> {
    let tree =
        cargo(&["tree", "--package", package, "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])?;
    Ok(tree.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect())
}

/// Runs cargo and returns what it prints.
fn cargo(arguments: &[&str]) -> Result<String> {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).output().context("cannot start cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// A path relative to where the check runs, for messages.
fn shown(file: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    file.strip_prefix(here).unwrap_or(file).display().to_string()
}
