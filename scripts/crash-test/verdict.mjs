import { execFileSync } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { gunzipSync } from 'node:zlib'
import { expectedOutput } from './workload.mjs'

/** Compares what was acknowledged with what is there. Returns each broken promise as a sentence. */
export async function judge({ client, workload, server }) {
  await server.ready()
  const broken = []
  const totals = { executions: 0, lost: 0, startedAgain: 0 }
  const present = await jobsByName(client)
  for (const entry of workload.sent) {
    const jobs = present.get(entry.name) ?? []
    if (entry.id === undefined) broken.push(`${entry.name} was never acknowledged, in two minutes of trying`)
    if (jobs.length > 1) broken.push(`${entry.name}: one token came to ${jobs.length} jobs`)
    if (entry.id !== undefined && jobs[0]?.ID !== entry.id) {
      broken.push(`${entry.name}: ${entry.id} was acknowledged, ${jobs[0]?.ID ?? 'nothing'} is there`)
      continue
    }
    if (entry.id !== undefined) broken.push(...(await judgeJob(client, entry, jobs[0], server.marks, totals)))
  }
  broken.push(...(await judgeContainers(workload)))
  report(workload, server, totals)
  return broken
}

async function jobsByName(client) {
  const byName = new Map()
  for await (const job of client.allJobs({ limit: 100 })) {
    byName.set(job.Name, [...(byName.get(job.Name) ?? []), job])
  }
  return byName
}

async function judgeJob(client, entry, job, marks, totals) {
  const { name, kind, expected } = entry
  const at = `${name} (${kind}, ${entry.id})`
  const state = job.State.StateType
  // A stop may come when its job has failed for another reason, but never be forgotten.
  if (state !== expected.end) return [`${at} is ${state} instead of ${expected.end}: ${job.State.Message}`]
  const broken = []
  const { Items: executions } = await client.executions(entry.id, { limit: 1_000 })
  totals.executions += executions.length
  totals.lost += executions.filter(({ ComputeState }) => ComputeState.StateType === 10).length
  const completed = executions.filter(({ ComputeState }) => ComputeState.StateType === 9)
  broken.push(...(await judgeHistory(client, entry, executions)).map((text) => `${at}: ${text}`))
  if (expected.end !== 'Completed') return broken
  if (completed.length !== 1) return [...broken, `${at} has ${completed.length} completed executions`]
  const [execution] = completed
  if (execution.RunOutput.ExitCode !== expected.exitCode)
    broken.push(`${at} ended with exit code ${execution.RunOutput.ExitCode}`)
  const text = await outputOf(client, entry.id, execution.ID)
  const wanted = expectedOutput(entry)
  if (wanted !== undefined && text !== wanted)
    broken.push(`${at}: output is ${JSON.stringify(text)} instead of ${JSON.stringify(wanted)}`)
  if (expected.engine === 'docker')
    broken.push(...judgeMarks(marks, name, totals).map((why) => `${at}: ${why}`))
  if (expected.publishes === true)
    broken.push(...(await judgeResult(client, entry)).map((why) => `${at}: ${why}`))
  return broken
}

/** Numbers without gaps, and each execution's end said exactly once. */
async function judgeHistory(client, entry, executions) {
  const broken = []
  const items = []
  let nextToken
  do {
    const page = await client.history(entry.id, { limit: 1_000, nextToken })
    items.push(...page.Items)
    // A job that runs on keeps its token: that is no page to wait for.
    nextToken = page.Items.length === 0 || page.NextToken === nextToken ? '' : page.NextToken
  } while (nextToken !== '')
  const numbers = items.map(({ SeqNum }) => SeqNum)
  if (numbers.some((number, index) => number !== index + 1))
    broken.push(`history has gaps: ${numbers.join(' ')}`)
  for (const { ID, ComputeState } of executions) {
    const ends = items.filter(
      ({ ExecutionID, Event }) => ExecutionID === ID && Event.Message.startsWith('Completed'),
    ).length
    if (ends !== (ComputeState.StateType === 9 ? 1 : 0))
      broken.push(`history says ${ends} times that ${ID} completed (state ${ComputeState.StateType})`)
  }
  return broken
}

/** Which executions ran, in the order of their marks: one that comes twice ran beside another. */
function judgeMarks(marks, name, totals) {
  const file = join(marks, name)
  const lines = existsSync(file) ? readFileSync(file, 'utf8').trim().split('\n') : []
  const turns = lines.filter((id, index) => id !== lines[index - 1])
  if (turns.length > 1) totals.startedAgain += 1
  if (turns.length === 0) return ['its program left no mark']
  return new Set(turns).size === turns.length ? [] : [`two executions at once: ${turns.join(' ')}`]
}

async function outputOf(client, jobId, executionId) {
  const parts = []
  for await (const chunk of client.logs(jobId, { executionId }))
    if (chunk.stream === 'stdout') parts.push(chunk.data)
  return Buffer.concat(parts).toString('utf8')
}

async function judgeResult(client, entry) {
  const { Items } = await client.results(entry.id)
  const link = Items[0]?.Params?.URL
  if (link === undefined) return ['has no published result']
  const response = await fetch(link)
  if (!response.ok) return [`its result answers ${response.status}`]
  const numbers = Array.from({ length: 20_000 }, (_, index) => `${index + 1}\n`).join('')
  const archive = gunzipSync(Buffer.from(await response.arrayBuffer())).toString('latin1')
  return archive.includes(numbers) ? [] : ['its result is not whole']
}

/** Containers of jobs that have ended are gone; the one of a service is there once. */
async function judgeContainers(workload) {
  const services = workload.sent.filter(({ expected }) => expected.end === 'Running').length
  if (workload.sent.every(({ expected }) => expected.engine !== 'docker')) return []
  const running = execFileSync(
    'docker',
    ['ps', '-a', '--filter', 'ancestor=weir-crash/busybox:local', '--format', '{{.ID}} {{.Status}}'],
    { encoding: 'utf8' },
  )
    .split('\n')
    .filter((line) => line !== '')
  return running.length === services
    ? []
    : [`${running.length} containers are left instead of ${services}: ${running.join('; ')}`]
}

function report(workload, server, totals) {
  const kinds = new Map()
  for (const { kind } of workload.sent) kinds.set(kind, (kinds.get(kind) ?? 0) + 1)
  const ready = server.readyMs.toSorted((a, b) => a - b)
  console.log('')
  console.log(
    `jobs             ${workload.sent.length}: ${[...kinds].map(([kind, n]) => `${n} ${kind}`).join(', ')}`,
  )
  console.log(`executions       ${totals.executions}, of them ${totals.lost} failed or lost`)
  console.log(`containers       ${totals.startedAgain} jobs began their program more than once`)
  console.log(`start to answer  median ${ready[ready.length >> 1]} ms, longest ${ready.at(-1)} ms`)
}
