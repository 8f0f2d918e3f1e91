import { decodeUtf8 } from '../../../../model/wasm-utf8.js'
import { Failure } from '../component/faults.js'

/** A function of the host: takes and returns values as `ValueType` describes them; `Failure` is the `err` of a result. */
export type HostFunction = (...args: never[]) => unknown

/** One interface of WASI as the host gives it. */
export interface HostInterface {
  functions: Record<string, HostFunction>
  /** The classes of its resources, by their names; what has a `drop` is told when the program drops it. */
  resources?: readonly string[]
  /** What a function answers for an error of the system. Absent: such an error is a defect. */
  failureOf?: (error: unknown) => Failure | undefined
}

export type HostInterfaces = Record<string, HostInterface>

export interface Option {
  tag: 'none' | 'some'
  value?: unknown
}

export const NONE: Option = Object.freeze({ tag: 'none' })

export function some(value: unknown): Option {
  return { tag: 'some', value }
}

/** UTF-8 bytes, kept as one character per byte, as text; undefined when they are none. */
export function utf8Text(latin: string): string | undefined {
  return decodeUtf8(Buffer.from(latin, 'latin1'))
}
