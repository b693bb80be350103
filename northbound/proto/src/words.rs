//! Fields that have another form in messages than in JSON.

/// An enumeration whose JSON form is a word.
macro_rules! words {
    ($module:ident, $about:literal, $default:literal, $($number:literal => $word:literal),+) => {
        #[doc = $about]
        pub mod $module {
            use serde::{Deserialize, Deserializer, Serialize, Serializer};

            /// The number of a word; 0 of one that is not known.
            ///
            /// # Errors
            /// When it is no word.
            pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<i32, D::Error> {
                let word = String::deserialize(from)?;
                Ok(match word.as_str() {
                    $($word => $number,)+
                    _ => 0,
                })
            }

            /// The word of a number.
            ///
            /// # Errors
            /// Those of the serializer.
            pub fn serialize<S: Serializer>(number: &i32, to: S) -> Result<S::Ok, S::Error> {
                let word = match number {
                    $($number => $word,)+
                    _ => $default,
                };
                word.serialize(to)
            }
        }
    };
}

words!(verdict, "`Verdict`.", "", 1 => "allow", 2 => "deny", 3 => "reject");
words!(severity, "`Severity`.", "", 1 => "error", 2 => "warning");
words!(change, "`ChangeKind`.", "", 1 => "created", 2 => "updated", 3 => "deleted", 4 => "unchanged");

/// A document: a text here, an object there.
pub mod document {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use serde_json::Value;

    /// As a text.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
        Ok(Option::<Value>::deserialize(from)?.map(|document| document.to_string()))
    }

    /// As an object.
    ///
    /// # Errors
    /// When the text is no JSON.
    pub fn serialize<S: Serializer>(text: &Option<String>, to: S) -> Result<S::Ok, S::Error> {
        let document = text.as_deref().map(serde_json::from_str::<Value>).transpose();
        document.map_err(serde::ser::Error::custom)?.serialize(to)
    }
}

/// Steps of a way: a list of lists there, and protobuf has none.
pub mod steps {
    use crate::v1::{PathHop, PathStep};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    /// From lists.
    ///
    /// # Errors
    /// Those of the deserializer.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<PathStep>, D::Error> {
        let lists = Vec::<Vec<PathHop>>::deserialize(from)?;
        Ok(lists.into_iter().map(|hops| PathStep { hops }).collect())
    }

    /// As lists.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(steps: &[PathStep], to: S) -> Result<S::Ok, S::Error> {
        steps.iter().map(|step| &step.hops).collect::<Vec<_>>().serialize(to)
    }
}
