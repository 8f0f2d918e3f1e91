// Builds the programs in examples/ with Debian's compilers, and the component with jco where that is in PATH (npx --package
// @bytecodealliance/jco@1.35.0 node …); they give the same bytes everywhere.
//
//   node scripts/build-examples.mjs           writes the committed modules
//   node scripts/build-examples.mjs --check   builds them elsewhere and compares; exit code 1 when one differs
//
// An example whose compiler is not there is left out, and said to be.
import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..', 'examples')
const isCheck = process.argv.includes('--check')

const C = ['--target=wasm32-wasi', '-O2', '-Wl,--strip-all']
const RUST = ['--edition', '2021', '--target', 'wasm32-wasi', '-C', 'opt-level=s']
const RUST_LINK = ['-C', 'strip=symbols', '-C', 'linker=wasm-ld-14']

const examples = [
  { dir: 'csv-summary', compiler: '/usr/bin/clang-14', args: [...C, '-o'], source: 'main.c' },
  { dir: 'http-fetch', compiler: '/usr/bin/clang-14', args: [...C, '-o'], source: 'main.c' },
  {
    dir: 'csv-summary-rust',
    compiler: '/usr/bin/rustc',
    args: [...RUST, ...RUST_LINK, '-o'],
    source: 'main.rs',
  },
  {
    dir: 'http-fetch-rust',
    compiler: '/usr/bin/rustc',
    args: [...RUST, ...RUST_LINK, '-o'],
    source: 'main.rs',
  },
  { dir: 'hello-component', compiler: inPath('jco'), args: ['parse', '-o'], source: 'hello.wat' },
]

let failed = false
const scratch = mkdtempSync(join(tmpdir(), 'weir-examples-'))
for (const { dir, compiler, args, source } of examples) {
  const committed = join(
    root,
    dir,
    readdirSync(join(root, dir)).find((name) => name.endsWith('.wasm')),
  )
  const target = isCheck ? join(scratch, `${dir}.wasm`) : committed
  if (!existsSync(compiler)) {
    console.log(`${dir}: skipped, needs ${compiler}`)
    continue
  }
  // In its own directory: compilers write paths into programs.
  const { status, stderr, error } = spawnSync(compiler, [...args, target, source], {
    cwd: join(root, dir),
    encoding: 'utf8',
    // Debian's clang would let another program that it finds (wasm-opt) change what it made.
    env: { ...process.env, ...(compiler.startsWith('/usr/bin/') && { PATH: '/usr/bin:/bin' }) },
  })
  const isBuilt = status === 0
  const isSame = isBuilt && readFileSync(target).equals(readFileSync(committed))
  console.log(`${dir}: ${isBuilt ? (isSame ? 'same' : 'differs from the committed module') : 'not built'}`)
  if (!isBuilt) console.error(error?.message ?? stderr)
  if (!isSame) failed = true
}
rmSync(scratch, { recursive: true, force: true })
process.exit(failed ? 1 : 0)

/** Where the program is, or its name when it is nowhere. */
function inPath(name) {
  const places = (process.env.PATH ?? '').split(':').map((one) => join(one, name))
  return places.find((one) => existsSync(one)) ?? name
}
