import { execFile } from 'node:child_process'

/** One graphics card that jobs can be given. */
export interface Gpu {
  vendor: 'NVIDIA' | 'AMD' | 'Intel'
  name: string
  memoryBytes: number
}

/** Runs a program and gives its standard output; rejects when it is missing, fails or takes too long. */
export type RunTool = (program: string, args: readonly string[]) => Promise<string>

/**
 * Asks `nvidia-smi`, `rocm-smi` and `xpu-smi`, 5 s each. A tool that is missing or fails means: no card of that
 * vendor; `problems` tells what a tool that is there complained about.
 */
export async function discoverGpus(run: RunTool = runTool): Promise<{ gpus: Gpu[]; problems: string[] }> {
  const problems: string[] = []
  const found = await Promise.all(
    TOOLS.map(async ({ program, args, parse }) => {
      try {
        return parse(await run(program, args))
      } catch (error) {
        const missing = (error as NodeJS.ErrnoException).code === 'ENOENT'
        if (!missing) problems.push(`${program}: ${error instanceof Error ? error.message : String(error)}`)
        return []
      }
    }),
  )
  return { gpus: found.flat(), problems }
}

const TOOLS: readonly { program: string; args: readonly string[]; parse: (output: string) => Gpu[] }[] = [
  {
    program: 'nvidia-smi',
    args: ['--query-gpu=name,memory.total', '--format=csv,noheader,nounits'],
    parse: parseNvidia,
  },
  { program: 'rocm-smi', args: ['--showproductname', '--showmeminfo', 'vram', '--json'], parse: parseRocm },
  { program: 'xpu-smi', args: ['discovery', '--dump', '2,16'], parse: parseXpu },
]

/** `Tesla T4, 15360` per line; MiB. */
export function parseNvidia(output: string): Gpu[] {
  return output.split('\n').flatMap((line) => {
    const [, name, mebibytes] = /^(.+?),\s*(\d+)\s*$/.exec(line) ?? []
    if (name === undefined) return []
    return [{ vendor: 'NVIDIA' as const, name: name.trim(), memoryBytes: Number(mebibytes) * 1024 ** 2 }]
  })
}

/** `{"card0": {"Card series": "…", "VRAM Total Memory (B)": "…"}}`; other keys describe the system. */
export function parseRocm(output: string): Gpu[] {
  const cards = JSON.parse(output) as Record<string, Record<string, unknown>>
  return Object.entries(cards)
    .filter(([key]) => /^card\d+$/.test(key))
    .map(([, card]) => ({
      vendor: 'AMD' as const,
      name: textOf(card['Card series'] ?? card['Card Series'] ?? card['Card model']),
      memoryBytes: Number(card['VRAM Total Memory (B)'] ?? 0) || 0,
    }))
}

/** A header line, then `"Intel(R) Data Center GPU …","16384.00 MiB"` per card. */
export function parseXpu(output: string): Gpu[] {
  return output
    .split('\n')
    .slice(1)
    .flatMap((line) => {
      const [, name, mebibytes] = /^"?(.+?)"?,\s*"?([\d.]+)\s*MiB"?\s*$/.exec(line) ?? []
      if (name === undefined) return []
      return [{ vendor: 'Intel' as const, name, memoryBytes: Math.floor(Number(mebibytes) * 1024 ** 2) }]
    })
}

function textOf(value: unknown): string {
  return typeof value === 'string' ? value : 'unknown'
}

function runTool(program: string, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(program, args, { timeout: 5_000, maxBuffer: 1024 ** 2 }, (error, stdout) => {
      if (error === null) resolve(stdout)
      else reject(error)
    })
  })
}
