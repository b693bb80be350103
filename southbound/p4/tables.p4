// The stages' actions and tables, written from the layout of driver-p4: change that, not this
// (UPDATE_GOLDEN=1 cargo nextest run -p bulkhead-driver-p4).

@id(0x1ffff00)
action miss() {
    meta.next = DROP;
}

// In-port (and VLAN of an uplink, whose tag is taken off; VNI of a tunnel) to network, source identity and direction.
@id(0x1000101)
action classify__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000102)
action classify__set_network__set_from_tunnel(bit<16> network, bit<1> from_tunnel, bit<8> next) {
    meta.network = network;
    meta.from_tunnel = from_tunnel;
    meta.next = next;
}
@id(0x1000103)
action classify__set_network__set_src_id(bit<16> network, bit<32> src_id, bit<8> next) {
    meta.network = network;
    meta.src_id = src_id;
    meta.next = next;
}
@id(0x1000104)
action classify__set_network__set_src_id__set_in_vlan__pop_vlan(bit<16> network, bit<32> src_id, bit<12> in_vlan, bit<8> next) {
    meta.network = network;
    meta.src_id = src_id;
    meta.in_vlan = in_vlan;
    meta.vlan = 0;
    meta.next = next;
}
@id(0x1000105)
action classify__set_network__set_src_id__set_src_local(bit<16> network, bit<32> src_id, bit<1> src_local, bit<8> next) {
    meta.network = network;
    meta.src_id = src_id;
    meta.src_local = src_local;
    meta.next = next;
}
@id(0x13000001)
direct_counter(CounterType.packets_and_bytes) classify_counter;
@id(0x2000001)
table classify {
    key = {
        meta.in_port: ternary @name("in_port");
        meta.tun_id: ternary @name("tun_id");
        meta.vlan: ternary @name("vlan");
    }
    actions = {
        classify__go;
        classify__set_network__set_from_tunnel;
        classify__set_network__set_src_id;
        classify__set_network__set_src_id__set_in_vlan__pop_vlan;
        classify__set_network__set_src_id__set_src_local;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = classify_counter;
    size = SIZE_CLASSIFY;
}

// Port, MAC, IP and ARP/ND sender must be the workload's own; no outsider uses a workload's address. Behind a tunnel: so must its switch and its identity.
@id(0x1000301)
action antispoof__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000302)
action antispoof__set_src_id(bit<32> src_id, bit<8> next) {
    meta.src_id = src_id;
    meta.next = next;
}
@id(0x1000303)
action antispoof__set_src_id__set_peer(bit<32> src_id, bit<2> peer, bit<8> next) {
    meta.src_id = src_id;
    meta.peer = peer;
    meta.next = next;
}
@id(0x1000304)
action antispoof__set_src_id__set_src_local__set_peer(bit<32> src_id, bit<1> src_local, bit<2> peer, bit<8> next) {
    meta.src_id = src_id;
    meta.src_local = src_local;
    meta.peer = peer;
    meta.next = next;
}
@id(0x13000003)
direct_counter(CounterType.packets_and_bytes) antispoof_counter;
@id(0x2000003)
table antispoof {
    key = {
        meta.in_port: ternary @name("in_port");
        meta.network: ternary @name("network");
        meta.src_local: ternary @name("src_local");
        meta.from_tunnel: ternary @name("from_tunnel");
        meta.tun_src: ternary @name("tun_src");
        meta.tun_identity: ternary @name("tun_identity");
        hdr.ethernet.src: ternary @name("eth_src");
        hdr.ethernet.dst: ternary @name("eth_dst");
        meta.eth_type: ternary @name("eth_type");
        meta.vlan: ternary @name("vlan");
        meta.protocol: ternary @name("protocol");
        meta.addr_src: ternary @name("addr_src");
        meta.addr_dst: ternary @name("addr_dst");
        meta.l4_src: ternary @name("l4_src");
        meta.l4_dst: ternary @name("l4_dst");
        meta.hardware: ternary @name("hardware");
    }
    actions = {
        antispoof__go;
        antispoof__set_src_id;
        antispoof__set_src_id__set_peer;
        antispoof__set_src_id__set_src_local__set_peer;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = antispoof_counter;
    size = SIZE_ANTISPOOF;
}

// Answers ARP and ND for known workloads and gateways; unknown addresses are asked for at the uplink alone. What is sent to a gateway is routed.
@id(0x1000401)
action arp_nd__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000402)
action arp_nd__choose(bit<16> port, bit<8> next) {
    meta.chosen = port;
    meta.next = next;
}
@id(0x1000403)
action arp_nd__choose__set_out_vlan(bit<16> port, bit<12> out_vlan, bit<8> next) {
    meta.chosen = port;
    meta.out_vlan = out_vlan;
    meta.next = next;
}
@id(0x1000404)
action arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv4_src_to_ipv4_dst__set_ipv4_src__set_icmp_type__set_ip_ttl(bit<48> eth_src, bit<32> ipv4_src, bit<8> icmp_type, bit<8> ip_ttl, bit<8> next) {
    hdr.ethernet.dst = hdr.ethernet.src;
    hdr.ethernet.src = eth_src;
    hdr.ipv4.dst = hdr.ipv4.src;
    hdr.ipv4.src = ipv4_src;
    hdr.icmp.kind = icmp_type;
    meta.l4_src = (bit<16>) icmp_type;
    hdr.ipv4.ttl = ip_ttl;
    hdr.ipv6.hop_limit = ip_ttl;
    meta.next = next;
}
@id(0x1000405)
action arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_icmp_type__set_ip_ttl(bit<48> eth_src, bit<128> ipv6_src, bit<8> icmp_type, bit<8> ip_ttl, bit<8> next) {
    hdr.ethernet.dst = hdr.ethernet.src;
    hdr.ethernet.src = eth_src;
    hdr.ipv6.dst = hdr.ipv6.src;
    hdr.ipv6.src = ipv6_src;
    hdr.icmp.kind = icmp_type;
    meta.l4_src = (bit<16>) icmp_type;
    hdr.ipv4.ttl = ip_ttl;
    hdr.ipv6.hop_limit = ip_ttl;
    meta.next = next;
}
@id(0x1000406)
action arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_nd_reserved__set_icmp_type(bit<48> eth_src, bit<128> ipv6_src, bit<32> nd_reserved, bit<8> icmp_type, bit<8> next) {
    hdr.ethernet.dst = hdr.ethernet.src;
    hdr.ethernet.src = eth_src;
    hdr.ipv6.dst = hdr.ipv6.src;
    hdr.ipv6.src = ipv6_src;
    hdr.nd.reserved = nd_reserved;
    hdr.icmp.kind = icmp_type;
    meta.l4_src = (bit<16>) icmp_type;
    meta.next = next;
}
@id(0x1000407)
action arp_nd__copy_eth_src_to_eth_dst__set_eth_src__set_arp_op__copy_arp_sha_to_arp_tha__set_arp_sha__copy_arp_spa_to_arp_tpa__set_arp_spa(bit<48> eth_src, bit<16> arp_op, bit<48> arp_sha, bit<32> arp_spa, bit<8> next) {
    hdr.ethernet.dst = hdr.ethernet.src;
    hdr.ethernet.src = eth_src;
    hdr.arp.op = arp_op;
    hdr.arp.tha = hdr.arp.sha;
    hdr.arp.sha = arp_sha;
    hdr.arp.tpa = hdr.arp.spa;
    hdr.arp.spa = arp_spa;
    meta.next = next;
}
@id(0x1000408)
action arp_nd__expired4(bit<32> from, bit<8> next) {
    meta.told = TOLD_EXPIRED;
    meta.teller = MAPPED | (bit<128>) from;
    meta.next = next;
}
@id(0x1000409)
action arp_nd__expired6(bit<128> from, bit<8> next) {
    meta.told = TOLD_EXPIRED;
    meta.teller = from;
    meta.next = next;
}
@id(0x100040a)
action arp_nd__send_to(bit<16> port, bit<8> next) {
    meta.leave = port;
    meta.next = next;
}
@id(0x100040b)
action arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id(bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x100040c)
action arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp(bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x100040d)
action arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id(bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x100040e)
action arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp(bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x100040f)
action arp_nd__set_peer(bit<2> peer, bit<8> next) {
    meta.peer = peer;
    meta.next = next;
}
@id(0x1000410)
action arp_nd__set_routed(bit<1> routed, bit<8> next) {
    meta.routed = routed;
    meta.next = next;
}
@id(0x1000411)
action arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity(bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x1000412)
action arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity(bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x13000004)
direct_counter(CounterType.packets_and_bytes) arp_nd_counter;
@id(0x2000004)
table arp_nd {
    key = {
        meta.network: ternary @name("network");
        meta.src_id: ternary @name("src_id");
        meta.src_local: ternary @name("src_local");
        meta.from_tunnel: ternary @name("from_tunnel");
        hdr.ethernet.dst: ternary @name("eth_dst");
        meta.eth_type: ternary @name("eth_type");
        meta.protocol: ternary @name("protocol");
        meta.ip_frag: ternary @name("ip_frag");
        meta.ip_ttl: ternary @name("ip_ttl");
        meta.addr_src: ternary @name("addr_src");
        meta.addr_dst: ternary @name("addr_dst");
        meta.l4_src: ternary @name("l4_src");
        meta.l4_dst: ternary @name("l4_dst");
        meta.nd_option: ternary @name("nd_option");
    }
    actions = {
        arp_nd__go;
        arp_nd__choose;
        arp_nd__choose__set_out_vlan;
        arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv4_src_to_ipv4_dst__set_ipv4_src__set_icmp_type__set_ip_ttl;
        arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_icmp_type__set_ip_ttl;
        arp_nd__copy_eth_src_to_eth_dst__set_eth_src__copy_ipv6_src_to_ipv6_dst__set_ipv6_src__set_nd_reserved__set_icmp_type;
        arp_nd__copy_eth_src_to_eth_dst__set_eth_src__set_arp_op__copy_arp_sha_to_arp_tha__set_arp_sha__copy_arp_spa_to_arp_tpa__set_arp_spa;
        arp_nd__expired4;
        arp_nd__expired6;
        arp_nd__send_to;
        arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id;
        arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp;
        arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id;
        arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp;
        arp_nd__set_peer;
        arp_nd__set_routed;
        arp_nd__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity;
        arp_nd__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = arp_nd_counter;
    size = SIZE_ARP_ND;
}

// Sends what arp-nd made of a question back, on its VLAN, a gateway's echo reply too; an advertisement gets its link-layer address.
@id(0x1000501)
action answer__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000502)
action answer__push_in_vlan__send_back(bit<8> next) {
    meta.vlan = 1w1 ++ meta.in_vlan;
    meta.leave = meta.in_port;
    meta.back = 1;
    meta.next = next;
}
@id(0x1000503)
action answer__send_back(bit<8> next) {
    meta.leave = meta.in_port;
    meta.back = 1;
    meta.next = next;
}
@id(0x1000504)
action answer__set_nd_option__copy_eth_src_to_nd_tll__push_in_vlan__send_back(bit<8> nd_option, bit<8> next) {
    hdr.nd_lla.kind = nd_option;
    meta.nd_option = (bit<8>) nd_option;
    hdr.nd_lla.address = hdr.ethernet.src;
    meta.vlan = 1w1 ++ meta.in_vlan;
    meta.leave = meta.in_port;
    meta.back = 1;
    meta.next = next;
}
@id(0x1000505)
action answer__set_nd_option__copy_eth_src_to_nd_tll__send_back(bit<8> nd_option, bit<8> next) {
    hdr.nd_lla.kind = nd_option;
    meta.nd_option = (bit<8>) nd_option;
    hdr.nd_lla.address = hdr.ethernet.src;
    meta.leave = meta.in_port;
    meta.back = 1;
    meta.next = next;
}
@id(0x13000005)
direct_counter(CounterType.packets_and_bytes) answer_counter;
@id(0x2000005)
table answer {
    key = {
        meta.in_vlan: ternary @name("in_vlan");
        meta.from_tunnel: ternary @name("from_tunnel");
        meta.eth_type: ternary @name("eth_type");
        meta.protocol: ternary @name("protocol");
        meta.l4_src: ternary @name("l4_src");
        meta.l4_dst: ternary @name("l4_dst");
        meta.nd_option: ternary @name("nd_option");
    }
    actions = {
        answer__go;
        answer__push_in_vlan__send_back;
        answer__send_back;
        answer__set_nd_option__copy_eth_src_to_nd_tll__push_in_vlan__send_back;
        answer__set_nd_option__copy_eth_src_to_nd_tll__send_back;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = answer_counter;
    size = SIZE_ANSWER;
}

// Source address to address class, longest prefix first: one entry per prefix that a policy mentions.
@id(0x1000601)
action src_class__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000602)
action src_class__set_src_class(bit<32> src_class, bit<8> next) {
    meta.src_class = src_class;
    meta.next = next;
}
@id(0x13000006)
direct_counter(CounterType.packets_and_bytes) src_class_counter;
@id(0x2000006)
table src_class {
    key = {
        meta.eth_type: ternary @name("eth_type");
        meta.addr_src: ternary @name("addr_src");
    }
    actions = {
        src_class__go;
        src_class__set_src_class;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = src_class_counter;
    size = SIZE_SRC_CLASS;
}

// Destination address to address class, likewise.
@id(0x1000701)
action dst_class__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000702)
action dst_class__set_dst_class(bit<32> dst_class, bit<8> next) {
    meta.dst_class = dst_class;
    meta.next = next;
}
@id(0x13000007)
direct_counter(CounterType.packets_and_bytes) dst_class_counter;
@id(0x2000007)
table dst_class {
    key = {
        meta.eth_type: ternary @name("eth_type");
        meta.addr_dst: ternary @name("addr_dst");
    }
    actions = {
        dst_class__go;
        dst_class__set_dst_class;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = dst_class_counter;
    size = SIZE_DST_CLASS;
}

// Network and destination address to destination identity, out-port, VLAN and tunnel.
@id(0x1000801)
action locate__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000802)
action locate__no_route4(bit<32> from, bit<8> next) {
    meta.told = TOLD_NO_ROUTE;
    meta.teller = MAPPED | (bit<128>) from;
    meta.next = next;
}
@id(0x1000803)
action locate__no_route6(bit<128> from, bit<8> next) {
    meta.told = TOLD_NO_ROUTE;
    meta.teller = from;
    meta.next = next;
}
@id(0x1000804)
action locate__set_dst_id__choose(bit<32> dst_id, bit<16> port, bit<8> next) {
    meta.dst_id = dst_id;
    meta.chosen = port;
    meta.next = next;
}
@id(0x1000805)
action locate__set_dst_id__choose__set_out_vlan(bit<32> dst_id, bit<16> port, bit<12> out_vlan, bit<8> next) {
    meta.dst_id = dst_id;
    meta.chosen = port;
    meta.out_vlan = out_vlan;
    meta.next = next;
}
@id(0x1000806)
action locate__set_dst_id__set_dst_local__set_eth_dst__choose(bit<32> dst_id, bit<1> dst_local, bit<48> eth_dst, bit<16> port, bit<8> next) {
    meta.dst_id = dst_id;
    meta.dst_local = dst_local;
    hdr.ethernet.dst = eth_dst;
    meta.chosen = port;
    meta.next = next;
}
@id(0x1000807)
action locate__set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst4__set_tun_id(bit<32> dst_id, bit<48> eth_dst, bit<1> dst_local, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.dst_local = dst_local;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x1000808)
action locate__set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst6__set_tun_id(bit<32> dst_id, bit<48> eth_dst, bit<1> dst_local, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.dst_local = dst_local;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x1000809)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x100080a)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x100080b)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x100080c)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x100080d)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x100080e)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x100080f)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.next = next;
}
@id(0x1000810)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id & 0xffff;
    meta.next = next;
}
@id(0x1000811)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x1000812)
action locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity(bit<32> dst_id, bit<48> eth_dst, bit<1> to_peer, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    hdr.ethernet.dst = eth_dst;
    meta.to_peer = to_peer;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x1000813)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<32> tun_dst4, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = MAPPED | (bit<128>) tun_dst4;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x1000814)
action locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity(bit<32> dst_id, bit<2> out_tunnel, bit<16> port, bit<128> tun_dst6, bit<24> tun_id, bit<8> next) {
    meta.dst_id = dst_id;
    meta.out_tunnel = out_tunnel;
    meta.chosen = port;
    meta.tun_dst = tun_dst6;
    meta.tun_id = tun_id;
    meta.tun_identity = meta.src_id;
    meta.next = next;
}
@id(0x13000008)
direct_counter(CounterType.packets_and_bytes) locate_counter;
@id(0x2000008)
table locate {
    key = {
        meta.network: ternary @name("network");
        meta.src_local: ternary @name("src_local");
        meta.from_tunnel: ternary @name("from_tunnel");
        meta.routed: ternary @name("routed");
        meta.eth_type: ternary @name("eth_type");
        meta.addr_src: ternary @name("addr_src");
        meta.addr_dst: ternary @name("addr_dst");
    }
    actions = {
        locate__go;
        locate__no_route4;
        locate__no_route6;
        locate__set_dst_id__choose;
        locate__set_dst_id__choose__set_out_vlan;
        locate__set_dst_id__set_dst_local__set_eth_dst__choose;
        locate__set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst4__set_tun_id;
        locate__set_dst_id__set_eth_dst__set_dst_local__set_out_tunnel__choose__set_tun_dst6__set_tun_id;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_gbp;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_gbp;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity;
        locate__set_dst_id__set_eth_dst__set_to_peer__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst4__set_tun_id__copy_src_id_to_tun_identity;
        locate__set_dst_id__set_out_tunnel__choose__set_tun_dst6__set_tun_id__copy_src_id_to_tun_identity;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = locate_counter;
    size = SIZE_LOCATE;
}

// Sends packets through the connection tracker in the network's zone; messages it cannot track go on, fragments do not. What is of nobody and for nobody on this switch passes by the tracker.
@id(0x1000901)
action track__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000902)
action track__track(bit<8> next) {
    meta.track = 1;
    meta.next = next;
}
@id(0x13000009)
direct_counter(CounterType.packets_and_bytes) track_counter;
@id(0x2000009)
table track {
    key = {
        meta.src_local: ternary @name("src_local");
        meta.dst_local: ternary @name("dst_local");
        meta.eth_type: ternary @name("eth_type");
        meta.protocol: ternary @name("protocol");
        meta.ip_frag: ternary @name("ip_frag");
        meta.l4_src: ternary @name("l4_src");
    }
    actions = {
        track__go;
        track__track;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = track_counter;
    size = SIZE_TRACK;
}

// Turns replies and related errors into the view of the connection's first packet, and names the service.
@id(0x1000a01)
action connection__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000a02)
action connection__service_from_dst(bit<8> next) {
    meta.service = meta.protocol ++ meta.l4_dst;
    meta.next = next;
}
@id(0x1000a03)
action connection__service_from_icmp(bit<8> next) {
    meta.service = meta.protocol ++ meta.l4_src[7:0] ++ meta.l4_dst[7:0];
    meta.next = next;
}
@id(0x1000a04)
action connection__service_from_proto(bit<8> next) {
    meta.service = meta.protocol ++ 16w0;
    meta.next = next;
}
@id(0x1000a05)
action connection__swap_ends__service_from_proto(bit<8> next) {
    bit<32> id = meta.src_id;
    meta.src_id = meta.dst_id;
    meta.dst_id = id;
    bit<32> class = meta.src_class;
    meta.src_class = meta.dst_class;
    meta.dst_class = class;
    bit<1> local = meta.src_local;
    meta.src_local = meta.dst_local;
    meta.dst_local = local;
    meta.service = meta.protocol ++ 16w0;
    meta.next = next;
}
@id(0x1000a06)
action connection__swap_ends__service_from_src(bit<8> next) {
    bit<32> id = meta.src_id;
    meta.src_id = meta.dst_id;
    meta.dst_id = id;
    bit<32> class = meta.src_class;
    meta.src_class = meta.dst_class;
    meta.dst_class = class;
    bit<1> local = meta.src_local;
    meta.src_local = meta.dst_local;
    meta.dst_local = local;
    meta.service = meta.protocol ++ meta.l4_src;
    meta.next = next;
}
@id(0x1000a07)
action connection__swap_ends__set_service(bit<24> service, bit<8> next) {
    bit<32> id = meta.src_id;
    meta.src_id = meta.dst_id;
    meta.dst_id = id;
    bit<32> class = meta.src_class;
    meta.src_class = meta.dst_class;
    meta.dst_class = class;
    bit<1> local = meta.src_local;
    meta.src_local = meta.dst_local;
    meta.dst_local = local;
    meta.service = service;
    meta.next = next;
}
@id(0x1300000a)
direct_counter(CounterType.packets_and_bytes) connection_counter;
@id(0x200000a)
table connection {
    key = {
        meta.conn: ternary @name("conn");
        meta.eth_type: ternary @name("eth_type");
        meta.protocol: ternary @name("protocol");
        meta.l4_src: ternary @name("l4_src");
    }
    actions = {
        connection__go;
        connection__service_from_dst;
        connection__service_from_icmp;
        connection__service_from_proto;
        connection__swap_ends__service_from_proto;
        connection__swap_ends__service_from_src;
        connection__swap_ends__set_service;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = connection_counter;
    size = SIZE_CONNECTION;
}

// Counts what staged policies of the source would decide, and stops nothing: all its rules of tier emergency.
@id(0x1000b01)
action staged_egress_emergency__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000b02)
action staged_egress_emergency__log(bit<40> log, bit<8> next) {
    meta.log_staged_egress = log;
    meta.next = next;
}
@id(0x1300000b)
direct_counter(CounterType.packets_and_bytes) staged_egress_emergency_counter;
@id(0x200000b)
table staged_egress_emergency {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.src_local: ternary @name("src_local");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_egress_emergency__go;
        staged_egress_emergency__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_egress_emergency_counter;
    size = SIZE_STAGED_EGRESS_EMERGENCY;
}

