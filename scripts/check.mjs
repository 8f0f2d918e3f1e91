// Everything that is checked without running weir: format, types, lint, import directions, cycles, catalogues, the map of attacks.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { checkCatalogue } from './check-catalogue.mjs'
import { checkCorpus } from './check-corpus.mjs'
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
  ['corpus', () => checkCorpus(root)],
  ['words', () => checkWords(root)],
]

// Those that are processes of their own run side by side.
const running = steps.map(([name, step]) => [name, step()])
let failed = 0
for (const [name, result] of running) {
  const problems = await result
  if (problems.length === 0) console.log(`check: ${name} ok`)
  else {
    failed += 1
    console.log(`check: ${name} FAILED`)
    for (const problem of problems) console.log(`  ${problem}`)
  }
}
process.exit(failed === 0 ? 0 : 1)

function run(command, args) {
  return new Promise((resolve) => {
    let output = ''
    const child = spawn(command, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => {
        output += text
      })
    child.on('error', (error) => resolve([String(error)]))
    child.on('close', (code) => resolve(code === 0 ? [] : output.trimEnd().split('\n')))
  })
}
