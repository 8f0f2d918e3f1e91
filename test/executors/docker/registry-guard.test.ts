import { describe, expect, it } from 'vitest'
import { parseImageReference } from '../../../src/executors/docker/image-reference.js'
import { guardRegistry } from '../../../src/executors/docker/registry-guard.js'

const answers: Record<string, string[]> = {
  'public.test': ['93.184.216.34'],
  'inside.test': ['10.1.2.3'],
  'both.test': ['93.184.216.34', '169.254.169.254'],
  '127.1': ['127.0.0.1'],
  '0x7f000001.test': [],
}
const resolve = async (host: string) => Promise.resolve(answers[host] ?? [])
const guard = async (text: string, allowed: string[] = []) =>
  guardRegistry(parseImageReference(text), allowed, resolve)

describe('the guard of registries', () => {
  it.each(['busybox', 'public.test/x', 'public.test:5000/x', '93.184.216.34/x', 'unknown.test/x'])(
    'lets the engine ask for %s',
    async (text) => {
      await expect(guard(text)).resolves.toBeUndefined()
    },
  )

  it.each([
    'localhost/x',
    'localhost:5000/x',
    '127.0.0.1:5000/x',
    '127.1/x',
    '169.254.169.254/x',
    '[::1]:5000/x',
    'inside.test/x',
    'both.test/x',
    '192.168.1.1/x',
    '[fd00:ec2::254]/x',
    '[::ffff:127.0.0.1]:80/x',
  ])('P-18 refuses %s', async (text) => {
    await expect(guard(text)).rejects.toMatchObject({ code: 'image.unavailable' })
  })

  it('lets the engine ask a private registry that the operator lists, with exactly that port', async () => {
    await expect(guard('127.0.0.1:5000/x', ['127.0.0.1:5000'])).resolves.toBeUndefined()
    await expect(guard('127.0.0.1:5001/x', ['127.0.0.1:5000'])).rejects.toMatchObject({
      code: 'image.unavailable',
    })
  })
})
