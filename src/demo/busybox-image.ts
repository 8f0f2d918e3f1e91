import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { pack } from 'tar-stream'

/** Commands of busybox that the image links. */
const APPLETS = [
  'sh',
  'cat',
  'cp',
  'echo',
  'wget',
  'nc',
  'ip',
  'ls',
  'env',
  'id',
  'sleep',
  'true',
  'false',
  'head',
  'wc',
  'tr',
  'seq',
  'mkdir',
]

/**
 * Makes a small container image from this machine's static busybox, without any registry. Returns the reason when
 * that cannot be done.
 */
export async function importBusyboxImage(tag: string): Promise<{ remove: () => Promise<void> } | string> {
  if (!existsSync('/bin/busybox')) return 'needs the Debian package busybox-static'
  const { default: Docker } = await import('dockerode')
  const docker = new Docker()
  try {
    await docker.ping()
  } catch {
    return 'needs a running Docker engine'
  }
  const archive = pack()
  for (const directory of ['bin', 'tmp', 'etc', 'inputs', 'outputs'])
    archive.entry({ name: directory, type: 'directory', mode: 0o755 })
  archive.entry({ name: 'bin/busybox', mode: 0o755 }, await readFile('/bin/busybox'))
  for (const applet of APPLETS) archive.entry({ name: `bin/${applet}`, type: 'symlink', linkname: 'busybox' })
  archive.entry({ name: 'etc/passwd' }, 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n')
  archive.finalize()
  const [repository, version] = tag.split(':')
  const answer = await docker.importImage(
    archive as unknown as NodeJS.ReadableStream,
    { repo: repository, tag: version, changes: 'ENV PATH=/bin' } as object,
  )
  answer.resume()
  await once(answer, 'end')
  return {
    remove: () =>
      docker
        .getImage(tag)
        .remove()
        .then(() => undefined),
  }
}
