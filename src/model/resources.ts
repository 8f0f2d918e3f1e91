import { WeirError } from '../errors.js'
import { quoted } from './printable.js'

/** Amounts of machine. All numbers are finite and ≥ 0. */
export interface Resources {
  /** Cores; fractions allowed. */
  cpu: number
  memoryBytes: number
  diskBytes: number
  gpu: number
}

export const NO_RESOURCES: Resources = Object.freeze({ cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 })

/**
 * Cores as people write them: `2`, `0.5` or `500m` (thousandths). Upper and lower case, blanks are ignored.
 * Empty means 0 (not asked for). Throws `spec.invalid`.
 */
export function parseCpu(text: string): number {
  const compact = compactQuantity(text)
  if (compact === '') return 0
  const match = CPU_QUANTITY.exec(compact)
  const cores = match === null ? NaN : roundCpu(Number(match[1]) / (match[2] === 'm' ? 1000 : 1))
  if (!(cores >= 0 && cores <= CPU_MAX)) {
    throw quantityError('CPU', text, 'Write cores, for example 2, 0.5 or 500m.')
  }
  return cores
}

/**
 * Bytes as people write them: a number and a unit. `b kb mb gb tb pb` (also `k m g t p`) are powers of 1000,
 * `kib mib …` (also `ki mi …`) powers of 1024, no unit means bytes. Case and blanks are ignored; fractions of a byte
 * are dropped. Empty means 0 (not asked for). Throws `spec.invalid`; `what` names the quantity in the message.
 */
export function parseBytes(text: string, what = 'size'): number {
  const compact = compactQuantity(text)
  if (compact === '') return 0
  const match = BYTE_QUANTITY.exec(compact)
  const factor = match === null ? undefined : unitFactor(match[2] ?? '')
  const bytes = match === null || factor === undefined ? NaN : Math.floor(Number(match[1]) * factor)
  if (!(bytes >= 0 && bytes <= Number.MAX_SAFE_INTEGER)) {
    throw quantityError(what, text, 'Write a number with a unit, for example 512mb, 1gb or 1gi.')
  }
  return bytes
}

/** Whole devices. Empty means 0. Throws `spec.invalid`. */
export function parseGpu(text: string): number {
  const compact = compactQuantity(text)
  if (compact === '') return 0
  if (!/^\d{1,4}$/.test(compact)) throw quantityError('GPU', text, 'Write a whole number of devices.')
  return Number(compact)
}

/** Lower case, without blanks: the form in which quantities are stored. */
export function compactQuantity(text: string): string {
  return text.replace(/\s+/g, '').toLowerCase()
}

/** `500m` below one core, otherwise `2` or `1.25`. `parseCpu` reads it back. */
export function formatCpu(cores: number): string {
  const milli = Math.round(cores * 1000)
  return milli !== 0 && milli < 1000 ? `${milli}m` : String(milli / 1000)
}

/**
 * For people: at most one decimal and a binary or decimal unit, whichever is shorter: `512 MiB`, `1 GB`, `1.5 GiB`.
 * Not exact; {@link formatBytesExact} is.
 */
