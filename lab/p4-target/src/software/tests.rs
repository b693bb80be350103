//! A device that forwards: what it takes, what it counts, and that packets see all of a batch or nothing of it.

use super::*;
use crate::device::Device;
use bulkhead_driver_p4::{BMV2, P4INFO, lower};
use bulkhead_p4runtime::{
    info::parse_text,
    proto::p4::v1::{
        self as p4, Entity, ForwardingPipelineConfig, TableEntry, entity::Entity as Kind,
        set_forwarding_pipeline_config_request::Action as Set, update::Type, write_request::Atomicity,
    },
};
use bulkhead_pipeline::{Action, Cause, Entry, Field, Match, Next, Output, Packet, Stage, vlan};
use bulkhead_topology::Port;
use prost::Message as _;
use tonic::{Code, Status};

mod told;

const TINY: &str = include_str!("../../../../southbound/p4runtime/tests/tiny.p4info.txtpb");

fn config(p4info: &str) -> ForwardingPipelineConfig {
    let p4info = Some(parse_text(p4info).unwrap());
    ForwardingPipelineConfig { p4info, p4_device_config: BMV2.to_vec(), ..Default::default() }
}

fn device() -> (Device, Software) {
    let software = Software::default();
    let mut device = Device::new(Box::new(software.clone()));
    device.set_program(Set::VerifyAndCommit, Some(config(P4INFO))).unwrap();
    (device, software)
}

const OWN: Cause = Cause::Rule(7);

/// What comes in at a port is of a network.
fn door(port: u32, network: u16) -> Entry {
    let matches = Match::any().port(Port::Number(port));
    let set = |field, value: u16| Action::set(field, value.into());
    let actions = vec![set(Field::Network, network), set(Field::SrcId, 9), set(Field::SrcLocal, 1)];
    Entry::new(Stage::Classify, 7, matches, actions, Next::Stage(Stage::Antispoof), OWN)
}

fn honest() -> Entry {
    Entry::new(Stage::Antispoof, 7, Match::any(), vec![], Next::Stage(Stage::ArpNd), OWN)
}

/// What is of a network leaves by a port.
fn way(network: u16, port: u32) -> Entry {
    let actions = vec![Action::Output(Output::Port(Port::Number(port)))];
    Entry::new(Stage::ArpNd, 7, Match::any().with(Field::Network, network), actions, Next::Done, OWN)
}

fn update(device: &Device, change: Type, entry: &Entry) -> Update {
    one(change, lower(entry, device.info().unwrap()).unwrap())
}

fn one(change: Type, entry: TableEntry) -> Update {
    Update { r#type: change.into(), entity: Some(Entity { entity: Some(Kind::TableEntry(entry)) }) }
}

fn write(device: &mut Device, updates: Vec<Update>) -> Result<(), Status> {
    device.write(updates, Atomicity::DataplaneAtomic)
}

fn insert(device: &mut Device, entries: &[Entry]) {
    let updates = entries.iter().map(|entry| update(device, Type::Insert, entry)).collect();
    write(device, updates).unwrap();
}

/// Packets and bytes that an entry counted.
fn counted(device: &Device, entry: &Entry) -> (i64, i64) {
    let mut pattern = lower(entry, device.info().unwrap()).unwrap();
    pattern.counter_data = Some(CounterData::default());
    let (read, result) = device.read(&[Entity { entity: Some(Kind::TableEntry(pattern)) }]);
    result.unwrap();
    let Some(Kind::TableEntry(TableEntry { counter_data: Some(count), .. })) = &read[0].entity else { panic!() };
    (count.packet_count, count.byte_count)
}

/// A frame of 64 bytes that no stage reads into.
fn frame() -> Vec<u8> {
    [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5][..], &[7; 50]].concat()
}

#[test]
fn it_is_bulkheads_program_or_none() {
    let software = Software::default();
    let mut device = Device::new(Box::new(software.clone()));
    assert_eq!(software.pass(1, &frame()), None);
    let refused = device.set_program(Set::VerifyAndCommit, Some(config(TINY))).unwrap_err();
    assert!(refused.message().contains("Bulkhead's program alone"), "{refused}");
    let other = P4INFO.replacen("\"ingress.deliver\"", "\"ingress.other\"", 1);
    let refused = device.set_program(Set::VerifyAndCommit, Some(config(&other))).unwrap_err();
    assert!(refused.message().contains("it has no table ingress.deliver"), "{refused}");
    // Tables may have other sizes.
    let small = P4INFO.replace("size: 8192", "size: 2");
    assert_ne!(small, P4INFO);
    device.set_program(Set::VerifyAndCommit, Some(config(&small))).unwrap();
}

