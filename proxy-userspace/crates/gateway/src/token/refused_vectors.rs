//! The examples of the standards that aren't accepted, each with the reason: what nobody signed, what is encrypted,
//! other forms than the compact one, algorithms and keys for other ends, and keys with their private part.

use super::{
    Algorithm, Header, Jws, TokenFault,
    jwk::Jwk,
    vectors::{CLAIMS, THUMBED_KEY, members},
};

/// RFC 7519, A.1.
const ENCRYPTED: &str = "eyJhbGciOiJSU0ExXzUiLCJlbmMiOiJBMTI4Q0JDLUhTMjU2In0.QR1Owv2ug2WyPBnbQrRARTeEk9kDO2w8qDcjiHnSJflSdv1iNqhWXaKH4MqAkQtMoNfABIPJaZm0HaA415sv3aeuBWnD8J-Ui7Ah6cWafs3ZwwFKDFUUsWHSK-IPKxLGTkND09XyjORj_CHAgOPJ-Sd8ONQRnJvWn_hXV1BNMHzUjPyYwEsRhDhzjAD26imasOTsgruobpYGoQcXUwFDn7moXPRfDE8-NoQX7N7ZYMmpUDkR-Cx9obNGwJQ3nM52YCitxoQVPzjbl7WBuB7AohdBoZOdZ24WlN1lVIeh8v1K4krB8xgKvRU8kgFrEn_a1rZgN5TiysnmzTROF869lQ.AxY8DCtDaGlsbGljb3RoZQ.MKOle7UQrG6nSxTLX6Mqwt0orbHvAKeWnDYvpIAeZ72deHxz3roJDXQyhxx0wKaMHDjUEOKIwrtkHthpqEanSBNYHZgmNOV7sln1Eu9g3J8.fiK51VwhsxJ-siBMR-YFiA";

/// RFC 7515, A.4, and RFC 7520, 3.1: keys on a curve of 521 bits.
const WIDE_KEY: &str = r#"{"kty":"EC","crv":"P-521","x":"AekpBQ8ST8a8VcfVOTNl353vSrDCLLJXmPk06wTjxrrjcBpXp5EOnYG_NjFZ6OvLFV1jSfS9tsz4qUxcWceqwQGk","y":"ADSmRA43Z1DSNx_RvcLI87cdL07l6jQyyBXMoxVg_l2Th-x3S1WDhjDly79ajL4Kkd0AZMaZmh9ubmf63e3kyMj2"}"#;
const WIDE_KEY_OF_BILBO: &str = r#"{"kty":"EC","kid":"bilbo.baggins@hobbiton.example","use":"sig","crv":"P-521","x":"AHKZLLOsCOzz5cY97ewNUajB957y-C-U88c3v13nmGZx6sYl_oJXu9A5RkTKqjqvjyekWF-7ytDyRXYgCF5cj0Kt","y":"AdymlHvOiLxXkEhayXQnNCvDX4h9htZaCJN34kfmC6pV5OhQHiraVySsUdaQkAgDPrwQrJmbnX9cwlGfP-HqHZR1"}"#;

/// RFC 7517, A.2: the private parts of the keys of A.1.
const PRIVATE_EXPONENT: &str = "X4cTteJY_gn4FYPsXB8rdXix5vwsg1FLN5E3EaG6RJoVH-HLLKD9M7dx5oo7GURknchnrRweUkC7hT5fJLM0WbFAKNLWY2vv7B6NqXSzUvxT0_YSfqijwp3RTzlBaCxWp4doFk5N2o8Gy_nHNKroADIkJ46pRUohsXywbReAdYaMwFs9tv8d_cPVY3i07a3t8MN6TNwm0dSawm9v47UiCl3Sk5ZiG7xojPLu4sbg1U2jx4IBTNBznbJSzFHK66jT8bgkuqsk0GjskDJk19Z4qwjwbsnn4j2WBii3RL-Us2lGVkY8fkFzme1z0HbIkfz0Y6mqnOYtqc0X4jfcKoAC8Q";
const PRIVATE_POINT: &str = r#"{"kty":"EC","crv":"P-256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM","d":"870MB6gfuTJ4HtUnUvYMyJpr5eUZNP4Bk43bVdj3eAE","use":"enc","kid":"1"}"#;

fn refused(token: &str) -> TokenFault {
    match Jws::parse(token) {
        Err(fault) => fault,
        Ok(jws) => Header::of(&jws.header).expect_err(token),
    }
}