// The same for tier platform.
@id(0x1000c01)
action staged_egress_platform__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000c02)
action staged_egress_platform__log(bit<40> log, bit<8> next) {
    meta.log_staged_egress = log;
    meta.next = next;
}
@id(0x1300000c)
direct_counter(CounterType.packets_and_bytes) staged_egress_platform_counter;
@id(0x200000c)
table staged_egress_platform {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_egress_platform__go;
        staged_egress_platform__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_egress_platform_counter;
    size = SIZE_STAGED_EGRESS_PLATFORM;
}

// The same for tier application; at its end, isolation.
@id(0x1000d01)
action staged_egress_application__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000d02)
action staged_egress_application__log(bit<40> log, bit<8> next) {
    meta.log_staged_egress = log;
    meta.next = next;
}
@id(0x1300000d)
direct_counter(CounterType.packets_and_bytes) staged_egress_application_counter;
@id(0x200000d)
table staged_egress_application {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_egress_application__go;
        staged_egress_application__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_egress_application_counter;
    size = SIZE_STAGED_EGRESS_APPLICATION;
}

// The same for tier baseline.
@id(0x1000e01)
action staged_egress_baseline__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000e02)
action staged_egress_baseline__log(bit<40> log, bit<8> next) {
    meta.log_staged_egress = log;
    meta.next = next;
}
@id(0x1300000e)
direct_counter(CounterType.packets_and_bytes) staged_egress_baseline_counter;
@id(0x200000e)
table staged_egress_baseline {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_egress_baseline__go;
        staged_egress_baseline__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_egress_baseline_counter;
    size = SIZE_STAGED_EGRESS_BASELINE;
}

