//! Lists of actions as names: what an entry does, apart from the values that it does it with.
//!
//! An action of the program has one name for each thing that it does, in order, joined by two underscores, and a parameter
//! for each value. So the names say all that lowering and lifting need to know.

use crate::layout::{self, PORT_WIDTH, Slot};
use bulkhead_pipeline::{Action, Entry, Field, Output};
use std::net::IpAddr;

/// What joins the parts of a name.
pub(crate) const JOINT: &str = "__";
/// The name of a list without actions.
pub(crate) const NOTHING: &str = "go";

/// One action without its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Set(Field),
    Copy(Field, Field),
    ServiceFromDst,
    ServiceFromSrc,
    ServiceFromIcmp,
    ServiceFromProto,
    Choose,
    Send,
    SendBack,
    SendTo,
    Push(Field),
    PopVlan,
    DecTtl,
    CheckSize,
    Track,
    SwapEnds,
    Reject,
    Expired(Family),
    NoRoute(Family),
    TooBig,
    Log,
}

/// Of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

const PLAIN: [(Part, &str); 15] = [
    (Part::ServiceFromDst, "service_from_dst"),
    (Part::ServiceFromSrc, "service_from_src"),
    (Part::ServiceFromIcmp, "service_from_icmp"),
    (Part::ServiceFromProto, "service_from_proto"),
    (Part::Choose, "choose"),
    (Part::Send, "send"),
    (Part::SendBack, "send_back"),
    (Part::SendTo, "send_to"),
    (Part::PopVlan, "pop_vlan"),
    (Part::DecTtl, "dec_ttl"),
    (Part::CheckSize, "check_size"),
    (Part::Track, "track"),
    (Part::SwapEnds, "swap_ends"),
    (Part::Reject, "reject"),
    (Part::Log, "log"),
];
const ABOUT: [(Part, &str); 5] = [
    (Part::Expired(Family::V4), "expired4"),
    (Part::Expired(Family::V6), "expired6"),
    (Part::NoRoute(Family::V4), "no_route4"),
    (Part::NoRoute(Family::V6), "no_route6"),
    (Part::TooBig, "too_big"),
];

impl Part {
    /// An action and its value, if it has one; `None` if the program has nothing like it.
    pub fn of(action: &Action) -> Option<(Self, Option<u128>)> {
        let port = |port| layout::port_number(port);
        Some(match action {
            Action::Set(field, value) => (Self::Set(*field), Some(value.get())),
            Action::Copy { from, to } => (Self::Copy(*from, *to), None),
            Action::ServiceFromDst => (Self::ServiceFromDst, None),
            Action::ServiceFromSrc => (Self::ServiceFromSrc, None),
            Action::ServiceFromIcmp => (Self::ServiceFromIcmp, None),
            Action::ServiceFromProto => (Self::ServiceFromProto, None),
            Action::SetOut(to) => (Self::Choose, Some(port(to)?)),
            Action::Output(Output::InPort) => (Self::SendBack, None),
            Action::Output(Output::Chosen) => (Self::Send, None),
            Action::Output(Output::Port(to)) => (Self::SendTo, Some(port(to)?)),
            Action::PushVlan(field) => (Self::Push(*field), None),
            Action::PopVlan => (Self::PopVlan, None),
            Action::DecTtl => (Self::DecTtl, None),
            Action::CheckSize(most) => (Self::CheckSize, Some((*most).into())),
            Action::Track => (Self::Track, None),
            Action::SwapEnds => (Self::SwapEnds, None),
            Action::Reject => (Self::Reject, None),
            // Its value is the entry's, not the action's.
            Action::Log => (Self::Log, None),
            Action::Expired { from } => (Self::Expired(Family::of(from)), Some(bits(from))),
            Action::NoRoute { from } => (Self::NoRoute(Family::of(from)), Some(bits(from))),
            Action::TooBig { mtu } => (Self::TooBig, Some((*mtu).into())),
            Action::SetBits(_)
            | Action::Output(Output::OneOf(_))
            | Action::Fork { .. }
            | Action::Commit
            | Action::CommitAnew
            | Action::Recall
            | Action::RecallService
            | Action::Clause { .. }
            | Action::Probe
            | Action::Discover => return None,
        })
    }

