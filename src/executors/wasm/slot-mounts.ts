import type { RunSpec } from '../../ports/index.js'
import type { JobPlan } from './job-plan.js'
import type { WasmExecutorOptions } from './options.js'
import type { SandboxMount, SandboxPreopen } from './sandbox/job.js'
import type { Bind } from './sandbox-command.js'

/** Where a waiting slot has the run's directories: copied and renamed. */
export function warmMounts(run: RunSpec, plan: JobPlan): SandboxMount[] {
  return mountsOf(
    run,
    plan,
    (index) => `/in/${index}`,
    (index) => `/out/${index}`,
  )
}

/** Where a slot made for the run has them. */
export function coldMounts(run: RunSpec, plan: JobPlan): SandboxMount[] {
  return mountsOf(
    run,
    plan,
    (index) => `/vol/${index}`,
    (index) => `/result/${index}`,
  )
}

function mountsOf(
  run: RunSpec,
  plan: JobPlan,
  volumeAt: (index: number) => string,
  outputAt: (index: number) => string,
): SandboxMount[] {
  const mounts: SandboxMount[] = [
    ...plan.volumes.map(({ target, kind, writable }, index) => ({
      target,
      source: volumeAt(index),
      kind,
      writable,
    })),
    ...run.outputs.map(({ path }, index) => ({
      target: path,
      source: outputAt(index),
      kind: 'directory' as const,
      writable: true,
    })),
  ]
  // The root itself may be a volume, also by another spelling.
  const hasTmp = mounts.some(({ target }) => target === '/tmp' || /^[./]*$/.test(target))
  return hasTmp ? mounts : [...mounts, { target: '/tmp', source: '/tmp', kind: 'directory', writable: true }]
}

/** What a slot made for the run binds for them. */
export function coldBinds(run: RunSpec, plan: JobPlan): Bind[] {
  return [
    ...plan.volumes.map(({ hostPath, writable }, index) => ({
      at: `/vol/${index}`,
      writable,
      from: hostPath,
    })),
    ...run.outputs.map(({ hostDir }, index) => ({ at: `/result/${index}`, writable: true, from: hostDir })),
  ]
}

/** `/`, which programs built by Go need, and every directory that is mounted; or the volumes alone. */
export function preopensOf(
  mounts: SandboxMount[],
  plan: JobPlan,
  mode: WasmExecutorOptions['preopens'] = 'tree',
): SandboxPreopen[] {
  const preopens = (from: { kind: string; target: string }[]): SandboxPreopen[] =>
    from.filter(({ kind }) => kind === 'directory').map(({ target }) => ({ name: target, target }))
  if (mode === 'volumes') return preopens(plan.volumes)
  return [{ name: '/', target: '/' }, ...preopens(mounts.filter(({ target }) => target !== '/'))]
}
