//! What the API answers.
//!
//! Plain data with one JSON form; the server fills it in, the client and the CLI read it.

use crate::fabric::{LearningStatus, LinksInShort, NetworkApart};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The change is refused.
    Error,
    /// The change is accepted; something about it is probably not meant.
    Warning,
}

/// One finding about a document: where, what, and how to mend it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Diagnostic {
    /// Refused, or only remarked on.
    pub severity: Severity,
    /// The file it was read from, as the operator named it; the API itself knows none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Line in the input, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
    /// Column in the input, in characters, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u32>,
    /// The resource as `Kind/name`, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The field, as a path from the document's root; empty for the document itself.
    #[serde(default)]
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// How to mend it; empty if there is nothing to add.
    #[serde(default)]
    pub hint: String,
}

/// What a change did to one resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum ChangeKind {
    /// It did not exist before.
    Created,
    /// It existed with another value.
    Updated,
    /// It was removed.
    Deleted,
    /// It already was as asked.
    Unchanged,
}

impl ChangeKind {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Deleted => "deleted",
            Self::Unchanged => "unchanged",
        }
    }
}

/// One line of a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChangeLine {
    /// The resource's kind, as in documents.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// What happened to it.
    pub change: ChangeKind,
}

/// The answer to `POST /v1/apply` and `POST /v1/delete`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplyAnswer {
    /// The revision in force afterwards; of a dry run, the one it was held against.
    pub revision: u64,
    /// Every resource of the change, in order of kind and name.
    pub changes: Vec<ChangeLine>,
    /// Remarks; errors come as a [`Problem`] instead.
    pub diagnostics: Vec<Diagnostic>,
    /// What the change would do; only in answers to a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan: Option<PlanAnswer>,
}

/// What a change would do, without doing it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlanAnswer {
    /// Entries by switch.
    pub switches: BTreeMap<String, EntryCounts>,
    /// Pairs that could not reach each other and could afterwards.
    #[serde(default)]
    pub gained: Vec<MatrixRow>,
    /// Pairs that could reach each other and could not afterwards.
    #[serde(default)]
    pub lost: Vec<MatrixRow>,
    /// Pairs that could not reach each other afterwards, and could if the staged policies were active; those of before
    /// the change are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged_gained: Vec<MatrixRow>,
    /// Pairs that could reach each other afterwards, and could not if the staged policies were active; likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub staged_lost: Vec<MatrixRow>,
    /// How many services the pairs were compared by.
    #[serde(default)]
    pub services: usize,
    /// Why the lists are not complete; empty if they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub incomplete: String,
}

/// Entries that a change adds to, removes from and rewrites on one switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct EntryCounts {
    /// New entries.
    pub added: u64,
    /// Entries that go.
    pub removed: u64,
    /// Entries that stay with other actions.
    pub modified: u64,
}

/// A problem document (RFC 9457), the form of every error.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// What kind of problem, as a URI reference that stays the same.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind of problem in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What happened this time, and what to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// Findings about the request's documents.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes.
    Allow,
    /// It is dropped.
    Deny,
    /// It is dropped and the sender is told.
    Reject,
}

impl Verdict {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Reject => "reject",
        }
    }
}

/// One side's decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SideAnswer {
    /// The decision.
    pub verdict: Verdict,
    /// The policy whose rule or isolation decided.
    pub policy: Option<String>,
    /// The deciding rule: its name, or direction and index (`ingress[0]`), or a built-in rule's name
    /// (`builtin/...`). A side without a policy of its own has none.
    pub rule: Option<String>,
    /// The deciding policy's tier.
    pub tier: Option<String>,
    /// The zone whose isolation decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

/// A question about one connection: the body of `POST /v1/reach` and `POST /v1/trace`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FlowQuestion {
    /// A workload's name, or an address as `ip:198.51.100.7`.
    pub from: String,
    /// The same.
    pub to: String,
    /// `tcp`, `udp`, `sctp`, `icmp`, `icmpv6`, or a protocol number as text.
    pub protocol: String,
    /// Destination port, where the protocol has ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// ICMP type; echo request if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code; 0 if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// `4` or `6`; the first family that both ends have if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<u8>,
    /// The network; needed only where both ends are addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
}

/// The answer to `POST /v1/reach`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReachAnswer {
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// Where it comes from, as asked.
    pub from: String,
    /// Where it goes, as asked.
    pub to: String,
    /// The protocol's name, or its number as text.
    pub protocol: String,
    /// Destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// ICMP type, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
    /// The source's side.
    pub egress: SideAnswer,
    /// The destination's side.
    pub ingress: SideAnswer,
    /// What it would be if every staged policy were active; only where that is another answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub staged: Option<StagedAnswer>,
    /// What the verdict does not say; empty if it says all.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// What would become of a connection if every staged policy were active, and who would decide.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StagedAnswer {
    /// What would become of the connection.
    pub verdict: Verdict,
    /// The source's side.
    pub egress: SideAnswer,
    /// The destination's side.
    pub ingress: SideAnswer,
}

