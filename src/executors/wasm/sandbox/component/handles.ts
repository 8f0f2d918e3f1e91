import { CanonicalTrap } from './faults.js'

/** A type of resources; two are the same only when they are the same object. */
export interface ResourceType {
  name: string
  /** Where it is defined; undefined for those of the host. */
  owner: ComponentInstance | undefined
  /** Called with the representation when its owner drops it. */
  destroy: (representation: unknown) => void
}

interface Handle {
  resource: ResourceType
  /** A number of the instance that defines the resource, or an object of the host. */
  representation: unknown
  /** Undefined when the handle owns the resource, else the call for whose time it was lent. */
  lentFor: CallScope | undefined
  /** Calls to which it is lent; while there are some it cannot be given away. */
  lends: number
}

/** Enough for any program; each costs memory of the sandbox. */
const HANDLES_MAX = 1_000_000

/** One component instance: its handles, and whether it may be entered and left just now. */
export class ComponentInstance {
  readonly #handles: (Handle | undefined)[] = [undefined]
  readonly #free: number[] = []
  /** False while the host places values into its memory, or takes them out of it. */
  mayLeave = true
  /** False while one of its functions runs. */
  mayEnter = true
  #fault: { error: unknown } | undefined

  /**
   * Crosses its border. What is thrown here ends the program, whose own code could catch it all the same (`catch_all` of
   * WebAssembly's exceptions) and go on: so the first one is remembered, and thrown at each crossing from then on.
   */
  cross<Result>(act: () => Result): Result {
    this.mustBeWhole()
    try {
      const result = act()
      this.mustBeWhole()
      return result
    } catch (error) {
      this.#fault ??= { error }
      throw error
    }
  }

  /** Throws what ended it. */
  mustBeWhole(): void {
    if (this.#fault !== undefined) throw this.#fault.error
  }

  add(resource: ResourceType, representation: unknown, lentFor?: CallScope): number {
    const index = this.#free.pop() ?? this.#handles.length
    if (index > HANDLES_MAX) throw new CanonicalTrap(`the program has more than ${HANDLES_MAX} handles`)
    this.#handles[index] = { resource, representation, lentFor, lends: 0 }
    if (lentFor !== undefined) lentFor.borrows++
    return index
  }

  get(index: number, resource: ResourceType): Handle {
    const found = this.#handles[index]
    if (found === undefined) throw new CanonicalTrap(`there is no handle ${index}`)
    if (found.resource !== resource)
      throw new CanonicalTrap(`the handle ${index} is of a ${found.resource.name}, not of a ${resource.name}`)
    return found
  }

  /** Ends the handle; trap while it is lent. */
  remove(index: number, resource: ResourceType): Handle {
    const found = this.get(index, resource)
    if (found.lends > 0) throw new CanonicalTrap(`the handle ${index} is in use`)
    this.#handles[index] = undefined
    this.#free.push(index)
    if (found.lentFor !== undefined) found.lentFor.borrows--
    return found
  }

  /** Gives the resource away. */
  take(index: number, resource: ResourceType): unknown {
    if (this.get(index, resource).lentFor !== undefined)
      throw new CanonicalTrap(`the handle ${index} is borrowed and cannot be given away`)
    return this.remove(index, resource).representation
  }

  /** Lends the resource for the time of a call. */
  lend(index: number, resource: ResourceType, scope: CallScope): unknown {
    const found = this.get(index, resource)
    if (found.lentFor === undefined) {
      found.lends++
      scope.lent.push(found)
    }
    return found.representation
  }

  drop(index: number, resource: ResourceType): void {
    const { lentFor, representation } = this.remove(index, resource)
    if (lentFor === undefined) resource.destroy(representation)
  }
}

/** One call across the border of a component. */
export class CallScope {
  readonly lent: Handle[] = []
  /** Handles that the called one has borrowed and not dropped yet. */
  borrows = 0

  end(): void {
    if (this.borrows > 0) throw new CanonicalTrap('a borrowed handle was kept after the call')
    for (const one of this.lent) one.lends--
  }
}
