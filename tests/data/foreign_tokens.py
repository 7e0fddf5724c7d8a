"""Tokens of three libraries that aren't Portcullis's, PyJWT, jwcrypto and npm's jose, for every algorithm: good
ones, and ones broken in every way that matters. Prints one JSON object: keys as JWKS, and a list of tokens, each
with its library, algorithm, case and whether the standards have it accepted. Its argument is the program that signs
with jose."""

import base64
import functools
import json
import subprocess
import sys
import time

import jwt.algorithms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding, NoEncryption, PrivateFormat)
from jwcrypto import jwk, jws

RSA = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]
ALGORITHMS = RSA + ["ES256", "ES384", "EdDSA", "HS256"]
NOW = int(time.time())
# Longer than it takes to ask about all of them.
HOUR = 3600


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def generate(alg, bits=2048):
    if alg in RSA:
        return rsa.generate_private_key(public_exponent=65537, key_size=bits)
    if alg == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    if alg == "ES384":
        return ec.generate_private_key(ec.SECP384R1())
    if alg == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return b"0123456789abcdef0123456789abcdef"


def pem(key):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


# Each time that it reads an RSA key, OpenSSL tests its primes.
@functools.lru_cache(maxsize=None)
def as_jwk(alg, key):
    if alg == "HS256":
        return jwk.JWK(kty="oct", k=b64(key))
    return jwk.JWK.from_pem(pem(key))


def signer_of_pyjwt(alg, key):
    algorithm = jwt.algorithms.get_default_algorithms()[alg]
    prepared = algorithm.prepare_key(key if alg == "HS256" else pem(key))

    def sign(header, payload):
        head = json.dumps(header, separators=(",", ":")).encode()
        message = b64(head) + "." + b64(payload)
        return message + "." + b64(algorithm.sign(message.encode(), prepared))

    return sign


def signer_of_jwcrypto(alg, key):
    key = as_jwk(alg, key)

    def sign(header, payload):
        # Its checks of the header are left out: what it would not sign has to be refused all the more.
        text = json.dumps(header, separators=(",", ":"))
        core = jws.JWSCore(alg, key, text, payload)
        core.header = {}
        signed = core.sign()
        return ".".join([signed["protected"], b64(payload), signed["signature"]])

    return sign


