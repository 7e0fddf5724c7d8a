// What the packages take for granted of the web's platform, and Node 18, which Debian 12 has, lacks. To be imported
// before them.
import { webcrypto } from 'node:crypto'

globalThis.crypto ??= webcrypto
globalThis.CryptoKey ??= webcrypto.CryptoKey
URL.parse ??= (text, base) => (URL.canParse(text, base) ? new URL(text, base) : null)
