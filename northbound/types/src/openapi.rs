//! The kinds' schemas, for the API's OpenAPI document: read off the declarations in `v1.rs`, as everything else that is
//! told of them.

use crate::v1::{
    API_VERSION, AddressSetSpec, Envelope, LinkSpec, NetworkSpec, PolicySpec, SwitchSpec, TextOrNumber, WorkloadSpec,
    ZoneSpec, kind_name,
};
use bulkhead_policy::Kind;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        RefOr, Schema,
        schema::{ObjectBuilder, SchemaType, Type},
    },
};

/// Schemas by name.
pub type Schemas = Vec<(String, RefOr<Schema>)>;

impl PartialSchema for TextOrNumber {
    fn schema() -> RefOr<Schema> {
        let either = SchemaType::from_iter([Type::String, Type::Integer]);
        ObjectBuilder::new().schema_type(either).description(Some("A text, or a number that stands for itself.")).into()
    }
}

impl ToSchema for TextOrNumber {}

/// The schemas of a kind that users write, under its name, and of all that is in it.
pub fn kind_schemas(kind: Kind) -> Schemas {
    match kind {
        Kind::Network => of::<NetworkSpec>(kind),
        Kind::Switch => of::<SwitchSpec>(kind),
        Kind::AddressSet => of::<AddressSetSpec>(kind),
        Kind::Workload => of::<WorkloadSpec>(kind),
        Kind::Zone => of::<ZoneSpec>(kind),
        Kind::Policy => of::<PolicySpec>(kind),
        Kind::Link => of::<LinkSpec>(kind),
        // Nobody writes these, and no answer has them.
        Kind::Host | Kind::Adjacency => Vec::new(),
    }
}

fn of<S: ToSchema>(kind: Kind) -> Schemas {
    let mut all = Vec::new();
    Envelope::<S>::schemas(&mut all);
    S::schemas(&mut all);
    all.push((S::name().into(), S::schema()));
    let mut whole = Envelope::<S>::schema();
    if let RefOr::T(Schema::Object(object)) = &mut whole {
        for (field, value) in [("kind", kind_name(kind)), ("apiVersion", API_VERSION)] {
            if let Some(RefOr::T(Schema::Object(field))) = object.properties.get_mut(field) {
                field.schema_type = Type::String.into();
                field.enum_values = Some(vec![value.into()]);
            }
        }
        object.description = match S::schema() {
            RefOr::T(Schema::Object(spec)) => spec.description,
            _ => None,
        };
    }
    all.push((kind_name(kind).into(), whole));
    all.iter_mut().for_each(|(_, schema)| without_null(schema));
    all
}

/// In documents nothing is `null`: what is not there is left out.
fn without_null(schema: &mut RefOr<Schema>) {
    let RefOr::T(Schema::Object(object)) = schema else { return };
    for property in object.properties.values_mut() {
        match property {
            RefOr::T(Schema::Object(object)) => object.schema_type = plain(&object.schema_type),
            RefOr::T(Schema::Array(array)) => array.schema_type = plain(&array.schema_type),
            // A structure or nothing.
            RefOr::T(Schema::OneOf(either)) => {
                if let Some(structure @ RefOr::Ref(_)) = either.items.first().cloned() {
                    *property = structure;
                }
            }
            _ => {}
        }
    }
}

fn plain(types: &SchemaType) -> SchemaType {
    match types {
        SchemaType::Array(types) => match types.as_slice() {
            [one, Type::Null] | [Type::Null, one] => one.clone().into(),
            _ => SchemaType::Array(types.clone()),
        },
        other => other.clone(),
    }
}
