/** Frames that V8 keeps of a trap: the functions that were running. */
export const TRAP_FRAMES = 8
const NAME_CHARACTERS_MAX = 80
const START_CODE = /^(?:_start(?:\.command_export)?|__main_void|__original_main|__main_argc_argv)$/

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
  return names
}

/** V8 puts the name of the module before that of the function. */
function withoutModule(name: string): string {
  const plain = name.replace(/^[\w.-]+\.wasm\./, '').replace(/[^\x20-\x7e]/g, '?')
  return plain.length > NAME_CHARACTERS_MAX ? `${plain.slice(0, NAME_CHARACTERS_MAX)}…` : plain
}
