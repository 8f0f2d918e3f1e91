// Builds the WebAssembly programs that the tests run.
//
//   node scripts/build-wasm-fixtures.mjs          C and Rust → dist/test-fixtures/wasm (where clang-14 and rustc are)
//   node scripts/build-wasm-fixtures.mjs --wat    also WAT → test/fixtures/wasm/bin (committed; needs wat2wasm)
//   npx --package assemblyscript@0.28.20 node scripts/build-wasm-fixtures.mjs --assembly
//                                                 also AssemblyScript → test/fixtures/wasm/bin (committed)
//   npx --package @bytecodealliance/jco@1.35.0 node scripts/build-wasm-fixtures.mjs --components
//                                                 also components → test/fixtures/wasm/bin (committed; needs clang-14)
import { spawnSync } from 'node:child_process'
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { basename, dirname, join } from 'node:path'

const root = join(import.meta.dirname, '..')
const from = join(root, 'test/fixtures/wasm')
const out = join(root, 'dist/test-fixtures/wasm')
mkdirSync(out, { recursive: true })

const problems = []
if (process.argv.includes('--wat')) {
  const flags = ['--enable-threads', '--enable-exceptions']
  for (const file of sources('wat', '.wat')) {
    build('wat2wasm', [...flags, file, '-o', join(from, 'bin', `${basename(file, '.wat')}.wasm`)])
  }
}
if (process.argv.includes('--assembly')) {
  // The compiler wants .ts, which the checks of this project would take for its own.
  const dir = mkdtempSync(join(tmpdir(), 'weir-assembly-'))
  for (const file of sources('assembly', '.as')) {
    const name = basename(file, '.as')
    const copy = join(dir, `${name}.ts`)
    copyFileSync(file, copy)
    const flags = '--runtime minimal -O --use abort= --exportStart _start'.split(' ')
    build('asc', [copy, '-o', join(from, 'bin', `assembly-${name}.wasm`), ...flags])
  }
  rmSync(dir, { recursive: true })
}
if (process.argv.includes('--components')) {
  for (const file of sources('component', '.wat')) {
    build('jco', ['parse', file, '-o', join(from, 'bin', `component-${basename(file, '.wat')}.wasm`)])
  }
  // The adapter from WASI preview 1 keeps its own state where this allocator puts it.
  const realloc = join(from, 'component/realloc.c')
  const core = join(out, 'component-core.wasm')
  for (const [name, source] of [
    ['c-files', join(from, 'c/files.c')],
    ['fetch', join(from, 'component/fetch.c')],
  ]) {
    build('clang-14', ['--target=wasm32-wasi', '-Oz', '-Wl,--strip-all', '-o', core, source, realloc])
    if (name === 'fetch') await embed(core, join(from, 'component/fetch.wit'), name)
    build('jco', ['new', core, '--wasi-command', '-o', join(from, 'bin', `component-${name}.wasm`)])
  }
}
for (const file of sources('c', '.c')) {
  const target = join(out, `c-${basename(file, '.c')}.wasm`)
  if (isOlder(target, file))
    build('clang-14', ['--target=wasm32-wasi', '-O2', '-Wl,--strip-all', '-o', target, file])
}
// Debian's compiler has the standard library for wasm32-wasi; another one that comes first in PATH may not.
const rustc = existsSync('/usr/bin/rustc') ? '/usr/bin/rustc' : 'rustc'
for (const file of sources('rust', '.rs')) {
  const target = join(out, `rust-${basename(file, '.rs')}.wasm`)
  const flags = [
    '--target',
    'wasm32-wasi',
    '-O',
    '-C',
    'linker=wasm-ld-14',
    '-C',
    'strip=symbols',
    '--edition',
    '2021',
  ]
  if (isOlder(target, file)) build(rustc, [...flags, '-o', target, file])
}
for (const one of problems) console.error(`build-wasm-fixtures: ${one}`)

/** Tells the core module the types of what it imports. The command `jco embed` does not find its files. */
async function embed(core, wit, world) {
  const jco = spawnSync('which', ['jco'], { encoding: 'utf8' }).stdout.trim()
  if (jco === '') return
  const library = createRequire(realpathSync(jco)).resolve('@bytecodealliance/jco-transpile')
  const { $init, tools } = await import(join(dirname(library), '../vendor/wasm-tools.js'))
  await $init
  writeFileSync(
    core,
    tools.componentEmbed({ binary: readFileSync(core), witSource: readFileSync(wit, 'utf8'), world }),
  )
}

function sources(directory, extension) {
  const dir = join(from, directory)
  return readdirSync(dir)
    .filter((name) => name.endsWith(extension))
    .map((name) => join(dir, name))
}

function isOlder(target, source) {
  return !existsSync(target) || statSync(target).mtimeMs < statSync(source).mtimeMs
}

function build(command, args) {
  const result = spawnSync(command, args, { encoding: 'utf8' })
  if (result.status === 0) return
  problems.push(`${command} ${args.at(-1)}: ${result.error?.message ?? result.stderr.trim()}`)
}
