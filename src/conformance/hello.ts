/** Builds ClientHello bytes for the corpus: structurally perfect unless asked otherwise. */
export interface HelloSpec {
  /** One name, several in one list, or none. */
  sni?: string | string[] | null
  /** Hex of the name's bytes instead of text. */
  sniHex?: string
  /** A second server_name extension. */
  sniTwice?: string
  alpn?: string[]
  /** More extensions: type → hex. */
  extensions?: Record<string, string>
  /** Bytes of padding extension before the server name. */
  padBefore?: number
  padAfter?: number
  cipherSuites?: number
  grease?: boolean
  /** Sizes of TLS records; the last one repeats. */
  recordSplit?: number[]
  /** Record version, hex; default 0301. */
  version?: string
}

export function buildHello(spec: HelloSpec): Buffer {
  return intoRecords(helloMessage(spec), spec.recordSplit ?? [16_384], spec.version ?? '0301')
}

export function helloMessage(spec: HelloSpec): Buffer {
  const extensions: Buffer[] = []
  if (spec.grease === true) extensions.push(extension(0x1a1a, Buffer.alloc(0)))
  if (spec.padBefore !== undefined) extensions.push(extension(0xfa51, Buffer.alloc(spec.padBefore)))
  const names =
    spec.sniHex !== undefined
      ? [Buffer.from(spec.sniHex, 'hex')]
      : [spec.sni ?? []].flat().map((name) => Buffer.from(name, 'latin1'))
  if (names.length > 0) extensions.push(extension(0, serverNames(names)))
  if (spec.sniTwice !== undefined) extensions.push(extension(0, serverNames([Buffer.from(spec.sniTwice)])))
  if (spec.alpn !== undefined)
    extensions.push(
      extension(
        16,
        vector(2, Buffer.concat(spec.alpn.map((name) => vector(1, Buffer.from(name, 'latin1'))))),
      ),
    )
  extensions.push(extension(43, Buffer.from('020304', 'hex')), extension(10, Buffer.from('0002001d', 'hex')))
  for (const [type, hex] of Object.entries(spec.extensions ?? {}))
    extensions.push(extension(Number(type), Buffer.from(hex, 'hex')))
  if (spec.padAfter !== undefined) extensions.push(extension(21, Buffer.alloc(spec.padAfter)))
  const suites = Buffer.alloc((spec.cipherSuites ?? 3) * 2, 0x13)
  const body = Buffer.concat([
    Buffer.from('0303', 'hex'),
    Buffer.alloc(32, 7),
    vector(1, Buffer.alloc(32, 9)),
    vector(2, suites),
    vector(1, Buffer.from([0])),
    vector(2, Buffer.concat(extensions)),
  ])
  return Buffer.concat([Buffer.from([1]), uint(3, body.length), body])
}

export function intoRecords(message: Buffer, sizes: number[], version = '0303'): Buffer {
  const records: Buffer[] = []
  for (let at = 0, index = 0; at < message.length; index++) {
    const size = sizes[Math.min(index, sizes.length - 1)] ?? message.length
    const part = message.subarray(at, at + size)
    records.push(Buffer.from([22]), Buffer.from(version, 'hex'), uint(2, part.length), part)
    at += part.length
  }
  return Buffer.concat(records)
}

/** A ServerHello, or a HelloRetryRequest, as one record. */
export function buildServerHello(retry: boolean): Buffer {
  const random = retry
    ? Buffer.from('cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c', 'hex')
    : Buffer.alloc(32, 5)
  const body = Buffer.concat([
    Buffer.from('0303', 'hex'),
    random,
    vector(1, Buffer.alloc(0)),
    Buffer.from('130100', 'hex'),
    uint(2, 0),
  ])
  return intoRecords(Buffer.concat([Buffer.from([2]), uint(3, body.length), body]), [16_384])
}

function serverNames(names: Buffer[]): Buffer {
  return vector(2, Buffer.concat(names.map((name) => Buffer.concat([Buffer.from([0]), vector(2, name)]))))
}

function extension(type: number, data: Buffer): Buffer {
  return Buffer.concat([uint(2, type), vector(2, data)])
}

function vector(size: number, data: Buffer): Buffer {
  return Buffer.concat([uint(size, data.length), data])
}

function uint(size: number, value: number): Buffer {
  const bytes = Buffer.alloc(size)
  bytes.writeUIntBE(value, 0, size)
  return bytes
}
