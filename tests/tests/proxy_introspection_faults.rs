//! An issuer that answers slowly, nonsense or not at all, and clients that send more tokens than it can bear.

use std::{
    io::Write as _,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use portcullis_tests::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    holder_key::{PATH, reason},
    nginx::Nginx,
    opaque_issuer::asking,
    pki::unix_now,
    run::Rigged,
    scripted::Scripted,
};
use serde_json::{Value, json};

const ISSUER: &str = "https://idp.example";

/// What is said of a good token.
fn good() -> Value {
    json!({
        "active": true, "iss": ISSUER, "aud": "api", "sub": "alice", "scope": "orders:read",
        "exp": unix_now() + 60,
    })
}

fn answer(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n{fields}\r\n{body}")
}

fn json_answer(body: &str) -> String {
    answer("200 OK", "Content-Type: application/json\r\n", body)
}

/// An issuer that answers a question about a token as `says` of it.
struct Issuer {
    behind: Scripted,
    _tls: Nginx,
    address: SocketAddr,
}

impl Issuer {
    fn start(
        ground: &Ground,
        says: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> Rigged<Self> {
        let behind = Scripted::start(move |seen, stream| {
            let form = String::from_utf8_lossy(&seen.body).into_owned();
            let token = form.split('&').find_map(|it| it.strip_prefix("token="));
            stream.write_all(says(token.unwrap_or_default()).as_bytes())?;
            Ok(true)
        })?;
        let address = free_address()?;
        let at = ground.scratch.path().display();
        let server = format!(
            "listen {address} ssl; ssl_certificate {at}/server.pem; ssl_certificate_key {at}/server.key;\n\
             location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Connection \"\"; }}\n\
             location = /there {{ return 200 there; }}",
            behind.address()
        );
        let probe = format!("https://{address}/there");
        let ca = ground.pki.ca.display().to_string();
        let tls = Nginx::serve(&ground.scratch, "idp", &server, &["--cacert", &ca, &probe])?;
        Ok(Self {
            behind,
            _tls: tls,
            address,
        })
    }

    fn front(&self, ground: Ground, lines: &str) -> Rigged<Front> {
        let url = format!("https://{}/introspect", self.address);
        asking(ground, (ISSUER, &url), lines, "[\"opaque\"]")?.start()
    }

    fn asked(&self) -> usize {
        self.behind.seen().len()
    }
}

fn assert_refused(front: &Front, answer: &Answer, status: u16, why: &str) -> Rigged<()> {
    assert_eq!(answer.status, status, "{why}: {answer:?}");
    assert_eq!(reason(front, answer)?, why, "{answer:?}");
    Ok(())
}

#[test]
fn the_question_is_as_the_standard_has_it() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |_| json_answer(&good().to_string()))?;
    let front = issuer.front(ground, "")?;
    assert_eq!(front.get(PATH, "a.b-c_~+/d==")?.status, 200);
    let seen = issuer.behind.seen();
    let [question] = seen.as_slice() else {
        panic!("{seen:?}")
    };
    let form = String::from_utf8_lossy(&question.body);
    let wanted = "token=a.b-c_%7E%2B%2Fd%3D%3D&token_type_hint=access_token";
    assert_eq!(form, wanted);
    assert_eq!(question.head[0], "POST /introspect HTTP/1.1");
    let field = |name: &str| {
        let begin = format!("{name}: ");
        let found = question.head.iter().find_map(|line| {
            line.to_ascii_lowercase()
                .starts_with(&begin)
                .then(|| line[begin.len()..].to_owned())
        });
        found.unwrap_or_default()
    };
    assert_eq!(field("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(field("accept"), "application/json");
    let joined = "proxy%3Aone:s3cret+%2B%25%26%3D%3A+of+the+proxy";
    let basic = format!("Basic {}", STANDARD.encode(joined));
    assert_eq!(field("authorization"), basic);
    Ok(())
}

#[test]
fn an_answer_that_is_no_good_lets_nobody_in() -> Rigged<()> {
    let with = |name: &str, value: Value| {
        let mut says = good();
        says[name] = value;
        json_answer(&says.to_string())
    };
    let without = |name: &str| {
        let mut says = good();
        says.as_object_mut().map(|says| says.remove(name));
        json_answer(&says.to_string())
    };
    let large = format!("{{\"active\": true, \"x\": \"{}\"}}", "x".repeat(70_000));
    let twice = good().to_string().replacen("{", "{\"active\":false,", 1);
    let failed = "token_introspection_failed";
    let moved = "Location: https://127.0.0.1/x\r\n";
    let kind = "Content-Type: text/html\r\n";
    let now = unix_now();
    let cases = [
        (json_answer(""), 503, failed),
        (json_answer("{}"), 503, failed),
        (json_answer("[true]"), 503, failed),
        (json_answer(&twice), 503, failed),
        (json_answer(&large), 503, failed),
        (with("active", json!("true")), 503, failed),
        (with("active", json!(1)), 503, failed),
        (answer("200 OK", kind, &good().to_string()), 503, failed),
        (answer("302 Found", moved, ""), 503, failed),
        (answer("401 Unauthorized", "", ""), 503, failed),
        (answer("403 Forbidden", "", ""), 503, failed),
        (answer("404 Not Found", "", ""), 503, failed),
        (answer("429 Too Many Requests", "", ""), 503, failed),
        (answer("500 Internal Server Error", "", ""), 503, failed),
        ("nonsense\r\n\r\n".to_owned(), 503, failed),
        (
            answer("400 Bad Request", "", ""),
            401,
            "token_introspection_refused",
        ),
        (with("active", json!(false)), 401, "token_inactive"),
        (
            with("iss", json!("https://other.example")),
            401,
            "token_issuer_unknown",
        ),
        (without("iss"), 401, "token_issuer_missing"),
        (with("aud", json!("other")), 401, "token_audience_wrong"),
        (without("aud"), 401, "token_audience_missing"),
        (without("sub"), 401, "token_subject_missing"),
        (without("exp"), 401, "token_expiry_missing"),
        (with("exp", json!("soon")), 401, "token_time_invalid"),
        (with("exp", json!(now - 60)), 401, "token_expired"),
        (with("nbf", json!(now + 3_600)), 401, "token_not_yet_valid"),
        (with("iat", json!(now + 3_600)), 401, "token_not_yet_valid"),
        (
            with("cnf", json!({"kid": "a"})),
            401,
            "token_binding_unknown",
        ),
        (with("cnf", json!({})), 401, "token_binding_unknown"),
        (with("scope", json!(7)), 401, "token_claim_type"),
    ];
    let ground = Ground::set()?;
    let answers: Vec<String> = cases.iter().map(|(answer, ..)| answer.clone()).collect();
    let issuer = Issuer::start(&ground, move |token| {
        let at: Option<usize> = token.strip_prefix("case-").and_then(|at| at.parse().ok());
        at.and_then(|at| answers.get(at).cloned())
            .unwrap_or_default()
    })?;
    let front = issuer.front(ground, "")?;
    for (at, (answered, status, why)) in cases.iter().enumerate() {
        let answer = front.get(PATH, &format!("case-{at}"))?;
        let what = answered.get(..answered.len().min(200)).unwrap_or_default();
        assert_eq!(answer.status, *status, "{what}: {answer:?}");
        assert_eq!(reason(&front, &answer)?, *why, "{what}");
        assert_eq!(answer.field("www-authenticate").is_some(), *status == 401);
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

/// Some issuers say the token itself as its id, and the trail has ids of tokens.
#[test]
fn a_token_that_is_its_own_id_is_not_in_the_trail() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |token| {
        let mut says = good();
        says["jti"] = json!(if token == "plain" { "an-id" } else { token });
        json_answer(&says.to_string())
    })?;
    let front = issuer.front(ground, "")?;
    // By Python's hashlib and base64.
    let hash = "sha256:1yyseWvTPvaJHTcCN08yIhgQs2cyWG1-FV4__bxFOiw";
    for (token, id) in [("plain", "an-id"), ("s3cretT0ken", hash)] {
        let answer = front.get(PATH, token)?;
        assert_eq!(answer.status, 200, "{answer:?}");
        let record = front.record_of(answer.field("x-request-id"))?;
        assert_eq!(record["principal"]["token_id"], id, "{record}");
    }
    Ok(())
}

/// All statuses, of so many clients at a time with these tokens.
fn at_once(front: &Front, tokens: &[String]) -> Vec<u16> {
    thread::scope(|scope| {
        let asking: Vec<_> = tokens
            .iter()
            .map(|token| scope.spawn(|| front.get(PATH, token).map_or(0, |answer| answer.status)))
            .collect();
        let statuses = asking.into_iter().map(|it| it.join().unwrap_or(0));
        statuses.collect()
    })
}

#[test]
fn all_who_ask_the_same_wait_for_one_answer() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |_| {
        thread::sleep(Duration::from_millis(1_000));
        json_answer(&good().to_string())
    })?;
    let front = issuer.front(ground, "")?;
    let tokens = vec!["one".to_owned(); 12];
    assert_eq!(at_once(&front, &tokens), [200; 12]);
    assert_eq!(issuer.asked(), 1);
    Ok(())
}

