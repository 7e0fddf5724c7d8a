//! Portcullis's request path: TLS, identity, routing, forwarding.
