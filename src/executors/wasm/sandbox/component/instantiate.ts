import type { InstanceDeclaration } from '../../../../model/wasm-component-types.js'
import type { CanonicalOptions, Definition, Named, WasmComponent } from '../../../../model/wasm-component.js'
import { importObject } from '../import-object.js'
import { type WasmMemory, wasmApi } from '../web-assembly.js'
import { CallMemory } from './call-memory.js'
import {
  type CanonicalCall,
  type ComponentFunction,
  type CoreFunction,
  allocator,
  lifted,
  lowered,
  mustLeave,
} from './canonical-functions.js'
import { InvalidComponent, MissingImport } from './faults.js'
import { ComponentInstance, type ResourceType } from './handles.js'
import { type ComponentClosure, type Export, type InstanceExports, Scope, resolveType } from './scope.js'
import type { FunctionType } from './value-types.js'

/** What the host gives to a component. */
export interface ComponentHost {
  /** A type of the host's resources, by the name of its interface without the version. Undefined: not provided. */
  resource(interfaceName: string, name: string): ResourceType | undefined
  /** A function of the host that answers as the component declares it. Undefined: not provided. */
  func(interfaceName: string, name: string, type: FunctionType): ComponentFunction | undefined
}

/** A core module of the component's file. */
export interface CoreModule {
  module: object
  /** Elements that its tables have at the start. */
  tableElements: number
}

/** Components within components can multiply: what is made of them is bounded as a whole. */
const INSTANCES_MAX = 1_000
const TABLE_ELEMENTS_MAX = 10_000_000

/**
 * Instantiates components out of their definitions, with the rules of the component model: a component has nothing but
 * what it is given, and nothing of it is reached but what it exports.
 */
export class Instantiation {
  readonly #modules: readonly CoreModule[]
  readonly #host: ComponentHost
  /** Memories of all core instances, in the order in which they were exported. */
  readonly memories = new Set<WasmMemory>()
  #instances = 0
  #tableElements = 0

  constructor(modules: readonly CoreModule[], host: ComponentHost) {
    this.#modules = modules
    this.#host = host
  }

  /**
   * The component's exports, with all that its start functions did done.
   *
   * @throws InvalidComponent, MissingImport; what its code throws while it is instantiated.
   */
  root(component: WasmComponent): InstanceExports {
    return this.#component({ component, scope: new Scope(undefined) }, (name, scope, type) => {
      const declared = type === undefined ? undefined : scope.type(type)
      if (declared?.kind !== 'instance') throw new MissingImport(name)
      return { sort: 'instance', value: this.#provided(name, declared.declarations, declared.scope) }
    })
  }

  #component(
    { component, scope: outside }: ComponentClosure,
    given: (name: string, scope: Scope, instanceType: number | undefined) => Export,
  ): InstanceExports {
    this.#count(0)
    const scope = new Scope(outside)
    const instance = new ComponentInstance()
    const exports = new Map<string, Export>()
    for (const one of component.definitions) {
      if (one.kind === 'import') {
        const { extern } = one
        const { sort, value } = given(one.name, scope, extern.sort === 'instance' ? extern.type : undefined)
        if (sort !== extern.sort)
          throw new InvalidComponent(`the import ${quote(one.name)} is no ${extern.sort}`)
        scope.add(sort, value)
      } else if (one.kind === 'export') {
        const value = scope.get(one.what.sort, one.what.index)
        exports.set(one.name, { sort: one.what.sort, value })
        scope.add(one.what.sort, value)
      } else {
        this.#define(one, scope, instance)
      }
    }
    return exports
  }

  #define(
    one: Exclude<Definition, { kind: 'import' | 'export' }>,
    scope: Scope,
    instance: ComponentInstance,
  ): void {
    switch (one.kind) {
      case 'core module':
        return scope.add('core module', this.#modules[one.number])
      case 'core instance':
        return scope.add('core instance', this.#coreInstance(one, scope))
      case 'core exports':
        return scope.add('core instance', coreExports(one.exports, scope))
      case 'component':
        return scope.add('component', { component: one.component, scope } satisfies ComponentClosure)
      case 'instance': {
        const args = exportsOf(one.args, scope)
        const closure = scope.get('component', one.component) as ComponentClosure
        const exports = this.#component(closure, (name) => {
          const arg = args.get(name)
          if (arg === undefined)
            throw new InvalidComponent(`a component is not given its import ${quote(name)}`)
          return arg
        })
        return scope.add('instance', exports)
      }
      case 'exports':
        return scope.add('instance', exportsOf(one.exports, scope))
      case 'alias':
        return scope.add(one.alias.sort, this.#seen(scope.resolve(one.alias)))
      case 'type':
        if (one.type.kind !== 'resource') return scope.add('type', resolveType(one.type, scope))
        return scope.add('type', {
          kind: 'resource',
          resource: ownResource(one.type.destructor, scope, instance),
        })
      case 'lift': {
        const call = canonicalCall(one.options, scope, instance)
        return scope.add('func', lifted(scope.funcType(one.type), coreFunction(scope, one.func), call))
      }
      case 'lower': {
        const func = scope.get('func', one.func) as ComponentFunction
        return scope.add('core func', lowered(func, canonicalCall(one.options, scope, instance)))
      }
      case 'resource':
        return scope.add('core func', resourceFunction(one.act, scope.resource(one.type), instance))
    }
  }

  #coreInstance(one: Definition & { kind: 'core instance' }, scope: Scope): object {
    const { module, tableElements } = scope.get('core module', one.module) as CoreModule
    this.#count(tableElements)
    const args = new Map(
      one.args.map(({ name, instance }) => [name, scope.get('core instance', instance) as object]),
    )
    const { imports } = importObject(module, (name) => args.get(name))
    const instance = new wasmApi.Instance(module, imports)
    for (const value of Object.values(instance.exports)) this.#seen(value)
    return instance.exports
  }

  /** An instance of the host, with exactly what the component's declaration names. */
  #provided(name: string, declarations: readonly InstanceDeclaration[], outside: Scope): InstanceExports {
    const interfaceName = withoutVersion(name)
    const scope = new Scope(outside)
    const exports = new Map<string, Export>()
    for (const one of declarations) {
      if (one.kind === 'type') scope.add('type', resolveType(one.type, scope))
      else if (one.kind === 'alias') scope.add(one.alias.sort, scope.resolve(one.alias))
      else {
        const { extern } = one
        const missing = (): never => {
          throw new MissingImport(`${name}#${one.name}`)
        }
        let value: unknown
        if (extern.sort === 'func') {
          value = this.#host.func(interfaceName, one.name, scope.funcType(extern.type)) ?? missing()
        } else if (extern.sort === 'type') {
          const { equals } = extern
          const resource =
            equals === undefined ? (this.#host.resource(interfaceName, one.name) ?? missing()) : undefined
          value = equals === undefined ? { kind: 'resource', resource } : scope.type(equals)
        } else missing()
        exports.set(one.name, { sort: extern.sort, value })
        scope.add(extern.sort, value)
      }
    }
    return exports
  }

  #seen<Value>(value: Value): Value {
    if (value instanceof wasmApi.Memory) this.memories.add(value)
    return value
  }

  #count(tableElements: number): void {
    this.#instances++
    this.#tableElements += tableElements
    if (this.#instances > INSTANCES_MAX)
      throw new InvalidComponent(`it consists of more than ${INSTANCES_MAX} instances`)
    if (this.#tableElements > TABLE_ELEMENTS_MAX)
      throw new InvalidComponent(`its tables have more than ${TABLE_ELEMENTS_MAX} elements together`)
  }
}

