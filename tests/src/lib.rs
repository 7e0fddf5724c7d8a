//! The rig and the suites that drive Portcullis on real parts.
