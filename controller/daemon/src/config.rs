//! What the controller is told at its start: flags, then `BULKHEAD_*`, then a TOML file, then defaults.

use crate::{
    telemetry::{LogFormat, Telemetry},
    vtep::VtepArgs,
};
use anyhow::{Context, anyhow, bail};
use bulkhead_store::Retention;
use bulkhead_tls::Files;
use clap::{Parser, Subcommand};
use serde::Deserialize;
use std::{
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where REST and the web page are, if nobody says otherwise: this host alone.
const LISTEN: &str = "127.0.0.1:7480";
/// Where OpenFlow switches connect, if nobody says otherwise.
const OPENFLOW_LISTEN: &str = "0.0.0.0:6653";

/// Bulkhead's controller: label policy, enforced by the switches.
///
/// It needs no configuration to start. Flags are stronger than BULKHEAD_* variables, and these than the
/// configuration file.
#[derive(Debug, Default, Parser)]
#[command(name = "bulkheadd", version, args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Another thing to be than the controller
    #[command(subcommand)]
    pub command: Option<Command>,
    /// A TOML file with any of the settings below, named as the flags are
    #[arg(long, env = "BULKHEAD_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Address and port of the API [default: 127.0.0.1:7480]
    #[arg(long, env = "BULKHEAD_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Address and port that OpenFlow switches connect to [default: 0.0.0.0:6653]
    #[arg(long, env = "BULKHEAD_OPENFLOW_LISTEN", value_name = "ADDR")]
    pub openflow_listen: Option<SocketAddr>,
    /// Where hosts that Bulkhead sets up are told to find it, as HOST:PORT [default: the address of --openflow-listen; if
    /// that is 0.0.0.0, the one from which it reaches each host]
    #[arg(long, env = "BULKHEAD_OPENFLOW_ADVERTISE", value_name = "ADDR")]
    pub openflow_advertise: Option<SocketAddr>,
    /// PEM file with the authorities that sign switches' certificates. With it, --southbound-cert and --southbound-key,
    /// switches and `ssl:` databases are spoken with by TLS, and the OpenFlow port takes nothing else
    #[arg(long, env = "BULKHEAD_SOUTHBOUND_CA", value_name = "FILE")]
    pub southbound_ca: Option<PathBuf>,
    /// PEM file with the certificate that switches and databases are shown
    #[arg(long, env = "BULKHEAD_SOUTHBOUND_CERT", value_name = "FILE")]
    pub southbound_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "BULKHEAD_SOUTHBOUND_KEY", value_name = "FILE")]
    pub southbound_key: Option<PathBuf>,
    /// The API without TLS, and without asking who it is: whoever is on this machine is an admin. Only on a loopback
    /// address
    #[arg(long, env = "BULKHEAD_OPEN_LOOPBACK", conflicts_with_all = ["tls_cert", "tls_key", "client_ca"])]
    pub open_loopback: bool,
    /// PEM file with the certificate that clients of the API are shown [default: one that is made, and signed by an
    /// authority in DATA_DIR/tls/ca.pem]
    #[arg(long, env = "BULKHEAD_TLS_CERT", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate
    #[arg(long, env = "BULKHEAD_TLS_KEY", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// PEM file with the authorities that sign the certificates of the API's clients: whose common name was given access
    /// (`bulkhead token create NAME --certificate`) needs no token
    #[arg(long, env = "BULKHEAD_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// Where revisions are kept [default: /var/lib/bulkhead, or the user's state directory]
    #[arg(long, env = "BULKHEAD_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// How many revisions are kept to go back to [default: 10000]
    #[arg(long, env = "BULKHEAD_HISTORY_REVISIONS", value_name = "COUNT")]
    pub history_revisions: Option<u64>,
    /// How many days they are kept [default: 365]
    #[arg(long, env = "BULKHEAD_HISTORY_DAYS", value_name = "DAYS")]
    pub history_days: Option<u32>,
    /// Record every event to this file, as JSON lines; what is there already is gone on with
    #[arg(long, env = "BULKHEAD_RECORD", value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// What to log: a level, or levels by module [default: info]
    #[arg(long, env = "BULKHEAD_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// The form of log lines [default: text]
    #[arg(long, env = "BULKHEAD_LOG_FORMAT", value_enum, value_name = "FORM")]
    pub log_format: Option<LogFormat>,
    /// Send spans of requests and changes to this collector of OpenTelemetry, by OTLP over gRPC, as in
    /// http://127.0.0.1:4317
    #[arg(long, env = "BULKHEAD_OTLP", value_name = "URL")]
    pub otlp: Option<String>,
}

/// What this program can be beside the controller.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Keep this host as a VXLAN VTEP without Open vSwitch
    Vtep(VtepArgs),
}

