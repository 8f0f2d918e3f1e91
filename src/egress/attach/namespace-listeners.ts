import { spawn } from 'node:child_process'
import { createServer, type Server } from 'node:net'
import { WeirError } from '../../errors.js'
import { entryPoint } from '../../package-root.js'

/** The port of the gateway inside every namespace. */
export const PROXY_PORT = 3128

/**
 * Creates listeners on 127.0.0.1:3128 (and [::1]:3128 where there is IPv6) inside the network namespace `netnsPath`
 * and returns them held by this process. Costs one short-lived Node process, about 60 ms. Needs root or CAP_SYS_ADMIN,
 * unless `usernsPath` names the user namespace that owns it and that this user made; rejects with `egress.unavailable`
 * otherwise, or after 5 s.
 */
export function listenInNamespace(netnsPath: string, usernsPath?: string): Promise<Server[]> {
  if (![netnsPath, usernsPath ?? netnsPath].every((path) => /^\/[^\0]*$/.test(path)))
    return Promise.reject(failure(netnsPath, 'the path is not absolute'))
  return new Promise((resolve, reject) => {
    const script = entryPoint('egress/attach/listen-inside.js')
    const owner = usernsPath === undefined ? [] : [`--user=${usernsPath}`, '--preserve-credentials']
    const args = [...owner, `--net=${netnsPath}`, '--', process.execPath, script, String(PROXY_PORT)]
    const child = spawn('nsenter', args, {
      stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
      env: { PATH: '/usr/sbin:/usr/bin:/sbin:/bin' },
    })
    const servers: Server[] = []
    let complaint = ''
    let complete = false
    let exited = false
    let done = false
    const finish = (settle: () => void) => {
      if (done) return
      done = true
      clearTimeout(timer)
      settle()
    }
    const fail = (reason: string) => {
      finish(() => {
        for (const server of servers) server.close()
        child.kill('SIGKILL')
        reject(failure(netnsPath, reason))
      })
    }
    const timer = setTimeout(() => fail('the listener did not start in time'), 5_000)
    child.stderr?.on('data', (text: Buffer) => {
      complaint = `${complaint}${text.toString()}`.slice(0, 500)
    })
    child.on('error', (error) => fail(error.message))
    // The program's own copies of the sockets have to be gone before anybody connects.
    child.on('exit', (code) => {
      exited = true
      if (complete) finish(() => resolve(servers))
      else if (code !== 0) fail(complaint.trim().split('\n')[0] || `it ended with status ${code}`)
    })
    child.on('message', (message: { listener?: string; more?: boolean; failed?: string }, handle) => {
      if (message.failed !== undefined) return fail(explain(message.failed))
      if (handle === undefined) return fail('the listener did not arrive')
      servers.push(handle as Server)
      if (message.more !== false) return
      complete = true
      if (exited) finish(() => resolve(servers))
    })
  })
}

/** A listener on a loopback port of the gateway's own namespace, for uses without a namespace of their own. */
export function listenOnLoopback(port = 0): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', (error) => reject(failure('loopback', error.message)))
    server.listen({ host: '127.0.0.1', port, backlog: 512 }, () => resolve(server))
  })
}

function explain(code: string): string {
  if (code === 'EADDRNOTAVAIL') return 'its loopback interface is down'
  return code === 'EADDRINUSE' ? `port ${PROXY_PORT} is taken inside` : code
}

function failure(netnsPath: string, reason: string): WeirError {
  return new WeirError(
    'egress.unavailable',
    `Cannot listen in the network namespace "${netnsPath}": ${reason}`,
    {
      hint: 'The node needs root (CAP_SYS_ADMIN) and the program nsenter of util-linux',
      retryable: true,
    },
  )
}
