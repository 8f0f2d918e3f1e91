export { ip, Namespace, namespacesMissing } from '../../src/conformance/index.js'
