// Bulkhead's pipeline for switches that P4 programs.
//
// One table for each stage (docs/pipeline.md): the tables, with their keys and actions, are in tables.p4, which is written
// from driver-p4's layout. Here is what is around them: headers, what is read from a packet, where connections would be
// looked up, and how a packet leaves. docs/p4.md says what each stage costs and what is different from other switches.
//
// A packet goes from table to table by meta.next, which every action sets to a stage's number, to DONE or to DROP; what no
// entry matches is dropped. The switch remembers no connections (ADR 15): a packet that may be an answer and that policy
// refused, or passed on to another switch, is submitted once more, and is then judged as an answer.
//
// The architecture is v1model. On the way through policy nothing is used that hardware has not: ternary tables with
// counters, sizes that are parameters (sizes.p4), one resubmission. Checksums of answers to ARP, ND and pings need the
// packet's payload, which few targets look at: where they do not, leave those answers to the controller.

#include <core.p4>
#include <v1model.p4>

#include "sizes.p4"

typedef bit<48> mac_t;
typedef bit<128> address_t;

const bit<8> DONE = 0xfe;
const bit<8> DROP = 0xff;

const bit<16> ETHERTYPE_IPV4 = 0x0800;
const bit<16> ETHERTYPE_ARP = 0x0806;
const bit<16> ETHERTYPE_VLAN = 0x8100;
const bit<16> ETHERTYPE_SERVICE_VLAN = 0x88a8;
const bit<16> ETHERTYPE_IPV6 = 0x86dd;
// Below it is a length (IEEE 802.3).
const bit<16> ETHERTYPE_LEAST = 0x0600;
// Stands for the ethertype of frames that have none.
const bit<16> ETHERTYPE_NONE = 0x05ff;

const bit<8> PROTOCOL_ICMP = 1;
const bit<8> PROTOCOL_TCP = 6;
const bit<8> PROTOCOL_UDP = 17;
const bit<8> PROTOCOL_ICMPV6 = 58;
const bit<8> PROTOCOL_SCTP = 132;
const bit<8> PROTOCOL_FRAGMENT = 44;

// In front of an IPv4 address where IPv6's may be too (RFC 4291 section 2.5.5.2).
const address_t MAPPED = 0xffff00000000;
// The identity of every address that no workload has.
const bit<32> EXTERNAL = 1;

// The largest number of a wire's port.
const bit<16> PORT_MOST = 509;

// States of a packet's connection.
const bit<6> CONN_NEW = 33;
const bit<6> CONN_REPLY = 40;
const bit<6> CONN_EITHER = 41;
const bit<6> CONN_INVALID = 48;
// The bit that answers have.
const bit<6> CONN_IS_REPLY = 8;

// What the switch that a packet comes from says of it (ADR 17), where that is not that it is an answer.
const bit<2> PEER_QUESTION = 0;
const bit<2> PEER_EITHER = 3;

header ethernet_t {
    mac_t dst;
    mac_t src;
    bit<16> ether_type;
}

header vlan_t {
    bit<3> pcp;
    bit<1> dei;
    bit<12> vid;
    bit<16> ether_type;
}

