export * from '../../src/conformance/witnesses.js'
