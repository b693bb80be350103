//! `PATCH`: a part of one resource, by a JSON merge patch (RFC 7396).

use crate::{
    Backend, Params,
    body::{SMALL, body},
    documents::{ChangeQuery, How, Text, key_of, shown, to_store},
    gate::Who,
    problem::Failure,
    service::Service,
};
use axum::{
    Extension, Json,
    extract::{Path, Request, State},
    http::{StatusCode, header},
};
use bulkhead_policy::Key;
use bulkhead_types::{ApplyAnswer, Format};
use serde_json::{Map, Value};

/// The type of a merge patch (RFC 7396 §4).
const MERGE_PATCH: &str = "application/merge-patch+json";
/// How often a patch is merged anew while others change the resource in between.
const ATTEMPTS: usize = 5;

impl<B: Backend> Service<B> {
    /// Changes a part of a resource.
    pub(crate) async fn patch(&self, who: &Who, key: Key, text: impl Text, how: How) -> Result<ApplyAnswer, Failure> {
        who.tries([&key].into_iter());
        let places = if text.as_ref().len() > SMALL { &self.desk.large } else { &self.desk.small };
        let wanted = places.run(move |_| {
            serde_json::from_slice::<Value>(text.as_ref())
                .map_err(|e| Failure::bad(format!("the body is no JSON: {e}")))
        });
        let wanted = wanted.await?;
        if !wanted.is_object() {
            return Err(Failure::bad("a merge patch of a resource is a JSON object"));
        }
        let mut tried = 0;
        loop {
            tried += 1;
            let (resource, version) = self.get(who, &key)?;
            let (wanted, key) = (wanted.clone(), key.clone());
            let job = move |_: &_| {
                // Plain structs with text keys cannot fail to serialize.
                let mut document = serde_json::to_value(shown(&resource, version)).unwrap_or_default();
                merge(&mut document, wanted);
                // The version that was read, if the patch does not say which one it has to be.
                let parsed = to_store(document.to_string().as_bytes(), Format::Json);
                if parsed.has_errors() {
                    return Err(Failure::refused(parsed.diagnostics).without_places());
                }
                match parsed.documents.as_slice() {
                    [document] if document.key == key => Ok(parsed),
                    _ => Err(Failure::bad("a patch changes neither kind nor name")),
                }
            };
            let mut parsed = self.desk.small.run(job).await?;
            let said = how.resource_version;
            for document in &mut parsed.documents {
                document.expected = said.or(document.expected).or(Some(version));
            }
            let own = said.is_some() || parsed.documents.iter().any(|document| document.expected != Some(version));
            match self.change(who, parsed, how.asked(who)).await {
                // Somebody was quicker, and the patch is about whatever there is.
                Err(failure) if failure.status() == StatusCode::CONFLICT && !own && tried < ATTEMPTS => {}
                answer => return answer.map_err(Failure::without_places),
            }
        }
    }
}

pub(crate) async fn patch<B: Backend>(
    State(service): State<Service<B>>,
    Extension(who): Extension<Who>,
    Path((kind, name)): Path<(String, String)>,
    Params(query): Params<ChangeQuery>,
    request: Request,
) -> Result<Json<ApplyAnswer>, Failure> {
    let how = query.how(&who);
    let key = key_of(&kind, &name)?;
    let content = request.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if !content.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(MERGE_PATCH) {
        let detail = format!("send `Content-Type: {MERGE_PATCH}`");
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", detail));
    }
    service.patch(&who, key, body(request).await?, how).await.map(Json)
}

/// RFC 7396 §2.
fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return };
    for (key, value) in patch {
        match value {
            Value::Null => _ = target.remove(&key),
            value => merge(target.entry(key).or_insert(Value::Null), value),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_rfcs_examples() {
        // RFC 7396, appendix A.
        for (original, patch, result) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
            (json!({"a": "b"}), json!(["c"]), json!(["c"])),
            (json!({"a": "foo"}), json!(null), json!(null)),
            (json!({"a": "foo"}), json!("bar"), json!("bar")),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut merged = original.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, result, "{original} with {patch}");
        }
    }
}