#[test]
fn so_many_questions_are_asked_at_a_time() -> Rigged<()> {
    let ground = Ground::set()?;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asking, seen) = (Arc::clone(&now), Arc::clone(&most));
    let issuer = Issuer::start(&ground, move |_| {
        seen.fetch_max(asking.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(150));
        asking.fetch_sub(1, Ordering::SeqCst);
        json_answer(&good().to_string())
    })?;
    let front = issuer.front(ground, "max_concurrent = 4\ntimeout = \"5s\"")?;
    let tokens: Vec<String> = (0..10).map(|number| format!("token-{number}")).collect();
    assert_eq!(at_once(&front, &tokens), [200; 10]);
    // A turn is left for those that were good before.
    assert_eq!((issuer.asked(), most.load(Ordering::SeqCst)), (10, 3));
    Ok(())
}

#[test]
fn an_issuer_that_keeps_silent_keeps_nobody_waiting_for_long() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |_| {
        thread::sleep(Duration::from_secs(30));
        String::new()
    })?;
    let front = issuer.front(ground, "timeout = \"500ms\"")?;
    let began = Instant::now();
    let answer = front.get(PATH, "a")?;
    assert_refused(&front, &answer, 503, "token_introspection_failed")?;
    assert!(began.elapsed() < Duration::from_secs(3));
    let told = front.audited("why", |line| line["step"] == "introspection_failed")?;
    let detail = told["detail"].as_str().unwrap_or_default();
    assert_eq!(detail, "opaque: no whole answer within 0.5 s");
    Ok(())
}

