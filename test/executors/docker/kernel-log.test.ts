import { spawnSync } from 'node:child_process'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { kernelKilledForMemory } from '../../../src/executors/docker/kernel-log.js'
import { docker, importBusybox, noDocker, removeImage, skipNote } from './with-docker.js'

const IMAGE = 'weir-test-kernel-log:1'
const missing = noDocker === '' && spawnSync('dmesg').status !== 0 ? 'needs dmesg, as root' : noDocker

describe.skipIf(missing !== '')(`the kernel’s log${skipNote(missing)}`, () => {
  beforeAll(() => importBusybox(IMAGE))
  afterAll(() => removeImage(IMAGE))

  it('names the container whose process was killed for memory, and no other', async () => {
    // The kernel keeps the line back when it has killed many processes within seconds; then the next one shows it.
    let seen = false
    for (let tries = 0; tries < 8 && !seen; tries++) {
      const id = await ended('x=x; while :; do x=$x$x; done')
      seen = await kernelKilledForMemory(id)
      if (!seen) await new Promise((resolve) => setTimeout(resolve, 1_000))
    }
    expect(seen).toBe(true)
    expect(await kernelKilledForMemory(await ended('kill -9 $$'))).toBe(false)
    expect(await kernelKilledForMemory('')).toBe(false)
  })

  async function ended(script: string): Promise<string> {
    const container = await docker.createContainer({
      Image: IMAGE,
      Cmd: ['sh', '-c', script],
      HostConfig: { Memory: 16 * 1024 * 1024, NetworkMode: 'none', Init: true },
    })
    await container.start()
    await container.wait()
    await container.remove({ force: true })
    return container.id
  }
})
