//! What needs no device: batches, and what is made of a device's details.

use super::*;
use crate::testing::{self, Random};
use proptest::prelude::*;

fn status(errors: &[(i32, &str)], kind: &str) -> Status {
    let one = |(canonical_code, message): &(i32, &str)| {
        let error = p4::Error { canonical_code: *canonical_code, message: (*message).to_owned(), ..Default::default() };
        prost_types::Any { type_url: format!("type.googleapis.com/{kind}"), value: error.encode_to_vec() }
    };
    let details = google::rpc::Status { code: 2, message: "".to_owned(), details: errors.iter().map(one).collect() };
    Status::with_details(Code::Unknown, "some failed", details.encode_to_vec().into())
}

#[test]
fn each_update_has_its_own_result() {
    let told = each(&status(&[(0, ""), (6, "is there"), (8, "full")], "p4.v1.Error")).unwrap();
    assert_eq!(told[0], Ok(()));
    assert_eq!(told[1], Err(UpdateError { code: Code::AlreadyExists, why: "is there".to_owned() }));
    assert_eq!(told[2].as_ref().unwrap_err().code, Code::ResourceExhausted);
}

#[test]
fn details_that_say_nothing_of_updates_are_none() {
    assert_eq!(each(&status(&[], "p4.v1.Error")), None);
    assert_eq!(each(&status(&[(5, "")], "google.rpc.DebugInfo")), None);
    assert_eq!(each(&Status::new(Code::PermissionDenied, "no")), None);
    assert_eq!(each(&Status::with_details(Code::Unknown, "", vec![0xff].into())), None);
}

#[test]
fn a_read_has_an_end() {
    let empty = |many| ReadResponse { entities: vec![Entity::default(); many] };
    let mut read = Gathered { bytes: MAX_READ - 1000, ..Default::default() };
    assert_eq!(read.add(empty(1)), Ok(()));
    assert!(matches!(read.add(empty(10)), Err(Error::TooMuch { .. })), "entities that are nothing on the wire count");
    assert_eq!(read.entities.len(), 1);
}

#[test]
fn a_cookie_is_of_both_parts() {
    let info = testing::p4info(&mut Random(1));
    let pipeline = |info: &P4Info, config: &[u8]| Pipeline::new(info.clone(), config.to_vec()).unwrap().cookie();
    assert_eq!(pipeline(&info, b"a"), pipeline(&info, b"a"));
    assert_ne!(pipeline(&info, b"a"), pipeline(&info, b"b"));
    assert_ne!(pipeline(&info, b"a"), pipeline(&testing::p4info(&mut Random(2)), b"a"));
}

proptest! {
    // Each makes megabytes.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn batches_are_all_of_it_in_order_and_small(many in 0_usize..2500, size in 0_usize..3000) {
        let entry = |at: usize| p4::TableEntry {
            priority: i32::try_from(at).unwrap(),
            metadata: vec![1; size],
            ..Default::default()
        };
        let updates: Vec<_> = (0..many).map(|at| testing::update(p4::update::Type::Insert, entry(at))).collect();
        let cut = batches(updates.clone());
        for batch in &cut {
            prop_assert!(!batch.is_empty() && batch.len() <= MAX_BATCH);
            prop_assert!(batch.iter().map(prost::Message::encoded_len).sum::<usize>() <= MAX_BATCH_BYTES);
        }
        prop_assert_eq!(cut.concat(), updates);
    }
}

proptest! {
    #[test]
    fn no_details_break_the_reader(noise: Vec<u8>) {
        let _ = each(&Status::with_details(Code::Unknown, "", noise.into()));
    }
}
