//! A blocking client of the REST API.

mod tls;
mod watch;

pub use tls::Security;
pub use watch::{Told, Watch};

use bulkhead_types::{
    ApplyAnswer, AuditAnswer, Diagnostic, DiffAnswer, FlowQuestion, Format, HistoryAnswer, MAX_INPUT, MatrixRow,
    PathAnswer, PathQuestion, PortsAnswer, Problem, ReachAnswer, Realization, RestoreAnswer, RollbackQuestion,
    RuleHits, SeenAttachment, StatusAnswer, TokenAnswer, TokenList, TokenQuestion, TopologyAnswer, TraceAnswer,
    USER_HEADER, VtepAnswer, VtepReport,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    fs::File,
    io::{self, Read},
    time::Duration,
};

/// Where a controller listens unless it is told otherwise.
pub const DEFAULT_SERVER: &str = "https://127.0.0.1:7480";

/// Longest that a connection may take to be made.
const CONNECT_TIME: Duration = Duration::from_secs(5);
/// Longest that an answer may take; above the server's own limit, so that its explanation arrives.
const ANSWER_TIME: Duration = Duration::from_secs(120);
/// Largest answer that is read: a list of some hundred thousand workloads.
const MAX_ANSWER: u64 = 1 << 30;

/// The type of bodies that this client writes.
const JSON: &str = "application/json";

/// A body without line breaks and spaces: it counts against the server's limit.
fn compact(body: &impl Serialize) -> String {
    // What is sent are plain structs and values with text keys; these cannot fail to serialize.
    serde_json::to_string(body).unwrap_or_default()
}

/// A body, if the server would read it.
fn fits<B: AsRef<[u8]>>(body: B) -> Result<B, Error> {
    let size = body.as_ref().len();
    if size > MAX_INPUT { Err(Error::TooLarge { size }) } else { Ok(body) }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address makes no sense.
    #[error("`{url}` is not the address of a server: {why}; write it as {DEFAULT_SERVER}")]
    Address {
        /// What was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// What is needed for TLS is not in the text that is to have it.
    #[error("there is no {what}, in PEM form (`-----BEGIN ...`)")]
    Pem {
        /// What is missing.
        what: String,
    },
    /// A certificate that cannot be shown.
    #[error("the certificate (--cert) cannot be shown with this private key (--key): {0}")]
    Own(String),
    /// The server would not read it to its end.
    #[error("the documents have {size} bytes; at most {MAX_INPUT} go into one change: send them in several")]
    TooLarge {
        /// Size of the request's body in bytes.
        size: usize,
    },
    /// Nobody answers there.
    #[error("no answer from {url}: {why}\n{}", hint(.why))]
    Unreachable {
        /// The server's address.
        url: String,
        /// What the attempt ended with.
        why: Box<ureq::Error>,
    },
    /// The server said no, and why.
    #[error("{}", describe(.0))]
    Problem(Box<Problem>),
    /// What answers is no Bulkhead controller of this version.
    #[error("{url} answered {status} with something that is not Bulkhead's: {why}")]
    Answer {
        /// What was asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What is wrong with the answer.
        why: String,
    },
}

impl Error {
    /// The problem document, if the server sent one.
    pub fn problem(&self) -> Option<&Problem> {
        match self {
            Self::Problem(problem) => Some(problem),
            _ => None,
        }
    }

    /// Whether the server did not take the request as a whole, as far as can be told: too much came at once, or too slowly, or
    /// nobody is there.
    pub fn was_not_taken(&self) -> bool {
        match self {
            Self::Unreachable { why, .. } => {
                let closed = |error| was_closed(error) || error.kind() == io::ErrorKind::ConnectionRefused;
                matches!(&**why, ureq::Error::Io(error) if closed(error))
            }
            Self::Problem(problem) => matches!(problem.status, 408 | 503),
            _ => false,
        }
    }

    /// The findings that came with the problem.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        self.problem().map(|p| p.diagnostics.as_slice()).unwrap_or_default()
    }
}

