import type { WasmImport } from './wasm-module.js'

/** What a module was made for, as its imports tell, and what to do instead. */
export interface ForeignHost {
  /** For "made by …" or "needs …" in a table: a few words. */
  host: string
  advice: string
}

/**
 * Recognises the host that one import module belongs to; `imports` are those of this module name that nobody provides.
 * Undefined: nothing that is known, so it may be an import module of the program's own.
 */
export function recogniseHost(module: string, imports: readonly WasmImport[]): ForeignHost | undefined {
  const names = imports.map(({ name }) => name)
  return KNOWN_HOSTS.find((known) => known.matches(module, names, imports))
}

interface KnownHost extends ForeignHost {
  matches: (module: string, names: readonly string[], imports: readonly WasmImport[]) => boolean
}

const NO_NETWORK =
  'WebAssembly programs open no connections: give the data with --input https://… and read it from /inputs, write results to /outputs, or ask for HTTP by the import module weir_http_v1 (docs/wasm-http.md)'
const WASI = 'wasi_snapshot_preview1'
const FUNCTIONS_OF_ASSEMBLYSCRIPT = ['abort', 'seed', 'trace', 'console.log', 'Date.now']
const GLOBALS_OF_JAVASCRIPT = ['console', 'Math', 'Date', 'performance', 'Reflect', 'crypto', 'document']

const module =
  (...wanted: readonly string[]) =>
  (name: string): boolean =>
    wanted.includes(name)
const some = (names: readonly string[], pattern: RegExp): boolean => names.some((name) => pattern.test(name))

