import { existsSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const ROOT = join(import.meta.dirname, '..')

/** Seconds of the files that took long, as `node scripts/test.mjs --note-durations` wrote them. */
const DURATIONS = join(import.meta.dirname, 'durations.json')

/** Files that take longest begin first, so that no worker is left alone with one at the end. */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const known = existsSync(DURATIONS)
      ? (JSON.parse(readFileSync(DURATIONS, 'utf8')) as Record<string, number>)
      : {}
    // Of files that nobody has measured, longer ones probably take longer.
    const weight = ({ moduleId }: TestSpecification): number =>
      known[relative(ROOT, moduleId)] ?? Math.min(5, statSync(moduleId).size / 10_000)
    return files.toSorted((a, b) => weight(b) - weight(a))
  }
}
