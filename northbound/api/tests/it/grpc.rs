//! gRPC as a client sees it that knows nothing but an address: it asks for the descriptors, and makes its messages by them.

use crate::common;
use crate::reflected;
use bulkhead_api::{document, methods};
use common::{Fake, shop};
use prost_reflect::{DescriptorPool, Kind};
use reflected::served;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::Code;

const RESOURCES: &str = "bulkhead.v1.Resources";

fn policy(name: &str, tier: &str) -> String {
    format!(
        "{{kind: Policy, metadata: {{name: {name}}}, spec: {{subject: {{matchLabels: {{app: shop, tier: {tier}}}}}, ingress: []}}}}"
    )
}

#[tokio::test]
async fn every_method_is_told_by_reflection_and_is_behind_a_gate() {
    let (client, _stop) = served(Fake::default()).await;
    let told: BTreeSet<String> = client.methods().into_iter().collect();
    assert_eq!(told, methods().into_iter().map(str::to_owned).collect());
    let none = client.call("bulkhead.v1.Resources/Get", json!({"kind": "Zone", "name": "none"})).await.unwrap_err();
    assert_eq!(none.code(), Code::NotFound);
    assert_eq!(client.unknown("/bulkhead.v1.Resources/Nothing").await.code(), Code::Unimplemented);
}

#[tokio::test]
async fn reflection_answers_by_its_first_name_too() {
    let (client, _stop) = served(Fake::default()).await;
    let method = "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo";
    let told = client.stream(method, vec![json!({"listServices": ""})], 1).await.unwrap();
    let services = told[0]["listServicesResponse"]["service"].as_array().unwrap();
    assert!(services.iter().any(|service| service["name"] == RESOURCES), "{told:?}");
    let file = client.stream(method, vec![json!({"fileContainingSymbol": RESOURCES})], 1).await.unwrap();
    assert_eq!(file[0]["fileDescriptorResponse"]["fileDescriptorProto"].as_array().unwrap().len(), 1, "{file:?}");
}

