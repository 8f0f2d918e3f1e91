import { describe, expect, it } from 'vitest'
import { fillTemplate, parseJobText, task } from '../../src/model/index.js'
import { refusal } from './job-fixture.js'
import type { SpecProblem } from '../../src/model/index.js'

const YAML_JOB = `# a comment
type: batch
tasks:
  - name: main
    engine:
      type: docker
      params:
        image: alpine
        parameters: [echo, "{{.word}}"]
`

describe('job files', () => {
  it('are YAML or JSON, with templates filled in', () => {
    const { spec } = parseJobText(YAML_JOB, { templateVariables: { word: 'hi' } })
    expect(task(spec).Engine.Params).toEqual({ Image: 'alpine', Parameters: ['echo', 'hi'] })
    expect(parseJobText(JSON.stringify(spec)).spec).toEqual(spec)
  })

  it('are taken as they are with noTemplate', () => {
    const { spec } = parseJobText(YAML_JOB, { noTemplate: true })
    expect(task(spec).Engine.Params).toMatchObject({ Parameters: ['echo', '{{.word}}'] })
  })

  it('report every mistake with line and column', () => {
    const text =
      'type: batch\ntasks:\n  - name: main\n    engine: {type: docker, params: {image: A}}\n    netwrok: {}\n    env:\n      A: 5\n'
    const error = refusal(() => parseJobText(text, { fileName: 'job.yaml' }))
    const problems = error.details.problems as SpecProblem[]
    expect(problems.map(({ path, line, column }) => `${path} ${line}:${column}`).toSorted()).toEqual([
      'Tasks[0].Engine.Params.Image 4:37',
      'Tasks[0].Env.A 7:7',
      'Tasks[0].netwrok 5:5',
    ])
    expect(error.message).toContain('Cannot use job file "job.yaml"')
  })

  it('place what is missing at what should have held it, in JSON too', () => {
    const error = refusal(() => parseJobText('{\n "Type": "batch",\n "Tasks": [\n  {"Name": "x"}\n ]\n}'))
    expect(error.details.problems).toEqual([
      { path: 'Tasks[0].Engine', message: 'nil spec config', line: 4, column: 3 },
    ])
  })

  it.each<[string, string, string]>([
    ['YAML that cannot be read', 'type: [batch', 'line 1'],
    ['a key twice', 'type: batch\ntype: ops\n', 'the key "type" is given twice (line 2, column 1)'],
    ['nothing', '', 'empty/nil job'],
    ['several documents', 'type: batch\n---\ntype: ops\n', 'Cannot read the job'],
    ['a million brackets', '['.repeat(1_000_000), 'nested too deeply'],
    ['deep JSON', `${'{"a":'.repeat(100_000)}1${'}'.repeat(100_000)}`, 'unknown field "a"'],
    ['deep dashes', '- '.repeat(100_000), 'nested too deeply'],
    [
      'deep indentation',
      Array.from({ length: 3000 }, (_, i) => `${' '.repeat(i)}a:\n`).join(''),
      'nested too deeply',
    ],
    [
      'an alias bomb',
      'a: &a [x,x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: [*c,*c,*c,*c,*c,*c,*c,*c,*c,*c]',
      'alias',
    ],
    [
      'a reference to itself',
      'tasks: [{name: a, engine: {type: x, params: &p {a: *p}}}]',
      'nested too deeply',
    ],
    ['an alias that does not exist', 'a: *b', 'Cannot read the job'],
    ['a tag of its own', 'type: !!js/function "x"', ''],
  ])('refuse %s', (_what, text, words) => {
    const error = refusal(() => parseJobText(text))
    expect(error.code).toBe('spec.invalid')
    expect(error.message).toContain(words)
  })

  it('refuse more than 10 MiB', () => {
    expect(refusal(() => parseJobText(' '.repeat(10 * 1024 * 1024 + 1))).code).toBe('spec.too_large')
  })
})