JOSE = subprocess.Popen(["node", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def of_jose(alg, key, **what):
    private = json.loads(as_jwk(alg, key).export())
    print(json.dumps({"alg": alg, "jwk": private, **what}), file=JOSE.stdin, flush=True)
    made = JOSE.stdout.readline().strip()
    if not made:
        sys.exit("jose signs no more")
    return made


def signer_of_jose(alg, key):
    def sign(header, payload):
        head = json.dumps(header, separators=(",", ":")).encode()
        message = b64(head) + "." + b64(payload)
        return message + "." + of_jose(alg, key, message=message)

    return sign


def whole(library, alg, kid, claims):
    """Made the way that the library's readers make them."""
    if library == "jose":
        return of_jose(alg, KEYS[alg], kid=kid, claims=claims)
    if library == "PyJWT":
        key = KEYS[alg] if alg == "HS256" else pem(KEYS[alg])
        return jwt.encode(claims, key, algorithm=alg, headers={"kid": kid})
    token = jws.JWS(json.dumps(claims).encode())
    header = json.dumps({"alg": alg, "kid": kid})
    token.add_signature(as_jwk(alg, KEYS[alg]), alg, header)
    return token.serialize(compact=True)


def cases(library, alg, sign, stranger):
    kid = alg
    issuer = "https://shared.example" if alg == "HS256" else "https://issuer.example"
    claims = {"iss": issuer, "aud": "api", "sub": "alice", "scope": "orders:read",
              "iat": NOW, "nbf": NOW, "exp": NOW + 2 * HOUR, "jti": "one"}
    header = {"alg": alg, "typ": "JWT", "kid": kid}

    def with_claims(without=(), **changes):
        return json.dumps({k: v for k, v in {**claims, **changes}.items()
                           if k not in without}).encode()

    plain = with_claims()
    good = sign(header, plain)
    head, body, signature = good.split(".")
    raw = base64.urlsafe_b64decode(signature + "==")

    yield "made by the library alone", True, whole(library, alg, kid, claims)
    yield "made by its signature", True, good
    yield "for several", True, sign(header, with_claims(aud=["other", "api"]))
    yield "of RFC 9068", True, sign({**header, "typ": "at+jwt"}, plain)
    yield "without typ", True, sign({"alg": alg, "kid": kid}, plain)

    yield "expired", False, sign(header, with_claims(exp=NOW - HOUR))
    yield "not yet valid", False, sign(header, with_claims(nbf=NOW + HOUR))
    yield "for others", False, sign(header, with_claims(aud=["other"]))
    yield "for nobody", False, sign(header, with_claims(["aud"]))
    yield "of another issuer", False, sign(header, with_claims(iss=issuer + "/"))
    yield "of nobody", False, sign(header, with_claims(["iss"]))
    yield "without end", False, sign(header, with_claims(["exp"]))
    yield "about nobody", False, sign(header, with_claims(["sub"]))
    yield "a string for a time", False, sign(header, with_claims(exp=str(NOW + 2 * HOUR)))
    yield "a claim twice", False, sign(header, plain[:-1] + b',"sub":"root"}')
    yield "no JSON", False, sign(header, plain + b"}")
    yield "bad UTF-8", False, sign(header, plain[:-1] + b',"a":"\xff"}')
    yield "an unknown key", False, sign({**header, "kid": "other"}, plain)
    yield "an unknown extension", False, sign({**header, "crit": ["x"], "x": 1}, plain)
    yield "a payload that isn't encoded", False, sign({**header, "b64": False}, plain)
    yield "a key of its own", False, sign(
        {**header, "jwk": json.loads(as_jwk(alg, KEYS[alg]).export_public())
         if alg != "HS256" else {"kty": "oct"}}, plain)
    yield "keys elsewhere", False, sign({**header, "jku": "https://evil.example/"}, plain)
    yield "a logout token", False, sign({**header, "typ": "logout+jwt"}, plain)
    yield "another's signature", False, stranger(header, plain)
    # Salt and hash of PS512 take more than 1024 bits.
    if alg in RSA and alg != "PS512":
        short = LIBRARIES[library](alg, SHORT)
        yield "a key that is too short", False, short({**header, "kid": "short"}, plain)
    for name in ["none", "None", alg.lower() if alg != "EdDSA" else "eddsa"]:
        other = b64(json.dumps({**header, "alg": name}).encode())
        yield f"{name}, signature left out", False, f"{other}.{body}."
        yield f"{name}, signature left there", False, f"{other}.{body}.{signature}"
    for name in ALGORITHMS:
        if name != alg:
            yield f"signed as {alg}, named {name}", False, sign({**header, "alg": name}, plain)
    yield "a bit of the signature", False, f"{head}.{body}.{b64(raw[:-1] + bytes([raw[-1] ^ 1]))}"
    yield "a shorter signature", False, f"{head}.{body}.{b64(raw[:-1])}"
    yield "a longer signature", False, f"{head}.{body}.{b64(raw + bytes(1))}"
    yield "zeros for a signature", False, f"{head}.{body}.{b64(bytes(len(raw)))}"
    yield "another payload", False, f"{head}.{b64(with_claims(sub='root'))}.{signature}"
    yield "padding", False, f"{good}=="
    yield "a part more", False, f"{good}.{signature}"
    yield "a part less", False, f"{head}.{body}"
    if alg.startswith("ES"):
        from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
        half = len(raw) // 2
        der = encode_dss_signature(int.from_bytes(raw[:half], "big"),
                                   int.from_bytes(raw[half:], "big"))
        yield "a signature in DER", False, f"{head}.{body}.{b64(der)}"


KEYS = {alg: generate(alg) for alg in ALGORITHMS}
STRANGERS = {alg: generate(alg) for alg in ALGORITHMS}
STRANGERS["HS256"] = b"fedcba9876543210fedcba9876543210"
SHORT = generate("RS256", 1024)
LIBRARIES = {"PyJWT": signer_of_pyjwt, "jwcrypto": signer_of_jwcrypto, "jose": signer_of_jose}


def public(alg):
    key = json.loads(as_jwk(alg, KEYS[alg]).export_public())
    return {**key, "kid": alg, "alg": alg, "use": "sig"}


def public_short():
    return {**json.loads(as_jwk("RS256", SHORT).export_public()), "kid": "short"}


tokens = [
    {"library": library, "algorithm": alg, "case": case, "good": good, "token": token}
    for library, signer in LIBRARIES.items()
    for alg in ALGORITHMS
    for case, good, token in cases(
        library, alg, signer(alg, KEYS[alg]), signer(alg, STRANGERS[alg]))
]
secret = {"kty": "oct", "kid": "HS256", "alg": "HS256", "k": b64(KEYS["HS256"])}
json.dump({
    "public": {"keys": [public(alg) for alg in ALGORITHMS if alg != "HS256"] + [public_short()]},
    "secret": {"keys": [secret]},
    "tokens": tokens,
}, sys.stdout)
