//! The rules of P4Runtime §5.3, one by one, and that there is never more than one primary.

use super::*;
use bulkhead_p4runtime::{Arbitration, Standing, proto::p4::v1::Role};
use proptest::prelude::*;

fn stands(id: Option<u128>) -> MasterArbitrationUpdate {
    let election_id = id.map(|id| ElectionId(id).into());
    MasterArbitrationUpdate { device_id: 1, election_id, ..Default::default() }
}

fn codes(notices: &Notices) -> Vec<(SessionId, i32)> {
    notices.iter().map(|(session, notice)| (*session, notice.status.as_ref().unwrap().code)).collect()
}

#[test]
fn the_highest_is_primary_and_the_others_are_told() {
    let mut arbiter = Arbiter::new(1);
    assert_eq!(codes(&arbiter.received(1, &stands(Some(5))).unwrap()), [(1, 0)]);
    assert_eq!(codes(&arbiter.received(2, &stands(Some(3))).unwrap()), [(2, 6)]);
    assert_eq!(codes(&arbiter.received(3, &stands(Some(9))).unwrap()), [(1, 6), (2, 6), (3, 0)]);
    assert_eq!(arbiter.primary(), Some(3));
    assert_eq!(codes(&arbiter.left(3)), [(1, 5), (2, 5)]);
    assert_eq!(arbiter.primary(), None, "nobody is made primary who has not stood again");
    assert!(!arbiter.may_write(Some(ElectionId(9).into())), "the primary is gone");
    assert_eq!(codes(&arbiter.received(1, &stands(Some(8))).unwrap()), [(1, 5)], "below the highest ever seen");
    assert_eq!(codes(&arbiter.received(1, &stands(Some(9))).unwrap()), [(1, 0), (2, 6)]);
    assert!(arbiter.may_write(Some(ElectionId(9).into())) && !arbiter.may_write(Some(ElectionId(8).into())));
    assert_eq!(codes(&arbiter.left(2)), [], "a backup's leaving concerns nobody");
}

#[test]
fn who_stands_with_nothing_is_never_primary_and_who_steps_down_is_told_of() {
    let mut arbiter = Arbiter::new(1);
    let told = arbiter.received(1, &stands(None)).unwrap();
    assert_eq!(codes(&told), [(1, 5)]);
    assert_eq!(told[0].1.election_id, None, "there never was a primary");
    assert!(!arbiter.may_write(None));
    arbiter.received(2, &stands(Some(0))).unwrap();
    assert_eq!(arbiter.primary(), Some(2), "zero is an id");
    arbiter.received(2, &stands(Some(7))).unwrap();
    assert_eq!(codes(&arbiter.received(2, &stands(Some(6))).unwrap()), [(1, 5), (2, 5)]);
}

#[test]
fn what_may_not_be_said_ends_the_stream() {
    let mut arbiter = Arbiter::new(1);
    let code = |result: Result<Notices, Status>| result.unwrap_err().code();
    let other_device = MasterArbitrationUpdate { device_id: 2, ..stands(Some(1)) };
    let other_role =
        MasterArbitrationUpdate { role: Some(Role { name: "guest".to_owned(), config: None }), ..stands(Some(1)) };
    assert_eq!(code(arbiter.received(1, &other_device)), Code::NotFound);
    assert_eq!(code(arbiter.received(1, &other_role)), Code::InvalidArgument);
    arbiter.received(1, &stands(Some(1))).unwrap();
    assert_eq!(code(arbiter.received(1, &other_device)), Code::FailedPrecondition);
    assert_eq!(code(arbiter.received(1, &other_role)), Code::FailedPrecondition);
    assert_eq!(code(arbiter.received(2, &stands(Some(1)))), Code::InvalidArgument, "taken");
    arbiter.received(1, &stands(Some(1))).unwrap();
    for session in 2..=MAX_CONTROLLERS as u64 {
        arbiter.received(session, &stands(None)).unwrap();
    }
    assert_eq!(code(arbiter.received(99, &stands(None))), Code::ResourceExhausted);
}

proptest! {
    /// Controllers that believe what they are told agree with the device at every moment.
    #[test]
    fn controllers_and_device_agree(steps in proptest::collection::vec((0_u64..4, 0_u128..6, proptest::bool::ANY), 0..40)) {
        let mut arbiter = Arbiter::new(1);
        let mut controllers: BTreeMap<SessionId, Arbitration> = BTreeMap::new();
        for (session, id, leaves) in steps {
            let notices = if leaves {
                controllers.remove(&session);
                arbiter.left(session)
            } else {
                let this = controllers.entry(session).or_insert_with(|| Arbitration::new(1, ElectionId(id)));
                let claim = this.stand_again(ElectionId(id));
                match arbiter.received(session, &claim) {
                    Ok(notices) => notices,
                    Err(_) => {
                        controllers.remove(&session);
                        arbiter.left(session)
                    }
                }
            };
            for (to, notice) in notices {
                controllers.get_mut(&to).unwrap().received(&notice).unwrap();
            }
            for (session, controller) in &controllers {
                let primary = controller.standing() == Standing::Primary;
                prop_assert_eq!(primary, arbiter.primary() == Some(*session));
                prop_assert_eq!(primary, arbiter.may_write(Some(controller.own().into())) );
            }
        }
    }
}
