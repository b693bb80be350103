//! Single faults of an insert that is otherwise valid.

use super::*;

/// One way to spoil an insert.
pub struct Fault {
    /// What is wrong then.
    pub name: &'static str,
    /// With what a device refuses it.
    pub code: Code,
    /// Spoils it; `false` if this entry cannot be spoilt so, and what became of it is of no use.
    pub spoil: fn(&mut Random, &Info, &mut TableEntry) -> bool,
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

/// All of them.
pub const FAULTS: &[Fault] = &[
    Fault {
        name: "unknown table",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.table_id = 0x02ff_ffff;
            true
        },
    },
    Fault {
        name: "a number of another kind as table",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            entry.table_id = info.actions().next().map_or(0, |action| action.id);
            true
        },
    },
    Fault {
        name: "unknown field",
        code: Code::InvalidArgument,
        spoil: |random, _, entry| change(random, &mut entry.r#match, |_, field| field.field_id = 99),
    },
    Fault {
        name: "field twice",
        code: Code::InvalidArgument,
        spoil: |random, _, entry| {
            let twice = random.pick(&entry.r#match).cloned();
            entry.r#match.extend(twice.clone());
            twice.is_some()
        },
    },
    Fault {
        name: "exact field missing",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            let exact =
                |field: &FieldMatch| matches!(field.field_match_type, Some(field_match::FieldMatchType::Exact(_)));
            let before = entry.r#match.len();
            entry.r#match.retain(|field| !exact(field));
            entry.r#match.len() < before
        },
    },
    Fault {
        name: "no kind of match",
        code: Code::InvalidArgument,
        spoil: |random, _, entry| change(random, &mut entry.r#match, |_, field| field.field_match_type = None),
    },
    Fault {
        name: "another kind of match",
        code: Code::InvalidArgument,
        spoil: |random, _, entry| {
            change(random, &mut entry.r#match, |_, field| {
                use field_match::FieldMatchType as Type;
                let value = vec![1];
                field.field_match_type = Some(match field.field_match_type {
                    Some(Type::Exact(_)) => Type::Ternary(field_match::Ternary { value, mask: vec![1] }),
                    _ => Type::Exact(field_match::Exact { value }),
                });
            })
        },
    },
    Fault {
        name: "value too wide",
        code: Code::InvalidArgument,
        spoil: |random, info, entry| {
            let widths: Vec<_> =
                entry.r#match.iter().map(|field| width(info, entry.table_id, field.field_id)).collect();
            let at = random.below(widths.len().max(1));
            match (entry.r#match.get_mut(at), widths.get(at)) {
                (Some(field), Some(width)) => {
                    for value in values(field) {
                        *value = too_wide(*width);
                    }
                    true
                }
                _ => false,
            }
        },
    },
    Fault { name: "value of no bytes", code: Code::InvalidArgument, spoil: |_, _, entry| without_bytes(entry, false) },
    Fault {
        name: "value and mask of no bytes",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| without_bytes(entry, true),
    },
    Fault {
        name: "bits outside the mask",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
                Some(field_match::FieldMatchType::Ternary(ternary))
                    if ternary.mask != [0xff] && ternary.mask != [1] =>
                {
                    // Of the mask's bits only the highest stays; the value has those below it.
                    let high = bytes::bits(&ternary.mask) - 1;
                    ternary.mask = bytes::from_u128(1 << high);
                    ternary.value = bytes::all_ones(high);
                    high > 0
                }
                _ => false,
            })
        },
    },
    Fault {
        name: "mask of nothing",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
                Some(field_match::FieldMatchType::Ternary(ternary)) => {
                    (ternary.value, ternary.mask) = (vec![0], vec![0]);
                    true
                }
                _ => false,
            })
        },
    },
    Fault {
        name: "prefix of nothing",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            prefix(entry, |lpm| {
                (lpm.value, lpm.prefix_len) = (vec![0], 0);
            })
        },
    },
    Fault {
        name: "prefix too long",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            prefix(entry, |lpm| {
                lpm.prefix_len = 2000;
            })
        },
    },
    Fault {
        name: "prefix below zero",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            prefix(entry, |lpm| {
                lpm.prefix_len = -1;
            })
        },
    },
    Fault {
        name: "bits behind the prefix",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            let table = entry.table_id;
            entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
                Some(field_match::FieldMatchType::Lpm(lpm)) if width(info, table, field.field_id) > 1 => {
                    (lpm.value, lpm.prefix_len) = (vec![1], 1);
                    true
                }
                _ => false,
            })
        },
    },
    Fault {
        name: "range backwards",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            range(entry, |range| {
                (range.low, range.high) = (vec![1], vec![0]);
            })
        },
    },
    Fault {
        name: "range of everything",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            let table = entry.table_id;
            entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
                Some(field_match::FieldMatchType::Range(range)) => {
                    range.low = vec![0];
                    range.high = bytes::all_ones(width(info, table, field.field_id) as usize);
                    true
                }
                _ => false,
            })
        },
    },
    Fault {
        name: "priority wrong",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.priority = if entry.priority == 0 { 7 } else { 0 };
            true
        },
    },
    Fault {
        name: "no action",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.action = None;
            true
        },
    },
    Fault {
        name: "an action of no kind",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.action = Some(TableAction::default());
            true
        },
    },
    Fault {
        name: "unknown action",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| with_action(entry, |action| action.action_id = 0x01ff_ffff),
    },
    Fault {
        name: "action of another table",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            let table = info.table(entry.table_id);
            let foreign =
                info.actions().find(|action| table.is_some_and(|table| !table.actions.contains_key(&action.id)));
            foreign.is_some_and(|foreign| with_action(entry, |action| action.action_id = foreign.id))
        },
    },
    Fault {
        name: "action for misses only",
        code: Code::PermissionDenied,
        spoil: |_, info, entry| {
            let table = info.table(entry.table_id);
            let default = table.and_then(|table| table.actions.iter().find(|(_, scope)| **scope == Scope::Default));
            default.is_some_and(|(id, _)| with_action(entry, |action| action.action_id = *id))
        },
    },
    Fault {
        name: "a member where there is no profile, or the other way round",
        code: Code::InvalidArgument,
        spoil: |random, info, entry| {
            let table = info.table(entry.table_id);
            let kind = match table {
                Some(table) if table.profile.is_some() => {
                    action(random, info, table, Scope::Default).map(table_action::Type::Action)
                }
                _ => Some(table_action::Type::ActionProfileMemberId(1)),
            };
            entry.action = Some(TableAction { r#type: kind });
            true
        },
    },
    Fault {
        name: "parameter missing",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            let mut done = false;
            with_action(entry, |action| done = action.params.pop().is_some()) && done
        },
    },
    Fault {
        name: "parameter twice",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            let mut done = false;
            with_action(entry, |action| {
                let twice = action.params.first().cloned();
                done = twice.is_some();
                action.params.extend(twice);
            }) && done
        },
    },
    Fault {
        name: "unknown parameter",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            with_action(entry, |action| action.params.push(action::Param { param_id: 77, value: vec![1] }))
        },
    },
    Fault {
        name: "parameter too wide",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            let mut done = false;
            with_action(entry, |action| {
                for param in &mut action.params {
                    param.value = too_wide(128);
                    done = true;
                }
            }) && done
        },
    },
    Fault {
        name: "parameter without a value",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            let mut done = false;
            with_action(entry, |action| {
                for param in &mut action.params {
                    param.value.clear();
                    done = true;
                }
            }) && done
        },
    },
    Fault {
        name: "constant entry",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.is_const = true;
            true
        },
    },
    Fault {
        name: "inserted default entry",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.is_default_action = true;
            entry.r#match.clear();
            entry.priority = 0;
            true
        },
    },
    Fault {
        name: "default entry with a key",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.is_default_action = true;
            !entry.r#match.is_empty() || entry.priority != 0
        },
    },
    Fault {
        name: "count of a table without counter",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            entry.counter_data = Some(CounterData::default());
            info.table(entry.table_id).is_some_and(|table| table.counter.is_none())
        },
    },
    Fault {
        name: "time that only a device says",
        code: Code::InvalidArgument,
        spoil: |_, _, entry| {
            entry.time_since_last_hit = Some(Default::default());
            true
        },
    },
    Fault {
        name: "timeout of a table without",
        code: Code::InvalidArgument,
        spoil: |_, info, entry| {
            entry.idle_timeout_ns = 1;
            info.table(entry.table_id).is_some_and(|table| !table.idle_timeout)
        },
    },
];

