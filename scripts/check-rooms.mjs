// The walls of the house: which room may import which, entry through index.ts, no import cycles.
import { readdirSync, readFileSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'

const CORE = ['model', 'ports']
/** Room → rooms it may import. Files directly in src/ (errors, version, package-root) are open to all. */
const MAY_IMPORT = {
  model: [],
  ports: ['model'],
  access: CORE,
  egress: CORE,
  orchestrator: CORE,
  compute: CORE,
  'executors/docker': CORE,
  'executors/wasm': CORE,
  archive: ['model'],
  sources: ['archive', ...CORE],
  publishers: ['archive', ...CORE],
  stores: CORE,
  transports: CORE,
  api: ['orchestrator', ...CORE],
  client: ['archive', 'model'],
  config: ['model'],
  cli: ['client', 'config', 'model', 'node', 'standalone', 'conformance'],
  conformance: CORE,
  standalone: ['access', 'egress', 'stores', ...CORE],
  demo: ['client', 'config', 'model', 'node'],
  node: [
    'model',
    'ports',
    'access',
    'egress',
    'orchestrator',
    'compute',
    'executors/docker',
    'executors/wasm',
    'sources',
    'publishers',
    'stores',
    'transports',
    'api',
    'client',
    'config',
    'standalone',
  ],
}

/** Returns one line per broken rule. */
export function checkRooms(root) {
  const source = join(root, 'src')
  const problems = []
  const graph = new Map()
  for (const file of sources(source)) {
    const targets = []
    for (const { specifier, typeOnly } of imports(readFileSync(file, 'utf8'))) {
      if (!specifier.startsWith('.')) continue
      const target = resolve(dirname(file), specifier).replace(/\.js$/, '.ts')
      if (!typeOnly) targets.push(target)
      const problem = crossing(source, file, target)
      if (problem !== undefined) problems.push(`${relative(root, file)}: ${problem}`)
    }
    graph.set(file, targets)
  }
  for (const cycle of cycles(graph))
    problems.push(`import cycle: ${cycle.map((file) => relative(source, file)).join(' → ')}`)
  return problems
}

function crossing(source, from, to) {
  const [here, there] = [roomOf(source, from), roomOf(source, to)]
  if (there === undefined || here === there) return undefined
  if (here === undefined) return `a file of no room imports the room ${there}`
  const allowed = MAY_IMPORT[here]
  if (allowed === undefined) return `the room ${here} is not on the plan in scripts/check-rooms.mjs`
  if (!allowed.includes(there)) return `${here} may not import ${there}`
  const inside = relative(join(source, there), to)
  // model and ports are all contract: a file of theirs may be named directly, which keeps start-up small.
  if (inside !== 'index.ts' && !CORE.includes(there))
    return `${there} is entered through its index.ts, not through ${inside}`
  return undefined
}

function roomOf(source, file) {
  const parts = relative(source, file).split('/')
  if (parts.length === 1) return undefined
  return parts[0] === 'executors' ? parts.slice(0, 2).join('/') : parts[0]
}

function sources(directory) {
  return readdirSync(directory, { withFileTypes: true }).flatMap((entry) => {
    const path = join(directory, entry.name)
    if (entry.isDirectory()) return sources(path)
    return entry.name.endsWith('.ts') ? [path] : []
  })
}

function* imports(text) {
  const withoutComments = text.replace(/\/\*[\s\S]*?\*\//g, '').replace(/^\s*\/\/.*$/gm, '')
  for (const match of withoutComments.matchAll(
    /^\s*(?:import|export)\s+(type\s+)?[^'"`;]*?from\s+'([^']+)'/gm,
  ))
    yield { specifier: match[2], typeOnly: match[1] !== undefined }
  for (const match of withoutComments.matchAll(/^\s*import\s+'([^']+)'/gm))
    yield { specifier: match[1], typeOnly: false }
  // A lazy import is a direction all the same, but no cycle at load time.
  for (const match of withoutComments.matchAll(/\bimport\(\s*'([^']+)'\s*\)/g))
    yield { specifier: match[1], typeOnly: true }
}

/** One cycle per strongly connected group, found by depth-first search. */
function cycles(graph) {
  const state = new Map()
  const path = []
  const found = []
  const visit = (file) => {
    state.set(file, 'open')
    path.push(file)
    for (const next of graph.get(file) ?? []) {
      if (state.get(next) === 'open') found.push([...path.slice(path.indexOf(next)), next])
      else if (!state.has(next)) visit(next)
    }
    path.pop()
    state.set(file, 'done')
  }
  for (const file of graph.keys()) if (!state.has(file)) visit(file)
  return found
}
