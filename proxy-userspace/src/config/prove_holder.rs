//! How it has to be proven that a token is in the right hands, and good once, as proven.

use std::time::Duration;

use gateway::{Algorithm, ProofRules};

use super::{
    mistake::Prover,
    prove_issuers::prove_algorithms,
    value::{in_range, prove_duration},
    written_holder::{Dpop, SingleUse},
};

/// Widest window and leeway: what is used once has to be remembered for as long.
const WIDEST: Duration = Duration::from_secs(300);

/// Tokens of routes that take each once, that are remembered where nothing else is said: 44 MiB when it is full.
const REMEMBERED: usize = 1_000_000;

pub(super) fn used_tokens(prover: &mut Prover<'_>, written: &SingleUse) -> usize {
    in_range(
        prover,
        "single_use.remembered",
        written.remembered.as_ref(),
        REMEMBERED,
        (100, 10_000_000),
    )
}

pub(super) fn proofs(prover: &mut Prover<'_>, written: &Dpop) -> ProofRules {
    let default = ProofRules::default();
    let algorithms = match &written.algorithms {
        None => default.algorithms,
        Some(names) => {
            let key = "dpop.algorithms";
            let proven = prove_algorithms(prover, key, names);
            if proven.contains(&Algorithm::HS256) {
                let problem = "HS256 is for secrets, and a proof brings its key along";
                prover.reject(key, names.span(), problem, "remove it");
            }
            proven
        }
    };
    let mut bounded = |name: &str, written: Option<&toml::Spanned<String>>, default| {
        let key = format!("dpop.{name}");
        let proven = prove_duration(prover, &key, written, default);
        if let Some(written) = written
            && proven > WIDEST
        {
            prover.reject(&key, written.span(), "is too wide", "use at most \"5m\"");
        }
        proven
    };
    ProofRules {
        algorithms,
        window: bounded("window", written.window.as_ref(), default.window),
        leeway: bounded("leeway", written.leeway.as_ref(), default.leeway),
        nonces: written.nonce,
        remembered: in_range(
            prover,
            "dpop.remembered",
            written.remembered.as_ref(),
            default.remembered,
            (1_000, 10_000_000),
        ),
    }
}
