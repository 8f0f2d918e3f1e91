// docs/errors.md lists exactly the codes of src/errors.ts, with the same meaning; docs/configuration.md exactly the
// keys of src/config/schema.ts; docs/cli.md what the commands say about themselves; the table of docs/api.md every
// operation. `node scripts/check-catalogue.mjs --write` makes the pages anew.
import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'

/** Returns one line per difference. Needs a build. */
export function checkCatalogue(root) {
  return pages(root).flatMap(({ file, text }) => {
    const path = join(root, file)
    if (!existsSync(path)) return [`${file} is missing; run node scripts/check-catalogue.mjs --write`]
    return readFileSync(path, 'utf8') === text
      ? []
      : [`${file} differs from the source; run node scripts/check-catalogue.mjs --write`]
  })
}

function pages(root) {
  const script = `
    const { ERROR_CODES } = await import(${url(root, 'dist/errors.js')})
    const { CONFIG_SCHEMA, variableOf, writeValue } = await import(${url(root, 'dist/config/index.js')})
    const keys = Object.entries(CONFIG_SCHEMA).map(([name, key]) => ({ name, variable: variableOf(name), fallback: writeValue(key, key.default), kind: key.kind, description: key.description }))
    const { buildProgram, leavesOf } = await import(${url(root, 'dist/cli/program.js')})
    const { EXAMPLES } = await import(${url(root, 'dist/cli/examples.js')})
    const flagsOf = (command) => command.options.filter(({ hidden }) => !hidden).map(({ flags, description, helpGroupHeading = 'Flags:' }) => ({ flags, description, group: helpGroupHeading }))
    const commands = leavesOf(buildProgram({}, () => undefined)).filter(({ words }) => words !== 'help').map(({ words, command }) => ({ words, description: command.description(), operands: command.registeredArguments.map((one) => { const name = one.name() + (one.variadic ? '…' : ''); return one.required ? '<' + name + '>' : '[' + name + ']' }).join(' '), flags: flagsOf(command), examples: EXAMPLES[words] ?? [] }))
    const { createApiServer } = await import(${url(root, 'dist/api/index.js')})
    const { OPERATIONS } = await import(${url(root, 'dist/api/operations.js')})
    const api = await createApiServer({ jobs: {}, identity: { nodeId: 'n-1' }, nodeInfo: () => undefined, version: { weir: '0' } })
    await api.fastify.ready()
    const { paths } = api.fastify.swagger()
    const operations = Object.entries(OPERATIONS).map(([name, { summary }]) => { const [method, path] = name.split(' '); const parameters = paths[path]?.[method.toLowerCase()]?.parameters ?? []; return { method, path, summary, query: parameters.filter((one) => one.in === 'query').map((one) => one.name) } })
    await api.close()
    process.stdout.write(JSON.stringify({ codes: ERROR_CODES, keys, commands, operations }))`
  const { codes, keys, commands, operations } = JSON.parse(evaluate(root, script))
  return [
    { file: 'docs/errors.md', text: errorsPage(codes) },
    { file: 'docs/configuration.md', text: configurationPage(keys) },
    { file: 'docs/cli.md', text: commandsPage(commands) },
    {
      file: 'docs/api.md',
      text: withOperations(readFileSync(join(root, 'docs/api.md'), 'utf8'), operations),
    },
  ]
}

const OPERATIONS_START =
  '<!-- Made from src/api/operations.ts by scripts/check-catalogue.mjs; do not edit this table. -->'
const OPERATIONS_END = '<!-- End of the table. -->'

/** The page with its table of operations made anew; everything else on it is written by people. */
function withOperations(page, operations) {
  const [start, end] = [page.indexOf(OPERATIONS_START), page.indexOf(OPERATIONS_END)]
  if (start < 0 || end < start) throw new Error('docs/api.md has lost the marks of its table of operations')
  const cell = (text) => text.replaceAll('|', '\\|')
  const rows = operations.map(({ method, path, summary, query }) => {
    const names = query.map((name) => `\`${name}\``).join(', ')
    return `| \`${method} ${path.replace(/^\/api\/v1/, '')}\` | ${cell(summary)} | ${names} |`
  })
  const table = `| Method and path | Gives | Query |\n| --- | --- | --- |\n${rows.join('\n')}\n`
  return `${page.slice(0, start)}${OPERATIONS_START}\n\n${table}\n${page.slice(end)}`
}

