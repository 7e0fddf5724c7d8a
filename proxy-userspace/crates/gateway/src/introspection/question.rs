//! How an issuer is asked about a token (RFC 7662, 2.1), and what it answers (2.2).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::IntrospectionClient;
use crate::{
    fetch::{FetchError, Fetcher},
    token::{Json, Members, parse_object},
};

/// What came of a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answered {
    /// The token is good, and this is what there is to say of it.
    Active(Members),
    /// It isn't.
    Inactive,
    /// The question is a bad one (400), and all that sets it apart from others is the token.
    Refused,
    /// There is no answer, or none that can be read.
    Failed(String),
}

#[derive(Debug)]
pub(super) struct Question {
    fetcher: Fetcher,
    authorization: HeaderValue,
}

impl Question {
    pub(super) fn new(fetcher: Fetcher, client: &IntrospectionClient) -> Self {
        Self {
            fetcher,
            authorization: basic(client),
        }
    }

    pub(super) async fn ask(&self, token: &str) -> Answered {
        let form = format!("token={}&token_type_hint=access_token", encoded(token));
        match self.fetcher.ask(&self.authorization, &form.into()).await {
            Ok(answer) => read(&answer),
            Err(FetchError::Status(StatusCode::BAD_REQUEST)) => Answered::Refused,
            Err(error) => Answered::Failed(error.to_string()),
        }
    }
}

fn read(answer: &Bytes) -> Answered {
    let mut says = match parse_object(answer) {
        Ok(says) => says,
        // What the parser says of it may quote it.
        Err(_) => {
            return Answered::Failed("its answer is no JSON object, or has two readings".into());
        }
    };
    match says.remove("active") {
        Some(Json::Bool(true)) => Answered::Active(says),
        Some(Json::Bool(false)) => Answered::Inactive,
        _ => Answered::Failed("its answer doesn't say whether the token is active".into()),
    }
}

/// RFC 6749, 2.3.1: both are encoded as in a form before they are joined, so that a `:` in the id separates nothing.
fn basic(client: &IntrospectionClient) -> HeaderValue {
    let joined = format!("{}:{}", encoded(&client.id), encoded(&client.secret));
    let text = format!("Basic {}", STANDARD.encode(joined));
    // Letters, digits and signs of base64 always are one.
    let value = HeaderValue::try_from(text);
    let mut value = value.unwrap_or_else(|_| HeaderValue::from_static("Basic"));
    value.set_sensitive(true);
    value
}

/// As a form has it (application/x-www-form-urlencoded).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => {
                encoded.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    encoded.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_and_secret_are_encoded_before_they_are_joined() {
        let client = IntrospectionClient {
            id: "a:b".to_owned(),
            secret: "p w+%ü~*".to_owned(),
        };
        let sent = basic(&client);
        let text = sent.to_str().expect("text");
        let joined = STANDARD
            .decode(text.trim_start_matches("Basic "))
            .expect("base64");
        assert_eq!(joined, b"a%3Ab:p+w%2B%25%C3%BC%7E*");
        assert!(sent.is_sensitive());
        assert!(!format!("{client:?}").contains("p w"));
    }

    #[test]
    fn an_answer_is_read_in_one_way_or_not_at_all() {
        let told = |text: &'static str| read(&Bytes::from_static(text.as_bytes()));
        let Answered::Active(says) = told(r#"{"active": true, "sub": "alice"}"#) else {
            panic!("it is active");
        };
        assert_eq!(says.get("sub").and_then(Json::text), Some("alice"));
        assert_eq!(told(r#"{"active": false, "sub": "a"}"#), Answered::Inactive);
        for text in [
            "",
            "{}",
            "[]",
            "true",
            "<html>",
            r#"{"active": "true"}"#,
            r#"{"active": 1}"#,
            r#"{"active": null}"#,
            r#"{"active": false, "active": true}"#,
            r#"{"active": true, "sub": "a", "sub": "b"}"#,
            r#"{"active": true} {}"#,
        ] {
            assert!(matches!(told(text), Answered::Failed(_)), "{text}");
        }
    }
}
