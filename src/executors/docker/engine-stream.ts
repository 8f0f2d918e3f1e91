import type Docker from 'dockerode'

/** An answer of the engine as it comes; reading it rejects when the engine dies in the middle. */
export type EngineStream = AsyncIterable<Uint8Array> & { destroy(): void }

/**
 * Asks the engine about a container and hands out the answer as a stream. The client library itself reads some answers into memory
 * as a whole, and waits for ever for the rest of one when the engine dies in the middle of it.
 */
export function askForStream(
  container: Docker.Container,
  request: { method: 'GET' | 'POST'; what: string; options: Record<string, unknown> },
): Promise<EngineStream> {
  const { modem, id } = container as unknown as { modem: Modem; id: string }
  const { method, what, options } = request
  const call = {
    path: `/containers/${id}/${what}?`,
    method,
    isStream: true,
    statusCodes: { 101: true, 200: true, 404: 'no such container', 500: 'server error' },
    options,
  }
  return new Promise((resolve, reject) => {
    modem.dial(call, (error, stream) => {
      if (error !== null && error !== undefined) reject(error as Error)
      else resolve(stream)
    })
  })
}

/** Resolves when the container does not run any more; rejects when the engine dies meanwhile, or does not know it. */
export async function waitUntilNotRunning(container: Docker.Container, signal: AbortSignal): Promise<void> {
  // "not running" is true at once if the program was faster than this question.
  const request = { method: 'POST' as const, what: 'wait', options: { condition: 'not-running' } }
  const stream = await askForStream(container, request)
  const close = () => stream.destroy()
  signal.addEventListener('abort', close, { once: true })
  try {
    signal.throwIfAborted()
    let bytes = 0
    for await (const chunk of stream) bytes += chunk.length
    if (bytes === 0) throw new Error('the engine has hung up')
  } finally {
    signal.removeEventListener('abort', close)
    stream.destroy()
  }
}

interface Modem {
  dial(call: object, answer: (error: unknown, stream: EngineStream) => void): void
}
