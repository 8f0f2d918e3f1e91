import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CallMemory } from '../../../src/executors/wasm/sandbox/component/call-memory.js'
import {
  type ComponentFunction,
  type CoreFunction,
  lifted,
  lowered,
} from '../../../src/executors/wasm/sandbox/component/canonical-functions.js'
import { CanonicalTrap } from '../../../src/executors/wasm/sandbox/component/faults.js'
import { ComponentInstance } from '../../../src/executors/wasm/sandbox/component/handles.js'
import { wasmApi } from '../../../src/executors/wasm/sandbox/web-assembly.js'
import { wat } from './harness.js'

const type = { params: [], result: undefined }

/** A component around a program that catches everything, and a host whose first function ends it with this. */
function component(error: unknown) {
  const instance = new ComponentInstance()
  const call = { instance, memory: new CallMemory(undefined, undefined, 'utf8') }
  let nexts = 0
  const throwing: ComponentFunction = {
    type,
    call: () => {
      throw error
    },
  }
  const counting: ComponentFunction = { type, call: () => void nexts++ }
  const host = { broken: lowered(throwing, call), next: lowered(counting, call) }
  const module = new wasmApi.Module(readFileSync(wat('catches-all')))
  const exports = new wasmApi.Instance(module, { host }).exports as Record<string, CoreFunction>
  const run = (name: string) => () => lifted(type, exports[name] as CoreFunction, call).call([])
  return { run, nexts: () => nexts }
}

describe('a component whose code catches what ends it', () => {
  const error = new CanonicalTrap('the pointer 3 is not aligned to 4 bytes')

  it.each([
    ['a broken rule of the canonical ABI', error],
    ['its exit', new Error('exit 7')],
    ['nothing in particular', undefined],
  ])('ends all the same, with the first fault: %s', (_what, thrown) => {
    const { run } = component(thrown)
    expect(caught(run('ends'))).toEqual({ thrown })
  })

  it('calls nothing any more, and is called no more', () => {
    const { run, nexts } = component(error)
    expect(run('innocent')()).toBeUndefined()
    for (const name of ['goes-on', 'innocent', 'ends']) expect(caught(run(name))).toEqual({ thrown: error })
    expect(nexts()).toBe(0)
  })
})

function caught(run: () => unknown): unknown {
  try {
    return run()
  } catch (thrown) {
    return { thrown }
  }
}