/// The configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "kebab-case", deny_unknown_fields)]
struct File {
    listen: Option<SocketAddr>,
    openflow_listen: Option<SocketAddr>,
    openflow_advertise: Option<SocketAddr>,
    southbound_ca: Option<PathBuf>,
    southbound_cert: Option<PathBuf>,
    southbound_key: Option<PathBuf>,
    open_loopback: bool,
    tls_cert: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
    data_dir: Option<PathBuf>,
    history_revisions: Option<u64>,
    history_days: Option<u32>,
    record: Option<PathBuf>,
    log: Option<String>,
    log_format: Option<LogFormat>,
    otlp: Option<String>,
}

/// Who is answered by the API, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Api {
    /// Everybody on this machine, without TLS.
    Open,
    /// Who says who he is, by TLS.
    Tls {
        /// Files of the certificate and of its private key; none if it is to be made.
        own: Option<(PathBuf, PathBuf)>,
        /// Authorities of clients' certificates.
        client_ca: Option<PathBuf>,
    },
}

/// Every setting, decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Who is answered there.
    pub api: Api,
    /// Address for OpenFlow switches.
    pub openflow_listen: SocketAddr,
    /// Address for OpenFlow switches, as hosts are told; none if it is another one from each.
    pub openflow_advertise: Option<SocketAddr>,
    /// What is needed for TLS with switches and databases; none without.
    pub southbound_tls: Option<Files>,
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// How much history is kept.
    pub retention: Retention,
    /// File of the recording.
    pub record: Option<PathBuf>,
    /// What it tells of itself.
    pub telemetry: Telemetry,
}

impl Config {
    /// A controller inside of another program, as tests have it: on loopback addresses alone, at ports that nobody has, and
    /// open to everybody on this machine.
    pub fn inside(data_dir: PathBuf) -> Self {
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            listen: anywhere,
            api: Api::Open,
            openflow_listen: anywhere,
            openflow_advertise: None,
            southbound_tls: None,
            data_dir,
            retention: Retention::default(),
            record: None,
            telemetry: Telemetry::default(),
        }
    }

    /// Decides every setting; reads the configuration file if there is one.
    pub fn from(args: Args) -> anyhow::Result<Self> {
        let file = match &args.config {
            Some(path) => read(path)?,
            None => File::default(),
        };
        let default_telemetry = Telemetry::default();
        let default = |text: &str| text.parse().with_context(|| format!("`{text}` is no address"));
        let listen = args.listen.or(file.listen).map_or_else(|| default(LISTEN), Ok)?;
        let api = api(
            args.open_loopback || file.open_loopback,
            listen,
            args.tls_cert.or(file.tls_cert),
            args.tls_key.or(file.tls_key),
            args.client_ca.or(file.client_ca),
        )?;
        Ok(Self {
            listen,
            api,
            openflow_listen: args
                .openflow_listen
                .or(file.openflow_listen)
                .map_or_else(|| default(OPENFLOW_LISTEN), Ok)?,
            openflow_advertise: args.openflow_advertise.or(file.openflow_advertise),
            southbound_tls: southbound_tls(
                args.southbound_ca.or(file.southbound_ca),
                args.southbound_cert.or(file.southbound_cert),
                args.southbound_key.or(file.southbound_key),
            )?,
            data_dir: args.data_dir.or(file.data_dir).map_or_else(data_dir, Ok)?,
            retention: retention(
                args.history_revisions.or(file.history_revisions),
                args.history_days.or(file.history_days),
            ),
            record: args.record.or(file.record),
            telemetry: Telemetry {
                log: args.log.or(file.log).unwrap_or(default_telemetry.log),
                format: args.log_format.or(file.log_format).unwrap_or(default_telemetry.format),
                otlp: args.otlp.or(file.otlp),
            },
        })
    }
}

fn retention(revisions: Option<u64>, days: Option<u32>) -> Retention {
    let default = Retention::default();
    let age = days.map(|days| Duration::from_secs(24 * 3600 * u64::from(days)));
    Retention { revisions: revisions.unwrap_or(default.revisions), age: age.unwrap_or(default.age), ..default }
}

/// Nothing is unprotected that others can reach.
fn api(
    open: bool,
    listen: SocketAddr,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> anyhow::Result<Api> {
    match (open, certificate, key) {
        (true, None, None) if client_ca.is_none() => {
            if !listen.ip().is_loopback() {
                bail!(
                    "--open-loopback is for loopback addresses, and others reach {listen}: leave it out (the API then \
                     speaks TLS, with a certificate of its own if it is given none), or listen on 127.0.0.1"
                );
            }
            Ok(Api::Open)
        }
        (true, ..) => bail!("--open-loopback is without TLS: leave out --tls-cert, --tls-key and --client-ca, or it"),
        (false, None, None) => Ok(Api::Tls { own: None, client_ca }),
        (false, Some(certificate), Some(key)) => Ok(Api::Tls { own: Some((certificate, key)), client_ca }),
        (false, Some(_), None) => bail!("TLS of the API needs two files; --tls-key is missing"),
        (false, None, Some(_)) => bail!("TLS of the API needs two files; --tls-cert is missing"),
    }
}

/// All three files, or none.
fn southbound_tls(
    ca: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
) -> anyhow::Result<Option<Files>> {
    match (ca, certificate, key) {
        (None, None, None) => Ok(None),
        (Some(ca), Some(certificate), Some(key)) => Ok(Some(Files { ca, certificate, key })),
        (ca, certificate, key) => {
            let flags = [("--southbound-ca", ca), ("--southbound-cert", certificate), ("--southbound-key", key)];
            let missing: Vec<_> = flags.iter().filter(|(_, file)| file.is_none()).map(|(flag, _)| *flag).collect();
            bail!("TLS with switches needs three files; {} is missing", missing.join(" and "))
        }
    }
}

fn read(path: &Path) -> anyhow::Result<File> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read the configuration {}", path.display()))?;
    toml::from_str(&text).with_context(|| format!("the configuration {} is wrong", path.display()))
}

