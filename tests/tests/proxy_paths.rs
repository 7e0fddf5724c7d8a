//! One canonical path: what is decided on, what is recorded, and what the upstream receives are the same
//! bytes; what others might read otherwise is refused by name, or let in by name.

use std::{env, fmt::Debug, str::FromStr};

use portcullis_tests::{
    front::Front,
    ground::Ground,
    paths::{RELAXED, compare},
    run::Rigged,
    wire::{assert_refused, get},
};

/// How many requests have to reach the upstream, and which they are: `PORTCULLIS_PATHS` and
/// `PORTCULLIS_PATHS_SEED` say otherwise.
const COUNT: u64 = 40_000;
const SEED: u64 = 5;

#[test]
fn the_path_that_is_recorded_is_what_the_upstream_received() -> Rigged<()> {
    let count = told("PORTCULLIS_PATHS", COUNT);
    let told = compare(count, told("PORTCULLIS_PATHS_SEED", SEED))?;
    println!("{told:?}");
    assert!(told.served() >= count, "{told:?}");
    for share in [told.http1, told.http2] {
        // What is refused had its part, and what no library reads.
        assert!(share.refused * 20 > share.served, "{told:?}");
        assert!(share.unread * 200 > share.served, "{told:?}");
    }
    // All of them, and memory for few.
    assert!(told.most_open < 20_000, "{told:?}");
    Ok(())
}

/// What the environment says, where it says anything.
fn told<T: FromStr<Err: Debug>>(variable: &str, otherwise: T) -> T {
    match env::var(variable) {
        Ok(text) => text.parse().expect(variable),
        Err(_) => otherwise,
    }
}

#[test]
fn what_a_route_lets_in_leads_nowhere_else() -> Rigged<()> {
    let front = Ground::set()?
        .alter("match = \"exact\"", RELAXED)?
        .start()?;
    for (target, reason) in [
        ("/orders%2f1", "path_encoded_slash"),
        ("/public/../orders", "path_dot_segment"),
        ("/public/..%2forders", "path_dot_segment"),
        ("/public/..%5corders", "path_dot_segment"),
        ("/public/..;x/orders", "path_dot_segment"),
        ("/public/%252e%252e/orders", "path_dot_segment"),
        ("/public/%2e%2e%252forders", "path_dot_segment"),
        ("/public%2500", "path_encoded_control"),
        ("//public", "path_empty_segment"),
    ] {
        assert_refused(&front, &get(target), 400, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}

#[test]
fn a_path_with_two_readings_is_refused() -> Rigged<()> {
    let cases = [
        ("//public", "path_empty_segment"),
        ("//admin", "path_empty_segment"),
        ("/public//", "path_empty_segment"),
        ("/orders%2fpublic", "path_encoded_slash"),
        ("/orders/..%2Fpublic", "path_dot_segment"),
        ("/orders%5cpublic", "path_backslash"),
        ("/orders\\..\\public", "path_backslash"),
        ("/public%00", "path_encoded_control"),
        ("/public%0d%0aX:1", "path_encoded_control"),
        ("/orders/../public", "path_dot_segment"),
        ("/./public", "path_dot_segment"),
        ("/orders/%2e%2e/public", "path_dot_segment"),
        ("/orders/..;/public", "path_dot_segment"),
        ("/..;/public", "path_dot_segment"),
        ("/orders/.;x/public", "path_dot_segment"),
        ("/orders;x/public", "path_parameter"),
        ("/orders%3bx", "path_parameter"),
        ("/%252e%252e/public", "path_dot_segment"),
        ("/%2570ublic", "path_double_encoding"),
        ("/%25%32%65/public", "path_dot_segment"),
        ("/%c0%ae%c0%ae/public", "path_invalid_utf8"),
        ("/public%", "path_broken_encoding"),
        ("/public%zz", "path_broken_encoding"),
        ("*", "path_not_absolute"),
    ];
    let front = Front::open()?;
    for (target, reason) in cases {
        assert_refused(&front, &get(target), 400, reason)?;
    }
    assert_eq!(front.heard()?, [""; 0]);
    Ok(())
}
