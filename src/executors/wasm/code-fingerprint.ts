import { readFileSync } from 'node:fs'
import { NODE_FLAGS } from './sandbox-command.js'
import type { Toolbox } from './toolbox.js'

/** Everything that compiled code depends on beside the module: how it is written, Node, V8, flags and processor. */
export function codeFingerprint({ arch, nodeVersion, v8Version }: Toolbox): string {
  return ['1', arch, nodeVersion, v8Version, ...NODE_FLAGS, processorFeatures()].join('\n')
}

/** V8 uses what the processor can do, and a data directory may come to another one. */
function processorFeatures(): string {
  try {
    const text = readFileSync('/proc/cpuinfo', 'utf8')
    return /^(?:flags|Features)\s*:\s*(.*)$/m.exec(text)?.[1] ?? ''
  } catch {
    return '' // V8 itself compares them again.
  }
}