/// Where revisions are kept if nobody says otherwise: the system's place for root, the user's for others.
fn data_dir() -> anyhow::Result<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Ok("/var/lib/bulkhead".into());
    }
    // XDG Base Directory Specification 0.8: state that should persist, but is not important to move.
    let absolute = |variable| env::var_os(variable).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".local/state")));
    let state =
        state.ok_or_else(|| anyhow!("there is no home directory; say with --data-dir where to keep revisions"))?;
    Ok(state.join("bulkhead"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with_file(text: &str, args: Args) -> anyhow::Result<Config> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("bulkhead.toml");
        fs::write(&path, text).unwrap();
        Config::from(Args { config: Some(path), ..args })
    }

    #[test]
    fn it_needs_no_configuration() {
        let config = Config::from(Args::default()).unwrap();
        assert_eq!(config.listen.to_string(), "127.0.0.1:7480");
        assert_eq!(config.openflow_listen.to_string(), "0.0.0.0:6653");
        assert!(config.data_dir.is_absolute() && config.record.is_none());
    }

    #[test]
    fn flags_are_stronger_than_the_file() {
        let text =
            "listen = \"127.0.0.1:1\"\nopenflow-listen = \"127.0.0.1:2\"\ndata-dir = \"/file\"\nlog = \"warn\"\n";
        let args = Args { listen: Some("127.0.0.1:9".parse().unwrap()), ..Args::default() };
        let config = with_file(text, args).unwrap();
        assert_eq!((config.listen.port(), config.openflow_listen.port()), (9, 2));
        assert_eq!((config.data_dir.to_str(), config.telemetry.log.as_str()), (Some("/file"), "warn"));
    }

    #[test]
    fn tls_needs_all_its_files_wherever_they_are_named() {
        let args = || Args { southbound_key: Some("/flag/key".into()), ..Args::default() };
        let text = "southbound-ca = \"/file/ca\"\nsouthbound-cert = \"/file/cert\"\nsouthbound-key = \"/file/key\"\n";
        let files = with_file(text, args()).unwrap().southbound_tls.unwrap();
        assert_eq!((files.ca.to_str(), files.key.to_str()), (Some("/file/ca"), Some("/flag/key")));
        let error = with_file("southbound-ca = \"/file/ca\"\n", args()).unwrap_err().to_string();
        assert!(error.contains("--southbound-cert is missing"), "{error}");
        let error = Config::from(args()).unwrap_err().to_string();
        assert!(error.contains("--southbound-ca and --southbound-cert"), "{error}");
    }

    #[test]
    fn without_tls_is_only_what_was_asked_for_and_nobody_else_reaches() {
        let config = |text: &str| with_file(text, Args::default()).map(|config| config.api);
        assert_eq!(config("").unwrap(), Api::Tls { own: None, client_ca: None });
        assert_eq!(config("listen = \"0.0.0.0:1\"").unwrap(), Api::Tls { own: None, client_ca: None });
        for loopback in ["127.0.0.1:1", "127.0.0.9:1", "[::1]:1"] {
            assert_eq!(config(&format!("open-loopback = true\nlisten = \"{loopback}\"")).unwrap(), Api::Open);
        }
        for reached in ["0.0.0.0:1", "[::]:1", "192.0.2.1:1", "[::ffff:127.0.0.1]:1"] {
            let error = config(&format!("open-loopback = true\nlisten = \"{reached}\"")).unwrap_err().to_string();
            assert!(error.contains("leave it out"), "{error}");
        }
        let own = Some(("/c".into(), "/k".into()));
        let files = "tls-cert = \"/c\"\ntls-key = \"/k\"\nclient-ca = \"/a\"\n";
        assert_eq!(config(files).unwrap(), Api::Tls { own, client_ca: Some("/a".into()) });
        for wrong in ["tls-cert = \"/c\"", "tls-key = \"/k\"", "open-loopback = true\nclient-ca = \"/a\""] {
            assert!(config(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_misspelt_setting_is_an_error() {
        let error = with_file("lisen = \"127.0.0.1:1\"\n", Args::default()).unwrap_err();
        assert!(format!("{error:#}").contains("lisen"), "{error:#}");
    }
}
