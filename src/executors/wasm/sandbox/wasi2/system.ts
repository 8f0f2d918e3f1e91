import { randomFillSync } from 'node:crypto'
import { CanonicalTrap, Failure } from '../component/faults.js'
import { CLOCK } from '../wasi/abi.js'
import { clockResolutionNs, clockTimeNs } from '../wasi/clocks.js'
import type { WasiState } from '../wasi/state.js'
import { type HostInterfaces, NONE } from './host-interface.js'
import { InputStreamHandle, OutputStreamHandle, Pollable, systemInput, systemOutput } from './streams.js'

const NS_PER_SECOND = 1_000_000_000n

/** `wasi:cli`: arguments, environment, standard streams, and the program's end. */
export function cliInterfaces(state: WasiState): HostInterfaces {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes.subarray(0, -1)).toString('utf8')
  return {
    'wasi:cli/environment': {
      functions: {
        'get-arguments': () => state.args.map(text),
        'get-environment': () =>
          state.environ.map(text).map((one) => {
            const at = one.indexOf('=')
            return [one.slice(0, at), one.slice(at + 1)]
          }),
        'initial-cwd': () => NONE,
      },
    },
    'wasi:cli/exit': {
      functions: {
        exit: ({ tag }: { tag: string }) => state.end('exit', tag === 'ok' ? 0 : 1),
        'exit-with-code': (code: number) => state.end('exit', code),
      },
    },
    'wasi:cli/stdin': { functions: { 'get-stdin': () => new InputStreamHandle(systemInput(0)) } },
    'wasi:cli/stdout': { functions: { 'get-stdout': () => new OutputStreamHandle(systemOutput(state, 1)) } },
    'wasi:cli/stderr': { functions: { 'get-stderr': () => new OutputStreamHandle(systemOutput(state, 2)) } },
    // The streams are pipes: there is no terminal.
    'wasi:cli/terminal-input': { resources: ['terminal-input'], functions: {} },
    'wasi:cli/terminal-output': { resources: ['terminal-output'], functions: {} },
    'wasi:cli/terminal-stdin': { functions: { 'get-terminal-stdin': () => NONE } },
    'wasi:cli/terminal-stdout': { functions: { 'get-terminal-stdout': () => NONE } },
    'wasi:cli/terminal-stderr': { functions: { 'get-terminal-stderr': () => NONE } },
  }
}

/** `wasi:clocks`. */
export function clockInterfaces(): HostInterfaces {
  const monotonic = (): bigint => clockTimeNs(CLOCK.MONOTONIC)
  return {
    'wasi:clocks/monotonic-clock': {
      functions: {
        now: monotonic,
        resolution: () => clockResolutionNs(CLOCK.MONOTONIC),
        'subscribe-instant': (when: bigint) => new Pollable(when),
        'subscribe-duration': (duration: bigint) => new Pollable(monotonic() + duration),
      },
    },
    'wasi:clocks/wall-clock': {
      functions: {
        now: () => datetime(clockTimeNs(CLOCK.REALTIME)),
        resolution: () => datetime(clockResolutionNs(CLOCK.REALTIME)),
      },
    },
  }
}

/** A time as `wasi:clocks/wall-clock` writes it. */
export function datetime(ns: bigint): { seconds: bigint; nanoseconds: number } {
  return { seconds: ns / NS_PER_SECOND, nanoseconds: Number(ns % NS_PER_SECOND) }
}

export function nanosecondsOf({ seconds, nanoseconds }: { seconds: bigint; nanoseconds: number }): bigint {
  return seconds * NS_PER_SECOND + BigInt(nanoseconds)
}

/** What is asked for at once must fit into the memory that it is for; this is far more than programs ask for. */
const RANDOM_BYTES_MAX = 64 * 1024 * 1024

/** `wasi:random`: the insecure kinds are the secure one as well. */
export function randomInterfaces(): HostInterfaces {
  const bytes = (length: bigint): Uint8Array => {
    if (length > BigInt(RANDOM_BYTES_MAX))
      throw new CanonicalTrap(`more than ${RANDOM_BYTES_MAX} random bytes are asked for at once`)
    return randomFillSync(Buffer.alloc(Number(length)))
  }
  const number = (): bigint => Buffer.from(bytes(8n)).readBigUInt64LE()
  return {
    'wasi:random/random': { functions: { 'get-random-bytes': bytes, 'get-random-u64': number } },
    'wasi:random/insecure': {
      functions: { 'get-insecure-random-bytes': bytes, 'get-insecure-random-u64': number },
    },
    'wasi:random/insecure-seed': { functions: { 'insecure-seed': () => [number(), number()] } },
  }
}

/** The sandbox has no network: what would make a socket, or look up a name, answers `access-denied`. */
export function deniedSocket(): never {
  throw new Failure('access-denied')
}
