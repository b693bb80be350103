//! Which controller, who asks, and who may.

use bulkhead_types::{AuditHead, parse_duration};
use clap::{Args, Subcommand};
use std::{path::PathBuf, time::Duration};

/// Which controller is asked, and by whom. What is not said here is the context's.
#[derive(Debug, Default, Args)]
pub struct Access {
    /// The controller's address; else that of --context, of BULKHEAD_SERVER, of the context in use, of the controller on
    /// this machine (admin.yaml in its data directory), or https://127.0.0.1:7480.
    #[arg(long, global = true, value_name = "URL")]
    pub server: Option<String>,
    /// The controller by its name in the configuration file (`bulkhead context`).
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "server")]
    pub context: Option<String>,
    /// PEM file with the authority that has signed the controller's certificate, if the system does not believe it.
    #[arg(long, global = true, env = "BULKHEAD_CA", value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// PEM file with the certificate to show.
    #[arg(long, global = true, env = "BULKHEAD_CERT", value_name = "FILE")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of that certificate.
    #[arg(long, global = true, env = "BULKHEAD_KEY", value_name = "FILE")]
    pub key: Option<PathBuf>,
    /// A file with the token to show; BULKHEAD_TOKEN, the token itself, is stronger.
    #[arg(long, global = true, env = "BULKHEAD_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
}

/// Contexts.
#[derive(Debug, Subcommand)]
pub enum Context {
    /// List them; `*` is in use.
    List,
    /// Give a controller a name, or a name another controller. The first one is used from then on.
    ///
    /// Files that are given with --ca, --cert, --key and --token-file are kept with it, by their paths.
    #[command(
        after_help = "Example:\n  bulkhead context set prod https://192.0.2.1:7480 --ca ca.pem --token-file ci.token"
    )]
    Set {
        /// The name.
        name: String,
        /// The controller's address.
        #[arg(value_name = "URL")]
        server: String,
    },
    /// Use one where nothing else is said.
    Use {
        /// The name.
        name: String,
    },
    /// Forget one.
    Delete {
        /// The name.
        name: String,
    },
}

/// Tokens.
#[derive(Debug, Subcommand)]
pub enum Token {
    /// Make a token and print it, this once; or give a certificate access.
    #[command(
        after_help = "Examples:\n  bulkhead token create root --grant admin\n  bulkhead token create shop-ci --grant \
                            editor@app=shop --days 90\n  bulkhead token create old1 --grant vtep@old1\n  bulkhead token create ops.example --certificate --grant operator"
    )]
    Create {
        /// Who is to have it; the history calls him so.
        name: String,
        /// What he may do: viewer, editor, operator or admin, the first three with or without a scope: editor@app=shop,
        /// editor@zone:shop; or vtep@SWITCH. May be given several times.
        #[arg(long = "grant", required = true, value_name = "GRANT")]
        grants: Vec<String>,
        /// Make no token: he shows a certificate with this common name, of an authority in the controller's --client-ca.
        #[arg(long)]
        certificate: bool,
        /// In how many days it ends; never, if this is not said.
        #[arg(long)]
        days: Option<u32>,
    },
    /// List tokens, without what makes them such.
    List,
    /// End a token, from the next request on.
    Revoke {
        /// Whose it is.
        name: String,
    },
}

/// The audit log.
#[derive(Debug, Subcommand)]
pub enum Audit {
    /// List records: who did what or tried to, when and from where.
    #[command(
        after_help = "Examples:\n  bulkhead audit list --since 24h\n  bulkhead audit list --user shop-ci -o json\n  bulkhead audit list --outcome refused"
    )]
    List {
        /// Only those of this time until now, as 30m, 24h, 7d.
        #[arg(long, value_name = "DURATION", value_parser = since)]
        since: Option<Duration>,
        /// Only what this user did or tried.
        #[arg(long, value_name = "NAME")]
        user: Option<String>,
        /// Only what came to this: done, failed, refused (for who asked), rejected (for what was asked).
        #[arg(long, value_name = "OUTCOME", value_parser = ["done", "failed", "refused", "rejected"])]
        outcome: Option<String>,
        /// At most so many, the newest.
        #[arg(long, default_value_t = 100)]
        limit: usize,
    },
    /// Write all records to a file, line by line, as they were written.
    Export {
        /// The file, or - for standard output.
        file: PathBuf,
    },
    /// Look whether a record was changed, removed or moved.
    ///
    /// Each record holds the digest of the one before. Whoever can write to the controller's disk can write all of them
    /// anew, and that shows only to those who know the newest one's digest from before: note what this prints somewhere
    /// else, and give it with --head the next time. What was never written down cannot be missed.
    #[command(
        after_help = "Examples:\n  bulkhead audit verify --head 5321:9f86d0...\n  bulkhead audit verify --file audit.jsonl"
    )]
    Verify {
        /// A file that `export` has written, instead of the controller's records.
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// What this printed before: a record's number and its digest.
        #[arg(long, value_name = "NUMBER:DIGEST", value_parser = head)]
        head: Option<AuditHead>,
    },
}

fn since(text: &str) -> Result<Duration, String> {
    let long = |unit: char, seconds: u64| {
        let number: u64 = text.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(seconds).map(Duration::from_secs)
    };
    let found = long('h', 60 * 60).or_else(|| long('d', 24 * 60 * 60)).or_else(|| parse_duration(text));
    found.ok_or_else(|| "write a time as 30m, 24h or 7d".into())
}

fn head(text: &str) -> Result<AuditHead, String> {
    let wrong = || "a number and a digest, as this printed them: 5321:9f86d0...".to_owned();
    let (number, digest) = text.split_once(':').ok_or_else(wrong)?;
    let good = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
    let number = number.parse().ok().filter(|number| good && *number > 0).ok_or_else(wrong)?;
    Ok(AuditHead { number, digest: digest.to_ascii_lowercase() })
}