/// What rustls found wrong with a session.
fn refused(error: &ureq::Error) -> Option<&rustls::Error> {
    match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref()?.downcast_ref(),
        _ => None,
    }
}

/// What to do about an attempt that ended so.
fn hint(why: &ureq::Error) -> &'static str {
    use rustls::{CertificateError as Wrong, Error as Tls};
    match refused(why) {
        Some(Tls::InvalidCertificate(Wrong::UnknownIssuer | Wrong::BadSignature)) => {
            "Its certificate is not signed by an authority that is believed here: say with --ca which one is, and look \
             whether it is the right server. A controller that made its own has it in DATA_DIR/tls/ca.pem."
        }
        Some(Tls::InvalidCertificate(Wrong::NotValidForName | Wrong::NotValidForNameContext { .. })) => {
            "Its certificate is for other names: write one of them in --server, or give the controller a certificate for \
             this one."
        }
        Some(Tls::InvalidCertificate(_)) => "Its certificate is not to be believed.",
        Some(Tls::AlertReceived(_)) => {
            "It refuses the certificate that was shown to it (--cert): is it of an authority \
             that the controller believes (--client-ca there), in its time, and not revoked?"
        }
        Some(Tls::InvalidMessage(_)) => "What answers there speaks no TLS: is it http:// that is meant?",
        _ => "Is bulkheadd running there? Another address is given with --server or BULKHEAD_SERVER.",
    }
}

