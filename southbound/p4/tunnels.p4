// Tunnels between switches: who takes off what is in front of a frame, and who puts it on.

// What comes by a port of the underlay. It ends here, in `classify`, where no entry knows it, or comes once more without
// what is in front of it.
control Receiving(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    apply {
        bit<16> port = meta.in_port;
        address_t target = meta.addr_dst;
        bool sound = meta.broken == 0 && meta.vlan == 0 && hdr.ethernet.src[40:40] == 0;
        if (meta.eth_type != ETHERTYPE_IPV6) {
            target = MAPPED | meta.addr_dst;
        } else if (meta.addr_dst[127:32] == MAPPED[127:32]) {
            sound = false;
        }
        sound = sound && target == meta.own_address;
        meta.in_port = PORT_UNDERLAY;
        meta.next = 0;
        if (sound && hdr.arp.isValid() && meta.protocol == 1) {
            hdr.ethernet.dst = hdr.ethernet.src;
            hdr.ethernet.src = meta.own_mac;
            hdr.arp.op = 2;
            hdr.arp.tha = hdr.arp.sha;
            hdr.arp.sha = meta.own_mac;
            hdr.arp.tpa = hdr.arp.spa;
            hdr.arp.spa = meta.own_address[31:0];
            meta.leave = port;
            meta.back = 1;
            meta.next = DONE;
        } else if (sound && hdr.nd.isValid() && hdr.icmp.kind == 135 && meta.ip_ttl == 255 && hdr.ipv6.src != 0
                && (!hdr.nd_lla.isValid() || meta.nd_option == 1)) {
            hdr.ethernet.dst = hdr.ethernet.src;
            hdr.ethernet.src = meta.own_mac;
            hdr.ipv6.dst = hdr.ipv6.src;
            hdr.ipv6.src = meta.own_address;
            hdr.icmp.kind = 136;
            // Solicited, and to be believed over what was known (RFC 4861 section 4.4).
            hdr.nd.reserved = 0x60000000;
            if (hdr.nd_lla.isValid()) {
                hdr.nd_lla.kind = 2;
                hdr.nd_lla.address = meta.own_mac;
            }
            meta.leave = port;
            meta.back = 1;
            meta.next = DONE;
        } else if (sound && hdr.udp.isValid() && !hdr.fragment.isValid() && hdr.ethernet.dst == meta.own_mac
                && (hdr.udp.dst == UDP_VXLAN || hdr.udp.dst == UDP_GENEVE)) {
            meta.in_port = PORT_VXLAN;
            if (hdr.udp.dst == UDP_GENEVE) {
                meta.in_port = PORT_GENEVE;
            }
            // What is not as long as it says, is a fragment, or has options counts with what no network owns.
            bit<32> behind = (bit<32>) meta.payload + 34;
            if (hdr.ipv6.isValid()) {
                behind = (bit<32>) meta.payload + 54;
            }
            if (meta.ip_frag == 0 && !hdr.ipv4_options.isValid()
                    && hdr.udp.length == meta.payload && behind == meta.length) {
                meta.decap = 1;
                meta.next = DROP;
                resubmit_preserving_field_list(1);
            }
        }
    }
}

// In front of what leaves by a tunnel, once the next hop was found.
control Sending(inout headers_t hdr, inout meta_t meta, in bit<16> tunnel) {
    apply {
        bit<16> length = (bit<16>) meta.length;
        if (hdr.vlan.isValid()) {
            length = length + 4;
        }
        if (tunnel == PORT_VXLAN) {
            hdr.vxlan.setValid();
            hdr.vxlan.flags = VXLAN_VNI;
            if (meta.tun_identity != 0) {
                hdr.vxlan.flags = VXLAN_GROUP;
            }
            hdr.vxlan.more = 0;
            hdr.vxlan.group = meta.tun_identity[15:0];
            hdr.vxlan.vni = meta.tun_id;
            hdr.vxlan.reserved = 0;
            length = length + 8;
        } else {
            hdr.geneve.setValid();
            hdr.geneve.version = 0;
            hdr.geneve.option_words = 2;
            hdr.geneve.control_packet = 0;
            hdr.geneve.critical = 0;
            hdr.geneve.reserved = 0;
            hdr.geneve.protocol = GENEVE_ETHERNET;
            hdr.geneve.vni = meta.tun_id;
            hdr.geneve.more = 0;
            hdr.geneve_option.setValid();
            hdr.geneve_option.class = OPTION_CLASS;
            hdr.geneve_option.kind = OPTION_KIND;
            hdr.geneve_option.reserved = 0;
            hdr.geneve_option.words = 1;
            hdr.geneve_option.identity = meta.tun_identity;
            length = length + 16;
        }
        length = length + 8;
        hdr.outer_udp.setValid();
        hdr.outer_udp.src = meta.flow;
        hdr.outer_udp.dst = tunnel == PORT_VXLAN ? UDP_VXLAN : UDP_GENEVE;
        hdr.outer_udp.length = length;
        // What is inside has checksums of its own (RFC 7348 section 5, RFC 6935).
        hdr.outer_udp.checksum = 0;
        hdr.outer_ethernet.setValid();
        hdr.outer_ethernet.dst = meta.hop_mac;
        hdr.outer_ethernet.src = meta.own_mac;
        if (meta.own_address[127:32] == MAPPED[127:32]) {
            hdr.outer_ethernet.ether_type = ETHERTYPE_IPV4;
            hdr.outer_ipv4.setValid();
            hdr.outer_ipv4.version = 4;
            hdr.outer_ipv4.ihl = 5;
            hdr.outer_ipv4.tos = 0;
            hdr.outer_ipv4.total_length = length + 20;
            // Not to be put in pieces, so of none (RFC 6864 section 4.1).
            hdr.outer_ipv4.identification = 0;
            hdr.outer_ipv4.flags = 2;
            hdr.outer_ipv4.offset = 0;
            hdr.outer_ipv4.ttl = OUTER_TTL;
            hdr.outer_ipv4.protocol = PROTOCOL_UDP;
            hdr.outer_ipv4.src = meta.own_address[31:0];
            hdr.outer_ipv4.dst = meta.tun_dst[31:0];
        } else {
            hdr.outer_ethernet.ether_type = ETHERTYPE_IPV6;
            hdr.outer_ipv6.setValid();
            hdr.outer_ipv6.version = 6;
            hdr.outer_ipv6.traffic_class = 0;
            hdr.outer_ipv6.flow_label = 0;
            hdr.outer_ipv6.payload_length = length;
            hdr.outer_ipv6.next_header = PROTOCOL_UDP;
            hdr.outer_ipv6.hop_limit = OUTER_TTL;
            hdr.outer_ipv6.src = meta.own_address;
            hdr.outer_ipv6.dst = meta.tun_dst;
        }
    }
}
