//! Those who look for addresses that nobody has: their questions go out where somebody may be whom nobody knows.

use super::{UNHEARD, Unheard, at_port, has};
use crate::links::is_taken;
use bulkhead_dataplane::{Outgoing, PortState};
use bulkhead_policy::{
    State,
    model::{Attachment, Network},
};
use bulkhead_topology::{Mac, Name};
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

/// Not asked for again within this; hosts ask every second.
const ASK_AGAIN: Duration = Duration::from_millis(900);
/// How long a question is kept whose asker is not known yet.
const PATIENCE: Duration = Duration::from_secs(5);
/// Addresses that are asked for within [`ASK_AGAIN`], at most: each question goes out of many ports.
pub(super) const MAX_TARGETS: usize = 16;
/// Ports that a question goes out of, at most.
const MAX_ASKED: usize = 2_000;

/// Somebody looks for an address that nobody has.
#[derive(Debug)]
pub(super) struct Question {
    asker: (Mac, IpAddr),
    frame: Vec<u8>,
    until: Duration,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Questions {
    /// Those that were not passed on yet, by whom they are for.
    pub open: BTreeMap<IpAddr, Question>,
    /// What was asked for, and until when it is not again.
    asked: BTreeMap<IpAddr, Duration>,
}

impl Questions {
    /// Somebody asks for `target` with this frame. False if there are too many questions.
    pub fn add(&mut self, target: IpAddr, asker: (Mac, IpAddr), frame: &[u8], now: Duration) -> bool {
        self.asked.retain(|_, until| *until > now);
        if self.asked.contains_key(&target) || self.open.contains_key(&target) {
            return true;
        }
        let room = self.asked.len() + self.open.len() < MAX_TARGETS;
        if room {
            self.open.insert(target, Question { asker, frame: frame.to_vec(), until: now + PATIENCE });
        }
        room
    }

    /// What is to be sent, by switch: each asker's own question, out of every port where somebody may be whom nobody knows.
    pub fn ask(
        &mut self,
        ports: &BTreeMap<Name, Vec<PortState>>,
        state: &State,
        network: &Network,
        unheard: Unheard<'_>,
        now: Duration,
    ) -> BTreeMap<Name, Vec<Outgoing>> {
        let mut out: BTreeMap<Name, Vec<Outgoing>> = BTreeMap::new();
        self.asked.retain(|_, until| *until > now);
        for (target, question) in std::mem::take(&mut self.open) {
            if state.workload_at(&network.name, target).is_some() || question.until <= now {
                continue;
            }
            let (mac, ip) = question.asker;
            if !has(state, network, mac, ip) {
                // Who asks is to be known before.
                self.open.insert(target, question);
                continue;
            }
            self.asked.insert(target, now + ASK_AGAIN);
            let asker = state.workload_with(&network.name, mac).and_then(|known| at_port(known, mac));
            let up = ports.iter().flat_map(|(switch, ports)| {
                let up = ports.iter().filter(|port| port.up);
                up.filter_map(move |port| Some((Attachment { switch: switch.clone(), port: port.port()? }, port)))
            });
            let may_be = up.filter(|(at, port)| {
                let learned = state.workload_on(at).is_some_and(|known| known.is_learned());
                let open = || {
                    !is_taken(state, &at.switch, port)
                        && unheard(&at.switch, port).is_some_and(|since| since + UNHEARD <= now)
                };
                asker != Some(at) && (learned || open())
            });
            for (at, _) in may_be.take(MAX_ASKED) {
                let outgoing = Outgoing { port: at.port, frame: question.frame.clone() };
                out.entry(at.switch).or_default().push(outgoing);
            }
        }
        out
    }
}
