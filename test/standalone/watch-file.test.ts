import { mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it } from 'vitest'
import { watchFile } from '../../src/watch-file.js'

it('tells of a file that was written, replaced by an older one, or has a time of whole seconds', async () => {
  const dir = mkdtempSync(join(tmpdir(), 'weir-watch-'))
  const file = join(dir, 'list')
  writeFileSync(file, '0')
  const stop = new AbortController()
  let told = 0
  const watching = watchFile(file, async () => void told++, stop.signal)
  try {
    const write = (text: string, seconds?: number): void => {
      writeFileSync(`${file}.new`, text)
      if (seconds !== undefined) utimesSync(`${file}.new`, seconds, seconds)
      renameSync(`${file}.new`, file)
    }
    const changes: [string, number?][] = [['1'], ['2', 1_500_000_000.25], ['3', 1_500_000_000], ['4']]
    for (const [index, [text, seconds]] of changes.entries()) {
      write(text, seconds)
      await expect.poll(() => told, { timeout: 10_000 }).toBe(index + 1)
    }
  } finally {
    stop.abort()
    await watching
    rmSync(dir, { recursive: true })
  }
})
