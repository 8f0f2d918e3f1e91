/** The component is wrong in itself: it is refused before its program begins. */
export class InvalidComponent extends Error {}

/** The component asks for something that is not provided. */
export class MissingImport extends Error {}

/** A value that breaks the rules of the canonical ABI ends the program, as a trap of its code does. */
export class CanonicalTrap extends Error {}

/** What a host function answers instead of its result: the `err` case of a `result`. */
export class Failure extends Error {
  readonly value: unknown

  constructor(value: unknown) {
    super('failure')
    this.value = value
  }
}
