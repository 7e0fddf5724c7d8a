//! HTTP/3: the same requests get the same answers, and the same refusals, over QUIC.

use std::time::Duration;

use portcullis_tests::{
    client_pki::ClientPki,
    front::Front,
    http3::{Http3, answers, field, ground, request},
    run::{Rigged, eventually},
};
use serde_json::Value;

/// RFC 9114, 8.1.
const H3_MESSAGE_ERROR: u64 = 0x10e;
const SOON: Duration = Duration::from_secs(10);

#[test]
fn a_request_is_served_and_recorded_like_any_other() -> Rigged<()> {
    let front = ground()?.start()?;
    let token = front.token("orders:read")?;
    let told = Http3::new(
        &front,
        &[
            request(
                "GET",
                "/orders/7?x=%2e%2e",
                Some(&token),
                &[("x-portcullis-subject", "root")],
            ),
            request("GET", "/orders/7", None, &[]),
            request("GET", "/nowhere", None, &[]),
        ],
    )
    .ask()?;
    let [good, anonymous, unrouted] = answers(&told)[..] else {
        panic!("{told}");
    };
    assert_eq!(good["status"], 200, "{told}");
    let body = good["body"].as_str().unwrap_or_default();
    for said in [
        "uri=/orders/7?x=%2e%2e\n",
        "subject=alice\n",
        "proto=https\n",
        "authorization=\n",
    ] {
        assert!(body.contains(said), "{said:?} in {body}");
    }
    assert_eq!(anonymous["status"], 401, "{told}");
    assert!(field(anonymous, "www-authenticate").is_some_and(|it| it.starts_with("Bearer")));
    // This client takes the length of what isn't sent for that of what is; the trail knows better.
    Http3::new(&front, &[request("HEAD", "/public", None, &[])])
        .with("patience", 1)
        .ask()?;
    let record = front.audited("HEAD", |line| line["method"] == "HEAD")?;
    assert_eq!(
        (&record["status"], &record["complete"]),
        (&200.into(), &true.into())
    );
    assert_eq!(unrouted["status"], 404);
    let record = front.record_of(field(good, "x-request-id"))?;
    assert_eq!(record["protocol"], "HTTP/3.0", "{record}");
    assert_eq!(
        (&record["tls"], &record["path"]),
        (&"TLSv1_3".into(), &"/orders/7".into())
    );
    assert_eq!(
        (&record["verdict"], &record["complete"]),
        (&"permit".into(), &true.into())
    );
    let record = front.record_of(field(anonymous, "x-request-id"))?;
    assert_eq!(
        (&record["status"], &record["reason"]),
        (&401.into(), &"token_missing".into())
    );
    Ok(())
}

#[test]
fn clients_of_the_other_versions_are_told_of_it_where_it_is() -> Rigged<()> {
    let front = ground()?.start()?;
    let port = front.address.port();
    for version in ["--http1.1", "--http2"] {
        for path in ["/public", "/nowhere"] {
            let answer = front.curl(path, &[version])?;
            let due = format!("h3=\":{port}\"; ma=3600");
            assert_eq!(
                answer.field("alt-svc"),
                Some(due.as_str()),
                "{version} {path}"
            );
        }
    }
    let front = Front::open()?;
    assert_eq!(front.curl("/public", &[])?.field("alt-svc"), None);
    let told = Http3::new(&front, &[request("GET", "/public", None, &[])])
        .with("patience", 2)
        .ask()?;
    assert!(told["refused"].is_string(), "{told}");
    Ok(())
}

