//! How many bundled flow-mods a second are written: `cargo run --release --example encode_rate`.

use bulkhead_openflow::wire::message;
use bulkhead_openflow::{Action, FlowCommand, FlowMod, Instruction, Match, Msg, OxmField};
use std::time::Instant;

fn main() {
    let mut flow_mod = FlowMod::new(FlowCommand::Add);
    flow_mod.table = 4;
    flow_mod.instructions = vec![Instruction::ApplyActions(vec![Action::resubmit(5)])];
    flow_mod.matching = Match::default()
        .with(OxmField::EthType, 0x0800)
        .with(OxmField::IpProto, 6)
        .with(OxmField::Reg0, 1)
        .with(OxmField::Reg1, 2)
        .with(OxmField::TcpDst, 443);
    let mut out = Vec::with_capacity(64 << 20);
    let rounds: u32 = 300_000;
    let started = Instant::now();
    for xid in 0..rounds {
        flow_mod.cookie = u64::from(xid);
        message::encode_bundle_add(1, 3, xid, &mut out, |xid, out| message::encode_flow_mod(&flow_mod, xid, out));
    }
    let wrote = started.elapsed();
    let started = Instant::now();
    let mut left = out.as_slice();
    let mut read = 0_u32;
    while let Some(length) = left.get(2..4).map(|bytes| bytes.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)))
    {
        let Some((head, tail)) = left.split_at_checked(length) else { break };
        read += u32::from(Msg::decode(head).is_ok());
        left = tail;
    }
    let took = started.elapsed();
    println!(
        "{{\"bytes_each\": {}, \"encode_per_second\": {:.0}, \"decode_per_second\": {:.0}, \"decoded\": {read}}}",
        out.len() / rounds as usize,
        f64::from(rounds) / wrote.as_secs_f64(),
        f64::from(read) / took.as_secs_f64(),
    );
}
