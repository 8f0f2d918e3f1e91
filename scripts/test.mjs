// All checks and all tests; the last line counts them. Skipped tests are listed with their reason. Arguments are vitest's, but for
// --note-durations: writes test/durations.json, by which the longest files begin first.
import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'

const NOTE_DURATIONS = '--note-durations'
const NOTED_FROM_MS = 5_000

const root = join(import.meta.dirname, '..')
const scratch = mkdtempSync(join(tmpdir(), 'weir-test-'))
const report = join(scratch, 'report.json')

step('scripts/build.mjs')
const checksFailed = step('scripts/check.mjs', { mayFail: true }) ? 0 : 1

const vitest = spawnSync(
  process.execPath,
  [
    'node_modules/vitest/vitest.mjs',
    'run',
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
    ...process.argv.slice(2).filter((argument) => argument !== NOTE_DURATIONS),
  ],
  { cwd: root, stdio: 'inherit', env: { ...process.env, WEIR_TEST_BUILT: '1' } },
)
if (process.argv.includes(NOTE_DURATIONS)) noteDurations()
const { passed, failed, skipped, skippedTitles } = count(vitest.status)
rmSync(scratch, { recursive: true })

if (skippedTitles.length > 0) {
  console.log('\nskipped:')
  for (const title of skippedTitles) console.log(`  ${title}`)
}
if (checksFailed > 0) console.log('\nthe checks above failed')
console.log(`\n${passed} passed, ${failed + checksFailed} failed, ${skipped} skipped`)
process.exit(failed + checksFailed === 0 && vitest.status === 0 ? 0 : 1)

function step(script, { mayFail = false } = {}) {
  const result = spawnSync(process.execPath, [script], { cwd: root, stdio: 'inherit' })
  if (result.status === 0) return true
  if (mayFail) return false
  console.log(`\n${script} failed\n0 passed, 1 failed, 0 skipped`)
  process.exit(1)
}

function count(status) {
  let results
  try {
    results = JSON.parse(readFileSync(report, 'utf8'))
  } catch {
    return { passed: 0, failed: status === 0 ? 0 : 1, skipped: 0, skippedTitles: [] }
  }
  const tests = results.testResults.flatMap((file) => file.assertionResults)
  const brokenFiles = results.testResults.filter(
    (file) => file.status === 'failed' && file.assertionResults.every(({ status: one }) => one !== 'failed'),
  )
  const of = (...states) => tests.filter((test) => states.includes(test.status))
  return {
    passed: of('passed').length,
    failed: of('failed').length + brokenFiles.length,
    skipped: of('skipped', 'pending', 'todo').length,
    skippedTitles: of('skipped', 'pending', 'todo').map((test) => test.fullName),
  }
}

/** Those of files that did not run stay as they are. */
function noteDurations() {
  const file = join(root, 'test/durations.json')
  const seconds = new Map(Object.entries(JSON.parse(readFileSync(file, 'utf8'))))
  for (const { name, startTime, endTime } of JSON.parse(readFileSync(report, 'utf8')).testResults) {
    seconds.delete(relative(root, name))
    const ms = endTime - startTime
    if (ms >= NOTED_FROM_MS) seconds.set(relative(root, name), Math.round(ms / 1_000))
  }
  const sorted = [...seconds].toSorted(([a, long], [b, longer]) => longer - long || a.localeCompare(b))
  writeFileSync(file, `${JSON.stringify(Object.fromEntries(sorted), null, 2)}\n`)
}
