// A packet that was dropped, on its way to the controller, which tells its sender (docs/p4.md).
control Telling(inout headers_t hdr, inout meta_t meta, inout standard_metadata_t standard) {
    apply {
        hdr.packet_in.setValid();
        hdr.packet_in.told = meta.told;
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
        truncate(TOLD_LENGTH);
        standard.egress_spec = PORT_CONTROLLER;
    }
}
