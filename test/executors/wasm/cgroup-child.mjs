// A process in a control group of its own: `node cgroup-child.mjs GROUP OPTIONS`. Enters the group, becomes the user that
// the options name, opens a tree of groups as a node does, and prints what it got.
import { readFileSync, writeFileSync } from 'node:fs'
import { spawn } from 'node:child_process'
import { join } from 'node:path'

const [group, text] = process.argv.slice(2)
const { mount, name, controllers, uid, delegates, keepCompany } = JSON.parse(text)
writeFileSync(join(group, 'cgroup.procs'), '0')
// A second process in the same group, as the gateway is one beside the node.
const company = keepCompany ? spawn('sleep', ['60'], { stdio: 'ignore' }) : undefined
if (company !== undefined) await new Promise((resolve) => company.once('spawn', resolve))
if (uid !== undefined) {
  process.setgroups([])
  process.setgid(uid)
  process.setuid(uid)
}
const { openVersion2 } = await import(join(import.meta.dirname, '../../../dist/executors/wasm/cgroup-v2.js'))
const membership = () => readFileSync('/proc/self/cgroup', 'utf8')
const systemd = delegates === undefined ? undefined : { delegates: async () => delegates }
const options = { mount, root: '/', membership: membership(), name, controllers, systemd }
const tree = await openVersion2(options)
const answer = { tree: typeof tree === 'string' ? tree : tree.description, membership: membership() }
if (typeof tree !== 'string') {
  const one = await tree.create('s-1')
  const victim = spawn('sleep', ['60'], { stdio: 'ignore' })
  await new Promise((resolve) => victim.once('spawn', resolve))
  await one.enter(victim.pid)
  answer.inside = readFileSync(`/proc/${victim.pid}/cgroup`, 'utf8')
  const gone = new Promise((resolve) => victim.once('exit', (_code, signal) => resolve(signal)))
  answer.removed = await tree.removeWhere((each) => each === 's-1')
  answer.victim = await gone
  // Once more, as a node does that starts again where an earlier one has moved into the leaf.
  const again = await openVersion2({ ...options, membership: membership() })
  answer.again = typeof again === 'string' ? again : again.description
  await tree.close()
}
company?.kill('SIGKILL')
console.log(JSON.stringify(answer))
