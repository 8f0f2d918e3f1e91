import { readFileSync } from 'node:fs'
import { describe, expect, it } from 'vitest'
import { CSV_MODULE, csvJob, noSandbox, withDirectory, withNode } from '../node/running-node.js'
import { deviations, readFacts } from './contract/api-facts.js'
import { exchange, GoCli } from './contract/go-cli.js'
import { readJsonText } from './contract/json-text.js'
import { unpackResults } from './contract/unpack-results.js'

const MODULE = `data:application/wasm;base64,${readFileSync(CSV_MODULE).toString('base64')}`

describe(`a whole node behind the API${noSandbox && ` (skipped: ${noSandbox})`}`, () => {
  it.skipIf(noSandbox !== '')(
    'runs a WebAssembly job for the Go client from login to downloaded results, in the documented shapes',
    async () => {
      await withDirectory((dataDir) =>
        withNode(dataDir, ['Engines.Disabled=docker'], async ({ apiUrl, nodeId }) => {
          const cli = new GoCli(apiUrl)
          const { id, job } = await cli.run(
            csvJob(MODULE, {
              Publisher: { Type: 'local' },
              ResultPaths: [{ Name: 'outputs', Path: '/outputs' }],
            }),
          )
          expect(job.State, JSON.stringify(job.State)).toMatchObject({ StateType: 'Completed' })
          const { Executions: executions } = await cli.describe(id)
          expect(executions.Items[0]).toMatchObject({ NodeID: nodeId, ComputeState: { StateType: 9 } })
          const { Items: results } = await cli.results(id)
          const archive = await fetch(results[0].Params.URL as string)
          const files = await unpackResults(Buffer.from(await archive.arrayBuffer()))
          expect(files['outputs/totals.csv']).toContain('paris')
          expect(files.exitCode).toBe('0')
          await expectDocumentedShapes(apiUrl, id, nodeId)
        }),
      )
    },
    60_000,
  )
})

/** What a real node says about itself and its jobs, held against both published descriptions. */
async function expectDocumentedShapes(url: string, job: string, node: string): Promise<void> {
  for (const [path, type] of [
    ['/orchestrator/jobs', '#apimodels.ListJobsResponse'],
    [`/orchestrator/jobs/${job}?include=history,executions`, '#apimodels.GetJobResponse'],
    [`/orchestrator/jobs/${job}/history`, '#apimodels.ListJobHistoryResponse'],
    [`/orchestrator/jobs/${job}/executions`, '#apimodels.ListJobExecutionsResponse'],
    [`/orchestrator/jobs/${job}/results`, '#apimodels.ListJobResultsResponse'],
    ['/orchestrator/nodes', '#apimodels.ListNodesResponse'],
    [`/orchestrator/nodes/${node}`, '#apimodels.GetNodeResponse'],
    ['/agent/node', '#models.NodeInfo'],
    ['/agent/version', '#models.BuildVersionInfo'],
  ] as const) {
    const { status, text } = await exchange(new URL(url), 'GET', `/api/v1${path}`, {})
    expect(status, text).toBe(200)
    for (const version of ['v1.5.2', 'v1.9.3'] as const) {
      expect(deviations(readJsonText(text), type, readFacts(version)), path).toEqual([])
    }
  }
}
