//! What those who watch see: health, readiness and counts, on a listener of their own.

use std::net::SocketAddr;

use portcullis_tests::{
    front::{Answer, Front},
    ground::{Ground, free_address},
    run::{Rigged, eventually},
};

/// A proxy that is watched, and where.
fn watched() -> Rigged<(Front, SocketAddr)> {
    let at = free_address()?;
    let front = Ground::set()?
        .alter(
            "[admin]",
            &format!("[observe]\naddress = \"{at}\"\n\n[admin]"),
        )?
        .start()?;
    Ok((front, at))
}

fn ask(front: &Front, at: SocketAddr, path: &str) -> Rigged<Answer> {
    front.curl_at(&format!("http://{at}{path}"), &[])
}

/// The value of a sample, by its name and labels.
fn sample(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().parse().ok()
}

#[test]
fn a_proxy_says_that_it_is_well_and_ready_until_it_stops() -> Rigged<()> {
    let (front, at) = watched()?;
    assert_eq!(ask(&front, at, "/healthz")?.status, 200);
    assert_eq!(ask(&front, at, "/readyz")?.status, 200);
    assert_eq!(ask(&front, at, "/")?.status, 404);
    let posted = front.curl_at(&format!("http://{at}/readyz"), &["--data", "x"])?;
    assert_eq!(posted.status, 405);
    Ok(())
}

#[test]
fn requests_are_counted_by_route_verdict_and_status() -> Rigged<()> {
    let (front, at) = watched()?;
    let token = front.token("orders:read")?;
    for _ in 0..3 {
        assert_eq!(front.get("/orders/1", &token)?.status, 200);
    }
    assert_eq!(front.get("/orders/1", "x.y.z")?.status, 401);
    assert_eq!(front.curl("/nowhere", &[])?.status, 404);
    let text = String::from_utf8_lossy(&ask(&front, at, "/metrics")?.body).into_owned();
    for (name, value) in [
        (
            r#"portcullis_requests_total{route="orders",verdict="permit",status="2xx"}"#,
            3.0,
        ),
        (
            r#"portcullis_requests_total{route="orders",verdict="deny",status="4xx"}"#,
            1.0,
        ),
        (
            r#"portcullis_requests_total{route="-",verdict="deny",status="4xx"}"#,
            1.0,
        ),
        (r#"portcullis_refusals_total{reason="no_route"}"#, 1.0),
        (
            r#"portcullis_request_duration_seconds_count{route="orders"}"#,
            4.0,
        ),
        ("portcullis_connections_total", 5.0),
        ("portcullis_audit_failing", 0.0),
        ("portcullis_kernel_guarded", 0.0),
    ] {
        assert_eq!(sample(&text, name), Some(value), "{name} in {text}");
    }
    let endpoint = format!(
        r#"portcullis_endpoint_healthy{{upstream="app",endpoint="{}"}}"#,
        front.ground.upstream
    );
    assert_eq!(sample(&text, &endpoint), Some(1.0), "{text}");
    let certificate = format!(
        r#"portcullis_certificate_end_timestamp_seconds{{certificate="{}"}}"#,
        front.ground.pki.certificate.display()
    );
    // In the year 4096, as the rig's certificates have it.
    let end = sample(&text, &certificate).unwrap_or_default();
    assert!(
        (67_000_000_000.0..67_200_000_000.0).contains(&end),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"), "{text}");
    eventually(
        "no connection is open",
        std::time::Duration::from_secs(10),
        || {
            let text = ask(&front, at, "/metrics").ok()?.body;
            let open = sample(
                &String::from_utf8_lossy(&text),
                "portcullis_open_connections",
            );
            (open == Some(0.0)).then_some(())
        },
    )
}

#[test]
fn counts_go_on_when_the_configuration_is_exchanged() -> Rigged<()> {
    let (front, at) = watched()?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    front.daemon.ask(&["reload"])?;
    assert_eq!(front.curl("/public", &[])?.status, 200);
    let text = String::from_utf8_lossy(&ask(&front, at, "/metrics")?.body).into_owned();
    let counted = r#"portcullis_requests_total{route="public",verdict="permit",status="2xx"}"#;
    assert_eq!(sample(&text, counted), Some(2.0), "{text}");
    let reloads = r#"portcullis_reloads_total{outcome="done"}"#;
    assert_eq!(sample(&text, reloads), Some(1.0), "{text}");
    Ok(())
}
