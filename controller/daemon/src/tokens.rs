//! Access: who has a token, or shows a certificate; kept in a file of its own in the data directory.
//!
//! They are no resources: a backup does not carry them away, going back does not bring a revoked one back, and nobody who
//! watches changes sees them. The file has a token's SHA-256. A slow hash is for what people think up; 256 random bits are
//! not guessed, however fast the guesses are.

use crate::authority::{Beside, is_left_beside};
use bulkhead_access::{Grant, Principal};
use bulkhead_api::{Caller, Known, Stranger, TokenError};
use bulkhead_tls::Subject;
use bulkhead_types::{MAX_USER, TokenAnswer, TokenLine, TokenList, TokenQuestion, rfc3339};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, RwLock},
    time::{SystemTime, UNIX_EPOCH},
};

/// The file in the data directory.
const FILE: &str = "tokens.json";
/// What every token begins with, so that programs that look for leaked secrets find it.
const PREFIX: &str = "bulkhead_";
/// Bytes of a token's public part, by which it is found.
const ID: usize = 8;
/// Bytes of its secret part.
const SECRET: usize = 32;
/// Most tokens: each is looked at when they are read and written.
const MAX_TOKENS: usize = 10_000;
/// Most grants of one token: each is tried for each request.
const MAX_GRANTS: usize = 16;
/// Longest life of a token that ends, in days: some hundred years.
const MAX_DAYS: u32 = 36_500;
/// Milliseconds of a day.
const DAY: u64 = 86_400_000;

/// What precedes a common name, by which access is found that a certificate has: no public part of a token begins so.
const SUBJECT: &str = "cn:";
/// What whoever administers the controller's machine is called.
const LOCAL: &str = "local-admin";

/// A token, as it is kept; or what a certificate has instead.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: String,
    grants: Vec<String>,
    author: String,
    /// In milliseconds since 1970-01-01 UTC, as the next.
    created: u64,
    expires: Option<u64>,
    /// SHA-256 of the whole token, in hexadecimal digits; empty if he shows a certificate.
    #[serde(default)]
    digest: String,
}

/// The tokens, shared by all requests.
#[derive(Debug, Clone)]
pub struct Tokens {
    path: PathBuf,
    /// By public part, or by common name.
    kept: Arc<RwLock<BTreeMap<String, Kept>>>,
    /// Held by whoever changes them: those who only look need not wait for the disk.
    changing: Arc<Mutex<()>>,
    /// Whether the controller ended in the midst of a change, which was not made.
    interrupted: bool,
    /// What is asked of somebody who shows nothing.
    local: Local,
    now: fn() -> u64,
}

/// Whoever administers the controller's machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Local {
    /// Everybody who reaches the API.
    Everybody,
    /// Who shows the token with this digest; nobody, if it is empty.
    Token {
        /// SHA-256 of the whole token, in hexadecimal digits.
        digest: String,
    },
}

impl Local {
    /// Who shows this token.
    pub fn with(token: &str) -> Self {
        Self::Token { digest: sum(token) }
    }

    /// Nobody.
    pub fn nobody() -> Self {
        Self::Token { digest: String::new() }
    }
}

/// A token's digest.
fn sum(token: &str) -> String {
    hex(digest(&SHA256, token.as_bytes()).as_ref())
}

/// A new token, and its public part.
pub fn random() -> Result<(String, String), TokenError> {
    let mut bytes = [0; ID + SECRET];
    SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Failed("no random numbers".into()))?;
    let bytes = hex(&bytes);
    let (id, secret) = bytes.split_at(2 * ID);
    Ok((format!("{PREFIX}{id}_{secret}"), id.to_owned()))
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a text does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether two digests are equal, in a time that does not tell where they differ.
fn same(a: &str, b: &str) -> bool {
    let differ = a.bytes().zip(b.bytes()).fold(0, |differ, (a, b)| std::hint::black_box(differ | (a ^ b)));
    a.len() == b.len() && differ == 0
}

