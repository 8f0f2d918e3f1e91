import { BrokenPromise, simulate } from './world.js'

const [first = '1', count = '20'] = process.argv.slice(2)
const total: Record<string, number> = {}
let failed = 0
const start = Date.now()
for (let seed = Number(first); seed < Number(first) + Number(count); seed++) {
  try {
    const { counts } = await simulate({
      seed,
      ...(process.env.TRACE ? { onLine: (line: string) => console.log(line) } : {}),
    })
    for (const [key, value] of Object.entries(counts)) total[key] = (total[key] ?? 0) + value
  } catch (error) {
    failed += 1
    console.log(error instanceof BrokenPromise ? error.message : error)
  }
}
console.log(total, `failed ${failed}`, `${Date.now() - start} ms`)
