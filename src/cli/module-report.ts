import { printable } from '../model/printable.js'
import { formatBytes } from '../model/resources.js'
import { renderTable } from './table.js'
import { tableLayout } from './output-format.js'
import type { ImportGroup } from '../model/wasm-import-groups.js'
import type { ValidationReport } from '../model/wasm-validation.js'
import type { WasmModule } from '../model/wasm-module.js'
import type { Column } from './table.js'
import type { Terminal } from './terminal.js'

/** A module that was looked at. */
export interface LookedAt {
  /** As the user wrote it. */
  file: string
  cid: string
  bytes: number
  report: ValidationReport
}

/** What `wasm validate --output json` prints. */
export function reportAsObject({ file, cid, bytes, report }: LookedAt): Record<string, unknown> {
  const { valid, problems, entryPoints, module, component, importGroups, asksForHttp } = report
  const imports = importGroups.map(({ module: name, imports: items, providedBy = '', belongsTo = '' }) => ({
    Module: name,
    ProvidedBy: providedBy,
    BelongsTo: belongsTo,
    Items: items.map((one) => ({ Name: one.name, Kind: one.kind, Signature: one.signature })),
  }))
  return {
    File: file,
    CID: cid,
    Bytes: bytes,
    Valid: valid,
    Problems: problems,
    EntryPoints: entryPoints,
    AsksForHTTP: asksForHttp,
    ...(module === undefined
      ? {}
      : {
          Kind: kindOf(module),
          Memory: memoryOf(module),
          Imports: imports,
          Exports: module.exports.map(({ name, kind, signature }) => ({
            Name: name,
            Kind: kind,
            Signature: signature,
          })),
        }),
    ...(component === undefined
      ? {}
      : {
          Kind: 'component',
          CoreModules: component.modules.map(({ start, end, module: core }) => ({
            Bytes: end - start,
            Memory: memoryOf(core),
          })),
          Imports: imports,
          Exports: component.exports.map((name) => ({ Name: name, Kind: 'instance', Signature: '' })),
        }),
  }
}

/** The same for people: facts, then where the imports come from. */
export function reportAsText({ file, cid, bytes, report }: LookedAt, terminal: Terminal): string {
  const { module, component, importGroups, entryPoints } = report
  const facts: [string, string][] = [
    ['File', printable(file, 200)],
    ['CID', cid],
    ['Size', formatBytes(bytes)],
  ]
  if (module !== undefined) {
    facts.push(['Kind', KINDS[kindOf(module)]], ['Memory', memoryText(module)])
    if (entryPoints.length > 0) facts.push(['Entry points', shortList(entryPoints)])
  }
  if (component !== undefined) {
    facts.push(['Kind', 'component (WASI 0.2)'], ['Core modules', String(component.modules.length)])
    facts.push(['Exports', component.exports.length === 0 ? 'none' : shortList(component.exports)])
  }
  const width = Math.max(...facts.map(([name]) => name.length)) + 2
  const head = facts.map(([name, value]) => `${name.padEnd(width)}${value}\n`).join('')
  if (importGroups.length === 0) return head
  return `${head}\n${renderTable(importGroups, COLUMNS, tableLayout(terminal, {}))}`
}

const COLUMNS: Column<ImportGroup>[] = [
  { header: 'IMPORTS FROM', value: ({ module }) => module, cutFirst: 2 },
  { header: 'NUMBER', value: ({ imports }) => String(imports.length), alignRight: true, cutFirst: 0 },
  {
    header: 'PROVIDED BY',
    value: ({ providedBy, belongsTo }) =>
      providedBy ?? (belongsTo === undefined ? 'nobody' : `nobody: belongs to ${belongsTo}`),
    cutFirst: 1,
  },
]

const KINDS = {
  command: 'command: starts at _start',
  reactor: 'library (reactor): needs --entry-point',
  library: 'library: needs --entry-point',
} as const

function kindOf({ exports }: WasmModule): keyof typeof KINDS {
  const has = (name: string): boolean => exports.some((one) => one.name === name && one.kind === 'func')
  if (has('_start')) return 'command'
  return has('_initialize') ? 'reactor' : 'library'
}

const PAGE_BYTES = 65_536

function memoryOf({ memories: [memory] }: WasmModule): Record<string, unknown> {
  if (memory === undefined) return {}
  const { min, max, shared, is64 } = memory
  return {
    InitialBytes: min * PAGE_BYTES,
    ...(max === undefined ? {} : { MaximumBytes: max * PAGE_BYTES }),
    Shared: shared,
    Is64: is64,
  }
}

function memoryText({ memories: [memory] }: WasmModule): string {
  if (memory === undefined) return 'none'
  const start = `${formatBytes(memory.min * PAGE_BYTES)} at the start`
  return memory.max === undefined ? start : `${start}, ${formatBytes(memory.max * PAGE_BYTES)} at most`
}

function shortList(names: readonly string[]): string {
  const shown = names.slice(0, 8).map((name) => printable(name, 60))
  return `${shown.join(', ')}${names.length > shown.length ? ` and ${names.length - shown.length} more` : ''}`
}
