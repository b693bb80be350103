//! A barrier before the host: what comes in by a device is taken by nobody above it.
//!
//! It is a chain of nf_tables without rules that drops, at the ingress of the device (nft(8), family netdev). A bridge
//! has carried on by then what is for its other ports; the chain sees what it hands up to the host. The few messages
//! that it takes are written here (linux/netfilter/nf_tables.h, nfnetlink.h).

use crate::error::Error;
use crate::socket::Netlink;

const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
const NEW_TABLE: u16 = SUBSYSTEM << 8;
const DELETE_TABLE: u16 = SUBSYSTEM << 8 | 2;
const NEW_CHAIN: u16 = SUBSYSTEM << 8 | 3;
const GET_CHAIN: u16 = SUBSYSTEM << 8 | 4;

/// Tables of devices (NFPROTO_NETDEV).
const NETDEV: u8 = 5;

const TABLE_NAME: u16 = 1;
const CHAIN_TABLE: u16 = 1;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const HOOK_NUMBER: u16 = 1;
const HOOK_PRIORITY: u16 = 2;
const HOOK_DEVICE: u16 = 3;
const NESTED: u16 = 1 << 15;

/// Both the number of the hook at a device's ingress (NF_NETDEV_INGRESS), the priority, and the verdict (NF_DROP).
const ZERO: [u8; 4] = [0; 4];

/// The name of the chain; the table is called as the device.
const CHAIN: &str = "barrier";

/// Of messages (netlink(7)).
const REQUEST: u16 = 1;
const ACKNOWLEDGE: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE: u16 = 0x400;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Lengths of a message's header, and of that with nf_tables' own.
const HEADER: usize = 16;
const FAMILY_HEADER: usize = HEADER + 4;

impl Netlink {
    /// Puts a barrier behind a device, whatever it had. The table of nf_tables that is called as the device is ours.
    ///
    /// # Errors
    /// When there is no such device, or the kernel has no nf_tables.
    pub fn add_barrier(&mut self, device: &str) -> Result<(), Error> {
        let what = || format!("the barrier behind {device}");
        let hook: Vec<u8> =
            [attribute(HOOK_NUMBER, &ZERO), attribute(HOOK_PRIORITY, &ZERO), attribute(HOOK_DEVICE, &text(device))]
                .concat();
        let chain = [
            attribute(CHAIN_TABLE, &text(device)),
            attribute(CHAIN_NAME, &text(CHAIN)),
            attribute(CHAIN_HOOK | NESTED, &hook),
            attribute(CHAIN_POLICY, &ZERO),
            attribute(CHAIN_TYPE, &text("filter")),
        ]
        .concat();
        let table = || attribute(TABLE_NAME, &text(device));
        // Made if it is not there, so that it can go with what is in it, and made anew: all of it at once.
        let messages = [
            (NEW_TABLE, CREATE, table()),
            (DELETE_TABLE, 0, table()),
            (NEW_TABLE, CREATE, table()),
            (NEW_CHAIN, CREATE, chain),
        ];
        self.batch(&what, &messages)
    }

    /// Takes away the barrier behind a device, which may be gone.
    ///
    /// # Errors
    /// When there is none.
    pub fn remove_barrier(&mut self, device: &str) -> Result<(), Error> {
        let table = attribute(TABLE_NAME, &text(device));
        let what = || format!("removal of the barrier behind {device}");
        self.batch(&what, &[(DELETE_TABLE, 0, table)])
    }

