export { blobSource, type BlobSourceOptions } from './blob-source.js'
export { inlineSource, type InlineSourceOptions } from './inline-source.js'
export { localDirectorySource, type LocalDirectorySourceOptions } from './local-directory-source.js'
export { urlSource, type UrlSourceOptions } from './url-source.js'
