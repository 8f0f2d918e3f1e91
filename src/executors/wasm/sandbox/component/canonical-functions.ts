import type { CallMemory, Realloc } from './call-memory.js'
import { CanonicalTrap } from './faults.js'
import { CallScope, type ComponentInstance } from './handles.js'
import { type CoreValue, FlatValues, type ValueContext, liftFlat, load } from './lift-values.js'
import { lowerFlat, store } from './lower-values.js'
import { type FunctionType, type ValueType, flatOf, record } from './value-types.js'

/** A function of a component or of the host, called with values. */
export interface ComponentFunction {
  type: FunctionType
  call: (args: unknown[]) => unknown
}

export type CoreFunction = (...args: CoreValue[]) => CoreValue | undefined

/** Which instance, and how its values are passed. */
export interface CanonicalCall {
  instance: ComponentInstance
  memory: CallMemory
  postReturn?: CoreFunction
}

/** How the values of a function are passed as core values; in memory when there are too many. */
class Passing {
  readonly params: readonly ValueType[]
  readonly result: ValueType | undefined
  /** Undefined: the parameters lie in memory, as one tuple. */
  readonly flatParams: string | undefined
  readonly inMemory: ValueType
  /** Undefined: the result lies in memory. */
  readonly flatResult: string | undefined

  constructor({ params, result }: FunctionType) {
    this.params = params
    this.result = result
    this.flatParams = flatOf(params)
    this.inMemory = record(
      'tuple',
      params.map((type) => ({ name: '', type })),
    )
    const flat = result === undefined ? '' : result.flat
    this.flatResult = flat !== undefined && flat.length <= 1 ? flat : undefined
  }
}

/** A core function, for the program to call, that calls a function of the host or of another component. */
export function lowered(func: ComponentFunction, { instance, memory }: CanonicalCall): CoreFunction {
  const passing = new Passing(func.type)
  const { flatParams, params, result } = passing
  const call = (core: readonly CoreValue[]): CoreValue | undefined => {
    mustLeave(instance)
    const context: ValueContext = { memory, instance, scope: new CallScope() }
    const args =
      flatParams === undefined
        ? (load(passing.inMemory, pointer(core[0]), context) as unknown[])
        : liftAll(params, FlatValues.of(flatParams, core), context)
    const value = func.call(args)
    context.scope.end()
    if (result === undefined) return undefined
    return placing(instance, () => {
      if (passing.flatResult !== undefined) return lowerFlat(result, value, context)[0]
      store(result, value, pointer(core.at(-1)), context)
      return undefined
    })
  }
  return (...core) => instance.cross(() => call(core))
}

/** A function of the component, made of one of its core functions. */
export function lifted(
  type: FunctionType,
  core: CoreFunction,
  { instance, memory, postReturn }: CanonicalCall,
): ComponentFunction {
  const passing = new Passing(type)
  const { flatParams, params, result } = passing
  const call = (args: unknown[]): unknown => {
    if (!instance.mayEnter)
      throw new CanonicalTrap('a component is called while it waits for a call of its own')
    instance.mayEnter = false
    const context: ValueContext = { memory, instance, scope: new CallScope() }
    const passed = placing(instance, () => {
      if (flatParams !== undefined)
        return params.flatMap((one, index) => lowerFlat(one, args[index], context))
      const at = memory.allocate(passing.inMemory.size, passing.inMemory.align)
      store(passing.inMemory, args, at, context)
      return [at]
    })
    const answer = core(...passed)
    let value: unknown
    if (result !== undefined && passing.flatResult !== undefined)
      value = liftFlat(result, FlatValues.of(passing.flatResult, [answer ?? 0]), context)
    else if (result !== undefined) value = load(result, pointer(answer), context)
    if (postReturn !== undefined)
      placing(instance, () => postReturn(...(answer === undefined ? [] : [answer])))
    context.scope.end()
    instance.mayEnter = true
    return value
  }
  return { type, call: (args) => instance.cross(() => call(args)) }
}

/** An allocator of the program, which must not call anything while values are placed. */
export function allocator(core: CoreFunction): Realloc {
  return (old, oldSize, align, size) => Number(core(old, oldSize, align, size) ?? 0)
}

/** Trap unless the instance may call out just now. */
export function mustLeave(instance: ComponentInstance): void {
  if (!instance.mayLeave) throw new CanonicalTrap('a function is called while values are being passed')
}

function placing<Result>(instance: ComponentInstance, act: () => Result): Result {
  instance.mayLeave = false
  const result = act()
  instance.mayLeave = true
  return result
}

function liftAll(types: readonly ValueType[], values: FlatValues, context: ValueContext): unknown[] {
  return types.map((type) => liftFlat(type, values, context))
}

function pointer(value: CoreValue | undefined): number {
  return Number(value ?? 0) >>> 0
}
