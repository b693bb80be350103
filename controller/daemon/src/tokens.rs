//! Bearer tokens: who has one, kept in a file of their own in the data directory.
//!
//! They are no resources: a backup does not carry them away, going back does not bring a revoked one back, and nobody who
//! watches changes sees them. The file has a token's SHA-256. A slow hash is for what people think up; 256 random bits are
//! not guessed, however fast the guesses are.

use bulkhead_access::{Grant, Principal};
use bulkhead_api::{Caller, Stranger, TokenError};
use bulkhead_types::{MAX_USER, TokenAnswer, TokenLine, TokenList, TokenQuestion, rfc3339};
use ring::{
    digest::{SHA256, digest},
    rand::{SecureRandom, SystemRandom},
};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
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

/// A token, as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    name: String,
    grants: Vec<String>,
    author: String,
    /// In milliseconds since 1970-01-01 UTC, as the next.
    created: u64,
    expires: Option<u64>,
    /// SHA-256 of the whole token, in hexadecimal digits.
    digest: String,
}

/// The tokens, shared by all requests.
#[derive(Debug, Clone)]
pub struct Tokens {
    path: PathBuf,
    /// By public part; none before the first is made.
    kept: Arc<RwLock<Option<BTreeMap<String, Kept>>>>,
    now: fn() -> u64,
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

fn read(path: &Path) -> io::Result<Option<BTreeMap<String, Kept>>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let kept: BTreeMap<String, Kept> = serde_json::from_str(&text)?;
    for token in kept.values() {
        for grant in &token.grants {
            grant.parse::<Grant>().map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why.to_string()))?;
        }
    }
    Ok(Some(kept))
}

impl Tokens {
    /// Those that are kept in a data directory. A file that cannot be read or understood is an error: nobody may be let in
    /// because it is damaged.
    pub fn open(directory: &Path) -> io::Result<Self> {
        let path = directory.join(FILE);
        Ok(Self { kept: Arc::new(RwLock::new(read(&path)?)), path, now })
    }

