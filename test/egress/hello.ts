export * from '../../src/conformance/hello.js'
