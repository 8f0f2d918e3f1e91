import { spawn, spawnSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { listenInNamespace } from '../../src/egress/attach/namespace-listeners.js'
import { namespacesMissing } from './network.js'

const missing = namespacesMissing()
const title = 'the listeners inside a namespace'
const NAME = `weir-attach-${process.pid}`

/** Connects again and again, and says for each connection how it ended: never, when nobody answers for a second. */
const CLIENT = `
  const { connect } = require('node:net')
  const count = { ended: 0, never: 0 }
  const once = () => new Promise((resolve) => {
    const socket = connect(3128, '127.0.0.1', () => socket.write('GET '))
    const timer = setTimeout(() => { count.never++; socket.destroy(); resolve(true) }, 1000)
    socket.on('error', () => {})
    socket.on('close', () => { clearTimeout(timer); resolve(socket.bytesWritten > 0) })
  }).then((wasThere) => { if (wasThere) count.ended++ })
  const end = Date.now() + 20000
  const loop = async () => {
    while (Date.now() < end && count.ended < 20) { await once(); await new Promise((resolve) => setTimeout(resolve, 1)) }
    console.log(JSON.stringify(count))
  }
  console.log('ready')
  loop()`

describe.skipIf(missing !== undefined)(
  missing === undefined ? title : `${title} (skipped: ${missing})`,
  () => {
    beforeAll(() => {
      spawnSync('ip', ['netns', 'add', NAME])
      spawnSync('ip', ['-n', NAME, 'link', 'set', 'lo', 'up'])
    })
    afterAll(() => {
      spawnSync('ip', ['netns', 'del', NAME])
    })

    it('let nobody hang who connects before the gateway serves them', async () => {
      const client = spawn('ip', ['netns', 'exec', NAME, process.execPath, '-e', CLIENT])
      let said = ''
      const isReady = new Promise<void>((resolve) => {
        client.stdout.setEncoding('utf8').on('data', (text: string) => {
          said += text
          if (said.startsWith('ready')) resolve()
        })
      })
      const ended = new Promise((resolve) => client.once('close', resolve))
      await isReady
      const listeners = await listenInNamespace({ netnsPath: `/run/netns/${NAME}` }, { webPorts: [80] })
      try {
        await ended
        expect(JSON.parse(said.replace('ready', ''))).toEqual({ ended: 20, never: 0 })
      } finally {
        const { proxy, transparent, names, nameSockets } = listeners
        for (const one of [...proxy, ...transparent, ...names, ...nameSockets]) one.close()
      }
    })
  },
)
