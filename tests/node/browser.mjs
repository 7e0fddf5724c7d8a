// A real browser, Debian's Chromium without a window, driven over its debugging pipe. Its first argument is
// {"program": FILE, "profile": FOLDER, "hosts": RULES, "key": SPKI, "steps": [STEP, …]}: `hosts` says where names lead
// to, `key` is the SHA-256 of the one public key that is trusted without an authority, in base64. A step is
// {"open": URL}, {"run": JAVASCRIPT} or {"await": JAVASCRIPT}, which waits until that is true, or several of them in this
// order; {"renewed": NAME} opens the page again until that cookie has another value. Each is answered by
// {"url": …, "text": …, "cookies": {NAME: {…}, …}} of what is shown then.
import { spawn } from 'node:child_process'

const place = JSON.parse(process.argv[2])
const PATIENCE = 20_000

const browser = spawn(place.program, [
  '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking',
  `--user-data-dir=${place.profile}`, `--host-resolver-rules=${place.hosts}`,
  `--ignore-certificate-errors-spki-list=${place.key}`, '--remote-debugging-pipe'
], { stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'] })
const [, , , orders, answers] = browser.stdio
browser.on('exit', (code) => process.exit(code ?? 1))

let last = 0
const waiting = new Map()
let said = Buffer.alloc(0)
answers.on('data', (part) => {
  said = Buffer.concat([said, part])
  for (let end; (end = said.indexOf(0)) >= 0; said = said.subarray(end + 1)) {
    const message = JSON.parse(said.subarray(0, end))
    const asked = waiting.get(message.id)
    waiting.delete(message.id)
    if (message.error) asked?.reject(new Error(JSON.stringify(message.error)))
    else asked?.resolve(message.result)
  }
})
function ask(method, params = {}, sessionId = undefined) {
  const id = ++last
  orders.write(JSON.stringify({ id, method, params, sessionId }) + '\0')
  return new Promise((resolve, reject) => waiting.set(id, { resolve, reject }))
}

const { targetId } = await ask('Target.createTarget', { url: 'about:blank' })
const { sessionId } = await ask('Target.attachToTarget', { targetId, flatten: true })
const page = (method, params) => ask(method, params, sessionId)
const cookies = async () => {
  const kept = (await page('Network.getCookies')).cookies
  return Object.fromEntries(kept.map(({ name, value, secure, httpOnly, sameSite }) => [name, { value, secure, httpOnly, sameSite }]))
}
async function open(url) {
  await value('window.before = true')
  await page('Page.navigate', { url })
  await until('!window.before && document.readyState === "complete"')
}
const pause = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds))

// While a page goes away, nothing can be asked of it.
async function value(expression) {
  try {
    const told = await page('Runtime.evaluate', { expression, returnByValue: true, awaitPromise: true })
    return told.result?.value
  } catch {
    return undefined
  }
}
async function until(expression) {
  const end = Date.now() + PATIENCE
  while (!(await value(expression))) {
    if (Date.now() > end) throw new Error(`not in time: ${expression} at ${await value('location.href + document.body?.innerText')}`)
    await pause(20)
  }
}

await page('Page.enable')
for (const step of place.steps) {
  if (step.open) await open(step.open)
  if (step.run) await value(step.run)
  if (step.await) await until(`document.readyState === "complete" && (${step.await})`)
  if (step.renewed) {
    const before = (await cookies())[step.renewed].value
    const end = Date.now() + PATIENCE
    while ((await cookies())[step.renewed].value === before) {
      if (Date.now() > end) throw new Error(`not in time: ${step.renewed} has another value`)
      await open(await value('location.href'))
    }
  }
  const text = await value('document.body?.innerText ?? ""')
  console.log(JSON.stringify({ url: await value('location.href'), text, cookies: await cookies() }))
}
await ask('Browser.close')
