// What goes with packets to the controller and from it.

// The port that leads to the controller. No wire has its number.
const bit<9> PORT_CONTROLLER = 510;

// What the sender of a packet that was dropped is to be told; 0 is nothing.
const bit<8> TOLD_REJECT = 1;
const bit<8> TOLD_EXPIRED = 2;
const bit<8> TOLD_NO_ROUTE = 3;
const bit<8> TOLD_TOO_BIG = 4;

// Of meters, the one of packets whose senders are told, and that of packets about which lines are written.
const bit<32> METER_TOLD = 0;
const bit<32> METER_LOG = 1;

// What makes the copy of a packet that goes on its way.
const bit<32> CLONE_SESSION = 1;
// Such a copy, made where the packet leaves (`instance_type` of v1model).
const bit<32> INSTANCE_COPY = 2;

// Whether a line is to be written about a packet.
#define LOGGED(meta) \
    ((meta.log_staged_egress | meta.log_egress | meta.log_staged_ingress | meta.log_ingress) != 0)

// What of a packet the controller gets, in bytes: its beginning, and the header below.
const bit<32> TOLD_LENGTH = 256 + 74;

// With a packet to the controller, as it was when it was dropped, without what was in front of it. Of what goes on its way
// there is a copy as it leaves, without what is in front of it; nothing is said of its ends.
@controller_header("packet_in")
header packet_in_t {
    @id(1) bit<8> told;
    // The port that it came by, or the overlay port, and the tag that was taken off.
    @id(2) bit<16> in_port;
    @id(3) bit<16> vlan;
    // As from whom its sender is told that a TTL ended or that there is no route.
    @id(4) address_t teller;
    // What would have fit.
    @id(5) bit<16> mtu;
    // Who sent it, and who it was for.
    @id(6) bit<32> asker;
    @id(7) bit<32> asked;
    // What was in front of it.
    @id(8) address_t tun_src;
    @id(9) bit<24> tun_id;
    @id(10) bit<32> tun_identity;
    // The rules that a line is written about, as an entry's `log` says them; 0 is none.
    @id(11) bit<40> log_staged_egress;
    @id(12) bit<40> log_egress;
    @id(13) bit<40> log_staged_ingress;
    @id(14) bit<40> log_ingress;
}

// With a packet from the controller: the port that it leaves by, and of an overlay port, to where and as what.
@controller_header("packet_out")
header packet_out_t {
    @id(1) bit<16> port;
    @id(2) address_t tun_dst;
    @id(3) bit<24> tun_id;
    @id(4) bit<32> tun_identity;
}

// Bytes of that.
const bit<32> PACKET_OUT_LENGTH = 25;
