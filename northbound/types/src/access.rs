//! Access: tokens, as the API tells of them and is asked for them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The file in a controller's data directory from which whoever may read it is its admin: contexts, as in the
/// configuration of `bulkhead`.
pub const ADMIN_FILE: &str = "admin.yaml";

/// The body of `POST /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenQuestion {
    /// Who has it: what the history calls him. No other token has this name.
    pub name: String,
    /// What he may do, as in `editor@app=shop`; at least one.
    pub grants: Vec<String>,
    /// Whether he shows a certificate with this common name, and no token is made.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate: bool,
    /// In how many days it ends; never, if nobody says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<u32>,
}

/// The answer to it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenAnswer {
    /// The token, which is told this once; empty if he shows a certificate.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// What is told of it from now on.
    #[serde(flatten)]
    pub line: TokenLine,
}

/// A token, without what makes it one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenLine {
    /// Who has it.
    pub name: String,
    /// What he may do.
    pub grants: Vec<String>,
    /// Whether he shows a certificate with this common name, and has no token.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub certificate: bool,
    /// Who made it.
    pub author: String,
    /// When (RFC 3339, UTC).
    pub created: String,
    /// When it ends (RFC 3339, UTC); empty if it does not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub expires: String,
}

/// The answer to `GET /v1/tokens`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct TokenList {
    /// Whether it is asked who somebody is; else everybody who reaches the controller is an admin.
    pub required: bool,
    /// Tokens, by name.
    pub items: Vec<TokenLine>,
}
