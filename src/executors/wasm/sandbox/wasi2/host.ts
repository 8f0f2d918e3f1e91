import { CanonicalTrap, Failure, InvalidComponent } from '../component/faults.js'
import type { ComponentFunction } from '../component/canonical-functions.js'
import type { ResourceType } from '../component/handles.js'
import type { ComponentHost } from '../component/instantiate.js'
import type { FunctionType, ValueType } from '../component/value-types.js'
import { ownValue } from '../own-value.js'
import type { WasiState } from '../wasi/index.js'
import { filesystemInterfaces } from './filesystem.js'
import type { HttpClient } from '../http/http-client.js'
import { httpInterfaces } from './http.js'
import type { HostFunction, HostInterface, HostInterfaces } from './host-interface.js'
import { ioInterfaces } from './streams.js'
import { cliInterfaces, clockInterfaces, deniedSocket, randomInterfaces } from './system.js'

/** WASI 0.2 for one program. What a component declares decides how values are passed, what is here what they are. */
export function createHost(state: WasiState, http: HttpClient): ComponentHost {
  const interfaces = hostInterfaces(state, http)
  const resources = new Map<string, ResourceType>()
  const resource = (interfaceName: string, name: string): ResourceType | undefined => {
    const isThere = isSockets(interfaceName) || interfaces[interfaceName]?.resources?.includes(name) === true
    if (!isThere) return undefined
    const key = `${interfaceName}#${name}`
    const made = resources.get(key) ?? { name, owner: undefined, destroy: drop }
    resources.set(key, made)
    return made
  }
  const func = (interfaceName: string, name: string, type: FunctionType): ComponentFunction | undefined => {
    if (isSockets(interfaceName)) return socketFunction(name, type)
    const found = ownValue(interfaces, interfaceName) as HostInterface | undefined
    const act =
      found === undefined ? undefined : (ownValue(found.functions, name) as HostFunction | undefined)
    if (found === undefined || act === undefined) return undefined
    if (act.length !== type.params.length)
      throw new InvalidComponent(`it declares ${interfaceName}#${name} with ${type.params.length} parameters`)
    return { type, call: isResult(type.result) ? answering(act, found) : (args) => act(...(args as never[])) }
  }
  return { resource, func }
}

/** Everything that is provided, but `wasi:sockets`, of which every function answers the same. */
export function hostInterfaces(state: WasiState, http: HttpClient): HostInterfaces {
  return {
    ...cliInterfaces(state),
    ...ioInterfaces(http),
    ...clockInterfaces(),
    ...randomInterfaces(),
    ...filesystemInterfaces(state),
    ...httpInterfaces(http),
  }
}

function drop(resource: unknown): void {
  ;(resource as { drop?: () => void }).drop?.()
}

/** A function that answers with a `result`: what it throws for the program is the `err` of it. */
function answering(act: HostFunction, { failureOf }: HostInterface): ComponentFunction['call'] {
  return (args) => {
    try {
      return { tag: 'ok', value: act(...(args as never[])) }
    } catch (error) {
      const failure = error instanceof Failure ? error : failureOf?.(error)
      if (failure === undefined) throw error
      return { tag: 'err', value: failure.value }
    }
  }
}

function isResult(type: ValueType | undefined): boolean {
  if (type?.kind !== 'variant') return false
  const names = type.cases.map(({ name }) => name)
  return names.length === 2 && names[0] === 'ok' && names[1] === 'err'
}

function isSockets(interfaceName: string): boolean {
  return interfaceName.startsWith('wasi:sockets/')
}

function socketFunction(name: string, type: FunctionType): ComponentFunction {
  if (isResult(type.result)) return { type, call: answering(deniedSocket, { functions: {} }) }
  // The one thing that can be had is the network that nothing can be done with.
  if (name === 'instance-network') return { type, call: () => ({}) }
  return {
    type,
    call: () => {
      throw new CanonicalTrap(`${name} is called for a socket, and there is none`)
    },
  }
}
