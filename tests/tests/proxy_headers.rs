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

/// The trace, the span and the flags of a `traceparent`.
fn traceparent(answer: &Answer) -> [String; 3] {
    let told = answer.told("traceparent");
    let parts: Vec<&str> = told.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    assert_eq!(lengths, [2, 32, 16, 2], "{told:?}");
    assert_eq!(parts[0], "00", "{told:?}");
    [parts[1], parts[2], parts[3]].map(str::to_owned)
}

fn assert_recorded(front: &Front, answer: &Answer) -> Rigged<()> {
    let record = front.record_of(answer.field("x-request-id"))?;
    let [trace, span, _] = traceparent(answer);
    assert_eq!(record["trace_id"], *trace, "{record}");
    assert_eq!(record["span_id"], *span, "{record}");
    Ok(())
}

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

#[test]
fn a_trace_goes_on_and_the_record_is_a_span_of_it() -> Rigged<()> {
    let front = Front::open()?;
    for flags in ["00", "01"] {
        let named = format!("traceparent: 00-{TRACE}-{PARENT}-{flags}");
        let mut spans = vec![PARENT.to_owned()];
        for answer in answers(&front, &[&named, "tracestate: a=1,b=2"])? {
            let [trace, span, told] = traceparent(&answer);
            assert_eq!((trace.as_str(), told.as_str()), (TRACE, flags));
            assert!(!spans.contains(&span), "{spans:?}");
            spans.push(span);
            assert_eq!(answer.told("tracestate"), "a=1,b=2");
            assert_recorded(&front, &answer)?;
        }
    }
    Ok(())
}

#[test]
fn a_trace_that_is_not_named_well_is_dropped_with_its_state_and_another_begins() -> Rigged<()> {
    let front = Front::open()?;
    let good = format!("00-{TRACE}-{PARENT}-01");
    for named in [
        vec![],
        vec![good.to_uppercase()],
        vec![format!("{good}-00")],
        vec![good.replacen("00", "ff", 1)],
        vec![good.replace(TRACE, &"0".repeat(32))],
        vec![good.replace(PARENT, &"0".repeat(16))],
        vec![good[..50].to_owned()],
        vec![good.clone(), good.clone()],
        vec![good.clone(), "00".to_owned()],
    ] {
        let fields: Vec<String> = named
            .iter()
            .map(|value| format!("traceparent: {value}"))
            .collect();
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        for answer in answers(&front, &[&fields[..], &["tracestate: a=1"]].concat())? {
            let [trace, _, flags] = traceparent(&answer);
            assert_ne!(trace.to_lowercase(), TRACE, "{named:?}");
            assert_eq!(flags, "00", "{named:?}");
            assert_eq!(answer.told("tracestate"), "", "{named:?}");
            assert_recorded(&front, &answer)?;
        }
    }
    Ok(())
}

#[test]
fn traces_that_begin_here_ask_to_be_recorded_where_that_is_configured() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[traces]\nsampled = true\n\n[admin]")?;
    let front = ground.start()?;
    let named = format!("traceparent: 00-{TRACE}-{PARENT}-00");
    for (fields, flags) in [(&[][..], "01"), (&[named.as_str()][..], "00")] {
        for answer in answers(&front, fields)? {
            assert_eq!(traceparent(&answer)[2], flags, "{fields:?}");
        }
    }
    // What is refused has its place in the trace as well.
    let refused = front.curl("/nowhere", &["-H", &named])?;
    assert_eq!(refused.status, 404);
    let record = front.record_of(refused.field("x-request-id"))?;
    assert_eq!(record["trace_id"], TRACE, "{record}");
    Ok(())
}
