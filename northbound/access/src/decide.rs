//! The decision.

use crate::{
    grant::{Grant, Principal, Role, Scope},
    within,
};
use bulkhead_policy::{
    Key, Kind, Resource, State,
    model::{Peer, Policy, PortMatch, Subject, Tier, Workload, Zone},
};
use bulkhead_topology::{Name, Selector};
use std::{cell::OnceCell, collections::BTreeMap, sync::Arc};

/// What somebody wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb<'a> {
    /// To see a resource; that is the one after.
    Read,
    /// To be answered about the fabric as a whole: who reaches whom, its status, its history.
    Ask,
    /// To change a resource from what it is to what it is to be. None before creates it, none after removes it.
    Change,
    /// To carry all resources away.
    Backup,
    /// To bring all resources back into an empty controller.
    Restore,
    /// To see, give and take access.
    Tokens,
    /// To read the audit log.
    Audit,
    /// To be told what this kernel VTEP forwards, and to report for it.
    Vtep(&'a Name),
}

/// Why somebody may not.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// His role never may.
    #[error("this needs the role {needs}")]
    Role {
        /// The least role that may.
        needs: &'static str,
    },
    /// His role may not touch resources of this kind.
    #[error("{key}: changing it needs the role {needs}")]
    Kind {
        /// The resource.
        key: Key,
        /// The least role that may.
        needs: &'static str,
    },
    /// It is, or would be, in a tier above him.
    #[error("{key}: changing policies of tier {} needs the role operator", .tier.as_str())]
    Tier {
        /// The policy.
        key: Key,
        /// The tier.
        tier: Tier,
    },
    /// It is, or would be, about more than his scope.
    #[error("{key} {when} outside of the scope {scope}")]
    Outside {
        /// The resource.
        key: Key,
        /// `is` or `would be`.
        when: &'static str,
        /// His scope.
        scope: String,
    },
    /// Where a workload is, and which addresses it has, is not his.
    #[error(
        "{key}: within a scope only labels and named ports of a workload can be changed; the rest is the inventory's"
    )]
    Inventory {
        /// The workload.
        key: Key,
    },
    /// A change of labels would bring a workload under something of others, or out of it.
    #[error("{key}: its new labels would {} {by}, which is not within the scope", if *.joins { "bring it into" } else { "take it out of" })]
    Labels {
        /// The workload.
        key: Key,
        /// Whether it would be selected where it was not.
        joins: bool,
        /// The policy or zone.
        by: Key,
    },
    /// Rules of others look a named port up.
    #[error("{key}: its port `{port}` is named by {by}, which is not within the scope")]
    NamedPort {
        /// The workload.
        key: Key,
        /// The port's name.
        port: Arc<str>,
        /// The policy.
        by: Key,
    },
    /// Policies of others use it.
    #[error("{key} is used by {by}, which is not yours to change")]
    Used {
        /// The resource.
        key: Key,
        /// The policy.
        by: Key,
    },
    /// It says what somebody's own scope is.
    #[error("{key} is the scope itself; who is in it is for somebody without that scope to say")]
    OwnScope {
        /// The zone.
        key: Key,
    },
}

/// Whether `principal` may do this to a resource that is `before` and would be `after`, in `state`, which is the one
/// before the change. The refusal is that of the grant that comes closest: the one with the highest role.
pub fn may(
    principal: &Principal,
    verb: Verb<'_>,
    before: Option<&Resource>,
    after: Option<&Resource>,
    state: &State,
) -> Result<(), Refusal> {
    Judge::new(principal, state).may(verb, before, after)
}

/// [`may`] for many resources of one change. Each is judged by the state before the whole change, which is sound because
/// nobody with a scope may change what his own rights are told by (zones, and the policies of others).
pub struct Judge<'a> {
    grants: Vec<Limited<'a>>,
}

