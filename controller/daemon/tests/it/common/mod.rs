//! A daemon on simulated switches, and a client of it.
#![allow(dead_code, reason = "each test binary uses its own part")]

use bulkhead_client::{Client as Typed, Error, Security};
use bulkhead_daemon::{Api, Config, Daemon};
use bulkhead_types::TokenQuestion;
use serde_json::{Value, json};
use std::{fs, path::Path};

pub fn config(directory: &Path) -> Config {
    Config { record: Some(directory.join("events.jsonl")), ..Config::inside(directory.join("data")) }
}

/// The same, with TLS by a certificate of its own.
pub fn secured(directory: &Path) -> Config {
    Config { api: Api::Tls { own: None, client_ca: None }, ..config(directory) }
}

/// Whoever administers the daemon's machine, as its file tells; and somebody who is not known.
pub fn admin(config: &Config, daemon: &Daemon) -> (Typed, Typed) {
    let ca = fs::read_to_string(config.data_dir.join("tls/ca.pem")).unwrap();
    let nobody =
        Typed::secure(&format!("https://{}", daemon.listen), &Security { ca: Some(ca), ..Security::default() });
    (nobody.as_ref().unwrap().clone().with_token(&local_token(config)), nobody.unwrap())
}

pub fn local_token(config: &Config) -> String {
    let told = fs::read_to_string(config.data_dir.join("admin.yaml")).unwrap();
    told.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap().to_owned()
}

/// Asks off the test's own thread.
pub async fn ask<R: Send + 'static>(ask: impl FnOnce() -> R + Send + 'static) -> R {
    tokio::task::spawn_blocking(ask).await.unwrap()
}

/// An answer's status; 0 if there is none.
pub fn status(error: &Error) -> u16 {
    error.problem().map(|problem| problem.status).unwrap_or_default()
}

pub fn question(name: &str, grant: &str) -> TokenQuestion {
    TokenQuestion { name: name.into(), grants: vec![grant.into()], ..TokenQuestion::default() }
}

pub fn policy(app: &str) -> Vec<Value> {
    vec![json!({"kind": "Policy", "metadata": {"name": app},
        "spec": {"subject": {"matchLabels": {"app": app}}, "ingress": []}})]
}

/// The shop's documents, on a simulated switch.
pub fn shop() -> String {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/three-tier");
    let mut files: Vec<_> = fs::read_dir(examples).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.retain(|file| !file.ends_with("switch.yaml"));
    let mut documents: Vec<String> = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    documents.push("kind: Switch\nmetadata: {name: hv1}\nspec: {driver: sim}\n".into());
    documents.join("\n---\n")
}

/// A client of one daemon.
#[derive(Clone)]
pub struct Client(String);

impl Client {
    pub fn of(daemon: &Daemon) -> Self {
        Self(format!("http://{}", daemon.listen))
    }

    /// Sends a request off the test's own thread, and gives status and body.
    pub async fn send(&self, method: &'static str, path: &str, body: Option<String>) -> (u16, Value) {
        let (url, body) = (format!("{}{path}", self.0), body.unwrap_or_default());
        tokio::task::spawn_blocking(move || {
            let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
            let yaml = "application/yaml";
            let mut answer = match method {
                "GET" => agent.get(&url).call(),
                "DELETE" => agent.delete(&url).call(),
                _ if body.starts_with('{') => agent.post(&url).content_type("application/json").send(&body),
                _ => agent.post(&url).content_type(yaml).send(&body),
            }
            .unwrap();
            let text = answer.body_mut().read_to_string().unwrap();
            let value = serde_json::from_str(&text).unwrap_or(Value::String(text));
            (answer.status().as_u16(), value)
        })
        .await
        .unwrap()
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.send("GET", path, None).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn ask(&self, path: &str, from: &str, to: &str, port: u16) -> Value {
        let question = json!({"from": from, "to": to, "protocol": "tcp", "port": port});
        let (status, body) = self.send("POST", path, Some(question.to_string())).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}
