//! A proof is good once: on every worker, through a reload, a crash and an upgrade, and with the nonce that is in
//! force.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    front::Front,
    ground::Ground,
    heirs::{fail_late, replace, with_binary},
    holder_key::{Holder, HolderKey, PATH, assert_refused},
    run::{RigError, Rigged, eventually},
};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(15);

#[test]
fn a_proof_is_good_once_on_every_worker_and_after_a_reload() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[runtime]\nworkers = 4\n\n[admin]")?;
    let front = ground.start()?;
    let holder = Holder::of(&front)?;
    let proof = holder.proof(&front)?;
    assert_eq!(holder.send(&front, &proof)?.status, 200);
    let replayed = || -> Rigged<()> {
        // Each over a connection of its own, which goes to any worker.
        for _ in 0..8 {
            let answer = holder.send(&front, &proof)?;
            assert_refused(&front, &answer, "dpop_proof_replayed", "invalid_dpop_proof")?;
        }
        Ok(())
    };
    replayed()?;
    front.daemon.ask(&["reload"])?;
    replayed()?;
    assert_eq!(holder.send(&front, &holder.proof(&front)?)?.status, 200);
    // The same jti by another key is another's.
    let other = Holder::of(&front)?;
    let mut claims = other.claims(&front);
    let used: Value = claims_of(&proof)?;
    claims["jti"] = used["jti"].clone();
    assert_eq!(other.send(&front, &other.key.sign(&claims)?)?.status, 200);
    assert_eq!(front.heard()?.len(), 3);
    Ok(())
}

/// What a proof says.
fn claims_of(proof: &str) -> Rigged<Value> {
    let part = proof.split('.').nth(1).unwrap_or_default();
    let bytes = URL_SAFE_NO_PAD.decode(part);
    let bytes = bytes.map_err(|error| RigError(error.to_string()))?;
    serde_json::from_slice(&bytes).map_err(|error| RigError(error.to_string()))
}

/// Other rules for proofs begin anew, and so does another process: what was used before can't be told, and is
/// refused until the client quotes a nonce.
#[test]
fn a_proof_from_before_is_good_neither_under_other_rules_nor_with_another_process() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[dpop]\nwindow = \"2m\"\n\n[admin]")?;
    let mut front = ground.start()?;
    let holder = Holder::of(&front)?;
    let proof = holder.proof(&front)?;
    assert_eq!(holder.send(&front, &proof)?.status, 200);
    let without = |front: &Front| {
        let claims = HolderKey::claims("GET", &front.url(PATH), &holder.token);
        holder.key.sign(&claims)
    };
    let plain = eventually("a proof needs no nonce any more", SOON, || {
        let plain = without(&front).ok()?;
        let answer = holder.send(&front, &plain).ok()?;
        (answer.status == 200).then_some(plain)
    })?;
    let refused = |front: &Front| -> Rigged<()> {
        for (proof, told) in [
            (&proof, "dpop_nonce_wrong"),
            (&plain, "dpop_proof_too_early"),
        ] {
            let answer = holder.send(front, proof)?;
            assert_refused(front, &answer, told, "use_dpop_nonce")?;
            // As clients do.
            let mut claims = HolderKey::claims("GET", &front.url(PATH), &holder.token);
            claims["nonce"] = json!(answer.field("dpop-nonce"));
            let again = holder.send(front, &holder.key.sign(&claims)?)?;
            assert_eq!(again.status, 200, "{again:?}");
        }
        Ok(())
    };
    let text = front.ground.text.replace("\"2m\"", "\"4m\"");
    front.ground.scratch.write("portcullis.toml", &text)?;
    front.daemon.ask(&["reload"])?;
    refused(&front)?;
    front.ground.text = text;
    let ground = front.crash()?;
    let front = ground.start()?;
    // Its port is another; the host's, without one, would be the same.
    let answer = holder.send(&front, &plain)?;
    assert_eq!(answer.status, 401, "{answer:?}");
    Ok(())
}

#[test]
fn a_proof_is_good_once_across_an_upgrade() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[dpop]\nleeway = \"1s\"\n\n[admin]")?;
    let (mut front, binary) = with_binary(ground)?;
    let holder = Holder::of(&front)?;
    let claims = || HolderKey::claims("GET", &front.url(PATH), &holder.token);
    let plain = eventually("a proof needs no nonce any more", SOON, || {
        let plain = holder.key.sign(&claims()).ok()?;
        let answer = holder.send(&front, &plain).ok()?;
        (answer.status == 200).then_some(plain)
    })?;
    let quoting = holder.proof(&front)?;
    assert_eq!(holder.send(&front, &quoting)?.status, 200);
    replace(&binary, "")?;
    front.daemon.upgrade()?;
    for (proof, told) in [
        (&plain, "dpop_proof_too_early"),
        (&quoting, "dpop_nonce_wrong"),
    ] {
        let answer = holder.send(&front, proof)?;
        assert_refused(&front, &answer, told, "use_dpop_nonce")?;
    }
    assert_eq!(
        front.heard()?.iter().filter(|it| it.contains(PATH)).count(),
        2
    );
    Ok(())
}

/// The process that was to take over may have seen proofs: those that were made before it was gone need a nonce.
#[test]
fn after_an_upgrade_that_fails_late_proofs_are_good_again() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[dpop]\nleeway = \"1s\"\n\n[admin]")?;
    let mut front = ground.start()?;
    let holder = Holder::of(&front)?;
    let url = front.url(PATH);
    let claims = || HolderKey::claims("GET", &url, &holder.token);
    let becomes_good = |front: &Front| {
        eventually("a proof needs no nonce any more", SOON, || {
            let answer = holder.send(front, &holder.key.sign(&claims()).ok()?).ok()?;
            (answer.status == 200).then_some(())
        })
    };
    becomes_good(&front)?;
    let unused = holder.key.sign(&claims())?;
    fail_late(&mut front)?;
    let said = front.daemon.ask_refused(&["upgrade"])?;
    assert!(said.contains("exists and is no socket"), "{said}");
    let answer = holder.send(&front, &unused)?;
    assert_refused(&front, &answer, "dpop_proof_too_early", "use_dpop_nonce")?;
    assert_eq!(holder.send(&front, &holder.proof(&front)?)?.status, 200);
    becomes_good(&front)
}

/// Case 57.
#[test]
fn where_nonces_are_required_each_proof_quotes_one_in_force() -> Rigged<()> {
    let ground = Ground::set()?.alter("[admin]", "[dpop]\nnonce = true\n\n[admin]")?;
    let front = ground.start()?;
    let holder = Holder::of(&front)?;
    let claims = HolderKey::claims("GET", &front.url(PATH), &holder.token);
    let answer = holder.send(&front, &holder.key.sign(&claims)?)?;
    assert_refused(&front, &answer, "dpop_nonce_missing", "use_dpop_nonce")?;
    let nonce = answer.field("dpop-nonce").map(str::to_owned);
    assert!(nonce.is_some(), "{answer:?}");
    let mut claims = HolderKey::claims("GET", &front.url(PATH), &holder.token);
    claims["nonce"] = json!(nonce);
    let answer = holder.send(&front, &holder.key.sign(&claims)?)?;
    assert_eq!(answer.status, 200, "{answer:?}");
    // Whoever doesn't know yet is told at once.
    let authorization = format!("Authorization: DPoP {}", holder.token);
    let answer = front.curl(PATH, &["-H", &authorization])?;
    assert_refused(&front, &answer, "dpop_proof_missing", "invalid_dpop_proof")?;
    assert!(answer.field("dpop-nonce").is_some(), "{answer:?}");
    Ok(())
}