#[test]
fn entries_count_what_they_meet_from_when_they_come() {
    let (mut device, software) = device();
    insert(&mut device, &[door(1, 1), honest(), way(1, 2), way(2, 3)]);
    for _ in 0..3 {
        assert_eq!(software.pass(1, &frame()), Some((2, frame())));
    }
    // Nobody is let in here.
    assert_eq!(software.pass(2, &frame()), None);
    assert_eq!([door(1, 1), way(1, 2), way(2, 3)].map(|entry| counted(&device, &entry)), [(3, 192), (3, 192), (0, 0)]);
    // What is changed goes on counting; what comes again begins anew, in one batch too.
    let changed = update(&device, Type::Modify, &way(1, 4));
    write(&mut device, vec![changed]).unwrap();
    assert_eq!(software.pass(1, &frame()), Some((4, frame())));
    assert_eq!(counted(&device, &way(1, 4)), (4, 256));
    let anew = [Type::Delete, Type::Insert].map(|change| update(&device, change, &door(1, 1)));
    write(&mut device, anew.into()).unwrap();
    assert_eq!(counted(&device, &door(1, 1)), (0, 0));
    let _ = software.pass(1, &frame());
    assert_eq!([counted(&device, &door(1, 1)), counted(&device, &way(1, 4))], [(1, 64), (5, 320)]);
    // With another program nothing is left.
    device.set_program(Set::VerifyAndCommit, Some(config(P4INFO))).unwrap();
    assert_eq!(software.pass(1, &frame()), None);
}

#[test]
fn what_it_cannot_do_is_refused_and_nothing_of_its_batch_done() {
    let (mut device, software) = device();
    insert(&mut device, &[honest(), way(1, 2)]);
    let own = lower(&door(1, 1), device.info().unwrap()).unwrap();
    // Half of a port's number is no port's.
    let mut half = own.clone();
    let Some(p4::field_match::FieldMatchType::Ternary(ternary)) = &mut half.r#match[0].field_match_type else {
        panic!()
    };
    (ternary.value, ternary.mask) = (vec![1], vec![0xff]);
    let refused = write(&mut device, vec![one(Type::Insert, own.clone()), one(Type::Insert, half)]).unwrap_err();
    let details = bulkhead_p4runtime::proto::google::rpc::Status::decode(refused.details()).unwrap().details;
    let codes = details.iter().map(|detail| p4::Error::decode(detail.value.as_slice()).unwrap().canonical_code);
    assert_eq!(codes.collect::<Vec<_>>(), [Code::Aborted as i32, Code::Unimplemented as i32]);
    assert_eq!(software.pass(1, &frame()), None);
    // Whoever wrote it: an entry is one.
    write(&mut device, vec![one(Type::Insert, TableEntry { metadata: vec![1, 2], ..own })]).unwrap();
    assert_eq!(software.pass(1, &frame()), Some((2, frame())));
}

/// Each of these batches leads packets another way through the tables to the same port. Between its parts there is none.
#[test]
fn packets_see_a_batch_as_a_whole() {
    let (mut device, software) = device();
    insert(&mut device, &[door(1, 1), honest(), way(1, 2)]);
    // Enough to do in between that packets would come upon it.
    let others: Vec<Entry> = (10..60).map(|network| way(network, 3)).collect();
    insert(&mut device, &others);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let passing = scope.spawn(|| {
            let (mut passed, mut lost) = (0, 0);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                match software.pass(1, &frame()) {
                    Some((2, _)) => passed += 1,
                    _ => lost += 1,
                }
            }
            (passed, lost)
        });
        for round in 0..100 {
            let (old, new) = (1 + round % 2, 1 + (round + 1) % 2);
            let ends = [(Type::Delete, way(old, 2)), (Type::Modify, door(1, new)), (Type::Insert, way(new, 2))];
            let [first, ends @ ..] = ends;
            let between = others.iter().cloned().map(|entry| (Type::Modify, entry));
            let batch = [first].into_iter().chain(between).chain(ends);
            let batch = batch.map(|(change, entry)| update(&device, change, &entry)).collect();
            write(&mut device, batch).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        let (passed, lost) = passing.join().unwrap();
        assert!(passed > 0 && lost == 0, "{passed} passed, {lost} lost");
    });
}