/// One cell of `GET /v1/matrix`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MatrixRow {
    /// What becomes of the connection.
    pub verdict: Verdict,
    /// The source workload.
    pub from: String,
    /// The destination workload.
    pub to: String,
    /// The protocol's name, or its number as text.
    pub protocol: String,
    /// Destination port, where the protocol has ports.
    pub port: Option<u16>,
    /// ICMP type, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_type: Option<u8>,
    /// ICMP code, where the protocol has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp_code: Option<u8>,
}

/// The answer to `GET /v1/status`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatusAnswer {
    /// The newest accepted revision.
    pub revision: u64,
    /// Whether changes are taken and switches are spoken to. `false` for a moment after a start, while the state that was
    /// loaded is being compiled: it can be read, switches keep what they have and are not listed, changes wait.
    pub ready: bool,
    /// Why the newest revision could not be compiled, with an older one kept in force; empty if it could.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub compile_error: String,
    /// Why changes cannot be stored and are refused, while what was accepted before is enforced; empty if they can.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub store_error: String,
    /// Every declared switch, by name.
    pub switches: Vec<SwitchStatus>,
    /// Switches that resources name and that are not declared, by name: what is there waits for them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pending: Vec<PendingSwitch>,
    /// The links between switches, in short.
    #[serde(default)]
    pub links: LinksInShort,
    /// What TLS with switches is spoken with; absent where it is not spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub southbound_tls: Option<TlsStatus>,
    /// What TLS with clients of the API is spoken with; absent where it is not spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_tls: Option<TlsStatus>,
    /// What was learned at ports, if a network learns or something was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<LearningStatus>,
    /// Networks that are in parts which do not reach each other, whatever policies allow.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub apart: Vec<NetworkApart>,
}

/// What TLS is spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TlsStatus {
    /// The certificates in use.
    pub certificates: Vec<CertificateStatus>,
    /// Why the files as they are now are not in use, but those of before; empty if they are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
}

/// A certificate that TLS is spoken with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// `authority`, or `certificate`: the controller's own, or one that it shows with it.
    pub role: String,
    /// The file.
    pub file: String,
    /// Whose it is.
    pub owner: String,
    /// Its last second, since 1970-01-01 UTC.
    pub expires: u64,
    /// Whether that is over.
    pub expired: bool,
    /// What is to be done and why, from 30 days before that on; empty before.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub warning: String,
}

/// Where a workload's interface is plugged in, as a host tells: its document does not say.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SeenAttachment {
    /// The workload's name.
    pub workload: String,
    /// The interface's MAC address.
    pub mac: String,
    /// The switch whose host tells it.
    pub switch: String,
    /// The port, by name or number.
    pub port: String,
}

/// A switch that resources name and that is not declared.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct PendingSwitch {
    /// Its name.
    pub name: String,
    /// How many ports of it workloads and uplinks name.
    pub ports: u64,
    /// The first resource that names it, as `Kind/name`.
    pub first: String,
}

/// A port that one resource names by name and another by number: only the switch knows that it is the same. Whoever has
/// it by name has it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct DoubledPort {
    /// Its number.
    pub number: String,
    /// Its name.
    pub name: String,
    /// The resource that has it, as `Kind/name`.
    pub has: String,
    /// The resource that waits until the other is gone: it neither sends nor receives there.
    pub waits: String,
}

/// One switch's state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SwitchStatus {
    /// Its name; of an undeclared one, its datapath id.
    pub name: String,
    /// The protocol it speaks: `openflow`, `p4runtime`, `sim`; or `kernel`.
    pub driver: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The revision it should have.
    pub desired: u64,
    /// The newest revision sent to it.
    pub sent: u64,
    /// The newest revision it acknowledged after a barrier.
    pub acknowledged: u64,
    /// Entries of ours that it has, as of the last acknowledgement or read-back.
    pub entries: u64,
    /// Changes that are not acknowledged yet.
    pub pending: u64,
    /// Some ports that it does not have, yet entries name: those are among the pending until the ports come.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing_ports: Vec<String>,
    /// Ports of it that one resource has by name and another names by number.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub doubled_ports: Vec<DoubledPort>,
    /// Entries that differed from the desired ones at the last read-back.
    pub drift: u64,
    /// The last error; empty if the last thing that happened was good.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub last_error: String,
    /// Who its session is with; absent while it is not connected, and of simulated switches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionStatus>,
    /// The last one since it connected who said to be it and was refused, and why; empty if there was none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub impostor: String,
    /// Its tunnels to other switches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tunnels: Vec<TunnelStatus>,
    /// The host that it runs on, if Bulkhead keeps that in shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostStatus>,
    /// Distinct mask shapes in use, where the driver counts them (lookup cost on Open vSwitch).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<u64>,
}