// The source's rules of tier emergency.
@id(0x1000f01)
action egress_emergency__go(bit<8> next) {
    meta.next = next;
}
@id(0x1000f02)
action egress_emergency__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1000f03)
action egress_emergency__log(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.next = next;
}
@id(0x1000f04)
action egress_emergency__log__reject(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1300000f)
direct_counter(CounterType.packets_and_bytes) egress_emergency_counter;
@id(0x200000f)
table egress_emergency {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        egress_emergency__go;
        egress_emergency__reject;
        egress_emergency__log;
        egress_emergency__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = egress_emergency_counter;
    size = SIZE_EGRESS_EMERGENCY;
}

// The source's rules of tier platform.
@id(0x1001001)
action egress_platform__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001002)
action egress_platform__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001003)
action egress_platform__log(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.next = next;
}
@id(0x1001004)
action egress_platform__log__reject(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x13000010)
direct_counter(CounterType.packets_and_bytes) egress_platform_counter;
@id(0x2000010)
table egress_platform {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        egress_platform__go;
        egress_platform__reject;
        egress_platform__log;
        egress_platform__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = egress_platform_counter;
    size = SIZE_EGRESS_PLATFORM;
}

// The source's rules of tier application; at its end, isolation.
@id(0x1001101)
action egress_application__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001102)
action egress_application__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001103)
action egress_application__log(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.next = next;
}
@id(0x1001104)
action egress_application__log__reject(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x13000011)
direct_counter(CounterType.packets_and_bytes) egress_application_counter;
@id(0x2000011)
table egress_application {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        egress_application__go;
        egress_application__reject;
        egress_application__log;
        egress_application__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = egress_application_counter;
    size = SIZE_EGRESS_APPLICATION;
}

