// The clients of bench/orchestrator.mjs, in a thread of their own: submits at a steady rate, whatever the answers take.
import { Agent, request } from 'node:http'
import { parentPort, workerData } from 'node:worker_threads'

const { url, perSecond, seconds, warmUpSeconds, spec } = workerData
const agent = new Agent({ keepAlive: true, maxSockets: 64 })
const latencies = []
const warmUp = perSecond * warmUpSeconds
const total = perSecond * seconds + warmUp
const started = performance.now()
const answers = []
for (let index = 0; index < total; index++) {
  const dueMs = started + (index * 1_000) / perSecond
  const waitMs = dueMs - performance.now()
  if (waitMs > 0) await new Promise((resolve) => setTimeout(resolve, waitMs))
  // Timers are late by up to a millisecond: that is the client's, not the server's.
  answers.push(submit(index, Math.max(dueMs, waitMs > 0 ? performance.now() : dueMs)))
}
await Promise.all(answers)
agent.destroy()
parentPort.postMessage(latencies)

function submit(index, sinceMs) {
  const body = JSON.stringify({ Job: { ...spec, Name: `submitted-${index}` } })
  return new Promise((resolve, reject) => {
    const sent = request(
      `${url}/api/v1/orchestrator/jobs`,
      {
        method: 'PUT',
        agent,
        headers: { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) },
      },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (part) => (text += part))
        answer.on('end', () => {
          if (index >= warmUp) latencies.push(performance.now() - sinceMs)
          if (answer.statusCode === 200) resolve()
          else reject(new Error(`${answer.statusCode} ${text.slice(0, 500)}`))
        })
      },
    )
    sent.on('error', reject)
    sent.end(body)
  })
}
