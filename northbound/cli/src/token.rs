//! token create, list, revoke.

use crate::{
    Outcome,
    args::{Output, Token},
    print::{self, Out},
};
use bulkhead_client::Client;
use bulkhead_types::TokenQuestion;

/// `bulkhead token ...`
pub fn token(client: &Client, output: Output, out: &mut Out, command: &Token) -> anyhow::Result<Outcome> {
    let raw = matches!(output, Output::Json | Output::Yaml);
    match command {
        Token::Create { name, grants, days, certificate } => {
            let question =
                TokenQuestion { name: name.clone(), grants: grants.clone(), days: *days, certificate: *certificate };
            let made = client.create_token(&question)?;
            if raw {
                out.value(output, &made)?;
            } else if *certificate {
                out.line(format!("who shows a certificate of {name} has access"));
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
                    let by = if token.certificate { "certificate" } else { "token" };
                    vec![token.name, by.into(), token.grants.join(" "), token.created, token.author, expires]
                });
                out.table(&["NAME", "SHOWS", "GRANTS", "CREATED", "BY", "EXPIRES"], &rows.collect::<Vec<_>>());
                if !list.required {
                    print::note("the controller runs with --open-loopback: everybody who reaches it is an admin");
                }
            }
        }
        Token::Revoke { name } => {
            client.revoke_token(name)?;
            out.line(format!("the access of {name} is revoked"));
        }
    }
    Ok(Outcome::Yes)
}
