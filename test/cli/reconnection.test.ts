import { writeFileSync } from 'node:fs'
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { followLogs } from '../../src/cli/follow-logs.js'
import { Reconnection } from '../../src/cli/reconnection.js'
import { WeirError } from '../../src/errors.js'
import { missingSandbox, startServer } from './with-cli.js'
import type { LogChunk, LogsRequest } from '../../src/client/index.js'
import type { TestServer } from './with-cli.js'

/** Prints the digits from 0 to 9, one on a line, 0.4 seconds apart. */
const DIGITS = Buffer.from(
  'AGFzbQEAAAABEwNgBH9/f38Bf2ADf35/AX9gAAACSwIWd2FzaV9zbmFwc2hvdF9wcmV2aWV3MQhmZF93cml0ZQAAFndhc2lfc25hcHNob3RfcHJldmlldzEOY2xvY2tfdGltZV9nZXQAAQMCAQIFAwEAAQcTAgZtZW1vcnkCAAZfc3RhcnQAAgprAWkBAX5BAEEINgIAQQRBAjYCAANAQQFBAEEBQcAAEAAaQQFCAUHQABABGkHQACkDAEKAiN6+AXwhAANAQQFCAUHQABABGkHQACkDACAAVA0AC0EIQQgtAABBAWo6AABBCC0AAEE6SQ0ACwsLCAEAQQgLAjAK',
  'base64',
)

const missing = missingSandbox()

describe.skipIf(missing !== undefined)(
  `whoever follows a job over a connection that breaks${missing === undefined ? '' : ` (skipped: ${missing})`}`,
  () => {
    let server: TestServer
    let line: Line
    beforeAll(async () => {
      server = await startServer()
      line = await lineTo(Number(server.port))
      writeFileSync(join(server.dir, 'digits.wasm'), DIGITS)
    })
    afterAll(async () => {
      await line?.close()
      await server?.stop()
    })

    const cutAt = (mark: string) => {
      let isCut = false
      return ({ stdout, stderr }: { stdout: string; stderr: string }): void => {
        if (isCut || !`${stdout}${stderr}`.includes(mark)) return
        isCut = true
        line.cut()
      }
    }

    it.each([
      ['sees its events once', ['wasm', 'run', 'digits.wasm'], 'Running'],
      ['sees its output once', ['wasm', 'run', '--follow', 'digits.wasm'], '2\n'],
    ])('%s, and its end', async (_what, args, mark) => {
      const env = { WEIR_API_PORT: String(line.port) }
      const { code, stdout, stderr } = await server.weir(args, { env, onOutput: cutAt(mark) })
      expect(code, stderr).toBe(0)
      expect(stdout).toBe('0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n')
      expect(stderr.match(/Connection lost/g)).toHaveLength(1)
      expect(stderr).toMatch(/Connection lost, trying again .*\nConnected again\n/)
      expect(stderr).toContain('The job completed')
      for (const event of ['Job submitted', 'Completed successfully'])
        expect(stderr.split(event).length).toBeLessThanOrEqual(2)
    })

    it('reads logs on from where they stopped, also when only the end of them was asked for', async () => {
      const id = (await server.weir(['wasm', 'run', '--detach', 'digits.wasm'])).stdout.trim()
      const env = { WEIR_API_PORT: String(line.port) }
      const args = ['job', 'logs', '--follow', '--tail', '1', id]
      const { code, stdout, stderr } = await server.weir(args, { env, onOutput: cutAt('4\n') })
      expect(code, stderr).toBe(0)
      expect('0\n1\n2\n3\n4\n5\n6\n7\n8\n9\n'.endsWith(stdout), stdout).toBe(true)
      expect(stdout).toContain('4\n5\n')
      expect(stderr).toContain('Connected again')
    })
  },
)

