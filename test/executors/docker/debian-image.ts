import { spawnSync } from 'node:child_process'
import { chmodSync, chownSync, copyFileSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'

const PROGRAMS = [
  'dpkg',
  'dpkg-deb',
  'dpkg-split',
  'tar',
  'gzip',
  'xz',
  'rm',
  'start-stop-daemon',
  'ldconfig',
  'cut',
  'id',
  'diff',
]
const SHELL = [
  'sh',
  'ls',
  'cat',
  'su',
  'tr',
  'grep',
  'chown',
  'chmod',
  'echo',
  'sleep',
  'test',
  'mkdir',
  'touch',
]

/** Files of a small image in which Debian's own dpkg works, taken from this machine; undefined when it has no dpkg. */
export function debianFiles(): Record<string, string> | undefined {
  const files: Record<string, string> = {
    'bin/busybox': '/bin/busybox',
    'etc/passwd': 'root:x:0:0:root:/root:/bin/sh\nworker:x:1000:1000:worker:/tmp:/bin/sh\n',
    'etc/group': 'root:x:0:\nworker:x:1000:\n',
    'var/lib/dpkg/status': ' ',
    'var/lib/dpkg/available': ' ',
    'var/lib/dpkg/info/format': '1\n',
    'var/lib/dpkg/updates/.keep': ' ',
    'var/lib/dpkg/triggers/.keep': ' ',
    'var/log/.keep': ' ',
    'etc/dpkg/dpkg.cfg': '# empty\n',
    'root/.keep': ' ',
    'tmp/.keep': ' ',
  }
  for (const program of PROGRAMS) {
    const path = ['/usr/bin', '/usr/sbin', '/bin', '/sbin'].map((dir) => join(dir, program)).find(existsSync)
    if (path === undefined) return undefined
    files[`usr/bin/${program}`] = path
    const libraries = spawnSync('ldd', [path]).stdout.toString()
    for (const [, library] of libraries.matchAll(/(\/[^\s()]+) \(0x/g)) {
      if (library === undefined) continue
      const isLoader = basename(library).startsWith('ld-linux')
      files[isLoader ? library.slice(1) : `usr/lib/${basename(library)}`] = library
    }
  }
  for (const applet of SHELL) files[`bin/${applet}`] = '-> busybox'
  return files
}

/** Makes `weir-sample.deb` in a directory: a setuid program and a file of another owner. False without dpkg-deb. */
export function buildPackage(dir: string): boolean {
  const root = join(dir, 'package')
  const target = join(root, 'opt/weir-sample')
  mkdirSync(join(root, 'DEBIAN'), { recursive: true })
  mkdirSync(target, { recursive: true })
  writeFileSync(
    join(root, 'DEBIAN/control'),
    'Package: weir-sample\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@example.org>\nDescription: sample\n',
  )
  copyFileSync('/usr/bin/id', join(target, 'as-root'))
  writeFileSync(join(target, 'data'), 'data')
  if (process.getuid?.() === 0) chownSync(join(target, 'data'), 1000, 1000)
  chmodSync(join(target, 'data'), 0o640)
  chmodSync(join(target, 'as-root'), 0o4755)
  return spawnSync('dpkg-deb', ['-b', root, join(dir, 'weir-sample.deb')]).status === 0
}
