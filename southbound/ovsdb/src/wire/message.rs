//! JSON-RPC 1.0 messages, as RFC 7047 §4 uses them.

use crate::error::Shape;
use serde_json::{Value, json};

/// One message.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// A question that wants an answer.
    Request {
        /// Echoed in the answer; anything but null.
        id: Value,
        /// What is asked.
        method: String,
        /// With what.
        params: Value,
    },
    /// Something that is told and wants no answer: its `id` is null or not there.
    Notification {
        /// What is told.
        method: String,
        /// With what.
        params: Value,
    },
    /// The answer to a question of ours.
    Reply {
        /// The question's.
        id: Value,
        /// The result, or the error that there is instead of one.
        outcome: Result<Value, Value>,
    },
}

impl Message {
    /// Reads a message from its JSON.
    ///
    /// # Errors
    /// When it is none.
    pub fn from_json(json: Value) -> Result<Self, Shape> {
        let Value::Object(mut members) = json else { return Err(Shape::new("a JSON-RPC message", &json)) };
        let mut member = |name: &str| members.remove(name);
        let id = member("id").filter(|id| !id.is_null());
        match member("method") {
            Some(Value::String(method)) => {
                let params = member("params").filter(Value::is_array).ok_or_else(|| Shape::missing("params"))?;
                Ok(match id {
                    Some(id) => Self::Request { id, method, params },
                    None => Self::Notification { method, params },
                })
            }
            Some(other) => Err(Shape::new("a method's name", &other)),
            None => {
                let id = id.ok_or_else(|| Shape::missing("an id or a method"))?;
                let error = member("error").filter(|error| !error.is_null());
                let outcome = match (error, member("result")) {
                    (Some(error), _) => Err(error),
                    (None, Some(result)) => Ok(result),
                    (None, None) => return Err(Shape::missing("a result or an error")),
                };
                Ok(Self::Reply { id, outcome })
            }
        }
    }

    /// The message as JSON.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Request { id, method, params } => json!({"id": id, "method": method, "params": params}),
            Self::Notification { method, params } => json!({"id": null, "method": method, "params": params}),
            Self::Reply { id, outcome: Ok(result) } => json!({"id": id, "result": result, "error": null}),
            Self::Reply { id, outcome: Err(error) } => json!({"id": id, "result": null, "error": error}),
        }
    }
}