#[test]
fn no_form_but_a_signed_compact_one_is_taken_for_a_token() {
    let signature =
        "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    let one = format!(
        r#""protected":"eyJhbGciOiJFUzI1NiJ9","header":{{"kid":"e9bc097a-ce51-4036-9562-d2ade882db0d"}},"signature":"{signature}""#
    );
    for (token, reason) in [
        // RFC 7515, A.5; RFC 7519, 6.1.
        (
            format!("eyJhbGciOiJub25lIn0.{CLAIMS}."),
            "token_header_refused",
        ),
        // RFC 7515, A.4 and E: what is signed is no claims.
        (
            "eyJhbGciOiJFUzUxMiJ9.UGF5bG9hZA.AdwMgeerwtHoh-l192l60hp9wAHZFVJbLfD_UxMi70cwnZOYaRI1bKPWROc-mZZqwqT2SI-KGDKB34XO0aw_7XdtAG8GaSwFKdCAPZgoXD2YBJZCPEX3xKpRwcdOO8KpEHwJjyqOgzDO7iKvU8vcnwNrmxYbSW9ERBXukOXolLzeO_Jn".to_owned(),
            "token_claims_malformed",
        ),
        (
            "eyJhbGciOiJub25lIiwNCiAiY3JpdCI6WyJodHRwOi8vZXhhbXBsZS5jb20vVU5ERUZJTkVEIl0sDQogImh0dHA6Ly9leGFtcGxlLmNvbS9VTkRFRklORUQiOnRydWUNCn0.RkFJTA.".to_owned(),
            "token_claims_malformed",
        ),
        // RFC 7515, A.6 and A.7: the same signature in JSON.
        (
            format!(r#"{{"payload":"{CLAIMS}","signatures":[{{{one}}}]}}"#),
            "token_malformed",
        ),
        (
            format!(r#"{{"payload":"{CLAIMS}",{one}}}"#),
            "token_malformed",
        ),
        // RFC 7520, 4.5: what is signed is elsewhere.
        (
            "eyJhbGciOiJIUzI1NiIsImtpZCI6IjAxOGMwYWU1LTRkOWItNDcxYi1iZmQ2LWVlZjMxNGJjNzAzNyJ9..s0h6KThzkfBBBkLspW1h84VsJZFTsPPqMDA7g1Md7p0".to_owned(),
            "token_claims_malformed",
        ),
        (ENCRYPTED.to_owned(), "token_malformed"),
    ] {
        assert_eq!(refused(&token).to_string(), reason, "{token}");
    }
}

#[test]
fn a_header_that_asks_for_more_is_refused_for_what_it_asks() {
    for (header, what) in [
        // RFC 7515, A.4; RFC 7520, 4.3.
        (r#"{"alg":"ES512"}"#, "its alg"),
        (
            r#"{"alg":"ES512","kid":"bilbo.baggins@hobbiton.example"}"#,
            "its alg",
        ),
        // RFC 7515, 4.1.11 and E.
        (
            r#"{"alg":"ES256","crit":["exp"],"exp":1363284000}"#,
            "(crit)",
        ),
        (
            r#"{"alg":"none","crit":["http://example.com/UNDEFINED"],"http://example.com/UNDEFINED":true}"#,
            "(crit)",
        ),
        // RFC 7797, 4.
        (r#"{"alg":"HS256","b64":false,"crit":["b64"]}"#, "(crit)"),
        // RFC 7519, A.1 and A.2.
        (r#"{"alg":"RSA1_5","enc":"A128CBC-HS256"}"#, "(enc)"),
        (
            r#"{"alg":"RSA1_5","enc":"A128CBC-HS256","cty":"JWT"}"#,
            "(enc)",
        ),
    ] {
        let fault = Header::of(&members(header)).expect_err(header);
        let detail = fault.detail().unwrap_or_default();
        assert!(detail.contains(what), "{header}: {detail}");
    }
}

#[test]
fn a_key_for_another_end_or_with_its_private_part_is_refused() {
    let private = format!("{{\"d\":\"{PRIVATE_EXPONENT}\",");
    for (key, why) in [
        (WIDE_KEY.to_owned(), "neither P-256 nor P-384"),
        (WIDE_KEY_OF_BILBO.to_owned(), "neither P-256 nor P-384"),
        (PRIVATE_POINT.to_owned(), "not for signatures"),
        (PRIVATE_POINT.replace("\"enc\"", "\"sig\""), "private part"),
        (THUMBED_KEY.replacen('{', &private, 1), "private part"),
        // RFC 7517, A.3; RFC 7520, 3.6.
        (
            r#"{"kty":"oct","alg":"A128KW","k":"GawgguFyGrWKav7AX4VKUg"}"#.to_owned(),
            "a secret of 128 bits",
        ),
        (
            r#"{"kty":"oct","kid":"1e571774-2e08-40da-8308-e8d68773842d","use":"enc","alg":"A256GCM","k":"AAPapAv4LbFbiVawEjagUBluYqN5rhna-8nuldDvOx8"}"#.to_owned(),
            "not for signatures",
        ),
        // RFC 8037, A.1 and A.6.
        (
            r#"{"kty":"OKP","crv":"Ed25519","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#.to_owned(),
            "private part",
        ),
        (
            r#"{"kty":"OKP","crv":"X25519","kid":"Bob","x":"3p7bfXt9wbTTW2HC7OQ1Nz-DQ8hbeGdNrfx-FG-IK08"}"#.to_owned(),
            "isn't Ed25519",
        ),
    ] {
        let said = Jwk::parse(&members(&key), &Algorithm::ALL).expect_err(&key);
        assert!(said.contains(why), "{key}: {said}");
    }
}
