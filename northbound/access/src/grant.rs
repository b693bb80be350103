//! Roles, scopes, and who has them.

use bulkhead_topology::{Name, ParseError, Selector};
use bulkhead_types::parse_selector;
use std::{fmt, str::FromStr};

/// A sort of right. Each has the rights of those before it, [`Role::Vtep`] apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Reports as the agent of one kernel VTEP, and asks what that has to forward. Nothing else.
    Vtep,
    /// Looks at everything, changes nothing.
    Viewer,
    /// Changes application and baseline policies; without a scope also the inventory and address sets.
    Editor,
    /// Changes every resource of every tier.
    Operator,
    /// That, and who has access.
    Admin,
}

impl Role {
    /// The name that grants are written with.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vtep => "vtep",
            Self::Viewer => "viewer",
            Self::Editor => "editor",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

/// What a role is limited to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Workloads with these labels, in any network.
    Labels(Selector),
    /// Members of a zone, as that is defined at the time. A zone that does not exist has none.
    Zone(Name),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Labels(selector) => selector.fmt(f),
            Self::Zone(name) => write!(f, "{ZONE}{name}"),
        }
    }
}

/// How a scope that is a zone begins; no label's key can have a colon.
const ZONE: &str = "zone:";

/// A role, with its scope. Written `ROLE`, `ROLE@SELECTOR`, `ROLE@zone:NAME` or `vtep@SWITCH`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grant {
    /// [`Role::Vtep`] of a switch.
    Vtep(Name),
    /// [`Role::Viewer`]; a scope narrows what is seen.
    Viewer(Option<Scope>),
    /// [`Role::Editor`]; a scope narrows what is changed.
    Editor(Option<Scope>),
    /// [`Role::Operator`]; a scope narrows what is changed.
    Operator(Option<Scope>),
    /// [`Role::Admin`]; it has no scope: who gives access away has all of it.
    Admin,
}

impl Grant {
    /// Its role.
    pub fn role(&self) -> Role {
        match self {
            Self::Vtep(_) => Role::Vtep,
            Self::Viewer(_) => Role::Viewer,
            Self::Editor(_) => Role::Editor,
            Self::Operator(_) => Role::Operator,
            Self::Admin => Role::Admin,
        }
    }

    /// Its scope, if it is limited to one.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Vtep(_) | Self::Admin => None,
            Self::Viewer(scope) | Self::Editor(scope) | Self::Operator(scope) => scope.as_ref(),
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.role().as_str())?;
        match self {
            Self::Vtep(switch) => write!(f, "@{switch}"),
            _ => self.scope().map_or(Ok(()), |scope| write!(f, "@{scope}")),
        }
    }
}

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// It begins with no role.
    #[error("`{0}` is no role; use viewer, editor, operator or admin, or vtep@SWITCH for an agent")]
    Role(String),
    /// An admin or an agent's switch.
    #[error("{0}")]
    Scope(&'static str),
    /// The scope cannot be read.
    #[error(transparent)]
    Text(#[from] ParseError),
}

impl FromStr for Grant {
    type Err = GrantError;

    fn from_str(text: &str) -> Result<Self, GrantError> {
        let (role, scope) = match text.split_once('@') {
            Some((role, scope)) => (role, Some(scope)),
            None => (text, None),
        };
        match (role, scope) {
            ("vtep", Some(switch)) => return Ok(Self::Vtep(switch.parse()?)),
            ("vtep", None) => return Err(GrantError::Scope("an agent is one switch's: write vtep@SWITCH")),
            ("admin", None) => return Ok(Self::Admin),
            ("admin", Some(_)) => {
                return Err(GrantError::Scope("an admin has no scope: who gives access away has all"));
            }
            _ => {}
        }
        let read = |scope: &str| match scope.strip_prefix(ZONE) {
            Some(zone) => zone.parse().map(Scope::Zone),
            // The empty selector is everything, which is what no scope says.
            None if scope.trim().is_empty() => Err(ParseError::new("scope", scope, "nothing is after the `@`")),
            None => parse_selector(scope).map(Scope::Labels),
        };
        let make = match role {
            "viewer" => Self::Viewer,
            "editor" => Self::Editor,
            "operator" => Self::Operator,
            _ => return Err(GrantError::Role(role.into())),
        };
        Ok(make(scope.map(read).transpose()?))
    }
}

/// Somebody who was told who he is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What he is called in the history and the audit log.
    pub name: String,
    /// What he may do: what any one of them lets him.
    pub grants: Vec<Grant>,
}

impl Principal {
    /// His highest role.
    pub fn role(&self) -> Option<Role> {
        self.grants.iter().map(Grant::role).max()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_read_as_they_are_written() {
        for text in [
            "viewer",
            "editor@app=shop",
            "operator@app=shop,env in (prod,test),!legacy",
            "editor@zone:shop",
            "viewer@tier!=db",
            "admin",
            "vtep@hv1",
        ] {
            let grant: Grant = text.parse().unwrap();
            assert_eq!(grant.to_string().parse::<Grant>().unwrap(), grant, "{text}");
        }
        for text in [
            "",
            "root",
            "editor@",
            "editor@ ",
            "editor@a b",
            "editor@zone:",
            "admin@app=shop",
            "vtep",
            "vtep@",
            "Admin",
        ] {
            assert!(text.parse::<Grant>().is_err(), "{text}");
        }
    }
}
