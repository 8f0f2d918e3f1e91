import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { loadConfig } from '../../../src/config/index.js'
import { isWeirError } from '../../../src/errors.js'
import { parseHostPattern } from '../../../src/model/index.js'
import { readEgressPolicy } from '../../../src/node/egress-policy.js'
import type { FuzzTarget } from '../target.js'
import { byteChanges, changed, hostish } from '../texts.js'

const line = fc.oneof(
  { weight: 3, arbitrary: fc.domain() },
  { weight: 2, arbitrary: hostish },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      '',
      '# a comment',
      'example.com # why',
      '\ufeffexample.com',
      '^.*\\.example\\.com$',
    ),
  },
)

/** List files of operators, as editors and scripts may leave them. */
export const allowlists: FuzzTarget = {
  name: 'allowlist-files',
  promise:
    'a list file is taken whole, each line being one host pattern, or refused whole with the number of each bad line',
  open: () => {
    const dir = mkdtempSync(join(tmpdir(), 'weir-fuzz-'))
    const file = join(dir, 'allow.txt')
    const values = { ...loadConfig({ dataDir: dir }).values, 'Egress.AllowFile': file }
    return {
      property: fc.asyncProperty(
        fc.array(line, { maxLength: 8 }),
        fc.constantFrom('\n', '\r\n'),
        byteChanges,
        async (lines, ending, changes) => {
          const bytes = changed(Buffer.from(lines.join(ending)), changes)
          writeFileSync(file, bytes)
          const policy = await readEgressPolicy(values, []).catch((error: unknown) => {
            if (isWeirError(error, 'config.invalid') && error.message.includes(file)) return undefined
            throw error
          })
          if (policy === undefined) return
          const text = bytes.toString('utf8')
          const all = text.split(/\r?\n/)
          if (all.some((one) => one.trim().includes('\r')))
            throw new Error('a line may hide behind another one')
          const count = all.filter((one) => one.replace(/(^|\s)#.*$/s, '').trim() !== '').length
          if (policy.allow.length !== count)
            throw new Error(`${count} lines became ${policy.allow.length} patterns`)
          for (const one of policy.allow) {
            if (parseHostPattern(one).text !== one) throw new Error(`"${one}" is not canonical`)
          }
        },
      ),
      close: () => rmSync(dir, { recursive: true }),
    }
  },
}
