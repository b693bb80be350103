//! token create, list, revoke.

use crate::{
    Outcome,
    args::{Output, Token},
    print::{self, Out},
};
use anyhow::Context;
use bulkhead_client::Client;
use bulkhead_types::TokenQuestion;
use std::{fs, path::Path};

/// The token that this command shows: the text, or what is in the file.
pub fn shown(text: Option<&str>, file: Option<&Path>) -> anyhow::Result<Option<String>> {
    match (text, file) {
        (Some(text), _) => Ok(Some(text.trim().to_owned())),
        (None, Some(file)) => {
            let read = fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()));
            read.map(|text| Some(text.trim().to_owned()))
        }
        (None, None) => Ok(None),
    }
}

/// `bulkhead token ...`
pub fn token(client: &Client, output: Output, out: &mut Out, command: &Token) -> anyhow::Result<Outcome> {
    let raw = matches!(output, Output::Json | Output::Yaml);
    match command {
        Token::Create { name, grants, days } => {
            let question = TokenQuestion { name: name.clone(), grants: grants.clone(), days: *days };
            let made = client.create_token(&question)?;
            if raw {
                out.value(output, &made)?;
            } else {
                out.line(&made.token);
                print::note("this is the only time that it is shown; use it as BULKHEAD_TOKEN");
            }
        }
        Token::List => {
            let list = client.tokens()?;
            if raw {
                out.value(output, &list)?;
            } else {
                let rows = list.items.into_iter().map(|token| {
                    let expires = if token.expires.is_empty() { "never".into() } else { token.expires };
                    vec![token.name, token.grants.join(" "), token.created, token.author, expires]
                });
                out.table(&["NAME", "GRANTS", "CREATED", "BY", "EXPIRES"], &rows.collect::<Vec<_>>());
                if !list.required {
                    print::note("there are no tokens, so everybody who reaches the controller is an admin");
                }
            }
        }
        Token::Revoke { name } => {
            client.revoke_token(name)?;
            out.line(format!("token {name} is revoked"));
        }
    }
    Ok(Outcome::Yes)
}