describe('followLogs', () => {
  it('yields every byte once, wherever the connection breaks', async () => {
    const piece = fc.record({
      executionId: fc.constantFrom('e-1', 'e-2', 'e-3'),
      stream: fc.constantFrom('stdout' as const, 'stderr' as const),
      text: fc.string({ minLength: 1, maxLength: 5 }),
      laterMs: fc.constantFrom(0, 0, 1, 70_000),
    })
    await fc.assert(
      fc.asyncProperty(
        fc.array(piece, { maxLength: 30 }),
        fc.array(fc.nat(12), { maxLength: 6 }),
        async (pieces, breaks) => {
          let timeMs = 1_000_000
          const log = pieces.map(({ laterMs, text, ...rest }): LogChunk => {
            timeMs += laterMs
            return { ...rest, data: Buffer.from(text), time: new Date(timeMs).toISOString() }
          })
          const left = [...breaks]
          const client = { logs: (_id: string, request: LogsRequest) => read(log, request, left.shift()) }
          const seen: LogChunk[] = []
          const request = { follow: true, allExecutions: true }
          const signal = new AbortController().signal
          for await (const chunk of followLogs(client, 'j-1', request, new Patient(), signal))
            seen.push(chunk)
          expect(textsOf(seen)).toEqual(textsOf(log))
        },
      ),
    )
  })

  it('asks for nothing that is certainly known', async () => {
    const asked: LogsRequest[] = []
    const chunk = (time: string): LogChunk => ({
      executionId: 'e-1',
      stream: 'stdout',
      data: Buffer.from('x'),
      time,
    })
    const log = [chunk('2024-11-29T08:00:00.000Z'), chunk('2024-11-29T09:00:00.000Z')]
    const client = {
      logs: (_id: string, request: LogsRequest) => {
        asked.push(request)
        return read(log, {}, asked.length === 1 ? 2 : undefined)
      },
    }
    const request = { follow: true, tailLines: 5 }
    const seen: LogChunk[] = []
    for await (const each of followLogs(client, 'j-1', request, new Patient(), new AbortController().signal))
      seen.push(each)
    expect(seen).toHaveLength(2)
    expect(asked).toEqual([request, { follow: true, sinceMs: Date.parse('2024-11-29T08:59:00.000Z') }])
  })

  it('does not go on with a server that does not say what was written when', async () => {
    const log: LogChunk[] = [{ executionId: '', stream: 'stdout', data: Buffer.from('x'), time: '' }]
    const client = { logs: () => read(log, { sinceMs: Number.NaN }, 1) }
    const chunks = followLogs(client, 'j-1', { follow: true }, new Patient(), new AbortController().signal)
    const seen: LogChunk[] = []
    const reading = (async () => {
      for await (const chunk of chunks) seen.push(chunk)
    })()
    await expect(reading).rejects.toThrow('gone')
    expect(seen).toHaveLength(1)
  })
})

describe('Reconnection', () => {
  it('gives up at once what waiting does not mend', async () => {
    const said: string[] = []
    const reconnection = new Reconnection({ alive: () => Promise.resolve({ Status: 'OK' }) }, (line) =>
      said.push(line),
    )
    const refused = new WeirError('job.not_found', 'Cannot find job "j-1"')
    await expect(reconnection.wait(refused, new AbortController().signal)).rejects.toBe(refused)
    expect(said).toEqual([])
  })

  it('ends when nobody waits any more', async () => {
    const leave = new AbortController()
    const reconnection = new Reconnection({ alive: () => Promise.reject(lost()) }, () => leave.abort())
    await expect(reconnection.wait(lost(), leave.signal)).rejects.toThrow()
  })
})

/** Waits for nothing. */
class Patient extends Reconnection {
  constructor() {
    super({ alive: () => Promise.resolve({ Status: 'OK' }) }, () => undefined)
  }

  override wait(): Promise<void> {
    return Promise.resolve()
  }
}

function lost(): WeirError {
  return new WeirError('api.unreachable', 'gone', { retryable: true })
}

/** What a server answers: of each execution what was written since, cut into other pieces, until the connection breaks. */
async function* read(
  log: readonly LogChunk[],
  { sinceMs = 0 }: LogsRequest,
  breaksAfter: number | undefined,
): AsyncIterable<LogChunk> {
  let count = 0
  for (const chunk of log) {
    if (Date.parse(chunk.time) < sinceMs) continue
    for (const data of breaksAfter === undefined ? [chunk.data] : halves(chunk.data)) {
      if (count === breaksAfter) throw lost()
      count += 1
      yield { ...chunk, data }
    }
  }
  if (breaksAfter !== undefined) throw lost()
}

function halves(data: Uint8Array): Uint8Array[] {
  const at = Math.floor(data.length / 2)
  return at === 0 ? [data] : [data.subarray(0, at), data.subarray(at)]
}

function textsOf(chunks: readonly LogChunk[]): Record<string, string> {
  const texts: Record<string, string> = {}
  for (const { executionId, stream, data } of chunks) {
    const key = `${executionId}/${stream}`
    texts[key] = (texts[key] ?? '') + Buffer.from(data).toString()
  }
  return texts
}

interface Line {
  port: number
  /** The next answer of the server is lost, with every connection, and the first new ones are refused. */
  cut: () => void
  close: () => Promise<void>
}

/** A way to a port of this machine that can be cut. */
async function lineTo(port: number): Promise<Line> {
  const sockets = new Set<Socket>()
  let breaks = false
  let refusals = 0
  const breakAll = (): void => {
    breaks = false
    refusals = 3
    for (const socket of sockets) socket.destroy()
  }
  const server: Server = createServer((near) => {
    if (refusals > 0) {
      refusals -= 1
      near.destroy()
      return
    }
    const far = connect(port, '127.0.0.1')
    for (const socket of [near, far]) {
      sockets.add(socket)
      socket.on('error', () => undefined)
      socket.on('close', () => {
        sockets.delete(socket)
        near.destroy()
        far.destroy()
      })
    }
    near.pipe(far)
    far.on('data', (data) => {
      if (!breaks) near.write(data)
      else breakAll()
    })
    near.on('end', () => far.end())
  })
  await new Promise<void>((resolve) => {
    server.listen(0, '127.0.0.1', resolve)
  })
  return {
    port: (server.address() as AddressInfo).port,
    cut: () => {
      breaks = true
    },
    close: () =>
      new Promise((resolve) => {
        server.close(() => resolve())
        breakAll()
      }),
  }
}