/** `wasi:io/streams@0.2.3` without what stands behind the sign. */
export function withoutVersion(name: string): string {
  return name.replace(/@.*$/, '')
}

function exportsOf(exports: readonly Named[], scope: Scope): Map<string, Export> {
  return new Map(exports.map(({ name, sort, index }) => [name, { sort, value: scope.get(sort, index) }]))
}

function coreExports(exports: readonly Named[], scope: Scope): object {
  const made = Object.create(null) as Record<string, unknown>
  for (const { name, sort, index } of exports) made[name] = scope.get(sort, index)
  return made
}

function canonicalCall(options: CanonicalOptions, scope: Scope, instance: ComponentInstance): CanonicalCall {
  const memory = options.memory === undefined ? undefined : scope.get('core memory', options.memory)
  if (memory !== undefined && !(memory instanceof wasmApi.Memory))
    throw new InvalidComponent('a memory is none')
  const realloc = options.realloc === undefined ? undefined : allocator(coreFunction(scope, options.realloc))
  const postReturn = options.postReturn === undefined ? undefined : coreFunction(scope, options.postReturn)
  return {
    instance,
    memory: new CallMemory(memory, realloc, options.encoding),
    ...(postReturn && { postReturn }),
  }
}

function coreFunction(scope: Scope, index: number): CoreFunction {
  const found = scope.get('core func', index)
  if (typeof found !== 'function') throw new InvalidComponent(`the core func ${index} is none`)
  return found as CoreFunction
}

function ownResource(destructor: number | undefined, scope: Scope, owner: ComponentInstance): ResourceType {
  const destroy = destructor === undefined ? undefined : coreFunction(scope, destructor)
  return {
    name: 'resource of its own',
    owner,
    destroy: (representation) => void destroy?.(Number(representation)),
  }
}

function resourceFunction(
  act: 'new' | 'drop' | 'rep',
  resource: ResourceType,
  instance: ComponentInstance,
): CoreFunction {
  if (act !== 'drop' && resource.owner !== instance)
    throw new InvalidComponent('a resource is made by a component that does not define it')
  if (act === 'rep')
    return (handle) =>
      instance.cross(() => instance.get(Number(handle) >>> 0, resource).representation as number)
  return (value) =>
    instance.cross(() => {
      mustLeave(instance)
      if (act === 'new') return instance.add(resource, Number(value) | 0)
      instance.drop(Number(value) >>> 0, resource)
      return undefined
    })
}

function quote(text: string): string {
  return JSON.stringify(text.length > 100 ? `${text.slice(0, 100)}…` : text)
}
