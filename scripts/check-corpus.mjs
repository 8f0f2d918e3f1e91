// The map of the attack corpus: every id is a row of data, named by a test, or declared as a residual risk in docs/.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Where what cannot be met is told to readers. */
const PAGE = 'docs/threat-model.md'

/** Returns one line per finding. */
export function checkCorpus(root) {
  const ids = JSON.parse(readFileSync(join(root, 'test/conformance/corpus-ids.json'), 'utf8'))
  const rows = rowIds(join(root, 'src/conformance/corpus'))
  const tests = namedIn(join(root, 'test'))
  const page = readFileSync(join(root, PAGE), 'utf8')
  const problems = []
  for (const [id, entry] of Object.entries(ids)) {
    const isTested = rows.has(id) || tests.has(id)
    if (typeof entry === 'string') {
      if (!isTested) problems.push(`${id} (${entry}): no row in src/conformance/corpus and no test names it`)
    } else if (isTested) {
      problems.push(`${id} is declared as a residual risk, but it is tested`)
    } else if (!new RegExp(`\\b${id}\\b`).test(page)) {
      problems.push(`${id} is declared as a residual risk, but ${PAGE} does not tell readers about it`)
    }
  }
  for (const id of [...rows, ...tests])
    if (ids[id] === undefined) problems.push(`${id} is no id of test/conformance/corpus-ids.json`)
  return problems
}

/** Ids of data rows; `E-04b` is part of `E-04`. */
function rowIds(directory) {
  return new Set(
    readdirSync(directory)
      .filter((name) => name.endsWith('.json'))
      .flatMap((name) => JSON.parse(readFileSync(join(directory, name), 'utf8')))
      .map(({ id }) => /^[A-P]-\d{2}/.exec(id)?.[0] ?? id),
  )
}

/** Ids in titles of tests. A comment is no test. */
function namedIn(directory) {
  const named = new Set()
  for (const entry of readdirSync(directory, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile() || !entry.name.endsWith('.test.ts')) continue
    const text = readFileSync(join(entry.parentPath, entry.name), 'utf8')
    for (const [, , title = ''] of text.matchAll(TITLE))
      for (const [id] of title.matchAll(/\b[A-P]-\d{2}\b/g)) named.add(id)
  }
  return named
}

/** The first argument of `it`, `test` and `describe`, also behind `.each(…)` and `.skipIf(…)`. */
const TITLE = /(?:\b(?:it|test|describe)|\))\(\s*(['"`])((?:\\.|(?!\1)[\s\S])*?)\1/g
