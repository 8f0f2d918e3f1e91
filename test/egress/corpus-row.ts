export * from '../../src/conformance/corpus-row.js'
