//! What does not fit the underlay. Only real hosts tell what fits, and only between switches is it of interest: this
//! belongs to no list but theirs.

use crate::{
    case::{
        Case,
        Expect::{Delivered, Told},
        OUT, UPLINK,
    },
    frames::Host,
};
use bulkhead_pipeline::Field;

/// The longest IP packet fits and a longer one does not, and is told of; `most` is its length in bytes.
pub fn case(pairs: &[(Host, Host)], most: u16) -> Case {
    let mut case = Case::new("what does not fit the underlay", &[OUT]);
    case.network = format!(
        "{UPLINK}
  defaultAction: allow"
    );
    for (from, to) in pairs {
        for v6 in [false, true] {
            let way = from.to(to, v6);
            case.send(from.port, way.udp_of(41_090, 53, most), Delivered(to.port));
            // Fragmentation needed (RFC 1191 §4), packet too big (RFC 4443 §3.2).
            let told = if v6 {
                vec![(Field::IcmpType, 2), (Field::IcmpCode, 0)]
            } else {
                vec![(Field::IcmpType, 3), (Field::IcmpCode, 4)]
            };
            case.send(from.port, way.udp_of(41_090, 53, most + 1), Told("builtin/mtu", told, Some(most)));
        }
    }
    case
}

/// The longest packets that a host sends arrive whole, at others and outside; `most` is their length in bytes.
pub fn whole(pairs: &[(Host, Host)], most: u16) -> Case {
    let mut case = Case::new("links carry whole packets", &[OUT]);
    case.network = format!("{UPLINK}\n  defaultAction: allow");
    for (from, to) in pairs {
        for v6 in [false, true] {
            case.send(from.port, from.to(to, v6).udp_of(41_091, 53, most), Delivered(to.port));
        }
    }
    case
}
