//! Where workloads' interfaces are plugged in, and who says so.

use bulkhead_client::Client;
use bulkhead_types::{Resource, SeenAttachment, model::*};
use std::collections::BTreeMap;

/// What hosts tell of interfaces whose documents do not say where they are, by workload and MAC address.
#[derive(Default)]
pub struct Seen(BTreeMap<(String, String), SeenAttachment>);

/// An interface's place.
pub struct Place {
    /// The switch.
    pub switch: String,
    /// The port, by name or number.
    pub port: String,
    /// Who says so: `document`, the workload's own, or `host`, the switch's.
    pub from: &'static str,
}

impl Seen {
    /// What is told of these resources; nobody is asked if their documents say all.
    pub fn of<'a>(client: &Client, resources: impl IntoIterator<Item = &'a Resource>) -> anyhow::Result<Self> {
        let open = resources.into_iter().filter_map(|resource| match resource {
            Resource::Workload(workload) => {
                workload.interfaces.iter().any(|interface| interface.attachment.is_none()).then_some(workload)
            }
            _ => None,
        });
        let open: Vec<_> = open.collect();
        let found = match open.as_slice() {
            [] => return Ok(Self::default()),
            [one] => client.attachments(Some(one.name.as_str()))?,
            _ => client.attachments(None)?,
        };
        Ok(Self(found.into_iter().map(|seen| ((seen.workload.clone(), seen.mac.clone()), seen)).collect()))
    }

    /// Where an interface is plugged in.
    pub fn place(&self, workload: &Workload, interface: &Interface) -> Option<Place> {
        if let Some(at) = &interface.attachment {
            return Some(Place { switch: at.switch.to_string(), port: at.port.to_string(), from: "document" });
        }
        let seen = self.0.get(&(workload.name.to_string(), interface.mac.to_string()))?;
        Some(Place { switch: seen.switch.clone(), port: seen.port.clone(), from: "host" })
    }

    /// A workload's places, in the order of its interfaces, for people: `(seen)` is behind what its document does not
    /// say.
    pub fn places(&self, workload: &Workload) -> impl Iterator<Item = String> {
        let places = workload.interfaces.iter().filter_map(|interface| self.place(workload, interface));
        places.map(|at| format!("{}:{}{}", at.switch, at.port, if at.from == "host" { "(seen)" } else { "" }))
    }
}