header arp_t {
    bit<16> hardware;
    bit<16> protocol;
    bit<8> hardware_length;
    bit<8> protocol_length;
    bit<16> op;
    mac_t sha;
    bit<32> spa;
    mac_t tha;
    bit<32> tpa;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> tos;
    bit<16> total_length;
    bit<16> identification;
    bit<3> flags;
    bit<13> offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

header ipv4_options_t {
    varbit<320> options;
}

header ipv6_t {
    bit<4> version;
    bit<8> traffic_class;
    bit<20> flow_label;
    bit<16> payload_length;
    bit<8> next_header;
    bit<8> hop_limit;
    address_t src;
    address_t dst;
}

header fragment_t {
    bit<8> next_header;
    bit<8> reserved;
    bit<13> offset;
    bit<3> flags;
    bit<32> identification;
}

header tcp_t {
    bit<16> src;
    bit<16> dst;
    bit<32> sequence;
    bit<32> acknowledgement;
    bit<4> data_offset;
    bit<4> reserved;
    bit<1> cwr;
    bit<1> ece;
    bit<1> urg;
    bit<1> ack;
    bit<1> psh;
    bit<1> rst;
    bit<1> syn;
    bit<1> fin;
    bit<16> window;
    bit<16> checksum;
    bit<16> urgent;
}

header udp_t {
    bit<16> src;
    bit<16> dst;
    bit<16> length;
    bit<16> checksum;
}

header sctp_t {
    bit<16> src;
    bit<16> dst;
    bit<32> tag;
    bit<32> checksum;
}

header chunk_t {
    bit<8> kind;
    bit<8> flags;
    bit<16> length;
}

header icmp_t {
    bit<8> kind;
    bit<8> code;
    bit<16> checksum;
}

// A neighbour solicitation or advertisement behind its ICMPv6 header (RFC 4861 section 4.3).
header nd_t {
    bit<32> reserved;
    address_t target;
}

// Its first option.
header nd_lla_t {
    bit<8> kind;
    bit<8> length;
    mac_t address;
}

#include "tunnel_headers.p4"
#include "controller_headers.p4"

struct headers_t {
    packet_in_t packet_in;
    packet_out_t packet_out;
    ethernet_t outer_ethernet;
    ipv4_t outer_ipv4;
    ipv6_t outer_ipv6;
    udp_t outer_udp;
    vxlan_t vxlan;
    geneve_t geneve;
    geneve_option_t geneve_option;
    ethernet_t ethernet;
    vlan_t vlan;
    arp_t arp;
    ipv4_t ipv4;
    ipv4_options_t ipv4_options;
    ipv6_t ipv6;
    fragment_t fragment;
    tcp_t tcp;
    udp_t udp;
    sctp_t sctp;
    chunk_t chunk;
    icmp_t icmp;
    nd_t nd;
    nd_lla_t nd_lla;
}

// What a packet has on its way: the pipeline's fields (controller/pipeline/src/field.rs) by their names, those of packets
// that share a place as driver-p4's layout has it, and the program's own.
struct meta_t {
    // Kept when it is submitted once more: not every target keeps its own.
    @field_list(1, 2)
    bit<16> in_port;
    // It is a tunnel's, and was looked at once: now what is in front is taken off, and what is inside is read.
    @field_list(1)
    bit<1> decap;
    // What is in front contradicts itself, or says more than is understood.
    bit<1> malformed;
    // Bytes of the frame, without its tag and without what was in front of it.
    bit<32> length;
    // The switch itself in the underlay, the next one, and what of a flow says which one that is.
    mac_t own_mac;
    address_t own_address;
    mac_t hop_mac;
    bit<16> flow;
    bit<16> network;
    bit<32> src_id;
    bit<32> dst_id;
    bit<32> src_class;
    bit<32> dst_class;
    bit<24> service;
    bit<1> src_local;
    bit<1> dst_local;
    bit<12> in_vlan;
    bit<12> out_vlan;
    bit<1> from_tunnel;
    bit<2> out_tunnel;
    bit<1> too_big;
    bit<1> routed;
    bit<1> to_peer;
    bit<2> peer;
    bit<6> conn;
    @field_list(2)
    bit<24> tun_id;
    @field_list(2)
    address_t tun_src;
    address_t tun_dst;
    @field_list(2)
    bit<32> tun_identity;
    bit<16> eth_type;
    bit<13> vlan;
    bit<8> protocol;
    bit<2> ip_frag;
    bit<8> ip_ttl;
    address_t addr_src;
    address_t addr_dst;
    bit<16> l4_src;
    bit<16> l4_dst;
    mac_t hardware;
    bit<8> nd_option;
    // Where it goes next.
    bit<8> next;
    // The port that was chosen, and the one that it leaves by.
    bit<16> chosen;
    bit<16> leave;
    // It goes back to where it came from.
    bit<1> back;
    bit<1> dec_ttl;
    bit<1> check_size;
    bit<16> most;
    // It is to be looked up among connections.
    bit<1> track;
    // It may open a connection; it may answer one; a connection begins with such a packet.
    bit<1> question;
    bit<1> answer;
    bit<1> opens;
    // Rules of policies are about to judge it.
    bit<1> judged;
    // It is judged for the second time, as an answer.
    @field_list(1)
    bit<1> second;
    // It passed as a question.
    @field_list(1)
    bit<1> passed;
    // Its headers contradict each other, or go on in a way that is not read here.
    bit<1> broken;
    // Bytes behind IP's header, as that says.
    bit<16> payload;
    // What its sender is told, if it is dropped.
    bit<8> told;
    address_t teller;
    bit<16> mtu;
    // What he was to be told when it was refused as a question.
    @field_list(1)
    bit<8> told_first;
    // The rules that a line is written about, and those that it was to be about as a question.
    @field_list(2)
    bit<40> log_staged_egress;
    @field_list(2)
    bit<40> log_egress;
    @field_list(2)
    bit<40> log_staged_ingress;
    @field_list(2)
    bit<40> log_ingress;
    @field_list(1)
    bit<40> log_staged_egress_first;
    @field_list(1)
    bit<40> log_egress_first;
    @field_list(1)
    bit<40> log_staged_ingress_first;
    @field_list(1)
    bit<40> log_ingress_first;
}

parser Reading(packet_in packet, out headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    state start {
        transition select(standard.ingress_port, meta.decap) {
            (PORT_CONTROLLER, _): from_controller;
            (_, 1): outer;
            default: ethernet;
        }
    }

    state from_controller {
        packet.extract(hdr.packet_out);
        transition ethernet;
    }

    // All this has been looked at before: no tag, no options, no fragment, UDP, for one of two ports.
    state outer {
        packet.extract(hdr.outer_ethernet);
        transition select(hdr.outer_ethernet.ether_type) {
            ETHERTYPE_IPV4: outer_ipv4;
            default: outer_ipv6;
        }
    }

    state outer_ipv4 {
        packet.extract(hdr.outer_ipv4);
        meta.tun_src = MAPPED | (address_t) hdr.outer_ipv4.src;
        transition outer_udp;
    }

    state outer_ipv6 {
        packet.extract(hdr.outer_ipv6);
        meta.tun_src = hdr.outer_ipv6.src;
        transition outer_udp;
    }

    state outer_udp {
        packet.extract(hdr.outer_udp);
        transition select(hdr.outer_udp.dst) {
            UDP_VXLAN: vxlan;
            default: geneve;
        }
    }

    state vxlan {
        packet.extract(hdr.vxlan);
        transition select(hdr.vxlan.flags) {
            VXLAN_VNI: vxlan_plain;
            VXLAN_GROUP: vxlan_group;
            default: malformed;
        }
    }

    state vxlan_group {
        meta.tun_identity = (bit<32>) hdr.vxlan.group;
        transition vxlan_plain;
    }

    state vxlan_plain {
        meta.tun_id = hdr.vxlan.vni;
        transition ethernet;
    }

    // Of options there is ours, alone, or none.
    state geneve {
        packet.extract(hdr.geneve);
        transition select(hdr.geneve.version, hdr.geneve.option_words, hdr.geneve.control_packet, hdr.geneve.critical,
                hdr.geneve.protocol) {
            (0, 0, 0, 0, GENEVE_ETHERNET): geneve_plain;
            (0, 2, 0, 0, GENEVE_ETHERNET): geneve_option;
            default: malformed;
        }
    }

    state geneve_option {
        packet.extract(hdr.geneve_option);
        transition select(hdr.geneve_option.class, hdr.geneve_option.kind, hdr.geneve_option.words) {
            (OPTION_CLASS, OPTION_KIND, 1): geneve_identity;
            default: malformed;
        }
    }

    state geneve_identity {
        meta.tun_identity = hdr.geneve_option.identity;
        transition geneve_plain;
    }

    state geneve_plain {
        meta.tun_id = hdr.geneve.vni;
        transition ethernet;
    }

    state malformed {
        meta.malformed = 1;
        transition accept;
    }

    state ethernet {
        packet.extract(hdr.ethernet);
        meta.eth_type = hdr.ethernet.ether_type;
        transition select(hdr.ethernet.ether_type) {
            ETHERTYPE_VLAN: tag;
            ETHERTYPE_SERVICE_VLAN: tag;
            default: network;
        }
    }

    // Of several tags the outer one alone is read: what follows is the second one's ethertype.
    state tag {
        packet.extract(hdr.vlan);
        meta.vlan = 1w1 ++ hdr.vlan.vid;
        meta.eth_type = hdr.vlan.ether_type;
        transition network;
    }

    state network {
        transition select(meta.eth_type) {
            ETHERTYPE_ARP: arp;
            ETHERTYPE_IPV4: ipv4;
            ETHERTYPE_IPV6: ipv6;
            default: accept;
        }
    }

    state arp {
        packet.extract(hdr.arp);
        transition select(hdr.arp.hardware, hdr.arp.protocol, hdr.arp.hardware_length, hdr.arp.protocol_length) {
            (1, ETHERTYPE_IPV4, 6, 4): arp_of_ethernet;
            default: accept;
        }
    }

    state arp_of_ethernet {
        meta.addr_src = (address_t) hdr.arp.spa;
        meta.addr_dst = (address_t) hdr.arp.tpa;
        meta.hardware = hdr.arp.sha;
        transition select(hdr.arp.op) {
            0 .. 255: arp_op;
            default: accept;
        }
    }

    // Of operations, 8 bits are told apart.
    state arp_op {
        meta.protocol = hdr.arp.op[7:0];
        transition accept;
    }

    state ipv4 {
        packet.extract(hdr.ipv4);
        meta.addr_src = (address_t) hdr.ipv4.src;
        meta.addr_dst = (address_t) hdr.ipv4.dst;
        meta.protocol = hdr.ipv4.protocol;
        meta.ip_ttl = hdr.ipv4.ttl;
        meta.payload = hdr.ipv4.total_length - ((bit<16>) hdr.ipv4.ihl << 2);
        transition select(hdr.ipv4.ihl) {
            0 .. 4: broken;
            5: ipv4_fragment;
            default: ipv4_options;
        }
    }

    state ipv4_options {
        packet.extract(hdr.ipv4_options, ((bit<32>) hdr.ipv4.ihl - 5) << 5);
        transition ipv4_fragment;
    }

    state ipv4_fragment {
        transition select(hdr.ipv4.flags[0:0], hdr.ipv4.offset) {
            (0, 0): transport;
            (1, 0): first_fragment;
            default: later_fragment;
        }
    }

    state ipv6 {
        packet.extract(hdr.ipv6);
        meta.addr_src = hdr.ipv6.src;
        meta.addr_dst = hdr.ipv6.dst;
        meta.protocol = hdr.ipv6.next_header;
        meta.ip_ttl = hdr.ipv6.hop_limit;
        meta.payload = hdr.ipv6.payload_length;
        transition select(hdr.ipv6.next_header) {
            PROTOCOL_FRAGMENT: ipv6_fragment;
            default: ipv6_extension;
        }
    }

    state ipv6_fragment {
        packet.extract(hdr.fragment);
        meta.payload = meta.payload - 8;
        transition select(hdr.fragment.offset, hdr.fragment.flags) {
            (0, 0): ipv6_whole;
            (0, _): ipv6_first_fragment;
            // What follows is payload: the protocol is the fragment's own.
            default: later_fragment;
        }
    }

    state ipv6_whole {
        meta.protocol = hdr.fragment.next_header;
        transition ipv6_extension;
    }

    state ipv6_first_fragment {
        meta.protocol = hdr.fragment.next_header;
        meta.ip_frag = 1;
        transition ipv6_extension;
    }

    // Other extension headers are not read, and what has one is not judged by what it may hide.
    state ipv6_extension {
        transition select(meta.protocol) {
            0: broken;
            43: broken;
            44: broken;
            51: broken;
            60: broken;
            default: transport;
        }
    }

    state first_fragment {
        meta.ip_frag = 1;
        transition transport;
    }

    state later_fragment {
        meta.ip_frag = 3;
        transition accept;
    }

    state transport {
        transition select(meta.protocol) {
            PROTOCOL_TCP: tcp;
            PROTOCOL_UDP: udp;
            PROTOCOL_SCTP: sctp;
            PROTOCOL_ICMP: icmp;
            PROTOCOL_ICMPV6: icmp;
            default: accept;
        }
    }

    state tcp {
        packet.extract(hdr.tcp);
        meta.l4_src = hdr.tcp.src;
        meta.l4_dst = hdr.tcp.dst;
        transition accept;
    }

    state udp {
        packet.extract(hdr.udp);
        meta.l4_src = hdr.udp.src;
        meta.l4_dst = hdr.udp.dst;
        transition accept;
    }

    state sctp {
        packet.extract(hdr.sctp);
        meta.l4_src = hdr.sctp.src;
        meta.l4_dst = hdr.sctp.dst;
        transition select(meta.payload) {
            0 .. 15: accept;
            default: chunk;
        }
    }

    state chunk {
        packet.extract(hdr.chunk);
        transition accept;
    }

    state icmp {
        packet.extract(hdr.icmp);
        meta.l4_src = (bit<16>) hdr.icmp.kind;
        meta.l4_dst = (bit<16>) hdr.icmp.code;
        transition select(meta.protocol, hdr.icmp.kind, hdr.icmp.code) {
            (PROTOCOL_ICMPV6, 135, 0): neighbour;
            (PROTOCOL_ICMPV6, 136, 0): neighbour;
            default: accept;
        }
    }

    // Its target stands where other packets have their destination: of a message that is cut off, or has more than one
    // option, it is nobody.
    state neighbour {
        meta.addr_dst = 0;
        transition select(meta.payload) {
            24: bare_neighbour;
            32: neighbour_with_option;
            default: accept;
        }
    }

    state bare_neighbour {
        packet.extract(hdr.nd);
        meta.addr_dst = hdr.nd.target;
        transition accept;
    }

    state neighbour_with_option {
        packet.extract(hdr.nd);
        packet.extract(hdr.nd_lla);
        meta.addr_dst = hdr.nd.target;
        transition select(hdr.icmp.kind, hdr.nd_lla.kind, hdr.nd_lla.length) {
            (135, 1, 1): neighbour_address;
            (136, 2, 1): neighbour_address;
            (_, 1, 1): neighbour_option;
            (_, 2, 1): neighbour_option;
            default: accept;
        }
    }

    state neighbour_address {
        meta.hardware = hdr.nd_lla.address;
        transition neighbour_option;
    }

    state neighbour_option {
        meta.nd_option = hdr.nd_lla.kind;
        transition accept;
    }

    state broken {
        meta.broken = 1;
        transition accept;
    }
}

control Verifying(inout headers_t hdr, inout meta_t meta) {
    apply {
        verify_checksum(hdr.outer_ipv4.isValid(),
            { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.tos, hdr.outer_ipv4.total_length,
              hdr.outer_ipv4.identification, hdr.outer_ipv4.flags, hdr.outer_ipv4.offset, hdr.outer_ipv4.ttl,
              hdr.outer_ipv4.protocol, hdr.outer_ipv4.src, hdr.outer_ipv4.dst },
            hdr.outer_ipv4.checksum, HashAlgorithm.csum16);
    }
}

#include "tunnels.p4"
#include "controller.p4"

// What a packet may be to a connection, by what it says of itself, and in which view it is judged. The same as
// `pipeline::Sort` and the tracker of `pipeline::walk_stateless`.
control Tracking(in headers_t hdr, inout meta_t meta) {
    apply {
        meta.question = 1;
        meta.answer = 1;
        meta.opens = 1;
        if (hdr.tcp.isValid()) {
            meta.question = ~(hdr.tcp.syn & hdr.tcp.ack);
            meta.answer = (hdr.tcp.syn & hdr.tcp.ack) | (~hdr.tcp.syn & (hdr.tcp.ack | hdr.tcp.rst));
            meta.opens = ~meta.answer;
        } else if (hdr.chunk.isValid()) {
            if (hdr.chunk.kind != 1) {
                meta.opens = 0;
            }
            if (hdr.chunk.kind == 1) {
                meta.answer = 0;
            } else if (hdr.chunk.kind == 2) {
                meta.question = 0;
            }
        } else if (meta.protocol == PROTOCOL_ICMP) {
            if (meta.l4_src != 8 && meta.l4_src != 13 && meta.l4_src != 15) {
                meta.question = 0;
            }
            if (meta.l4_src != 0 && meta.l4_src != 14 && meta.l4_src != 16) {
                meta.answer = 0;
            }
        } else if (meta.protocol == PROTOCOL_ICMPV6) {
            if (meta.l4_src != 128) {
                meta.question = 0;
            }
            if (meta.l4_src != 129) {
                meta.answer = 0;
            }
        }
        // Who comes from another switch was judged there, and is what that switch says.
        if (meta.from_tunnel == 1 && meta.src_local == 0 && meta.src_id != EXTERNAL) {
            if (meta.peer == PEER_QUESTION) {
                meta.answer = 0;
            } else if (meta.peer != PEER_EITHER) {
                meta.question = 0;
            }
        }
        if (meta.question == 1 && meta.second == 0) {
            meta.conn = CONN_NEW;
        } else if (meta.answer == 0) {
            meta.conn = CONN_INVALID;
        } else if (meta.passed == 1) {
            meta.conn = CONN_EITHER;
        } else {
            meta.conn = CONN_REPLY;
        }
    }
}

control ingress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
#include "tables.p4"
#include "underlay.p4"

    // Of what goes to the controller, each kind has its own rate, which the controller sets.
    @id(0x14000001)
    meter(2, MeterType.packets) to_controller;

    Receiving() receiving;
    Sending() sending;
    Telling() telling;
    Unlogged() unlogged;

    apply {
        if (meta.second == 0 && meta.decap == 0) {
            meta.in_port = (bit<16>) standard.ingress_port;
        }
        meta.length = standard.packet_length;
        if (hdr.outer_ethernet.isValid()) {
            meta.length = meta.length - 50;
            if (hdr.outer_ipv6.isValid()) {
                meta.length = meta.length - 20;
            }
            if (hdr.geneve_option.isValid()) {
                meta.length = meta.length - 8;
            }
        }
        if (hdr.vlan.isValid()) {
            meta.length = meta.length - 4;
        }
        // A header in front that is cut off: so is what is inside.
        if (meta.decap == 1 && (standard.checksum_error == 1 || !hdr.ethernet.isValid())) {
            meta.malformed = 1;
        }
        hdr.outer_ethernet.setInvalid();
        hdr.outer_ipv4.setInvalid();
        hdr.outer_ipv6.setInvalid();
        hdr.outer_udp.setInvalid();
        hdr.vxlan.setInvalid();
        hdr.geneve.setInvalid();
        hdr.geneve_option.setInvalid();
        // Headers that are longer than their packet says, or than it is.
        if (standard.parser_error != error.NoError) {
            meta.broken = 1;
        }
        if (hdr.tcp.isValid() && (meta.payload < 20 || hdr.tcp.data_offset < 5)) {
            meta.broken = 1;
        }
        if (hdr.udp.isValid() && meta.payload < 8) {
            meta.broken = 1;
        }
        if (hdr.sctp.isValid() && meta.payload < 12) {
            meta.broken = 1;
        }
        if (hdr.icmp.isValid() && meta.payload < 8) {
            meta.broken = 1;
        }
        // More behind IP than the packet has: also what of IPv4 says less than its own header.
        if (hdr.ipv4.isValid() && (bit<32>) hdr.ipv4.total_length + 14 > meta.length) {
            meta.broken = 1;
        }
        if (hdr.ipv4.isValid() && hdr.ipv4.total_length < ((bit<16>) hdr.ipv4.ihl << 2)) {
            meta.broken = 1;
        }
        if (hdr.ipv6.isValid() && (bit<32>) hdr.ipv6.payload_length + 54 > meta.length) {
            meta.broken = 1;
        }
        if (hdr.ethernet.ether_type < ETHERTYPE_LEAST) {
            meta.eth_type = ETHERTYPE_NONE;
        }
        meta.next = 0;
        if (meta.broken == 1) {
            meta.next = DROP;
        }
        // Counts with what no network owns.
        if (meta.malformed == 1) {
            meta.tun_id = 0;
            meta.next = 0;
        }
        // What the controller sends leaves as it says, and no table sees it.
        if (hdr.packet_out.isValid()) {
            meta.in_port = 0;
            meta.length = meta.length - PACKET_OUT_LENGTH;
            meta.leave = hdr.packet_out.port;
            meta.tun_dst = hdr.packet_out.tun_dst;
            meta.tun_id = hdr.packet_out.tun_id;
            meta.tun_identity = hdr.packet_out.tun_identity;
            hdr.packet_out.setInvalid();
            meta.next = DONE;
        } else if (underlay.apply().hit) {
            receiving.apply(hdr, meta, standard);
        }

        if (meta.next == 0) { classify.apply(); }
        if (meta.next == 2) { antispoof.apply(); }
        if (meta.next == 3) { arp_nd.apply(); }
        if (meta.next == 4) { answer.apply(); }
        if (meta.next == 5) { src_class.apply(); }
        if (meta.next == 6) { dst_class.apply(); }
        if (meta.next == 7) { locate.apply(); }
        if (meta.next == 8) { track.apply(); }
        if (meta.track == 1) {
            Tracking.apply(hdr, meta);
        }
        if (meta.next == 9) { connection.apply(); }
        if (meta.next == 10) { staged_egress_emergency.apply(); }
        if (meta.next == 11) { staged_egress_platform.apply(); }
        if (meta.next == 12) { staged_egress_application.apply(); }
        if (meta.next == 13) { staged_egress_baseline.apply(); }
        // What ends from here on, up to the verdict, policy has refused.
        if (meta.next < DONE) {
            meta.judged = 1;
        }
        if (meta.next == 14) { egress_emergency.apply(); }
        if (meta.next == 15) { egress_platform.apply(); }
        if (meta.next == 16) { egress_application.apply(); }
        if (meta.next == 17) { egress_baseline.apply(); }
        if (meta.next == 18) { spread.apply(); }
        if (meta.next == 20) { staged_ingress_emergency.apply(); }
        if (meta.next == 21) { staged_ingress_platform.apply(); }
        if (meta.next == 22) { staged_ingress_application.apply(); }
        if (meta.next == 23) { staged_ingress_baseline.apply(); }
        if (meta.next == 24) { ingress_emergency.apply(); }
        if (meta.next == 25) { ingress_platform.apply(); }
        if (meta.next == 26) { ingress_application.apply(); }
        if (meta.next == 27) { ingress_baseline.apply(); }
        if (meta.judged == 1 && meta.track == 1 && meta.question == 1 && meta.answer == 1) {
            if (meta.second == 0) {
                // Other switches are told whether it passes as an answer, too.
                if (meta.next == 28 && meta.to_peer == 1) {
                    meta.passed = 1;
                    meta.next = DROP;
                }
                if (meta.next == DROP) {
                    meta.second = 1;
                    meta.told_first = meta.told;
                    meta.told = 0;
                    meta.log_staged_egress_first = meta.log_staged_egress;
                    meta.log_staged_egress = 0;
                    meta.log_egress_first = meta.log_egress;
                    meta.log_egress = 0;
                    meta.log_staged_ingress_first = meta.log_staged_ingress;
                    meta.log_staged_ingress = 0;
                    meta.log_ingress_first = meta.log_ingress;
                    meta.log_ingress = 0;
                    resubmit_preserving_field_list(1);
                }
            } else if (meta.next == DROP) {
                // What it is as a question.
                meta.conn = CONN_NEW;
                bit<32> id = meta.src_id;
                meta.src_id = meta.dst_id;
                meta.dst_id = id;
                meta.told = meta.told_first;
                meta.log_staged_egress = meta.log_staged_egress_first;
                meta.log_egress = meta.log_egress_first;
                meta.log_staged_ingress = meta.log_staged_ingress_first;
                meta.log_ingress = meta.log_ingress_first;
                if (meta.passed == 1) {
                    meta.next = 28;
                }
            } else {
                // Lines are about questions.
                meta.log_staged_egress = meta.log_staged_egress_first;
                meta.log_egress = meta.log_egress_first;
                meta.log_staged_ingress = meta.log_staged_ingress_first;
                meta.log_ingress = meta.log_ingress_first;
                if (meta.passed == 0) {
                    unlogged.apply(meta);
                }
            }
        }
        // What is none of a connection's first packets.
        if (meta.next == 28 && meta.opens == 0) {
            unlogged.apply(meta);
        }
        if (meta.next == 28) { verdict.apply(); }
        if (meta.next == 29) { fit.apply(); }
        // As long as it is without its tag.
        if (meta.check_size == 1) {
            meta.too_big = 0;
            if (meta.length > (bit<32>) meta.most) {
                meta.too_big = 1;
            }
        }
        if (meta.next == 30) { deliver.apply(); }

        if (meta.dec_ttl == 1) {
            if (meta.ip_ttl < 2) {
                meta.next = DROP;
            } else if (hdr.ipv4.isValid()) {
                hdr.ipv4.ttl = meta.ip_ttl - 1;
            } else {
                hdr.ipv6.hop_limit = meta.ip_ttl - 1;
            }
        }
        // Back where it came from goes only what is sent back, and into a tunnel nothing that came by one.
        bool tunnel = meta.leave == PORT_VXLAN || meta.leave == PORT_GENEVE;
        bool stays = meta.leave == meta.in_port && meta.back == 0;
        bool stops = meta.next != DONE || meta.leave == 0 || stays || (tunnel && meta.decap == 1);
        // Too many are told nothing, and what the controller gets nobody else does.
        bool tells = false;
        if (meta.next == DROP && meta.told != 0) {
            bit<2> color = 0;
            to_controller.execute_meter(METER_TOLD, color);
            if (color != 0) {
                meta.told = 0;
            }
            tells = meta.told != 0;
        }
        if (LOGGED(meta)) {
            bit<2> color = 0;
            to_controller.execute_meter(METER_LOG, color);
            if (color != 0) {
                unlogged.apply(meta);
            } else if (stops) {
                tells = true;
            }
        }
        if (stops && !tells) {
            mark_to_drop(standard);
        } else {
            if (meta.vlan[12:12] == 1) {
                if (!hdr.vlan.isValid()) {
                    hdr.vlan.setValid();
                    hdr.vlan.pcp = 0;
                    hdr.vlan.dei = 0;
                    hdr.vlan.ether_type = hdr.ethernet.ether_type;
                    hdr.ethernet.ether_type = ETHERTYPE_VLAN;
                }
                hdr.vlan.vid = meta.vlan[11:0];
            } else if (hdr.vlan.isValid()) {
                hdr.ethernet.ether_type = hdr.vlan.ether_type;
                hdr.vlan.setInvalid();
            }
            if (tells) {
                telling.apply(hdr, meta, standard);
            } else if (tunnel) {
                bit<16> port = meta.leave;
                hash(meta.flow, HashAlgorithm.crc16, UDP_FIRST,
                    { meta.addr_src, meta.addr_dst, meta.protocol, meta.l4_src, meta.l4_dst }, UDP_COUNT);
                // Where no way leads there, it has none.
                meta.leave = 0;
                if (next_hop.apply().hit) {
                    sending.apply(hdr, meta, port);
                }
            }
            if (!tells) {
                if (meta.leave == 0 || meta.leave > PORT_MOST) {
                    mark_to_drop(standard);
                } else {
                    standard.egress_spec = meta.leave[8:0];
                }
            }
        }
    }
}

