import { gunzipSync } from 'node:zlib'
import { extract } from 'tar-stream'

/** Names and contents of a gzipped tar archive; directories have a slash at the end. */
export async function unpackResults(archive: Buffer): Promise<Record<string, string>> {
  const files: Record<string, string> = {}
  const reader = extract()
  reader.end(gunzipSync(archive))
  for await (const entry of reader) {
    const parts: Buffer[] = []
    for await (const part of entry) parts.push(part as Buffer)
    files[entry.header.name.replace(/^\.\//, '')] = Buffer.concat(parts).toString('utf8')
  }
  return files
}
