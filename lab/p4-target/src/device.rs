//! A device's program and what is written to it: without sockets, so that every rule can be tested alone.

use crate::Forward;
use bulkhead_p4runtime::{
    Info, check,
    proto::{
        google,
        p4::v1::{
            self as p4, Entity, ForwardingPipelineConfig, PacketOut, Update,
            get_forwarding_pipeline_config_request::ResponseType, set_forwarding_pipeline_config_request::Action,
            write_request::Atomicity,
        },
    },
};
use prost::Message as _;
use std::sync::Arc;
use tonic::{Code, Status};

mod state;
#[cfg(test)]
mod tests;

pub use state::{Place, State};

/// Longest text of an error, in characters: those of a batch travel together in a header.
const MAX_WHY: usize = 200;

/// Most counters and meters in arrays: all of them can be read at once.
const MAX_COUNTERS: u64 = 1 << 20;

/// Why an update or a pattern was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// With which code.
    pub code: Code,
    /// For people.
    pub why: String,
}

impl Refused {
    fn new(code: Code, why: impl Into<String>) -> Self {
        Self { code, why: why.into() }
    }
}

impl From<check::Refusal> for Refused {
    fn from(refusal: check::Refusal) -> Self {
        Self { code: refusal.code(), why: refusal.to_string() }
    }
}

/// A program, and what is written to it.
#[derive(Debug)]
struct Program {
    config: ForwardingPipelineConfig,
    state: State,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    forward: Box<dyn Forward>,
    live: Option<Program>,
    /// Verified and saved, and not in force yet; what is written is written to it (P4Runtime §14).
    saved: Option<Program>,
}

impl Device {
    /// A device that has no program yet.
    #[must_use]
    pub fn new(forward: Box<dyn Forward>) -> Self {
        Self { forward, live: None, saved: None }
    }

    /// The program that calls are about.
    #[must_use]
    pub fn info(&self) -> Option<&Info> {
        self.program().map(|program| program.state.info())
    }

    fn program(&self) -> Option<&Program> {
        self.saved.as_ref().or(self.live.as_ref())
    }

    /// P4Runtime §14.
    ///
    /// # Errors
    /// What is wrong with the program, or with what was asked for.
    pub fn set_program(&mut self, action: Action, config: Option<ForwardingPipelineConfig>) -> Result<(), Status> {
        if action == Action::Commit {
            if config.is_some() {
                return Err(Status::invalid_argument("a program where the saved one is to be put in force"));
            }
            let saved = self.saved.take().ok_or_else(|| Status::not_found("no program is saved"))?;
            self.put_in_force(saved);
            return Ok(());
        }
        let config = config.ok_or_else(|| Status::invalid_argument("no program"))?;
        let p4info = config.p4info.as_ref().ok_or_else(|| Status::invalid_argument("a program without P4Info"))?;
        let info = Info::new(p4info).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let sizes = info.counters().map(|counter| counter.size).chain(info.meters().map(|meter| meter.size));
        let counters = sizes.fold(0_u64, u64::saturating_add);
        if counters > MAX_COUNTERS {
            return Err(Status::invalid_argument(format!("{counters} counters and meters, {MAX_COUNTERS} at most")));
        }
        self.forward.verify(&info, &config.p4_device_config).map_err(Status::invalid_argument)?;
        let mut program = Program { config, state: State::new(Arc::new(info)) };
        match action {
            Action::Unspecified | Action::Commit => return Err(Status::invalid_argument("nothing is asked for")),
            Action::Verify => {}
            Action::VerifyAndSave => self.saved = Some(program),
            Action::VerifyAndCommit => self.put_in_force(program),
            Action::ReconcileAndCommit => {
                for entity in self.live.iter().flat_map(|live| live.state.inserts()) {
                    let stays = program.state.apply(&entity);
                    stays.map_err(|refused| Status::invalid_argument(format!("an entity cannot stay: {refused}")))?;
                }
                self.put_in_force(program);
            }
        }
        Ok(())
    }

    fn put_in_force(&mut self, program: Program) {
        self.saved = None;
        self.forward.program(&program.state, &program.config.p4_device_config);
        self.live = Some(program);
    }

    /// P4Runtime §15. `None` if there is no program.
    #[must_use]
    pub fn get_program(&self, what: ResponseType) -> Option<ForwardingPipelineConfig> {
        let config = &self.program()?.config;
        let (info, device) = match what {
            ResponseType::All => (true, true),
            ResponseType::CookieOnly => (false, false),
            ResponseType::P4infoAndCookie => (true, false),
            ResponseType::DeviceConfigAndCookie => (false, true),
        };
        Some(ForwardingPipelineConfig {
            p4info: config.p4info.clone().filter(|_| info),
            p4_device_config: if device { config.p4_device_config.clone() } else { Vec::new() },
            cookie: config.cookie,
        })
    }

