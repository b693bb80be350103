//! Contexts: controllers by name, in a file of the operator's.

use crate::{
    Outcome, Usage,
    args::{Context as Command, Output},
    print::Out,
    yaml,
};
use anyhow::{Context, anyhow};
use bulkhead_client::DEFAULT_SERVER;
use bulkhead_types::{nearest, node::read_yaml};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// The context that is used where nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<String>,
    #[serde(default)]
    contexts: BTreeMap<String, Entry>,
}

/// One context.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// The controller's address.
    server: String,
}

/// The controller that a command asks: what its line says, else the environment, else the context in use.
pub fn server(flag: Option<&str>, context: Option<&str>) -> anyhow::Result<String> {
    if let Some(server) = flag {
        return Ok(server.into());
    }
    let said = std::env::var("BULKHEAD_SERVER").ok().filter(|server| !server.is_empty());
    match (context, said) {
        (None, Some(server)) => Ok(server),
        (None, None) => {
            // Without a file, and without a place for one, there is still the default.
            let Ok(file) = file() else { return Ok(DEFAULT_SERVER.into()) };
            let config = read(&file)?;
            match &config.current {
                Some(name) => entry(&config, name).map(|entry| entry.server.clone()),
                None => Ok(DEFAULT_SERVER.into()),
            }
        }
        (Some(name), _) => entry(&read(&file()?)?, name).map(|entry| entry.server.clone()),
    }
}

fn entry<'a>(config: &'a Config, name: &str) -> anyhow::Result<&'a Entry> {
    config.contexts.get(name).ok_or_else(|| {
        let near = nearest(name, config.contexts.keys().map(String::as_str));
        let hint = near.map(|near| format!("did you mean `{near}`? ")).unwrap_or_default();
        Usage(format!("there is no context `{name}`; {hint}`bulkhead context list` shows them")).into()
    })
}

/// `$BULKHEAD_CONFIG`, else a file in the folder that the XDG Base Directory Specification says.
fn file() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(file) = set("BULKHEAD_CONFIG") {
        return Ok(file);
    }
    let folder = set("XDG_CONFIG_HOME").or_else(|| set("HOME").map(|home| home.join(".config")));
    let folder = folder.ok_or_else(|| anyhow!("where is the configuration? set BULKHEAD_CONFIG or HOME"))?;
    Ok(folder.join("bulkhead").join("config.yaml"))
}

fn read(file: &Path) -> anyhow::Result<Config> {
    let text = match fs::read_to_string(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        text => text.with_context(|| format!("cannot read {}", file.display()))?,
    };
    let wrong = |line: u32, why: &str| anyhow!("{}:{line}: {why}", file.display());
    let documents = read_yaml(&text).map_err(|refused| wrong(refused.mark.line, &refused.message))?;
    match documents.as_slice() {
        [] => Ok(Config::default()),
        [one] => Config::deserialize(one).map_err(|error| wrong(1, &error.to_string())),
        _ => Err(wrong(1, "one document is expected")),
    }
}

/// Writes it beside the old one first, so that there is always a whole one.
fn write(file: &Path, config: &Config) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(failed)?;
    }
    let beside = file.with_extension(format!("{}.new", std::process::id()));
    fs::write(&beside, yaml::documents([&serde_json::to_value(config)?])).with_context(failed)?;
    fs::rename(&beside, file).with_context(failed)
}

/// `bulkhead context ...`
pub fn context(output: Output, out: &mut Out, command: &Command) -> anyhow::Result<Outcome> {
    let file = file()?;
    let mut config = read(&file)?;
    match command {
        Command::List => {
            if matches!(output, Output::Json | Output::Yaml) {
                out.value(output, &config)?;
                return Ok(Outcome::Yes);
            }
            if config.contexts.is_empty() {
                out.line(format!("no contexts in {}", file.display()));
            }
            let mark = |name: &String| if config.current.as_ref() == Some(name) { "*" } else { "" };
            let rows =
                config.contexts.iter().map(|(name, entry)| vec![mark(name).into(), name.clone(), entry.server.clone()]);
            out.table(&["CURRENT", "NAME", "SERVER"], &rows.collect::<Vec<_>>());
            return Ok(Outcome::Yes);
        }
        Command::Set { name, server } => {
            bulkhead_client::Client::new(server).map_err(|wrong| Usage(wrong.to_string()))?;
            config.contexts.insert(name.clone(), Entry { server: server.clone() });
            // The first one is meant to be used.
            config.current.get_or_insert_with(|| name.clone());
            out.line(format!("context {name} is {server}"));
        }
        Command::Use { name } => {
            entry(&config, name)?;
            config.current = Some(name.clone());
            out.line(format!("context {name} is used"));
        }
        Command::Delete { name } => {
            entry(&config, name)?;
            config.contexts.remove(name);
            config.current = config.current.take().filter(|current| current != name);
            out.line(format!("context {name} deleted"));
        }
    }
    write(&file, &config)?;
    Ok(Outcome::Yes)
}
