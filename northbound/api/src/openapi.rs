//! The API in OpenAPI 3.1 (<https://spec.openapis.org/oas/v3.1.0>), put together from the routes and from the types.

use crate::{
    Backend,
    gate::Needs,
    operation::{Answer, Body, Operation},
    routes::{Route, routes},
    work::Written,
};
use axum::{body::Bytes, http::Method};
use bulkhead_types::{
    Kind, Problem, Schemas, WatchEvent, kind_schemas,
    v1::{KINDS, kind_name, kind_plural},
};
use serde_json::Value;
use std::sync::OnceLock;
use utoipa::{
    PartialSchema, ToSchema,
    openapi::{
        Components, ComponentsBuilder, Content, HttpMethod, InfoBuilder, LicenseBuilder, OpenApiBuilder, Paths, Ref,
        RefOr, Required, ResponseBuilder, Schema, SecurityRequirement,
        header::HeaderBuilder,
        link::LinkBuilder,
        path::{OperationBuilder, Parameter, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        schema::{ArrayBuilder, Discriminator, ObjectBuilder, OneOfBuilder, Type},
        security::{Http, HttpAuthScheme, SecurityScheme},
        tag::TagBuilder,
    },
};

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const LINES: &str = "application/x-ndjson";
const PROBLEM: &str = "application/problem+json";
const MERGE_PATCH: &str = "application/merge-patch+json";

/// What names look like (`bulkhead_topology::Name`).
const NAME: (&str, usize) = ("^[a-z0-9]([-a-z0-9._]*[a-z0-9])?$", 253);
/// Most characters of a token's name.
const TOKEN_NAME: usize = bulkhead_types::MAX_USER;

const ABOUT: &str = "The controller of a network fabric for microsegmentation: who may talk to whom, in labels.\n\n\
    Every error is a problem document (RFC 9457) whose `type` stays the same. A change is one revision, whole or not at \
    all; `metadata.resourceVersion` in a document, or the parameter of that name, makes it hold only for what its author \
    has seen. An absent list and an empty one are different things. Fields and parameters that are not listed are errors.";

/// Statuses other than success: their names, and when they come.
const STATUSES: [(u16, &str, &str); 14] = [
    (400, "BadRequest", "The request makes no sense."),
    (401, "Stranger", "It is not known who asks."),
    (403, "Forbidden", "Whoever asks may not, or it is another site's page that asks."),
    (404, "NotFound", "Nothing has this name, as far as whoever asks may see."),
    (408, "Late", "The request's body did not come in time."),
    (
        409,
        "Conflict",
        "It is another one by now than whoever asks has seen, or the name is taken. Nothing was changed.",
    ),
    (410, "TooOld", "The revision is not kept any more, or not there yet: begin anew."),
    (413, "PayloadTooLarge", "The request's body is too large."),
    (415, "UnsupportedMediaType", "The request's body is in a form that is not understood."),
    (421, "Misdirected", "The request is meant for another host."),
    (422, "Refused", "It is understood, and cannot be so: the diagnostics say what and where. Nothing was changed."),
    (500, "Internal", "Something went wrong that should not; the controller's log says what."),
    (503, "Unavailable", "Not now: the controller is starting, stopping or busy, or its disk is full."),
    (504, "Timeout", "There is no answer within 90 s."),
];
/// Those that any operation may have.
const ALWAYS: [u16; 6] = [400, 403, 421, 500, 503, 504];
/// Those of operations that have a body.
const WITH_BODY: [u16; 3] = [408, 413, 415];

/// The document.
pub(crate) async fn openapi<B: Backend>() -> Written {
    static WRITTEN: OnceLock<Bytes> = OnceLock::new();
    Written(WRITTEN.get_or_init(|| document::<B>().to_string().into()).clone())
}

/// The API's OpenAPI document. It is the same of every backend.
pub fn document<B: Backend>() -> Value {
    let mut paths = Paths::new();
    let mut schemas = Schemas::new();
    for route in routes::<B>() {
        for (path, kind) in expanded(&route) {
            for (method, operation) in &route.operations {
                schemas.extend(operation.schemas.iter().cloned());
                let described = described(operation, route.needs, kind, &path);
                paths.add_path_operation(&path, methods(method), described);
            }
        }
    }
    let license = LicenseBuilder::new().name("Apache-2.0").identifier(Some("Apache-2.0"));
    let info = InfoBuilder::new()
        .title("Bulkhead")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(ABOUT))
        .license(Some(license.build()));
    let either = [SecurityRequirement::new("token", NOTHING), SecurityRequirement::new("certificate", NOTHING)];
    let tags = ["resources", "fabric"].map(|name| TagBuilder::new().name(name).build());
    let whole = OpenApiBuilder::new()
        .info(info.build())
        .paths(paths)
        .components(Some(components(schemas)))
        .security(Some(either))
        .tags(Some(tags))
        .build();
    // Plain structs with text keys cannot fail to serialize.
    let mut whole = serde_json::to_value(whole).unwrap_or_default();
    mend(&mut whole);
    whole
}

