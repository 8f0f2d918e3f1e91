import { fieldPlace, itemPlace } from './spec-problem.js'
import type { InputSourceSpec, SpecConfig } from './job-spec.js'
import type { Place, ProblemList } from './spec-problem.js'

/** A module as it was read: an input source of its own, or the path of one among the task's inputs. */
type ModuleAsRead = string | InputSourceSpec

/**
 * Gives every module of a wasm engine the stored form: an input source with a target.
 *
 * A path stands for the input that is mounted there, or for a file below an input's target; the module then has that
 * input's source, and the path as its target. Modules of their own get a target that nobody else uses.
 */
export function resolveWasmModules(
  engine: SpecConfig,
  inputs: readonly InputSourceSpec[],
  at: Place,
  problems: ProblemList,
): SpecConfig {
  const params = engine.Params
  if (engine.Type !== 'wasm' || params === undefined) return engine
  const resolve = (module: unknown, target: string, place: Place): InputSourceSpec =>
    typeof module === 'string'
      ? moduleAtPath(module, inputs, place, problems)
      : withTarget(module as InputSourceSpec, target)

  const paramsPlace = fieldPlace(at, 'Params')
  const resolved: Record<string, unknown> = { ...params }
  if (isModule(params.EntryModule)) {
    resolved.EntryModule = resolve(
      params.EntryModule,
      '/wasm/entry.wasm',
      fieldPlace(paramsPlace, 'EntryModule'),
    )
  }
  if (Array.isArray(params.ImportModules)) {
    const listPlace = fieldPlace(paramsPlace, 'ImportModules')
    resolved.ImportModules = params.ImportModules.map((module: unknown, index) =>
      resolve(module, `/wasm/imports/module_${index}.wasm`, itemPlace(listPlace, index)),
    )
  }
  return { ...engine, Params: resolved }
}

function isModule(value: unknown): value is ModuleAsRead {
  return typeof value === 'string' ? value !== '' : typeof value === 'object' && value !== null
}

function moduleAtPath(
  path: string,
  inputs: readonly InputSourceSpec[],
  place: Place,
  problems: ProblemList,
): InputSourceSpec {
  const covering = inputs.filter(({ Target }) => path === Target || path.startsWith(`${Target}/`))
  const input = covering.toSorted((a, b) => b.Target.length - a.Target.length)[0]
  if (input !== undefined) return { Source: input.Source, Alias: input.Alias, Target: path }
  const missing: InputSourceSpec = { Source: { Type: '' }, Alias: '', Target: path }
  if (!path.startsWith('/')) return missing // Which was said where the path was read.
  problems.add(
    place,
    {
      message: `no input source provides the module ${path}`,
      hint: 'Add an input source whose Target is this path',
    },
    path,
  )
  return missing
}

function withTarget(module: InputSourceSpec, target: string): InputSourceSpec {
  return module.Target === '' ? { ...module, Target: target } : module
}
