//! A name of X.500 as text that can be read in one way only (RFC 4514).

use std::fmt::Write as _;

use x509_parser::x509::{AttributeTypeAndValue, X509Name};

/// Attributes that have a short name (RFC 4514, 3).
const SHORT: [(&str, &str); 9] = [
    ("2.5.4.3", "CN"),
    ("2.5.4.7", "L"),
    ("2.5.4.8", "ST"),
    ("2.5.4.10", "O"),
    ("2.5.4.11", "OU"),
    ("2.5.4.6", "C"),
    ("2.5.4.9", "STREET"),
    ("0.9.2342.19200300.100.1.25", "DC"),
    ("0.9.2342.19200300.100.1.1", "UID"),
];

/// The name, its last part first; empty for a name without parts. `None` where a value is no text.
pub(crate) fn distinguished_name(name: &X509Name<'_>) -> Option<String> {
    let mut parts = Vec::new();
    for part in name.iter_rdn() {
        let attributes: Option<Vec<String>> = part.iter().map(attribute).collect();
        parts.push(attributes?.join("+"));
    }
    parts.reverse();
    Some(parts.join(","))
}

fn attribute(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    let oid = attribute.attr_type().to_id_string();
    let short = SHORT.iter().find(|(it, _)| *it == oid);
    let mut text = short.map_or(oid, |(_, short)| (*short).to_owned());
    text.push('=');
    write_escaped(&mut text, attribute.as_str().ok()?);
    Some(text)
}

/// RFC 4514, 2.4; control characters in hexadecimal, so that the text fits into a field.
fn write_escaped(text: &mut String, value: &str) {
    let last = value.chars().count().saturating_sub(1);
    for (at, letter) in value.chars().enumerate() {
        let is_edge = (letter == ' ' && (at == 0 || at == last)) || (letter == '#' && at == 0);
        match letter {
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' => {
                text.push('\\');
                text.push(letter);
            }
            letter if is_edge => {
                text.push('\\');
                text.push(letter);
            }
            letter if letter.is_control() => {
                let mut bytes = [0; 4];
                for byte in letter.encode_utf8(&mut bytes).bytes() {
                    let _ = write!(text, "\\{byte:02X}");
                }
            }
            letter => text.push(letter),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
    use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

    use super::*;

    fn written(parts: Vec<(DnType, &str)>) -> Option<String> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        for (kind, value) in parts {
            params.distinguished_name.push(kind, value);
        }
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let (_, certificate) = X509Certificate::from_der(certificate.der()).expect("DER");
        distinguished_name(certificate.subject())
    }

    #[test]
    fn a_value_can_not_pass_for_another_part() {
        let named = |value| written(vec![(DnType::CommonName, value)]);
        for (value, text) in [
            ("alice", "CN=alice"),
            ("alice,O=admins", "CN=alice\\,O=admins"),
            ("alice+OU=x", "CN=alice\\+OU=x"),
            (" a ", "CN=\\ a\\ "),
            ("#1", "CN=\\#1"),
            ("a\\", "CN=a\\\\"),
            ("a\r\nb", "CN=a\\0D\\0Ab"),
            ("Zoë", "CN=Zoë"),
        ] {
            assert_eq!(named(value).as_deref(), Some(text));
        }
    }

    #[test]
    fn the_last_part_comes_first() {
        let parts = vec![
            (DnType::CountryName, "DE"),
            (DnType::OrganizationName, "Shop"),
            (DnType::from_oid(&[1, 2, 3, 4]), "x"),
            (DnType::CommonName, "alice"),
        ];
        let text = "CN=alice,1.2.3.4=x,O=Shop,C=DE";
        assert_eq!(written(parts).as_deref(), Some(text));
        assert_eq!(written(Vec::new()).as_deref(), Some(""));
    }
}