#[tokio::test]
async fn every_verb_of_rest_is_there() {
    let (client, _stop) = served(Fake::default()).await;
    let call = async |method: &str, asked: Value| client.call(&format!("bulkhead.v1.{method}"), asked).await.unwrap();
    let dry = call("Resources/Apply", json!({"documents": shop(), "dryRun": true})).await;
    assert_eq!((dry["changes"].as_array().unwrap().len(), dry["plan"]["gained"].as_array().unwrap().len()), (18, 14));
    assert_eq!(dry["changes"][0]["change"], "CHANGE_KIND_CREATED");
    assert_eq!(dry["plan"]["gained"][0]["verdict"], "VERDICT_ALLOW");
    let applied = call("Resources/Apply", json!({"documents": shop()})).await;
    assert_eq!(applied["revision"], 1);

    let zone = call("Resources/Get", json!({"kind": "Zone", "name": "shop"})).await;
    assert_eq!((zone["kind"].as_str(), zone["resourceVersion"].as_u64()), (Some("Zone"), Some(1)));
    let document: Value = serde_json::from_str(zone["document"].as_str().unwrap()).unwrap();
    assert_eq!(document["spec"]["mode"], "enforce");
    let put = json!({"kind": "Zone", "name": "shop", "document": zone["document"], "resourceVersion": 9});
    let stale = client.call("bulkhead.v1.Resources/Put", put).await.unwrap_err();
    assert_eq!(stale.code(), Code::Aborted);
    let patch = json!({"kind": "zones", "name": "shop", "patch": r#"{"spec": {"mode": "monitor"}}"#});
    assert_eq!(call("Resources/Patch", patch).await["changes"][0]["change"], "CHANGE_KIND_UPDATED");
    let put = json!({"kind": "Policy", "name": "p", "document": policy("p", "web")});
    assert_eq!(call("Resources/Put", put).await["revision"], 3);
    assert_eq!(
        call("Resources/Delete", json!({"kind": "Policy", "name": "p"})).await["changes"][0]["change"],
        "CHANGE_KIND_DELETED"
    );
    let removed = json!({"documents": "kind: Policy\nmetadata: {name: lb-to-web}", "dryRun": true});
    assert_eq!(call("Resources/Remove", removed).await["plan"]["lost"].as_array().unwrap().len(), 2);

    // A list in parts is of one revision.
    let first = call("Resources/List", json!({"kind": "Workload", "limit": 4})).await;
    assert_eq!((first["items"].as_array().unwrap().len(), first["revision"].as_u64()), (4, Some(4)));
    let rest = call("Resources/List", json!({"kind": "Workload", "continue": first["continue"]})).await;
    assert_eq!((rest["items"].as_array().unwrap().len(), rest["continue"].as_str()), (3, Some("")));
    let web = call("Resources/List", json!({"kind": "workloads", "labelSelector": "tier=web"})).await;
    assert_eq!(web["items"][1]["labels"]["tier"], "web");

    let flow = json!({"from": "web-1", "to": "app-1", "protocol": "tcp", "port": 8080});
    let reach = call("Questions/Reach", flow.clone()).await;
    assert_eq!(
        (reach["verdict"].as_str(), reach["ingress"]["policy"].as_str()),
        (Some("VERDICT_ALLOW"), Some("web-to-app"))
    );
    assert_eq!(call("Questions/Matrix", json!({"port": "8080/tcp"})).await["rows"].as_array().unwrap().len(), 42);
    assert_eq!(call("Revisions/History", json!({"limit": 2})).await["items"][0]["changes"][0]["name"], "p");
    let diff = call("Revisions/Diff", json!({"from": 1})).await;
    assert_eq!(diff["resources"][0]["name"], "shop");
    assert!(diff["resources"][0]["to"].as_str().unwrap().contains("monitor"), "{diff}");
    assert_eq!(call("Revisions/Realization", json!({})).await["realized"], true);
    assert_eq!(call("Revisions/Rollback", json!({"revision": 1})).await["revision"], 5);
    assert_eq!(call("Fabric/Status", json!({})).await["revision"], 5);
    assert_eq!(call("Fabric/Topology", json!({})).await["revision"], 5);
    assert_eq!(call("Fabric/Path", json!({"from": "a", "to": "a"})).await["found"], true);
    assert_eq!(call("Fabric/Ports", json!({"switch": "hv1"})).await["switch"], "hv1");
    for nothing in ["Attachments", "Hits"] {
        assert_eq!(call(&format!("Fabric/{nothing}"), json!({})).await["items"], json!([]));
    }
    assert_eq!(call("Fabric/Metrics", json!({})).await["text"], "# EOF\n");
    assert_eq!(call("Access/ListTokens", json!({})).await["required"], false);
    let made = call("Access/CreateToken", json!({"name": "ci", "grants": ["viewer"]})).await;
    assert_eq!((made["token"].as_str(), made["name"].as_str()), (Some("secret"), Some("ci")));
    call("Access/RevokeToken", json!({"name": "taken"})).await;
    assert_eq!(call("Access/Audit", json!({"after": 7})).await["records"], json!(["100"]));
    let parts = client.stream("bulkhead.v1.Revisions/Backup", vec![json!({})], 9).await.unwrap();
    // "backup of 5, " and "whole", in base64.
    assert_eq!(parts, [json!({"data": "YmFja3VwIG9mIDUsIA=="}), json!({"data": "d2hvbGU="})]);
    let health = client.call("grpc.health.v1.Health/Check", json!({"service": RESOURCES})).await.unwrap();
    assert_eq!(health["status"], "SERVING");
}

#[tokio::test]
async fn a_backup_is_brought_back_in_parts() {
    let (client, _stop) = served(Fake::default()).await;
    let parts = vec![json!({"data": "Z28="}), json!({"data": "b2Q="})];
    let restored = client.stream("bulkhead.v1.Revisions/Restore", parts, 9).await.unwrap();
    assert_eq!(restored[0]["revision"], 7);
    let bad = client.stream("bulkhead.v1.Revisions/Restore", vec![json!({"data": "YmFk"})], 9).await.unwrap_err();
    assert_eq!(bad.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn errors_have_a_code_and_the_problem_document() {
    let (client, _stop) = served(Fake::default()).await;
    let text = format!(
        "{}\n---\n{}",
        policy("a", "web"),
        "kind: Policy\nmetadata: {name: p}\nspec:\n  subject: {zone: nowhere}\n  ingress: []\n"
    );
    let refused = client.call("bulkhead.v1.Resources/Apply", json!({"documents": text})).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().starts_with("Policy/p: spec.subject.zone: "), "{}", refused.message());
    let problem = client.problem(&refused);
    assert_eq!(problem["type"], "urn:bulkhead:problem:refused");
    assert_eq!(
        (problem["diagnostics"][0]["line"].as_u64(), problem["diagnostics"][0]["path"].as_str()),
        (Some(6), Some("spec.subject.zone"))
    );
    for (method, asked, code) in [
        ("Resources/Get", json!({"kind": "Nothing", "name": "a"}), Code::InvalidArgument),
        ("Resources/Get", json!({"kind": "Zone", "name": "A b"}), Code::InvalidArgument),
        ("Resources/List", json!({"kind": "Zone", "labelSelector": "a=b"}), Code::InvalidArgument),
        ("Resources/List", json!({"kind": "Zone", "limit": 0}), Code::InvalidArgument),
        ("Resources/List", json!({"kind": "Zone", "continue": "9.a"}), Code::OutOfRange),
        ("Resources/Watch", json!({"since": 9}), Code::OutOfRange),
        ("Questions/Reach", json!({"from": "a", "to": "b", "protocol": "tcp", "port": 70_000}), Code::InvalidArgument),
        ("Questions/Reach", json!({"from": "a", "to": "b", "protocol": "tcp", "port": 7}), Code::FailedPrecondition),
        ("Access/CreateToken", json!({"name": "taken"}), Code::AlreadyExists),
        ("Access/RevokeToken", json!({"name": "other"}), Code::NotFound),
        ("Fabric/Vtep", json!({"name": "hv1"}), Code::NotFound),
    ] {
        let error = client.stream(&format!("bulkhead.v1.{method}"), vec![asked], 9).await.unwrap_err();
        assert_eq!(error.code(), code, "{method}: {error}");
        assert!(client.problem(&error)["type"].as_str().unwrap().starts_with("urn:bulkhead:problem:"), "{method}");
    }
}

/// The least role that is let past the gate of each method; nobody's are the first.
fn least(method: &str) -> usize {
    let (service, name) = method.split_once('/').unwrap();
    match (service, name) {
        ("grpc.health.v1.Health", "Check") => 0,
        ("bulkhead.v1.Access", _) | (_, "Restore") => 4,
        (_, "Backup" | "Vtep" | "ReportVtep") => 3,
        (_, "Put" | "Patch" | "Delete" | "Apply" | "Remove" | "Rollback") => 2,
        _ => 1,
    }
}

#[tokio::test]
async fn every_method_asks_who_it_is() {
    let fake = Fake::default();
    let (client, _stop) = served(fake.clone()).await;
    fake.0.lock().unwrap().closed = true;
    for method in methods().into_iter().filter(|method| !method.starts_with("grpc.reflection")) {
        for token in ["", "nonsense"] {
            let code =
                client.clone().with_token(token).stream(method, vec![json!({})], 1).await.err().map(|e| e.code());
            let expected = if least(method) == 0 { None } else { Some(Code::Unauthenticated) };
            assert_eq!(code, expected, "{method} `{token}`");
        }
        for (at, role) in ["viewer", "editor", "operator", "admin"].into_iter().enumerate() {
            let before = fake.0.lock().unwrap().refused.len();
            let asked = if method.ends_with("Vtep") { json!({"name": "hv1"}) } else { json!({}) };
            let code = client.clone().with_token(role).stream(method, vec![asked], 1).await.err().map(|e| e.code());
            let refused = code == Some(Code::PermissionDenied);
            assert_eq!(refused, at + 1 < least(method), "{method} {role}: {code:?}");
            assert_ne!(code, Some(Code::Unauthenticated), "{method} {role}");
            // Who is refused is in the audit log, by the method that he asked for.
            let told = fake.0.lock().unwrap().refused.split_off(before);
            assert_eq!(told.len(), usize::from(refused), "{method} {role}: {told:?}");
            assert!(told.iter().all(|told| told.contains(&format!("POST /{method}: "))), "{told:?}");
        }
    }
}

#[tokio::test]
async fn scopes_hold_as_they_do_by_rest() {
    let fake = Fake::default();
    let (client, _stop) = served(fake.clone()).await;
    client.call("bulkhead.v1.Resources/Apply", json!({"documents": shop()})).await.unwrap();
    fake.0.lock().unwrap().closed = true;
    let editor = client.clone().with_token("editor@app=shop,tier=web");
    let apply = async |text: String| editor.call("bulkhead.v1.Resources/Apply", json!({"documents": text})).await;
    assert_eq!(apply(policy("own", "web")).await.unwrap()["revision"], 2);
    for (method, asked) in [
        ("Apply", json!({"documents": policy("other", "db")})),
        ("Put", json!({"kind": "Policy", "name": "other", "document": policy("other", "db")})),
        (
            "Patch",
            json!({"kind": "Policy", "name": "own", "patch": r#"{"spec": {"subject": {"matchLabels": {"tier": "db"}}}}"#}),
        ),
        ("Delete", json!({"kind": "Network", "name": "shop"})),
        ("Remove", json!({"documents": "{kind: Network, metadata: {name: shop}}"})),
    ] {
        let refused = editor.call(&format!("bulkhead.v1.Resources/{method}"), asked).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{method}");
    }
    assert_eq!(fake.0.lock().unwrap().refused.len(), 5);
    let viewer = client.clone().with_token("viewer@tier=web");
    let list = viewer.call("bulkhead.v1.Resources/List", json!({"kind": "Workload"})).await.unwrap();
    assert_eq!(list["items"].as_array().unwrap().len(), 2);
    assert_eq!(viewer.call("bulkhead.v1.Fabric/Status", json!({})).await.unwrap_err().code(), Code::PermissionDenied);
    // An agent speaks for its own switch.
    let agent = client.clone().with_token("vtep@hv9");
    for (name, code) in [("hv8", Code::PermissionDenied), ("hv9", Code::NotFound), ("", Code::PermissionDenied)] {
        let told = agent.call("bulkhead.v1.Fabric/Vtep", json!({"name": name})).await.unwrap_err();
        assert_eq!(told.code(), code, "`{name}`");
    }
}

#[tokio::test]
async fn a_watch_goes_on_where_another_ended() {
    let fake = Fake::default();
    let (client, _stop) = served(fake.clone()).await;
    let apply =
        async |text: String| client.call("bulkhead.v1.Resources/Apply", json!({"documents": text})).await.unwrap();
    let watch =
        async |asked: Value, count: usize| client.stream("bulkhead.v1.Resources/Watch", vec![asked], count).await;
    apply(shop()).await;
    let told = watch(json!({"since": 0}), 2).await.unwrap();
    assert_eq!((told[0]["at"].as_u64(), told[1]["at"].as_u64()), (Some(0), Some(1)));
    assert_eq!(told[1]["events"].as_array().unwrap().len(), 18);
    apply(policy("p", "web")).await;
    apply(policy("q", "web")).await;
    apply(policy("p", "app")).await;
    // All that happened since, as what it came to; or first a part of it, where the watch before it was told that part.
    let told = loop {
        let told = watch(json!({"since": 1, "kinds": ["Policy"]}), 2).await.unwrap();
        if told[1]["at"] == 4 {
            break told;
        }
    };
    let events: Vec<_> =
        told[1]["events"].as_array().unwrap().iter().map(|e| (&e["resource"]["name"], &e["change"])).collect();
    assert_eq!(events, [(&json!("p"), &json!("CHANGE_KIND_CREATED")), (&json!("q"), &json!("CHANGE_KIND_CREATED"))]);
    assert!(told[1]["events"][0]["resource"]["document"].as_str().unwrap().contains(r#""tier":"app""#));
    // And what is too old is said.
    fake.0.lock().unwrap().oldest = 3;
    let old = watch(json!({"since": 2}), 1).await.unwrap_err();
    assert_eq!(
        (old.code(), client.problem(&old)["type"].as_str()),
        (Code::OutOfRange, Some("urn:bulkhead:problem:too-old"))
    );
}

#[tokio::test]
async fn a_watch_ends_when_its_token_does() {
    let fake = Fake::default();
    let (client, _stop) = served(fake.clone()).await;
    let watching = tokio::spawn({
        let client = client.clone();
        async move { client.stream("bulkhead.v1.Resources/Watch", vec![json!({})], 99).await }
    });
    client.call("bulkhead.v1.Resources/Apply", json!({"documents": shop()})).await.unwrap();
    fake.0.lock().unwrap().closed = true;
    let admin = client.clone().with_token("admin");
    admin.call("bulkhead.v1.Resources/Apply", json!({"documents": policy("p", "web")})).await.unwrap();
    assert_eq!(watching.await.unwrap().unwrap_err().code(), Code::Unauthenticated);
}

/// Public types and their messages.
const PAIRS: [(&str, &str); 50] = [
    ("ApplyAnswer", "ChangeAnswer"),
    ("ChangeLine", "ChangeLine"),
    ("Diagnostic", "Diagnostic"),
    ("Problem", "Problem"),
    ("PlanAnswer", "Plan"),
    ("EntryCounts", "EntryCounts"),
    ("MatrixRow", "MatrixRow"),
    ("FlowQuestion", "FlowQuestion"),
    ("ReachAnswer", "ReachAnswer"),
    ("SideAnswer", "Side"),
    ("StagedAnswer", "Staged"),
    ("TraceAnswer", "TraceAnswer"),
    ("TraceHop", "TraceHop"),
    ("TraceStep", "TraceStep"),
    ("HistoryAnswer", "HistoryAnswer"),
    ("HistoryLine", "HistoryLine"),
    ("DiffAnswer", "DiffAnswer"),
    ("DiffLine", "DiffLine"),
    ("Realization", "RealizationAnswer"),
    ("RestoreAnswer", "RestoreAnswer"),
    ("StatusAnswer", "StatusAnswer"),
    ("SwitchStatus", "SwitchStatus"),
    ("PendingSwitch", "PendingSwitch"),
    ("DoubledPort", "DoubledPort"),
    ("SessionStatus", "SessionStatus"),
    ("TunnelStatus", "TunnelStatus"),
    ("HostStatus", "HostStatus"),
    ("QuarantinedInterface", "QuarantinedInterface"),
    ("TlsStatus", "TlsStatus"),
    ("CertificateStatus", "CertificateStatus"),
    ("LinksInShort", "LinksInShort"),
    ("LinkStatus", "LinkStatus"),
    ("LinkEnd", "LinkEnd"),
    ("ForeignLldp", "ForeignLldp"),
    ("LearningStatus", "LearningStatus"),
    ("NotLearned", "NotLearned"),
    ("NetworkApart", "NetworkApart"),
    ("NetworkPart", "NetworkPart"),
    ("TopologyAnswer", "TopologyAnswer"),
    ("SwitchPlace", "SwitchPlace"),
    ("PathQuestion", "PathQuestion"),
    ("PathAnswer", "PathAnswer"),
    ("PathHop", "PathHop"),
    ("PortsAnswer", "PortsAnswer"),
    ("PortStatus", "PortStatus"),
    ("SeenAttachment", "Attachment"),
    ("RuleHits", "RuleHits"),
    ("Counter", "Counter"),
    ("SwitchHits", "SwitchHits"),
    ("TokenAnswer", "TokenAnswer"),
];
const MORE_PAIRS: [(&str, &str); 11] = [
    ("TokenList", "TokenList"),
    ("TokenLine", "TokenLine"),
    ("TokenQuestion", "TokenQuestion"),
    ("AuditAnswer", "AuditAnswer"),
    ("AuditHead", "AuditHead"),
    ("VtepAnswer", "VtepAnswer"),
    ("VtepForwarding", "VtepForwarding"),
    ("VtepNetwork", "VtepNetwork"),
    ("VtepPort", "VtepPort"),
    ("VtepFar", "VtepFar"),
    ("VtepReport", "VtepReport"),
];

/// What a field of a schema is, in a word.
fn form(schema: &Value) -> String {
    if let Some(to) = schema["$ref"].as_str() {
        let name = to.rsplit('/').next().unwrap();
        let message = PAIRS.iter().chain(&MORE_PAIRS).find(|(of, _)| *of == name).map_or(name, |(_, message)| message);
        return message.into();
    }
    if let Some(first) = schema.pointer("/oneOf/0") {
        return form(first);
    }
    let types = &schema["type"];
    let one = types.as_str().or_else(|| types.as_array()?.iter().filter_map(Value::as_str).find(|one| *one != "null"));
    match one.unwrap() {
        "array" => format!("list of {}", form(&schema["items"])),
        "object" if schema["additionalProperties"].is_object() => {
            format!("map of {}", form(&schema["additionalProperties"]))
        }
        // A document.
        "object" => "string".into(),
        one => one.into(),
    }
}

#[test]
fn messages_have_the_fields_of_the_public_types() {
    let document = document::<Fake>();
    let pool = DescriptorPool::decode(bulkhead_proto::DESCRIPTORS).unwrap();
    for (schema, message) in PAIRS.into_iter().chain(MORE_PAIRS) {
        let schema = &document["components"]["schemas"][schema];
        let parts: Vec<&Value> = match schema["allOf"].as_array() {
            Some(parts) => parts
                .iter()
                .map(|part| part["$ref"].as_str().map_or(part, |to| document.pointer(&to[1..]).unwrap()))
                .collect(),
            None => vec![schema],
        };
        let fields = parts.into_iter().flat_map(|part| part["properties"].as_object().unwrap());
        let fields: BTreeSet<(String, String)> = fields.map(|(name, field)| (name.clone(), form(field))).collect();
        let descriptor = pool.get_message_by_name(&format!("bulkhead.v1.{message}")).unwrap();
        let kind = |kind: Kind| match kind {
            Kind::String => "string".to_owned(),
            Kind::Bool => "boolean".into(),
            Kind::Uint32 | Kind::Uint64 => "integer".into(),
            Kind::Message(message) if message.name() == "PathStep" => "list of PathHop".into(),
            Kind::Message(message) => message.name().into(),
            Kind::Enum(words) => words.name().into(),
            other => format!("{other:?}"),
        };
        let told = descriptor.fields().map(|field| {
            let form = match field.kind() {
                Kind::Message(entry) if field.is_map() => {
                    format!("map of {}", kind(entry.map_entry_value_field().kind()))
                }
                one if field.is_list() => format!("list of {}", kind(one)),
                one => kind(one),
            };
            (field.json_name().to_owned(), form)
        });
        assert_eq!(told.collect::<BTreeSet<_>>(), fields, "{message}");
    }
}
