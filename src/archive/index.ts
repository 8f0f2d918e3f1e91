export {
  NAME_BYTES_MAX,
  PATH_BYTES_MAX,
  PATH_DEPTH_MAX,
  readEntryPath,
  type EntryPath,
} from './entry-path.js'
export { packTar, type PackOptions } from './pack.js'
export { unpackTarGz, type Unpacked, type UnpackOptions } from './unpack.js'
