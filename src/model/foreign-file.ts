/** What a file is that was taken for a WebAssembly module, and how to get one from it. */
export interface ForeignFile {
  problem: string
  hint: string
}

const BUILD = 'Compile the program for the target wasm32-wasip1 (wasm32-wasi)'

/** Recognises what people send instead of a core module by its first bytes. Undefined: nothing that is known. */
export function recogniseForeignFile(bytes: Uint8Array): ForeignFile | undefined {
  const start = Buffer.from(bytes.subarray(0, 512)).toString('latin1')
  const binary = SIGNATURES.find(({ magic }) => start.startsWith(magic))
  if (binary !== undefined) return { problem: binary.problem, hint: binary.hint }
  const text = start.replace(/^\u00ef\u00bb\u00bf/, '').trimStart()
  const known = TEXTS.find(({ pattern }) => pattern.test(text))
  if (known !== undefined) return { problem: known.problem, hint: known.hint }
  return isText(start)
    ? { problem: 'this is a text file', hint: `${BUILD} and name the .wasm file` }
    : undefined
}

const UNPACK = 'Unpack it first'
const NATIVE = { problem: 'this is a native program', hint: BUILD }

/** The first bytes, as Latin-1. */
const SIGNATURES: readonly (ForeignFile & { magic: string })[] = [
  { magic: '\x7fELF', problem: 'this is a native program of Linux (ELF)', hint: BUILD },
  { magic: 'MZ', ...NATIVE },
  { magic: '\xcf\xfa\xed\xfe', ...NATIVE },
  { magic: '\xca\xfe\xba\xbe', problem: 'this is a Java class or a native program of macOS', hint: BUILD },
  {
    magic: '!<arch>\n',
    problem: 'this is a library of object files (ar)',
    hint: 'Link it into a program: let the compiler driver do it, without -c',
  },
  {
    magic: 'BC\xc0\xde',
    problem: 'this is LLVM bitcode',
    hint: 'Link it into a program: let the compiler driver do it, without -c and -emit-llvm',
  },
  { magic: '\x1f\x8b', problem: 'it is compressed with gzip', hint: `${UNPACK}: gunzip FILE` },
  { magic: '\x28\xb5\x2f\xfd', problem: 'it is compressed with zstd', hint: `${UNPACK}: unzstd FILE` },
  { magic: '\xfd7zXZ', problem: 'it is compressed with xz', hint: `${UNPACK}: unxz FILE` },
  { magic: 'BZh', problem: 'it is compressed with bzip2', hint: `${UNPACK}: bunzip2 FILE` },
  { magic: 'PK\x03\x04', problem: 'this is a zip archive', hint: 'Unpack it and name the .wasm file in it' },
  {
    magic: 'version https://git-lfs',
    problem: 'this is a pointer of Git LFS, not the file itself',
    hint: 'Fetch the file: git lfs pull',
  },
]

const TEXTS: readonly (ForeignFile & { pattern: RegExp })[] = [
  {
    pattern: /^(?:\(module|\(component|;;|\(;)/,
    problem: 'this is WebAssembly text, not a binary module',
    hint: 'Convert it with `wat2wasm`',
  },
  {
    pattern: /^<(?:!doctype|html|\?xml|head|body)/i,
    problem: 'this is an HTML or XML page, perhaps the error of a server',
    hint: 'Download the file again, and look at what the server answers: curl -fLO URL fails instead of saving a page',
  },
  {
    pattern: /^[{[]\s*["[{\]}]/,
    problem: 'this is JSON, perhaps the error of a server',
    hint: 'Name the .wasm file, or download it again',
  },
  {
    pattern: /^#!/,
    problem: 'this is a script',
    hint: 'Run it in a container with `weir docker run`, or run an interpreter that was compiled for WASI on it',
  },
]

/** No control characters but white space, as text has it. */
function isText(latin1: string): boolean {
  return latin1.length > 0 && !/[^\t\n\r\x20-\x7e\x80-\xff]/.test(latin1)
}
