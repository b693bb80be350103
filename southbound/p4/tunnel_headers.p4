// What is in front of a frame between switches (docs/adr/0009-the-overlay.md).

// In the place of a port's number: the two overlay ports, and any port of the underlay, for what comes there and is no
// tunnel's. No entry knows the last one.
const bit<16> PORT_VXLAN = 0xfff0;
const bit<16> PORT_GENEVE = 0xfff1;
const bit<16> PORT_UNDERLAY = 0xfff2;

// RFC 7348 section 5, RFC 8926 section 3.3.
const bit<16> UDP_VXLAN = 4789;
const bit<16> UDP_GENEVE = 6081;
// The range of source ports (RFC 6335 section 6), of which a flow has one.
const bit<16> UDP_FIRST = 49152;
const bit<16> UDP_COUNT = 16384;

// A VNI is there; so is a group-policy id (draft-smith-vxlan-group-policy section 2.1).
const bit<8> VXLAN_VNI = 0x08;
const bit<8> VXLAN_GROUP = 0x88;
// A frame of Ethernet is inside (RFC 8926 section 3.4).
const bit<16> GENEVE_ETHERNET = 0x6558;
// The option that says who sends.
const bit<16> OPTION_CLASS = 0xffb0;
const bit<8> OPTION_KIND = 1;

const bit<8> OUTER_TTL = 64;

header vxlan_t {
    bit<8> flags;
    bit<8> more;
    bit<16> group;
    bit<24> vni;
    bit<8> reserved;
}

header geneve_t {
    bit<2> version;
    bit<6> option_words;
    bit<1> control_packet;
    bit<1> critical;
    bit<6> reserved;
    bit<16> protocol;
    bit<24> vni;
    bit<8> more;
}

header geneve_option_t {
    bit<16> class;
    bit<8> kind;
    bit<3> reserved;
    bit<5> words;
    bit<32> identity;
}