impl<'a> Judge<'a> {
    /// For changes by `principal` of `state`.
    pub fn new(principal: &'a Principal, state: &'a State) -> Self {
        let mut grants: Vec<&Grant> = principal.grants.iter().collect();
        grants.sort_by_key(|grant| std::cmp::Reverse(grant.role()));
        let limited = |grant| Limited { grant, state, others: OnceCell::new() };
        Self { grants: grants.into_iter().map(limited).collect() }
    }

    /// See [`may`].
    pub fn may(&self, verb: Verb<'_>, before: Option<&Resource>, after: Option<&Resource>) -> Result<(), Refusal> {
        let mut first = None;
        for grant in &self.grants {
            match grant.may(verb, before, after) {
                Ok(()) => return Ok(()),
                Err(refusal) => drop(first.get_or_insert(refusal)),
            }
        }
        Err(first.unwrap_or(Refusal::Role { needs: Role::Viewer.as_str() }))
    }
}

/// A grant, in a state.
struct Limited<'a> {
    grant: &'a Grant,
    state: &'a State,
    others: OnceCell<Others<'a>>,
}

/// What of others hangs on the labels and named ports of workloads within a scope.
#[derive(Default)]
struct Others<'a> {
    /// Selectors that must go on saying the same about them, and whose they are.
    selectors: Vec<(Key, &'a Selector)>,
    /// Port names in their rules.
    ports: BTreeMap<&'a Arc<str>, Key>,
}

/// A scope, looked up.
#[derive(Clone, Copy)]
struct Region<'a> {
    /// The network that it is in; none is all.
    network: Option<&'a Name>,
    selector: &'a Selector,
}

impl Region<'_> {
    fn has(self, workload: &Workload) -> bool {
        self.network.is_none_or(|network| *network == workload.network) && self.selector.matches(&workload.labels)
    }

    fn covers(self, zone: &Zone) -> bool {
        self.network.is_none_or(|network| *network == zone.network) && within(&zone.selector, self.selector)
    }

    fn covers_subject(self, state: &State, subject: &Subject) -> bool {
        match subject {
            // It is about workloads of every network.
            Subject::Selector(selector) => self.network.is_none() && within(selector, self.selector),
            Subject::Zone(name) => state.zones.get(name).is_some_and(|zone| self.covers(zone)),
        }
    }
}

/// The two sides of a change, and which word tells of each.
fn sides<'r, T>(before: Option<&'r T>, after: Option<&'r T>) -> impl Iterator<Item = (&'r T, &'static str)> {
    before.map(|side| (side, "is")).into_iter().chain(after.map(|side| (side, "would be")))
}

/// Both sides as the same kind.
macro_rules! pair {
    ($kind:ident, $before:expr, $after:expr) => {{
        let of = |side: Option<&'_ Resource>| match side {
            Some(Resource::$kind(found)) => Some(found.clone()),
            _ => None,
        };
        (of($before), of($after))
    }};
}

impl<'a> Limited<'a> {
    fn may(&self, verb: Verb<'_>, before: Option<&Resource>, after: Option<&Resource>) -> Result<(), Refusal> {
        let role = self.grant.role();
        let least = |needed: Role| match role >= needed {
            true => Ok(()),
            false => Err(Refusal::Role { needs: needed.as_str() }),
        };
        let whole = self.grant.scope().is_none();
        match verb {
            Verb::Read => least(Role::Viewer).and_then(|()| self.read(after)),
            Verb::Ask if role == Role::Viewer && !whole => Err(Refusal::Role { needs: "viewer, without a scope" }),
            Verb::Ask => least(Role::Viewer),
            Verb::Change => least(Role::Editor).and_then(|()| self.change(before, after)),
            Verb::Backup if role == Role::Operator && !whole => {
                Err(Refusal::Role { needs: "operator, without a scope" })
            }
            Verb::Backup => least(Role::Operator),
            Verb::Restore | Verb::Tokens | Verb::Audit => least(Role::Admin),
            Verb::Vtep(switch) => match self.grant {
                Grant::Vtep(own) if own == switch => Ok(()),
                Grant::Vtep(_) => Err(Refusal::Role { needs: "vtep of this switch" }),
                _ if role == Role::Operator && !whole => Err(Refusal::Role { needs: "operator, without a scope" }),
                _ => least(Role::Operator),
            },
        }
    }