const NOTHING: [&str; 0] = [];

/// A route's addresses, by kind where the kind is a part of it.
fn expanded<B>(route: &Route<B>) -> Vec<(String, Option<Kind>)> {
    match route.path.contains("{kind}") {
        true => KINDS.map(|kind| (route.path.replace("{kind}", kind_plural(kind)), Some(kind))).into(),
        false => vec![(route.path.into(), None)],
    }
}

fn methods(method: &Method) -> Vec<HttpMethod> {
    vec![match method.as_str() {
        "PUT" => HttpMethod::Put,
        "POST" => HttpMethod::Post,
        "PATCH" => HttpMethod::Patch,
        "DELETE" => HttpMethod::Delete,
        _ => HttpMethod::Get,
    }]
}

fn described(operation: &Operation, needs: Needs, kind: Option<Kind>, path: &str) -> OperationBuilder {
    let kind = kind.map(kind_name).unwrap_or_default();
    let text = |text: &str| text.replace("{}", kind);
    let tag = if kind.is_empty() { "fabric" } else { "resources" };
    let mut described = OperationBuilder::new()
        .operation_id(Some(text(operation.id)))
        .summary(Some(text(operation.about)))
        .description(Some(needs.about()))
        .tag(tag)
        .parameters(Some(operation.parameters.clone()));
    if path.contains("{name}") {
        described = described.parameter(name_in(path));
    }
    if let Some(body) = &operation.body {
        let contents = contents(body, kind).into_iter();
        let body = RequestBodyBuilder::new().required(Some(Required::True));
        let body = contents.fold(body, |body, (form, schema)| body.content(form, Content::new(Some(schema))));
        described = described.request_body(Some(body.build()));
    }
    if needs == Needs::Nothing {
        described = described.securities(Some([]));
    }
    described = described.response("200", answered(operation, kind));
    let known = if needs == Needs::Nothing { None } else { Some(401) };
    let with_body = operation.body.iter().flat_map(|_| WITH_BODY);
    let all = ALWAYS.into_iter().chain(known).chain(with_body).chain(operation.also.iter().copied());
    for status in all {
        if let Some((_, name, _)) = STATUSES.iter().find(|(of, _, _)| *of == status) {
            described = described.response(status.to_string(), Ref::from_response_name(*name));
        }
    }
    if operation.id == READINESS {
        let compiling = ResponseBuilder::new().description("Not yet.").content(TEXT, Content::new(Some(text_schema())));
        described = described.response("503", problem(compiling).build());
    }
    let large = ResponseBuilder::new().description("The request's head is too large. The answer has no body.");
    described.response("431", large.build())
}

/// The one operation whose 503 is a plain word.
const READINESS: &str = "getReadiness";
const TEXT: &str = "text/plain";

fn name_in(path: &str) -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String);
    let text = match path.contains("/tokens/") {
        true => text.min_length(Some(1)).max_length(Some(TOKEN_NAME)),
        false => text.pattern(Some(NAME.0)).max_length(Some(NAME.1)),
    };
    let name = ParameterBuilder::new().name("name").parameter_in(ParameterIn::Path).required(Required::True);
    name.description(Some("Its name.")).schema(Some(text)).build()
}

fn text_schema() -> Schema {
    ObjectBuilder::new().schema_type(Type::String).into()
}

fn named(name: &str) -> RefOr<Schema> {
    Ref::from_schema_name(name).into()
}

/// A body by content type.
fn contents(body: &Body, kind: &str) -> Vec<(&'static str, RefOr<Schema>)> {
    let yaml_too = |schema: RefOr<Schema>| vec![(JSON, schema.clone()), (YAML, schema)];
    match body {
        Body::Json(schema) => vec![(JSON, *schema.clone())],
        Body::Documents => yaml_too(named("Documents")),
        Body::Kind => yaml_too(named(kind)),
        Body::Patch => vec![(MERGE_PATCH, ObjectBuilder::new().schema_type(Type::Object).into())],
        Body::Backup => vec![(LINES, text_schema().into())],
    }
}

