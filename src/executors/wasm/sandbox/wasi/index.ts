import { descriptorCalls } from './descriptor-calls.js'
import { ERRNO, WasiError, errnoOf } from './errno.js'
import type { GuestMemory } from './guest-memory.js'
import { pathCalls } from './path-calls.js'
import { processCalls } from './process-calls.js'
import type { WasiState } from './state.js'
import { streamCalls } from './stream-calls.js'
import type { WasiCalls, WasiCall } from './wasi-call.js'

export { WasiError } from './errno.js'
export { GuestMemory } from './guest-memory.js'
export { type WasiState, createWasiState } from './state.js'

/**
 * The functions of WASI preview 1 for one instance: `state` is shared by all instances of a program, `memory` is the
 * instance's own.
 *
 * Every function answers with an error number. Numbers arrive signed, 64-bit ones as BigInt.
 */
export function wasiFunctions(state: WasiState, memory: GuestMemory): WasiCalls {
  const groups = [
    processCalls(state, memory),
    streamCalls(state, memory),
    descriptorCalls(state, memory),
    pathCalls(state, memory),
    socketCalls(state),
  ]
  const functions = Object.create(null) as WasiCalls
  for (const [name, call] of groups.flatMap((one) => Object.entries(one))) functions[name] = answering(call)
  return functions
}

/**
 * Turns what a call throws into an error number; what is not meant for the program (a stack overflow) goes on.
 *
 * Nine named parameters, the most that a call has: a list of arguments would be made anew for each call.
 */
function answering(call: WasiCall): WasiCall {
  const act = call as (...args: unknown[]) => number | void
  return (
    a: unknown,
    b: unknown,
    c: unknown,
    d: unknown,
    e: unknown,
    f: unknown,
    g: unknown,
    h: unknown,
    i: unknown,
  ) => {
    try {
      return act(a, b, c, d, e, f, g, h, i) ?? ERRNO.SUCCESS
    } catch (error) {
      const errno = errnoOf(error)
      if (errno === undefined) throw error
      return errno
    }
  }
}

/** The sandbox has no network: no descriptor is ever a socket. */
function socketCalls(state: WasiState): WasiCalls {
  const notSocket = (fd: number): never => {
    state.descriptors.get(fd)
    throw new WasiError('NOTSOCK')
  }
  return { sock_accept: notSocket, sock_recv: notSocket, sock_send: notSocket, sock_shutdown: notSocket }
}
