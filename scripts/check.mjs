// Everything that is checked without running weir: format, types, lint, import directions, cycles, catalogues.
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { checkCatalogue } from './check-catalogue.mjs'
import { checkRooms } from './check-rooms.mjs'
import { checkWords } from './check-words.mjs'

const root = join(import.meta.dirname, '..')
const bin = (name) => join(root, 'node_modules/.bin', name)

const steps = [
  ['format', () => run(bin('biome'), ['format', '.'])],
  ['types', () => run(bin('tsc'), ['-p', 'tsconfig.test.json'])],
  [
    'lint',
    () =>
      run(bin('oxlint'), [
        '--type-aware',
        '--deny-warnings',
        ...['src', 'test', 'scripts', 'bench'].filter((dir) => existsSync(join(root, dir))),
      ]),
  ],
  ['rooms', () => checkRooms(root)],
  ['catalogue', () => checkCatalogue(root)],
  ['words', () => checkWords(root)],
]

let failed = 0
for (const [name, step] of steps) {
  const problems = step()
  if (problems.length === 0) console.log(`check: ${name} ok`)
  else {
    failed += 1
    console.log(`check: ${name} FAILED`)
    for (const problem of problems) console.log(`  ${problem}`)
  }
}
process.exit(failed === 0 ? 0 : 1)

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 })
  if (result.error) return [String(result.error)]
  return result.status === 0 ? [] : `${result.stdout}${result.stderr}`.trimEnd().split('\n')
}
