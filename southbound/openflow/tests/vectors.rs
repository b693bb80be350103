//! Our codec against bytes that Open vSwitch made.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use bulkhead_openflow::{Action, Instruction, Msg, MultipartBody};

fn messages(text: &str) -> Vec<Vec<u8>> {
    text.lines()
        .filter(|line| !line.starts_with('#') && !line.is_empty())
        .map(|line| (0..line.len()).step_by(2).map(|at| u8::from_str_radix(&line[at..at + 2], 16).unwrap()).collect())
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn no_unknown_actions(msg: &Msg, line: &str) {
    let lists: Vec<&Vec<Instruction>> = match msg {
        Msg::FlowMod(flow_mod) => vec![&flow_mod.instructions],
        Msg::BundleAdd { message, .. } => return no_unknown_actions(message, line),
        Msg::MultipartReply(reply) => match &reply.body {
            MultipartBody::Flow(flows) => flows.iter().map(|flow| &flow.instructions).collect(),
            _ => vec![],
        },
        _ => vec![],
    };
    for instruction in lists.into_iter().flatten() {
        if let Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) = instruction {
            for action in actions {
                assert!(!matches!(action, Action::Unknown { .. }), "{action:?} in {line}");
            }
        }
    }
}

fn decode_and_encode_again(text: &str) {
    let all = messages(text);
    assert!(all.len() > 20, "only {} vectors", all.len());
    for bytes in all {
        let (header, msg) = Msg::decode(&bytes).unwrap_or_else(|error| panic!("{error} in {}", hex(&bytes)));
        let mut again = Vec::new();
        msg.encode(header.xid, &mut again);
        if header.version == 4 {
            assert_eq!(hex(&again), hex(&bytes), "{msg:?}");
        }
        assert!(!matches!(msg, Msg::Other { .. }), "{msg:?}");
        no_unknown_actions(&msg, &hex(&bytes));
    }
}

#[test]
fn what_ovs_ofctl_sends_is_read_and_written_alike() {
    decode_and_encode_again(include_str!("vectors/ofctl.hex"));
}

#[test]
fn what_ovs_vswitchd_sends_is_read_and_written_alike() {
    decode_and_encode_again(include_str!("vectors/vswitchd.hex"));
}
