//! Case 53: signatures by ECDSA whose numbers are none of a signature.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use portcullis_tests::{
    front::Front,
    holder_key::reason,
    run::{RigError, Rigged},
};

/// The order of the group of P-256 (SEC 2, 2.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

/// The order less a number below it.
fn order_less(number: &[u8]) -> [u8; 32] {
    let mut left = ORDER;
    let mut borrowed = false;
    for (digit, taken) in left.iter_mut().zip(number).rev() {
        let (once, under) = digit.overflowing_sub(*taken);
        let (twice, again) = once.overflowing_sub(u8::from(borrowed));
        *digit = twice;
        borrowed = under || again;
    }
    left
}

#[test]
fn a_signature_of_numbers_that_are_out_of_range_is_refused() -> Rigged<()> {
    let front = Front::open()?;
    let good = front.token("orders:read")?;
    let (message, signature) = good.rsplit_once('.').unwrap_or_default();
    let signature = URL_SAFE_NO_PAD
        .decode(signature)
        .map_err(|error| RigError(error.to_string()))?;
    let (r, s) = signature.split_at(32);
    let token = |r: &[u8], s: &[u8]| {
        let signature = URL_SAFE_NO_PAD.encode([r, s].concat());
        format!("{message}.{signature}")
    };
    let mut more = ORDER;
    more[31] += 1;
    let (zero, most) = ([0; 32], [0xff; 32]);
    let mut one = zero;
    one[31] = 1;
    for (bad, what) in [
        (token(&zero, &zero), "zeros (CVE-2022-21449)"),
        (token(&zero, s), "r is zero"),
        (token(r, &zero), "s is zero"),
        (token(&ORDER, &ORDER), "both the order"),
        (token(&ORDER, s), "r is the order"),
        (token(r, &ORDER), "s is the order"),
        (token(&more, s), "r is above the order"),
        (token(r, &more), "s is above the order"),
        (token(&most, &most), "as high as can be"),
        (token(&one, &one), "ones"),
        (token(s, r), "exchanged"),
        (token(&order_less(r), s), "the order less r"),
    ] {
        let answer = front.get("/orders/1", &bad)?;
        assert_eq!(answer.status, 401, "{what}: {answer:?}");
        assert_eq!(
            reason(&front, &answer)?,
            "token_signature_invalid",
            "{what}"
        );
    }
    assert_eq!(front.heard()?, [""; 0]);
    assert_eq!(front.get("/orders/1", &good)?.status, 200);
    // Of each signature there is a second one that anybody can make (SEC 1, 4.1.4): by RFC 7518 it is as good.
    // What must be known again, such as a token that is good once, is known by what it says.
    let other = token(r, &order_less(s));
    assert_eq!(front.get("/orders/2", &other)?.status, 200);
    Ok(())
}
