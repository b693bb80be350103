#![allow(clippy::unwrap_used, clippy::panic)]

use super::{flow, parse_flow};

#[test]
fn a_flow_reads_as_ovs_ofctl_writes_it() {
    let line = "table=4, priority=100,ct_state=+new+trk,ip,reg1=0x5 actions=load:0x2a->NXM_NX_REG2[0..15],resubmit(,5)";
    assert_eq!(flow(&parse_flow(line).unwrap()), line);
}

#[test]
fn a_packet_s_length_goes_into_one_bit() {
    let line = "table=26, priority=10,ip actions=check_pkt_larger(1456)->NXM_NX_REG0[19],dec_ttl,goto_table:27";
    assert_eq!(flow(&parse_flow(line).unwrap()), line);
    assert!(parse_flow("actions=check_pkt_larger(1456)->NXM_NX_REG0[19..20]").is_err());
}

#[test]
fn the_id_of_a_vlan_tag_is_all_twelve_bits_of_it() {
    let line = "table=26, priority=10 actions=push_vlan:0x8100,move:NXM_NX_REG8[0..11]->OXM_OF_VLAN_VID[],pop_vlan";
    assert_eq!(flow(&parse_flow(line).unwrap()), line);
}

#[test]
fn what_ovs_ofctl_takes_is_parsed_and_printed_alike() {
    for line in include_str!("../../tests/vectors/flows.txt").lines() {
        if line.contains("vlan_tci") {
            assert!(parse_flow(line).is_err(), "vlan_tci is not a field of OpenFlow 1.3");
            continue;
        }
        let parsed = parse_flow(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        let printed = flow(&parsed);
        assert_eq!(parse_flow(&printed).unwrap(), parsed, "{printed}");
    }
}

#[test]
fn nonsense_is_refused() {
    for line in [
        "",
        "table=4",
        "table=256 actions=drop",
        "frobnicate=1 actions=drop",
        "ip,nw_src=10.0.0.0/33 actions=drop",
        "dl_src=02:00:00:00:00:01:05 actions=drop",
        "ct_state=+nonsense actions=drop",
        "in_port=1/3 actions=drop",
        "actions=frobnicate",
        "actions=ct(exec(ct(exec(ct(exec(ct(exec(ct_clear))))))))",
        "actions=load:1->NXM_NX_REG0[5..2]",
        "actions=load:1->NXM_NX_REG0[0..32]",
        "actions=load:1->NXM_NX_CT_LABEL[]",
        "actions=conjunction(1,0/2)",
        "actions=move:NXM_NX_REG0[0..3]->NXM_NX_REG1[]",
    ] {
        assert!(parse_flow(line).is_err(), "{line:?} was taken");
    }
}
