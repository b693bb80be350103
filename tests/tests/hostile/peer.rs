//! An OpenFlow peer under a test's own hand.

use crate::{Fabric, PATIENCE};
use bulkhead_openflow::{
    Msg, MultipartBody, MultipartReply,
    wire::{header::VERSION, hello::Hello, port::Port, switch::Features},
};
use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Types of messages (OF 1.3.5 §7.1).
pub const HELLO: u8 = 0;
pub const FEATURES_REQUEST: u8 = 5;
pub const FEATURES_REPLY: u8 = 6;
pub const PORT_STATUS: u8 = 12;
pub const MULTIPART_REQUEST: u8 = 18;
pub const MULTIPART_REPLY: u8 = 19;

/// A message of a type with this body and a right header.
pub fn message(kind: u8, xid: u32, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + body.len()).unwrap().to_be_bytes();
    [&[VERSION, kind, length[0], length[1]], xid.to_be_bytes().as_slice(), body].concat()
}

pub fn encoded(xid: u32, msg: &Msg) -> Vec<u8> {
    let mut bytes = Vec::new();
    msg.encode(xid, &mut bytes);
    bytes
}

pub fn hello() -> Vec<u8> {
    encoded(1, &Msg::Hello(Hello::only(VERSION)))
}

pub fn features(xid: u32, datapath_id: u64) -> Vec<u8> {
    let features = Features { datapath_id, buffers: 0, tables: 254, auxiliary: 0, capabilities: 0 };
    encoded(xid, &Msg::FeaturesReply(features))
}

pub fn port(number: u32, name: &str) -> Port {
    let (mac, name) = ([2, 0, 0, 0, 0, 1], name.to_owned());
    Port { number, mac, name, config: 0, state: 0, features: [0; 4], speed_kbps: 0, max_speed_kbps: 0 }
}

pub struct Peer {
    pub stream: TcpStream,
}

impl Peer {
    /// Connected, and nothing said.
    pub fn new(fabric: &Fabric) -> Self {
        let stream = TcpStream::connect(fabric.controller.openflow).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        Self { stream }
    }

    /// Has said hello, and was asked who it is, with this transaction id.
    pub fn greeted(fabric: &Fabric) -> (Self, u32) {
        let mut peer = Self::new(fabric);
        peer.send(&hello());
        let xid = peer.asked(FEATURES_REQUEST);
        (peer, xid)
    }

    /// Through with the handshake, with the ports a and b.
    pub fn up(fabric: &Fabric, datapath: u64) -> Self {
        let (mut peer, xid) = Self::greeted(fabric);
        peer.send(&features(xid, datapath));
        let xid = peer.asked(MULTIPART_REQUEST);
        let body = MultipartBody::PortDesc(vec![port(1, "a"), port(2, "b")]);
        peer.send(&encoded(xid, &Msg::MultipartReply(MultipartReply { more: false, body })));
        peer
    }

    /// A switch that the controller drives: asked for its entries, with this transaction id.
    pub fn driven(fabric: &Fabric, datapath: u64) -> (Self, u32) {
        let mut peer = Self::up(fabric, datapath);
        let xid = peer.asked(MULTIPART_REQUEST);
        (peer, xid)
    }

    /// Sends bytes; that the other side has gone is no error.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The transaction id of the next message of this type.
    pub fn asked(&mut self, kind: u8) -> u32 {
        loop {
            let mut head = [0; 8];
            self.stream.read_exact(&mut head).unwrap_or_else(|error| panic!("waiting for type {kind}: {error}"));
            let mut body = vec![0; usize::from(u16::from_be_bytes([head[2], head[3]])) - 8];
            self.stream.read_exact(&mut body).unwrap();
            if head[1] == kind {
                return u32::from_be_bytes([head[4], head[5], head[6], head[7]]);
            }
        }
    }

    /// Whether the controller closes the connection within `limit`.
    pub fn is_closed_within(&mut self, limit: Duration) -> bool {
        self.stream.set_read_timeout(Some(limit)).unwrap();
        loop {
            match self.stream.read(&mut [0; 4096]) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => {
                    let waited = matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut);
                    return !waited;
                }
            }
        }
    }
}
