import { printable } from './printable.js'
import { templateError } from './template-error.js'

export type TemplateExpression =
  | { kind: 'constant'; value: string | number | boolean; line: number }
  | { kind: 'dot'; line: number }
  /** `.a.b` is the variable `a.b`; `$.a` is looked up among the variables also inside range; `$` has an empty path. */
  | { kind: 'variable'; path: string; fromRoot: boolean; line: number }
  | { kind: 'call'; name: string; args: TemplateExpression[]; line: number }

export type TemplateNode =
  | { kind: 'text'; text: string; line: number }
  | { kind: 'print'; expression: TemplateExpression; line: number }
  | {
      kind: 'if'
      branches: { condition: TemplateExpression; body: TemplateNode[] }[]
      otherwise: TemplateNode[]
      line: number
    }
  | { kind: 'range'; over: TemplateExpression; body: TemplateNode[]; otherwise: TemplateNode[]; line: number }

/** Takes a template apart. Throws `spec.template`. */
export function parseTemplate(source: string): TemplateNode[] {
  const pieces = new PieceReader(splitPieces(source))
  const nodes = readBlock(pieces, 0)
  const stray = pieces.next()
  if (stray !== undefined) throw templateError(stray.line, `{{${stray.text}}} without {{if}} or {{range}}`)
  return nodes
}

/** A stretch of plain text, or what stood between `{{` and `}}`. */
interface Piece {
  isAction: boolean
  text: string
  line: number
}

const NESTING_MAX = 50
const PIECES_MAX = 100_000
const ACTION_LENGTH_MAX = 64 * 1024

