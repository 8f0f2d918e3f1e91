import type { Option } from 'commander'
import type { WeirCommand } from '../command.js'
import type { Shell } from './scripts.js'

/** What stands in front of the cursor. */
export interface Cursor {
  command: WeirCommand
  /** Operands of the command that are complete. */
  operands: readonly string[]
  /** Values of flags by long name, without dashes. */
  flags: ReadonlyMap<string, readonly string[]>
  /** The flag whose value the cursor stands in. */
  valueOf?: Option
  /** Behind the image or program of a run, or behind `--`: what follows is not weir's. */
  isForeign: boolean
  /** The text to complete; of `--flag=va` only `va`. */
  current: string
  /** What has to stand before each candidate: `--flag=` where the shell replaces the whole word. */
  prefix: string
}

/** Reads the words up to the cursor; the last is the one to complete, possibly empty. */
export function readWords(program: WeirCommand, words: readonly string[], shell: Shell): Cursor {
  const joined = shell === 'bash' ? joinedAtEquals(words) : { words, isSplit: false }
  const before = joined.words.slice(0, -1)
  const last = joined.words.at(-1) ?? ''
  const walk = new Walk(program)
  for (const word of before) walk.take(word)
  const [flag = '', value] = last.startsWith('--') ? last.split(/=(.*)/s) : [last]
  const named = walk.isForeign || walk.pending !== undefined ? undefined : walk.find(flag)
  if (value !== undefined && named !== undefined) {
    return { ...walk.cursor(), valueOf: named, current: value, prefix: joined.isSplit ? '' : `${flag}=` }
  }
  return { ...walk.cursor(), valueOf: walk.pending, current: last, prefix: '' }
}

/** Goes through the words as the parser would. */
class Walk {
  pending: Option | undefined
  isForeign = false
  private command: WeirCommand
  private readonly operands: string[] = []
  private readonly flags = new Map<string, string[]>()

  constructor(program: WeirCommand) {
    this.command = program
  }

  take(word: string): void {
    if (this.isForeign) return
    if (this.pending !== undefined) {
      this.note(this.pending, word)
      this.pending = undefined
    } else if (word === '--') {
      this.isForeign = true
    } else if (word.startsWith('-') && word !== '-') {
      this.takeFlag(word)
    } else {
      this.takeOperand(word)
    }
  }

  find(flag: string): Option | undefined {
    return this.command.options.find(({ long, short }) => long === flag || short === flag)
  }

  cursor(): Pick<Cursor, 'command' | 'operands' | 'flags' | 'isForeign'> {
    return {
      command: this.command,
      operands: this.operands,
      flags: this.flags,
      isForeign: this.isForeign,
    }
  }

  private takeFlag(word: string): void {
    const [flag = '', value] = word.startsWith('--') ? word.split(/=(.*)/s) : [word]
    const option = this.find(flag)
    if (option === undefined || !(option.required || option.optional)) return
    if (value === undefined) this.pending = option
    else this.note(option, value)
  }

  private takeOperand(word: string): void {
    const inner = this.command.commands.find((one) => one.name() === word) as WeirCommand | undefined
    if (inner !== undefined && this.operands.length === 0) {
      this.command = inner
      return
    }
    this.operands.push(word)
    const isRun = this.command.words === 'docker run' || this.command.words === 'wasm run'
    if (isRun) this.isForeign = true
  }

  private note(option: Option, value: string): void {
    const name = (option.long ?? option.short ?? '').replace(/^-+/, '')
    this.flags.set(name, [...(this.flags.get(name) ?? []), value])
  }
}

/** bash takes `--flag=value` apart into three words. */
function joinedAtEquals(words: readonly string[]): { words: string[]; isSplit: boolean } {
  const result: string[] = []
  let isSplit = false
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? ''
    isSplit = word === '=' && (result.at(-1) ?? '').startsWith('--')
    if (!isSplit) {
      result.push(word)
      continue
    }
    const value = words[index + 1] ?? ''
    result.push(`${result.pop() ?? ''}=${value}`)
    index += 1
  }
  return { words: result, isSplit }
}