    /// Who shows this token, or nothing. Before the first token is made, everybody is an admin.
    pub fn identify(&self, bearer: Option<&str>) -> Result<Caller, Stranger> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let Some(kept) = kept.as_ref() else {
            let principal = Principal { name: "api".into(), grants: vec![Grant::Admin] };
            return Ok(Caller { principal, unproved: true });
        };
        let shown = bearer.ok_or(Stranger::Nobody)?;
        let id = shown.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).map(|(id, _)| id);
        let token = id.and_then(|id| kept.get(id)).ok_or(Stranger::Unknown)?;
        let live = token.expires.is_none_or(|end| (self.now)() < end);
        if !same(&token.digest, &hex(digest(&SHA256, shown.as_bytes()).as_ref())) || !live {
            return Err(Stranger::Unknown);
        }
        // They were read before; a grant that is not understood allows nothing.
        let grants = token.grants.iter().filter_map(|grant| grant.parse().ok()).collect();
        Ok(Caller { principal: Principal { name: token.name.clone(), grants }, unproved: false })
    }

    /// Tokens by name, without what makes them such.
    pub fn list(&self) -> TokenList {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let mut items: Vec<TokenLine> = kept.iter().flat_map(BTreeMap::values).map(line).collect();
        items.sort_by(|a, b| a.name.cmp(&b.name));
        TokenList { required: kept.is_some(), items }
    }

    /// Makes a token for `by`.
    pub fn create(&self, question: TokenQuestion, by: &str) -> Result<TokenAnswer, TokenError> {
        let wrong = |why: String| TokenError::Wrong(why);
        let TokenQuestion { name, grants, days } = question;
        if name.trim().is_empty() || name.chars().count() > MAX_USER || name.chars().any(char::is_control) {
            return Err(wrong(format!("a name is 1 to {MAX_USER} characters on one line")));
        }
        if grants.is_empty() || grants.len() > MAX_GRANTS {
            return Err(wrong(format!("a token has 1 to {MAX_GRANTS} grants")));
        }
        let read: Result<Vec<Grant>, _> = grants.iter().map(|grant| grant.parse()).collect();
        let read = read.map_err(|why| wrong(why.to_string()))?;
        if days.is_some_and(|days| days == 0 || days > MAX_DAYS) {
            return Err(wrong(format!("a token ends in 1 to {MAX_DAYS} days, or never")));
        }
        let random = || {
            let mut bytes = [0; ID + SECRET];
            SystemRandom::new().fill(&mut bytes).map_err(|_| TokenError::Failed("no random numbers".into()))?;
            Ok(hex(&bytes))
        };
        let bytes: String = random()?;
        let (id, secret) = bytes.split_at(2 * ID);
        let token = format!("{PREFIX}{id}_{secret}");
        let created = (self.now)();
        let new = Kept {
            name,
            grants: read.iter().map(Grant::to_string).collect(),
            author: by.into(),
            created,
            expires: days.map(|days| created.saturating_add(DAY * u64::from(days))),
            digest: hex(digest(&SHA256, token.as_bytes()).as_ref()),
        };
        let answer = TokenAnswer { token, line: line(&new) };
        self.change(|kept| {
            if kept.values().any(|token| token.name == new.name) {
                return Err(TokenError::Taken(new.name));
            }
            if kept.len() >= MAX_TOKENS {
                return Err(TokenError::Wrong(format!("there are {MAX_TOKENS} tokens; revoke some")));
            }
            // Whoever closes the door is inside.
            if kept.is_empty() && (!read.contains(&Grant::Admin) || days.is_some()) {
                let why = "the first token is an admin's and does not end: from then on only tokens are let in";
                return Err(TokenError::Wrong(why.into()));
            }
            kept.insert(id.into(), new);
            Ok(())
        })?;
        Ok(answer)
    }

    /// Ends a token.
    pub fn revoke(&self, name: &str) -> Result<(), TokenError> {
        self.change(|kept| {
            let before = kept.len();
            kept.retain(|_, token| token.name != name);
            if kept.len() == before {
                return Err(TokenError::Missing(name.into()));
            }
            let admin = |token: &Kept| token.expires.is_none() && token.grants.iter().any(|grant| grant == "admin");
            if kept.values().any(admin) {
                return Ok(());
            }
            Err(TokenError::Wrong("it is the last admin's token that does not end; make another one first".into()))
        })
    }

    /// Changes the tokens on the disk, and then in memory.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Kept>) -> Result<(), TokenError>,
    ) -> Result<(), TokenError> {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let mut next = kept.clone().unwrap_or_default();
        change(&mut next)?;
        write(&self.path, &next).map_err(|error| TokenError::Failed(error.to_string()))?;
        *kept = Some(next);
        Ok(())
    }
}

fn line(token: &Kept) -> TokenLine {
    TokenLine {
        name: token.name.clone(),
        grants: token.grants.clone(),
        author: token.author.clone(),
        created: rfc3339(token.created),
        expires: token.expires.map(rfc3339).unwrap_or_default(),
    }
}

