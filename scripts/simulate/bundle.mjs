import { readFile } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { build } from 'esbuild'

const root = join(import.meta.dirname, '..', '..')

/**
 * Makes one program of the simulation and the sources it runs. `mutation`: a protection that is taken out of them; throws
 * when its text is not found exactly once, so that the list stays true.
 */
export async function bundleSimulation(outfile, mutation) {
  const applied = { count: 0 }
  await build({
    entryPoints: [join(root, 'test/orchestrator/simulation/worker.ts')],
    outfile,
    bundle: true,
    platform: 'node',
    format: 'esm',
    logLevel: 'error',
    sourcemap: 'inline',
    absWorkingDir: root,
    // Not used here; bundled code of others may want to be required.
    external: ['better-sqlite3'],
    banner: {
      js: `import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(${JSON.stringify(join(root, 'package.json'))});`,
    },
    plugins: mutation === undefined ? [] : [mutate(mutation, applied)],
  })
  if (mutation !== undefined && applied.count !== 1) {
    throw new Error(`mutation "${mutation.name}": ${mutation.file} was not bundled`)
  }
}

function mutate({ name, file, find, replace }, applied) {
  const path = join(root, file.split('/').join(sep))
  return {
    name: 'mutate',
    setup(plugin) {
      plugin.onLoad({ filter: /\.ts$/ }, async (args) => {
        if (args.path !== path) return undefined
        const text = await readFile(path, 'utf8')
        if (text.split(find).length !== 2) {
          throw new Error(`mutation "${name}": the text is not found exactly once in ${file}: ${find}`)
        }
        applied.count += 1
        return { contents: text.replace(find, () => replace), loader: 'ts' }
      })
    },
  }
}