control egress(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    Copying() copying;

    apply {
        if (standard.instance_type == INSTANCE_COPY) {
            copying.apply(hdr, meta);
        } else if (LOGGED(meta) && standard.egress_port != PORT_CONTROLLER) {
            // What the controller gets goes its way all the same.
            clone_preserving_field_list(CloneType.E2E, CLONE_SESSION, 2);
        }
    }
}

// What was rewritten: headers of IPv4 that was routed or answered, and answers to pings and to neighbours.
control Summing(inout headers_t hdr, inout meta_t meta) {
    apply {
        update_checksum(hdr.outer_ipv4.isValid(),
            { hdr.outer_ipv4.version, hdr.outer_ipv4.ihl, hdr.outer_ipv4.tos, hdr.outer_ipv4.total_length,
              hdr.outer_ipv4.identification, hdr.outer_ipv4.flags, hdr.outer_ipv4.offset, hdr.outer_ipv4.ttl,
              hdr.outer_ipv4.protocol, hdr.outer_ipv4.src, hdr.outer_ipv4.dst },
            hdr.outer_ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(hdr.ipv4.isValid() && !hdr.ipv4_options.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.flags,
              hdr.ipv4.offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
        update_checksum(hdr.ipv4_options.isValid(),
            { hdr.ipv4.version, hdr.ipv4.ihl, hdr.ipv4.tos, hdr.ipv4.total_length, hdr.ipv4.identification, hdr.ipv4.flags,
              hdr.ipv4.offset, hdr.ipv4.ttl, hdr.ipv4.protocol, hdr.ipv4.src, hdr.ipv4.dst, hdr.ipv4_options.options },
            hdr.ipv4.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(meta.back == 1 && hdr.ipv4.isValid() && hdr.icmp.isValid(),
            { hdr.icmp.kind, hdr.icmp.code }, hdr.icmp.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(meta.back == 1 && hdr.ipv6.isValid() && hdr.icmp.isValid() && !hdr.nd.isValid(),
            { hdr.ipv6.src, hdr.ipv6.dst, 16w0, hdr.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6, hdr.icmp.kind, hdr.icmp.code },
            hdr.icmp.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(meta.back == 1 && hdr.nd.isValid() && !hdr.nd_lla.isValid(),
            { hdr.ipv6.src, hdr.ipv6.dst, 16w0, hdr.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6, hdr.icmp.kind, hdr.icmp.code,
              hdr.nd.reserved, hdr.nd.target },
            hdr.icmp.checksum, HashAlgorithm.csum16);
        update_checksum_with_payload(meta.back == 1 && hdr.nd_lla.isValid(),
            { hdr.ipv6.src, hdr.ipv6.dst, 16w0, hdr.ipv6.payload_length, 24w0, PROTOCOL_ICMPV6, hdr.icmp.kind, hdr.icmp.code,
              hdr.nd.reserved, hdr.nd.target, hdr.nd_lla.kind, hdr.nd_lla.length, hdr.nd_lla.address },
            hdr.icmp.checksum, HashAlgorithm.csum16);
    }
}

control Writing(packet_out packet, in headers_t hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.outer_ethernet);
        packet.emit(hdr.outer_ipv4);
        packet.emit(hdr.outer_ipv6);
        packet.emit(hdr.outer_udp);
        packet.emit(hdr.vxlan);
        packet.emit(hdr.geneve);
        packet.emit(hdr.geneve_option);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.vlan);
        packet.emit(hdr.arp);
        packet.emit(hdr.ipv4);
        packet.emit(hdr.ipv4_options);
        packet.emit(hdr.ipv6);
        packet.emit(hdr.fragment);
        packet.emit(hdr.tcp);
        packet.emit(hdr.udp);
        packet.emit(hdr.sctp);
        packet.emit(hdr.chunk);
        packet.emit(hdr.icmp);
        packet.emit(hdr.nd);
        packet.emit(hdr.nd_lla);
    }
}

@pkginfo(name="bulkhead")
V1Switch(Reading(), Verifying(), ingress(), egress(), Summing(), Writing()) main;
