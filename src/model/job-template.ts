import { nearestName } from './nearest-name.js'
import { quoted } from './printable.js'
import { callFunction, isTrue, printValue } from './template-functions.js'
import { parseTemplate } from './template-parser.js'
import { templateError } from './template-error.js'
import type { TemplateExpression, TemplateNode } from './template-parser.js'
import type { TemplateValue } from './template-functions.js'

/**
 * Fills in a job file: the part of Go's text/template that job files use.
 *
 * | Written | Becomes |
 * | --- | --- |
 * | `{{.name}}`, `{{.a.b}}`, `{{index . "name"}}` | the variable `name`, `a.b`, `name` |
 * | `{{or (index . "x") "default"}}`, `{{.x \| default "y"}}` | the first that is not empty; here a missing variable is empty |
 * | `{{if eq .a "b"}}…{{else if …}}…{{else}}…{{end}}` | one of the branches |
 * | `{{range .hosts}}…{{.}}…{{end}}` | the body for each part of a comma list; `else` when there is none |
 * | `and or not eq ne lt le gt ge len print printf quote default index` | as in Go (`printf`: `%s %d %v %q %%`) |
 * | `{{- … -}}`, a comment in `{{` and `}}` | blanks around are dropped; nothing |
 *
 * Throws `spec.template` with the line for a variable that is missing and for anything else of Go's language.
 * The result is at most 10 MiB.
 */
export function fillTemplate(text: string, variables: Readonly<Record<string, string>>): string {
  if (!text.includes('{{')) return text
  const output = new Output()
  const known = new Map(Object.entries(variables))
  render(parseTemplate(text), { root: known, dot: known }, output)
  return output.text()
}

/** Where names are looked up: `.` is the variables, or inside `range` one part of the list. */
interface Scope {
  root: ReadonlyMap<string, string>
  dot: ReadonlyMap<string, string> | string
}

class Output {
  private readonly parts: string[] = []
  private length = 0
  private steps = 0

  add(text: string, line: number): void {
    this.steps += 1
    if (this.steps > STEPS_MAX) throw templateError(line, `more than ${STEPS_MAX} steps`)
    this.length += text.length
    if (this.length > OUTPUT_CHARACTERS_MAX) {
      throw templateError(line, `the result is longer than ${OUTPUT_CHARACTERS_MAX} characters`)
    }
    this.parts.push(text)
  }

  text(): string {
    return this.parts.join('')
  }
}

const STEPS_MAX = 1_000_000
const OUTPUT_CHARACTERS_MAX = 10 * 1024 * 1024

function render(nodes: readonly TemplateNode[], scope: Scope, output: Output): void {
  for (const node of nodes) {
    if (node.kind === 'text') {
      output.add(node.text, node.line)
    } else if (node.kind === 'print') {
      output.add(printValue(evaluate(node.expression, scope)), node.line)
    } else if (node.kind === 'if') {
      const branch = node.branches.find(({ condition }) => isTrue(evaluate(condition, scope, true)))
      render(branch?.body ?? node.otherwise, scope, output)
    } else {
      renderRange(node, scope, output)
    }
  }
}

function renderRange(node: TemplateNode & { kind: 'range' }, scope: Scope, output: Output): void {
  const list = printValue(evaluate(node.over, scope))
  const parts = list === '' ? [] : list.split(',').map((part) => part.trim())
  if (parts.length === 0) render(node.otherwise, scope, output)
  for (const part of parts) {
    output.add('', node.line)
    render(node.body, { ...scope, dot: part }, output)
  }
}

/** `lenient`: a missing variable is empty, because the question is whether it is there. */
function evaluate(expression: TemplateExpression, scope: Scope, lenient = false): TemplateValue {
  switch (expression.kind) {
    case 'constant':
      return expression.value
    case 'dot':
      return typeof scope.dot === 'string' ? scope.dot : mapError(expression.line)
    case 'variable':
      return variable(expression, scope, lenient)
    case 'call':
      return call(expression, scope, lenient)
  }
}

function call(
  { name, args, line }: TemplateExpression & { kind: 'call' },
  scope: Scope,
  lenient: boolean,
): TemplateValue {
  if (name === 'index') return indexed(args, scope, line)
  const asksPresence = lenient || PRESENCE_FUNCTIONS.has(name)
  try {
    return callFunction(
      name,
      args.map((argument) => evaluate(argument, scope, asksPresence)),
    )
  } catch (error) {
    if (error instanceof RangeError) throw templateError(line, error.message)
    throw error
  }
}

/** Functions that choose by whether a value is there. */
const PRESENCE_FUNCTIONS: ReadonlySet<string> = new Set(['or', 'and', 'not', 'default'])

/** `index . "name"`: unlike `.name` it is empty when the variable is missing. */
function indexed(args: readonly TemplateExpression[], scope: Scope, line: number): TemplateValue {
  const [map, key] = args
  const isRoot = map?.kind === 'dot' || (map?.kind === 'variable' && map.path === '')
  if (!isRoot || key === undefined || args.length !== 2)
    throw templateError(line, 'index takes "." and one name')
  const from = map.kind === 'dot' ? scope.dot : scope.root
  return typeof from === 'string' ? '' : (from.get(printValue(evaluate(key, scope))) ?? '')
}

function variable(
  { path, fromRoot, line }: TemplateExpression & { kind: 'variable' },
  scope: Scope,
  lenient: boolean,
): string {
  const from = fromRoot ? scope.root : scope.dot
  const value = typeof from === 'string' ? undefined : from.get(path)
  if (value !== undefined) return value
  if (lenient) return ''
  const nearest = nearestName(path, scope.root.keys())
  const hint =
    typeof from === 'string'
      ? `Inside range "." is one part of the list; write $.${path} for the variable`
      : nearest === undefined
        ? `Pass it with -V ${path}=VALUE`
        : `Did you mean ${quoted(nearest)}? Otherwise pass it with -V ${path}=VALUE`
  throw templateError(line, `the variable ${quoted(path)} has no value`, hint)
}

function mapError(line: number): never {
  throw templateError(
    line,
    '"." alone has a value only inside range',
    'Name a variable, for example {{.name}}',
  )
}
