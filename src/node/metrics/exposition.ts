import { DURATION_BOUNDS_MS, type DurationCounts } from '../../model/index.js'
import { METRICS, type MetricFamily, type MetricName } from './catalogue.js'

/** What `/metrics` is served as: Prometheus' text format, version 0.0.4. */
export const EXPOSITION_TYPE = 'text/plain; version=0.0.4; charset=utf-8'

export type Labels = Readonly<Record<string, string>>

/** Collects samples and writes them out, family by family, in the order of the catalogue. */
export class Exposition {
  readonly #samples = new Map<MetricName, string[]>()

  add(name: MetricName, value: number, labels: Labels = {}): void {
    this.#push(name, `${name}${labelText(labels)} ${numberText(value)}`)
  }

  /** Buckets are cumulative there, in seconds. */
  addDurations(name: MetricName, { counts, sumMs }: DurationCounts): void {
    let total = 0
    for (const [index, count] of counts.entries()) {
      total += count
      const bound = DURATION_BOUNDS_MS[index]
      const le = bound === undefined ? '+Inf' : String(bound / 1000)
      this.#push(name, `${name}_bucket{le="${le}"} ${total}`)
    }
    this.#push(name, `${name}_sum ${numberText(sumMs / 1000)}`)
    this.#push(name, `${name}_count ${total}`)
  }

  text(): string {
    const families = Object.entries(METRICS) as [MetricName, MetricFamily][]
    return families
      .flatMap(([name, { type, help }]) => {
        const samples = this.#samples.get(name)
        if (samples === undefined) return []
        return [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`, ...samples]
      })
      .map((line) => `${line}\n`)
      .join('')
  }

  #push(name: MetricName, line: string): void {
    const samples = this.#samples.get(name)
    if (samples === undefined) this.#samples.set(name, [line])
    else samples.push(line)
  }
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escaped(value)}"`)
  return pairs.length === 0 ? '' : `{${pairs.join(',')}}`
}

function escaped(value: string): string {
  return value.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')
}

function numberText(value: number): string {
  return Number.isFinite(value) ? String(value) : '0'
}