function errorsPage(codes) {
  const rows = Object.entries(codes).map(([code, meaning]) => `| \`${code}\` | ${meaning} |`)
  return `<!-- Made from src/errors.ts by scripts/check-catalogue.mjs; do not edit. -->
# Errors

Every error has a code that never changes its meaning, a message that quotes the value, and mostly a hint that says what
to do. The API gives the code, and so does \`weir job describe ID --output json\` for a job that failed; scripts should match
on it and never on the message.

| Code | Meaning |
| --- | --- |
${rows.join('\n')}
`
}

function configurationPage(keys) {
  const cell = (text) => text.replaceAll('|', '\\|')
  const rows = keys.map(
    ({ name, kind, fallback, description }) =>
      `| \`${name}\` | ${kind} | ${fallback === '' ? '' : `\`${fallback}\``} | ${cell(description)} |`,
  )
  return `<!-- Made from src/config/schema.ts by scripts/check-catalogue.mjs; do not edit. -->
# Configuration

Defaults < files < environment < flags < \`-c Key=Value\`. Files are YAML: those given with \`-c FILE\`, or
\`config.yaml\` in the data directory (\`--data-dir\`, \`WEIR_DIR\`, else \`~/.weir\`). Keys may be nested or dotted and
are matched in any case. The environment variable of \`API.Host\` is \`WEIR_API_HOST\`, and so on. Mistakes are all
reported at once, before anything listens.

\`weir config list\` shows every key with its value and where the value came from; \`weir config set KEY=VALUE\` writes it.

\`\`\`yaml
# A node that lets jobs reach two sites and nothing else.
JobAdmissionControl:
  AcceptNetworkedJobs: true
Egress:
  Allow: [example.com, .example.org]
Compute:
  AllowListedLocalPaths: ["/data/**", "/scratch:rw"]
\`\`\`

| Key | Kind | Default | Meaning |
| --- | --- | --- | --- |
${rows.join('\n')}
`
}

const GLOBAL_GROUP = 'Global flags:'

function commandsPage(commands) {
  const links = commands.map(
    ({ words, description }) =>
      `| [\`weir ${words}\`](#weir-${words.replaceAll(' ', '-')}) | ${description} |`,
  )
  const globals = commands[0].flags.filter(({ group }) => group === GLOBAL_GROUP)
  return `<!-- Made from the commands of src/cli by scripts/check-catalogue.mjs; do not edit. -->
# All commands

\`weir COMMAND --help\` prints the same. Flags stand before the image or program; what follows belongs to it. On/off flags
also take \`=true\` and \`=false\`. An id may be any unique beginning of it. What was asked for goes to standard output,
progress, advice and errors to standard error; what the exit codes mean is in [exit-codes.md](exit-codes.md), where values
come from and which variables are read in [environment.md](environment.md).

| Command | Does |
| --- | --- |
${links.join('\n')}

Every command also takes:

${flagTable(globals)}
${commands.map(commandSection).join('\n')}`
}

function commandSection({ words, description, operands, flags, examples }) {
  const tables = [...groupsOf(flags)]
    .filter(([group]) => group !== GLOBAL_GROUP)
    .map(([group, own]) => (group === 'Flags:' ? '' : `${group.replace(/:$/, '')}:\n\n`) + flagTable(own))
  const usage = `weir ${words} [flags]${operands === '' ? '' : ` ${operands}`}`
  return [
    `## weir ${words}\n\n${description}.\n\n    ${usage}\n`,
    ...tables,
    ...(examples.length === 0 ? [] : [`\`\`\`sh\n${examples.join('\n')}\n\`\`\`\n`]),
  ].join('\n')
}

function flagTable(flags) {
  const rows = flags.map(
    ({ flags: names, description }) =>
      `| \`${names.replaceAll('|', '\\|')}\` | ${description.replaceAll('|', '\\|')} |`,
  )
  return `| Flag | Meaning |\n| --- | --- |\n${rows.join('\n')}\n`
}

function groupsOf(flags) {
  const groups = new Map()
  for (const flag of flags) groups.set(flag.group, [...(groups.get(flag.group) ?? []), flag])
  return groups
}

function evaluate(root, script) {
  const result = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    cwd: root,
    encoding: 'utf8',
  })
  if (result.status !== 0) throw new Error(`the catalogues cannot be read; build first\n${result.stderr}`)
  return result.stdout
}

function url(root, file) {
  return JSON.stringify(pathToFileURL(join(root, file)).href)
}

if (process.argv[2] === '--write') {
  const root = join(import.meta.dirname, '..')
  for (const { file, text } of pages(root)) writeFileSync(join(root, file), text)
}
