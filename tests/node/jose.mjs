// Signs with npm's `jose` what it is told, a line each: {"alg": …, "jwk": …} with a key, and either {"kid": …,
// "claims": …}, of which it makes a token the way that its readers do, or {"message": …}, of which it makes a
// signature and nothing else. Prints what it made, in base64url.
import './platform.mjs'
import { createInterface } from 'node:readline'
import { SignJWT, base64url, importJWK } from 'jose'
// Its own table of what a signature is made with. It is left to itself here: the checks that stand before it won't
// have signed what has to be refused all the more.
import { jwsAlgorithm } from './node_modules/jose/dist/webapi/lib/jws_algorithms.js'

async function made({ alg, jwk, kid, claims, message }) {
  const key = await importJWK(jwk, alg)
  if (claims) return new SignJWT(claims).setProtectedHeader({ alg, kid }).sign(key)
  const { subtle, signing } = jwsAlgorithm(alg)
  const raw = key instanceof Uint8Array
  const signer = raw ? await crypto.subtle.importKey('raw', key, subtle, false, ['sign']) : key
  const signature = await crypto.subtle.sign(signing, signer, new TextEncoder().encode(message))
  return base64url.encode(new Uint8Array(signature))
}

for await (const line of createInterface({ input: process.stdin })) {
  console.log(await made(JSON.parse(line)))
}