#[test]
fn paths_hosts_and_methods_get_the_verdicts_that_they_get_over_http2() -> Rigged<()> {
    let front = ground()?.start()?;
    let token = front.token("orders:read")?;
    let paths = [
        "/orders",
        "/orders/",
        "//orders",
        "/orders//1",
        "/orders/../public",
        "/orders/%2e%2e/public",
        "/public/..%2forders",
        "/orders/;/../public",
        "/orders%2F1",
        "/orders%5c1",
        "/orders%00",
        "/orders/%c0%af",
        "/%6frders",
        "/ORDERS",
        "/orders/%2525",
        "*",
    ];
    let asked: Vec<Value> = paths
        .iter()
        .map(|path| request("GET", path, Some(&token), &[]))
        .collect();
    let told = Http3::new(&front, &asked).ask()?;
    let answers = answers(&told);
    assert_eq!(answers.len(), paths.len(), "{told}");
    let with_token = format!("Authorization: Bearer {token}");
    for (path, answer) in paths.iter().zip(answers) {
        let args = ["--http2", "--request-target", path, "-H", &with_token];
        let same = front.curl("/", &args)?;
        assert_eq!(answer["status"], same.status, "{path}: {answer}");
        let verdict = |record: &Value| {
            let of = |key: &str| record[key].clone();
            [
                of("reason"),
                of("route"),
                of("path"),
                of("host"),
                of("verdict"),
            ]
        };
        let (over_3, over_2) = (
            front.record_of(field(answer, "x-request-id"))?,
            front.record_of(same.field("x-request-id"))?,
        );
        assert_eq!(verdict(&over_3), verdict(&over_2), "{path}");
    }
    let mut elsewhere = request("GET", "/public", None, &[]);
    elsewhere["fields"][2][1] = "other.example".into();
    let told = Http3::new(
        &front,
        &[
            elsewhere,
            request("CONNECT", "/public", None, &[]),
            request("get", "/public", None, &[]),
        ],
    )
    .ask()?;
    let statuses: Vec<_> = told["answers"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(statuses, [421, 405, 405], "{told}");
    Ok(())
}

#[test]
fn what_is_no_request_never_becomes_one() -> Rigged<()> {
    let front = ground()?.start()?;
    let broken = |more: &[(&str, &str)]| request("GET", "/public", None, more);
    let mut no_path = broken(&[]);
    no_path["fields"].as_array_mut().expect("fields").remove(3);
    let mut contradicts = broken(&[("host", "other.example")]);
    contradicts["ends"] = true.into();
    let asked = [
        no_path,
        contradicts,
        broken(&[("X-Upper", "1")]),
        broken(&[("connection", "close")]),
        broken(&[("transfer-encoding", "chunked")]),
        broken(&[("te", "gzip")]),
        broken(&[("upgrade", "websocket")]),
        broken(&[("x-a", "a\r\nb: c")]),
        broken(&[(":odd", "1")]),
    ];
    let told = Http3::new(&front, &asked).with("patience", 4).ask()?;
    for (asked, answer) in asked.iter().zip(answers(&told)) {
        assert_eq!(answer["reset"], H3_MESSAGE_ERROR, "{asked}: {answer}");
        assert_eq!(answer["status"], 0, "{asked}: {answer}");
    }
    let refused = |line: &Value| line["kind"] == "connection" && line["reason"] == "http_malformed";
    let count = || front.audit().iter().filter(|line| refused(line)).count();
    eventually("each is recorded", SOON, || {
        (count() >= asked.len()).then_some(())
    })?;
    assert_eq!(front.heard()?, Vec::<String>::new());

    // What HTTP can say, and isn't served.
    let many: Vec<(String, String)> = (0..120)
        .map(|at| (format!("x-{at}"), "1".to_owned()))
        .collect();
    let many: Vec<(&str, &str)> = many
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let long = "x".repeat(80_000);
    let told = Http3::new(
        &front,
        &[
            broken(&many),
            broken(&[("x-long", &long)]),
            broken(&[("content-length", "1"), ("content-length", "2")]),
            broken(&[("x-a", " a")]),
        ],
    )
    .with("patience", 4)
    .ask()?;
    let statuses: Vec<_> = answers(&told)
        .iter()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(statuses, [431, 431, 400, 400], "{told}");
    front.audited("the long head", |line| line["reason"] == "head_too_long")?;
    assert_eq!(front.heard()?, Vec::<String>::new());
    Ok(())
}

#[test]
fn bodies_stream_up_and_down_within_their_bounds() -> Rigged<()> {
    let ground = ground()?.alter(
        "scopes = [\"files\"]",
        "scopes = [\"files\"]\nmax_body_bytes = 3000000",
    )?;
    let front = ground.start()?;
    let token = front.token("files")?;
    let put = |path: &str, times: usize, more: &[(&str, &str)]| {
        let mut put = request("PUT", path, Some(&token), more);
        put["parts"] = vec!["0123456789"; 2].into();
        put["times"] = times.into();
        put
    };
    // Ten bytes, so many times, twice.
    let told = Http3::new(&front, &[put("/files/a", 100_000, &[])]).ask()?;
    assert_eq!(answers(&told)[0]["status"], 201, "{told}");
    let told = Http3::new(&front, &[request("GET", "/files/a", Some(&token), &[])]).ask()?;
    let got = answers(&told)[0]["body"].as_str().map(str::len);
    assert_eq!(got, Some(2_000_000));
    let asked = [
        put("/files/b", 200_000, &[]),
        put("/files/c", 1, &[("content-length", "20")]),
        put("/files/d", 1, &[("content-length", "21")]),
        put("/files/e", 1, &[("content-length", "19")]),
    ];
    for (asked, due) in asked.iter().zip([413, 201, 400, 400]) {
        let told = Http3::new(&front, std::slice::from_ref(asked)).ask()?;
        assert_eq!(answers(&told)[0]["status"], due, "{asked}: {told}");
    }
    for path in ["b", "d", "e"] {
        let there = front.ground.scratch.join("files").join(path).exists();
        assert!(!there, "{path}");
    }
    // Trailers don't travel, and a body that nobody wants is no hindrance.
    let mut trailed = put("/files/f", 1, &[]);
    trailed["trailers"] = serde_json::json!([["authorization", "Bearer x"]]);
    let mut unwanted = put("/files/g", 1_000, &[]);
    unwanted["fields"].as_array_mut().expect("fields").remove(4);
    let told = Http3::new(&front, &[trailed, unwanted]).ask()?;
    let statuses: Vec<_> = answers(&told)
        .iter()
        .map(|it| it["status"].clone())
        .collect();
    assert_eq!(statuses, [201, 401], "{told}");
    Ok(())
}

#[test]
fn a_listed_source_gets_no_answer_and_no_more_connections_than_others() -> Rigged<()> {
    let front = ground()?
        .add("[[listener]]", "max_connections_per_source = 2")?
        .start()?;
    let asked = [request("GET", "/public", None, &[])];
    let first = Http3::new(&front, &asked).with("stay", true).begin()?;
    let second = Http3::new(&front, &asked).with("stay", true).begin()?;
    let told = Http3::new(&front, &asked).with("patience", 3).ask()?;
    assert!(told["refused"].is_string(), "{told}");
    front.audited("the third", |line| line["reason"] == "source_connections")?;
    for held in [first, second] {
        let told = held.end()?;
        assert_eq!(answers(&told)[0]["status"], 200, "{told}");
    }
    let source = front.address.ip().to_string();
    front
        .daemon
        .ask(&["block", "add", &source, "--force", &source, "--ttl", "1h"])?;
    let told = Http3::new(&front, &asked).with("patience", 2).ask()?;
    assert!(told["refused"].is_string(), "{told}");
    Ok(())
}

#[test]
fn client_certificates_are_asked_for_and_recorded() -> Rigged<()> {
    let ground = ground()?;
    let clients = ClientPki::new(&ground.scratch, "clients")?;
    let alice = clients.issue(&ground.scratch, "alice", 7)?;
    let rule = format!(
        "[[listener.client_certificates]]\nmode = \"required\"\nca = \"{}\"\n\n[[issuer]]",
        clients.ca.display()
    );
    let front = ground.alter("[[issuer]]", &rule)?.start()?;
    let asked = [request("GET", "/public", None, &[])];
    let told = Http3::new(&front, &asked).with("patience", 3).ask()?;
    assert_ne!(told["answers"][0]["status"], 200, "{told}");
    let shown = serde_json::json!([alice.certificate, alice.key]);
    let told = Http3::new(&front, &asked)
        .with("certificate", shown)
        .ask()?;
    assert_eq!(answers(&told)[0]["status"], 200, "{told}");
    let record = front.record_of(field(answers(&told)[0], "x-request-id"))?;
    assert!(record["client_certificate"].is_string(), "{record}");
    Ok(())
}
