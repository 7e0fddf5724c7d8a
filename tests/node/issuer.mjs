// A real issuer, npm's `oidc-provider`. Its first argument is {"issuer": URL, "port": …, "certificate": FILE,
// "key": FILE, "client": {…}, "lasts": SECONDS}: `client` is a registration as the provider takes it, and access tokens
// last so long. Anybody may log in, with any password. It prints {"ready": true}, and {"grant": TYPE} for each grant.
import './platform.mjs'
import { generateKeyPairSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { Provider } from 'oidc-provider'

const place = JSON.parse(process.argv[2])
const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const provider = new Provider(place.issuer, {
  clients: [place.client],
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), kid: 'key-1', alg: 'ES256', use: 'sig' }] },
  cookies: { keys: ['of this run alone'] },
  pkce: { required: () => true },
  scopes: ['openid', 'orders'],
  ttl: { AccessToken: place.lasts, IdToken: 600, RefreshToken: 600, Session: 600, Grant: 600, Interaction: 600 },
  issueRefreshToken: async () => true,
  rotateRefreshToken: true,
  findAccount: (_context, id) => ({ accountId: id, claims: async () => ({ sub: id }) })
})
const say = (what) => console.log(JSON.stringify(what))
provider.on('grant.success', (context) => say({ grant: context.oidc.params.grant_type }))
provider.on('grant.error', (_context, error) => say({ refused: error.error, why: error.error_detail }))
provider.on('server_error', (_context, error) => say({ failed: String(error) }))

const files = { cert: readFileSync(place.certificate), key: readFileSync(place.key) }
https.createServer(files, provider.callback()).listen(place.port, '127.0.0.1', () => say({ ready: true }))
