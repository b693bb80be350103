use super::*;
use bulkhead_openflow::wire::oxm::{Match, Oxm};
use bulkhead_pipeline::Cause;

fn packet(metadata: &[(OxmField, u128)], data: Vec<u8>) -> PacketIn2 {
    let metadata = Match::new(metadata.iter().map(|(field, value)| Oxm::exact(*field, *value)).collect());
    PacketIn2 { packet: data, reason: Some(reason::ACTION), metadata, ..PacketIn2::default() }
}

#[test]
fn a19_a_flood_of_logged_packets_is_cut_off_and_counted() {
    let mut errands = Errands::new();
    let cookie = Cookie { cause: Cause::Rule(7), flags: Cookie::DROPPED };
    let mut data = vec![0; 12];
    // The beginning of 1,000 bytes.
    data.extend([8, 0, 0x45, 0, 0x03, 0xda, 0, 0, 0, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    data.extend([0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2]);
    let packet = PacketIn2 { full_len: Some(1_000), ..packet(&[(OxmField::InPort, 3)], data) };
    let ports = PortMap::default();
    let mut reported =
        |count: u32, now| (0..count).filter_map(|_| errands.logged(&ports, cookie, &packet, now)).collect::<Vec<_>>();
    let first = reported(1_000, Duration::from_secs(1));
    assert_eq!(first.len(), LOGS_PER_SECOND as usize);
    let Report::Logged(logged) = &first[0] else { panic!("{first:?}") };
    assert_eq!((logged.cause, logged.dropped, logged.missed), (Cause::Rule(7), true, 0));
    assert_eq!((logged.packet.value(Field::Ipv4Dst), logged.packet.value(Field::L4Dst)), (0x0a00_0002, 80));
    assert_eq!(logged.packet.in_port, Port::Number(3));
    // What was left out is told with the next one, and once.
    let next = reported(2, Duration::from_secs(2));
    let missed = |report: &Report| if let Report::Logged(logged) = report { logged.missed } else { u64::MAX };
    assert_eq!(next.iter().map(missed).collect::<Vec<_>>(), [900, 0]);
}

#[test]
fn an_answer_goes_back_by_the_tunnel_as_from_whom_the_packet_was_for() {
    let came = |more: &[(OxmField, u128)]| {
        let all = [
            (OxmField::TunIpv4Src, 0xc000_0201),
            (OxmField::TunIpv4Dst, 0xc000_0202),
            (OxmField::TunnelId, 5001),
            (OxmField::TunMetadata0, 99),
            (OxmField::Reg1, 7),
            (OxmField::Reg2, 8),
        ];
        packet(&[&all[..], more].concat(), Vec::new())
    };
    let set = |field, value| OfAction::SetField { field, value };
    let way = [set(OxmField::TunIpv4Dst, 0xc000_0201), set(OxmField::TunnelId, 5001)];
    let with = |more: OfAction| [&way[..], &[more]].concat();
    let first = came(&[]);
    assert_eq!(back(&first, Some(Tunnel::Geneve)), with(set(OxmField::TunMetadata0, 8)));
    // A reply: source and destination of the connection are exchanged.
    let reply = came(&[(OxmField::CtState, conn::TRK | conn::EST | conn::RPL)]);
    assert_eq!(back(&reply, Some(Tunnel::Geneve)), with(set(OxmField::TunMetadata0, 7)));
    // With VXLAN an identity goes along where one came along.
    assert_eq!(back(&first, Some(Tunnel::Vxlan)), way);
    let group = came(&[(OxmField::TunGbpId, 7)]);
    assert_eq!(back(&group, Some(Tunnel::Vxlan)), with(set(OxmField::TunGbpId, 8)));
    // By IPv6.
    let six = packet(&[(OxmField::TunIpv6Src, 5), (OxmField::TunnelId, 6)], Vec::new());
    assert_eq!(back(&six, Some(Tunnel::Vxlan)), [set(OxmField::TunIpv6Dst, 5), set(OxmField::TunnelId, 6)]);
    // By no tunnel: by a port, and by a port with a packet on its way to a tunnel.
    assert_eq!(back(&first, None), []);
    assert_eq!(back(&packet(&[(OxmField::TunIpv4Dst, 5)], Vec::new()), Some(Tunnel::Geneve)), []);
}

#[test]
fn a_probe_is_known_by_what_it_says() {
    let mut errands = Errands::new();
    let came = |frame: Vec<u8>| packet(&[(OxmField::TunIpv4Src, 0xc000_0201)], frame);
    let (token, from) = (0x0123_4567_89ab_cdef, "192.0.2.1".parse().unwrap());
    let good = came(probe::frame(token));
    assert_eq!(errands.probed(&good, Duration::ZERO), Some(Report::Probed { token, from }));
    for at in 12..22 {
        let mut frame = probe::frame(token);
        frame[at] ^= 1;
        assert_eq!(errands.probed(&came(frame), Duration::ZERO), None, "byte {at}");
    }
    for length in 0..30 {
        assert_eq!(errands.probed(&came(probe::frame(token)[..length].to_vec()), Duration::ZERO), None);
    }
    assert_eq!(errands.probed(&packet(&[], probe::frame(token)), Duration::ZERO), None, "by no tunnel");
}

#[test]
fn a19_a_flood_of_probes_is_reported_at_a_rate() {
    let mut errands = Errands::new();
    let forged = packet(&[(OxmField::TunIpv4Src, 0xc000_0201)], probe::frame(7));
    let reported = |now, errands: &mut Errands| (0..10_000).filter_map(|_| errands.probed(&forged, now)).count();
    assert_eq!(reported(Duration::from_secs(1), &mut errands), PROBES_PER_SECOND as usize);
    assert_eq!(reported(Duration::from_millis(1100), &mut errands), PROBES_PER_SECOND as usize / 10);
}

#[test]
fn a19_a_flood_of_frames_that_may_tell_of_links_is_reported_at_a_rate() {
    let mut errands = Errands::new();
    let mut ports = PortMap::default();
    ports.insert(3, "up1");
    let came = packet(&[(OxmField::InPort, 3)], vec![7; 300]);
    let reported = |now, errands: &mut Errands| {
        (0..10_000).filter_map(|_| discovered(&mut errands.discoveries, &ports, &came, now)).collect::<Vec<_>>()
    };
    let first = reported(Duration::from_secs(1), &mut errands);
    assert_eq!(first.len(), DISCOVERIES_PER_SECOND as usize);
    assert_eq!(first[0], Report::Discovered { port: Port::Name("up1".into()), frame: vec![7; 256] });
    assert_eq!(reported(Duration::from_millis(1100), &mut errands).len(), DISCOVERIES_PER_SECOND as usize / 10);
    // What is known to be a link has room of its own.
    assert!(discovered(&mut errands.links, &ports, &came, Duration::from_millis(1100)).is_some());
    // A port without a name of its own is known by its number.
    let other = packet(&[(OxmField::InPort, 4)], vec![7; 60]);
    let told = discovered(&mut errands.discoveries, &ports, &other, Duration::from_secs(5));
    assert_eq!(told, Some(Report::Discovered { port: Port::Number(4), frame: vec![7; 60] }));
    assert_eq!(discovered(&mut errands.discoveries, &ports, &packet(&[], vec![7; 60]), Duration::from_secs(5)), None);
}