    /// The devices that have a barrier behind them, as [`Netlink::add_barrier`] makes it.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn barriers(&mut self) -> Result<Vec<String>, Error> {
        let what = || "the list of barriers".to_owned();
        let number = self.numbers(1);
        let socket = self.netfilter(&what)?;
        let mut question = Vec::new();
        put(&mut question, GET_CHAIN, DUMP, NETDEV, 0, number, &[]);
        let failed = |cause| Error::Socket { what: what(), cause };
        socket.send(&question, 0).map_err(failed)?;
        let mut found = Vec::new();
        loop {
            let (datagram, _) = socket.recv_from_full().map_err(failed)?;
            for (kind, _, body) in messages(&datagram).filter(|(_, of, _)| *of == number) {
                match kind {
                    DONE => return Ok(found),
                    ERROR => return Err(refused(&what, body)),
                    NEW_CHAIN => found.extend(read(body.get(4..).unwrap_or_default())),
                    _ => {}
                }
            }
        }
    }

    /// Messages that are carried out all or none.
    fn batch(&mut self, what: &dyn Fn() -> String, batch: &[(u16, u16, Vec<u8>)]) -> Result<(), Error> {
        let first = self.numbers(u32::try_from(batch.len()).unwrap_or(u32::MAX));
        let socket = self.netfilter(what)?;
        let mut bytes = Vec::new();
        put(&mut bytes, BATCH_BEGIN, 0, 0, SUBSYSTEM, first, &[]);
        for (number, (kind, flags, attributes)) in (first..).zip(batch) {
            put(&mut bytes, *kind, flags | ACKNOWLEDGE, NETDEV, 0, number, attributes);
        }
        put(&mut bytes, BATCH_END, 0, 0, SUBSYSTEM, first, &[]);
        let failed = |cause| Error::Socket { what: what(), cause };
        socket.send(&bytes, 0).map_err(failed)?;
        let mut acknowledged = 0;
        while acknowledged < batch.len() {
            let (datagram, _) = socket.recv_from_full().map_err(failed)?;
            // What is left of an earlier batch that was refused is another one's.
            let ours = |of: u32| of.checked_sub(first).is_some_and(|at| (at as usize) < batch.len());
            for (_, _, body) in messages(&datagram).filter(|(kind, of, _)| *kind == ERROR && ours(*of)) {
                match body.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
                    Some(0) => acknowledged += 1,
                    _ => return Err(refused(what, body)),
                }
            }
        }
        Ok(())
    }
}

/// The device of a chain, if it is a barrier of ours.
fn read(body: &[u8]) -> Option<String> {
    let (mut table, mut name, mut device, mut policy) = (None, None, None, None);
    for (kind, value) in attributes(body) {
        let string = || std::str::from_utf8(value).ok().map(|text| text.trim_end_matches('\0').to_owned());
        match kind {
            CHAIN_TABLE => table = string(),
            CHAIN_NAME => name = string(),
            CHAIN_POLICY => policy = Some(value),
            CHAIN_HOOK => {
                let told = attributes(value).find(|(kind, _)| *kind == HOOK_DEVICE);
                device = told.and_then(|(_, value)| std::str::from_utf8(value).ok());
            }
            _ => {}
        }
    }
    let device = device?.trim_end_matches('\0').to_owned();
    let ours = table.as_ref() == Some(&device) && name.as_deref() == Some(CHAIN) && policy == Some(&ZERO[..]);
    ours.then_some(device)
}

fn refused(what: &dyn Fn() -> String, body: &[u8]) -> Error {
    let code = body.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    Error::Refused { what: what(), cause: std::io::Error::from_raw_os_error(code.wrapping_neg()) }
}

/// The messages of a datagram: kind, number of the question, and what follows the header.
fn messages(datagram: &[u8]) -> impl Iterator<Item = (u16, u32, &[u8])> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = u32::from_ne_bytes(*rest.first_chunk()?) as usize;
        let kind = u16::from_ne_bytes(*rest.get(4..)?.first_chunk()?);
        let number = u32::from_ne_bytes(*rest.get(8..)?.first_chunk()?);
        let body = rest.get(HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, number, body))
    })
}

/// Attributes: kind and value.
fn attributes(body: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let length = usize::from(u16::from_ne_bytes(*rest.first_chunk()?));
        let kind = u16::from_ne_bytes(*rest.get(2..)?.first_chunk()?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & !NESTED, value))
    })
}

fn text(text: &str) -> Vec<u8> {
    text.bytes().chain([0]).collect()
}

fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    // Names and lists of names: no value comes near 64 KiB.
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn put(bytes: &mut Vec<u8>, kind: u16, flags: u16, family: u8, resource: u16, number: u32, attributes: &[u8]) {
    let length = u32::try_from(FAMILY_HEADER + attributes.len()).unwrap_or(u32::MAX);
    bytes.extend(length.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((flags | REQUEST).to_ne_bytes());
    bytes.extend(number.to_ne_bytes());
    bytes.extend(0u32.to_ne_bytes());
    bytes.extend([family, 0]);
    bytes.extend(resource.to_be_bytes());
    bytes.extend(attributes);
}
