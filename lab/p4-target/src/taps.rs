//! Ports that are TAP interfaces: the other end of each is a network interface of this machine's, with whoever is to be
//! plugged in. Frames have their tags there, and sums that are left to the interface are filled in.

use anyhow::{Context as _, Result, anyhow, ensure};
use bulkhead_driver_p4::layout::MAX_PORT;
use bulkhead_netlink::Namespace;
use bulkhead_p4_target::{Sent, Software};
use std::{collections::BTreeMap, str::FromStr, sync::Arc};
use tokio::runtime::Handle;
use tokio_tun::Tun;

/// Longest frame that is received whole.
const FRAME_MOST: usize = 65_536;

/// Longest name of an interface (IFNAMSIZ, one byte is for the end).
const NAME_MOST: usize = 15;

/// A port, and which interface it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Port {
    number: u32,
    interface: String,
    namespace: Option<String>,
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (number, place) = text.split_once('=').ok_or("a port is NUMBER=NAME or NUMBER=NAME@NAMESPACE")?;
        let number = number.parse().ok().filter(|number| (1..=MAX_PORT).contains(number));
        let number = number.ok_or(format!("ports are numbers from 1 to {MAX_PORT}"))?;
        let (interface, namespace) = match place.split_once('@') {
            Some((interface, namespace)) => (interface, Some(namespace.to_owned())),
            None => (place, None),
        };
        if !(1..=NAME_MOST).contains(&interface.len()) {
            return Err(format!("interfaces have names of 1 to {NAME_MOST} bytes"));
        }
        Ok(Self { number, interface: interface.to_owned(), namespace })
    }
}

/// Makes the interfaces, and forwards between them until this process ends. A runtime has to be there.
/// `sent` is what the controller has it send.
pub fn open(ports: &[Port], software: &Software, mut sent: Sent) -> Result<()> {
    let mut taps = BTreeMap::new();
    for port in ports {
        let tap = make(port).with_context(|| format!("port {}: cannot make {}", port.number, port.interface))?;
        ensure!(taps.insert(port.number, tap).is_none(), "port {} is there twice", port.number);
    }
    let taps = Arc::new(taps);
    for port in ports {
        tokio::spawn(forward(port.clone(), Arc::clone(&taps), software.clone()));
    }
    tokio::spawn(async move {
        while let Some((to, frame)) = sent.recv().await {
            if let Some(tap) = taps.get(&to) {
                // Lost where nobody is plugged in, as on a wire.
                let _ = tap.send(&frame).await;
            }
        }
    });
    Ok(())
}

fn make(port: &Port) -> Result<Tun> {
    let runtime = Handle::current();
    let make = || {
        let _runtime = runtime.enter();
        Tun::builder().name(&port.interface).tap().up().build().map_err(|error| anyhow!("{error}"))
    };
    let made = match &port.namespace {
        Some(namespace) => Namespace::named(namespace).run(make)?,
        None => make(),
    };
    made?.pop().context("there is none")
}

/// Takes frames at a port until its interface is gone.
async fn forward(port: Port, taps: Arc<BTreeMap<u32, Tun>>, software: Software) {
    let Some(tap) = taps.get(&port.number) else { return };
    let mut buffer = vec![0; FRAME_MOST];
    loop {
        let length = match tap.recv(&mut buffer).await {
            Ok(length) => length,
            Err(error) => {
                eprintln!("port {} is gone: {error}", port.number);
                return;
            }
        };
        let passed = buffer.get(..length).and_then(|frame| software.pass(port.number, frame));
        if let Some((to, frame)) = passed
            && let Some(tap) = taps.get(&to)
        {
            // Lost where nobody is plugged in, as on a wire.
            let _ = tap.send(&frame).await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read() {
        let port = |namespace: Option<&str>| Port {
            number: 7,
            interface: "eth0".into(),
            namespace: namespace.map(str::to_owned),
        };
        assert_eq!("7=eth0".parse(), Ok(port(None)));
        assert_eq!("7=eth0@web".parse(), Ok(port(Some("web"))));
        for wrong in ["", "7", "eth0", "0=eth0", "510=eth0", "x=eth0", "7=", "7=@web", "7=a234567890123456"] {
            assert!(wrong.parse::<Port>().is_err(), "{wrong}");
        }
    }
}
