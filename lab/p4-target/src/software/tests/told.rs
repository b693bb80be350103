//! What goes to the controller and comes from it.

use super::*;
use bulkhead_dataplane::reject::Why;
use bulkhead_driver_p4::{
    controller::{self, Refused, Told as Said, Way},
    underlay::{self, Row},
};
use bulkhead_p4runtime::proto::p4::v1::{MeterEntry, PacketIn};
use bulkhead_pipeline::{
    overlay::Tunnel,
    wire::{Header, Received, Vtep, receive},
};
use bulkhead_topology::{Mac, underlay::Hop};
use std::time::Instant;

fn attached() -> (Device, Software, mpsc::Receiver<Told>, Sent) {
    let (software, told, sent) = Software::new();
    let mut device = Device::new(Box::new(software.clone()));
    device.set_program(Set::VerifyAndCommit, Some(config(P4INFO))).unwrap();
    (device, software, told, sent)
}

/// What is of a network has no way on.
fn end(network: u16) -> Entry {
    let actions = vec![Action::Expired { from: [10, 0, 0, 254].into() }];
    Entry::new(Stage::ArpNd, 8, Match::any().with(Field::Network, network), actions, Next::Drop, OWN)
}

fn limit(device: &mut Device, rate: Option<u32>) -> Result<(), Status> {
    let info = device.info().unwrap();
    let meter = controller::rate(controller::TOLD, rate.unwrap_or(0), info).unwrap();
    let meter = MeterEntry { config: meter.config.filter(|_| rate.is_some()), ..meter };
    let entity = Some(Entity { entity: Some(Kind::MeterEntry(meter)) });
    write(device, vec![Update { r#type: Type::Modify.into(), entity }])
}

fn all(told: &mut mpsc::Receiver<Told>) -> Vec<PacketIn> {
    let packets = std::iter::from_fn(|| told.try_recv().ok());
    packets.map(|told| if let Told::Packet(packet) = told { packet } else { panic!("{told:?}") }).collect()
}

#[test]
fn the_controller_alone_gets_what_is_to_be_told() {
    let (mut device, software, mut told, _) = attached();
    insert(&mut device, &[door(1, 1), honest(), end(1)]);
    let long = [&frame()[..], &[7; 1000]].concat();
    assert_eq!(software.pass(1, &long), None);
    let wanted = Refused { why: Why::Expired([10, 0, 0, 254].into()), came: Way::Port(1), vlan: 0, asker: 9, asked: 0 };
    let [packet] = &all(&mut told)[..] else { panic!() };
    let wanted = Said { came: wanted.came, refused: Some(wanted), lines: vec![] };
    assert_eq!(Said::of(&packet.metadata, device.info().unwrap()), Some(wanted));
    assert_eq!(packet.payload, long[..256]);
    assert_eq!(counted(&device, &end(1)), (1, long.len() as i64));
}

#[test]
fn a19_of_a_flood_the_controller_gets_what_it_asked_for_and_no_queue_grows() {
    let began = Instant::now();
    let (mut device, software, mut told, mut sent) = attached();
    insert(&mut device, &[door(1, 1), honest(), end(1)]);
    limit(&mut device, Some(10)).unwrap();
    let mut heard = 0;
    for _ in 0..5_000 {
        assert_eq!(software.pass(1, &frame()), None);
        heard += all(&mut told).len() as u128;
    }
    let most = 10 + 10 * began.elapsed().as_millis() / 1000;
    assert!((10..=most).contains(&heard), "{heard} of at most {most}");
    // A meter says what it was set to; and nothing of what was not set.
    let meter = controller::rate(controller::TOLD, 10, device.info().unwrap()).unwrap();
    let pattern = MeterEntry { config: None, ..meter };
    let read = |device: &Device| device.read(&[Entity { entity: Some(Kind::MeterEntry(pattern)) }]).0;
    assert_eq!(read(&device), [Entity { entity: Some(Kind::MeterEntry(meter)) }]);
    limit(&mut device, None).unwrap();
    assert_eq!(read(&device), [Entity { entity: Some(Kind::MeterEntry(pattern)) }]);
    // Without one, what nobody takes waits up to a number.
    (0..5_000).for_each(|_| assert_eq!(software.pass(1, &frame()), None));
    assert_eq!(all(&mut told).len(), QUEUE);
    let metadata = Way::Port(7).metadata(device.info().unwrap()).unwrap();
    for _ in 0..5_000 {
        device.packet_out(PacketOut { payload: frame(), metadata: metadata.clone() }).unwrap();
    }
    assert_eq!(std::iter::from_fn(|| sent.try_recv().ok()).count(), QUEUE);
}

#[test]
fn what_the_controller_sends_leaves_as_it_says_or_not_at_all() {
    let (mut device, _, _, mut sent) = attached();
    let [near, far] = [1, 2].map(|last| Vtep { mac: Mac([2, 0, 0, 1, 0, last]), ip: [192, 0, 2, last].into() });
    let via = vec![Hop { port: 3, mac: far.mac }];
    let route = Row::Route { to: (underlay::address(far.ip), 128), via, mac: near.mac, vtep: near.ip };
    let route = underlay::lower(&route, device.info().unwrap()).unwrap();
    write(&mut device, vec![one(Type::Insert, route)]).unwrap();
    let mut send = |way: Way| {
        let metadata = way.metadata(device.info().unwrap()).unwrap();
        let taken = device.packet_out(PacketOut { payload: frame(), metadata });
        (taken.is_ok(), sent.try_recv().ok())
    };
    assert_eq!(send(Way::Port(7)), (true, Some((7, frame()))));
    for tunnel in Tunnel::ALL {
        let header = Header { tunnel, far: far.ip, vni: 5001, identity: 7 };
        let (true, Some((3, outer))) = send(Way::Tunnel(header)) else { panic!() };
        let came = Header { far: near.ip, ..header };
        assert_eq!(receive(far, &outer), Received::Tunnelled(came, &frame()));
        // Nothing leads there.
        assert_eq!(send(Way::Tunnel(Header { far: [192, 0, 2, 3].into(), ..header })), (true, None));
    }
    // No wire's.
    assert_eq!(send(Way::Port(0)), (true, None));
    assert_eq!(send(Way::Port(controller::PORT)), (true, None));
    // More than a port's number has bits for, and nothing said at all.
    assert_eq!(send(Way::Port(0x1_0000)), (false, None));
    assert!(device.packet_out(PacketOut { payload: frame(), metadata: Vec::new() }).is_err());
}