fn answered(operation: &Operation, kind: &str) -> utoipa::openapi::Response {
    let well = ResponseBuilder::new().description("It is done, or here it is.");
    match &operation.answer {
        Answer::Json(schema) => well.content(JSON, Content::new(Some(*schema.clone()))),
        Answer::Kind => well.content(JSON, Content::new(Some(named(kind)))),
        Answer::List => {
            let first = |method: &str| {
                let link = LinkBuilder::new().operation_id(format!("{method}{kind}"));
                link.parameter("name", "$response.body#/items/0/metadata/name").build()
            };
            let list = well.content(JSON, Content::new(Some(named(&list_name(kind)))));
            list.link("first", first("get"))
        }
        Answer::Other(JSON) => well.content(JSON, Content::new(Some(ObjectBuilder::new().schema_type(Type::Object)))),
        Answer::Other(form) => well.content(*form, Content::new(Some(text_schema()))),
    }
    .build()
}

fn list_name(kind: &str) -> String {
    format!("{kind}List")
}

fn problem(response: ResponseBuilder) -> ResponseBuilder {
    response.content(PROBLEM, Content::new(Some(named(&Problem::name()))))
}

fn components(mut schemas: Schemas) -> Components {
    for kind in KINDS {
        schemas.extend(kind_schemas(kind));
        let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(0));
        let goes_on = ObjectBuilder::new().schema_type(Type::String);
        let list = ObjectBuilder::new()
            .property("revision", number.description(Some("The revision that it shows.")))
            .property(
                "items",
                ArrayBuilder::new().items(named(kind_name(kind))).description(Some("In order of names.")),
            )
            .property("continue", goes_on.description(Some("What to ask with for what comes next; absent at the end.")))
            .required("revision")
            .required("items");
        schemas.push((list_name(kind_name(kind)), list.into()));
    }
    let one = KINDS.into_iter().map(kind_name).fold(OneOfBuilder::new(), |one, kind| one.item(named(kind)));
    let one = one.description(Some("A document of any kind.")).discriminator(Some(Discriminator::new("kind")));
    schemas.push(("Document".into(), Schema::from(one.build()).into()));
    let several = OneOfBuilder::new().item(named("Document")).item(ArrayBuilder::new().items(named("Document")));
    let several = several.description(Some(
        "A document, or a list of them. In YAML it may be a stream too; what is sent as JSON may be lines of documents.",
    ));
    schemas.push(("Documents".into(), Schema::from(several.build()).into()));
    Problem::schemas(&mut schemas);
    schemas.push((Problem::name().into(), Problem::schema()));
    WatchEvent::schemas(&mut schemas);
    schemas.push((WatchEvent::name().into(), WatchEvent::schema()));
    // Each has its name once, whoever names it.
    let mut all = ComponentsBuilder::new().schemas_from_iter(schemas);
    for (status, name, about) in STATUSES {
        let response = problem(ResponseBuilder::new().description(about));
        let header = HeaderBuilder::new().schema(Some(text_schema())).description(Some("How one makes oneself known."));
        let response = if status == 401 { response.header("WWW-Authenticate", header.build()) } else { response };
        all = all.response(name, response.build());
    }
    let mut token = Http::new(HttpAuthScheme::Bearer);
    token.description = Some("A token that an admin made (`bulkhead token create`).".into());
    let certificate = "A certificate whose common name has access (`bulkhead token create --certificate`).";
    all.security_scheme("token", SecurityScheme::Http(token))
        .security_scheme(
            "certificate",
            SecurityScheme::MutualTls { description: Some(certificate.into()), deprecated: None, extensions: None },
        )
        .build()
}

/// Mends what is not as it is to be read: links to types in comments, and ends of their lines; formats' names
/// (<https://spec.openapis.org/registry/format/>), and the limits that these stand for.
fn mend(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(mend),
        Value::Object(fields) => {
            let format = fields.get("format").and_then(Value::as_str).unwrap_or_default().replace("u-int", "uint");
            let most = match format.as_str() {
                "uint8" => Some(u64::from(u8::MAX)),
                "uint16" => Some(u64::from(u16::MAX)),
                "uint32" => Some(u64::from(u32::MAX)),
                "uint64" => Some(u64::MAX),
                _ => None,
            };
            if let Some(most) = most {
                fields.insert("format".into(), format.into());
                fields.insert("maximum".into(), most.into());
            }
            for (name, value) in fields {
                match value {
                    Value::String(text) if name == "description" || name == "summary" => {
                        let paragraphs = text.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
                        let paragraphs: Vec<String> = paragraphs.collect();
                        *text = paragraphs.join("\n\n").replace("[`", "`").replace("`]", "`");
                    }
                    value => mend(value),
                }
            }
        }
        _ => {}
    }
}