// The source's rules of tier baseline; at its end, zone isolation or the network's default.
@id(0x1001201)
action egress_baseline__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001202)
action egress_baseline__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001203)
action egress_baseline__log(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.next = next;
}
@id(0x1001204)
action egress_baseline__log__reject(bit<40> log, bit<8> next) {
    meta.log_egress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x13000012)
direct_counter(CounterType.packets_and_bytes) egress_baseline_counter;
@id(0x2000012)
table egress_baseline {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.dst_class: ternary @name("dst_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        egress_baseline__go;
        egress_baseline__reject;
        egress_baseline__log;
        egress_baseline__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = egress_baseline_counter;
    size = SIZE_EGRESS_BASELINE;
}

// What a workload may send to a group becomes copies: one for each workload of its network here and, if the sender is here, one for each switch with others.
@id(0x1001301)
action spread__go(bit<8> next) {
    meta.next = next;
}
@id(0x13000013)
direct_counter(CounterType.packets_and_bytes) spread_counter;
@id(0x2000013)
table spread {
    key = {
        meta.eth_type: ternary @name("eth_type");
    }
    actions = {
        spread__go;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = spread_counter;
    size = SIZE_SPREAD;
}

// Counts what staged policies of the destination would decide, and stops nothing: all its rules of tier emergency.
@id(0x1001501)
action staged_ingress_emergency__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001502)
action staged_ingress_emergency__log(bit<40> log, bit<8> next) {
    meta.log_staged_ingress = log;
    meta.next = next;
}
@id(0x13000015)
direct_counter(CounterType.packets_and_bytes) staged_ingress_emergency_counter;
@id(0x2000015)
table staged_ingress_emergency {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.dst_local: ternary @name("dst_local");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_ingress_emergency__go;
        staged_ingress_emergency__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_ingress_emergency_counter;
    size = SIZE_STAGED_INGRESS_EMERGENCY;
}

// The same for tier platform.
@id(0x1001601)
action staged_ingress_platform__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001602)
action staged_ingress_platform__log(bit<40> log, bit<8> next) {
    meta.log_staged_ingress = log;
    meta.next = next;
}
@id(0x13000016)
direct_counter(CounterType.packets_and_bytes) staged_ingress_platform_counter;
@id(0x2000016)
table staged_ingress_platform {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_ingress_platform__go;
        staged_ingress_platform__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_ingress_platform_counter;
    size = SIZE_STAGED_INGRESS_PLATFORM;
}

