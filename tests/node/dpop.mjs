// A client with npm's `dpop`. Its first argument is {"url": …, "port": …, "ca": FILE, "algorithm": …}. It prints its
// key's thumbprint, reads a token that is bound to it from standard input, and asks for the URL as often as the
// argument says; each answer is printed as {"status": …, "attempts": …, "body": …}.
import './platform.mjs'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { createInterface } from 'node:readline'
import { calculateThumbprint, generateKeyPair, generateProof } from 'dpop'

const place = JSON.parse(process.argv[2])
const ca = readFileSync(place.ca)
const keys = await generateKeyPair(place.algorithm)
console.log(await calculateThumbprint(keys.publicKey))
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const token = (await lines.next()).value

function ask(proof) {
  return new Promise((resolve, reject) => {
    const headers = { authorization: `DPoP ${token}`, dpop: proof }
    const lookup = (_host, options, done) =>
      options.all ? done(null, [{ address: '127.0.0.1', family: 4 }]) : done(null, '127.0.0.1', 4)
    const request = https.get(place.url, { ca, headers, lookup, agent: false }, (answer) => {
      let body = ''
      answer.setEncoding('utf8')
      answer.on('data', (part) => (body += part))
      answer.on('end', () => resolve({ status: answer.statusCode, headers: answer.headers, body }))
    })
    request.on('error', reject)
  })
}

const target = new URL(place.url)
const htu = target.origin + target.pathname
let nonce
for (let times = 0; times < place.times; times++) {
  let answer, attempts = 0
  do {
    const proof = await generateProof(keys, htu, 'GET', nonce, token)
    answer = await ask(proof)
    nonce = answer.headers['dpop-nonce'] ?? nonce
    attempts++
  } while (attempts < 2 && answer.status === 401 && /error="use_dpop_nonce"/.test(answer.headers['www-authenticate']))
  console.log(JSON.stringify({ status: answer.status, attempts, body: answer.body }))
}
process.exit(0)
