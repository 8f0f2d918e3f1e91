import { connect, type Socket } from 'node:net'
import { WeirError } from '../../errors.js'
import type { IpAddress } from '../../model/index.js'
import { connectLent } from './lent-reads.js'

/**
 * Opens one TCP connection to an address that was judged. Rejects with the system's error or the signal's reason. With
 * `readBytes` it may be one of {@link connectLent}, read in pieces of so many bytes.
 */
export type Dial = (
  address: IpAddress,
  port: number,
  signal: AbortSignal,
  readBytes?: number,
) => Promise<Socket>

/** The real dialler: an address, never a name, so that nothing is looked up again. */
export const dialTcp: Dial = (address, port, signal, readBytes) =>
  new Promise((resolve, reject) => {
    const where = { host: address.text, port, family: address.family, allowHalfOpen: true }
    const socket = readBytes === undefined ? connect(where) : connectLent(where, readBytes)
    const finish = (settle: () => void) => {
      socket.off('error', onError)
      socket.off('connect', onConnect)
      signal.removeEventListener('abort', onAbort)
      settle()
    }
    const onConnect = () => finish(() => resolve(socket))
    const onError = (error: Error) => finish(() => reject(error))
    const onAbort = () => {
      finish(() => reject(signal.reason as Error))
      socket.on('error', () => {})
      socket.destroy()
    }
    socket.on('error', onError)
    socket.on('connect', onConnect)
    if (signal.aborted) onAbort()
    else signal.addEventListener('abort', onAbort, { once: true })
  })

/** After this time the next address is tried beside the one that has not answered (RFC 8305 §5). */
const STAGGER_MS = 250

/**
 * Connects to the first of the judged addresses that answers. Rejects with `egress.upstream_failed`, with
 * `egress.timeout` after `timeoutMs`, or with the signal's reason; no connection is left behind.
 */
export async function dialFirst(
  dial: Dial,
  addresses: readonly IpAddress[],
  port: number,
  timeoutMs: number,
  signal: AbortSignal,
  readBytes?: number,
): Promise<{ socket: Socket; address: IpAddress }> {
  signal.throwIfAborted()
  const race = new AbortController()
  const dialling: Dial = (address, at, until) => dial(address, at, until, readBytes)
  const onAbort = () => race.abort(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  const timer = setTimeout(() => {
    race.abort(
      new WeirError('egress.timeout', 'The host did not accept the connection in time', { retryable: true }),
    )
  }, timeoutMs)
  try {
    const [only] = addresses
    if (only === undefined || addresses.length > 1)
      return await raceAddresses(dialling, interleaved(addresses).slice(0, 8), port, race)
    const socket = await dialling(only, port, race.signal)
    if (!race.signal.aborted) return { socket, address: only }
    socket.on('error', () => {})
    socket.destroy()
    throw race.signal.reason
  } catch (error) {
    if (race.signal.aborted) throw race.signal.reason
    throw upstreamFailed(addresses, error)
  } finally {
    clearTimeout(timer)
    signal.removeEventListener('abort', onAbort)
  }
}

function raceAddresses(
  dial: Dial,
  addresses: readonly IpAddress[],
  port: number,
  race: AbortController,
): Promise<{ socket: Socket; address: IpAddress }> {
  return new Promise((resolve, reject) => {
    const rest = [...addresses]
    let pending = 0
    let won = false
    let last: unknown = new Error('there is no address')
    let stagger: NodeJS.Timeout | undefined
    const losers = new AbortController()
    const stop = () => losers.abort(race.signal.reason ?? new Error('another address was faster'))
    race.signal.addEventListener('abort', stop, { once: true })
    const settle = (action: () => void) => {
      clearTimeout(stagger)
      race.signal.removeEventListener('abort', stop)
      action()
    }
    const next = () => {
      clearTimeout(stagger)
      const address = rest.shift()
      if (address === undefined) {
        if (pending === 0 && !won) settle(() => reject(last as Error))
        return
      }
      pending++
      stagger = setTimeout(next, STAGGER_MS)
      dial(address, port, losers.signal).then(
        (socket) => {
          pending--
          if (won || race.signal.aborted) {
            socket.on('error', () => {})
            socket.destroy()
            if (!won) settle(() => reject(race.signal.reason as Error))
            return
          }
          won = true
          settle(() => resolve({ socket, address }))
          losers.abort(new Error('another address was faster'))
        },
        (error: unknown) => {
          pending--
          last = error
          if (won) return
          if (race.signal.aborted) settle(() => reject(race.signal.reason as Error))
          else next()
        },
      )
    }
    next()
  })
}

/** Alternates families, IPv4 first: a node without IPv6 then fails over at once. */
function interleaved(addresses: readonly IpAddress[]): IpAddress[] {
  const four = addresses.filter((address) => address.family === 4)
  const six = addresses.filter((address) => address.family === 6)
  const mixed: IpAddress[] = []
  for (let index = 0; index < Math.max(four.length, six.length); index++) {
    for (const address of [four[index], six[index]]) if (address !== undefined) mixed.push(address)
  }
  return mixed
}

function upstreamFailed(addresses: readonly IpAddress[], cause: unknown): WeirError {
  const code = (cause as NodeJS.ErrnoException).code
  const sixOnly = addresses.every((address) => address.family === 6)
  const noRoute = code === 'ENETUNREACH' || code === 'EADDRNOTAVAIL' || code === 'EHOSTUNREACH'
  const text =
    sixOnly && noRoute
      ? 'the host has only IPv6 addresses, and the node has no IPv6 connection'
      : code === 'ECONNREFUSED'
        ? 'the host refuses the connection'
        : noRoute
          ? 'there is no route to the host'
          : 'the host cannot be reached'
  return new WeirError('egress.upstream_failed', text, { retryable: true, cause })
}