    /// P4Runtime §12, but for who may. All three atomicities are offered: packets see a batch as a whole.
    ///
    /// # Errors
    /// There is no program, or at least one update was refused: then the details say what became of each.
    pub fn write(&mut self, updates: Vec<Update>, atomicity: Atomicity) -> Result<(), Status> {
        let Self { forward, live, saved } = self;
        let in_force = saved.is_none();
        let program = saved.as_mut().or(live.as_mut());
        let program = program.ok_or_else(|| Status::failed_precondition("there is no program yet"))?;
        let all_or_none = atomicity != Atomicity::ContinueOnError;
        let mut results = Vec::with_capacity(updates.len());
        let (mut done, mut undo) = (Vec::new(), Vec::new());
        let mut failed = false;
        for mut update in updates {
            if failed && all_or_none {
                results.push(Err(Refused::new(Code::Aborted, "not tried: another update of the batch failed")));
                continue;
            }
            if let Some(entity) = &mut update.entity {
                bulkhead_p4runtime::entry::normalise(entity);
            }
            let result = program.state.apply_counted(&update, forward.as_ref());
            failed |= result.is_err();
            results.push(result.map(|before| {
                undo.push(before);
                done.push(update);
            }));
        }
        if failed && all_or_none {
            for before in undo.into_iter().rev() {
                program.state.undo(before);
            }
            for result in results.iter_mut().filter(|result| result.is_ok()) {
                *result = Err(Refused::new(Code::Aborted, "undone: another update of the batch failed"));
            }
        } else if in_force && !done.is_empty() {
            forward.changed(&program.state, &done);
        }
        if failed { Err(batch_status("some updates failed", &results)) } else { Ok(()) }
    }

    /// P4Runtime §13: what the patterns fit, and what to end the answer with.
    pub fn read(&self, patterns: &[Entity]) -> (Vec<Entity>, Result<(), Status>) {
        let Some(program) = self.program() else {
            return (Vec::new(), Err(Status::failed_precondition("there is no program yet")));
        };
        let mut read = Vec::new();
        let mut results = Vec::new();
        for pattern in patterns {
            let mut pattern = pattern.clone();
            bulkhead_p4runtime::entry::normalise(&mut pattern);
            results.push(program.state.read(&pattern, self.forward.as_ref(), &mut read));
        }
        match results.iter().any(Result::is_err) {
            true => (read, Err(batch_status("some patterns are wrong", &results))),
            false => (read, Ok(())),
        }
    }

    /// A packet from the controller (P4Runtime §16.1).
    ///
    /// # Errors
    /// Its metadata does not fit the program, or there is none.
    pub fn packet_out(&mut self, packet: PacketOut) -> Result<(), Refused> {
        let info = self.live.as_ref().map(|program| program.state.info());
        let info = info.ok_or_else(|| Refused::new(Code::FailedPrecondition, "there is no program yet"))?;
        check::packet(info.packet_out(), &packet.metadata)?;
        self.forward.packet_out(packet);
        Ok(())
    }

    /// How a digest is to be sent; `None` if it is not to be.
    #[must_use]
    pub fn digest_config(&self, digest: u32) -> Option<p4::digest_entry::Config> {
        let entry = self.live.as_ref()?.state.entities().get(&Place::Digest(digest))?;
        match &entry.entity {
            Some(p4::entity::Entity::DigestEntry(entry)) => Some(entry.config.unwrap_or_default()),
            _ => None,
        }
    }
}

/// What became of each part of a batch (P4Runtime §10).
fn batch_status(why: &str, results: &[Result<(), Refused>]) -> Status {
    let detail = |result: &Result<(), Refused>| {
        let error = match result {
            Ok(()) => p4::Error::default(),
            Err(refused) => p4::Error {
                canonical_code: refused.code as i32,
                message: refused.why.chars().take(MAX_WHY).collect(),
                ..Default::default()
            },
        };
        prost_types::Any { type_url: "type.googleapis.com/p4.v1.Error".to_owned(), value: error.encode_to_vec() }
    };
    let details = results.iter().map(detail).collect();
    let status = google::rpc::Status { code: Code::Unknown as i32, message: why.to_owned(), details };
    Status::with_details(Code::Unknown, why, status.encode_to_vec().into())
}
