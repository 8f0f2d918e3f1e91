import { WebSocket } from 'ws'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import type { LogItem } from '../../src/ports/index.js'
import { startServer, submit, type Server } from './with-server.js'

const EXECUTION = 'e-00000001-0000-4000-8000-000000000000'

let server: Server
beforeEach(async () => {
  server = await startServer()
})
afterEach(() => server.close())

describe('the log stream', () => {
  it('sends one JSON text frame per chunk and ends with close 1000', async () => {
    const id = await submit(server)
    server.jobs.logsByJob.set(id, [item('stdout', 'one\ntwo'), item('stderr', 'oh\n')])
    const { frames, code, reason } = await read(`/jobs/${id.slice(0, 10)}/logs`)
    expect(frames).toEqual([
      { value: { Type: 1, Line: 'one\ntwo', ExecutionID: EXECUTION, Time: '2024-11-29T08:46:40.000Z' } },
      { value: { Type: 2, Line: 'oh\n', ExecutionID: EXECUTION, Time: '2024-11-29T08:46:40.000Z' } },
    ])
    expect([code, reason]).toEqual([1000, ''])
  })

  it('puts characters together that were cut between two chunks', async () => {
    const id = await submit(server)
    const bytes = Buffer.from('grün €', 'utf8')
    server.jobs.logsByJob.set(
      id,
      [...bytes].map((byte) => item('stdout', Buffer.from([byte]))),
    )
    const { frames } = await read(`/jobs/${id}/logs`)
    expect(frames.map((frame) => frame.value.Line).join('')).toBe('grün €')
  })

  it('shows an unfinished character at the end instead of dropping it', async () => {
    const id = await submit(server)
    server.jobs.logsByJob.set(id, [item('stdout', Buffer.from([0x61, 0xe2, 0x82]))])
    const { frames } = await read(`/jobs/${id}/logs`)
    expect(frames.map((frame) => frame.value.Line).join('')).toBe('a\ufffd')
  })

  it('sends the exact bytes when asked for base64', async () => {
    const id = await submit(server)
    server.jobs.logsByJob.set(id, [item('stdout', Buffer.from([0, 255, 254]))])
    const { frames } = await read(`/jobs/${id}/logs?encoding=base64`)
    expect(frames[0]?.value).toMatchObject({
      Type: 1,
      Line: '',
      Data: Buffer.from([0, 255, 254]).toString('base64'),
    })
  })

  it('follows until the job ends', async () => {
    const id = await submit(server)
    const log = [item('stdout', 'first')]
    server.jobs.logsByJob.set(id, log)
    const reading = read(`/jobs/${id}/logs?follow=True`)
    await expect.poll(() => server.jobs.openStreams).toBe(1)
    log.push(item('stdout', 'second'))
    setTimeout(() => server.jobs.change(id, { state: 'Completed' }), 20)
    const { frames, code } = await reading
    expect(frames.map((frame) => frame.value.Line)).toEqual(['first', 'second'])
    expect(code).toBe(1000)
  })

  it.each([
    ['an unknown job', '/jobs/j-nope/logs', 'Cannot find job "j-nope"'],
    ['a bad parameter', '/jobs/j-/logs?follow=perhaps', 'invalid follow'],
  ])('upgrades, reports %s in one error frame and ends with close 1000', async (_title, path, text) => {
    const { frames, code } = await read(path)
    expect(frames).toHaveLength(1)
    expect(frames[0]?.error).toMatch(/^failed to open log stream for job j-/)
    expect(frames[0]?.error).toContain(text)
    expect(frames[0]?.value).toEqual({ Type: 0, Line: '' })
    expect(code).toBe(1000)
  })

  it('answers 400 in plain text to a GET without upgrade', async () => {
    const answer = await server.call('GET', `/api/v1/orchestrator/jobs/j-1/logs`)
    expect(answer.status).toBe(400)
    expect(answer.headers['content-type']).toContain('text/plain')
  })

  it('stops reading when the client goes away', async () => {
    const id = await submit(server)
    server.jobs.logsByJob.set(id, [item('stdout', 'x')])
    const socket = new WebSocket(
      `${server.url.replace('http', 'ws')}/api/v1/orchestrator/jobs/${id}/logs?follow=true`,
    )
    await new Promise((resolve) => socket.once('message', resolve))
    expect(server.jobs.openStreams).toBe(1)
    socket.terminate()
    await expect.poll(() => server.jobs.openStreams).toBe(0)
  })

  it('refuses a page of a stranger before the upgrade', async () => {
    const url = `${server.url.replace('http', 'ws')}/api/v1/orchestrator/jobs/j-1/logs`
    const socket = new WebSocket(url, { headers: { origin: 'https://evil.example' } })
    const status = await new Promise((resolve) => {
      socket.once('unexpected-response', (_request, response) => resolve(response.statusCode))
      socket.once('open', () => resolve('open'))
    })
    socket.on('error', () => {})
    socket.terminate()
    expect(status).toBe(403)
  })

  it('tells clients with close 1001 that the server stops', async () => {
    const id = await submit(server)
    const reading = read(`/jobs/${id}/logs?follow=true`)
    await expect.poll(() => server.jobs.openStreams).toBe(1)
    await server.close()
    expect((await reading).code).toBe(1001)
  })
})

describe('many log streams', () => {
  it('refuses more than the limit with an error frame', async () => {
    const small = await startServer({ limits: { streamsMax: 1 } })
    try {
      const id = await submit(small)
      const first = new WebSocket(
        `${small.url.replace('http', 'ws')}/api/v1/orchestrator/jobs/${id}/logs?follow=true`,
      )
      await expect.poll(() => small.jobs.openStreams).toBe(1)
      const { frames, code } = await read(`/jobs/${id}/logs`, small)
      expect(frames[0]?.error).toContain('Cannot open another stream')
      expect(code).toBe(1000)
      first.terminate()
    } finally {
      await small.close()
    }
  })
})

interface Frame {
  error?: string
  value: { Type: number; Line: string; Data?: string }
}

function read(path: string, from = server): Promise<{ frames: Frame[]; code: number; reason: string }> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(`${from.url.replace('http', 'ws')}/api/v1/orchestrator${path}`)
    const frames: Frame[] = []
    socket.on('message', (data: Buffer, isBinary) => {
      if (isBinary) reject(new Error('a binary frame'))
      frames.push(JSON.parse(data.toString('utf8')) as Frame)
    })
    socket.on('error', reject)
    socket.on('close', (code, reason) => resolve({ frames, code, reason: reason.toString() }))
  })
}

function item(stream: 'stdout' | 'stderr', data: string | Buffer): LogItem {
  return { executionId: EXECUTION, stream, data: Buffer.from(data), timeMs: 1_732_870_000_000 }
}