/// Whoever sends tokens out of the air has the issuer asked about so many a second, and those who were let in
/// before notice nothing.
#[test]
fn a_storm_of_rubbish_does_not_reach_the_issuer() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |token| {
        let says = if token == "good" {
            good()
        } else {
            json!({"active": false})
        };
        json_answer(&says.to_string())
    })?;
    let front = issuer.front(ground, "cache = \"1ms\"\nmax_inactive = 5")?;
    assert_eq!(front.get(PATH, "good")?.status, 200);
    let mut storm = String::new();
    for number in 0..300 {
        storm += &format!(
            "GET {PATH} HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer rubbish-{number}\r\n\r\n"
        );
    }
    storm += &format!(
        "GET {PATH} HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer good\r\nConnection: close\r\n\r\n"
    );
    let began = Instant::now();
    let answers = front.raw_with(&["-quiet", "-alpn", "http/1.1"], storm.as_bytes())?;
    let took = began.elapsed();
    let count = |status: &str| answers.text.matches(&format!("HTTP/1.1 {status} ")).count();
    let (refused, unasked, served) = (count("401"), count("503"), count("200"));
    assert_eq!((refused + unasked, served), (300, 1), "{answers:?}");
    let seconds = usize::try_from(took.as_secs()).unwrap_or(0) + 2;
    assert!(refused <= 5 * seconds, "{refused} of 300 in {took:?}");
    assert_eq!(issuer.asked(), refused + 2);
    front.audited("a refusal", |line| {
        line["reason"] == "token_introspection_busy"
    })?;
    Ok(())
}

/// The rules against requests that a server is made to send hold here too.
#[test]
fn an_endpoint_inside_the_network_is_not_asked_unless_it_is_listed() -> Rigged<()> {
    let ground = Ground::set()?;
    let issuer = Issuer::start(&ground, |_| json_answer(&good().to_string()))?;
    let url = format!("https://localhost:{}/introspect", issuer.address.port());
    let ground = asking(ground, (ISSUER, &url), "", "[\"opaque\"]")?;
    let front = ground
        .alter("allow_addresses = [\"127.0.0.1/32\"]\n", "")?
        .start()?;
    let answer = front.get(PATH, "a")?;
    assert_refused(&front, &answer, 503, "token_introspection_failed")?;
    let told = front.audited("why", |line| line["step"] == "introspection_failed")?;
    assert!(
        told["detail"]
            .to_string()
            .contains("is not a public address"),
        "{told}"
    );
    assert_eq!(issuer.asked(), 0);
    Ok(())
}
