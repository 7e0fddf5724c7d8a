//! Which fields of a request reach the upstream: what the client says of itself does not, and
//! what the proxy says can't be taken away.

use portcullis_tests::{
    front::{Answer, Front},
    ground::Ground,
    run::Rigged,
    scene::HOST,
};

const HTTP1: &str = "--http1.1";

/// `GET /orders/1` with a good token and these fields, over each version.
fn answers(front: &Front, fields: &[&str]) -> Rigged<Vec<Answer>> {
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    let fields: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
    [HTTP1, "--http2"]
        .iter()
        .map(|version| {
            let args = [&[*version, "-H", &bearer], &fields[..]].concat();
            let answer = front.curl("/orders/1", &args)?;
            assert_eq!(answer.status, 200, "{}", answer.head);
            Ok(answer)
        })
        .collect()
}

fn assert_introduced(answer: &Answer) {
    for (name, value) in [
        ("subject", "alice"),
        ("issuer", "main"),
        ("scopes", "orders:read"),
        ("for", "127.0.0.1"),
        ("proto", "https"),
        ("host", HOST),
        ("forwarded_host", HOST),
    ] {
        assert_eq!(answer.told(name), value, "{name}");
    }
}

#[test]
fn what_the_client_says_of_itself_never_reaches_the_upstream() -> Rigged<()> {
    let front = Front::open()?;
    for answer in answers(
        &front,
        &[
            "X-Forwarded-For: 198.51.100.1",
            "X-Forwarded-For: 198.51.100.2",
            "X-Forwarded-Proto: http",
            "X-Forwarded-Host: evil.example",
            "X-Forwarded-Uri: /admin",
            "Forwarded: for=198.51.100.1",
            "X-Real-IP: 198.51.100.1",
            "X-Portcullis-Subject: root",
            "X-Portcullis-Issuer: other",
            "X-Portcullis-Scopes: everything",
        ],
    )? {
        assert_introduced(&answer);
        let forwarded = "for=127.0.0.1;host=\"api.example\";proto=https";
        assert_eq!(answer.told("forwarded"), forwarded);
        for name in ["real_ip", "forwarded_uri"] {
            assert_eq!(answer.told(name), "", "{name}");
        }
    }
    Ok(())
}

/// nginx takes `X_Y` for `X-Y` here, as CGI-style applications do.
#[test]
fn aliases_with_underscores_never_reach_the_upstream() -> Rigged<()> {
    let front = Front::open()?;
    for answer in answers(
        &front,
        &[
            "X_Forwarded_For: 198.51.100.1",
            "X_Real_IP: 198.51.100.1",
            "X_Forwarded_Uri: /admin",
            "X_Portcullis_Subject: root",
            "X-Portcullis_Issuer: other",
            "x_portcullis-scopes: everything",
            "X_Request_Id: mine",
        ],
    )? {
        assert_introduced(&answer);
        for name in ["real_ip", "forwarded_uri"] {
            assert_eq!(answer.told(name), "", "{name}");
        }
        assert_eq!(
            Some(answer.told("request_id").as_str()),
            answer.field("x-request-id")
        );
    }
    Ok(())
}

#[test]
fn underscores_do_reach_the_upstream_in_other_names() -> Rigged<()> {
    let front = Front::open()?;
    for answer in answers(&front, &["X_Secret: shown"])? {
        assert_eq!(answer.told("secret"), "shown");
    }
    Ok(())
}

/// CVE-2024-45410.
#[test]
fn a_connection_field_cannot_take_away_what_the_proxy_says() -> Rigged<()> {
    let front = Front::open()?;
    let named = "Connection: close, x-portcullis-subject, X-Portcullis-Scopes, x-forwarded-for, host, x-request-id, x-portcullis-issuer, x-forwarded-proto, x-forwarded-host";
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    let answer = front.curl("/orders/1", &[HTTP1, "-H", &bearer, "-H", named])?;
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_introduced(&answer);
    assert_eq!(
        Some(answer.told("request_id").as_str()),
        answer.field("x-request-id")
    );
    Ok(())
}

