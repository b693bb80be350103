//! The one loop that owns the state.
//!
//! ```text
//!   API ---- Message ----> +------+ ---- ToDrivers ----> driver tasks
//!   (Handle)               | loop |                          |
//!   <-- answers, views --- +------+ <---- FromSwitch --------+
//!                             |
//!                           Store (durable before anything is answered or sent)
//! ```
//!
//! [`Core`] is what the loop owns: state, compiler, store, and a machine per switch. It has no task and
//! no clock in it; [`run`] feeds it. Others look at the accepted state through [`Handle`] without asking
//! the loop. Which protocol a switch speaks is known to nobody here: [`Drivers`] says where commands go.
//!
//! Compiling and storing happen in the loop itself, one change after another, in one order; those that wait are made
//! durable together. The loop has a
//! thread of its own ([`spawn`]), so a slow disk holds back changes and the handling of reports, but
//! neither the drivers' sessions nor readers of views.

mod apart;
mod apply;
mod core;
mod drivers;
mod event;
mod exposition;
mod fabric;
mod flow_log;
mod group;
mod handle;
mod hosts;
mod learn;
mod links;
mod load;
mod metrics;
mod numbers;
mod paths;
mod ports;
mod realization;
mod record;
mod restore;
mod run;
mod shared;
mod tunnels;

pub use crate::{
    apart::{By, Part},
    apply::{Edit, EntryCounts, Outcome, Refusal, Request, What},
    core::Core,
    drivers::{Drivers, channel},
    event::{EditNote, Event, ReportNote},
    exposition::{Histogram, metric},
    fabric::{Impostors, SwitchView},
    handle::{Gone, Handle},
    hosts::{HostView, Keeper, Quarantined},
    learn::{LearnView, NotLearned},
    links::{Foreign, LinkState, LinkView, Prober, TopologyView},
    load::{Decode, LoadError, Stored},
    metrics::Totals,
    paths::Paths,
    ports::{At, PortView},
    realization::Realization,
    record::{Recorder, ReplayError, Replayed, parse_line, replay},
    restore::{RestoreRefusal, Restoring},
    run::{Loop, run, spawn},
    shared::Accepted,
    tunnels::{TunnelState, TunnelView},
};
