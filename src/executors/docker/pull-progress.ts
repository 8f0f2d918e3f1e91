import { WeirError } from '../../errors.js'
import { formatBytes } from '../../model/index.js'

/** One line of the engine's answer to a pull. */
interface PullEvent {
  id?: string
  status?: string
  error?: string
  progressDetail?: { current?: number; total?: number }
}

/**
 * Reads the engine's account of a pull to its end and passes on a line now and then (at most one in two seconds).
 *
 * Rejects with the engine's error, with `image.unavailable` as soon as the layers announced add up to more than
 * `bytesMax`, or with the signal's reason; the stream is closed then, which stops the pull.
 */
export async function followPull(
  stream: NodeJS.ReadableStream & { destroy(): void },
  options: { name: string; bytesMax: number; progress: (message: string) => void; signal: AbortSignal },
): Promise<void> {
  const layers = new Map<string, { current: number; total: number }>()
  const stop = () => stream.destroy()
  options.signal.addEventListener('abort', stop, { once: true })
  let reportedAt = Date.now()
  try {
    for await (const event of pullEvents(stream)) {
      if (event.error !== undefined) throw new Error(event.error)
      note(layers, event)
      const sum = total(layers)
      if (sum.total > options.bytesMax) throw tooLarge(options.name, sum.total, options.bytesMax)
      if (sum.total > 0 && Date.now() - reportedAt >= REPORT_EVERY_MS) {
        reportedAt = Date.now()
        options.progress(
          `Pulling ${options.name}: ${formatBytes(sum.current)} of ${formatBytes(sum.total)} in ${layers.size} layers`,
        )
      }
    }
    options.signal.throwIfAborted()
  } catch (error) {
    throw options.signal.aborted ? (options.signal.reason as Error) : error
  } finally {
    options.signal.removeEventListener('abort', stop)
    stop()
  }
}

const REPORT_EVERY_MS = 2000
const LINE_BYTES_MAX = 1024 * 1024
const LAYERS_MAX = 1000

async function* pullEvents(stream: NodeJS.ReadableStream): AsyncGenerator<PullEvent> {
  let rest = ''
  for await (const chunk of stream) {
    rest += chunk.toString()
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > LINE_BYTES_MAX) throw new Error('the engine sent a line without end')
    for (const line of lines) {
      if (line.trim() !== '') yield JSON.parse(line) as PullEvent
    }
  }
  if (rest.trim() !== '') yield JSON.parse(rest) as PullEvent
}

function note(layers: Map<string, { current: number; total: number }>, event: PullEvent): void {
  const { id, status, progressDetail } = event
  if (id === undefined || status !== 'Downloading' || progressDetail?.total === undefined) return
  if (layers.size >= LAYERS_MAX && !layers.has(id))
    throw new Error(`the image has more than ${LAYERS_MAX} layers`)
  layers.set(id, { current: progressDetail.current ?? 0, total: progressDetail.total })
}

function total(layers: Map<string, { current: number; total: number }>): { current: number; total: number } {
  const sum = { current: 0, total: 0 }
  for (const layer of layers.values()) {
    sum.current += layer.current
    sum.total += layer.total
  }
  return sum
}

function tooLarge(name: string, bytes: number, bytesMax: number): WeirError {
  return new WeirError(
    'image.unavailable',
    `Cannot pull ${JSON.stringify(name)}: its layers have at least ${bytes} bytes, the node takes at most ${bytesMax}`,
    { hint: 'Use a smaller image, or ask the operator of the node' },
  )
}