/// A frame as it is after some of its packet's fields were set.
fn changed(frame: &[u8], fields: &[(Field, u128)]) -> Vec<u8> {
    let before = Packet::parse(Port::Number(1), frame).unwrap();
    let mut after = before.clone();
    fields.iter().for_each(|(field, value)| after.set(*field, *value));
    frame::rewritten(frame, &before, &after)
}

#[test]
fn tags_come_and_go_and_keep_their_priority() {
    let id = |id: u128| [(Field::Vlan, vlan::PRESENT | id)];
    let plain = frame();
    let tagged = [&plain[..12], &[0x81, 0, 0, 9], &plain[12..]].concat();
    assert_eq!(changed(&plain, &id(9)), tagged);
    assert_eq!(changed(&tagged, &[(Field::Vlan, 0)]), plain);
    let urgent = [&plain[..12], &[0x88, 0xa8, 0xe0, 9], &plain[12..]].concat();
    let moved = [&plain[..12], &[0x88, 0xa8, 0xe0, 0x11], &plain[12..]].concat();
    assert_eq!(changed(&urgent, &id(0x11)), moved);
}

/// RFC 1071.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 =
        bytes.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

#[test]
fn checksums_go_with_what_changes() {
    let mut ip = vec![0x45, 0, 0, 31, 0, 1, 0, 0, 64, 1, 0, 0, 10, 0, 0, 1, 10, 0, 0, 254];
    let header = !sum(&ip);
    ip[10..12].copy_from_slice(&header.to_be_bytes());
    let mut echo = vec![8, 0, 0, 0, 0, 1, 0, 2, 9, 9, 9];
    let message = !sum(&echo);
    echo[2..4].copy_from_slice(&message.to_be_bytes());
    let ping = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip, &echo].concat();
    let answer = [
        (Field::Ipv4Src, 0x0a00_00fe),
        (Field::Ipv4Dst, 0x0a00_0001),
        (Field::IpTtl, 255),
        (Field::IcmpType, 0),
        (Field::EthSrc, 5),
    ];
    let pong = changed(&ping, &answer);
    assert_eq!((sum(&pong[14..34]), sum(&pong[34..])), (0xffff, 0xffff), "{pong:02x?}");
    assert_eq!((&pong[6..12], pong[22], pong[34]), (&[0, 0, 0, 0, 0, 5][..], 255, 0));
    // What was wrong stays wrong, by as much.
    let mut wrong = ping.clone();
    wrong[37] ^= 1;
    assert_eq!(sum(&changed(&wrong, &answer)[34..]), sum(&wrong[34..]));
}

/// A neighbour's solicitation behind another header becomes the advertisement that answers it (RFC 4861 §4.4).
#[test]
fn a_neighbours_address_is_put_where_the_asker_had_his() {
    let address = |last: u8| [&[0xfd][..], &[0; 14], &[last]].concat();
    let solicitation =
        [&[135, 0, 0, 0, 0, 0, 0, 0][..], &address(2), &[14, 1, 1, 2, 3, 4, 5, 6], &[1, 1, 2, 0, 0, 0, 0, 1]].concat();
    let options = [58, 0, 1, 4, 0, 0, 0, 0];
    let length = (solicitation.len() + 8) as u8;
    let mut frame =
        [&[0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 1, 0x86, 0xdd][..], &[0x60, 0, 0, 0, 0, length, 60, 255]].concat();
    frame.extend([&address(1)[..], &address(2), &options, &solicitation].concat());
    let pseudo =
        |frame: &[u8]| [&frame[22..54], &[0, 0, 0, solicitation.len() as u8, 0, 0, 0, 58], &frame[62..]].concat();
    let message = !sum(&pseudo(&frame));
    frame[64..66].copy_from_slice(&message.to_be_bytes());
    let to = |last: u128| 0xfd << 120 | last;
    let advertisement = changed(
        &frame,
        &[
            (Field::Ipv6Src, to(2)),
            (Field::Ipv6Dst, to(1)),
            (Field::IcmpType, 136),
            (Field::NdReserved, 0x6000_0000),
            (Field::NdOption, 2),
            (Field::NdTll, 0x0200_0000_0002),
        ],
    );
    assert_eq!(sum(&pseudo(&advertisement)), 0xffff);
    assert_eq!(advertisement[62..64], [136, 0]);
    assert_eq!(advertisement[94..], [&[2, 1, 2, 0, 0, 0, 0, 2][..]].concat());
    assert_eq!(advertisement[86..94], frame[86..94], "another option stays");
}
