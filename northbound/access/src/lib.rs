//! Who may do what.
//!
//! A [`Principal`] has [`Grant`]s: a role, and for most roles a scope, which is a selector or a zone. [`may`] decides
//! about one verb, and for changes about one resource before and after. It is a pure function of the principal and the
//! state, so that every way to a change (`apply`, `PUT`, `DELETE`, a rollback) is judged by the same words. docs/access.md
//! has the rules as operators read them, and docs/adr/0016 their reasons.

mod decide;
mod grant;
mod within;

pub use decide::{Judge, Refusal, Verb, may};
pub use grant::{Grant, GrantError, Principal, Role, Scope};
pub use within::within;
