//! Trouble between the controller and a switch, the same for the same seed.

use crate::switch::Switch;
use bulkhead_dataplane::{Command, Report};
use std::collections::VecDeque;

/// How often each kind of trouble happens, in percent of the commands. What is left over goes well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Odds {
    /// A step is refused.
    pub refuse: u8,
    /// An answer is lost.
    pub lose: u8,
    /// An answer comes late, after those of later commands.
    pub delay: u8,
    /// An answer comes twice.
    pub repeat: u8,
    /// The connection breaks, before or after a step was carried out.
    pub disconnect: u8,
}

impl Odds {
    /// Nothing goes wrong.
    pub const CALM: Self = Self { refuse: 0, lose: 0, delay: 0, repeat: 0, disconnect: 0 };
    /// Half of everything goes wrong.
    pub const STORM: Self = Self { refuse: 10, lose: 10, delay: 10, repeat: 10, disconnect: 10 };
}

/// Numbers that look random: Marsaglia's xorshift64.
#[derive(Debug, Clone)]
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high bits are the better ones.
        (self.0 >> 16) % below.max(1)
    }
}

/// What happens to one command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Fine,
    Refuse,
    Lose,
    Delay,
    Repeat,
    Disconnect,
}

/// A troubled way to a switch.
#[derive(Debug, Clone)]
pub struct Chaos {
    odds: Odds,
    random: Random,
    late: VecDeque<Report>,
}

impl Chaos {
    /// Trouble with these odds; the same seed makes the same trouble.
    pub fn new(seed: u64, odds: Odds) -> Self {
        // Zero is the one state that xorshift never leaves.
        Self { odds, random: Random(seed ^ 0x9e37_79b9_7f4a_7c15 | 1), late: VecDeque::new() }
    }

    fn fate(&mut self) -> Fate {
        let roll = self.random.next(100);
        let mut bound = 0;
        let odds = self.odds;
        let fates = [
            (odds.refuse, Fate::Refuse),
            (odds.lose, Fate::Lose),
            (odds.delay, Fate::Delay),
            (odds.repeat, Fate::Repeat),
            (odds.disconnect, Fate::Disconnect),
        ];
        for (chance, fate) in fates {
            bound += u64::from(chance);
            if roll < bound {
                return fate;
            }
        }
        Fate::Fine
    }

    /// Carries a command to the switch, and gives what comes back now. `session` is counted up where a new one begins.
    pub fn command(&mut self, switch: &mut Switch, session: &mut u64, command: Command) -> Vec<Report> {
        let fate = self.fate();
        if fate == Fate::Disconnect {
            if self.random.next(2) == 0 {
                answer(switch, command);
            }
            self.late.clear();
            *session += 1;
            return vec![Report::Disconnected("simulated loss of the connection".into()), connected(switch, *session)];
        }
        let report = match command {
            Command::Apply { step, .. } if fate == Fate::Refuse => {
                Report::Refused { step, reason: "simulated refusal".into() }
            }
            command => match answer(switch, command) {
                Some(report) => report,
                None => return Vec::new(),
            },
        };
        let mut reports = Vec::new();
        if fate == Fate::Delay {
            self.late.push_back(report);
            return reports;
        }
        if fate == Fate::Repeat {
            reports.push(report.clone());
        }
        if fate != Fate::Lose {
            reports.push(report);
        }
        reports.extend(self.late.pop_front());
        reports
    }
}

/// What a switch says when a session begins.
pub fn connected(switch: &Switch, session: u64) -> Report {
    Report::Connected { session, capabilities: switch.capabilities(), ports: switch.ports() }
}

/// What a switch answers to a command that reaches it; nothing to probes and frames of its own, which are the
/// fabric's.
pub fn answer(switch: &mut Switch, command: Command) -> Option<Report> {
    Some(match command {
        Command::Read => Report::Actual { program: switch.program().clone(), alien: 0 },
        Command::Apply { step, delta, .. } => match switch.apply(&delta) {
            Ok(()) => Report::Applied { step },
            Err(reason) => Report::Refused { step, reason },
        },
        Command::Count => Report::Counters(switch.counters()),
        Command::Probe(_) | Command::Discover(_) => return None,
    })
}