fn read(path: &Path) -> io::Result<BTreeMap<String, Kept>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(error) => return Err(error),
    };
    let kept: BTreeMap<String, Kept> = serde_json::from_str(&text)?;
    for token in kept.values() {
        for grant in &token.grants {
            grant.parse::<Grant>().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))?;
        }
    }
    Ok(kept)
}

impl Tokens {
    /// Those that are kept in a data directory. A file that cannot be read or understood is an error: nobody may be let in
    /// because it is damaged.
    pub fn open(directory: &Path, local: Local) -> io::Result<Self> {
        let path = directory.join(FILE);
        let kept = Arc::new(RwLock::new(read(&path)?));
        let interrupted = is_left_beside(&path)?;
        Ok(Self { kept, changing: Arc::default(), interrupted, path, local, now })
    }

    /// Whether the controller ended in the midst of a change the last time. It was not made.
    pub fn was_interrupted(&self) -> bool {
        self.interrupted
    }

    /// Who shows this token, else this certificate, or nothing.
    pub fn identify(&self, bearer: Option<&str>, subject: Option<&Subject>) -> Result<Caller, Stranger> {
        let admin = |known, name: &str| {
            Ok(Caller { principal: Principal { name: name.into(), grants: vec![Grant::Admin] }, known })
        };
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (found, known, stranger) = match (bearer, subject) {
            (Some(shown), _) => {
                let sum = sum(shown);
                if matches!(&self.local, Local::Token { digest } if same(digest, &sum)) {
                    return admin(Known::Local, LOCAL);
                }
                let id = shown.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
                let found = id.and_then(|id| kept.get(id)).filter(|token| same(&token.digest, &sum));
                (found, Known::Token, Stranger::Unknown)
            }
            (None, Some(subject)) => {
                let name = subject.name.as_ref().filter(|_| (self.now)() / 1_000 <= subject.ends);
                let found = name.and_then(|name| kept.get(&format!("{SUBJECT}{name}")));
                (found, Known::Certificate, Stranger::Subject)
            }
            (None, None) if self.local == Local::Everybody => return admin(Known::Open, "api"),
            (None, None) => return Err(Stranger::Nobody),
        };
        let live = |token: &&Kept| token.expires.is_none_or(|end| (self.now)() < end);
        let token = found.filter(live).ok_or(stranger)?;
        // They were read before; a grant that is not understood allows nothing.
        let grants = token.grants.iter().filter_map(|grant| grant.parse().ok()).collect();
        Ok(Caller { principal: Principal { name: token.name.clone(), grants }, known })
    }

    /// Tokens by name, without what makes them such.
    pub fn list(&self) -> TokenList {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut items: Vec<TokenLine> = kept.values().map(line).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        TokenList { required: self.local != Local::Everybody, items }
    }

