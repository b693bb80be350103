// A program with one of everything that the client speaks of, for tests against a real switch. tiny.p4info.txtpb and
// tiny.json are what p4c makes of it.
#include <core.p4>
#include <v1model.p4>

header ethernet_t {
    bit<48> dst;
    bit<48> src;
    bit<16> type;
}

header ipv4_t {
    bit<4> version;
    bit<4> ihl;
    bit<8> dscp;
    bit<16> length;
    bit<16> id;
    bit<3> flags;
    bit<13> offset;
    bit<8> ttl;
    bit<8> protocol;
    bit<16> checksum;
    bit<32> src;
    bit<32> dst;
}

@controller_header("packet_in")
header packet_in_t {
    @id(1) bit<9> port;
    bit<7> pad;
}

@controller_header("packet_out")
header packet_out_t {
    @id(1) bit<9> port;
    bit<7> pad;
}

struct headers {
    packet_out_t packet_out;
    packet_in_t packet_in;
    ethernet_t ethernet;
    ipv4_t ipv4;
}

struct learn_t {
    bit<48> mac;
    bit<9> port;
}

struct metadata {}

parser Parse(packet_in packet, out headers hdr, inout metadata meta, inout standard_metadata_t std) {
    state start {
        transition select(std.ingress_port) {
            510: from_controller;
            default: ethernet;
        }
    }
    state from_controller {
        packet.extract(hdr.packet_out);
        transition ethernet;
    }
    state ethernet {
        packet.extract(hdr.ethernet);
        transition select(hdr.ethernet.type) {
            0x800: ipv4;
            default: accept;
        }
    }
    state ipv4 {
        packet.extract(hdr.ipv4);
        transition accept;
    }
}

control Verify(inout headers hdr, inout metadata meta) {
    apply {}
}

control ingress(inout headers hdr, inout metadata meta, inout standard_metadata_t std) {
    @id(0x13000001) direct_counter(CounterType.packets_and_bytes) hits;
    @id(0x12000001) counter(16, CounterType.packets_and_bytes) seen;

    @id(0x01000001) action allow() {
        hits.count();
    }
    @id(0x01000002) action deny() {
        hits.count();
        mark_to_drop(std);
    }
    @id(0x01000003) action forward(@id(1) bit<48> mac, @id(2) bit<9> port) {
        hdr.ethernet.dst = mac;
        std.egress_spec = port;
    }
    @id(0x01000004) action drop() {
        mark_to_drop(std);
    }
    @id(0x01000005) action flood(@id(1) bit<16> group) {
        std.mcast_grp = group;
    }
    @id(0x01000006) action to_controller() {
        std.egress_spec = 510;
    }

    @id(0x02000001) table acl {
        key = {
            hdr.ipv4.src: ternary @id(1) @name("src");
            hdr.ipv4.dst: ternary @id(2) @name("dst");
            hdr.ipv4.protocol: optional @id(3) @name("protocol");
            hdr.ipv4.length: range @id(4) @name("length");
        }
        actions = {
            allow;
            deny;
        }
        default_action = deny();
        counters = hits;
        size = 1024;
    }

    @id(0x11000001) @max_group_size(8) action_selector(HashAlgorithm.crc16, 64, 16) hops;

    @id(0x02000002) table route {
        key = {
            hdr.ipv4.dst: lpm @id(1) @name("dst");
            hdr.ipv4.src: selector;
            hdr.ipv4.protocol: selector;
        }
        actions = {
            forward;
            @defaultonly NoAction;
        }
        const default_action = NoAction();
        implementation = hops;
        size = 512;
    }

    @id(0x02000003) table bridge {
        key = {
            hdr.ethernet.dst: exact @id(1) @name("dst");
        }
        actions = {
            forward;
            flood;
            to_controller;
            @defaultonly drop;
        }
        const default_action = drop();
        size = 16;
    }

    apply {
        digest<learn_t>(1, {hdr.ethernet.src, std.ingress_port});
        if (hdr.packet_out.isValid()) {
            std.egress_spec = hdr.packet_out.port;
            hdr.packet_out.setInvalid();
        } else {
            seen.count((bit<32>)(std.ingress_port & 15));
            bridge.apply();
            if (hdr.ipv4.isValid()) {
                if (acl.apply().hit) {
                    route.apply();
                }
            }
        }
    }
}

control egress(inout headers hdr, inout metadata meta, inout standard_metadata_t std) {
    apply {
        if (std.egress_port == 510) {
            hdr.packet_in.setValid();
            hdr.packet_in.port = std.ingress_port;
            hdr.packet_in.pad = 0;
        }
    }
}

control Compute(inout headers hdr, inout metadata meta) {
    apply {}
}

control Deparse(packet_out packet, in headers hdr) {
    apply {
        packet.emit(hdr.packet_in);
        packet.emit(hdr.ethernet);
        packet.emit(hdr.ipv4);
    }
}

V1Switch(Parse(), Verify(), ingress(), egress(), Compute(), Deparse()) main;
