// Style that matters is a test: no leftovers, no file over the size a reader can hold, no forbidden file names.
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join, relative } from 'node:path'

const LINES_MAX = 700
const VAGUE_NAMES = /^(utils?|helpers?|common|manager|misc|stuff)\.(ts|mjs)$/

/** Returns one line per finding. */
export function checkWords(root) {
  return ['src', 'test', 'bench', 'scripts']
    .flatMap((directory) => files(join(root, directory)))
    .flatMap((file) => {
      const name = relative(root, file)
      const text = readFileSync(file, 'utf8')
      const found = []
      if (VAGUE_NAMES.test(basename(file))) found.push(`${name}: name the subject of the file`)
      if (name.startsWith('src/') && text.split('\n').length > LINES_MAX)
        found.push(`${name}: longer than ${LINES_MAX} lines`)
      text.split('\n').forEach((line, index) => {
        if (/\b(TO[D]O|FIX[M]E|X[X]X)\b/.test(line)) found.push(`${name}:${index + 1}: a leftover note`)
        if (/\b(describe|it|test)\.(only|todo)\(/.test(line))
          found.push(`${name}:${index + 1}: a test that hides others or does nothing`)
      })
      return found
    })
}

function files(directory) {
  let entries
  try {
    entries = readdirSync(directory, { withFileTypes: true })
  } catch {
    return [] // a room that does not exist has no findings
  }
  return entries.flatMap((entry) => {
    if (entry.name === 'fixtures' || entry.name === 'corpus') return []
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return files(path)
    return /\.(ts|mjs)$/.test(entry.name) ? [path] : []
  })
}