export function formatBytes(bytes: number): string {
  const decimal = scaled(bytes, 1000, ['B', 'kB', 'MB', 'GB', 'TB', 'PB'])
  const binary = scaled(bytes, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'])
  return binary.exact && !decimal.exact ? binary.text : decimal.text
}

/** The shortest quantity that `parseBytes` reads back as the same number: `512mib`, `1gb`, `1001b`. */
export function formatBytesExact(bytes: number): string {
  for (const [unit, factor] of UNITS_LARGEST_FIRST) {
    if (bytes >= factor && bytes % factor === 0) return `${bytes / factor}${unit}`
  }
  return `${bytes}b`
}

/** `2 CPU, 1 GB memory, 10 GB disk, 1 GPU`: only what is not zero; `nothing` when all are. */
export function formatResources(resources: Resources): string {
  const parts = [
    resources.cpu > 0 ? `${formatCpu(resources.cpu)} CPU` : '',
    resources.memoryBytes > 0 ? `${formatBytes(resources.memoryBytes)} memory` : '',
    resources.diskBytes > 0 ? `${formatBytes(resources.diskBytes)} disk` : '',
    resources.gpu > 0 ? `${resources.gpu} GPU` : '',
  ].filter((part) => part !== '')
  return parts.length === 0 ? 'nothing' : parts.join(', ')
}

export function addResources(a: Resources, b: Resources): Resources {
  return {
    cpu: roundCpu(a.cpu + b.cpu),
    memoryBytes: a.memoryBytes + b.memoryBytes,
    diskBytes: a.diskBytes + b.diskBytes,
    gpu: a.gpu + b.gpu,
  }
}

/** Never below zero. */
export function subtractResources(a: Resources, b: Resources): Resources {
  return {
    cpu: roundCpu(Math.max(0, a.cpu - b.cpu)),
    memoryBytes: Math.max(0, a.memoryBytes - b.memoryBytes),
    diskBytes: Math.max(0, a.diskBytes - b.diskBytes),
    gpu: Math.max(0, a.gpu - b.gpu),
  }
}

/** True when every amount of `asked` is at most that of `free`. */
export function fitsResources(asked: Resources, free: Resources): boolean {
  return (
    asked.cpu <= free.cpu &&
    asked.memoryBytes <= free.memoryBytes &&
    asked.diskBytes <= free.diskBytes &&
    asked.gpu <= free.gpu
  )
}

/** One line per amount that does not fit, for example `2 CPU free, 4 asked`; empty when all fit. */
export function resourceShortfalls(asked: Resources, free: Resources): string[] {
  const lines: string[] = []
  if (asked.cpu > free.cpu) lines.push(`${formatCpu(free.cpu)} CPU free, ${formatCpu(asked.cpu)} asked`)
  if (asked.memoryBytes > free.memoryBytes) {
    lines.push(`${formatBytes(free.memoryBytes)} memory free, ${formatBytes(asked.memoryBytes)} asked`)
  }
  if (asked.diskBytes > free.diskBytes) {
    lines.push(`${formatBytes(free.diskBytes)} disk free, ${formatBytes(asked.diskBytes)} asked`)
  }
  if (asked.gpu > free.gpu) lines.push(`${free.gpu} GPU free, ${asked.gpu} asked`)
  return lines
}

const CPU_MAX = 1_000_000
const CPU_QUANTITY = /^(\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})(m?)$/
const BYTE_QUANTITY = /^(\d{1,20}(?:\.\d{0,20})?|\.\d{1,20})([a-z]*)$/
const DECIMAL_UNITS = ['kb', 'mb', 'gb', 'tb', 'pb'] as const
const BINARY_UNITS = ['kib', 'mib', 'gib', 'tib', 'pib'] as const

const UNITS_LARGEST_FIRST: readonly (readonly [string, number])[] = [
  ...DECIMAL_UNITS.map((unit, index) => [unit, 1000 ** (index + 1)] as const),
  ...BINARY_UNITS.map((unit, index) => [unit, 1024 ** (index + 1)] as const),
].toSorted((a, b) => b[1] - a[1])

function unitFactor(unit: string): number | undefined {
  if (unit === '' || unit === 'b') return 1
  const decimal = DECIMAL_UNITS.findIndex((name) => name === unit || name.slice(0, 1) === unit)
  if (decimal >= 0) return 1000 ** (decimal + 1)
  const binary = BINARY_UNITS.findIndex((name) => name === unit || name.slice(0, 2) === unit)
  return binary >= 0 ? 1024 ** (binary + 1) : undefined
}

/** Sums of fractions of a core must not drift: a millionth of a core is the grain. */
function roundCpu(cores: number): number {
  return Math.round(cores * 1_000_000) / 1_000_000
}

function scaled(bytes: number, base: number, units: readonly string[]): { text: string; exact: boolean } {
  let power = 0
  while (power < units.length - 1 && bytes >= base ** (power + 1)) power += 1
  const value = bytes / base ** power
  const rounded = value >= 100 ? Math.round(value) : Math.round(value * 10) / 10
  return { text: `${rounded} ${units[power] ?? 'B'}`, exact: rounded === value }
}

function quantityError(what: string, text: string, hint: string): WeirError {
  return new WeirError('spec.invalid', `invalid ${what} value: ${quoted(text, 60)}`, {
    hint,
  })
}