    /// Makes a token for `by`, or gives a certificate access. `note` writes that down, once nothing is in its way any more
    /// and before it is so; if it fails, nothing is changed.
    pub fn create(
        &self,
        question: TokenQuestion,
        by: &str,
        note: impl FnOnce() -> Result<(), TokenError>,
    ) -> Result<TokenAnswer, TokenError> {
        let wrong = |why: String| TokenError::Wrong(why);
        let TokenQuestion { name, grants, days, certificate } = question;
        if name.trim().is_empty() || name.chars().count() > MAX_USER || name.chars().any(char::is_control) {
            return Err(wrong(format!("a name is 1 to {MAX_USER} characters on one line")));
        }
        if name == LOCAL {
            return Err(wrong(format!("`{LOCAL}` is whoever administers the controller's machine")));
        }
        if grants.is_empty() || grants.len() > MAX_GRANTS {
            return Err(wrong(format!("a token has 1 to {MAX_GRANTS} grants")));
        }
        let read: Result<Vec<Grant>, _> = grants.iter().map(|grant| grant.parse()).collect();
        let read = read.map_err(|why| wrong(why.to_string()))?;
        if days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
            return Err(wrong(format!("a token ends in 1 to {MAX_DAYS} days, or never")));
        }
        let (token, id, digest) = if certificate {
            (String::new(), format!("{SUBJECT}{name}"), String::new())
        } else {
            let (token, id) = random()?;
            let digest = sum(&token);
            (token, id, digest)
        };
        let created = (self.now)();
        let new = Kept {
            name,
            grants: read.iter().map(Grant::to_string).collect(),
            author: by.into(),
            created,
            expires: days.map(|days| created.saturating_add(DAY * u64::from(days))),
            digest,
        };
        let answer = TokenAnswer { token, line: line(&new) };
        let change = |kept: &mut BTreeMap<String, Kept>| {
            if kept.values().any(|token| token.name == new.name) {
                return Err(TokenError::Taken(new.name));
            }
            if kept.len() >= MAX_TOKENS {
                return Err(TokenError::Wrong(format!("there are {MAX_TOKENS} tokens; revoke some")));
            }
            kept.insert(id, new);
            Ok(())
        };
        self.change(change, note)?;
        Ok(answer)
    }

    /// Ends a token; with a note as of [`Tokens::create`].
    pub fn revoke(&self, name: &str, note: impl FnOnce() -> Result<(), TokenError>) -> Result<(), TokenError> {
        let change = |kept: &mut BTreeMap<String, Kept>| {
            let before = kept.len();
            kept.retain(|_, token| token.name != name);
            if kept.len() == before { Err(TokenError::Missing(name.into())) } else { Ok(()) }
        };
        self.change(change, note)
    }

    /// Changes the tokens on the disk, and then in memory.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Kept>) -> Result<(), TokenError>,
        note: impl FnOnce() -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let failed = |error: io::Error| TokenError::Failed(error.to_string());
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = self.kept.read().unwrap_or_else(PoisonError::into_inner).clone();
        change(&mut next)?;
        let text = serde_json::to_vec_pretty(&next).map_err(|error| failed(error.into()))?;
        // All that is left to do after the note is to give the file its name.
        let beside = Beside::write(&self.path, 0o600, &text).map_err(failed)?;
        note()?;
        beside.put().map_err(failed)?;
        *self.kept.write().unwrap_or_else(PoisonError::into_inner) = next;
        Ok(())
    }
}

