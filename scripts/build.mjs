// Compiles src/ to dist/ and bundles the one file that enters the WebAssembly sandbox. Run by `npm ci` (prepare).
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '..')
const bin = (name) => join(root, 'node_modules', '.bin', name)

if (!existsSync(bin('tsc'))) {
  console.error('build: the development dependencies are not installed; run `npm ci`')
  process.exit(existsSync(join(root, 'dist')) ? 0 : 1)
}

// What has not changed since the last build is not compiled again; what it knows of that goes with dist/.
run(bin('tsc'), ['-p', 'tsconfig.json', '--incremental', '--tsBuildInfoFile', 'dist/.tsbuildinfo'])

// Data that is read beside the code.
cpSync(join(root, 'src/conformance/corpus'), join(root, 'dist/conformance/corpus'), { recursive: true })

const commit = spawnSync('git', ['rev-parse', 'HEAD'], { cwd: root, encoding: 'utf8' })
writeFileSync(
  join(root, 'dist/build-info.json'),
  `${JSON.stringify({ commit: commit.status === 0 ? commit.stdout.trim() : '', date: new Date().toISOString() })}\n`,
)

const runner = join(root, 'src/executors/wasm/sandbox/runner.ts')
if (existsSync(runner)) {
  run(bin('esbuild'), [
    runner,
    '--bundle',
    '--platform=node',
    '--format=cjs',
    '--target=node20',
    '--log-level=warning',
    `--outfile=${join(root, 'dist/executors/wasm/sandbox/runner.cjs')}`,
  ])
}

const cli = join(root, 'dist/cli/main.js')
if (existsSync(cli)) chmodSync(cli, 0o755)

function run(command, args) {
  const result = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (result.error) throw result.error
  if (result.status !== 0) process.exit(result.status ?? 1)
}
