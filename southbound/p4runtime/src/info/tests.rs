//! A program is read whole, and each contradiction is named.

use super::*;
use crate::testing::{self, Random};
use proptest::prelude::*;

const TINY: &str = include_str!("../../tests/tiny.p4info.txtpb");

fn spoilt(how: impl FnOnce(&mut P4Info)) -> InfoError {
    let mut info = parse_text(TINY).unwrap();
    how(&mut info);
    Info::new(&info).unwrap_err()
}

#[test]
fn a_program_by_its_names() {
    let info = Info::from_text(TINY).unwrap();
    let acl = info.table_named("ingress.acl").unwrap();
    assert_eq!(acl.size, Some(1024));
    assert!(acl.needs_priority());
    let kinds: Vec<_> =
        acl.fields.iter().map(|field| (field.value.name.as_str(), field.value.width, field.kind)).collect();
    let expected = [
        ("src", 32, Kind::Ternary),
        ("dst", 32, Kind::Ternary),
        ("protocol", 8, Kind::Optional),
        ("length", 16, Kind::Range),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(acl.field_named("dst").unwrap().value.id, 2);
    let deny = info.action_named("ingress.deny").unwrap();
    assert_eq!(acl.default, Some(p4::Action { action_id: deny.id, params: Vec::new() }));
    assert_eq!(info.direct_counter(acl.counter.unwrap()).unwrap().name, "ingress.hits");
    let route = info.table_named("ingress.route").unwrap();
    assert!(!route.needs_priority());
    let hops = info.profile_named("ingress.hops").unwrap();
    assert_eq!((route.profile, hops.max_group, hops.size), (Some(hops.id), Some(8), Some(64)));
    assert_eq!(route.actions[&info.action_named("NoAction").unwrap().id], Scope::Default);
    let forward = info.action_named("ingress.forward").unwrap();
    assert_eq!(forward.param_named("port").unwrap().width, 9);
    let learn = info.digest_named("learn_t").unwrap();
    let members: Vec<_> = learn.members.iter().map(|member| (member.name.as_str(), member.width)).collect();
    assert_eq!(members, [("mac", 48), ("port", 9)]);
    assert_eq!(info.packet_in()[0].width, 9);
    assert_eq!(info.table_named("ingress.deny"), None, "an action's name is no table's");
}

#[test]
fn each_contradiction_is_named() {
    let preamble = |table: &mut config::Table| table.preamble.clone().unwrap();
    let told = [
        spoilt(|info| info.tables[0].preamble = None),
        spoilt(|info| info.tables[0].preamble.as_mut().unwrap().name.clear()),
        spoilt(|info| info.tables[0].preamble.as_mut().unwrap().id = 0x0100_0009),
        spoilt(|info| {
            let taken = preamble(&mut info.tables[0]).id;
            info.tables[1].preamble.as_mut().unwrap().id = taken;
        }),
        spoilt(|info| {
            let taken = preamble(&mut info.tables[0]).name;
            info.tables[2].preamble.as_mut().unwrap().name = taken;
        }),
        spoilt(|info| info.tables[0].match_fields[1].id = 1),
        spoilt(|info| info.tables[0].match_fields[0].bitwidth = 0),
        spoilt(|info| info.tables[0].match_fields[0].r#match = None),
        spoilt(|info| {
            let other = match_field::Match::OtherMatchType("regex".to_owned());
            info.tables[0].match_fields[0].r#match = Some(other);
        }),
        spoilt(|info| info.tables[0].action_refs[0].id = 0x0100_00ff),
        spoilt(|info| info.tables[0].direct_resource_ids[0] = 0x1300_00ff),
        spoilt(|info| info.tables[0].direct_resource_ids.clear()),
        spoilt(|info| info.tables[1].implementation_id = 0x1100_00ff),
        spoilt(|info| info.tables[1].implementation_id = 0),
        spoilt(|info| info.action_profiles[0].table_ids.clear()),
        spoilt(|info| info.tables[2].const_default_action_id = 0x0100_0001),
        spoilt(|info| info.tables[0].size = -1),
        spoilt(|info| info.tables[0].initial_default_action.as_mut().unwrap().action_id = 0x0100_0003),
        Info::from_text("tables { colour: 3 }").unwrap_err(),
        Info::from_binary(&[0xff]).unwrap_err(),
    ];
    let told = told.iter().map(|error| format!("{error}\n")).collect::<String>();
    let expected = r#"table number 0 has no preamble
table number 0 has no name
table "ingress.acl" has number 0x01000009, which is not one of a table
the program has number 0x2000001 twice: "ingress.acl" and "ingress.route"
two objects "ingress.acl" of kind table
table "ingress.acl" has number 0x1 twice: "src" and "dst"
table "ingress.acl" has "src" of 0 bits; 1 to 2048 are possible
ingress.acl: field "src" matches by nothing, which is not known
ingress.acl: field "src" matches by "regex", which is not known
table "ingress.acl" names action 0x010000ff, which is not there
table "ingress.acl" names direct counter 0x130000ff, which is not there
ingress.hits and ingress.acl do not agree that they belong together
table "ingress.route" names action profile 0x110000ff, which is not there
ingress.hops and ingress.route do not agree that they belong together
ingress.route and ingress.hops do not agree that they belong together
table "ingress.bridge" names its own action 0x01000001, which is not there
table "ingress.acl" has size -1
ingress.acl: its default action does not fit: ingress.acl has no action "ingress.forward"
"#;
    let (known, foreign) = told.split_at(expected.len().min(told.len()));
    assert_eq!(known, expected);
    assert!(foreign.contains("not P4Info as text") && foreign.contains("colour"), "{foreign}");
    assert!(foreign.contains("not P4Info: "), "{foreign}");
}

#[test]
fn too_much_is_refused_unread() {
    let long = " ".repeat(MAX_INFO + 1);
    assert_eq!(Info::from_text(&long), Err(InfoError::TooLarge(MAX_INFO + 1)));
    assert_eq!(Info::from_binary(long.as_bytes()), Err(InfoError::TooLarge(MAX_INFO + 1)));
}

proptest! {
    #[test]
    fn binary_and_messages_are_the_same_program(seed: u64) {
        let proto = testing::p4info(&mut Random(seed));
        let info = Info::new(&proto).unwrap();
        prop_assert_eq!(Info::from_binary(&proto.encode_to_vec()), Ok(info));
    }

    #[test]
    fn no_bytes_break_the_reader(noise: Vec<u8>, text: String) {
        let _ = Info::from_binary(&noise);
        let _ = Info::from_text(&text);
    }
}
