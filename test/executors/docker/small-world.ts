import { spawn, spawnSync } from 'node:child_process'
import type { ChildProcess } from 'node:child_process'
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { eventually } from './with-docker.js'

/** Host end of the cable to the internet: an address of this machine that looks public. */
export const HOST_PUBLIC = '93.184.216.1'
export const INTERNET = '93.184.216.34'
export const LAN = '10.213.77.2'
export const METADATA = '169.254.169.254'

/**
 * Two network namespaces beside this machine: one is "the internet" (a web server and a name server at a public
 * address), the other "the LAN" (a private address and the metadata address). Everything in them answers whoever
 * comes, and the LAN counts every packet, so that the absence of contact is seen too.
 */
export class SmallWorld {
  readonly #id = String(process.pid % 100_000)
  readonly #children: ChildProcess[] = []
  /** Who connected to the service of this machine (port 8080 of its public-looking address). */
  readonly hostContacts: string[] = []

  async build(): Promise<void> {
    const { internet, lan, toInternet, toLan } = this.#names()
    await lock()
    ip(`netns add ${internet}`)
    ip(`netns add ${lan}`)
    ip(`link add ${toInternet} type veth peer name eth0 netns ${internet}`)
    ip(`link add ${toLan} type veth peer name eth0 netns ${lan}`)
    ip(`addr add ${HOST_PUBLIC}/24 dev ${toInternet}`)
    ip(`addr add 10.213.77.1/24 dev ${toLan}`)
    for (const name of [toInternet, toLan]) ip(`link set ${name} up`)
    for (const [namespace, addresses] of [
      [internet, [`${INTERNET}/24`]],
      [lan, [`${LAN}/24`, `${METADATA}/32`]],
    ] as const) {
      for (const address of addresses) ip(`-n ${namespace} addr add ${address} dev eth0`)
      ip(`-n ${namespace} link set eth0 up`)
      ip(`-n ${namespace} link set lo up`)
    }
    ip(`-n ${lan} route add default via 10.213.77.1`)
    ip(`route add ${METADATA}/32 dev ${toLan}`)
    const counting = `table inet witness {
      chain input {
        type filter hook input priority 0; policy accept;
        iifname "eth0" counter
      }
    }
    `
    const ruled = spawnSync('ip', ['netns', 'exec', lan, 'nft', '-f', '-'], { input: counting })
    if (ruled.status !== 0) throw new Error(ruled.stderr.toString())
    this.#serve(internet, 'internet')
    this.#serve(lan, 'lan')
    this.#serveOnHost()
    await eventually('the small world is up', () => this.ask('internet', LAN) === '' && this.webUp())
  }

  /** Packets that reached the LAN. */
  lanPackets(): number {
    const { lan } = this.#names()
    const listed = spawnSync('ip', [
      'netns',
      'exec',
      lan,
      'nft',
      'list',
      'table',
      'inet',
      'witness',
    ]).stdout.toString()
    return Number(/counter packets (\d+)/.exec(listed)?.[1] ?? -1)
  }

  /** What a machine of the namespace hears from `address` port 80. */
  ask(from: 'internet' | 'lan', address: string, port = 80): string {
    const namespace = this.#names()[from]
    return spawnSync('ip', ['netns', 'exec', namespace, 'busybox', 'nc', '-w', '1', address, String(port)], {
      input: '',
      timeout: 3000,
    }).stdout.toString()
  }

  destroy(): void {
    for (const child of this.#children.splice(0)) child.kill('SIGKILL')
    const { internet, lan, toInternet, toLan } = this.#names()
    for (const name of [toInternet, toLan]) spawnSync('ip', ['link', 'del', name])
    for (const name of [internet, lan]) spawnSync('ip', ['netns', 'del', name])
    unlock()
  }

  private webUp(): boolean {
    return (
      this.ask('internet', INTERNET) === 'internet\n' &&
      this.ask('lan', LAN) === 'lan\n' &&
      this.ask('internet', HOST_PUBLIC, 8080) === 'host\n'
    )
  }

  #serve(namespace: string, word: string): void {
    const code = `
      const hello = (socket) => { socket.on('error', () => {}); socket.end('${word}\\n') }
      for (const port of [80, 8080, 8081]) require('node:net').createServer(hello).listen(port, '0.0.0.0')
      require('node:http').createServer((request, response) => {
        response.end('web of ${word}, asked for ' + request.headers.host + '\\n')
      }).listen(8082, '0.0.0.0')
      const dns = require('node:dgram').createSocket('udp4')
      dns.on('message', (question, from) => {
        const answer = Buffer.concat([question, Buffer.from('c00c00010001000000050004${INTERNET.split('.')
          .map((part) => Number(part).toString(16).padStart(2, '0'))
          .join('')}', 'hex')])
        answer.writeUInt16BE(0x8180, 2); answer.writeUInt16BE(1, 6)
        dns.send(answer, from.port, from.address)
      })
      dns.bind(53, '0.0.0.0')`
    this.#children.push(
      spawn('ip', ['netns', 'exec', namespace, process.execPath, '-e', code], { stdio: 'ignore' }),
    )
  }

  #serveOnHost(): void {
    const code = `require('node:net').createServer((socket) => {
      socket.on('error', () => {}); console.log(socket.remoteAddress); socket.end('host\\n')
    }).listen(8080, '${HOST_PUBLIC}')`
    const child = spawn(process.execPath, ['-e', code], { stdio: ['ignore', 'pipe', 'ignore'] })
    child.stdout.on('data', (line: Buffer) => this.hostContacts.push(line.toString().trim()))
    this.#children.push(child)
  }

  #names() {
    const id = this.#id
    return { internet: `wxnet${id}`, lan: `wxlan${id}`, toInternet: `wxi${id}`, toLan: `wxl${id}` }
  }
}

/** The world's addresses exist once per machine, so test files take turns. A lock of a dead process does not count. */
async function lock(): Promise<void> {
  for (let tries = 0; tries < 1000; tries++) {
    try {
      writeFileSync(LOCK, String(process.pid), { flag: 'wx' })
      return
    } catch {
      const holder = readFileSync(LOCK, { encoding: 'utf8', flag: 'a+' })
      if (!existsSync(`/proc/${holder.trim()}/stat`)) rmSync(LOCK, { force: true })
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  throw new Error(`another test file holds ${LOCK}`)
}

function unlock(): void {
  if (existsSync(LOCK) && readFileSync(LOCK, 'utf8') === String(process.pid)) rmSync(LOCK, { force: true })
}

const LOCK = join(tmpdir(), 'weir-small-world.lock')

function ip(command: string): void {
  const { status, stderr } = spawnSync('ip', command.split(' '))
  if (status !== 0) throw new Error(`ip ${command}: ${stderr.toString()}`)
}