fn change(random: &mut Random, matches: &mut [FieldMatch], how: fn(&mut Random, &mut FieldMatch)) -> bool {
    let at = random.below(matches.len().max(1));
    match matches.get_mut(at) {
        Some(field) => {
            how(random, field);
            true
        }
        None => false,
    }
}

/// Empties the values of a field, which is ternary or not.
fn without_bytes(entry: &mut TableEntry, ternary: bool) -> bool {
    let is_ternary =
        |field: &FieldMatch| matches!(field.field_match_type, Some(field_match::FieldMatchType::Ternary(_)));
    let field = entry.r#match.iter_mut().find(|field| is_ternary(field) == ternary);
    field.map(|field| values(field).into_iter().for_each(Vec::clear)).is_some()
}

fn prefix(entry: &mut TableEntry, how: fn(&mut field_match::Lpm)) -> bool {
    entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
        Some(field_match::FieldMatchType::Lpm(lpm)) => {
            how(lpm);
            true
        }
        _ => false,
    })
}

fn range(entry: &mut TableEntry, how: fn(&mut field_match::Range)) -> bool {
    entry.r#match.iter_mut().any(|field| match &mut field.field_match_type {
        Some(field_match::FieldMatchType::Range(range)) => {
            how(range);
            true
        }
        _ => false,
    })
}

/// Spoils the action of an entry, or the first of its own group.
fn with_action(entry: &mut TableEntry, how: impl FnOnce(&mut Action)) -> bool {
    let action = match entry.action.as_mut().and_then(|action| action.r#type.as_mut()) {
        Some(table_action::Type::Action(action)) => Some(action),
        Some(table_action::Type::ActionProfileActionSet(set)) => {
            set.action_profile_actions.first_mut().and_then(|one| one.action.as_mut())
        }
        _ => None,
    };
    action.map(how).is_some()
}

fn width(info: &Info, table: u32, field: u32) -> u32 {
    info.table(table).and_then(|table| table.field(field)).map_or(0, |field| field.value.width)
}

/// The least value that needs a bit more than there are.
fn too_wide(width: u32) -> Vec<u8> {
    let mut value = vec![0; width as usize / 8 + 1];
    if let Some(first) = value.first_mut() {
        *first = 1 << (width % 8);
    }
    value
}

fn values(field: &mut FieldMatch) -> Vec<&mut Vec<u8>> {
    use field_match::FieldMatchType as Type;
    match &mut field.field_match_type {
        Some(Type::Exact(exact)) => vec![&mut exact.value],
        Some(Type::Optional(optional)) => vec![&mut optional.value],
        Some(Type::Lpm(lpm)) => vec![&mut lpm.value],
        Some(Type::Ternary(ternary)) => vec![&mut ternary.value, &mut ternary.mask],
        Some(Type::Range(range)) => vec![&mut range.low, &mut range.high],
        None => Vec::new(),
    }
}