fn line(token: &Kept) -> TokenLine {
    TokenLine {
        name: token.name.clone(),
        grants: token.grants.clone(),
        certificate: token.digest.is_empty(),
        author: token.author.clone(),
        created: rfc3339(token.created),
        expires: token.expires.map(rfc3339).unwrap_or_default(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn asked(name: &str, grants: &[&str], days: Option<u32>) -> TokenQuestion {
        let grants = grants.iter().map(|grant| (*grant).into()).collect();
        TokenQuestion { name: name.into(), grants, days, certificate: false }
    }

    /// A note that nobody reads.
    fn unread() -> Result<(), TokenError> {
        Ok(())
    }

    fn open(directory: &Path) -> Tokens {
        Tokens::open(directory, Local::with("bulkhead_0_1")).unwrap()
    }

    fn subject(name: &str, ends: u64) -> Subject {
        Subject { name: Some(name.into()), ends }
    }

    #[test]
    fn a_token_is_known_until_it_is_revoked_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        let root = tokens.create(asked("root", &["admin"], None), "me", unread).unwrap().token;
        let shop = tokens.create(asked("shop", &["editor@app=shop", "viewer"], Some(1)), "root", unread).unwrap();
        assert_eq!(tokens.identify(None, None), Err(Stranger::Nobody));
        for tokens in [tokens.clone(), open(directory.path())] {
            let found = tokens.identify(Some(&shop.token), None).unwrap();
            assert_eq!((found.principal.name.as_str(), found.known), ("shop", Known::Token));
            assert_eq!(found.principal.grants.len(), 2);
            assert_eq!(tokens.identify(Some(&root), None).unwrap().principal.grants, [Grant::Admin]);
        }
        tokens.revoke("shop", unread).unwrap();
        for tokens in [tokens.clone(), open(directory.path())] {
            assert_eq!(tokens.identify(Some(&shop.token), None), Err(Stranger::Unknown));
        }
        assert_eq!(tokens.revoke("shop", unread), Err(TokenError::Missing("shop".into())));
        let names: Vec<String> = tokens.list().items.into_iter().map(|line| line.name).collect();
        assert_eq!(names, ["root"]);
    }

    #[test]
    fn without_tokens_only_the_machines_own_admin_is_known_unless_nobody_is_asked() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        assert_eq!(tokens.identify(None, None), Err(Stranger::Nobody));
        let local = tokens.identify(Some("bulkhead_0_1"), None).unwrap();
        assert_eq!((local.principal.name.as_str(), local.known), (LOCAL, Known::Local));
        assert_eq!(tokens.identify(Some("bulkhead_0_2"), None), Err(Stranger::Unknown));
        let shut = Tokens::open(directory.path(), Local::nobody()).unwrap();
        for shown in ["", "bulkhead_0_1"] {
            assert_eq!(shut.identify(Some(shown), None), Err(Stranger::Unknown), "{shown}");
        }
        let everybody = Tokens::open(directory.path(), Local::Everybody).unwrap();
        assert_eq!(everybody.identify(None, None).unwrap().known, Known::Open);
        assert!(!everybody.list().required && tokens.list().required);
        // Who shows something wants to be known by it.
        assert_eq!(everybody.identify(Some("bulkhead_0_1"), None), Err(Stranger::Unknown));
    }

    #[test]
    fn a_certificate_has_access_by_its_common_name_until_that_is_revoked_or_its_time_is_over() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        let question = TokenQuestion { certificate: true, ..asked("shop-ci", &["editor@app=shop"], None) };
        let made = tokens.create(question.clone(), "me", unread).unwrap();
        assert!(made.token.is_empty() && made.line.certificate);
        for tokens in [tokens.clone(), open(directory.path())] {
            let found = tokens.identify(None, Some(&subject("shop-ci", u64::MAX))).unwrap();
            assert_eq!((found.principal.name.as_str(), found.known), ("shop-ci", Known::Certificate));
            for stranger in [subject("shop-c", u64::MAX), subject("Shop-ci", u64::MAX), subject("shop-ci", 1)] {
                assert_eq!(tokens.identify(None, Some(&stranger)), Err(Stranger::Subject), "{stranger:?}");
            }
            let nameless = Subject { name: None, ends: u64::MAX };
            assert_eq!(tokens.identify(None, Some(&nameless)), Err(Stranger::Subject));
            // A token is stronger, whatever is shown beside it; and a certificate's access has none.
            for shown in ["bulkhead_x_y", "", "bulkhead_cn:shop-ci_", "bulkhead_cn:shop-ci"] {
                let beside = subject("shop-ci", u64::MAX);
                assert_eq!(tokens.identify(Some(shown), Some(&beside)), Err(Stranger::Unknown), "{shown}");
            }
        }
        // A token of that name would be somebody else in the history.
        assert_eq!(
            tokens.create(asked("shop-ci", &["viewer"], None), "me", unread),
            Err(TokenError::Taken("shop-ci".into()))
        );
        // A token's name is nobody's certificate.
        tokens.create(asked("root", &["admin"], None), "me", unread).unwrap();
        assert_eq!(tokens.identify(None, Some(&subject("root", u64::MAX))), Err(Stranger::Subject));
        tokens.revoke("shop-ci", unread).unwrap();
        assert_eq!(tokens.identify(None, Some(&subject("shop-ci", u64::MAX))), Err(Stranger::Subject));
    }

    #[test]
    fn what_is_nearly_a_token_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        let token = tokens.create(asked("root", &["admin"], None), "me", unread).unwrap().token;
        assert_eq!(token.len(), PREFIX.len() + 2 * ID + 1 + 2 * SECRET);
        let other = if token.ends_with('0') { "1" } else { "0" };
        let wrong = [
            String::new(),
            PREFIX.into(),
            format!("{PREFIX}_"),
            token.to_uppercase(),
            format!("{token}0"),
            format!("{}{other}", &token[..token.len() - 1]),
            token[..token.len() - 1].into(),
            token[PREFIX.len()..].into(),
            token[..PREFIX.len() + 2 * ID + 1].into(),
        ];
        for wrong in wrong {
            assert_eq!(tokens.identify(Some(&wrong), None), Err(Stranger::Unknown), "{wrong}");
        }
    }

    #[test]
    fn the_file_does_not_give_tokens_away() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        let token = tokens.create(asked("root", &["admin"], None), "me", unread).unwrap().token;
        let path = directory.path().join(FILE);
        let secret = token.rsplit('_').next().unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_token_ends() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens { now: || 5 * DAY, ..open(directory.path()) };
        tokens.create(asked("root", &["admin"], None), "me", unread).unwrap();
        let short = tokens.create(asked("short", &["viewer"], Some(2)), "me", unread).unwrap();
        assert_eq!(short.line.expires, "1970-01-08T00:00:00.000Z");
        let at = |now| Tokens { now, ..tokens.clone() }.identify(Some(&short.token), None).is_ok();
        assert!(at(|| 7 * DAY - 1) && !at(|| 7 * DAY));
    }

    #[test]
    fn what_makes_no_sense_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        tokens.create(asked("b", &["admin"], None), "me", unread).unwrap();
        let wrong = [
            asked("b", &["admin"], None),
            asked("", &["admin"], None),
            asked("c", &[], None),
            asked("c", &["root"], None),
            asked("c", &["viewer"], Some(0)),
            asked("c\n", &["viewer"], None),
            asked(LOCAL, &["viewer"], None),
        ];
        for wrong in wrong {
            assert!(tokens.create(wrong.clone(), "me", unread).is_err(), "{wrong:?}");
        }
        assert_eq!(tokens.list().items.len(), 1);
    }

    #[test]
    fn a_damaged_file_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        for damaged in ["", "{", "[]", r#"{"a": {}}"#] {
            fs::write(directory.path().join(FILE), damaged).unwrap();
            assert!(Tokens::open(directory.path(), Local::nobody()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_cannot_be_stored_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(&directory.path().join("away"));
        let failed = tokens.create(asked("root", &["admin"], None), "me", unread);
        assert!(matches!(failed, Err(TokenError::Failed(_))) && tokens.list().items.is_empty());
    }

    #[test]
    fn what_cannot_be_written_down_is_not_done_and_what_was_interrupted_shows() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = open(directory.path());
        tokens.create(asked("a", &["viewer"], None), "me", unread).unwrap();
        let full = || Err(TokenError::Failed("the disk is full".into()));
        assert!(tokens.create(asked("b", &["admin"], None), "me", full).is_err());
        assert!(tokens.revoke("a", full).is_err());
        // What is refused is not written down.
        let never = || -> Result<(), TokenError> { panic!("it is not done") };
        assert!(tokens.create(asked("a", &["viewer"], None), "me", never).is_err());
        assert!(tokens.revoke("none", never).is_err());
        let names = |tokens: &Tokens| tokens.list().items.into_iter().map(|line| line.name).collect::<Vec<_>>();
        let again = open(directory.path());
        assert!(!again.was_interrupted());
        assert_eq!((names(&tokens), names(&again)), (vec!["a".to_owned()], vec!["a".to_owned()]));
        // Killed between the note and the file's name.
        fs::write(directory.path().join("tokens.new"), "{}").unwrap();
        let again = open(directory.path());
        assert!(again.was_interrupted() && !open(directory.path()).was_interrupted());
        assert_eq!(names(&again), ["a"]);
    }
}
