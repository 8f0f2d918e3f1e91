import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { METRICS, type MetricFamily } from '../../src/node/metrics/catalogue.js'
import { Exposition } from '../../src/node/metrics/exposition.js'
import { countDuration, noDurations } from '../../src/model/index.js'
import { PACKAGE_ROOT } from '../../src/package-root.js'
import { containerJob, withDirectory, withNode } from './running-node.js'

const families = Object.entries(METRICS) as [string, MetricFamily][]

describe('the page about metrics', () => {
  it('lists every metric as it is, and no other', () => {
    const page = readFileSync(join(PACKAGE_ROOT, 'docs/metrics.md'), 'utf8')
    const rows = page.split('\n').filter((line) => line.startsWith('| `weir_'))
    const expected = families.map(([name, { type, labels = [], help }]) => {
      const shown = labels.length === 0 ? '–' : labels.map((label) => `\`${label}\``).join(', ')
      return `| \`${name}\` | ${type} | ${shown} | ${help} |`
    })
    expect(rows).toEqual(expected)
  })
})

describe('the text format', () => {
  it('escapes labels, and gives durations as cumulative buckets in seconds', () => {
    const out = new Exposition()
    out.add('weir_info', 1, { version: 'a"b\\c\nd', roles: '' })
    const durations = noDurations()
    for (const ms of [0.5, 3, 3, 20_000]) countDuration(durations, ms)
    out.addDurations('weir_egress_dial_seconds', durations)
    const lines = out.text().split('\n')
    expect(lines).toContain('weir_info{version="a\\"b\\\\c\\nd",roles=""} 1')
    expect(lines).toContain('# TYPE weir_egress_dial_seconds histogram')
    expect(lines).toContain('weir_egress_dial_seconds_bucket{le="0.001"} 1')
    expect(lines).toContain('weir_egress_dial_seconds_bucket{le="0.005"} 3')
    expect(lines).toContain('weir_egress_dial_seconds_bucket{le="10"} 3')
    expect(lines).toContain('weir_egress_dial_seconds_bucket{le="+Inf"} 4')
    expect(lines).toContain('weir_egress_dial_seconds_count 4')
  })
})

describe('a server', () => {
  it('answers with metrics of its gateway and its jobs, each of a known family', async () => {
    await withDirectory(async (dir) => {
      const settings = ['JobAdmissionControl.AcceptNetworkedJobs=true', 'Egress.Allow=example.com']
      await withNode(dir, settings, async (node) => {
        const before = await read(node.apiUrl)
        expect(before.get('weir_egress_gateway_up')).toBe('1')
        expect(Number(before.get('weir_egress_policy_generation'))).toBeGreaterThan(0)
        expect(before.get('weir_orchestrator_nodes{membership="APPROVED",connection="CONNECTED"}')).toBe('1')
        // Fits nowhere: it is stored, looked at, and fails.
        await node.client.submit(containerJob('no-such-image', ['true'], { Resources: { CPU: '10000' } }))
        await expect
          .poll(
            async () =>
              (await read(node.apiUrl)).get('weir_orchestrator_jobs_total{state="Failed",type="batch"}'),
            {
              timeout: 20_000,
            },
          )
          .toBe('1')
        for (const sample of (await read(node.apiUrl)).keys()) {
          const name = sample.replace(/\{.*/, '').replace(/_(?:bucket|sum|count)$/, '')
          expect(families.map(([known]) => known)).toContain(name)
        }
      })
    })
  })

  it('serves none when they are switched off', async () => {
    await withDirectory(async (dir) => {
      await withNode(dir, ['API.Metrics=false'], async (node) => {
        expect((await fetch(`${node.apiUrl}/metrics`)).status).toBe(404)
      })
    })
  })
})

/** Samples by name and labels. */
async function read(apiUrl: string): Promise<Map<string, string>> {
  const response = await fetch(`${apiUrl}/metrics`)
  expect(response.headers.get('content-type')).toContain('version=0.0.4')
  const lines = (await response.text()).split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(
    lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), line.slice(line.lastIndexOf(' ') + 1)]),
  )
}
