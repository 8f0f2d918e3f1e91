import { describe, expect, it } from 'vitest'
import { trapText } from '../../../src/executors/wasm/sandbox/trap-text.js'

function trapIn(...functions: string[]): Error {
  const error = new Error('unreachable')
  const frames = functions.map(
    (name, index) => `    at ${name} (wasm://wasm/entry-1a2b3c4d:wasm-function[${index}]:0x1f)`,
  )
  error.stack = ['RuntimeError: unreachable', ...frames].join('\n')
  return error
}

describe('the functions of a trap', () => {
  it.each([
    ['_ZN4core6option13expect_failed17h047945eda95e3c94E', 'core::option::expect_failed'],
    [
      'jl.wasm._ZN3std9panicking19begin_panic_handler28_$u7b$$u7b$closure$u7d$$u7d$17h8ef066ac41b2c3d4E',
      'std::panicking::begin_panic_handler::{{closure}}',
    ],
    [
      '_ZN46_$LT$rows..Row$u20$as$u20$core..fmt..Debug$GT$3fmt17h0123456789abcdefE',
      '<rows::Row as core::fmt::Debug>::fmt',
    ],
    ['read_row', 'read_row'],
  ])('shows %s as %s', (symbol, shown) => {
    expect(trapText(trapIn(symbol))).toBe(`unreachable (in ${shown})`)
  })

  it('are those of the program, not those with which every Rust program panics', () => {
    const functions = [
      '__rust_start_panic',
      'rust_panic',
      '_ZN3std9panicking20rust_panic_with_hook17h8ef066ac41b2c3d4E',
      '_ZN3std10sys_common9backtrace26__rust_end_short_backtrace17h8ef066ac41b2c3d4E',
      'rust_begin_unwind',
      '_ZN4core9panicking9panic_fmt17h8ef066ac41b2c3d4E',
      '_ZN4core6option13expect_failed17h8ef066ac41b2c3d4E',
      '_ZN4rows8read_row17h8ef066ac41b2c3d4E',
      '_ZN4rows4main17h8ef066ac41b2c3d4E',
      '_ZN4core3ops8function6FnOnce9call_once17h8ef066ac41b2c3d4E',
      '_ZN3std2rt10lang_start28_$u7b$$u7b$closure$u7d$$u7d$17h8ef066ac41b2c3d4E.llvm.1797',
    ]
    expect(trapText(trapIn(...functions))).toBe('unreachable (in rows::read_row ← rows::main)')
  })

  it.each([
    '_ZN99core17h047945eda95e3c94E',
    '_ZN0017h047945eda95e3c94E',
    '_ZNcore17h047945eda95e3c94E',
    '_ZN4core6optionE',
  ])('leaves %s as it is: it is no name of Rust', (symbol) => {
    expect(trapText(trapIn(symbol))).toBe(`unreachable (in ${symbol})`)
  })
})
