//! Where entries have their place in a device's program: what the layout says by name, found in P4Info once and not for each
//! entry.

use crate::{
    layout::{self, Slot},
    shape::{self, Part},
    source::NEXT,
};
use bulkhead_p4runtime::info::{self, Info};
use bulkhead_pipeline::{Action, Field, Stage};

/// A program's places for entries.
#[derive(Debug, Clone)]
pub struct Places {
    /// By stage; `None` where the program has no table for it.
    tables: Vec<Option<Table>>,
}

/// A stage's table.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub id: u32,
    /// The in-port's place in the key.
    pub in_port: Option<u32>,
    /// By field.
    fields: Vec<Option<Place>>,
    actions: Vec<Deed>,
}

/// A field's place in a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub id: u32,
    pub slot: Slot,
    /// Whether other fields have it too.
    pub shared: bool,
}

/// An action that a table may call.
#[derive(Debug, Clone)]
pub(crate) struct Deed {
    pub id: u32,
    parts: Vec<Part>,
    /// Its parameters, and what is told in them.
    pub params: Vec<(u32, Value)>,
}

/// What a parameter is about.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Value {
    /// Where the packet goes next.
    Next,
    /// The value of the entry's action with this place, and where that is to fit.
    Of(usize, Slot),
}

impl Places {
    /// The places of the program that `info` describes. What the layout knows and the program has not, no entry can have.
    #[must_use]
    pub fn new(info: &Info) -> Self {
        Self { tables: Stage::ALL.iter().map(|spec| Table::new(spec.stage, info)).collect() }
    }

    pub(crate) fn table(&self, stage: Stage) -> Option<&Table> {
        self.tables.get(stage as usize)?.as_ref()
    }
}

impl Table {
    pub fn new(stage: Stage, info: &Info) -> Option<Self> {
        let table = info.table_named(&layout::table(stage))?;
        let id = |slot: Slot| table.field_named(slot.name).map(|field| field.value.id);
        let matched: Vec<Field> = layout::matched(stage).collect();
        let place = |field: Field| {
            let slot = layout::slot(field);
            let id = id(slot).filter(|_| matched.contains(&field))?;
            Some(Place { id, slot, shared: layout::is_shared(field) })
        };
        let actions = layout::shapes(stage).iter().filter_map(|shape| Deed::new(stage, shape, table, info));
        Some(Self {
            id: table.id,
            in_port: id(layout::IN_PORT),
            fields: Field::ALL.into_iter().map(place).collect(),
            actions: actions.collect(),
        })
    }

    pub fn place(&self, field: Field) -> Option<Place> {
        *self.fields.get(field as usize)?
    }

    /// The action that does these things.
    pub fn deed(&self, actions: &[Action]) -> Option<&Deed> {
        self.actions.iter().find(|deed| deed.is(actions))
    }
}

impl Deed {
    fn new(stage: Stage, shape: &str, table: &info::Table, info: &Info) -> Option<Self> {
        let action = info.action_named(&layout::action(stage, shape))?;
        let parts = shape::parts(shape).filter(|_| table.actions.contains_key(&action.id))?;
        let valued = || parts.iter().enumerate().filter_map(|(at, part)| Some((at, part.param()?)));
        let value = |param: &info::Value| {
            let of = valued().find(|(_, slot)| slot.name == param.name);
            let next = (param.name == NEXT.name).then_some(Value::Next);
            Some((param.id, next.or(of.map(|(at, slot)| Value::Of(at, slot)))?))
        };
        let params: Vec<(u32, Value)> = action.params.iter().map(value).collect::<Option<_>>()?;
        let told = params.len() == valued().count() + 1;
        told.then_some(Self { id: action.id, parts, params })
    }

    fn is(&self, actions: &[Action]) -> bool {
        let is = |(part, action): (&Part, &Action)| Part::of(action).is_some_and(|(other, _)| other == *part);
        self.parts.len() == actions.len() && self.parts.iter().zip(actions).all(is)
    }
}