/// Whether an error says that the server closed a connection that had been good.
fn was_closed(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

/// Problems whose title only says their HTTP status in words.
const PLAIN: [&str; 2] = ["urn:bulkhead:problem:not-found", "urn:bulkhead:problem:bad-request"];

fn describe(problem: &Problem) -> String {
    match (problem.title.as_str(), problem.detail.as_str()) {
        (title, "") => title.into(),
        (_, detail) if PLAIN.contains(&problem.kind.as_str()) => detail.into(),
        (title, detail) => format!("{title}: {detail}"),
    }
}

/// A list of resources.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
pub struct List {
    /// The revision that it shows.
    pub revision: u64,
    /// The resources as documents.
    pub items: Vec<Value>,
    /// What to go on with, if there are more.
    #[serde(rename = "continue", default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// A connection to one controller.
#[derive(Debug, Clone)]
pub struct Client {
    agent: ureq::Agent,
    base: String,
    user: Option<String>,
    token: Option<String>,
}

impl Client {
    /// A client of the controller at `url`, which by TLS has to be one that the system's authorities vouch for; nothing is
    /// sent yet.
    pub fn new(url: &str) -> Result<Self, Error> {
        Self::secure(url, &Security::default())
    }

    /// The same, with what TLS takes.
    pub fn secure(url: &str, security: &Security) -> Result<Self, Error> {
        let bad = |why: &str| Error::Address { url: url.into(), why: why.into() };
        let base = url.trim_end_matches('/');
        let host = base.strip_prefix("https://").or_else(|| base.strip_prefix("http://"));
        let host = host.ok_or_else(|| bad("it does not begin with https:// (or http://)"))?;
        if host.is_empty() || host.contains(['/', ' ', '?', '#', '@']) {
            return Err(bad("a host and a port are expected after https://"));
        }
        let tls = if base.starts_with("https://") { security.config()? } else { ureq::tls::TlsConfig::default() };
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIME))
            .timeout_global(Some(ANSWER_TIME))
            .proxy(None)
            .max_redirects(0)
            .build();
        Ok(Self { agent: ureq::Agent::new_with_config(config), base: base.into(), user: None, token: None })
    }

    /// The same, telling the server with each change whose it is; what a header cannot hold is left out.
    pub fn of_user(self, user: &str) -> Self {
        let user: String = user.chars().filter(|c| c.is_ascii_graphic() || *c == ' ').collect();
        Self { user: Some(user).filter(|user| !user.is_empty()), ..self }
    }

    /// The same, showing a token with each request.
    pub fn with_token(self, token: &str) -> Self {
        Self { token: Some(format!("Bearer {}", token.trim())), ..self }
    }

    /// Says whose a request is.
    fn signed<B>(&self, request: ureq::RequestBuilder<B>) -> ureq::RequestBuilder<B> {
        let request = match &self.token {
            Some(token) => request.header("authorization", token),
            None => request,
        };
        match &self.user {
            Some(user) => request.header(USER_HEADER, user),
            None => request,
        }
    }

    /// The controller's address.
    pub fn server(&self) -> &str {
        &self.base
    }

    fn url(&self, path: &str, query: &[(&str, &str)]) -> String {
        let mut url = format!("{}{path}", self.base);
        for (i, (key, value)) in query.iter().enumerate() {
            url.push(if i == 0 { '?' } else { '&' });
            url.push_str(key);
            url.push('=');
            url.push_str(&escape(value));
        }
        url
    }

    fn read(
        &self,
        url: &str,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(u16, String), Error> {
        let unreachable = |why| Error::Unreachable { url: self.base.clone(), why: Box::new(why) };
        let mut response = sent.map_err(unreachable)?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(MAX_ANSWER).read_to_string().map_err(unreachable)?;
        if (200..300).contains(&status) {
            return Ok((status, text));
        }
        match serde_json::from_str::<Problem>(&text) {
            Ok(problem) => Err(Error::Problem(Box::new(problem))),
            Err(e) => Err(Error::Answer { url: url.into(), status, why: e.to_string() }),
        }
    }

    fn answer<T: DeserializeOwned>(
        &self,
        url: &str,
        sent: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<T, Error> {
        let (status, text) = self.read(url, sent)?;
        serde_json::from_str(&text).map_err(|e| Error::Answer { url: url.into(), status, why: e.to_string() })
    }

    fn get_json<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Error> {
        let url = self.url(path, query);
        let ask = || self.signed(self.agent.get(&url)).call();
        let sent = match ask() {
            // A busy server gives an idle connection's place to whoever has something to say. A question changes
            // nothing, so it may be asked again on a new one.
            Err(ureq::Error::Io(error)) if was_closed(&error) => ask(),
            sent => sent,
        };
        self.answer(&url, sent)
    }

    fn post_json<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: &impl Serialize,
    ) -> Result<T, Error> {
        self.post(path, query, Format::Json, compact(body).as_bytes())
    }

    fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
        format: Format,
        body: &[u8],
    ) -> Result<T, Error> {
        let content_type = match format {
            Format::Json => JSON,
            Format::Any => "application/yaml",
        };
        let url = self.url(path, query);
        self.answer(&url, self.signed(self.agent.post(&url)).content_type(content_type).send(fits(body)?))
    }

    /// Applies documents as one atomic change; with `dry_run` only says what it would do.
    pub fn apply(&self, documents: &[Value], dry_run: bool) -> Result<ApplyAnswer, Error> {
        let query: &[_] = if dry_run { &[("dryRun", "true")] } else { &[] };
        self.post_json("/v1/apply", query, &documents)
    }

    /// The same, of documents as they are written: what is found in them has its place in this text.
    pub fn apply_text(&self, text: &[u8], format: Format, dry_run: bool) -> Result<ApplyAnswer, Error> {
        let query: &[_] = if dry_run { &[("dryRun", "true")] } else { &[] };
        self.post("/v1/apply", query, format, text)
    }

    /// The resources of a kind (its plural, as in URLs), selected by labels if a selector is given.
    pub fn list(&self, kind: &str, selector: Option<&str>) -> Result<List, Error> {
        let query: Vec<_> = selector.map(|s| ("labelSelector", s)).into_iter().collect();
        self.get_json(&format!("/v1/{kind}"), &query)
    }

    /// A part of such a list: at most `limit` resources, from the beginning or from what [`List::next`] said.
    pub fn list_page(&self, kind: &str, limit: Option<usize>, next: Option<&str>) -> Result<List, Error> {
        let limit = limit.map(|limit| limit.to_string());
        let query = limit.iter().map(|limit| ("limit", limit.as_str())).chain(next.map(|next| ("continue", next)));
        self.get_json(&format!("/v1/{kind}"), &query.collect::<Vec<_>>())
    }

    /// One resource.
    pub fn get(&self, kind: &str, name: &str) -> Result<Value, Error> {
        self.get_json(&format!("/v1/{kind}/{}", escape(name)), &[])
    }

    /// Creates or replaces one resource.
    pub fn put(&self, kind: &str, name: &str, document: &Value) -> Result<ApplyAnswer, Error> {
        let url = self.url(&format!("/v1/{kind}/{}", escape(name)), &[]);
        self.answer(&url, self.signed(self.agent.put(&url)).content_type(JSON).send(fits(compact(document))?))
    }

    /// Changes a part of one resource, by a JSON merge patch (RFC 7396).
    pub fn patch(&self, kind: &str, name: &str, patch: &Value) -> Result<ApplyAnswer, Error> {
        let url = self.url(&format!("/v1/{kind}/{}", escape(name)), &[]);
        let request = self.signed(self.agent.patch(&url)).content_type("application/merge-patch+json");
        self.answer(&url, request.send(fits(compact(patch))?))
    }

    /// Removes what documents name, as one atomic change; with `dry_run` only says what it would do.
    pub fn delete(&self, documents: &[Value], dry_run: bool) -> Result<ApplyAnswer, Error> {
        let query: &[_] = if dry_run { &[("dryRun", "true")] } else { &[] };
        self.post_json("/v1/delete", query, &documents)
    }

    /// The same, of documents as they are written.
    pub fn delete_text(&self, text: &[u8], format: Format, dry_run: bool) -> Result<ApplyAnswer, Error> {
        let query: &[_] = if dry_run { &[("dryRun", "true")] } else { &[] };
        self.post("/v1/delete", query, format, text)
    }

    /// At most `limit` revisions before `before`, or the newest ones.
    pub fn history(&self, before: Option<u64>, limit: usize) -> Result<HistoryAnswer, Error> {
        let (before, limit) = (before.map(|before| before.to_string()), limit.to_string());
        let before = before.iter().map(|before| ("before", before.as_str()));
        let query: Vec<_> = before.chain([("limit", limit.as_str())]).collect();
        self.get_json("/v1/history", &query)
    }

    /// What differs between two revisions; between one and the newest if there is no second.
    pub fn diff(&self, from: u64, to: Option<u64>) -> Result<DiffAnswer, Error> {
        let (from, to) = (from.to_string(), to.map(|to| to.to_string()));
        let to = to.iter().map(|to| ("to", to.as_str()));
        let query: Vec<_> = [("from", from.as_str())].into_iter().chain(to).collect();
        self.get_json("/v1/diff", &query)
    }

    /// Makes a new revision with the content of an old one; with `dry_run` only says what it would do.
    pub fn rollback(&self, question: &RollbackQuestion, dry_run: bool) -> Result<ApplyAnswer, Error> {
        let query: &[_] = if dry_run { &[("dryRun", "true")] } else { &[] };
        self.post_json("/v1/rollback", query, question)
    }

    /// A backup of everything, to be read to its end: whether it is whole shows there
    /// ([`bulkhead_types::read_backup`]).
    pub fn backup(&self) -> Result<impl Read, Error> {
        Ok(self.stream("/v1/backup", &[])?.1)
    }

    /// An answer that may take as long as it does, with what was asked.
    fn stream(&self, path: &str, query: &[(&str, &str)]) -> Result<(String, impl Read + Send + use<>), Error> {
        let url = self.url(path, query);
        let sent = self.signed(self.agent.get(&url)).config().timeout_global(None).build().call();
        let response = sent.map_err(|why| Error::Unreachable { url: self.base.clone(), why: Box::new(why) })?;
        if response.status().as_u16() != 200 {
            let none = self.answer::<()>(&url, Ok(response));
            none?;
            return Err(Error::Answer { url, status: 200, why: "it is nothing that was asked for".into() });
        }
        Ok((url, response.into_body().into_reader()))
    }

    /// Restores a backup into a controller that has nothing yet.
    pub fn restore(&self, backup: File) -> Result<RestoreAnswer, Error> {
        let url = self.url("/v1/restore", &[]);
        let request = self.signed(self.agent.post(&url)).content_type("application/x-ndjson");
        self.answer(&url, request.config().timeout_global(None).build().send(backup))
    }

    /// Who decides about a connection, and how.
    pub fn reach(&self, question: &FlowQuestion) -> Result<ReachAnswer, Error> {
        self.post_json("/v1/reach", &[], question)
    }

    /// A packet's way through the compiled stages.
    pub fn trace(&self, question: &FlowQuestion) -> Result<TraceAnswer, Error> {
        self.post_json("/v1/trace", &[], question)
    }

    /// Who reaches whom.
    pub fn matrix(&self, selector: Option<&str>, port: Option<&str>) -> Result<Vec<MatrixRow>, Error> {
        let selector = selector.map(|s| ("labelSelector", s));
        let query: Vec<_> = selector.into_iter().chain(port.map(|p| ("port", p))).collect();
        self.get_json("/v1/matrix", &query)
    }

    /// Switches and the links between them.
    pub fn topology(&self) -> Result<TopologyAnswer, Error> {
        self.get_json("/v1/topology", &[])
    }

    /// The ports of a switch.
    pub fn ports(&self, switch: &str) -> Result<PortsAnswer, Error> {
        self.get_json("/v1/ports", &[("switch", switch)])
    }

    /// The ways between two.
    pub fn path(&self, question: &PathQuestion) -> Result<PathAnswer, Error> {
        self.post_json("/v1/path", &[], question)
    }

    /// The switches' states.
    pub fn status(&self) -> Result<StatusAnswer, Error> {
        self.get_json("/v1/status", &[])
    }

    /// Numbers about the controller, in the Prometheus text format.
    pub fn metrics(&self) -> Result<String, Error> {
        let url = self.url("/metrics", &[]);
        self.read(&url, self.signed(self.agent.get(&url)).call()).map(|(_, text)| text)
    }

    /// What a kernel VTEP has to forward that holds what was told it at a revision (0: nothing); the server waits up to
    /// `wait` for it to be something else.
    pub fn vtep(&self, switch: &str, held: u64, wait: Duration) -> Result<VtepAnswer, Error> {
        let (held, wait) = (held.to_string(), format!("{}ms", wait.as_millis()));
        self.get_json(&format!("/v1/vteps/{}", escape(switch)), &[("held", &held), ("wait", &wait)])
    }

    /// Tells how a kernel VTEP is.
    pub fn vtep_report(&self, switch: &str, report: &VtepReport) -> Result<(), Error> {
        self.post_json(&format!("/v1/vteps/{}", escape(switch)), &[], report)
    }

    /// Tokens, without what makes them such.
    pub fn tokens(&self) -> Result<TokenList, Error> {
        self.get_json("/v1/tokens", &[])
    }

    /// Makes a token.
    pub fn create_token(&self, question: &TokenQuestion) -> Result<TokenAnswer, Error> {
        self.post_json("/v1/tokens", &[], question)
    }

    /// Ends a token.
    pub fn revoke_token(&self, name: &str) -> Result<(), Error> {
        let url = self.url(&format!("/v1/tokens/{}", escape(name)), &[]);
        self.answer(&url, self.signed(self.agent.delete(&url)).call())
    }

    /// Audit records after the one with this number, oldest first, at most `limit` of them.
    pub fn audit(&self, after: u64, limit: usize) -> Result<AuditAnswer, Error> {
        let (after, limit) = (after.to_string(), limit.to_string());
        self.get_json("/v1/audit", &[("after", &after), ("limit", &limit)])
    }

    /// What rules have matched, of one policy or of all and the built-in ones.
    pub fn hits(&self, policy: Option<&str>) -> Result<Vec<RuleHits>, Error> {
        let query: Vec<_> = policy.map(|p| ("policy", p)).into_iter().collect();
        self.get_json("/v1/hits", &query)
    }

    /// Where interfaces are plugged in whose documents do not say: of one workload, or of all.
    pub fn attachments(&self, workload: Option<&str>) -> Result<Vec<SeenAttachment>, Error> {
        let query: Vec<_> = workload.map(|w| ("workload", w)).into_iter().collect();
        self.get_json("/v1/attachments", &query)
    }

    /// How far a revision has come; the server waits up to `wait` for it to be realized.
    pub fn realization(&self, revision: u64, wait: Duration) -> Result<Realization, Error> {
        let (revision, wait) = (revision.to_string(), format!("{}ms", wait.as_millis()));
        self.get_json("/v1/realization", &[("revision", &revision), ("wait", &wait)])
    }
}

