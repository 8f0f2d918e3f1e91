import { shellWord } from './shell-word.js'
import { formatDuration, millisecondsOf } from './times.js'
import type { WireJob, WireTask } from '../client/index.js'

/**
 * What a job was asked to do, in the words of the flags, for the head of its description; empty values are left out.
 * `startedMs`: when the version that is described was submitted.
 */
export function jobFacts(job: WireJob, startedMs: number, nowMs: number): (readonly [string, string])[] {
  const [task] = job.Tasks
  return [
    ['Engine', task?.Engine.Type ?? ''],
    // The module of a WebAssembly job mostly travels inside it and has no name.
    [task?.Engine.Type === 'wasm' ? 'Arguments' : 'Program', task === undefined ? '' : programText(task)],
    ['Resources', task === undefined ? '' : resourcesText(task)],
    ['Priority', job.Priority === 0 ? '' : String(job.Priority)],
    ['Labels', pairsText(job.Labels)],
    ['Time limit', task === undefined ? '' : limitText(task)],
    ['Took', tookText(job, startedMs, nowMs)],
  ]
}

/** The image or module and its arguments, as a shell would take them. */
function programText({ Engine: { Params } }: WireTask): string {
  const values = (Params ?? {}) as Record<string, unknown>
  const list = (value: unknown): string[] =>
    Array.isArray(value) ? value.filter((one): one is string => typeof one === 'string') : []
  const image = typeof values.Image === 'string' ? [values.Image] : []
  const words = [...image, ...list(values.Entrypoint), ...list(values.Parameters)]
  const text = words.slice(0, WORDS_MAX).map(shellWord).join(' ')
  return words.length > WORDS_MAX || text.length > TEXT_MAX ? `${text.slice(0, TEXT_MAX)}…` : text
}

function resourcesText({ Resources }: WireTask): string {
  return [
    amount(Resources.CPU, 'CPU'),
    amount(Resources.Memory, 'memory'),
    amount(Resources.Disk, 'disk'),
    amount(Resources.GPU, 'GPU'),
  ]
    .filter((text) => text !== '')
    .join(', ')
}

function amount(text: string | undefined, name: string): string {
  return text === undefined || text === '' || text === '0' ? '' : `${text} ${name}`
}

function pairsText(pairs: Readonly<Record<string, string>> | null): string {
  return Object.entries(pairs ?? {})
    .slice(0, WORDS_MAX)
    .map(([key, value]) => (value === '' ? key : `${key}=${value}`))
    .join(', ')
}

function limitText({ Timeouts }: WireTask): string {
  const limits = [
    [Timeouts.TotalTimeout, 'in all'],
    [Timeouts.ExecutionTimeout, 'each execution'],
    [Timeouts.QueueTimeout, 'waiting for a node'],
  ] as const
  return limits
    .filter(([seconds]) => (seconds ?? 0) > 0)
    .map(([seconds, what]) => `${formatDuration((seconds ?? 0) * 1000)} ${what}`)
    .join(', ')
}

function tookText(job: WireJob, startedMs: number, nowMs: number): string {
  const isOver = ['Completed', 'Failed', 'Stopped'].includes(job.State.StateType)
  const end = isOver ? millisecondsOf(job.ModifyTime) : nowMs
  const took = formatDuration(end - startedMs)
  return isOver ? took : `${took} so far`
}

const WORDS_MAX = 40
const TEXT_MAX = 300
