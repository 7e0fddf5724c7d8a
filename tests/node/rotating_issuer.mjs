// A real issuer, npm's `oidc-provider`, whose keys change, and which goes away and comes back. Its first argument is
// {"port": …, "certificate": FILE, "key": FILE}. It reads lines: {"keys": [NAME, …], "signs": NAME} has it publish
// these keys and sign with that one, {"away": true} has it close its port and all connections. Each is answered with a
// line once it is done. Its client `app` with the secret `app` gets tokens for the API by its credentials (RFC 6749,
// 4.4; RFC 9068).
import './platform.mjs'
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { createInterface } from 'node:readline'
import { Provider } from 'oidc-provider'

const place = JSON.parse(process.argv[2])
const client = {
  client_id: 'app', client_secret: 'app', grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
  id_token_signed_response_alg: 'ES256'
}
const made = new Map()

function key(kid) {
  if (!made.has(kid)) {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    made.set(kid, { ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' })
  }
  return made.get(kid)
}

function issuer(keys, signs) {
  const scope = 'orders:read'
  const api = { scope, audience: 'api', accessTokenFormat: 'jwt', jwt: { sign: { alg: 'ES256', kid: signs } } }
  const provider = new Provider(`https://127.0.0.1:${place.port}`, {
    clients: [client],
    jwks: { keys: keys.map(key) },
    cookies: { keys: ['of this run alone'] },
    scopes: [scope],
    ttl: { ClientCredentials: 600 },
    features: {
      devInteractions: { enabled: false },
      clientCredentials: { enabled: true },
      resourceIndicators: { enabled: true, defaultResource: () => 'https://api.example', getResourceServerInfo: () => api }
    }
  })
  provider.on('server_error', (_context, error) => console.error(error))
  return provider.callback()
}

let answer
const files = { cert: readFileSync(place.certificate), key: readFileSync(place.key) }
const server = https.createServer(files, (request, response) => answer(request, response))

async function follow({ keys, signs, away }) {
  if (away) {
    const closed = new Promise((resolve) => server.close(resolve))
    server.closeAllConnections()
    return closed
  }
  answer = issuer(keys, signs)
  if (!server.listening) return new Promise((resolve) => server.listen(place.port, '127.0.0.1', resolve))
}

for await (const line of createInterface({ input: process.stdin })) {
  await follow(JSON.parse(line))
  console.log('done')
}
process.exit(0)