    /// The action of this part with a value; `None` if there is none with that one.
    pub fn action(self, value: u128) -> Option<Action> {
        let port = || layout::port_of(value);
        Some(match self {
            Self::Set(field) => Action::set(field, value),
            Self::Copy(from, to) => Action::Copy { from, to },
            Self::ServiceFromDst => Action::ServiceFromDst,
            Self::ServiceFromSrc => Action::ServiceFromSrc,
            Self::ServiceFromIcmp => Action::ServiceFromIcmp,
            Self::ServiceFromProto => Action::ServiceFromProto,
            Self::Choose => Action::SetOut(port()?),
            Self::Send => Action::Output(Output::Chosen),
            Self::SendBack => Action::Output(Output::InPort),
            Self::SendTo => Action::Output(Output::Port(port()?)),
            Self::Push(field) => Action::PushVlan(field),
            Self::PopVlan => Action::PopVlan,
            Self::DecTtl => Action::DecTtl,
            Self::CheckSize => Action::CheckSize(value.try_into().ok()?),
            Self::Track => Action::Track,
            Self::SwapEnds => Action::SwapEnds,
            Self::Reject => Action::Reject,
            Self::Log => Action::Log,
            Self::Expired(family) => Action::Expired { from: family.address(value)? },
            Self::NoRoute(family) => Action::NoRoute { from: family.address(value)? },
            Self::TooBig => Action::TooBig { mtu: value.try_into().ok()? },
        })
    }

    /// The parameter that its value is.
    pub fn param(self) -> Option<Slot> {
        let (name, width) = match self {
            Self::Set(field) => (field.as_str(), field.width()),
            Self::Choose | Self::SendTo => ("port", PORT_WIDTH),
            Self::CheckSize => ("most", 16),
            Self::Expired(Family::V4) | Self::NoRoute(Family::V4) => ("from", 32),
            Self::Expired(Family::V6) | Self::NoRoute(Family::V6) => ("from", 128),
            Self::TooBig => ("mtu", 16),
            Self::Log => ("log", 40),
            _ => return None,
        };
        Some(Slot { name, width })
    }

    fn name(self) -> String {
        match self {
            Self::Set(field) => format!("set_{}", field.as_str()),
            Self::Copy(from, to) => format!("copy_{}_to_{}", from.as_str(), to.as_str()),
            Self::Push(field) => format!("push_{}", field.as_str()),
            plain => {
                let found = PLAIN.iter().chain(&ABOUT).find(|(part, _)| *part == plain);
                found.map(|(_, name)| (*name).to_owned()).unwrap_or_default()
            }
        }
    }

    fn named(name: &str) -> Option<Self> {
        if let Some((part, _)) = PLAIN.iter().chain(&ABOUT).find(|(_, known)| *known == name) {
            return Some(*part);
        }
        let field = |name: &str| Field::ALL.into_iter().find(|field| field.as_str() == name);
        if let Some(name) = name.strip_prefix("set_") {
            return field(name).map(Self::Set);
        }
        if let Some(name) = name.strip_prefix("push_") {
            return field(name).map(Self::Push);
        }
        let (from, to) = name.strip_prefix("copy_")?.split_once("_to_")?;
        Some(Self::Copy(field(from)?, field(to)?))
    }
}

impl Family {
    fn of(address: &IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn address(self, value: u128) -> Option<IpAddr> {
        Some(match self {
            Self::V4 => IpAddr::V4(u32::try_from(value).ok()?.into()),
            Self::V6 => IpAddr::V6(value.into()),
        })
    }
}

fn bits(address: &IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_bits().into(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

/// The name of what an entry does; `None` if one of its actions is nothing that the program could ever have.
pub fn shape(entry: &Entry) -> Option<String> {
    if entry.actions.is_empty() {
        return Some(NOTHING.to_owned());
    }
    let parts: Option<Vec<String>> = entry.actions.iter().map(|action| Some(Part::of(action)?.0.name())).collect();
    Some(parts?.join(JOINT))
}

/// The parts that a shape's name says; `None` if it says none.
pub(crate) fn parts(shape: &str) -> Option<Vec<Part>> {
    if shape == NOTHING {
        return Some(Vec::new());
    }
    shape.split(JOINT).map(Part::named).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::layout::SHAPES;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_read_as_they_are_written() {
        for (stage, shapes) in SHAPES {
            let unique: BTreeSet<_> = shapes.iter().collect();
            assert_eq!(unique.len(), shapes.len(), "{}", stage.spec().name);
            for shape in *shapes {
                let parts = parts(shape).unwrap_or_else(|| panic!("{shape}"));
                let names: Vec<String> = parts.iter().map(|part| part.name()).collect();
                assert_eq!(if parts.is_empty() { NOTHING.to_owned() } else { names.join(JOINT) }, *shape);
                let params: BTreeSet<_> =
                    parts.iter().filter_map(|part| part.param()).map(|param| param.name).collect();
                assert_eq!(params.len(), parts.iter().filter_map(|part| part.param()).count(), "{shape}");
            }
        }
        assert_eq!(parts("set_nothing"), None);
        assert_eq!(parts(""), None);
    }
}
