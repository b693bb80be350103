// A packet that was dropped, on its way to the controller, which tells its sender or writes a line (docs/p4.md).
control Telling(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    apply {
        hdr.packet_in.setValid();
        // It may be here for a line alone.
        hdr.packet_in.told = 0;
        if (meta.next == DROP) {
            hdr.packet_in.told = meta.told;
        }
        hdr.packet_in.in_port = meta.in_port;
        hdr.packet_in.vlan = 4w0 ++ meta.in_vlan;
        hdr.packet_in.teller = meta.teller;
        hdr.packet_in.mtu = meta.mtu;
        hdr.packet_in.asker = meta.src_id;
        hdr.packet_in.asked = meta.dst_id;
        // An answer was judged as the question that it answers.
        if ((meta.conn & CONN_IS_REPLY) != 0) {
            hdr.packet_in.asker = meta.dst_id;
            hdr.packet_in.asked = meta.src_id;
        }
        hdr.packet_in.tun_src = meta.tun_src;
        hdr.packet_in.tun_id = meta.tun_id;
        hdr.packet_in.tun_identity = meta.tun_identity;
        hdr.packet_in.log_staged_egress = meta.log_staged_egress;
        hdr.packet_in.log_egress = meta.log_egress;
        hdr.packet_in.log_staged_ingress = meta.log_staged_ingress;
        hdr.packet_in.log_ingress = meta.log_ingress;
        truncate(TOLD_LENGTH);
        standard.egress_spec = PORT_CONTROLLER;
    }
}

// A copy of a packet that leaves, for a line about it.
control Copying(inout headers_t hdr, inout meta_t meta) {
    apply {
        hdr.outer_ethernet.setInvalid();
        hdr.outer_ipv4.setInvalid();
        hdr.outer_ipv6.setInvalid();
        hdr.outer_udp.setInvalid();
        hdr.vxlan.setInvalid();
        hdr.geneve.setInvalid();
        hdr.geneve_option.setInvalid();
        hdr.packet_in.setValid();
        hdr.packet_in.told = 0;
        hdr.packet_in.in_port = meta.in_port;
        hdr.packet_in.vlan = 0;
        hdr.packet_in.teller = 0;
        hdr.packet_in.mtu = 0;
        hdr.packet_in.asker = 0;
        hdr.packet_in.asked = 0;
        hdr.packet_in.tun_src = meta.tun_src;
        hdr.packet_in.tun_id = meta.tun_id;
        hdr.packet_in.tun_identity = meta.tun_identity;
        hdr.packet_in.log_staged_egress = meta.log_staged_egress;
        hdr.packet_in.log_egress = meta.log_egress;
        hdr.packet_in.log_staged_ingress = meta.log_staged_ingress;
        hdr.packet_in.log_ingress = meta.log_ingress;
        truncate(TOLD_LENGTH);
    }
}

// No line is written about a packet.
control Unlogged(inout meta_t meta) {
    apply {
        meta.log_staged_egress = 0;
        meta.log_egress = 0;
        meta.log_staged_ingress = 0;
        meta.log_ingress = 0;
    }
}
