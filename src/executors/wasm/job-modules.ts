import { link, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { CodeCache } from './code-cache.js'
import type { LoadedModule, LoadedModules } from './load-modules.js'
import type { ModuleFile } from './sandbox/job.js'
import type { Slot } from './slot.js'

/** A module of a run with its compiled code, if there is some. */
export interface JobModule extends LoadedModule {
  /** Under which its code is kept; undefined when none is. */
  key: string | undefined
  code: string | undefined
}

/** Such a module is compiled faster than its code is found. */
const CODE_MODULE_BYTES_MIN = 4_096

/** The modules that a run has compiled, with their code: the entry module first, or the parts of a component. */
export async function findCode(codes: CodeCache | undefined, modules: LoadedModules): Promise<JobModule[]> {
  const found: JobModule[] = []
  for (const { name, bytes } of modules.parts ?? [modules.entry, ...modules.imports]) {
    const key = bytes.length < CODE_MODULE_BYTES_MIN ? undefined : codes?.keyOf(bytes)
    found.push({ name, bytes, key, code: key === undefined ? undefined : await codes?.find(key) })
  }
  return found
}

/** Puts modules and code where the sandbox sees them, read-only. Code that has just gone is left out of `modules` too. */
export function bringModules(slot: Slot, modules: JobModule[]): Promise<ModuleFile[]> {
  const at = (name: string): string => join(slot.dir, 'mod', name)
  return Promise.all(
    modules.map(async (one, index) => {
      await writeFile(at(`${index}.wasm`), one.bytes)
      const module = `/mod/${index}.wasm`
      if (one.code === undefined) return { module }
      try {
        await link(one.code, at(`${index}.code`))
        return { module, code: `/mod/${index}.code` }
      } catch {
        one.code = undefined // It has made room for other code.
        return { module }
      }
    }),
  )
}

/** Puts a component where the sandbox sees it; what is compiled are its parts. */
export async function bringComponent(slot: Slot, { bytes }: LoadedModule): Promise<ModuleFile> {
  await writeFile(join(slot.dir, 'mod', 'component'), bytes)
  return { module: '/mod/component' }
}

/** Whether nothing had to be compiled but what is too small for its code to be kept. */
export function isCached(modules: readonly JobModule[], fromCode: number): boolean {
  const kept = modules.filter(({ key }) => key !== undefined).length
  return kept > 0 && fromCode === kept
}

/** Has compiled for the next job what this one had to compile. `fromCode`: how many of the modules had code that V8 took. */
export async function compileForNext(
  codes: CodeCache,
  modules: JobModule[],
  fromCode: number,
): Promise<void> {
  const offered = modules.filter(({ code }) => code !== undefined).length
  for (const { key, bytes, code } of modules) {
    if (key === undefined) continue
    if (code === undefined) codes.want(key, bytes)
    // Which of several it was is not known.
    else if (fromCode < offered) await codes.reject(key)
  }
}
