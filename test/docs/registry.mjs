// A package registry with one package, for the examples of the documentation: `node registry.mjs ADDRESS PORT`.
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [address, port] = process.argv.slice(2)
const tarball = packed()
const origin = `http://registry.demo.test:${port}`
const manifest = {
  name: 'left-over',
  version: '1.0.0',
  dist: {
    tarball: `${origin}/left-over.tgz`,
    integrity: `sha512-${createHash('sha512').update(tarball).digest('base64')}`,
  },
}

const server = createServer((request, response) => {
  if (request.url === '/left-over.tgz') return response.end(tarball)
  if (request.url !== '/left-over') {
    response.statusCode = 404
    return response.end('{}')
  }
  response.setHeader('content-type', 'application/json')
  const { name, version } = manifest
  return response.end(
    JSON.stringify({ name, 'dist-tags': { latest: version }, versions: { [version]: manifest } }),
  )
})
server.listen(Number(port), address, () => console.log('ready'))

function packed() {
  const dir = mkdtempSync(join(tmpdir(), 'weir-registry-'))
  try {
    mkdirSync(join(dir, 'package'))
    writeFileSync(
      join(dir, 'package/package.json'),
      JSON.stringify({ name: 'left-over', version: '1.0.0', main: 'index.js' }),
    )
    writeFileSync(join(dir, 'package/index.js'), "module.exports = 'from the test registry'\n")
    execFileSync('tar', ['-czf', join(dir, 'package.tgz'), '-C', dir, 'package'])
    return readFileSync(join(dir, 'package.tgz'))
  } finally {
    rmSync(dir, { recursive: true, force: true })
  }
}
