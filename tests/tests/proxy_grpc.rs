//! gRPC through the proxy: a real client, a real server, and refusals that a client understands.

use portcullis_tests::{
    front::Front,
    ground::{Ground, free_address},
    grpc::{GrpcServer, call},
    run::Rigged,
};

/// A proxy in front of this server; the service asks for the scope orders:read.
fn in_front_of(address: std::net::SocketAddr) -> Rigged<Front> {
    let ground = Ground::set()?;
    ground
        .with_upstream_at(&format!("http://{address}"), "protocol = \"h2\"")?
        .alter("path = \"/orders\"", "path = \"/echo.Echo\"")?
        .alter("methods = [\"GET\"]", "methods = [\"POST\"]")?
        .start()
}

#[test]
fn calls_and_their_trailers_pass() -> Rigged<()> {
    let server = GrpcServer::start()?;
    let front = in_front_of(server.address())?;
    let token = front.token("orders:read")?;
    let said = call(&front, Some(&token), &["Unary=ab", "Unary=fail", "Unary=c"])?;
    assert_eq!(said, ["abab alice", "FAILED_PRECONDITION", "cc alice"]);
    let record = front.audited("the failed call", |line| line["grpc_status"] == 9)?;
    assert_eq!(record["verdict"], "permit", "{record}");
    assert_eq!(record["path"], "/echo.Echo/Unary", "{record}");
    Ok(())
}

#[test]
fn a_stream_goes_on_in_both_directions_at_once() -> Rigged<()> {
    let server = GrpcServer::start()?;
    let front = in_front_of(server.address())?;
    let token = front.token("orders:read")?;
    assert_eq!(call(&front, Some(&token), &["stream"])?, ["streamed OK"]);
    let record = front.audited("the stream", |line| line["grpc_status"] == 0)?;
    assert_eq!(record["complete"], true, "{record}");
    Ok(())
}

#[test]
fn a_call_that_its_client_cancels_ends_at_the_service_too() -> Rigged<()> {
    let mut server = GrpcServer::start()?;
    let front = in_front_of(server.address())?;
    let token = front.token("orders:read")?;
    assert_eq!(call(&front, Some(&token), &["cancel"])?, ["cancelled"]);
    server.wait_for_the_end_of_a_stream()?;
    let record = front.audited("the call", |line| line["kind"] == "request")?;
    assert_eq!(record["complete"], false, "{record}");
    Ok(())
}

#[test]
fn a_refusal_is_a_status_of_the_call() -> Rigged<()> {
    let server = GrpcServer::start()?;
    let front = in_front_of(server.address())?;
    let reader = front.token("files")?;
    for (token, status, code) in [
        (None, "UNAUTHENTICATED", 16),
        (Some("x.y.z"), "UNAUTHENTICATED", 16),
        (Some(reader.as_str()), "PERMISSION_DENIED", 7),
    ] {
        assert_eq!(call(&front, token, &["Unary=a"])?, [status]);
        let record = front.audited("the refusal", |line| line["grpc_status"] == code)?;
        assert_eq!(record["verdict"], "deny", "{record}");
    }
    Ok(())
}

#[test]
fn a_service_that_is_not_there_is_a_status_of_the_call() -> Rigged<()> {
    let front = in_front_of(free_address()?)?;
    let token = front.token("orders:read")?;
    assert_eq!(call(&front, Some(&token), &["Unary=a"])?, ["UNAVAILABLE"]);

    let ground = Ground::set()?;
    let front = ground.start()?;
    assert_eq!(call(&front, None, &["Unary=a"])?, ["UNIMPLEMENTED"]);
    Ok(())
}
