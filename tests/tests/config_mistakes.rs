//! Every mistake in a configuration is told with file, line, key, value and mend.

use std::net::TcpListener;

use portcullis_tests::{ground::Ground, pki::stray_key, run::Rigged};

/// What is printed for a configuration with `from` written as `to`, and where `to` stands.
fn printed(from: &str, to: &str) -> Rigged<(String, usize)> {
    let ground = Ground::set()?.alter(from, to)?;
    let printed = ground.refused_start()?;
    let at = ground.text.find(to).unwrap_or_default();
    Ok((printed, ground.text[..at].matches('\n').count() + 1))
}

/// Asserts that writing `to` for `from` is refused at `to`'s line with all of `words`.
fn assert_told(from: &str, to: &str, words: &[&str]) -> Rigged<()> {
    let (printed, line) = printed(from, to)?;
    let place = format!("refused.toml:{line}: ");
    assert!(printed.contains(&place), "{place}: {printed}");
    for word in words {
        assert!(printed.contains(word), "{word}: {printed}");
    }
    Ok(())
}

#[test]
fn an_unknown_key_is_told_with_the_known_ones() -> Rigged<()> {
    assert_told(
        "drain = \"5s\"",
        "drian = \"5s\"",
        &["drian = \"5s\"", "unknown key `drian`", "expected `drain`"],
    )
}

#[test]
fn a_missing_certificate_is_told_with_its_path() -> Rigged<()> {
    assert_told(
        "/server.pem\"",
        "/nowhere.pem\"",
        &[
            "listener[0].certificate = \"",
            "/nowhere.pem\": can't be read: No such file",
            "check the path",
        ],
    )
}

#[test]
fn a_file_without_a_certificate_is_told() -> Rigged<()> {
    assert_told(
        "/server.pem\"",
        "/jwks.json\"",
        &[
            "listener[0].certificate",
            "no certificate in it",
            "then its chain",
        ],
    )
}

#[test]
fn a_key_of_another_certificate_is_told() -> Rigged<()> {
    let ground = Ground::set()?;
    ground.scratch.write("stray.key", stray_key()?)?;
    let ground = ground.alter("/server.key\"", "/stray.key\"")?;
    let printed = ground.refused_start()?;
    assert!(
        printed.contains("refused.toml:4: listener[0].key"),
        "{printed}"
    );
    let words = "the private key doesn't belong to the certificate; give the key that";
    assert!(printed.contains(words), "{printed}");
    Ok(())
}

#[test]
fn a_route_without_upstream_is_told() -> Rigged<()> {
    let ground = Ground::set()?.alter(
        "methods = [\"GET\"]\nupstream = \"app\"",
        "methods = [\"GET\"]",
    )?;
    let printed = ground.refused_start()?;
    assert!(printed.contains("route[0].name = \"orders\""), "{printed}");
    assert!(
        printed.contains("the route has no upstream; add upstream"),
        "{printed}"
    );
    Ok(())
}

#[test]
fn an_upstream_that_nobody_defined_is_told_with_those_that_exist() -> Rigged<()> {
    assert_told(
        "upstream = \"app\"",
        "upstream = \"app2\"",
        &[
            "route[0].upstream = \"app2\"",
            "no upstream has that name; use one of: app",
        ],
    )
}

#[test]
fn a_duplicate_route_is_told_with_the_other() -> Rigged<()> {
    assert_told(
        "path = \"/files\"",
        "path = \"/orders/\"",
        &[
            "route[1].path = \"/orders/\"",
            "route \"orders\" answers",
            "remove one",
        ],
    )
}

#[test]
fn a_bad_cidr_is_told() -> Rigged<()> {
    for (entry, problem) in [
        ("10.0.0.0/33", "neither an address nor a CIDR"),
        ("0.0.0.0/0", "too wide"),
    ] {
        let lists = format!("[lists]\nblocked = [\"{entry}\"]\n\n[audit]");
        let ground = Ground::set()?.alter("[audit]", &lists)?;
        let printed = ground.refused_start()?;
        let place = format!("lists.blocked = \"{entry}\"");
        assert!(
            printed.contains(&place) && printed.contains(problem),
            "{printed}"
        );
        assert!(printed.contains("write it like"), "{printed}");
    }
    Ok(())
}

#[test]
fn an_unknown_interface_is_told_with_those_that_exist() -> Rigged<()> {
    let ground =
        Ground::set()?.alter("[audit]", "[kernel]\ninterfaces = [\"eth99\"]\n\n[audit]")?;
    let printed = ground.refused_start()?;
    assert!(
        printed.contains("kernel.interfaces = \"eth99\""),
        "{printed}"
    );
    assert!(
        printed.contains("no such network interface; this host has: "),
        "{printed}"
    );
    Ok(())
}

