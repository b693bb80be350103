//! Where BMv2 is otherwise than the specification: by name, and no more than these.

/// A write of which BMv2 makes something else than the specification says.
pub struct Differs {
    /// What is wrong with it, whatever is done with it, or what it does.
    pub what: &'static str,
    /// What BMv2 makes of it.
    pub bmv2: Made,
    pub why: &'static str,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Made {
    Taken,
    Refused,
    /// Refused, but something of it stays.
    Left,
    /// Not read as it was written.
    Otherwise,
}

/// All of them, as p4lang/PI f96af95 and behavioral-model 9674187f do it.
pub const DIFFERS: &[Differs] = &[
    taken("a count below zero beside an entry", "it is not looked at"),
    taken("a counter below zero", "it is not looked at"),
    taken("a counter that is deleted", "it is set to 0"),
    taken("a group of no size", "it is taken for one without a limit of its own"),
    taken("a role that nobody has", "roles of writes are not looked at"),
    taken("constant entry", "`is_const` is not looked at"),
    taken("group 0", "it is a number like any other"),
    taken("member 0", "it is a number like any other"),
    taken("parameter without a value", "no bytes are taken for zero"),
    taken("priority below zero where none may be", "only one above zero is refused"),
    taken("value of no bytes", "no bytes are taken for zero"),
    Differs {
        what: "modify, but for the action",
        bmv2: Made::Refused,
        why: "an entry's modification has to have an action; Bulkhead's always do",
    },
    Differs {
        what: "modify, so that a member that watches a port leaves its group",
        bmv2: Made::Refused,
        why: "half of it is done, and an exception ends the rest; Bulkhead gives entries sets, which are made anew",
    },
    Differs { what: LEFT, bmv2: Made::Left, why: "the group is made before its members are looked at" },
    otherwise("read: a port that a group with a number watches", "that of the last member read stands for all"),
    otherwise("read: a member with a weight above 1", "it is told of as often as that"),
    otherwise("read: members, where entries have sets", "refused, and not told that there are none"),
];

/// A group that is refused for its members.
pub const LEFT: &str = "insert: a group with a fault of its members";

const fn taken(what: &'static str, why: &'static str) -> Differs {
    Differs { what, bmv2: Made::Taken, why }
}

const fn otherwise(what: &'static str, why: &'static str) -> Differs {
    Differs { what, bmv2: Made::Otherwise, why }
}

impl Differs {
    /// As it stands in docs/p4.md.
    pub fn row(&self) -> String {
        let bmv2 = match self.bmv2 {
            Made::Taken => "taken",
            Made::Refused => "refused",
            Made::Left => "refused, and stays in part",
            Made::Otherwise => "otherwise",
        };
        format!("| {} | {bmv2} | {} |\n", self.what, self.why)
    }
}