/** The first that matches counts: those that are certain stand before those that are likely. */
const KNOWN_HOSTS: readonly KnownHost[] = [
  {
    host: 'TinyGo for browsers',
    advice: 'Build it with `tinygo build -target=wasip1`; TinyGo’s target wasm is for JavaScript',
    matches: (name, names) =>
      (name === 'gojs' || name === 'env') &&
      some(names, /^(?:syscall\/js\.|runtime\.(?:ticks|sleepTicks)$)/) &&
      !some(names, /^runtime\.(?:wasmExit|wasmWrite)$/),
  },
  {
    host: 'Go for browsers (GOOS=js)',
    advice: 'Build it with `GOOS=wasip1 GOARCH=wasm go build`, which Go can since version 1.21',
    matches: module('gojs', 'go'),
  },
  {
    host: 'an old draft of WASI (wasi_unstable)',
    advice:
      'Build it again with a toolchain of 2020 or later for wasm32-wasip1 (wasm32-wasi): the draft had other layouts under the same names',
    matches: module('wasi_unstable'),
  },
  {
    host: 'threads (wasi-threads)',
    advice: 'Threads are not supported; build for wasm32-wasip1, not wasm32-wasip1-threads, without -pthread',
    matches: (name, names) => name === 'wasi' && names.includes('thread-spawn'),
  },
  {
    host: 'WASIX (Wasmer)',
    advice: 'Build it with the plain compiler for wasm32-wasip1 instead of cargo-wasix or wasix-libc',
    matches: (name) => name.startsWith('wasix_'),
  },
  {
    host: 'sockets (WasmEdge’s extension)',
    advice: `WASI preview 1 has no way to open a socket. ${NO_NETWORK}`,
    matches: (name, names) => name === WASI && some(names, /^sock_/),
  },
  {
    host: 'machine learning (wasi-nn)',
    advice:
      'The node has no such interface: compile the library for inference into the program, or run it in a container with `weir docker run`',
    matches: (name) => /^wasi_ephemeral_nn$|^wasi:nn/.test(name),
  },
  {
    host: 'HTTP calls',
    advice: NO_NETWORK,
    matches: (name) =>
      /^(?:wasi_(?:experimental_)?http|wasi_ephemeral_(?:sock|http)|http|types)$|^wasi:http/.test(name),
  },
  {
    host: 'a proposal for WASI',
    advice: 'The node provides WASI preview 1 and nothing beyond it: build without this interface',
    matches: (name) => /^wasi_ephemeral_|^wasi_experimental_/.test(name),
  },
  {
    host: 'a WASI 0.2 component',
    advice:
      'It is the inner module of a component, which is not finished yet: `wasm-tools component new`, or cargo build --target wasm32-wasip2, makes the component',
    matches: (name) => /^(?:wasi|cm32p2\|wasi):/.test(name),
  },
  {
    host: 'wasm-bindgen for JavaScript',
    advice:
      'Build it with `cargo build --release --target wasm32-wasip1` and a main function, without wasm-pack; crates that need a browser (js-sys, web-sys, getrandom’s js feature) must go',
    matches: (name) =>
      /^(?:wbg|__wbindgen_placeholder__|__wbindgen_externref_xform__)$|^\.\/.*\.js$/.test(name),
  },
  {
    host: 'Kotlin, Dart or another language for JavaScript',
    advice:
      'Its runtime is JavaScript; where the language can compile for WASI, use that target, else run it in a container',
    matches: (name) =>
      /^(?:js_code|intrinsics|dart2wasm|dart2wasm\.js|teavm\w*|wasm:js-string|'?moonbit:ffi)$/.test(name),
  },
  {
    host: '.NET for browsers (Blazor)',
    advice:
      'Build it for WASI: `dotnet workload install wasi-experimental`, then the runtime identifier wasi-wasm',
    matches: (name, names) =>
      /^(?:dotnet|blazor|mono)/i.test(name) || some(names, /^(?:mono|dotnet|SystemJS)_/),
  },
  {
    host: 'Cheerp for browsers',
    advice: 'Compile the C or C++ source with a WASI SDK: clang --target=wasm32-wasip1',
    matches: (name, names) => /^cheerp/i.test(name) || some(names, /cheerp/i),
  },
  {
    host: 'dynamic linking',
    advice:
      'This is a shared library, which needs a loader: link statically (without -shared, -sSIDE_MODULE and -sMAIN_MODULE)',
    matches: (name, names) =>
      /^GOT\.(?:mem|func)$/.test(name) || (name === 'env' && names.includes('__memory_base')),
  },
  {
    host: 'a plug-in host',
    advice:
      'It is a plug-in for another program (Extism, Envoy), not a program: build a command with a main function',
    matches: (name, names) => name.startsWith('extism') || some(names, /^proxy_[a-z]/),
  },
  {
    host: 'Emscripten for JavaScript',
    advice:
      'Build it with a WASI SDK (clang --target=wasm32-wasip1), or with `emcc -sSTANDALONE_WASM -o main.wasm` without JavaScript features',
    matches: (name, names) =>
      module('env', 'a')(name) &&
      some(names, /^_?emscripten_|^invoke_|^__syscall|^__cxa_|^_?__?abort_js$|^_tzset_js$/),
  },
  {
    host: 'Emscripten, minified',
    advice:
      'Names of one letter are what Emscripten makes of its JavaScript functions: build with `emcc -sSTANDALONE_WASM -o main.wasm`, or with a WASI SDK',
    matches: (name, names) => /^[a-z]$/.test(name) && names.every((one) => /^[A-Za-z_$]{1,2}$/.test(one)),
  },
  {
    host: 'AssemblyScript',
    advice:
      'Build it with `asc main.ts --use abort= -o main.wasm`, or for WASI with @assemblyscript/wasi-shim: --config node_modules/@assemblyscript/wasi-shim/asconfig.json',
    matches: (name, names, imports) =>
      name === 'env' &&
      names.every((one) => FUNCTIONS_OF_ASSEMBLYSCRIPT.includes(one)) &&
      (imports.some(({ name: one, signature }) => one === 'abort' && signature === 'i32,i32,i32,i32->') ||
        names.some((one) => one !== 'abort')),
  },
  {
    host: 'JavaScript',
    advice: 'It calls functions of a browser: build it for WASI, and without bindings to JavaScript',
    matches: (name) => GLOBALS_OF_JAVASCRIPT.includes(name) || name === 'js' || name === 'imports',
  },
  {
    host: 'functions that were never linked',
    advice:
      'The linker left these to somebody else (--allow-undefined, -Wl,--import-undefined): link the library that defines them, or give it with --import-module env=FILE',
    matches: (name, names) => name === 'env' && !names.includes('memory'),
  },
  {
    host: 'memory from outside',
    advice: 'Build it with a memory of its own (without --import-memory, -sIMPORTED_MEMORY or -pthread)',
    matches: (name, names) => name === 'env' && names.includes('memory'),
  },
]