describe('job templates', () => {
  it('are refused when one expression is megabytes long', () => {
    const text = `{{ "${'a'.repeat(9_000_000)}" }}`
    expect(() => parseJobText(text)).toThrow('at most 65536 are allowed')
  })

  it.each([
    ['comments', '/* '],
    ['quotes', '"\\'],
    ['back quotes', '` " '],
    ['quotes and lines', '"\n'],
  ])('are refused without delay when they are full of %s that nobody closes', (_, opener) => {
    const begin = performance.now()
    expect(() => parseJobText(`{{${opener.repeat(300_000)}`)).toThrow('Cannot fill in the job template')
    // Searching on from each of them would take minutes.
    expect(performance.now() - begin).toBeLessThan(2_000)
  })

  it.each<[string, string]>([
    ['{{.name}}', 'weir'],
    ['{{ .name }}', 'weir'],
    ['{{.db.host}}', 'h'],
    ['{{index . "name"}}', 'weir'],
    ['{{or (index . "nope") "default"}}', 'default'],
    ['{{.nope | default "d"}}', 'd'],
    ['{{default "d" .name}}', 'weir'],
    ['{{.name | printf "%s-%d" "x" | quote}}', '!'],
    ['{{printf "%s=%v %d%%" .name .n 5}}', 'weir=3 5%'],
    ['{{print .name "-" .n}}', 'weir-3'],
    ['{{len .name}}', '4'],
    ['{{quote .name}}', '"weir"'],
    ['{{if eq .name "weir"}}a{{else}}b{{end}}', 'a'],
    ['{{if and (gt .n 2) (lt .n 10)}}a{{end}}', 'a'],
    ['{{if not .empty}}a{{end}}', 'a'],
    ['{{if .nope}}a{{else if ne .n "4"}}b{{else}}c{{end}}', 'b'],
    ['{{range .list}}[{{.}}{{$.n}}]{{end}}', '[a3][b3]'],
    ['{{range .empty}}x{{else}}none{{end}}', 'none'],
    ['a  {{- .n -}}  b', 'a3b'],
    ['a {{/* {{ comment }} */}}b', 'a b'],
    ['{{"}}"}}{{`{{`}}', '}}{{'],
    ['{ {x} }', '{ {x} }'],
  ])('%s becomes %s', (text, filled) => {
    const variables = { name: 'weir', n: '3', 'db.host': 'h', list: 'a, b', empty: '' }
    if (filled === '!') expect(() => fillTemplate(text, variables)).toThrow('whole number')
    else expect(fillTemplate(text, variables)).toBe(filled)
  })

  it.each<[string, string]>([
    ['a\nb {{.nmae}}', 'line 2: the variable "nmae" has no value'],
    ['{{.name', '{{ without }}'],
    ['{{ "never closed }}', 'a quote that is not closed'],
    ['{{ `never closed }}', 'a quote that is not closed'],
    ['{{/* never closed }}', 'a comment that is not closed'],
    ['{{end}}', '{{end}} without'],
    ['{{if .name}}x', '{{if .name}} without {{end}}'],
    ['{{template "x"}}', 'not supported'],
    ['{{env "HOME"}}', 'unknown function "env"'],
    ['{{.name | .name}}', 'only a function can stand behind "|"'],
    ['{{(.name}}', '( without )'],
    ['{{}}', 'expected an expression'],
    ['{{.}}', '"." alone'],
    ['{{.name .name}}', 'where the expression should end'],
    ['{{range .list}}{{.x}}{{end}}', 'the variable "x" has no value'],
    ['{{$x := 1}}', 'cannot read'],
  ])('%s is refused: %s', (text, words) => {
    const error = refusal(() => fillTemplate(text, { name: 'weir', list: 'a' }))
    expect(error.code).toBe('spec.template')
    expect(error.message).toContain(words)
  })

  it('name the nearest variable', () => {
    expect(refusal(() => fillTemplate('{{.nmae}}', { name: 'x' })).hint).toContain('Did you mean "name"?')
  })

  it('stop when the result or the work grows without bound', () => {
    const list = Array.from({ length: 2000 }, () => 'x').join(',')
    const error = refusal(() => fillTemplate('{{range .l}}{{range $.l}}{{.}}{{end}}{{end}}', { l: list }))
    expect(error.message).toContain('steps')
  })

  it('never fill in what a variable holds', () => {
    expect(fillTemplate('{{.a}}', { a: '{{.b}}', b: 'no' })).toBe('{{.b}}')
  })
})