#[test]
fn a_connection_field_cannot_take_away_the_token_before_it_is_read() -> Rigged<()> {
    let front = Front::open()?;
    let args = [HTTP1, "-H", "Connection: authorization, host"];
    let answer = front.curl("/orders/1", &args)?;
    assert_eq!(answer.status, 401);
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "token_missing");
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn fields_about_one_connection_are_not_forwarded() -> Rigged<()> {
    let front = Front::open()?;
    let answer = front.curl(
        "/public",
        &[
            HTTP1,
            "-H",
            "Connection: keep-alive, X-Secret, upgrade",
            "-H",
            "X-Secret: for the proxy only",
            "-H",
            "Keep-Alive: timeout=5",
            "-H",
            "TE: trailers",
            "-H",
            "Upgrade: h2c",
            "-H",
            "Proxy-Authorization: Basic eDp5",
        ],
    )?;
    assert_eq!(answer.status, 200, "{}", answer.head);
    for name in [
        "secret",
        "keep_alive",
        "te",
        "upgrade",
        "proxy_authorization",
        "connection_field",
    ] {
        assert_eq!(answer.told(name), "", "{name}");
    }
    Ok(())
}

#[test]
fn a_token_for_the_proxy_stays_there_and_other_credentials_travel() -> Rigged<()> {
    let front = Front::open()?;
    for answer in answers(&front, &[])? {
        assert_eq!(answer.told("authorization"), "");
    }
    let basic = front.curl("/public", &["-H", "Authorization: Basic eDp5"])?;
    assert_eq!(basic.told("authorization"), "Basic eDp5");
    Ok(())
}

#[test]
fn nobody_is_introduced_on_a_public_route() -> Rigged<()> {
    let front = Front::open()?;
    let bearer = format!("Authorization: Bearer {}", front.token("orders:read")?);
    let answer = front.curl(
        "/public",
        &["-H", &bearer, "-H", "X-Portcullis-Subject: root"],
    )?;
    assert_eq!(answer.status, 200);
    for name in ["subject", "issuer", "scopes"] {
        assert_eq!(answer.told(name), "", "{name}");
    }
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["principal"], serde_json::Value::Null);
    Ok(())
}

#[test]
fn a_trusted_hop_is_believed_about_where_a_request_comes_from() -> Rigged<()> {
    let front = Ground::set()?
        .add(
            "[[listener]]",
            "trusted_hops = [\"127.0.0.0/8\", \"10.0.0.0/8\"]",
        )?
        .start()?;
    let chain = "X-Forwarded-For: 203.0.113.9, 198.51.100.7, 10.1.2.3";
    for answer in answers(&front, &[chain])? {
        assert_eq!(answer.told("for"), "198.51.100.7, 10.1.2.3, 127.0.0.1");
        assert_eq!(
            answer.told("forwarded"),
            "for=198.51.100.7;host=\"api.example\";proto=https, for=10.1.2.3, for=127.0.0.1"
        );
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["client"], "198.51.100.7", "{record}");
    }
    Ok(())
}

#[test]
fn the_lists_judge_whom_a_trusted_hop_speaks_for() -> Rigged<()> {
    let front = Ground::set()?
        .add("[[listener]]", "trusted_hops = [\"127.0.0.1\"]")?
        .alter(
            "[admin]",
            "[lists]\nblocked = [\"198.51.100.0/24\"]\n\n[admin]",
        )?
        .start()?;
    let answer = front.curl("/public", &["-H", "X-Forwarded-For: 198.51.100.7"])?;
    assert_eq!(answer.status, 403);
    let record = front.record_of(answer.field("x-request-id"))?;
    assert_eq!(record["reason"], "source_blocked", "{record}");
    assert_eq!(front.curl("/public", &[])?.status, 200);
    Ok(())
}