/// Percent-encodes everything but unreserved characters (RFC 3986 §2.3).
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::{
        io::{Read, Write},
        net::TcpListener,
        thread,
    };

    /// Answers one request with `response` and hands back what was asked.
    fn once(response: &'static str) -> (Client, thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 4096];
            let len = stream.read(&mut request).unwrap();
            stream.write_all(response.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..len]).into_owned()
        });
        (client, server)
    }

    #[test]
    fn a_question_is_asked_again_when_its_connection_was_given_away() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = Client::new(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = listener.accept().unwrap();
                let _ = stream.read(&mut [0; 4096]).unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n{\"a\":1}").unwrap();
                // A second question on it is left unread, and the connection closed, which resets it.
                let _ = stream.peek(&mut [0]);
            }
        });
        for _ in 0..2 {
            assert_eq!(client.get("networks", "n").unwrap(), serde_json::json!({"a": 1}));
        }
        drop(client);
        server.join().unwrap();
    }

    #[test]
    fn what_the_server_would_not_read_is_not_sent() {
        let client = Client::new("http://127.0.0.1:9").unwrap();
        let large = Value::String("x".repeat(MAX_INPUT));
        let put = client.put("zones", "z", &large).unwrap_err().to_string();
        assert!(put.contains(&format!("{} bytes; at most {MAX_INPUT}", MAX_INPUT + 2)), "{put}");
        let said = client.apply(&[large], true).unwrap_err().to_string();
        assert!(said.contains(&format!("{} bytes; at most {MAX_INPUT}", MAX_INPUT + 4)), "{said}");
    }

    #[test]
    fn an_unreachable_server_is_named_with_the_remedy() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = Client::new(&format!("http://{free}")).unwrap().status().unwrap_err();
        let text = error.to_string();
        assert!(text.contains(&free.to_string()) && text.contains("--server"), "{text}");
        for bad in ["127.0.0.1:7480", "ftp://a:1", "http://", "https://", "http://a/b", "https://a@b"] {
            assert!(matches!(Client::new(bad), Err(Error::Address { .. })), "{bad}");
        }
    }

    #[test]
    fn problems_are_kept_and_strangers_recognized() {
        let body = r#"{"type":"urn:bulkhead:problem:refused","title":"T","status":422,"detail":"D","diagnostics":[
            {"severity":"error","path":"spec","message":"m","hint":"h","line":3,"column":1}]}"#;
        let text = format!("HTTP/1.1 422 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
        let (client, server) = once(text.leak());
        let error = client.list("workloads", Some("app in (a,b)")).unwrap_err();
        assert_eq!(error.diagnostics()[0].line, Some(3));
        assert_eq!(error.to_string(), "T: D");
        assert!(server.join().unwrap().starts_with("GET /v1/workloads?labelSelector=app%20in%20%28a%2Cb%29 HTTP/1.1"));
        let (client, _) = once("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nhi");
        assert!(matches!(client.status(), Err(Error::Answer { status: 200, .. })));
    }
}
