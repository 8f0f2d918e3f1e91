import type {
  Alias,
  ComponentSort,
  ComponentType,
  InstanceDeclaration,
  TypeRef,
} from '../../../../model/wasm-component-types.js'
import type { WasmComponent } from '../../../../model/wasm-component.js'
import { ownValue } from '../own-value.js'
import { InvalidComponent } from './faults.js'
import type { ResourceType } from './handles.js'
import {
  type FunctionType,
  type ValueType,
  handleOf,
  listOf,
  named,
  primitive,
  record,
  variant,
} from './value-types.js'

/** What stands in the index space of types. */
export type ScopeType =
  | { kind: 'value'; type: ValueType }
  | { kind: 'func'; type: FunctionType }
  | { kind: 'resource'; resource: ResourceType }
  | { kind: 'instance'; declarations: InstanceDeclaration[]; scope: Scope }
  | { kind: 'component' }

/** A component that can be instantiated, and where what it refers to outside of itself is found. */
export interface ComponentClosure {
  component: WasmComponent
  scope: Scope
}

export interface Export {
  sort: ComponentSort
  value: unknown
}

export type InstanceExports = ReadonlyMap<string, Export>

/** The index spaces of one component that is being instantiated, or of one instance type. */
export class Scope {
  readonly #parent: Scope | undefined
  readonly #spaces = new Map<ComponentSort, unknown[]>()

  constructor(parent: Scope | undefined) {
    this.#parent = parent
  }

  add(sort: ComponentSort, value: unknown): void {
    const space = this.#spaces.get(sort)
    if (space === undefined) this.#spaces.set(sort, [value])
    else space.push(value)
  }

  get(sort: ComponentSort, index: number): unknown {
    const space = this.#spaces.get(sort) ?? []
    if (index >= space.length) throw new InvalidComponent(`there is no ${sort} ${index}`)
    return space[index]
  }

  type(index: number): ScopeType {
    return this.get('type', index) as ScopeType
  }

  valueType(ref: TypeRef): ValueType {
    if (typeof ref === 'string') return primitive(ref)
    const found = this.type(ref)
    if (found.kind !== 'value') throw new InvalidComponent(`the type ${ref} is none of values`)
    return found.type
  }

  funcType(index: number): FunctionType {
    const found = this.type(index)
    if (found.kind !== 'func') throw new InvalidComponent(`the type ${index} is none of functions`)
    return found.type
  }

  resource(index: number): ResourceType {
    const found = this.type(index)
    if (found.kind !== 'resource') throw new InvalidComponent(`the type ${index} is no resource`)
    return found.resource
  }

  /** What the alias stands for. */
  resolve(alias: Alias): unknown {
    if (alias.from === 'outer') return this.#outer(alias.count).get(alias.sort, alias.index)
    if (alias.from === 'core export') {
      const value = ownValue(this.get('core instance', alias.instance) as object, alias.name)
      if (value === undefined)
        throw new InvalidComponent(`a core instance exports no ${JSON.stringify(alias.name)}`)
      return value
    }
    const found = (this.get('instance', alias.instance) as InstanceExports).get(alias.name)
    if (found?.sort !== alias.sort)
      throw new InvalidComponent(`an instance exports no ${alias.sort} ${JSON.stringify(alias.name)}`)
    return found.value
  }

  #outer(count: number): Scope {
    if (count === 0) return this
    if (this.#parent === undefined) throw new InvalidComponent('an alias leads out of the component')
    return this.#parent.#outer(count - 1)
  }
}

/** The type that a definition stands for in its scope. A resource of a component is made by who instantiates it. */
export function resolveType(type: ComponentType, scope: Scope): ScopeType {
  const value = (made: ValueType): ScopeType => ({ kind: 'value', type: made })
  const at = (ref: TypeRef | undefined): ValueType | undefined =>
    ref === undefined ? undefined : scope.valueType(ref)
  switch (type.kind) {
    case 'primitive':
      return value(primitive(type.type))
    case 'list':
      return value(listOf(scope.valueType(type.type)))
    case 'record':
      return value(
        record(
          'record',
          type.members.map((one) => ({ name: one.name, type: scope.valueType(one.type) })),
        ),
      )
    case 'tuple':
      return value(
        record(
          'tuple',
          type.members.map((one) => ({ name: '', type: scope.valueType(one) })),
        ),
      )
    case 'variant':
      return value(variant(type.members.map((one) => ({ name: one.name, type: at(one.type) }))))
    case 'option':
      return value(
        variant([
          { name: 'none', type: undefined },
          { name: 'some', type: at(type.type) },
        ]),
      )
    case 'result':
      return value(
        variant([
          { name: 'ok', type: at(type.ok) },
          { name: 'err', type: at(type.err) },
        ]),
      )
    case 'enum':
    case 'flags':
      return value(named(type.kind, type.names))
    case 'own':
    case 'borrow':
      return value(handleOf(type.kind, scope.resource(type.type)))
    case 'func': {
      const params = type.params.map((one) => scope.valueType(one.type))
      return { kind: 'func', type: { params, result: at(type.result) } }
    }
    case 'instance':
      return { kind: 'instance', declarations: type.declarations, scope }
    case 'component':
      return { kind: 'component' }
    case 'resource':
      throw new InvalidComponent('a resource is defined where none can be')
  }
}
