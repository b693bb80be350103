//! Which controller, who asks, and who may.

use clap::{Args, Subcommand};
use std::path::PathBuf;

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
