//! The Geneve option that carries identities, on a real switch that has been told of options before.

use crate::rig;
use bulkhead_dataplane::Report;
use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Stage};
use rig::Rig;

fn drop_of(matches: Match) -> Entry {
    Entry::new(Stage::Antispoof, 7, matches, vec![], Next::Drop, Cause::Rule(9))
}

fn identity() -> Entry {
    drop_of(Match::any().with(Field::TunIdentity, 7u8))
}

/// A connected switch that was told of these options before.
async fn told(options: &str) -> Option<Rig> {
    let mut rig = Rig::bare().await?;
    rig.hypervisor.ofctl("add-tlv-map", &[options]).unwrap();
    rig.attach(1).await;
    rig.connect();
    assert!(matches!(rig.report().await, Report::Connected { .. }));
    Some(rig)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_option_that_is_ours_already_stays() {
    let Some(mut rig) = told("{class=0xffb0,type=1,len=4}->tun_metadata0").await else { return };
    rig.apply(vec![], vec![identity()]).await.unwrap();
    assert_eq!(rig.read().await.0.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn options_of_others_stay_beside_ours() {
    let Some(mut rig) = told("{class=0x1234,type=5,len=8}->tun_metadata3").await else { return };
    rig.apply(vec![], vec![identity()]).await.unwrap();
    let table = rig.hypervisor.ofctl("dump-tlv-map", &[]).unwrap();
    for field in ["tun_metadata0", "tun_metadata3"] {
        assert!(table.contains(field), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_or_an_option_that_is_taken_is_named_and_costs_nothing_else() {
    for (options, named) in [
        ("{class=0x1234,type=5,len=8}->tun_metadata0", "tun_metadata0 stands for the option of class 0x1234, type 0x5"),
        ("{class=0xffb0,type=1,len=4}->tun_metadata5", "tun_metadata5 stands for the option of class 0xffb0, type 0x1"),
        ("{class=0xffb0,type=1,len=8}->tun_metadata0", "type 0x1, 8 bytes"),
    ] {
        let Some(mut rig) = told(options).await else { return };
        let copies = Action::Copy { from: Field::SrcId, to: Field::TunIdentity };
        let sets = Entry::new(Stage::Locate, 7, Match::any(), vec![copies], Next::Drop, Cause::Rule(9));
        for entry in [identity(), sets] {
            let refused = rig.apply(vec![], vec![entry]).await.unwrap_err();
            assert!(refused.contains(named), "{refused}");
        }
        // VXLAN needs no option.
        rig.apply(vec![], vec![drop_of(Match::any().with(Field::TunGbp, 7u8))]).await.unwrap();
    }
}