    /// What the scope is in this state: nothing in it, if it is a zone that is not there.
    fn region(&self) -> Option<Region<'a>> {
        match self.grant.scope()? {
            Scope::Labels(selector) => Some(Region { network: None, selector }),
            Scope::Zone(name) => {
                let zone = self.state.zones.get(name)?;
                Some(Region { network: Some(&zone.network), selector: &zone.selector })
            }
        }
    }

    fn outside(&self, key: &Key, when: &'static str) -> Refusal {
        let scope = self.grant.scope().map(Scope::to_string).unwrap_or_default();
        Refusal::Outside { key: key.clone(), when, scope }
    }

    fn read(&self, resource: Option<&Resource>) -> Result<(), Refusal> {
        let (Grant::Viewer(Some(_)), Some(resource)) = (self.grant, resource) else { return Ok(()) };
        let sees = self.region().is_some_and(|region| match resource {
            Resource::Workload(workload) => region.has(workload),
            Resource::Policy(policy) => region.covers_subject(self.state, &policy.subject),
            Resource::Zone(zone) => region.covers(zone),
            // What rules are written with.
            Resource::Network(_) | Resource::AddressSet(_) => true,
            Resource::Switch(_) | Resource::Link(_) | Resource::Host(_) | Resource::Adjacency(_) => false,
        });
        if sees { Ok(()) } else { Err(self.outside(&resource.key(), "is")) }
    }

    fn change(&self, before: Option<&Resource>, after: Option<&Resource>) -> Result<(), Refusal> {
        // Nothing becomes nothing: whoever asks learns no more than that.
        let Some(key) = before.or(after).map(Resource::key) else { return Ok(()) };
        let whole = self.grant.scope().is_none();
        let operates = self.grant.role() >= Role::Operator;
        let needs = |needs| Err(Refusal::Kind { key: key.clone(), needs });
        match key.kind {
            // Bulkhead's own.
            Kind::Host | Kind::Adjacency => needs("controller"),
            _ if operates && whole => Ok(()),
            Kind::Policy => {
                let (before, after) = pair!(Policy, before, after);
                self.policies(&key, before.as_deref(), after.as_deref())
            }
            Kind::Workload if whole => Ok(()),
            Kind::Workload => {
                let (before, after) = pair!(Workload, before, after);
                self.workload(&key, before.as_deref(), after.as_deref())
            }
            Kind::Zone if operates => {
                let (before, after) = pair!(Zone, before, after);
                self.zone(&key, before.as_deref(), after.as_deref())
            }
            Kind::Zone => needs("operator"),
            Kind::AddressSet if whole => self.unused(&key),
            Kind::AddressSet => needs("editor, without a scope"),
            Kind::Network | Kind::Switch | Kind::Link => needs("operator, without a scope"),
        }
    }

    fn policies(&self, key: &Key, before: Option<&Policy>, after: Option<&Policy>) -> Result<(), Refusal> {
        sides(before, after).try_for_each(|(policy, when)| self.policy(key, policy, when))
    }

    /// Whether a policy is one that this grant may write.
    fn policy(&self, key: &Key, policy: &Policy, when: &'static str) -> Result<(), Refusal> {
        let above = matches!(policy.tier, Tier::Emergency | Tier::Platform);
        if above && self.grant.role() < Role::Operator {
            return Err(Refusal::Tier { key: key.clone(), tier: policy.tier });
        }
        let covers = |region: Region<'_>| region.covers_subject(self.state, &policy.subject);
        match self.grant.scope().is_none() || self.region().is_some_and(covers) {
            true => Ok(()),
            false => Err(self.outside(key, when)),
        }
    }

    fn workload(&self, key: &Key, before: Option<&Workload>, after: Option<&Workload>) -> Result<(), Refusal> {
        for (workload, when) in sides(before, after) {
            if !self.region().is_some_and(|region| region.has(workload)) {
                return Err(self.outside(key, when));
            }
        }
        let (Some(before), Some(after)) = (before, after) else {
            return Err(Refusal::Inventory { key: key.clone() });
        };
        if (&before.network, &before.interfaces) != (&after.network, &after.interfaces) {
            return Err(Refusal::Inventory { key: key.clone() });
        }
        let others = self.others.get_or_init(|| self.of_others());
        if before.labels != after.labels {
            for (by, selector) in &others.selectors {
                let joins = selector.matches(&after.labels);
                if selector.matches(&before.labels) != joins {
                    return Err(Refusal::Labels { key: key.clone(), joins, by: by.clone() });
                }
            }
        }
        let names = before.named_ports.keys().chain(after.named_ports.keys());
        for port in names.filter(|port| before.named_ports.get(*port) != after.named_ports.get(*port)) {
            if let Some(by) = others.ports.get(port) {
                return Err(Refusal::NamedPort { key: key.clone(), port: port.clone(), by: by.clone() });
            }
        }
        Ok(())
    }

    fn of_others(&self) -> Others<'a> {
        let mut others = Others::default();
        // Zones carry modes and isolation, and policies of others speak of them by name.
        let zones = self.state.zones.values();
        others.selectors.extend(zones.map(|zone| (Kind::Zone.named(&zone.name), &zone.selector)));
        for policy in self.state.policies.values() {
            let key = Kind::Policy.named(&policy.name);
            if self.policy(&key, policy, "is").is_ok() {
                continue;
            }
            if let Subject::Selector(selector) = &policy.subject {
                others.selectors.push((key.clone(), selector));
            }
            let owners = matches!(policy.tier, Tier::Application | Tier::Baseline);
            for rule in policy.ingress.iter().chain(&policy.egress) {
                for peer in rule.peers.iter().flatten() {
                    let Peer::Selector(selector) = peer else { continue };
                    // An owner of an application who names this scope leaves it to the scope's editors who that is.
                    let named = self.region().is_some_and(|region| within(selector, region.selector));
                    if !(owners && named) {
                        others.selectors.push((key.clone(), selector));
                    }
                }
                for port in rule.ports.iter().flatten() {
                    if let PortMatch::Named { name, .. } = port {
                        others.ports.entry(name).or_insert_with(|| key.clone());
                    }
                }
            }
        }
        others
    }

    /// A zone that an operator with a scope would change.
    fn zone(&self, key: &Key, before: Option<&Zone>, after: Option<&Zone>) -> Result<(), Refusal> {
        for (zone, when) in sides(before, after) {
            if !self.region().is_some_and(|region| region.covers(zone)) {
                return Err(self.outside(key, when));
            }
        }
        let members = |zone: &Zone| (zone.network.clone(), zone.selector.clone());
        if before.map(members) == after.map(members) {
            return Ok(());
        }
        if matches!(self.grant.scope(), Some(Scope::Zone(own)) if *own == key.name) {
            return Err(Refusal::OwnScope { key: key.clone() });
        }
        self.unused(key)
    }

    /// Whether no policy of others names a resource.
    fn unused(&self, key: &Key) -> Result<(), Refusal> {
        for by in self.state.referrers(key).filter(|by| by.kind == Kind::Policy) {
            let Some(policy) = self.state.policies.get(&by.name) else { continue };
            if self.policy(by, policy, "is").is_err() {
                return Err(Refusal::Used { key: key.clone(), by: by.clone() });
            }
        }
        Ok(())
    }
}
