//! A [`Node`] as serde sees it: read into the shape of its kind, and written as compact JSON, without a copy in between.

use crate::node::{Data, Node};
use serde::{
    Deserializer, Serialize, Serializer,
    de::{
        Error as _, IntoDeserializer, Unexpected, Visitor,
        value::{Error, MapDeserializer, SeqDeserializer, StrDeserializer},
    },
    forward_to_deserialize_any,
};

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match &self.data {
            Data::Null => to.serialize_unit(),
            Data::Bool(value) => to.serialize_bool(*value),
            Data::Number(number) => number.serialize(to),
            Data::Text(text) => to.serialize_str(text),
            Data::List(items) => to.collect_seq(items),
            Data::Fields(fields) => to.collect_map(fields.iter().map(|field| (&field.key, &field.value))),
        }
    }
}

/// Takes what the [`Node::to_value`] of the same node takes. What is wrong otherwise is told better of that one, so errors
/// say no more than that there is one.
impl<'de> Deserializer<'de> for &'de Node {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match &self.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Number(number) => match (number.as_u64(), number.as_i64(), number.as_f64()) {
                (Some(number), ..) => visitor.visit_u64(number),
                (_, Some(number), _) => visitor.visit_i64(number),
                (.., Some(number)) => visitor.visit_f64(number),
                _ => Err(Error::custom("a number that is none")),
            },
            Data::Text(text) => visitor.visit_borrowed_str(text),
            Data::List(items) => {
                let mut items = SeqDeserializer::new(items.iter());
                let value = visitor.visit_seq(&mut items)?;
                items.end().map(|()| value)
            }
            Data::Fields(fields) => {
                let mut fields = MapDeserializer::new(fields.iter().map(|field| (field.key.as_str(), &field.value)));
                let value = visitor.visit_map(&mut fields)?;
                fields.end().map(|()| value)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.data == Data::Null { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.text() {
            Some(text) => visitor.visit_enum(StrDeserializer::new(text)),
            // No document has a choice with something in it.
            None => Err(Error::invalid_type(Unexpected::Map, &"one of several words")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

impl<'de> IntoDeserializer<'de, Error> for &'de Node {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
