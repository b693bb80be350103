//! Earlier revisions: who made them, what differs between them, and going back to one.

use crate::{
    Asked, Backend, Difference, Edit, Params,
    documents::line,
    gate::Who,
    plan,
    problem::Failure,
    questions::json,
    service::Service,
    work::{Gone, Written},
};
use axum::{
    Extension, Json,
    extract::{Request, State},
    http::StatusCode,
};
use bulkhead_policy::{Change, Resource};
use bulkhead_types::{
    ApplyAnswer, ChangeKind, DiffAnswer, DiffLine, HistoryAnswer, HistoryLine, Parsed, RollbackQuestion, canonical,
    object, rfc3339,
};
use serde::Deserialize;
use serde_json::Value;
use utoipa::IntoParams;

/// Revisions that are listed if nobody says how many, and at most.
const LISTED: usize = 50;
const MAX_LISTED: usize = 1_000;
/// Most resources of one revision that are listed.
const MAX_NAMED: usize = 20;
/// How often going back is tried while others make changes in between.
const ATTEMPTS: usize = 5;

/// The query of `/v1/history`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct HistoryQuery {
    /// Only revisions before this one.
    before: Option<u64>,
    /// Most revisions that are told: 50 if left out, 1000 at most.
    limit: Option<usize>,
}

impl<B: Backend> Service<B> {
    pub(crate) async fn history(&self, before: Option<u64>, limit: Option<usize>) -> Result<HistoryAnswer, Failure> {
        let backend = self.backend.clone();
        let limit = limit.unwrap_or(LISTED).min(MAX_LISTED);
        let job = move |_: &Gone| Ok(backend.history(before.unwrap_or(u64::MAX), limit)?);
        let found = self.desk.history.run(job).await?;
        let items = found.revisions.into_iter().map(|noted| {
            let mut changes = noted.changes;
            changes.sort();
            HistoryLine {
                revision: noted.revision,
                author: noted.author,
                time: rfc3339(noted.time),
                more: changes.len().saturating_sub(MAX_NAMED),
                changes: changes.into_iter().take(MAX_NAMED).map(line).collect(),
            }
        });
        Ok(HistoryAnswer { revision: found.newest, oldest: found.oldest, items: items.collect() })
    }

    /// What differs between two revisions, the second of which is the newest if none is named.
    pub(crate) async fn diff<W: Send + 'static>(
        &self,
        from: u64,
        to: Option<u64>,
        write: fn(&DiffAnswer) -> Result<W, Failure>,
    ) -> Result<W, Failure> {
        let backend = self.backend.clone();
        let job = move |gone: &Gone| {
            let (newest, state) =
                backend.read(|view| (view.revision, plan::few(view.state).then(|| view.state.clone())));
            let to = to.unwrap_or(newest);
            let differences = backend.between(from, to)?;
            let plan = match state {
                None => plan::too_many(),
                Some(mut after) => {
                    if to != newest {
                        after.apply(&changes(backend.between(newest, to)?));
                    }
                    let mut before = after.clone();
                    let back = |d: &Difference| Change { key: d.key.clone(), value: d.from.clone() };
                    before.apply(&differences.iter().map(back).collect::<Vec<_>>());
                    plan::compare(&before, &after, gone)?
                }
            };
            let document = |resource: &Option<Resource>| resource.as_ref().map(shown);
            let resources = differences.into_iter().map(|difference| {
                let change = match (&difference.from, &difference.to) {
                    (None, _) => ChangeKind::Created,
                    (_, None) => ChangeKind::Deleted,
                    _ => ChangeKind::Updated,
                };
                let (from, to) = (document(&difference.from), document(&difference.to));
                DiffLine { line: line((difference.key, change)), from, to }
            });
            write(&DiffAnswer { from, to, resources: resources.collect(), plan })
        };
        self.desk.plans.run(job).await
    }

    /// Makes a new revision with the content of an old one.
    pub(crate) async fn rollback(
        &self,
        who: &Who,
        question: RollbackQuestion,
        dry_run: bool,
    ) -> Result<ApplyAnswer, Failure> {
        if dry_run {
            who.only_asks();
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let looked = self.backend.clone();
            let (newest, edits) = self
                .desk
                .history
                .run(move |_: &Gone| {
                    let newest = question.newest.unwrap_or_else(|| looked.read(|view| view.revision));
                    let edit = |change: Change| Edit {
                        document: change.value.as_ref().map(|resource| canonical(resource).into()),
                        change,
                        expected: None,
                    };
                    let differences = looked.between(newest, question.revision)?;
                    Ok((newest, changes(differences).into_iter().map(edit).collect()))
                })
                .await?;
            let asked = Asked { dry_run, author: who.author(), origin: who.origin(), newest: Some(newest) };
            match self.submit(who, edits, Parsed::<()>::default(), asked).await {
                // Somebody was quicker: what has to be taken back is more by now.
                Err(failure)
                    if question.newest.is_none() && tried < ATTEMPTS && failure.status() == StatusCode::CONFLICT => {}
                answer => return answer,
            }
        }
    }
}

pub(crate) async fn history<B: Backend>(
    State(service): State<Service<B>>,
    Params(query): Params<HistoryQuery>,
) -> Result<Json<HistoryAnswer>, Failure> {
    service.history(query.before, query.limit).await.map(Json)
}

/// The query of `/v1/diff`.
#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DiffQuery {
    /// The first revision.
    from: u64,
    /// The second; the newest if left out.
    to: Option<u64>,
}

pub(crate) async fn diff<B: Backend>(
    State(service): State<Service<B>>,
    Params(DiffQuery { from, to }): Params<DiffQuery>,
) -> Result<Written, Failure> {
    service.diff(from, to, Written::json).await
}

fn shown(resource: &Resource) -> Value {
    // Plain structs with text keys cannot fail to serialize.
    serde_json::to_value(object(resource)).unwrap_or_default()
}

/// What makes the first revision the second.
fn changes(differences: Vec<Difference>) -> Vec<Change> {
    differences.into_iter().map(|difference| Change { key: difference.key, value: difference.to }).collect()
}

/// The query of `/v1/rollback`.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RollbackQuery {
    /// Check everything and tell what would change; change nothing.
    #[serde(default)]
    dry_run: bool,
}

pub(crate) async fn rollback<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Params(RollbackQuery { dry_run }): Params<RollbackQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    service.rollback(&who, json(request).await?, dry_run).await.map(Json)
}