#[test]
fn an_interface_named_twice_is_told() -> Rigged<()> {
    let twice = "[kernel]\ninterfaces = [\"lo\", \"lo\"]\n\n[audit]";
    let printed = Ground::set()?.alter("[audit]", twice)?.refused_start()?;
    assert!(
        printed.contains("kernel.interfaces = \"lo\": is named twice"),
        "{printed}"
    );
    Ok(())
}

#[test]
fn a_port_in_use_is_told() -> Rigged<()> {
    let holder = TcpListener::bind(("127.0.0.1", 0))?;
    let taken = format!("address = \"{}\"", holder.local_addr()?);
    assert_told(
        "address = \"127.0.0.1:0\"",
        &taken,
        &[
            &format!("listener[0].{taken}"),
            "the port is in use",
            "ss -ltnp",
        ],
    )
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_file() -> Rigged<()> {
    let ground = Ground::set()?
        .alter("drain = \"5s\"", "drain = \"soon\"")?
        .alter("/server.pem\"", "/nowhere.pem\"")?;
    let printed = ground.refused_start()?;
    let first = printed.find("listener[0].certificate");
    let second = printed.find("shutdown.drain = \"soon\"");
    assert!(first.is_some() && first < second, "{printed}");
    Ok(())
}

#[test]
fn an_admin_socket_path_that_is_a_file_is_left_alone() -> Rigged<()> {
    let ground = Ground::set()?.alter("/admin.sock\"", "/ca.pem\"")?;
    let printed = ground.refused_start()?;
    assert!(
        printed.contains("exists and is no socket; it is left alone"),
        "{printed}"
    );
    assert!(ground.scratch.join("ca.pem").exists());
    Ok(())
}

/// A configuration with this in `[kernel]`, and what must be told of it. The interface exists.
fn assert_kernel_told(kernel: &str, words: &[&str]) -> Rigged<()> {
    let to = format!("[kernel]\ninterfaces = [\"lo\"]\n{kernel}\n\n[audit]");
    let printed = Ground::set()?.alter("[audit]", &to)?.refused_start()?;
    for word in words {
        assert!(printed.contains(word), "{kernel}: {word}: {printed}");
    }
    Ok(())
}

#[test]
fn an_unknown_scope_or_mode_is_told_with_the_known_ones() -> Rigged<()> {
    assert_kernel_told(
        "scope = \"inbound\"",
        &["unknown variant `inbound`", "`all` or `new-inbound-only`"],
    )?;
    assert_kernel_told(
        "[kernel.limits]\nsource_syn = { rate = 9, mode = \"watch\" }",
        &["unknown variant `watch`", "`enforce` or `monitor`"],
    )
}

#[test]
fn a_limit_that_nobody_knows_is_told_with_the_known_ones() -> Rigged<()> {
    assert_kernel_told(
        "[kernel.limits]\nsource_packet = { rate = 9 }",
        &["unknown key `source_packet`", "source_packets"],
    )?;
    assert_kernel_told(
        "[kernel.limits]\nsource_udp = { rate = 9, bursts = 9 }",
        &["unknown key `bursts`", "burst"],
    )?;
    assert_kernel_told(
        "[kernel.limits]\nsource_udp = { burst = 9 }",
        &["missing key `rate`"],
    )
}

#[test]
fn the_keys_of_earlier_versions_are_told_as_unknown() -> Rigged<()> {
    assert_kernel_told("source_rate = 20000", &["unknown key `source_rate`"])
}

#[test]
fn a_rate_or_burst_out_of_range_is_told_with_the_range() -> Rigged<()> {
    for part in ["rate = 1000000000001", "rate = 9, burst = 1000000000001"] {
        let limit = format!("[kernel.limits]\naggregate_bytes = {{ {part} }}");
        let key = part.rsplit(", ").next().unwrap_or_default();
        let key = key.split(' ').next().unwrap_or_default();
        assert_kernel_told(
            &limit,
            &[
                &format!("kernel.limits.aggregate_bytes.{key}"),
                "1000000000000",
            ],
        )?;
    }
    assert_kernel_told(
        "[kernel.limits]\nsource_udp = { rate = -1 }",
        &["invalid value", "`-1`"],
    )
}

#[test]
fn an_aggregate_smaller_than_a_source_is_told_by_family() -> Rigged<()> {
    for (limits, told) in [
        (
            "aggregate_prefix = { ipv4 = 28 }\nsource_prefix = { ipv4 = 26 }",
            "aggregate_prefix.ipv4 = 28: is 28, and source_prefix.ipv4 is 26",
        ),
        ("source_prefix = { ipv6 = 48 }", "source_prefix.ipv6 is 48"),
    ] {
        assert_kernel_told(&format!("[kernel.limits]\n{limits}"), &[told])?;
    }
    Ok(())
}

#[test]
fn an_absence_that_a_restart_could_be_is_told() -> Rigged<()> {
    assert_kernel_told(
        "fail_open_after = \"1s\"",
        &[
            "kernel.fail_open_after = \"1s\": is too short",
            "use at least \"5s\"",
        ],
    )
}

#[test]
fn a_burst_of_nothing_is_told() -> Rigged<()> {
    assert_kernel_told(
        "[kernel.limits]\nsource_udp = { rate = 5, burst = 0 }",
        &["source_udp.burst", "out of range", "use 1 to"],
    )
}

#[test]
fn a_prefix_length_out_of_range_is_told_with_the_range() -> Rigged<()> {
    for (written, key, range) in [
        (
            "source_prefix = { ipv4 = 33 }",
            "source_prefix.ipv4",
            "8 to 32",
        ),
        (
            "source_prefix = { ipv4 = 7 }",
            "source_prefix.ipv4",
            "8 to 32",
        ),
        (
            "source_prefix = { ipv6 = 129 }",
            "source_prefix.ipv6",
            "16 to 128",
        ),
        (
            "aggregate_prefix = { ipv6 = 15 }",
            "aggregate_prefix.ipv6",
            "16 to 128",
        ),
    ] {
        let limits = format!("[kernel.limits]\n{written}");
        assert_kernel_told(&limits, &[&format!("kernel.limits.{key}"), range])?;
    }
    Ok(())
}

#[test]
fn a_watching_list_of_trusted_prefixes_or_one_named_twice_is_told() -> Rigged<()> {
    for name in ["allow", "config-trusted"] {
        let lists = format!("[lists]\nmonitor = [\"{name}\"]\n\n[audit]");
        let printed = Ground::set()?.alter("[audit]", &lists)?.refused_start()?;
        let told = format!("lists.monitor = \"{name}\": is a list of trusted prefixes");
        assert!(printed.contains(&told), "{printed}");
        assert!(printed.contains("name lists that block"), "{printed}");
    }
    let lists = "[lists]\nmonitor = [\"feed\", \"feed\"]\n\n[audit]";
    let printed = Ground::set()?.alter("[audit]", lists)?.refused_start()?;
    assert!(printed.contains("lists.monitor"), "{printed}");
    Ok(())
}

#[test]
fn every_flaw_of_a_feed_is_told_with_its_line() -> Rigged<()> {
    let feed = "[[feed]]\nname = \"drop\"\nurl = \"http://lists.example/drop.txt\"\nrefresh = \"10s\"\nmode = \"loud\"\n\n[audit]";
    let ground = Ground::set()?.alter("[audit]", feed)?;
    let printed = ground.refused_start()?;
    let at = ground.text.find("[[feed]]").unwrap_or_default();
    let line = ground.text[..at].matches('\n').count() + 1;
    for (below, told) in [
        (
            2,
            "feed[0].url = \"http://lists.example/drop.txt\": \"http://lists.example/drop.txt\" is no https:// URL",
        ),
        (
            3,
            "feed[0].refresh = \"10s\": is shorter than min_interval, 1m",
        ),
        (
            4,
            "feed[0].mode = \"loud\": is no mode; use \"enforce\" or \"monitor\"",
        ),
    ] {
        let told = format!("refused.toml:{}: {told}", line + below);
        assert!(printed.contains(&told), "{told}: {printed}");
    }
    Ok(())
}

#[test]
fn a_feed_without_a_source_with_an_unknown_key_or_a_name_used_twice_is_told() -> Rigged<()> {
    for (feed, told) in [
        (
            "name = \"drop\"",
            "feed[0].name = \"drop\": has to have its entries from exactly one place; give one of file, url and input = true",
        ),
        (
            "name = \"drop\"\ninput = true\nscore = 3",
            "unknown key `score`",
        ),
        (
            "name = \"drop\"\ninput = true\n\n[[feed]]\nname = \"drop\"\ninput = true",
            "feed[1].name = \"drop\": another feed has this already; names are unique",
        ),
        ("input = true", "feed[0].name"),
    ] {
        let feed = format!("[[feed]]\n{feed}\n\n[audit]");
        let printed = Ground::set()?.alter("[audit]", &feed)?.refused_start()?;
        assert!(printed.contains(told), "{told}: {printed}");
    }
    Ok(())
}

#[test]
fn a_forced_prefix_that_is_not_blocked_is_told() -> Rigged<()> {
    let lists = "[lists]\nforce = [\"127.0.0.0/8\"]\n\n[audit]";
    let printed = Ground::set()?.alter("[audit]", lists)?.refused_start()?;
    assert!(
        printed.contains("lists.force = \"127.0.0.0/8\": is not in lists.blocked"),
        "{printed}"
    );
    Ok(())
}
