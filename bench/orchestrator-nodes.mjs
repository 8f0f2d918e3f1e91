// Simulated compute nodes for bench/orchestrator.mjs: the node's half of the conversation over the in-process transport,
// without anything that runs. An execution is reported as completed with the next message, or held for ever.
import { nudgeSubject, SYNC_SUBJECT } from '../dist/ports/index.js'

const REGIONS = ['eu', 'us', 'asia', 'africa']
const NOTHING = { cpu: 0, memoryBytes: 0, diskBytes: 0, gpu: 0 }
const CAPACITY = { cpu: 32, memoryBytes: 128e9, diskBytes: 1e12, gpu: 0 }
const HEARTBEAT_MS = 5_000

/** What node number `index` says of itself. */
export function nodeInfo(index) {
  return {
    nodeId: `n-${String(index).padStart(5, '0')}`,
    roles: ['compute'],
    labels: { region: REGIONS[index % REGIONS.length], rack: `r${index % 40}` },
    version: '0.0.0',
    engines: ['docker', 'wasm'],
    sources: ['inline', 'urldownload', 'localdirectory'],
    publishers: ['local'],
    maxCapacity: CAPACITY,
    maxJobRequirements: CAPACITY,
    availableCapacity: CAPACITY,
    queuedCapacity: NOTHING,
    runningExecutions: 0,
    queuedExecutions: 0,
    egress: {
      acceptsNetworkedJobs: index % 2 === 0,
      httpEngines: ['docker', 'wasm'],
      fullEngines: [],
      allow: ['.example.com', 'packages.example.net', '.example.org'],
      deny: ['internal.example.com'],
      problems: [],
    },
    engineProblems: {},
  }
}

/** What the store keeps of such a node. */
export function nodeRecord(index, now) {
  return {
    info: nodeInfo(index),
    membership: 'APPROVED',
    connection: 'CONNECTED',
    incarnation: 'i-1',
    lastSyncMs: now,
    connectedSinceMs: now,
    revision: 1,
  }
}

/** Starts nodes that answer nudges and send a message every five seconds. `holds`: executions run for ever. */
export async function startNodes(transport, count, { holds = false } = {}) {
  const nodes = Array.from({ length: count }, (_, index) => new Node(transport, nodeInfo(index), holds))
  for (const node of nodes) await node.start()
  const slices = 100
  let slice = 0
  const timer = setInterval(() => {
    for (let index = slice; index < nodes.length; index += slices) nodes[index].wake()
    slice = (slice + 1) % slices
  }, HEARTBEAT_MS / slices)
  return {
    nodes,
    /** Messages that were answered. */
    get messages() {
      return nodes.reduce((sum, node) => sum + node.messages, 0)
    },
    async join() {
      for (let from = 0; from < nodes.length; from += 100)
        await Promise.all(nodes.slice(from, from + 100).map((node) => node.sync()))
    },
    async close() {
      clearInterval(timer)
      for (const node of nodes) await node.close()
    },
  }
}

class Node {
  messages = 0
  #transport
  #info
  #holds
  #held = new Map()
  #known = 0
  #busy = false
  #again = false
  #closed = false
  #serving

  constructor(transport, info, holds) {
    this.#transport = transport
    this.#info = info
    this.#holds = holds
  }

  async start() {
    this.#serving = await this.#transport.serve(nudgeSubject(this.#info.nodeId), async () => {
      this.wake()
      return {}
    })
  }

  wake() {
    if (this.#busy) this.#again = true
    else void this.#run()
  }

  async close() {
    this.#closed = true
    await this.#serving.close()
  }

  async #run() {
    this.#busy = true
    do {
      this.#again = false
      try {
        await this.sync()
      } catch {
        // Safe: the next message says the same again.
      }
    } while (this.#again && !this.#closed)
    this.#busy = false
  }

  async sync() {
    if (this.#closed) return
    const observed = [...this.#held.values()].filter(
      (report) => report.observed.sequence > report.acknowledged,
    )
    const request = {
      nodeId: this.#info.nodeId,
      incarnation: 'i-1',
      info: this.#info,
      knownRevision: this.#known,
      observed: observed.map(({ executionId, jobId, observed, events }) => ({
        executionId,
        jobId,
        observed,
        events,
      })),
      leaving: false,
    }
    const answer = await this.#transport.request(SYNC_SUBJECT, request, 30_000)
    this.messages += 1
    for (const [id, sequence] of Object.entries(answer.acknowledged)) {
      const report = this.#held.get(id)
      if (report === undefined) continue
      report.acknowledged = Math.max(report.acknowledged, sequence)
      if (report.observed.state === 'Completed' && report.acknowledged >= report.observed.sequence)
        this.#held.delete(id)
    }
    for (const desired of answer.desired) this.#take(desired)
    this.#known = answer.revision
  }

  #take({ executionId, jobId, state }) {
    if (state !== 'Running' || this.#held.has(executionId)) return
    const now = Date.now()
    const events = [{ index: 1, topic: 'Running Execution', message: 'Running', details: {}, timeMs: now }]
    const common = { message: '', code: '', hint: '', retryable: false, startTimeMs: now }
    const observed = this.#holds
      ? { state: 'Running', sequence: 1, ...common }
      : { state: 'Completed', sequence: 2, ...common, endTimeMs: now, runOutput: OUTPUT }
    this.#held.set(executionId, { executionId, jobId, observed, events, acknowledged: 0 })
    this.#again = true
    if (!this.#busy) this.wake()
  }
}

const OUTPUT = {
  stdout: 'hello\n',
  stdoutTruncated: false,
  stderr: '',
  stderrTruncated: false,
  exitCode: 0,
  errorMessage: '',
}
