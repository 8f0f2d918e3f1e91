/** A property of the object itself, read without running anything; undefined when there is none. */
export function ownValue(object: object, name: string): unknown {
  return Object.getOwnPropertyDescriptor(object, name)?.value
}
