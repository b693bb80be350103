//! Contexts: controllers by name, in a file of the operator's.

use crate::{
    Outcome, Usage,
    args::{Access, Context as Command, Output},
    print::Out,
    yaml,
};
use anyhow::{Context, anyhow};
use bulkhead_client::{Client, DEFAULT_SERVER, Security};
use bulkhead_types::{ADMIN_FILE, nearest, node::read_yaml};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf, absolute},
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
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Entry {
    /// The controller's address.
    server: String,
    /// The authority that has signed its certificate: a PEM file, or what would be in it. The same for the next two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ca: Option<String>,
    /// The certificate to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cert: Option<String>,
    /// Its private key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The token to show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token: Option<String>,
    /// A file with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    token_file: Option<String>,
}

/// The environment variable with the token to show. It is no flag: whoever lists processes would see it.
const TOKEN: &str = "BULKHEAD_TOKEN";
/// Where a controller that root starts keeps what it has, unless it is told otherwise.
const SYSTEM: &str = "/var/lib/bulkhead";
/// The certificate of a controller's own authority, in its data directory.
const OWN_CA: &str = "tls/ca.pem";

/// A variable that says something.
fn said(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The text of a PEM file; or the text itself, where that is given.
fn pem(given: &str, what: &str) -> anyhow::Result<String> {
    if given.contains("-----BEGIN") {
        return Ok(given.into());
    }
    fs::read_to_string(given).with_context(|| format!("cannot read the {what} in {given}"))
}

/// A client of the controller that a command asks, as whoever asks: what its line says, else the environment, else the
/// context in use, else the controller on this machine.
pub fn client(access: &Access) -> anyhow::Result<Client> {
    let entry = chosen(access)?;
    let path = |given: &Option<PathBuf>| given.as_ref().map(|path| path.display().to_string());
    let read = |given: &Option<PathBuf>, kept: &Option<String>, what| {
        path(given).or_else(|| kept.clone()).map(|given| pem(&given, what)).transpose()
    };
    // Who shows a certificate on the line shows that, and not half of another one.
    let own = access.cert.is_some() || access.key.is_some();
    let none = None;
    let security = Security {
        ca: read(&access.ca, &entry.ca, "authority's certificate")?,
        certificate: read(&access.cert, if own { &none } else { &entry.cert }, "certificate")?,
        key: read(&access.key, if own { &none } else { &entry.key }, "private key")?,
    };
    let token = match said(TOKEN) {
        Some(token) => Some(token),
        None => {
            let kept = || entry.token_file.as_ref().map(PathBuf::from);
            // So is who shows a certificate: a token beside it would be what he is known by.
            let file = access.token_file.clone().or_else(|| if own || entry.token.is_some() { None } else { kept() });
            match file {
                Some(file) => {
                    let failed = || format!("cannot read the token in {}", file.display());
                    Some(fs::read_to_string(&file).with_context(failed)?)
                }
                None => entry.token.clone().filter(|_| !own),
            }
        }
    };
    let client = Client::secure(&entry.server, &security).map_err(|wrong| Usage(wrong.to_string()))?;
    Ok(token.iter().fold(client, |client, token| client.with_token(token)))
}

fn chosen(access: &Access) -> anyhow::Result<Entry> {
    let at = |server: String| Ok(Entry { server, ..Entry::default() });
    if let Some(server) = &access.server {
        return at(server.clone());
    }
    if let Some(name) = &access.context {
        return entry(&read(&file()?)?, name).cloned();
    }
    if let Some(server) = said("BULKHEAD_SERVER") {
        return at(server);
    }
    // Without a file, and without a place for one, there is still the controller on this machine.
    if let Ok(file) = file() {
        let config = read(&file)?;
        if let Some(name) = &config.current {
            return entry(&config, name).cloned();
        }
    }
    local(access)
}

/// Where a controller on this machine keeps what it has: where `bulkheadd` does unless it is told otherwise.
fn data_dirs() -> Vec<PathBuf> {
    if let Some(directory) = said("BULKHEAD_DATA_DIR") {
        return vec![directory.into()];
    }
    let absolute = |name: &str| said(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    // proc(5): whose this process is.
    let is_root = fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0);
    let own = state.map(|state| state.join("bulkhead")).filter(|_| !is_root);
    own.into_iter().chain([SYSTEM.into()]).collect()
}

/// The controller on this machine, as its admin.
fn local(access: &Access) -> anyhow::Result<Entry> {
    for directory in data_dirs() {
        let path = directory.join(ADMIN_FILE);
        match fs::metadata(&directory).and_then(|_| fs::File::open(&path)) {
            Ok(_) => {
                let config = read(&path)?;
                let wrong = || anyhow!("{}: no context is in use", path.display());
                return entry(&config, config.current.as_deref().ok_or_else(wrong)?).cloned();
            }
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                // Who has access of his own needs the address and the authority alone.
                let ca = directory.join(OWN_CA);
                let ca = ca.is_file().then(|| ca.display().to_string());
                if said(TOKEN).is_some() || access.token_file.is_some() || access.cert.is_some() {
                    return Ok(Entry { server: DEFAULT_SERVER.into(), ca, ..Entry::default() });
                }
                let path = path.display();
                return Err(anyhow!(
                    "you may not read {path}, by which whoever administers this machine is known to its controller: run \
                     this as root, or have an admin make a token for you (`bulkhead token create NAME --grant GRANT`) \
                     and set BULKHEAD_TOKEN or --token-file"
                ));
            }
            Err(_) => {}
        }
    }
    Ok(Entry { server: DEFAULT_SERVER.into(), ..Entry::default() })
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
    let text = yaml::documents([&serde_json::to_value(config)?]);
    // It may hold a token.
    let mut new = fs::OpenOptions::new();
    let mut new = new.write(true).create(true).truncate(true).mode(0o600).open(&beside).with_context(failed)?;
    new.write_all(text.as_bytes()).with_context(failed)?;
    fs::rename(&beside, file).with_context(failed)
}

/// `bulkhead context ...`
pub fn context(access: &Access, output: Output, out: &mut Out, command: &Command) -> anyhow::Result<Outcome> {
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
            Client::new(server).map_err(|wrong| Usage(wrong.to_string()))?;
            let path = |given: &Option<PathBuf>| {
                let path = given.as_ref().map(absolute).transpose().context("there is no such path")?;
                anyhow::Ok(path.map(|path| path.display().to_string()))
            };
            let entry = Entry {
                server: server.clone(),
                ca: path(&access.ca)?,
                cert: path(&access.cert)?,
                key: path(&access.key)?,
                token: None,
                token_file: path(&access.token_file)?,
            };
            config.contexts.insert(name.clone(), entry);
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
