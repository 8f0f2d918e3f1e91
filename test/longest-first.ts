import { existsSync, readFileSync, statSync } from 'node:fs'
import { join, relative } from 'node:path'
import { BaseSequencer, type TestSpecification } from 'vitest/node'

const ROOT = join(import.meta.dirname, '..')

/** Seconds of the files that took long, as `node scripts/test.mjs --note-durations` wrote them. */
const DURATIONS = join(import.meta.dirname, 'durations.json')

/** The project whose files share their workers. */
export const TOGETHER = 'together'

/**
 * Files that take longest begin first, so that no worker is left alone with one at the end. Those that share workers follow in one
 * piece: a worker is kept only for a next file that shares as well.
 */
export class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const known = existsSync(DURATIONS)
      ? (JSON.parse(readFileSync(DURATIONS, 'utf8')) as Record<string, number>)
      : {}
    // Of files that nobody has measured, longer ones probably take longer.
    const weight = ({ moduleId }: TestSpecification): number =>
      known[relative(ROOT, moduleId)] ?? Math.min(5, statSync(moduleId).size / 10_000)
    const shares = ({ project }: TestSpecification): number => (project.name === TOGETHER ? 1 : 0)
    return files.toSorted((a, b) => shares(a) - shares(b) || weight(b) - weight(a))
  }
}