/// Puts a new file in the old one's place: whole, or not at all.
fn write(path: &Path, kept: &BTreeMap<String, Kept>) -> io::Result<()> {
    let new = path.with_extension("new");
    // Of an attempt that was interrupted. It is made anew, so that its permissions are ours.
    fs::remove_file(&new).or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    path.parent().map_or(Ok(()), |directory| File::open(directory)?.sync_all())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn asked(name: &str, grants: &[&str], days: Option<u32>) -> TokenQuestion {
        TokenQuestion { name: name.into(), grants: grants.iter().map(|grant| (*grant).into()).collect(), days }
    }

    #[test]
    fn a_token_is_known_until_it_is_revoked_across_restarts() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        assert!(tokens.identify(None).unwrap().unproved && !tokens.list().required);
        let root = tokens.create(asked("root", &["admin"], None), "me").unwrap().token;
        let shop = tokens.create(asked("shop", &["editor@app=shop", "viewer"], Some(1)), "root").unwrap();
        assert_eq!(tokens.identify(None), Err(Stranger::Nobody));
        for tokens in [tokens.clone(), Tokens::open(directory.path()).unwrap()] {
            let found = tokens.identify(Some(&shop.token)).unwrap();
            assert_eq!((found.principal.name.as_str(), found.unproved), ("shop", false));
            assert_eq!(found.principal.grants.len(), 2);
            assert_eq!(tokens.identify(Some(&root)).unwrap().principal.grants, [Grant::Admin]);
        }
        tokens.revoke("shop").unwrap();
        for tokens in [tokens.clone(), Tokens::open(directory.path()).unwrap()] {
            assert_eq!(tokens.identify(Some(&shop.token)), Err(Stranger::Unknown));
        }
        assert_eq!(tokens.revoke("shop"), Err(TokenError::Missing("shop".into())));
        let names: Vec<String> = tokens.list().items.into_iter().map(|line| line.name).collect();
        assert_eq!(names, ["root"]);
    }

    #[test]
    fn what_is_nearly_a_token_is_none() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        let token = tokens.create(asked("root", &["admin"], None), "me").unwrap().token;
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
            assert_eq!(tokens.identify(Some(&wrong)), Err(Stranger::Unknown), "{wrong}");
        }
    }

    #[test]
    fn the_file_does_not_give_tokens_away() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        let token = tokens.create(asked("root", &["admin"], None), "me").unwrap().token;
        let path = directory.path().join(FILE);
        let secret = token.rsplit('_').next().unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains(secret));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_token_ends() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens { now: || 5 * DAY, ..Tokens::open(directory.path()).unwrap() };
        tokens.create(asked("root", &["admin"], None), "me").unwrap();
        let short = tokens.create(asked("short", &["viewer"], Some(2)), "me").unwrap();
        assert_eq!(short.line.expires, "1970-01-08T00:00:00.000Z");
        let at = |now| Tokens { now, ..tokens.clone() }.identify(Some(&short.token)).is_ok();
        assert!(at(|| 7 * DAY - 1) && !at(|| 7 * DAY));
    }

    #[test]
    fn nobody_locks_himself_out() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(directory.path()).unwrap();
        for question in [asked("a", &["viewer"], None), asked("a", &["admin"], Some(1))] {
            assert!(matches!(tokens.create(question, "me"), Err(TokenError::Wrong(_))));
        }
        assert!(!tokens.list().required);
        tokens.create(asked("a", &["admin"], None), "me").unwrap();
        assert!(matches!(tokens.revoke("a"), Err(TokenError::Wrong(_))));
        tokens.create(asked("b", &["admin"], None), "me").unwrap();
        assert_eq!(tokens.revoke("a"), Ok(()));
        for wrong in [asked("b", &["admin"], None), asked("", &["admin"], None), asked("c", &[], None)] {
            assert!(tokens.create(wrong, "me").is_err());
        }
        for wrong in [asked("c", &["root"], None), asked("c", &["viewer"], Some(0)), asked("c\n", &["viewer"], None)] {
            assert!(tokens.create(wrong, "me").is_err());
        }
    }

    #[test]
    fn a_damaged_file_lets_nobody_in() {
        let directory = tempfile::tempdir().unwrap();
        for damaged in ["", "{", "[]", r#"{"a": {}}"#] {
            fs::write(directory.path().join(FILE), damaged).unwrap();
            assert!(Tokens::open(directory.path()).is_err(), "{damaged}");
        }
    }

    #[test]
    fn what_cannot_be_stored_is_not_made() {
        let directory = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(&directory.path().join("away")).unwrap();
        let failed = tokens.create(asked("root", &["admin"], None), "me");
        assert!(matches!(failed, Err(TokenError::Failed(_))) && !tokens.list().required);
    }
}