/// The other end of a switch's connection.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionStatus {
    /// Its address and port.
    pub address: String,
    /// Whose certificate it has shown; absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
}

/// A tunnel, from the switch that tells of it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TunnelStatus {
    /// The switch at the other end.
    pub to: String,
    /// The overlay port that it uses.
    pub port: String,
    /// The VTEP address of the other end.
    pub vtep: String,
    /// `up`, `down`, or `unknown` as long as one end is not connected: whether probes arrive at the other end. Tunnels of
    /// kernel VTEPs and of P4 switches are not probed: `set-up` or `down`, as agents tell whether the host has them; `set-up`
    /// if the P4 switch has its program.
    pub state: String,
}

/// A host whose Open vSwitch Bulkhead sets up over OVSDB.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct HostStatus {
    /// Where its database is; empty for a kernel VTEP, which has none.
    pub ovsdb: String,
    /// Whether the database answers.
    pub connected: bool,
    /// Whether the host is as it is to be.
    pub shaped: bool,
    /// Why not; empty if there is nothing to tell.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub trouble: String,
    /// What was mended last.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repaired: Vec<String>,
    /// How often something was mended since the controller keeps the host.
    pub repairs: u64,
    /// How many interfaces with an `iface-id` are plugged in.
    pub plugged: u64,
    /// Interfaces that are plugged in and get nothing, because they are no known workload's.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quarantined: Vec<QuarantinedInterface>,
    /// Largest IP packet that the underlay takes, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub underlay_mtu: Option<u32>,
    /// What will not work as somebody may expect.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// An interface that is plugged in and gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct QuarantinedInterface {
    /// The port.
    pub port: String,
    /// Its `iface-id`: whose it says to be.
    pub iface_id: String,
    /// Its `attached-mac`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Why its packets are dropped.
    pub why: String,
}

/// The answer to `GET /v1/realization`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Realization {
    /// The revision that was asked about.
    pub revision: u64,
    /// Whether every affected, connected switch has acknowledged it.
    pub realized: bool,
    /// Connected switches that have not acknowledged it yet.
    #[serde(default)]
    pub waiting: Vec<String>,
    /// Switches that are not connected; they get it when they come.
    #[serde(default)]
    pub disconnected: Vec<String>,
    /// Switches that refused it, with their error; the older revision is in force there.
    #[serde(default)]
    pub failed: BTreeMap<String, String>,
}

/// The answer to `POST /v1/trace`: a packet's way through the compiled stages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceAnswer {
    /// What becomes of the packet.
    pub verdict: Verdict,
    /// Where it ends, in words: `delivered to web-1 at hv1:web-1`, `dropped by builtin/default-deny`.
    pub outcome: String,
    /// The switches it passes, in order.
    pub hops: Vec<TraceHop>,
}

/// One switch on a packet's way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceHop {
    /// The switch.
    pub switch: String,
    /// The stages it passes there.
    pub steps: Vec<TraceStep>,
    /// The same packet's way as the real switch tells it; empty if it was not asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub device: String,
}

/// One stage on a packet's way.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TraceStep {
    /// The stage's name.
    pub stage: String,
    /// The entry that matched, as text; empty on a miss.
    pub entry: String,
    /// The policy rule or built-in rule that caused the entry.
    pub rule: String,
}

/// A pair of counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Counter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What one rule has matched on one switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct SwitchHits {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
    /// How many of the packets were dropped, as in [`RuleHits::dropped`].
    #[serde(default)]
    pub dropped: u64,
}

/// What one rule has matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct RuleHits {
    /// The policy; none for built-in rules.
    pub policy: Option<String>,
    /// `ingress` or `egress`; none where the rule has no direction.
    pub direction: Option<String>,
    /// Index among the policy's rules of this direction.
    pub index: Option<usize>,
    /// The rule: its name, or direction and index, or a built-in rule's name (`builtin/...`).
    pub rule: String,
    /// Over all switches.
    pub total: Counter,
    /// How many of these packets were dropped. A denial that is not enforced, or of a staged policy, counts and drops
    /// none.
    #[serde(default)]
    pub dropped: u64,
    /// By switch.
    pub switches: BTreeMap<String, SwitchHits>,
}
