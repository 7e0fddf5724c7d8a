//! JSON that can be read in one way only: no member twice at any depth, no deep nesting, and numbers kept
//! apart from what merely looks like one. RFC 8259 leaves open what a repeated member means; two readers of
//! one token must not differ about it (RFC 8725, 2.4).

use std::{collections::BTreeMap, fmt};

use serde::de::{self, DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// Levels of lists and objects; tokens in use have up to four.
const DEEPEST: u8 = 16;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Json {
    Null,
    Bool(bool),
    /// A whole number from zero on, written without fraction or exponent.
    Whole(u64),
    /// Any other number.
    OtherNumber,
    Text(String),
    List(Vec<Json>),
    Members(Members),
}

/// The members of an object.
pub(crate) type Members = BTreeMap<String, Json>;

impl Json {
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(crate) fn members(&self) -> Option<&Members> {
        match self {
            Self::Members(members) => Some(members),
            _ => None,
        }
    }

    /// A string, or a list of nothing but strings.
    pub(crate) fn texts(&self) -> Option<Vec<&str>> {
        match self {
            Self::Text(text) => Some(vec![text]),
            Self::List(list) => list.iter().map(Self::text).collect(),
            _ => None,
        }
    }
}

/// Reads an object, and nothing before or after it.
///
/// # Errors
/// What is wrong with it, without any of its values.
pub(crate) fn parse_object(text: &[u8]) -> Result<Members, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Level(DEEPEST).deserialize(&mut reader)?;
    reader.end()?;
    match value {
        Json::Members(members) => Ok(members),
        _ => Err(de::Error::custom("not an object")),
    }
}

/// How many levels there may be below.
#[derive(Clone, Copy)]
struct Level(u8);

impl Level {
    fn below<E: de::Error>(self) -> Result<Self, E> {
        let below = self.0.checked_sub(1).map(Self);
        below.ok_or_else(|| E::custom("nested too deeply"))
    }
}

impl<'de> DeserializeSeed<'de> for Level {
    type Value = Json;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Json, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Whole(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Json, E> {
        Ok(u64::try_from(value).map_or(Json::OtherNumber, Json::Whole))
    }

    fn visit_f64<E: de::Error>(self, _value: f64) -> Result<Json, E> {
        Ok(Json::OtherNumber)
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E: de::Error>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(below)? {
            values.push(value);
        }
        Ok(Json::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Json, A::Error> {
        let below = self.below()?;
        let mut members = Members::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(below)?;
            if members.insert(name, value).is_some() {
                return Err(de::Error::custom("a member stands twice"));
            }
        }
        Ok(Json::Members(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        parse_object(text.as_bytes())
            .expect_err("refused")
            .to_string()
    }

    #[test]
    fn a_member_that_stands_twice_is_refused_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":1}"#,
            r#"{"a":{"b":[{"c":1,"c":2}]}}"#,
        ] {
            assert!(refused(text).contains("stands twice"), "{text}");
        }
        assert!(parse_object(br#"{"a":{"a":1},"b":{"a":1}}"#).is_ok());
    }

    #[test]
    fn nesting_has_a_bound() {
        let nested = |levels: usize| {
            let (open, close) = ("[".repeat(levels), "]".repeat(levels));
            format!("{{\"a\":{open}{close}}}")
        };
        assert!(parse_object(nested(15).as_bytes()).is_ok());
        assert!(refused(&nested(16)).contains("too deeply"));
        assert!(refused(&nested(100_000)).contains("too deeply"));
    }

    #[test]
    fn only_a_whole_number_is_one() {
        for (text, value) in [
            ("0", Json::Whole(0)),
            ("18446744073709551615", Json::Whole(u64::MAX)),
            ("18446744073709551616", Json::OtherNumber),
            ("-1", Json::OtherNumber),
            ("-0", Json::OtherNumber),
            ("1.0", Json::OtherNumber),
            ("1e3", Json::OtherNumber),
            ("\"1\"", Json::Text("1".to_owned())),
        ] {
            let members = parse_object(format!("{{\"a\":{text}}}").as_bytes());
            assert_eq!(members.expect("read").get("a"), Some(&value), "{text}");
        }
    }

    #[test]
    fn what_is_not_one_whole_object_is_refused() {
        for text in [
            "",
            "[]",
            "7",
            "{} {}",
            "{}x",
            "{",
            "{\"a\":01}",
            "{'a':1}",
            "{\"a\":1,}",
            "\u{feff}{}",
            "{\"a\":NaN}",
            "{\"a\":1e999}",
            "{\"a\":\"\\ud800\"}",
        ] {
            refused(text);
        }
        for bytes in [
            &b"{\"a\":\"\xff\"}"[..],
            b"{\"\xc0\xaf\":1}",
            b"{\"a\":\"\n\"}",
        ] {
            assert!(parse_object(bytes).is_err(), "{bytes:?}");
        }
    }
}
