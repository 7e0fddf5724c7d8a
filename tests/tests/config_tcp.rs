//! Mistakes about TCP listeners and their routes are told with file, line, key, value and mend.

use portcullis_tests::{run::Rigged, tunnels::Tunnels};

const PUBLIC: &str = "host = \"*\"\naccess = \"public\"";

fn ending() -> Rigged<Tunnels> {
    Tunnels::ending_tls("tcp://127.0.0.1:6379", "", "", PUBLIC)
}

fn passing() -> Rigged<Tunnels> {
    Tunnels::passing("tcp://127.0.0.1:8443", "", PUBLIC)
}

/// Each `to`, written for its `from`, is refused with all words.
fn assert_told(on: fn() -> Rigged<Tunnels>, cases: &[(&str, &str, &[&str])]) -> Rigged<()> {
    for (from, to, words) in cases {
        let Tunnels { ground, .. } = on()?;
        let (from, to) = (
            *from,
            to.replace("{at}", &ground.scratch.path().display().to_string()),
        );
        let ground = ground.alter(from, &to)?;
        let printed = ground.refused_start()?;
        for word in *words {
            assert!(printed.contains(word), "{word}: {printed}");
        }
        assert!(printed.contains("refused.toml:"), "{printed}");
    }
    Ok(())
}

#[test]
fn who_may_use_a_route_has_to_be_said_and_to_be_possible() -> Rigged<()> {
    let last = "host = \"*\"\naccess = \"public\"";
    assert_told(
        ending,
        &[
            (
                last,
                "host = \"*\"",
                &[
                    "tcp_route[0].name = \"service\"",
                    "the route doesn't say who may use it; add access = \"public\"",
                ],
            ),
            (
                last,
                "host = \"*\"\naccess = \"token\"",
                &[
                    "tcp_route[0].access = \"token\"",
                    "has no place for a token",
                ],
            ),
            (
                last,
                "host = \"*\"\naccess = \"everybody\"",
                &[
                    "access = \"everybody\"",
                    "unknown variant",
                    "`client_certificate`",
                ],
            ),
            (
                last,
                "host = \"*\"\naccess = \"public\"\nsources = [\"192.0.2.1\"]",
                &[
                    "tcp_route[0].access",
                    "is for everybody, and sources are for some",
                ],
            ),
            (
                last,
                "host = \"*\"\naccess = \"sources\"",
                &["tcp_route[0].access", "names no source; add sources"],
            ),
            (
                last,
                "host = \"*\"\naccess = \"sources\"\nsources = []",
                &["tcp_route[0].sources = []", "names nobody"],
            ),
            (
                last,
                "host = \"*\"\naccess = \"client_certificate\"",
                &[
                    "tcp_route[0].access = \"client_certificate\"",
                    "doesn't require a certificate of each client",
                    "mode = \"required\"",
                ],
            ),
            (
                last,
                "host = \"*\"\nissuers = [\"main\"]\naccess = \"public\"",
                &["issuers = [\"main\"]", "unknown key `issuers`"],
            ),
        ],
    )?;
    assert_told(
        passing,
        &[(
            last,
            "host = \"*\"\naccess = \"client_certificate\"",
            &[
                "what a client shows is the upstream's to judge",
                "protocol = \"tcp\"",
            ],
        )],
    )?;
    Ok(())
}

#[test]
fn a_certificate_that_is_optional_or_of_other_hosts_is_not_required() -> Rigged<()> {
    let rule = |mode: &str, hosts: &str| {
        format!(
            "[[listener.client_certificates]]\nmode = \"{mode}\"\nca = \"{{at}}/server.pem\"\n{hosts}"
        )
    };
    let hosts = "hosts = [\"a.example\"]";
    for (listener, host, good) in [
        (rule("required", ""), "*", true),
        (rule("optional", ""), "*", false),
        (rule("required", hosts), "a.example", true),
        (rule("required", hosts), "*.example", false),
        (rule("required", hosts), "b.example", false),
        (
            rule("required", "") + "\n" + &rule("optional", hosts),
            "a.example",
            false,
        ),
        (
            rule("required", "") + "\n" + &rule("optional", hosts),
            "*.example",
            false,
        ),
        (
            rule("required", "") + "\n" + &rule("optional", hosts),
            "b.example",
            true,
        ),
        (
            rule("required", "") + "\n" + &rule("optional", hosts),
            "*.other.example",
            true,
        ),
    ] {
        let route = format!("host = \"{host}\"\naccess = \"client_certificate\"");
        let url = "tcp://127.0.0.1:6379";
        let Tunnels { ground, .. } = Tunnels::ending_tls(url, &listener, "", &route)?;
        if good {
            ground.start()?;
        } else {
            let printed = ground.refused_start()?;
            let problem = "doesn't require a certificate of each client that it is for";
            assert!(printed.contains(problem), "{host}: {listener}: {printed}");
        }
    }
    Ok(())
}

