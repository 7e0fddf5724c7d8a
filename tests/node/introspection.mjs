// A real issuer of opaque tokens, npm's `oidc-provider`. Its first argument is {"issuer": URL, "port": …,
// "certificate": FILE, "key": FILE, "client": {"id": …, "secret": …}}. It reads commands, one JSON a line, and answers
// each with a line: {"mint": {"account": …, "scope": …, "aud": …, "lasts": SECONDS, "jkt": …, "x5t": …}} with
// {"token": …}, {"revoke": TOKEN} with {"revoked": true}, {"asked": true} with {"asked": NUMBER of questions}. It prints
// {"ready": true} first.
import './platform.mjs'
import { readFileSync } from 'node:fs'
import https from 'node:https'
import { createInterface } from 'node:readline'
import { Provider } from 'oidc-provider'

const place = JSON.parse(process.argv[2])
const provider = new Provider(place.issuer, {
  clients: [{
    client_id: place.client.id,
    client_secret: place.client.secret,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: []
  }],
  cookies: { keys: ['of this run alone'] },
  scopes: ['openid', 'orders:read', 'files'],
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: false },
    introspection: { enabled: true, allowedPolicy: async () => true }
  }
})
const say = (what) => console.log(JSON.stringify(what))

let asked = 0
const answer = provider.callback()
const files = { cert: readFileSync(place.certificate), key: readFileSync(place.key) }
const server = https.createServer(files, (request, response) => {
  asked += request.url === '/token/introspection' ? 1 : 0
  answer(request, response)
})

async function mint(wanted) {
  const client = await provider.Client.find(place.client.id)
  const token = new provider.AccessToken({
    client,
    accountId: wanted.account ?? undefined,
    scope: wanted.scope,
    aud: wanted.aud ?? undefined,
    expiresIn: wanted.lasts
  })
  if (wanted.jkt) token.jkt = wanted.jkt
  if (wanted.x5t) token['x5t#S256'] = wanted.x5t
  return token.save()
}

async function revoke(text) {
  const token = await provider.AccessToken.find(text)
  await token?.destroy()
}

server.listen(place.port, '127.0.0.1', () => say({ ready: true }))
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.mint) say({ token: await mint(command.mint) })
  else if (command.revoke) say({ revoked: (await revoke(command.revoke), true) })
  else say({ asked })
}
process.exit(0)