function splitPieces(source: string): Piece[] {
  const pieces: Piece[] = []
  const lines = new LineFinder(source)
  let position = 0
  let trimNext = false
  for (;;) {
    const open = source.indexOf('{{', position)
    let plain = source.slice(position, open < 0 ? source.length : open)
    if (trimNext) plain = plain.trimStart()
    if (open >= 0 && /^\{\{-\s/.test(source.slice(open, open + 4))) plain = plain.trimEnd()
    if (plain !== '') pieces.push({ isAction: false, text: plain, line: lines.at(position) })
    if (open < 0) return pieces
    const line = lines.at(open)
    const close = actionEnd(source, open + 2, line)
    const inner = source.slice(open + 2, close)
    trimNext = /\s-$/.test(inner)
    const text = inner
      .replace(/^-(?=\s)/, '')
      .replace(/\s-$/, '')
      .trim()
    const isComment = text.startsWith('/*') && text.indexOf('*/') === text.length - 2
    if (!isComment && text.length > ACTION_LENGTH_MAX) {
      throw templateError(line, `{{ with ${text.length} characters, at most ${ACTION_LENGTH_MAX} are allowed`)
    }
    if (!isComment) pieces.push({ isAction: true, text, line })
    if (pieces.length > PIECES_MAX) throw templateError(line, `more than ${PIECES_MAX} pieces`)
    position = close + 2
  }
}

/** The `}}` that ends an action: not one inside quotes or a comment. */
function actionEnd(source: string, from: number, line: number): number {
  const opener = /"|`|\/\*|\}\}/g
  opener.lastIndex = from
  for (let match = opener.exec(source); match !== null; match = opener.exec(source)) {
    if (match[0] === '}}') return match.index
    // What is not closed is not searched for again from the next opener: that would take quadratic time.
    opener.lastIndex = closeOf(source, match.index, match[0], line)
  }
  throw templateError(line, '{{ without }}', LITERAL_BRACES)
}

const LITERAL_BRACES = 'Write {{"{{"}} for the characters themselves, or use --no-template.'

/** Where a quoted text or a comment that begins at `from` is over. */
function closeOf(source: string, from: number, opener: string, line: number): number {
  if (opener === '"') return closingQuote(source, from, line) + 1
  const closer = opener === '`' ? '`' : '*/'
  const end = source.indexOf(closer, from + opener.length)
  if (end >= 0) return end + closer.length
  const what = opener === '`' ? 'a quote' : 'a comment'
  throw templateError(line, `${what} that is not closed`, LITERAL_BRACES)
}

/** By hand: a pattern that repeats over a long text uses up the stack. */
function closingQuote(source: string, from: number, line: number): number {
  for (let at = from + 1; at < source.length && source[at] !== '\n'; at++) {
    if (source[at] === '"') return at
    if (source[at] === '\\') at += 1
  }
  throw templateError(line, 'a quote that is not closed', LITERAL_BRACES)
}

/** Counts line ends once, moving forward only. */
class LineFinder {
  private readonly source: string
  private position = 0
  private line = 1

  constructor(source: string) {
    this.source = source
  }

  at(position: number): number {
    for (;;) {
      const next = this.source.indexOf('\n', this.position)
      if (next < 0 || next >= position) return this.line
      this.position = next + 1
      this.line += 1
    }
  }
}

class PieceReader {
  private readonly pieces: readonly Piece[]
  private index = 0

  constructor(pieces: readonly Piece[]) {
    this.pieces = pieces
  }

  peek(): Piece | undefined {
    return this.pieces[this.index]
  }

  next(): Piece | undefined {
    return this.pieces[this.index++]
  }
}

/** Reads up to the end of the text or to an `else` or `end`, which is left for the caller. */
function readBlock(pieces: PieceReader, depth: number): TemplateNode[] {
  const nodes: TemplateNode[] = []
  for (let piece = pieces.peek(); piece !== undefined; piece = pieces.peek()) {
    if (piece.isAction && /^(?:end|else)\b/.test(piece.text)) return nodes
    pieces.next()
    if (depth > NESTING_MAX)
      throw templateError(piece.line, `blocks are nested more than ${NESTING_MAX} deep`)
    nodes.push(
      piece.isAction
        ? readAction(piece, pieces, depth)
        : { kind: 'text', text: piece.text, line: piece.line },
    )
  }
  return nodes
}

function readAction(piece: Piece, pieces: PieceReader, depth: number): TemplateNode {
  const [word = '', rest = ''] = splitWord(piece.text)
  if (word === 'if') return readIf(piece, rest, pieces, depth)
  if (word === 'range') {
    const over = parseExpression(rest, piece.line)
    const body = readBlock(pieces, depth + 1)
    const otherwise = readElse(pieces, piece, depth)
    return { kind: 'range', over, body, otherwise, line: piece.line }
  }
  if (UNSUPPORTED.has(word)) throw templateError(piece.line, `{{${word}}} is not supported in job files`)
  return { kind: 'print', expression: parseExpression(piece.text, piece.line), line: piece.line }
}

const UNSUPPORTED: ReadonlySet<string> = new Set(['with', 'define', 'template', 'block', 'break', 'continue'])

function readIf(piece: Piece, condition: string, pieces: PieceReader, depth: number): TemplateNode {
  const branches = [{ condition: parseExpression(condition, piece.line), body: readBlock(pieces, depth + 1) }]
  for (;;) {
    const next = pieces.peek()
    const elseIf = next === undefined ? null : /^else\s+if\s+([\s\S]+)$/.exec(next.text)
    if (next === undefined || elseIf === null) break
    pieces.next()
    branches.push({
      condition: parseExpression(elseIf[1] ?? '', next.line),
      body: readBlock(pieces, depth + 1),
    })
  }
  return { kind: 'if', branches, otherwise: readElse(pieces, piece, depth), line: piece.line }
}

/** An optional `else` with its block, then `end`. */
function readElse(pieces: PieceReader, opened: Piece, depth: number): TemplateNode[] {
  let otherwise: TemplateNode[] = []
  if (pieces.peek()?.text === 'else') {
    pieces.next()
    otherwise = readBlock(pieces, depth + 1)
  }
  const end = pieces.next()
  if (end === undefined) throw templateError(opened.line, `{{${printable(opened.text, 40)}}} without {{end}}`)
  if (end.text !== 'end')
    throw templateError(end.line, `{{${printable(end.text, 40)}}} where {{end}} was expected`)
  return otherwise
}

function splitWord(text: string): string[] {
  const match = /^([A-Za-z]+)(?:\s+([\s\S]*))?$/.exec(text)
  return match === null ? [] : [match[1] ?? '', match[2] ?? '']
}

/** `a b | c d`: a pipeline, whose value so far is the last argument of the next call. */
function parseExpression(text: string, line: number): TemplateExpression {
  const tokens = new TokenReader(tokenise(text, line), line)
  const expression = readPipeline(tokens, 0)
  const rest = tokens.peek()
  if (rest !== undefined) throw templateError(line, `${rest} where the expression should end`)
  return expression
}

function readPipeline(tokens: TokenReader, depth: number): TemplateExpression {
  if (depth > NESTING_MAX)
    throw templateError(tokens.line, `parentheses are nested more than ${NESTING_MAX} deep`)
  let value = readCommand(tokens, depth)
  while (tokens.accept('|')) {
    const next = readCommand(tokens, depth)
    if (next.kind !== 'call') throw templateError(tokens.line, 'only a function can stand behind "|"')
    value = { ...next, args: [...next.args, value] }
  }
  return value
}

function readCommand(tokens: TokenReader, depth: number): TemplateExpression {
  const first = tokens.next('an expression')
  if (!FUNCTION_NAME.test(first) || first === 'true' || first === 'false')
    return readOperand(first, tokens, depth)
  const args: TemplateExpression[] = []
  for (
    let token = tokens.peek();
    token !== undefined && token !== '|' && token !== ')';
    token = tokens.peek()
  ) {
    args.push(readOperand(tokens.next('an argument'), tokens, depth))
  }
  return { kind: 'call', name: first, args, line: tokens.line }
}

function readOperand(token: string, tokens: TokenReader, depth: number): TemplateExpression {
  const { line } = tokens
  if (token === '(') {
    const inner = readPipeline(tokens, depth + 1)
    if (!tokens.accept(')')) throw templateError(line, '( without )')
    return inner
  }
  if (token === '.') return { kind: 'dot', line }
  if (token === '$') return { kind: 'variable', path: '', fromRoot: true, line }
  if (token.startsWith('$.')) return { kind: 'variable', path: token.slice(2), fromRoot: true, line }
  if (token.startsWith('.')) return { kind: 'variable', path: token.slice(1), fromRoot: false, line }
  if (token.startsWith('`')) return { kind: 'constant', value: token.slice(1, -1), line }
  if (token.startsWith('"')) return { kind: 'constant', value: unquote(token, line), line }
  if (token === 'true' || token === 'false') return { kind: 'constant', value: token === 'true', line }
  if (/^-?\d/.test(token)) return { kind: 'constant', value: Number(token), line }
  // A function without arguments where a value is expected.
  if (FUNCTION_NAME.test(token)) return { kind: 'call', name: token, args: [], line }
  throw templateError(line, `${printable(token, 40)} where a value was expected`)
}

const FUNCTION_NAME = /^[A-Za-z_]\w*$/
const TOKEN =
  /\s+|"(?:[^"\\\n]|\\.)*"|`[^`]*`|\$?\.[A-Za-z_][\w-]*(?:\.[A-Za-z_][\w-]*)*|\$|\.|[()|]|-?\d+(?:\.\d+)?|[A-Za-z_]\w*/y

function tokenise(text: string, line: number): string[] {
  const tokens: string[] = []
  TOKEN.lastIndex = 0
  while (TOKEN.lastIndex < text.length) {
    const from = TOKEN.lastIndex
    const token = TOKEN.exec(text)?.[0]
    if (token === undefined)
      throw templateError(line, `cannot read ${JSON.stringify(printable(text.slice(from), 30))}`)
    if (token.trim() !== '') tokens.push(token)
  }
  return tokens
}

class TokenReader {
  readonly line: number
  private readonly tokens: readonly string[]
  private index = 0

  constructor(tokens: readonly string[], line: number) {
    this.tokens = tokens
    this.line = line
  }

  peek(): string | undefined {
    return this.tokens[this.index]
  }

  next(what: string): string {
    const token = this.tokens[this.index++]
    if (token === undefined) throw templateError(this.line, `expected ${what}`)
    return token
  }

  accept(token: string): boolean {
    if (this.peek() !== token) return false
    this.index += 1
    return true
  }
}

function unquote(token: string, line: number): string {
  try {
    return JSON.parse(token) as string
  } catch {
    throw templateError(line, `cannot read the text ${printable(token, 40)}`)
  }
}