// The same for tier application; at its end, isolation.
@id(0x1001701)
action staged_ingress_application__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001702)
action staged_ingress_application__log(bit<40> log, bit<8> next) {
    meta.log_staged_ingress = log;
    meta.next = next;
}
@id(0x13000017)
direct_counter(CounterType.packets_and_bytes) staged_ingress_application_counter;
@id(0x2000017)
table staged_ingress_application {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_ingress_application__go;
        staged_ingress_application__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_ingress_application_counter;
    size = SIZE_STAGED_INGRESS_APPLICATION;
}

// The same for tier baseline.
@id(0x1001801)
action staged_ingress_baseline__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001802)
action staged_ingress_baseline__log(bit<40> log, bit<8> next) {
    meta.log_staged_ingress = log;
    meta.next = next;
}
@id(0x13000018)
direct_counter(CounterType.packets_and_bytes) staged_ingress_baseline_counter;
@id(0x2000018)
table staged_ingress_baseline {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        staged_ingress_baseline__go;
        staged_ingress_baseline__log;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = staged_ingress_baseline_counter;
    size = SIZE_STAGED_INGRESS_BASELINE;
}

// The destination's rules of tier emergency.
@id(0x1001901)
action ingress_emergency__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001902)
action ingress_emergency__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001903)
action ingress_emergency__log(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.next = next;
}
@id(0x1001904)
action ingress_emergency__log__reject(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x13000019)
direct_counter(CounterType.packets_and_bytes) ingress_emergency_counter;
@id(0x2000019)
table ingress_emergency {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        ingress_emergency__go;
        ingress_emergency__reject;
        ingress_emergency__log;
        ingress_emergency__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = ingress_emergency_counter;
    size = SIZE_INGRESS_EMERGENCY;
}

