//! What the OpenAPI document says of one method at one address.

use bulkhead_types::Schemas;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Ref, RefOr, Required, Schema,
        path::{Parameter, ParameterBuilder, ParameterIn},
        schema::{ArrayBuilder, ObjectBuilder, SchemaType, Type},
    },
};

/// What a request's body is.
#[derive(Clone)]
pub(crate) enum Body {
    /// JSON.
    Json(Box<RefOr<Schema>>),
    /// Documents, as YAML or JSON.
    Documents,
    /// One document of the kind that the address names.
    Kind,
    /// A part of one (RFC 7396).
    Patch,
    /// A backup.
    Backup,
}

/// What the answer is if all is well.
#[derive(Clone)]
pub(crate) enum Answer {
    /// JSON.
    Json(Box<RefOr<Schema>>),
    /// A document of the kind that the address names.
    Kind,
    /// A list of them.
    List,
    /// Something else, by its content type.
    Other(&'static str),
}

/// One method at one address. `{}` in its texts stands for the kind that the address names.
#[derive(Clone)]
pub(crate) struct Operation {
    pub(crate) id: &'static str,
    pub(crate) about: &'static str,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) body: Option<Body>,
    pub(crate) answer: Answer,
    /// Statuses besides those that every operation may have.
    pub(crate) also: Vec<u16>,
    /// What is named in it.
    pub(crate) schemas: Schemas,
}

/// An operation by its name, and what it does.
pub(crate) fn operation(id: &'static str, about: &'static str) -> Operation {
    let answer = Answer::Other("text/plain");
    Operation { id, about, parameters: Vec::new(), body: None, answer, also: Vec::new(), schemas: Vec::new() }
}

impl Operation {
    fn named<T: ToSchema>(&mut self) -> RefOr<Schema> {
        T::schemas(&mut self.schemas);
        self.schemas.push((T::name().into(), T::schema()));
        Ref::from_schema_name(T::name()).into()
    }

    /// It takes these parameters in its query.
    pub(crate) fn query<Q: IntoParams>(mut self) -> Self {
        self.parameters.extend(Q::into_params(|| Some(ParameterIn::Query)).into_iter().map(plain));
        self
    }

    /// It does not take this one of them.
    pub(crate) fn without(mut self, parameter: &str) -> Self {
        self.parameters.retain(|there| there.name != parameter);
        self
    }

    /// It looks at this header.
    pub(crate) fn header(mut self, name: &str, about: &str, holds: Type) -> Self {
        let header = ParameterBuilder::new().name(name).parameter_in(ParameterIn::Header).required(Required::False);
        let header = header.description(Some(about)).schema(Some(ObjectBuilder::new().schema_type(holds)));
        self.parameters.push(header.build());
        self
    }

    /// It makes a change, whose author may be somebody whom the client names.
    pub(crate) fn changes(self) -> Self {
        let about = "Who the client's user is: for the history, where nothing else tells who asks.";
        self.header("Bulkhead-User", about, Type::String)
    }

    /// Its body is JSON.
    pub(crate) fn asks<T: ToSchema>(mut self) -> Self {
        self.body = Some(Body::Json(Box::new(self.named::<T>())));
        self
    }

    /// Its body is something else.
    pub(crate) fn takes(mut self, body: Body) -> Self {
        self.body = Some(body);
        self
    }

    /// It answers JSON.
    pub(crate) fn tells<T: ToSchema>(mut self) -> Self {
        self.answer = Answer::Json(Box::new(self.named::<T>()));
        self
    }

    /// It answers a JSON list.
    pub(crate) fn lists<T: ToSchema>(mut self) -> Self {
        let items = self.named::<T>();
        self.answer = Answer::Json(Box::new(ArrayBuilder::new().items(items).into()));
        self
    }

    /// It answers that it is done.
    pub(crate) fn tells_nothing(self) -> Self {
        self.gives(Answer::Json(Box::new(ObjectBuilder::new().schema_type(Type::Null).into())))
    }

    /// It answers something else.
    pub(crate) fn gives(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// It may answer these statuses too.
    pub(crate) fn also<const N: usize>(mut self, statuses: [u16; N]) -> Self {
        self.also.extend(statuses);
        self
    }
}

/// A parameter of a query is there or left out; none of them is `null`.
fn plain(mut parameter: Parameter) -> Parameter {
    if let Some(RefOr::T(Schema::Object(object))) = &mut parameter.schema
        && let SchemaType::Array(types) = &mut object.schema_type
    {
        types.retain(|one| *one != Type::Null);
        if let [one] = types.as_slice() {
            object.schema_type = one.clone().into();
        }
    }
    parameter
}
