import { formatBytesExact } from '../model/resources.js'
import { writeValue } from './read-value.js'
import { CONFIG_SCHEMA, type ConfigKey, type ConfigName } from './schema.js'

/**
 * A complete configuration file: every key with its default, and what it means above it. Reading it changes nothing;
 * people delete what they do not need and change the rest. Keys that hold secrets are commented out.
 */
export function defaultConfigFile(): string {
  const root: Branch = { children: new Map() }
  for (const name of Object.keys(CONFIG_SCHEMA) as ConfigName[]) plant(root, name.split('.'), name)
  return `${HEAD}${branchLines(root, '').join('\n')}\n`
}

const HEAD = `# Every key of weir's configuration with its default. Delete what you do not change.
# Durations are written 30s, 5m or 1h30m; sizes 512mb or 1gi; a list is [a, b], a map {name: value}.
`
const COLUMNS = 100

interface Branch {
  name?: ConfigName
  children: Map<string, Branch>
}

function plant(branch: Branch, parts: readonly string[], name: ConfigName): void {
  const [first, ...rest] = parts
  if (first === undefined) {
    branch.name = name
    return
  }
  const child = branch.children.get(first) ?? { children: new Map<string, Branch>() }
  branch.children.set(first, child)
  plant(child, rest, name)
}

function branchLines(branch: Branch, indent: string): string[] {
  return [...branch.children].flatMap(([part, child]) => {
    // The rooms of the file stand apart.
    const blank = indent === '' ? [''] : []
    if (child.name !== undefined) return [...blank, ...leafLines(part, child.name, indent)]
    const lines = branchLines(child, `${indent}  `)
    // A map without anything in it would be a value.
    const isComment = lines.every((line) => line.trimStart().startsWith('#'))
    return [...blank, `${indent}${isComment ? '# ' : ''}${part}:`, ...lines]
  })
}

function leafLines(part: string, name: ConfigName, indent: string): string[] {
  const key: ConfigKey = CONFIG_SCHEMA[name]
  const words = key.words === undefined ? '' : ` (${key.words.join(', ')})`
  const comment = wrapped(`${key.description}${words}`, COLUMNS - indent.length - 2)
  const line = `${part}: ${valueText(key)}`
  return [
    ...comment.map((text) => `${indent}# ${text}`),
    `${indent}${key.secret === true ? `# ${line}` : line}`,
  ]
}

/** JSON is YAML; quantities are written as people read them. */
function valueText(key: ConfigKey): string {
  if (key.kind === 'durationMs') return writeValue(key, key.default)
  if (key.kind === 'bytes') return key.default === 0 ? '0' : formatBytesExact(key.default as number)
  return JSON.stringify(key.default)
}

function wrapped(text: string, width: number): string[] {
  const lines: string[] = []
  for (const word of text.split(' ')) {
    const last = lines.at(-1)
    if (last === undefined || last.length + word.length >= width) lines.push(word)
    else lines[lines.length - 1] = `${last} ${word}`
  }
  return lines
}
