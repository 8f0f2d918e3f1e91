/** Frames that V8 keeps of a trap: the functions that were running, and the dozen that a Rust program panics with. */
export const TRAP_FRAMES = 24
const FUNCTIONS_SHOWN_MAX = 8
const NAME_CHARACTERS_MAX = 80
const START_CODE = /^(?:_start(?:\.command_export)?|__main_void|__original_main|__main_argc_argv)$/
/** How Rust panics, and what it calls `main` with: the same for every program. */
const RUST_MACHINERY =
  /^(?:__rust_\w+|rust_panic|rust_begin_unwind|std::(?:panicking|rt|sys_common::backtrace|sys::backtrace)::.+|core::panicking::.+|core::(?:option|result)::\w+_failed|core::ops::function::FnOnce::call_once.*)$/

/** What a trap was, with the functions in which it happened, innermost first, where the module has names for them. */
export function trapText(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error)
  const what = /maximum call stack size exceeded/i.test(message) ? 'stack overflow' : message
  const functions = error instanceof Error ? functionsOf(error.stack ?? '') : []
  return functions.length === 0 ? what : `${what} (in ${functions.join(' ← ')})`
}

/** Lines of V8's stacks: `at name (wasm://wasm/entry-1a2b3c4d:wasm-function[7]:0x1f3)`, without a name when there is none. */
function functionsOf(stack: string): string[] {
  const names: string[] = []
  for (const line of stack.split('\n')) {
    const [, name, index] =
      /^ *at (?:(.+) \()?wasm:\/\/wasm\/.*:wasm-function\[(\d+)\]:0x[0-9a-f]+\)?$/.exec(line) ?? []
    if (index === undefined) continue
    const shown = name === undefined ? `function ${index}` : withoutModule(name)
    // A recursion shows once, and what calls main not at all.
    if (names.at(-1) !== shown && !START_CODE.test(shown)) names.push(shown)
  }
  const own = names.filter((name) => !RUST_MACHINERY.test(name))
  return (own.length === 0 ? names : own).slice(0, FUNCTIONS_SHOWN_MAX)
}

/** V8 puts the name of the module before that of the function. */
function withoutModule(name: string): string {
  const plain = rustPath(name.replace(/^[\w.-]+\.wasm\./, '')).replace(/[^\x20-\x7e]/g, '?')
  return plain.length > NAME_CHARACTERS_MAX ? `${plain.slice(0, NAME_CHARACTERS_MAX)}…` : plain
}

/**
 * `_ZN4core6option13expect_failed17h1a2b…E` as `core::option::expect_failed`: Rust's symbols in their legacy form, which are
 * lengths and names, with a hash at the end. Everything else stays as it is.
 */
function rustPath(symbol: string): string {
  const inner = /^_ZN(.+)17h[0-9a-f]{16}E(?:\.llvm\.\d+)?$/.exec(symbol)?.[1]
  if (inner === undefined) return symbol
  const parts: string[] = []
  for (let rest = inner; rest !== ''; ) {
    const [digits = ''] = /^[0-9]{1,4}/.exec(rest) ?? []
    const end = digits.length + Number(digits)
    if (digits === '' || end > rest.length || end === digits.length) return symbol
    parts.push(rest.slice(digits.length, end))
    rest = rest.slice(end)
  }
  return parts.map(rustPart).join('::')
}

const RUST_SIGNS: Readonly<Record<string, string>> = {
  SP: '@',
  BP: '*',
  RF: '&',
  LT: '<',
  GT: '>',
  LP: '(',
  RP: ')',
  C: ',',
  u7b: '{',
  u7d: '}',
  u20: ' ',
  u27: "'",
  u5b: '[',
  u5d: ']',
}

/** One part of the path: `_$LT$` and the like stand for signs, `..` for `::`. */
function rustPart(part: string): string {
  return part
    .replace(/^_(?=\$)/, '')
    .replace(/\$([A-Za-z0-9]{1,3})\$/g, (whole, sign: string) => RUST_SIGNS[sign] ?? whole)
    .replaceAll('..', '::')
}
