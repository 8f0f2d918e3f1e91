/** What an expression of a job template can be. */
export type TemplateValue = string | number | boolean

/** Go's notion of truth: not empty, not zero, not false. */
export function isTrue(value: TemplateValue): boolean {
  return value !== '' && value !== 0 && value !== false
}

export function printValue(value: TemplateValue): string {
  return String(value)
}

export function templateFunctionNames(): string[] {
  return ['index', ...FUNCTIONS.keys()]
}

/** Calls one of the functions. Throws RangeError with the reason when name or arguments do not fit. */
export function callFunction(name: string, args: readonly TemplateValue[]): TemplateValue {
  const found = FUNCTIONS.get(name)
  if (found === undefined) throw new RangeError(`unknown function "${name}"`)
  if (args.length < found.min || args.length > found.max) {
    throw new RangeError(`${name} takes ${argumentCount(found)}, found ${args.length}`)
  }
  return found.call(args)
}

interface TemplateFunction {
  min: number
  max: number
  call: (args: readonly TemplateValue[]) => TemplateValue
}

const MANY = 100

const FUNCTIONS: ReadonlyMap<string, TemplateFunction> = new Map<string, TemplateFunction>([
  ['or', { min: 1, max: MANY, call: (args) => args.find(isTrue) ?? last(args) }],
  ['and', { min: 1, max: MANY, call: (args) => args.find((value) => !isTrue(value)) ?? last(args) }],
  ['not', { min: 1, max: 1, call: ([value]) => !isTrue(value ?? '') }],
  ['eq', { min: 2, max: MANY, call: ([first, ...rest]) => rest.some((value) => same(first, value)) }],
  ['ne', { min: 2, max: 2, call: ([a, b]) => !same(a, b) }],
  ['lt', { min: 2, max: 2, call: ([a, b]) => order(a, b) < 0 }],
  ['le', { min: 2, max: 2, call: ([a, b]) => order(a, b) <= 0 }],
  ['gt', { min: 2, max: 2, call: ([a, b]) => order(a, b) > 0 }],
  ['ge', { min: 2, max: 2, call: ([a, b]) => order(a, b) >= 0 }],
  ['len', { min: 1, max: 1, call: ([value]) => Buffer.byteLength(printValue(value ?? '')) }],
  // In a pipeline the piped value comes last: `.x | default "y"` is `default "y" .x`.
  [
    'default',
    { min: 2, max: 2, call: ([fallback, value]) => (isTrue(value ?? '') ? (value ?? '') : (fallback ?? '')) },
  ],
  ['print', { min: 0, max: MANY, call: (args) => args.map(printValue).join('') }],
  ['printf', { min: 1, max: MANY, call: ([format, ...rest]) => formatted(printValue(format ?? ''), rest) }],
  ['quote', { min: 1, max: 1, call: ([value]) => JSON.stringify(printValue(value ?? '')) }],
])

function argumentCount({ min, max }: TemplateFunction): string {
  if (max === MANY) return `${min} or more arguments`
  return max === 1 ? 'one argument' : `${max} arguments`
}

function last(args: readonly TemplateValue[]): TemplateValue {
  return args[args.length - 1] ?? ''
}

/** Variables are always text: `eq .n 3` compares with the number's digits. */
function same(a: TemplateValue | undefined, b: TemplateValue | undefined): boolean {
  return printValue(a ?? '') === printValue(b ?? '')
}

/** By number when both are numbers, else by text. */
function order(a: TemplateValue | undefined, b: TemplateValue | undefined): number {
  const [left, right] = [printValue(a ?? ''), printValue(b ?? '')]
  const isNumber = /^-?\d+(?:\.\d+)?$/
  if (isNumber.test(left) && isNumber.test(right)) return Number(left) - Number(right)
  return left < right ? -1 : Number(left > right)
}

function formatted(format: string, args: readonly TemplateValue[]): string {
  let used = 0
  const text = format.replace(/%(.?)/gs, (_match, verb: string) => {
    if (verb === '%') return '%'
    const value = args[used++]
    if (value === undefined)
      throw new RangeError(`printf ${JSON.stringify(format)} has more verbs than arguments`)
    if (verb === 'q') return JSON.stringify(printValue(value))
    if (verb === 'd' && !/^-?\d+$/.test(printValue(value))) {
      throw new RangeError(`printf %d needs a whole number, found ${JSON.stringify(value)}`)
    }
    if (verb === 's' || verb === 'v' || verb === 'd') return printValue(value)
    throw new RangeError(`printf knows %s, %d, %v, %q and %%, found %${verb}`)
  })
  if (used < args.length)
    throw new RangeError(`printf ${JSON.stringify(format)} has fewer verbs than arguments`)
  return text
}
