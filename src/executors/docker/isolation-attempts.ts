import { createSocket } from 'node:dgram'
import { readFileSync } from 'node:fs'
import { connect } from 'node:net'
import type { Attempt, AttemptResult, AttemptsReport } from './isolation-report.js'

// A program of its own: it is started inside a job's network namespace (`nsenter --net`), gives up every right it has,
// then tries to reach what a job must not reach, and prints what happened as JSON.

const request = JSON.parse(readFileSync(0, 'utf8')) as { attempts: Attempt[]; timeoutMs: number }
if (process.getuid?.() === 0) {
  process.setgroups?.([])
  process.setgid?.(65_534)
  process.setuid?.(65_534)
}
const results = await Promise.all(request.attempts.map((attempt) => tryOne(attempt, request.timeoutMs)))
const report: AttemptsReport = { interfaces: interfaces(), results }
process.stdout.write(JSON.stringify(report))

function tryOne(attempt: Attempt, timeoutMs: number): Promise<AttemptResult> {
  return attempt.protocol === 'udp' ? tryUdp(attempt, timeoutMs) : tryTcp(attempt, timeoutMs)
}

function tryTcp(attempt: Attempt, timeoutMs: number): Promise<AttemptResult> {
  return new Promise((resolve) => {
    const socket = connect({ host: attempt.address, port: attempt.port })
    const end = (outcome: AttemptResult['outcome'], stayedInside = false) => {
      clearTimeout(timer)
      socket.destroy()
      resolve({ ...attempt, outcome, stayedInside })
    }
    const timer = setTimeout(() => end('silence'), timeoutMs)
    socket.once('connect', () => end('answered', socket.localAddress === attempt.address))
    socket.once('error', (error) => end(isRefusal(error) ? 'answered' : 'unreachable'))
  })
}

function tryUdp(attempt: Attempt, timeoutMs: number): Promise<AttemptResult> {
  return new Promise((resolve) => {
    const socket = createSocket(attempt.address.includes(':') ? 'udp6' : 'udp4')
    let ended = false
    const end = (outcome: AttemptResult['outcome']) => {
      if (ended) return
      ended = true
      clearTimeout(timer)
      socket.close()
      resolve({ ...attempt, outcome, stayedInside: false })
    }
    const timer = setTimeout(() => end('silence'), timeoutMs)
    socket.once('message', () => end('answered'))
    socket.on('error', (error) => end(isRefusal(error) ? 'answered' : 'unreachable'))
    socket.connect(attempt.port, attempt.address, (error?: Error) => {
      if (error) {
        end('unreachable')
        return
      }
      // A DNS question for the root's name servers: the shortest thing a resolver answers.
      socket.send(Buffer.from('7765010000010000000000000000020001', 'hex'))
    })
  })
}

/** A refusal comes from the machine that was asked: it could be reached. */
function isRefusal(error: Error & { code?: string }): boolean {
  return error.code === 'ECONNREFUSED' || error.code === 'ECONNRESET'
}

function interfaces(): string[] {
  return [...readFileSync('/proc/self/net/dev', 'utf8').matchAll(/^\s*([^\s:]+):/gm)].map(
    ([, name]) => name ?? '',
  )
}
