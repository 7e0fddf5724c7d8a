//! Portcullis's record of every request and decision.