// The destination's rules of tier platform.
@id(0x1001a01)
action ingress_platform__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001a02)
action ingress_platform__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001a03)
action ingress_platform__log(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.next = next;
}
@id(0x1001a04)
action ingress_platform__log__reject(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1300001a)
direct_counter(CounterType.packets_and_bytes) ingress_platform_counter;
@id(0x200001a)
table ingress_platform {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        ingress_platform__go;
        ingress_platform__reject;
        ingress_platform__log;
        ingress_platform__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = ingress_platform_counter;
    size = SIZE_INGRESS_PLATFORM;
}

// The destination's rules of tier application; at its end, isolation.
@id(0x1001b01)
action ingress_application__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001b02)
action ingress_application__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001b03)
action ingress_application__log(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.next = next;
}
@id(0x1001b04)
action ingress_application__log__reject(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1300001b)
direct_counter(CounterType.packets_and_bytes) ingress_application_counter;
@id(0x200001b)
table ingress_application {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        ingress_application__go;
        ingress_application__reject;
        ingress_application__log;
        ingress_application__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = ingress_application_counter;
    size = SIZE_INGRESS_APPLICATION;
}

// The destination's rules of tier baseline; at its end, zone isolation or the network's default.
@id(0x1001c01)
action ingress_baseline__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001c02)
action ingress_baseline__reject(bit<8> next) {
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1001c03)
action ingress_baseline__log(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.next = next;
}
@id(0x1001c04)
action ingress_baseline__log__reject(bit<40> log, bit<8> next) {
    meta.log_ingress = log;
    meta.told = TOLD_REJECT;
    meta.next = next;
}
@id(0x1300001c)
direct_counter(CounterType.packets_and_bytes) ingress_baseline_counter;
@id(0x200001c)
table ingress_baseline {
    key = {
        meta.src_id: ternary @name("src_id");
        meta.dst_id: ternary @name("dst_id");
        meta.src_class: ternary @name("src_class");
        meta.service: ternary @name("service");
        meta.conn: ternary @name("conn");
    }
    actions = {
        ingress_baseline__go;
        ingress_baseline__reject;
        ingress_baseline__log;
        ingress_baseline__log__reject;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = ingress_baseline_counter;
    size = SIZE_INGRESS_BASELINE;
}

// What is allowed gets here: new connections are committed.
@id(0x1001d01)
action verdict__go(bit<8> next) {
    meta.next = next;
}
@id(0x1300001d)
direct_counter(CounterType.packets_and_bytes) verdict_counter;
@id(0x200001d)
table verdict {
    key = {
        meta.eth_type: ternary @name("eth_type");
    }
    actions = {
        verdict__go;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = verdict_counter;
    size = SIZE_VERDICT;
}

// Compares what leaves by a tunnel with what the underlay has room for. What leaves for another edge gets the Ethernet source that says from where it comes.
@id(0x1001e01)
action fit__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001e02)
action fit__check_size(bit<16> most, bit<8> next) {
    meta.check_size = 1;
    meta.most = most;
    meta.next = next;
}
@id(0x1001e03)
action fit__set_eth_dst__check_size(bit<48> eth_dst, bit<16> most, bit<8> next) {
    hdr.ethernet.dst = eth_dst;
    meta.check_size = 1;
    meta.most = most;
    meta.next = next;
}
@id(0x1300001e)
direct_counter(CounterType.packets_and_bytes) fit_counter;
@id(0x200001e)
table fit {
    key = {
        meta.out_tunnel: ternary @name("out_tunnel");
        meta.to_peer: ternary @name("to_peer");
        meta.conn: ternary @name("conn");
    }
    actions = {
        fit__go;
        fit__check_size;
        fit__set_eth_dst__check_size;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = fit_counter;
    size = SIZE_FIT;
}

// Out of the port that was found, tagged where its uplink is; what does not fit the underlay goes on.
@id(0x1001f01)
action deliver__go(bit<8> next) {
    meta.next = next;
}
@id(0x1001f02)
action deliver__dec_ttl__set_eth_src__send(bit<48> eth_src, bit<8> next) {
    meta.dec_ttl = 1;
    hdr.ethernet.src = eth_src;
    meta.leave = meta.chosen;
    meta.next = next;
}
@id(0x1001f03)
action deliver__push_out_vlan__send(bit<8> next) {
    meta.vlan = 1w1 ++ meta.out_vlan;
    meta.leave = meta.chosen;
    meta.next = next;
}
@id(0x1001f04)
action deliver__send(bit<8> next) {
    meta.leave = meta.chosen;
    meta.next = next;
}
@id(0x1001f05)
action deliver__too_big(bit<16> mtu, bit<8> next) {
    meta.told = TOLD_TOO_BIG;
    meta.mtu = mtu;
    meta.next = next;
}
@id(0x1300001f)
direct_counter(CounterType.packets_and_bytes) deliver_counter;
@id(0x200001f)
table deliver {
    key = {
        meta.out_vlan: ternary @name("out_vlan");
        meta.out_tunnel: ternary @name("out_tunnel");
        meta.too_big: ternary @name("too_big");
        meta.routed: ternary @name("routed");
        meta.eth_type: ternary @name("eth_type");
    }
    actions = {
        deliver__go;
        deliver__dec_ttl__set_eth_src__send;
        deliver__push_out_vlan__send;
        deliver__send;
        deliver__too_big;
        @defaultonly miss;
    }
    const default_action = miss();
    counters = deliver_counter;
    size = SIZE_DELIVER;
}
