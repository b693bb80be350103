// What the switch knows of the underlay. Beside the program: no stage's tables, and written before any of them.

// By this port come packets of tunnels, and questions for the switch's own address.
@id(0x1004001)
action vtep(mac_t mac, address_t address) {
    meta.own_mac = mac;
    meta.own_address = address;
}
@id(0x13000040)
direct_counter(CounterType.packets_and_bytes) underlay_counter;
@id(0x2000040)
table underlay {
    key = {
        meta.in_port: exact @name("port");
    }
    actions = {
        vtep;
        @defaultonly NoAction;
    }
    const default_action = NoAction();
    counters = underlay_counter;
    size = SIZE_UNDERLAY;
}

// A neighbour that leads to the far end of a tunnel: one of those that are as good as each other, by the flow.
@id(0x1004101)
action hop(bit<16> port, mac_t mac, mac_t own_mac, address_t own_address) {
    meta.leave = port;
    meta.hop_mac = mac;
    meta.own_mac = own_mac;
    meta.own_address = own_address;
}
@id(0x11000040)
@max_group_size(16)
action_selector(HashAlgorithm.crc16, SIZE_HOPS, 16) hops;
@id(0x13000041)
direct_counter(CounterType.packets_and_bytes) next_hop_counter;
@id(0x2000041)
table next_hop {
    key = {
        meta.tun_dst: lpm @name("far");
        meta.flow: selector;
    }
    actions = {
        hop;
        @defaultonly NoAction;
    }
    implementation = hops;
    counters = next_hop_counter;
    size = SIZE_NEXT_HOP;
}