#[test]
fn what_a_listener_could_never_use_is_refused() -> Rigged<()> {
    let passes = "protocol = \"tls-passthrough\"\n";
    assert_told(
        passing,
        &[
            (
                passes,
                "protocol = \"tls-passthrough\"\ncertificate = \"{at}/server.pem\"\n",
                &[
                    "listener[1].certificate",
                    "could never be used: TLS goes through",
                ],
            ),
            (
                passes,
                "protocol = \"tls-passthrough\"\nclient_certificates = [{ mode = \"required\", ca = \"{at}/ca.pem\" }]\n",
                &["listener[1].client_certificates", "could never be used"],
            ),
            (
                passes,
                "protocol = \"tls-passthrough\"\nmax_streams = 5\n",
                &[
                    "listener[1].max_streams = 5",
                    "is about requests, and this listener carries none",
                ],
            ),
            (
                "url = \"tcp://127.0.0.1:8443\"",
                "url = \"tls://127.0.0.1:8443\"",
                &[
                    "tcp_route[0].upstream",
                    "would get it in TLS again; write its URL with tcp://",
                ],
            ),
            (
                passes,
                "protocol = \"udp\"\n",
                &["protocol = \"udp\"", "unknown variant", "`tls-passthrough`"],
            ),
        ],
    )?;
    assert_told(
        ending,
        &[
            (
                "protocol = \"tcp\"\n",
                "protocol = \"tcp\"\ntrusted_hops = [\"192.0.2.1\"]\n",
                &["listener[1].trusted_hops", "is about requests"],
            ),
            (
                "listeners = [",
                "listeners = [\"127.0.0.1:0\", ",
                &[
                    "tcp_route[0].listeners = \"127.0.0.1:0\"",
                    "carries requests, which [[route]] is for",
                ],
            ),
            (
                "listeners = [",
                "listeners = [\"192.0.2.1:1\", ",
                &["no listener has this address; use some of: 127.0.0.1:0, "],
            ),
        ],
    )
}

#[test]
fn a_route_leads_to_an_upstream_of_its_kind() -> Rigged<()> {
    assert_told(
        ending,
        &[
            (
                "upstream = \"service\"",
                "upstream = \"app\"",
                &[
                    "tcp_route[0].upstream = \"app\"",
                    "is spoken to in HTTP",
                    "tcp://",
                ],
            ),
            (
                "upstream = \"service\"",
                "upstream = \"none\"",
                &["no upstream has that name; use one of: app, service"],
            ),
            (
                "upstream = \"app\"",
                "upstream = \"service\"",
                &[
                    "route[0].upstream = \"service\"",
                    "carries no requests",
                    "[[tcp_route]]",
                ],
            ),
            (
                "tcp://127.0.0.1:6379",
                "tcp://127.0.0.1",
                &[
                    "upstream[1].url",
                    "is no http, https, tcp or tls URL of a server alone",
                    "its port",
                ],
            ),
            (
                "name = \"service\"\nurl",
                "name = \"service\"\nprotocol = \"h2\"\nurl",
                &[
                    "upstream[1].protocol = \"h2\"",
                    "tcp:// and tls:// carry none",
                ],
            ),
            (
                "name = \"service\"\nurl",
                "name = \"service\"\nbalance = { cookie = \"sid\" }\nurl",
                &["upstream[1].balance", "is about requests"],
            ),
            (
                "name = \"service\"\nurl",
                "name = \"service\"\nhealth = { path = \"/\" }\nurl",
                &[
                    "upstream[1].health.path",
                    "is about a request, and this upstream carries none",
                ],
            ),
            (
                "name = \"app\"\nurl",
                "name = \"app\"\nhealth = { interval = \"1s\" }\nurl",
                &["upstream[0].name", "its health check has no path; add path"],
            ),
        ],
    )
}

#[test]
fn hosts_are_server_names_each_routed_once() -> Rigged<()> {
    let any = "host = \"*\"\naccess";
    let mut cases: Vec<(&str, String, &[&str])> = Vec::new();
    for host in ["192.0.2.1", "[2001:db8::1]", "a.example:443", "*.192.0.2.1"] {
        let to = format!("host = \"{host}\"\naccess");
        cases.push((
            any,
            to,
            &[
                "tcp_route[0].host",
                "is no server name: addresses and ports",
            ],
        ));
    }
    for host in ["", "a b", "*.", "a.*.example"] {
        let to = format!("host = \"{host}\"\naccess");
        cases.push((
            any,
            to,
            &["tcp_route[0].host", "write it like \"db.example\""],
        ));
    }
    for (from, to, words) in &cases {
        assert_told(passing, &[(from, to, words)])?;
    }
    let Tunnels {
        mut ground,
        address,
    } = passing()?;
    ground.text.push_str(&format!(
        "[[tcp_route]]\nname = \"twin\"\nlisteners = [\"{address}\"]\nhost = \"*\"\nupstream = \"service\"\naccess = \"public\"\n"
    ));
    let printed = ground.refused_start()?;
    let told = "tcp_route[1].host = \"*\": tcp_route \"service\" answers for the same listener and host already";
    assert!(printed.contains(told), "{printed}");
    Ok(())
}

#[test]
fn a_listener_without_a_route_and_routes_without_a_listener_are_told() -> Rigged<()> {
    let Tunnels {
        mut ground,
        address,
    } = passing()?;
    let at = ground.text.find("[[tcp_route]]").unwrap_or_default();
    ground.text.truncate(at);
    let printed = ground.refused_start()?;
    let told = format!("listener[1].address = \"{address}\": no [[tcp_route]] names this listener");
    assert!(printed.contains(&told), "{printed}");
    // The only listener becomes one that carries no requests, and routes of requests stay.
    let Tunnels { ground, address } = passing()?;
    let at = ground.scratch.path().display().to_string();
    let first = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ncertificate = \"{at}/server.pem\"\nkey = \"{at}/server.key\"\n"
    );
    let ground = ground.alter(&first, "")?;
    assert!(ground.text.contains(&address.to_string()));
    let printed = ground.refused_start()?;
    let told = "route[0].name = \"orders\": no listener carries requests; write a [[tcp_route]]";
    assert!(printed.contains(told), "{printed}");
    Ok(())
}
